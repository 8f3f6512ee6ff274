"""Prompts as files: Jinja templates with declared variables, checked when they are loaded, known by their sha.

A template is a row of blocks, each a piece of a request (the system turn, what stands before the pictures …); text
outside of them is refused, because it would be lost. Variables are declared by an example of their values: a name the
template uses that is not in the example, or one that it must use and does not, is an error at load, and the example is
rendered once, so that a slip in a loop is found before the first item.

What comes from outside is hostile and goes through `clean` before it is put into a prompt: a title cannot break its
line, end its turn, or pass for a picture. What the words themselves say ("ignore the above") no cleaning can stop; for
that a template quotes them and says whose they are, and the constrained decoder keeps the answer legal.

This module knows no model, item or schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lore_mm.errors import ConfigError, nearest
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.text import normalize

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["Prompt", "clean", "cut", "load_prompt"]

_LONGEST = 100_000  # characters of a value that are looked at, and of a template file
# What may stand for a special token of some model: <|im_end|>, <image>, </s>, <start_of_turn>, [INST], [IMG_BREAK].
_OPENING = re.compile(r"<(?=[|/!?]?[^\s\d<>])")
_CLOSING = re.compile(r"(?<=[^\s<>])>")
_BRACKETS = re.compile(r"\[(/?[A-Z][A-Z_]{2,})\]")


@dataclass(frozen=True)
class Prompt:
    """A checked template. `uses` are the variables it names; `sha` identifies its text."""

    path: Path
    sha: str
    uses: frozenset[str]
    template: Template

    def render(self, values: Mapping[str, object], only: Collection[str] = ()) -> dict[str, str]:
        """The text of each block, or of some `only`, by name, without white space at its ends.

        Raises:
            ConfigError: a value is missing, or the template cannot be rendered with these.
        """
        from jinja2 import TemplateError

        try:
            context = self.template.new_context(dict(values))
            blocks = {name: block for name, block in self.template.blocks.items() if not only or name in only}
            return {name: "".join(block(context)).strip() for name, block in blocks.items()}
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise ConfigError(f"{self.path}: {error}") from None


def load_prompt(
    path: Path, example: Mapping[str, object], *, needs: Collection[str] = (), blocks: Collection[str]
) -> Prompt:
    """A template from its file.

    `example`: every variable there is, with a value of its kind. `needs`: those that the template must use. `blocks`:
    the legal names of its blocks.

    Raises:
        ConfigError: naming the file and the variable, block or line that is wrong.
    """
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    try:
        data = path.read_bytes()
        source = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompt {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(source) > _LONGEST:
        raise ConfigError(f"prompt {path}: {len(source)} characters, a prompt has at most {_LONGEST}")
    environment = _environment()
    try:
        tree = environment.parse(source)
        _check_blocks(path, tree, blocks)
        uses = frozenset(find_undeclared_variables(tree))
        _check_variables(path, uses, example, needs)
        template = environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.message}") from None
    prompt = Prompt(path, sha_of_bytes(data), uses, template)
    prompt.render(example)
    return prompt


def clean(text: str, limit: int = _LONGEST) -> str:
    """Text from outside as one line that no model takes for more than words, of at most `limit` characters.

    Compatibility forms are unified and control and invisible characters dropped first (`lore_mm.text.normalize`), so
    that nothing hides; then whatever looks like a tag or a special token loses its angle brackets.
    """
    line = normalize(text[:_LONGEST])
    line = _CLOSING.sub("›", _OPENING.sub("‹", line)).replace("<|", "‹|").replace("|>", "|›")
    return cut(_BRACKETS.sub(r"(\1)", line), limit)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, parted between words where one ends in the last quarter; what is cut ends in …"""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    space = kept.rfind(" ", limit - limit // 4)
    return (kept[:space] if space > 0 else kept).rstrip() + "…"


def _quoted(text: str) -> str:
    """Between quotation marks that the text itself cannot close."""
    return json.dumps(text, ensure_ascii=False)


def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # prompts are no HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cut": cut, "quoted": _quoted}
    return environment


def _check_blocks(path: Path, tree: nodes.Template, legal: Collection[str]) -> None:
    from jinja2 import nodes

    for lost in _outside(tree):
        raise ConfigError(f"{path}:{lost.lineno}: outside of the blocks, where it would be lost")
    found = [block.name for block in tree.find_all(nodes.Block)]
    for name in found:
        if name not in legal:
            raise ConfigError(f"{path}: unknown block {name!r}{nearest(name, legal)}; legal: {', '.join(legal)}")
    if not found:
        raise ConfigError(f"{path}: has no block; legal: {', '.join(legal)}")


def _outside(tree: nodes.Template) -> Iterator[nodes.Node]:
    """What stands beside the blocks, but for white space and comments."""
    from jinja2 import nodes

    for node in tree.body:
        blank = isinstance(node, nodes.Output) and all(
            isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
        )
        if not blank and not isinstance(node, nodes.Block):
            yield node


def _check_variables(path: Path, uses: Collection[str], declared: Collection[str], needs: Collection[str]) -> None:
    for name in sorted(uses):
        if name not in declared:
            raise ConfigError(
                f"{path}: unknown variable {name!r}{nearest(name, declared)}; there are: {', '.join(sorted(declared))}"
            )
    for name in sorted(needs):
        if name not in uses:
            raise ConfigError(f"{path}: does not use the variable {name!r}, without which it cannot ask")
