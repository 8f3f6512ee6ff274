"""Models by address: `open_embedder("open_clip:lore-clip-tiny")`. A backend is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from lore_mm.errors import ModelError, nearest
from lore_mm.models.protocol import Embedder, Vectors

__all__ = ["DEFAULT_EMBEDDER", "Embedder", "Vectors", "open_embedder"]

DEFAULT_EMBEDDER = "open_clip:lore-clip-tiny"

# scheme → module; each has open_embedder(name) -> Embedder
_EMBEDDERS = {"open_clip": "lore_mm.models.open_clip", "scripted": "lore_mm.models.scripted"}


def open_embedder(address: str = DEFAULT_EMBEDDER) -> Embedder:
    """Open an embedder by its address, `scheme:name`.

    `open_clip:NAME` is any model of open_clip (`NAME/PRETRAINED` picks its weights) or one of this project's own;
    `scripted:SEED` is the shipped test double: deterministic, instant, knows nothing.

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
