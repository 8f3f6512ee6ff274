"""Extractors by name, in the order they run, with the models that they need. It knows no rows and no stores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extractors.protocol import Extractor
from lore_mm.errors import InputError, MissingExtraError, nearest
from lore_mm.knowledge import Knowledge
from lore_mm.models import DEFAULT_CHAT, Embedder, open_embedder
from lore_mm.schema import Schemas

__all__ = ["DEFAULT", "EXTRACTORS", "VlmChoice", "close_extractors", "model_options", "open_extractors"]

EXTRACTORS = ("given", "palette", "zero_shot", "ocr", "vlm")  # in the order they run, cheapest first
DEFAULT = ("given", "palette", "zero_shot")


@dataclass(frozen=True, slots=True)
class VlmChoice:
    """Which vision-language model, and how it is asked.

    `options` are its backend's; `prompt` is full, compact or a template file, the model's own unless given; `ask` names
    the only attributes it is asked for.
    """

    address: str = DEFAULT_CHAT
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | Path | None = None
    ask: tuple[str, ...] | None = None


def open_extractors(
    names: Sequence[str],
    embedder: str | Embedder,
    knowledge: Knowledge,
    schemas: Schemas,
    vlm: VlmChoice | None = None,
) -> list[Extractor]:
    """The extractors of these names, in the order they run; a model is opened only where one needs it.

    Raises:
        InputError: an unknown name.
        ModelError, MissingExtraError: a model cannot be opened.
        ConfigError: the prompt or an option of the model is wrong.
    """
    for name in names:
        if name not in EXTRACTORS:
            raise InputError(f"no extractor {name!r}{nearest(name, EXTRACTORS)}; legal: {', '.join(EXTRACTORS)}")
    if not names:
        raise InputError(f"no extractors named; legal: {', '.join(EXTRACTORS)}")
    wanted = [name for name in EXTRACTORS if name in names]
    opened: list[Extractor] = []
    try:
        for name in wanted:
            opened.append(_open(name, embedder, knowledge, schemas, vlm or VlmChoice()))
    except MissingExtraError as error:
        close_extractors(opened)
        without = ",".join(other for other in wanted if other != name)
        if without:
            error.args = (f"{error}; or go without {name}: --extractors {without}",)
        raise
    except Exception:
        close_extractors(opened)
        raise
    return opened


def _open(name: str, embedder: str | Embedder, knowledge: Knowledge, schemas: Schemas, vlm: VlmChoice) -> Extractor:
    if name == "given":
        from extractors.given import Given

        return Given(knowledge, schemas)
    if name == "palette":
        from extractors.palette import Palette

        return Palette(knowledge)
    if name == "zero_shot":
        from extractors.zero_shot import ZeroShot

        model = open_embedder(embedder) if isinstance(embedder, str) else embedder
        return ZeroShot(model, schemas, knowledge)
    if name == "ocr":
        from extractors.ocr import Ocr

        return Ocr(knowledge, schemas)
    from extractors.vlm import open_vlm

    settings: dict[str, Any] = {} if vlm.prompt is None else {"prompt": vlm.prompt}
    return open_vlm(vlm.address, schemas, knowledge, options=vlm.options, fields=vlm.ask, **settings)


def close_extractors(extractors: Iterable[Extractor]) -> None:
    """Free the engines behind extractors."""
    for extractor in extractors:
        if (chat := getattr(extractor, "chat", None)) is not None:
            chat.close()


def model_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Options of a model's backend from `key=value`; a value is JSON where it can be read so, else text.

    Raises:
        InputError: no `=`, or no key before it.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--model-option {pair!r}: needs key=value, such as max_model_len=4096")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):
            options[key] = value
    return options
