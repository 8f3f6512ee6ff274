"""Items as a job's input: the newest row of each, with its pictures read and decoded beside the work.

An item's input sha is that of the seller's row and of the bytes of its pictures, so a picture that changed under the
same name is seen. A picture in a bucket is known by its size and ETag, which follow from its bytes: a rerun asks for
those and reads none. One behind a URL is known by its address: a rerun does not fetch a whole catalogue again to see
whether something changed. This module knows no extractor.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import pyarrow as pa
from PIL.Image import Image

from lore_mm.bucket_pictures import look_at, object_of, read_object
from lore_mm.errors import PictureError, StoreError
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.images import PicturePolicy, decode_picture, read_picture
from lore_mm.picture_memory import keep_picture_memory
from lore_mm.rows import item_from_row
from lore_mm.types import Item
from stores.features import FeatureStore

__all__ = ["ItemInput", "LoadedItem", "picture_settings"]

_MOST_FAULTS = 5
_WAITING = 32  # threads where pictures come from a bucket or a URL: most of them wait for an answer
_UNREAD = "unread"  # in the place of a picture's sha: it could not be read
_URL = re.compile(r"https?://", re.IGNORECASE)
_One = TypeVar("_One")


@dataclass(frozen=True, slots=True)
class LoadedItem:
    """An item with its decoded pictures; `pictures[i]` is None where `picture_errors[i]` says why it has none."""

    item: Item
    error: str | None = None  # why the item itself could not be used; then it has no pictures
    pictures: tuple[Image | None, ...] = ()
    picture_errors: tuple[str | None, ...] = ()
    picture_shas: tuple[str, ...] = ()

    @property
    def picture_marks(self) -> list[str]:
        """What identifies each picture as it was read: its sha, with the reason where there is none."""
        both = zip(self.picture_shas, self.picture_errors, strict=True)
        return [sha if error is None else f"{sha} {error}" for sha, error in both]

    @property
    def picture_fault(self) -> str | None:
        """The picture errors in one line, each after its place, five at most; None where every picture was read."""
        faults = [f"image:{i}: {e}" for i, e in enumerate(self.picture_errors) if e]
        if len(faults) > _MOST_FAULTS:
            faults[_MOST_FAULTS:] = [f"and {len(faults) - _MOST_FAULTS} more"]
        return "; ".join(faults) or None


def picture_settings(policy: PicturePolicy) -> dict[str, Any]:
    """What of a policy changes the pixels that come out; whether URLs are read shows in the input shas instead."""
    return {"max_bytes": policy.max_bytes, "max_pixels": policy.max_pixels, "max_side": policy.max_side}


class ItemInput:
    """The reading half of a job over ITEMS (see `jobs.work.Work`)."""

    reads: tuple[str, ...] = ("items",)
    key: tuple[str, ...] = ("item_id",)

    def __init__(self, store: FeatureStore, policy: PicturePolicy, with_pictures: bool = True) -> None:
        self.store = store
        self.policy = policy
        self.with_pictures = with_pictures
        self._threads = min(16, os.cpu_count() or 1)
        if with_pictures:
            keep_picture_memory()

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The newest row of each item, in the order they were committed."""
        if "items" not in versions:
            raise StoreError(f"no items in {self.store.uri} yet: lore ingest PATH")
        return self.store.batches("items", columns, versions["items"], rows, latest=True, start=start)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """Item sha and picture shas together; pictures are read, not decoded."""
        own = [row["provenance"]["input_sha"] for row in rows.select(["provenance"]).to_pylist()]
        return [sha_of([sha, *found]) for sha, found in zip(own, self.picture_shas(rows), strict=True)]

    def picture_shas(self, rows: pa.Table) -> list[list[str]]:
        """The mark of each picture of each row; they are read, not decoded."""
        return self._map(rows, self._sha)

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The input shas, and a LoadedItem a row."""
        with ThreadPoolExecutor(1, "pictures") as beside:  # so that decoding need not wait for what follows
            coming = beside.submit(self._map, rows, self.picture)
            whole = rows.to_pylist()
            items = [item_from_row(row) for row in whole]
            found = coming.result()
        shas, loaded = [], []
        for row, item, pictures in zip(whole, items, found, strict=True):
            shas.append(sha_of([row["provenance"]["input_sha"], *(sha for sha, _, _ in pictures)]))
            loaded.append(
                LoadedItem(
                    item,
                    (row["error"] or "failed at ingest") if row["status"] != "ok" else None,
                    tuple(picture for _, picture, _ in pictures),
                    tuple(error for _, _, error in pictures),
                    tuple(sha for sha, _, _ in pictures),
                )
            )
        return shas, loaded

    def _map(self, rows: pa.Table, function: Any) -> list[list[Any]]:
        """`function(ref, root)` over all pictures of usable rows, in threads; results row by row."""
        work: list[tuple[int, str, str | None]] = []
        if self.with_pictures:
            for i, row in enumerate(rows.select(["images", "image_root", "status"]).to_pylist()):
                if row["status"] == "ok":
                    work += [(i, ref, row["image_root"]) for ref in row["images"] or ()]
        afar = any("://" in ref or "://" in (root or "") for _, ref, root in work)
        results = _in_threads(lambda one: function(one[1], one[2]), work, _WAITING if afar else self._threads)
        found: list[list[Any]] = [[] for _ in range(rows.num_rows)]
        for (i, _, _), result in zip(work, results, strict=True):
            found[i].append(result)
        return found

    def _sha(self, ref: str, root: str | None) -> str:
        if _URL.match(ref):
            return f"url {ref}" if self.policy.allow_urls else _UNREAD
        try:
            _check_root(ref, root)
            if (place := object_of(ref, root, self.policy)) is not None:
                return look_at(place, self.policy)
            return sha_of_bytes(read_picture(ref, root, self.policy))
        except PictureError:
            return _UNREAD

    def picture(self, ref: str, root: str | None) -> tuple[str, Image | None, str | None]:
        """A picture's mark, the decoded picture, and why there is none."""
        mark: str | None = _UNREAD
        data = b""
        try:
            mark, data = self._read(ref, root)
            decoded = decode_picture(data, self.policy)
            return mark or decoded.sha, decoded.image, None
        except PictureError as error:
            if _URL.match(ref):
                mark = self._sha(ref, root)
            return mark or sha_of_bytes(data), None, f"{_short(ref)}: {error}"

    def _read(self, ref: str, root: str | None) -> tuple[str | None, bytes]:
        """A picture's mark, as `_sha` gives it, and its bytes; None where their sha is the mark."""
        _check_root(ref, root)
        if (place := object_of(ref, root, self.policy)) is not None:
            return read_object(place, self.policy)
        data = read_picture(ref, root, self.policy)
        return f"url {ref}" if _URL.match(ref) else None, data


def _in_threads(function: Callable[[_One], Any], many: Sequence[_One], threads: int) -> list[Any]:
    """What the function gives for each, in order. Each thread takes the next one itself, which costs less than a future
    for each, and much less than a picture.
    """
    found: list[Any] = [None] * len(many)
    left, guard = iter(enumerate(many)), Lock()

    def work() -> None:
        while True:
            with guard:
                taken = next(left, None)
            if taken is None:
                return
            try:
                found[taken[0]] = function(taken[1])
            except BaseException:
                with guard:
                    deque(left, 0)  # the others are in vain
                raise

    with ThreadPoolExecutor(threads, "pictures") as pool:
        for thread in [pool.submit(work) for _ in range(min(threads, len(many)))]:
            thread.result()
    return found


def _check_root(ref: str, root: str | None) -> None:
    if root is None and not _URL.match(ref):
        raise PictureError("the catalogue's folder is not known")  # never any path of the machine


def _short(ref: str) -> str:
    return ref if len(ref) <= 100 else ref[:60] + "…" + ref[-30:]
