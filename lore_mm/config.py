"""Where things are: the default store and the cache of weights. Nothing here opens or creates anything."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "default_store"]


def default_store(start: Path | None = None) -> str:
    """The address of the store that commands use when none is named.

    In this order: the environment variable LORE_STORE; the nearest folder `.lore/store` in the working folder or above
    it; `.lore/store` in the working folder, which a job will create.
    """
    if named := os.environ.get("LORE_STORE"):
        return named
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / ".lore" / "store").is_dir():
            return str(folder / ".lore" / "store")
    return str(here / ".lore" / "store")


def cache_folder() -> Path:
    """Where fetched weights are kept: LORE_CACHE, else XDG_CACHE_HOME/lore-mm, else ~/.cache/lore-mm."""
    if named := os.environ.get("LORE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lore-mm"
