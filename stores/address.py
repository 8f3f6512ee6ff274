"""Where a store is: a folder of this machine, or a folder in a bucket, and what reads the latter.

Four clients read a bucket: that of the Delta library, of Polars, of DuckDB and our own. All are told the same settings
and take credentials from the environment. This module knows no table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lore_mm.config import cache_folder
from lore_mm.errors import InputError, StoreError
from lore_mm.fingerprint import sha_of
from lore_mm.places import Place, place_of, settings

__all__ = ["StoreAddress"]

# Characters that the Delta library cannot carry through its URLs: of a local path, and of an object's name.
_UNUSABLE = re.compile(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}")
_UNUSABLE_NAME = re.compile(r"[^A-Za-z0-9._/=+@~-]|//|(?<![^/])\.\.?(?![^/])")


class StoreAddress:
    """An address with the settings that its clients need.

    Attributes:
        text: the address, absolute where it is a local path.
        folder: the local folder, None in a bucket.
        options: for the Delta library and Polars; None in a local folder.
    """

    def __init__(self, uri: str | os.PathLike[str], options: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(str(uri))
        try:
            place = Path(unquote(parts.path)) if parts.scheme == "file" else place_of(uri, options)
        except InputError as error:
            raise StoreError(str(error)) from None
        self._place = place if isinstance(place, Place) else None
        self.folder = None if isinstance(place, Place) else place.expanduser().absolute()
        self.text = str(self._place or self.folder)
        unusable = _UNUSABLE if self.folder else _UNUSABLE_NAME
        if found := unusable.search(self._place.key if self._place else self.text):
            what = "path" if self.folder else "address"
            raise StoreError(f"a store's {what} may not hold {found.group()!r}: {self.text}")
        self.options = (dict(options) if options else None) if self.folder else settings(options)

    def check(self) -> None:
        """See in seconds whether a bucket can be reached; of a local folder nothing is asked.

        Raises:
            StoreError: it cannot: the address, the endpoint or the credentials are wrong.
            MissingExtraError: what reads buckets is not installed.
        """
        if self._place is not None:
            try:
                self._place.check()
            except OSError as error:
                raise StoreError(f"{self.text}: {error.strerror}") from None

    def make(self) -> None:
        """Make a local folder where there is none yet; a bucket has no folders to be made.

        Raises:
            StoreError: it cannot be made.
        """
        if self.folder:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"cannot make a store at {self.text}: {error.strerror}") from None

    def may_write(self, table: str) -> bool:
        """False where the folder of a table may only be read; a bucket says so when it is written to."""
        return self.folder is None or os.access(self.folder / table, os.W_OK)

    def for_sql(self) -> Any:
        """The file system that DuckDB reads a bucket by."""
        from stores.bucket_files import bucket_files  # fsspec: only where a bucket is read

        assert self._place is not None
        return bucket_files(self._place)

    def cache(self, mark: str) -> Path:
        """A local folder for what is made of a store in a bucket; `mark` tells one store there from a later one."""
        name = self.text.rpartition("/")[2][:40]
        return cache_folder() / "stores" / f"{name}-{sha_of([self.text, mark])[:12]}"
