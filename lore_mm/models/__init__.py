"""Models by address: `open_embedder("open_clip:lore-clip-tiny")`, `open_chat("vllm:lore-vlm-tiny")`.

A backend is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lore_mm.errors import ModelError, nearest
from lore_mm.models.chat import Chat, ChatReply, ChatRequest
from lore_mm.models.protocol import Embedder, Vectors

__all__ = [
    "DEFAULT_CHAT",
    "DEFAULT_EMBEDDER",
    "Chat",
    "ChatReply",
    "ChatRequest",
    "Embedder",
    "Vectors",
    "open_chat",
    "open_embedder",
]

DEFAULT_EMBEDDER = "open_clip:lore-clip-tiny"
DEFAULT_CHAT = "hf:lore-vlm-tiny"

# scheme → module; each has open_embedder(name) -> Embedder
_EMBEDDERS = {
    "open_clip": "lore_mm.models.open_clip",
    "sentence": "lore_mm.models.sentence",
    "scripted": "lore_mm.models.scripted",
}
# scheme → module; each has open_chat(name, **options) -> Chat
_CHATS = {
    "hf": "lore_mm.models.hf",
    "vllm": "lore_mm.models.vllm",
    "openai": "lore_mm.models.openai_http",
    "scripted": "lore_mm.models.scripted_chat",
}


def open_embedder(address: str = DEFAULT_EMBEDDER) -> Embedder:
    """Open an embedder by its address, `scheme:name`.

    `open_clip:NAME` is any model of open_clip (`NAME/PRETRAINED` picks its weights) or one of this project's own;
    `sentence:NAME` reads texts only, such as sentence:all-minilm-l6-v2; `scripted:SEED` is the shipped test double:
    deterministic, instant, knows nothing.

    Raises:
        ModelError: the scheme is unknown, or the weights cannot be had.
        MissingExtraError: the backend's packages are not installed; carries the pip command.
    """
    scheme, _, name = address.partition(":")
    if scheme not in _EMBEDDERS or not name:
        raise ModelError(
            f"no embedder {address!r}{nearest(scheme, _EMBEDDERS)}; legal addresses: "
            + ", ".join(f"{s}:NAME" for s in _EMBEDDERS)
        )
    embedder: Embedder = import_module(_EMBEDDERS[scheme]).open_embedder(name)
    return embedder


def open_chat(address: str = DEFAULT_CHAT, **options: Any) -> Chat:
    """Open a model that answers by its address.

    `hf:NAME` runs in transformers and `vllm:NAME` in vLLM's offline engine, NAME being a folder, a name of the model
    table or a hub repository; `openai:http://host:port/v1#model` is any OpenAI-compatible server; `scripted:FILE` is
    the shipped test double. `options` are the backend's own (its `open_chat` says which).

    Raises:
        ModelError: the scheme is unknown, the weights cannot be had, or the server does not answer.
        MissingExtraError: the backend's packages are not installed; carries the pip command.
    """
    scheme, _, name = address.partition(":")
    if scheme not in _CHATS or not name:
        raise ModelError(
            f"no chat model {address!r}{nearest(scheme, _CHATS)}; legal addresses: hf:NAME, vllm:NAME, "
            "openai:http://HOST:PORT/v1#MODEL, scripted:FILE"
        )
    chat: Chat = import_module(_CHATS[scheme]).open_chat(name, **options)
    return chat
