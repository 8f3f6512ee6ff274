"""The data files of a store in a bucket, as the file system that DuckDB reads them by (its interface is fsspec).

Data files of a Delta table are never written to again, so each is looked at once and then only read, by ranges. This
module does not know which files belong to what: DuckDB is told those it may read.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from threading import Lock
from typing import IO, Any

from fsspec import AbstractFileSystem

from lore_mm.places import Place, open_bytes, pinned

__all__ = ["bucket_files"]

_WHOLE = 1024 * 1024  # bytes; a smaller file comes in one request, of a larger one a request brings as much at least


def bucket_files(store: Place) -> AbstractFileSystem:
    """The file system of the bucket that a store lies in."""
    return _BucketFiles(store, skip_instance_cache=True)


class _BucketFiles(AbstractFileSystem):  # type: ignore[misc]
    def __init__(self, store: Place, **options: Any) -> None:
        super().__init__(**options)
        self.protocol = store.scheme
        self._bucket = Place(store.scheme, store.bucket, options=store.options)
        self._seen: dict[str, Place] = {}
        self._lock = Lock()

    def _look(self, path: str) -> Place:
        key = path.removeprefix(f"{self._bucket.scheme}://").removeprefix(f"{self._bucket.bucket}/")
        with self._lock:
            known = self._seen.get(key)
        if known is None:
            place, _ = pinned(self._bucket / key)
            assert isinstance(place, Place)
            known = place
            with self._lock:
                self._seen[key] = known
        return known

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        place = self._look(path)
        return {"name": path, "size": place.seen.size if place.seen else 0, "type": "file"}

    def modified(self, path: str) -> datetime:
        """Always the same: a data file does not change."""
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> IO[bytes]:
        if mode != "rb":
            raise PermissionError(13, "data files are only read", path)
        place = self._look(path)
        if place.seen and 0 < place.seen.size <= _WHOLE:
            return io.BytesIO(place.range(0, place.seen.size))
        return open_bytes(place, _WHOLE)
