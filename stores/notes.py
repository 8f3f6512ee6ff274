"""Small files beside a store's tables, each replaced as a whole: what a worker tells of itself while it is at work.

A note is a cheap thing that may be lost; nothing that has to be true later is kept in one. A reader sees the old text
or the new one, never half. This module does not know what notes say.
"""

from __future__ import annotations

import json
import os
import re

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError
from pyarrow import fs

from lore_mm.errors import StoreError
from stores.features import FeatureStore

__all__ = ["put_note", "read_notes"]

_MOST_BYTES = 1 << 20  # of a note that is read: whatever is larger is none of ours
_NAME = re.compile(r"[\w.-]+")


def put_note(store: FeatureStore, folder: str, name: str, text: str) -> None:
    """Write a note into a folder of the store, `pulses/RUN` or deeper, in the place of one of the same name.

    Raises:
        StoreError: it cannot be written; a store that is gone is not made anew.
    """
    _check(folder, name)
    try:
        if store.folder is None:  # a line of JSON that holds the text, which is what Polars can write
            frame = pl.LazyFrame({"note": [text]})
            frame.sink_ndjson(f"{store.uri}/{folder}/{name}", storage_options=store.address.options)
            return
        if not store.folder.is_dir():
            raise StoreError(f"no store at {store.uri} any more")
        place = store.folder / folder
        place.mkdir(parents=True, exist_ok=True)
        part = place / f".{name}.{os.getpid()}.part"
        part.write_text(text, "utf-8")
        part.replace(place / name)
    except (OSError, PolarsError) as error:
        raise StoreError(f"cannot write {folder}/{name} in {store.uri}: {' '.join(str(error).split())[:300]}") from None


def read_notes(store: FeatureStore, folder: str) -> dict[str, str]:
    """The notes of a folder by name, in the order of their names; empty where there is no such folder.

    Raises:
        StoreError: the store cannot be read.
    """
    _check(folder)
    found = {}
    try:
        if store.folder is not None:
            paths = sorted((store.folder / folder).glob("[!.]*"))
            for path in paths:
                if path.stat().st_size <= _MOST_BYTES:
                    found[path.name] = path.read_text("utf-8", "replace")
            return found
        system = store.filesystem(folder)
        for info in system.get_file_info(fs.FileSelector("", allow_not_found=True)):
            if info.is_file and info.size <= _MOST_BYTES:
                with system.open_input_stream(info.path) as file:
                    found[info.base_name] = str(json.loads(file.read())["note"])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {folder} in {store.uri}: {' '.join(str(error).split())[:300]}") from None
    return dict(sorted(found.items()))


def _check(folder: str, *names: str) -> None:
    for part in (*folder.split("/"), *names):
        if not _NAME.fullmatch(part) or part.startswith("."):
            raise ValueError(f"{part!r}: the name of a note or folder is made of letters, digits and . _ -")
