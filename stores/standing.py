"""The data files of a table at a version, and which of their rows newer ones replaced: what SQL and frames leave out.

Files all of whose rows are replaced are not named at all. It knows neither engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from pyarrow import fs

from lore_mm.errors import StoreError
from stores.features import FeatureStore
from stores.table_files import TableFile, ordered_files
from stores.vacuumed import check_kept

__all__ = ["StandingFile", "standing_files"]


@dataclass(frozen=True, slots=True)
class StandingFile:
    """A file some of whose rows stand.

    Attributes:
        address: a plain path, or that of an object in a bucket.
        replaced: the rows in it, rising from 0, that are replaced; None where none is.
    """

    address: str
    replaced: NDArray[np.int64] | None


def standing_files(store: FeatureStore, table: str, version: int) -> list[StandingFile]:
    """In the order of `FeatureStore.batches`. All keys of the table are read, once for a version and store.

    Raises:
        StoreError: there is no such version, or a file cannot be read.
    """
    delta = store.open_table(table, version)
    files = ordered_files(delta, table)
    system = store.filesystem(table)
    check_kept(system, table, version, files)
    newest = store.newest_positions(table, delta)
    found: list[StandingFile] = []
    start = 0
    for file in files:
        address = f"{store.uri}/{table}/{file.path}"
        if newest is None:
            found.append(StandingFile(address, None))
            continue
        rows = _length(file, system, table) if file.rows is None else file.rows
        low, high = np.searchsorted(newest, [start, start + rows])
        if high - low == rows and rows:
            found.append(StandingFile(address, None))
        elif high > low:
            found.append(StandingFile(address, np.setdiff1d(np.arange(rows), newest[low:high] - start, True)))
        start += rows
    return found


def _length(file: TableFile, system: fs.FileSystem, table: str) -> int:
    try:
        metadata: Any = parquet.read_metadata(file.path, filesystem=system)
        return int(metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read table {table}: {' '.join(str(error).split())[:300]}") from None
