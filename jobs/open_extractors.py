"""Extractors by name, in the order they run, with the models that they need. It knows no rows and no stores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extractors.protocol import Extractor
from lore_mm.errors import InputError, MissingExtraError, ModelError, nearest
from lore_mm.knowledge import Knowledge
from lore_mm.models import DEFAULT_CHAT, Chat, ChatReply, ChatRequest, Embedder, open_chat, open_embedder
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
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
    idle: bool = False,
) -> list[Extractor]:
    """The extractors of these names, in the order they run; a model is opened only where one needs it.

    `idle`: the model that answers is not going to be asked, but to tell which it is; its weights are not loaded.

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
            opened.append(_open(name, embedder, knowledge, schemas, vlm or VlmChoice(), idle))
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


def _open(
    name: str, embedder: str | Embedder, knowledge: Knowledge, schemas: Schemas, vlm: VlmChoice, idle: bool
) -> Extractor:
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
    opener = _idle_chat if idle else open_chat
    return open_vlm(vlm.address, schemas, knowledge, options=vlm.options, opener=opener, fields=vlm.ask, **settings)


class _Idle:
    """A model by the sha of its weights, which are not loaded."""

    def __init__(self, address: str, sha: str) -> None:
        self.name, self.sha = address, sha

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Never: it is not there to be asked."""
        raise ModelError(f"{self.name} was not opened to be asked")

    def close(self) -> None:
        """Nothing is held."""


def _idle_chat(address: str, **options: Any) -> Chat:
    scheme, _, name = address.partition(":")
    if scheme in ("hf", "vllm") and name:
        return _Idle(address, checkpoint_sha(checkpoint_folder(name)))
    return open_chat(address, **options)


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
