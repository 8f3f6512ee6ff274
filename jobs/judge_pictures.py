"""The pictures of items for a judge that looks at them: from a store's catalogues, or from one folder.

Both give the first pictures of an item that can be read, and raise PictureError where it has some and none can be: what
was left out is counted. A picture is decoded when it is asked for, shrunk, and kept by nobody here. May be called from
several threads. This module knows no judge.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from lore_mm.errors import PictureError
from lore_mm.images import PicturePolicy, load_picture
from lore_mm.types import Item

if TYPE_CHECKING:
    from stores.features import FeatureStore

__all__ = ["FolderPictures", "PictureReader", "StorePictures"]

MOST = 4  # pictures read of an item
_URL = re.compile(r"https?://", re.IGNORECASE)


class PictureReader:
    """Reads the pictures of items (see `relevance.protocol.Pictures`), by a function that names an item's folder.

    Of each item the first `most` that can be read. `skipped` counts those that could not, of items with others.
    """

    def __init__(
        self, root_of: Callable[[Item], str | None], policy: PicturePolicy | None = None, most: int = MOST
    ) -> None:
        self._root_of, self.policy, self.most = root_of, policy or PicturePolicy(), most
        self.skipped = 0
        self._lock = threading.Lock()

    def root_of(self, item: Item) -> str | None:
        """The folder that the item's picture paths start from; None where it is not known."""
        return self._root_of(item)

    def __call__(self, item: Item) -> Sequence[Image]:
        """The pictures, decoded, in the item's order; none for an item without any.

        Raises:
            PictureError: the item has pictures, and none of them can be read; the text names the first.
        """
        root = self._root_of(item) if item.images else None
        found: list[Image] = []
        faults: list[PictureError] = []
        for ref in item.images:
            if len(found) == self.most:
                break
            try:
                if root is None and not _URL.match(ref):  # never any path of the machine
                    raise PictureError(f"picture {ref[:100]!r}: the catalogue's folder is not known")
                found.append(load_picture(ref, root, self.policy).image)
            except PictureError as fault:
                faults.append(fault)
        if faults and not found:
            more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
            raise PictureError(f"{faults[0]}{more}")
        with self._lock:
            self.skipped += len(faults)
        return found


class FolderPictures(PictureReader):
    """Pictures of items whose references are relative to one folder, such as a data set's."""

    def __init__(self, root: str | os.PathLike[str], policy: PicturePolicy | None = None, most: int = MOST) -> None:
        place = str(Path(root).resolve())
        super().__init__(lambda item: place, policy, most)


class StorePictures(PictureReader):
    """Pictures of a store's items: each relative to the folder of the catalogue that the item came from.

    At the store's `version` of items, the newest unless given. Where they came from several folders, ten bytes an item
    are held, from the first picture on.
    """

    def __init__(
        self,
        store: FeatureStore,
        policy: PicturePolicy | None = None,
        most: int = MOST,
        *,
        version: int | None = None,
    ) -> None:
        self._store, self._version = store, version
        self._looking = threading.Lock()
        self._folders: _Folders | None = None
        super().__init__(self._find, policy, most)

    def _find(self, item: Item) -> str | None:
        with self._looking:
            if self._folders is None:
                self._folders = _Folders.of(self._store, self._version)
        return self._folders.of_item(item.item_id)


@dataclass(frozen=True)
class _Folders:
    """The folders of a store's catalogues, and which items came from which, by a 64-bit hash of their ids."""

    names: tuple[str | None, ...]
    hashes: NDArray[np.uint64]  # rising
    places: NDArray[np.uint16]

    @classmethod
    def of(cls, store: FeatureStore, version: int | None) -> _Folders:
        import polars as pl

        if store.version("items") is None:
            return cls((), np.zeros(0, np.uint64), np.zeros(0, np.uint16))
        items = store.latest("items", version)
        names = tuple(root for (root,) in items.select("image_root").unique(maintain_order=True).collect().iter_rows())
        if len(names) < 2:
            return cls(names, np.zeros(0, np.uint64), np.zeros(0, np.uint16))
        place = {name: i for i, name in enumerate(names)}
        rows = items.select(pl.col("item_id").hash(), "image_root").collect()
        places = np.fromiter((place[root] for root in rows["image_root"]), np.uint16, len(rows))
        order = np.argsort(rows["item_id"].to_numpy())
        return cls(names, rows["item_id"].to_numpy()[order], places[order])

    def of_item(self, item_id: str) -> str | None:
        if len(self.names) < 2:
            return self.names[0] if self.names else None
        import polars as pl

        wanted = pl.Series([item_id]).hash()[0]
        at = int(np.searchsorted(self.hashes, np.uint64(wanted)))
        there = at < len(self.hashes) and int(self.hashes[at]) == wanted
        return self.names[self.places[at]] if there else None
