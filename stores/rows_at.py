"""The newest rows of a table read back by their places, such as the next few hundred, a little out of order.

Whole row groups are read and the last ones kept, so that places that lie near one another, call after call, cost one
reading of their files; places by lot cost one reading each. This module knows no keys and what no row means.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import dataset, fs

from lore_mm.errors import StoreError
from lore_mm.tables import TABLES
from stores.table_files import TableFile

__all__ = ["RowsAt"]

_KEPT_BYTES = 256 * 1024 * 1024  # of row groups, decoded; the last one is kept whatever its size
_KEPT_FILES = 256  # whose footers are at hand


class RowsAt:
    """Rows of a table by their places among the newest ones, in the order of `batches(latest=True)`.

    `files` are in the order of their rows; `newest` the positions of the newest rows among all. Not
    for several threads at once.
    """

    def __init__(
        self,
        table: str,
        files: Sequence[TableFile],
        system: fs.FileSystem,
        newest: NDArray[np.int64],
    ) -> None:
        self._table, self._system, self._newest = table, system, newest
        self._paths = [file.path for file in files]
        self._footers: OrderedDict[int, Any] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int, tuple[str, ...]], pa.Table] = OrderedDict()
        counts = [self._length(i) if file.rows is None else file.rows for i, file in enumerate(files)]
        self._starts = np.cumsum([0, *counts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._newest)

    def take(self, places: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """The rows at these places, in rising order of places.

        Raises:
            StoreError: a file is gone or broken.
        """
        names = tuple(columns)
        positions = self._newest[np.sort(places)]
        found: list[pa.Table] = []
        try:
            while len(positions):
                file = int(np.searchsorted(self._starts, positions[0], side="right")) - 1
                begin, group, start, rows = int(self._starts[file]), *self._group_at(file, int(positions[0]))
                inside = int(np.searchsorted(positions, begin + start + rows))
                part = self._read(file, group, names)
                found.append(part.take(positions[:inside] - (begin + start)))
                positions = positions[inside:]
        except (OSError, pa.ArrowException) as error:
            what = " ".join(str(error).split())[:300]
            raise StoreError(f"cannot read table {self._table} back: {what}") from None
        schema = pa.schema([TABLES[self._table].field(name) for name in names])
        return pa.concat_tables(found) if found else schema.empty_table()

    def _group_at(self, file: int, position: int) -> tuple[int, int, int]:
        """The row group that a position lies in: its number, the row it begins with, and how many it has."""
        start, behind = 0, position - int(self._starts[file])
        for group in self._fragment(file).row_groups:
            if behind < start + group.num_rows:
                return int(group.id), start, int(group.num_rows)
            start += group.num_rows
        raise StoreError(f"table {self._table}: {self._paths[file]} has fewer rows than the log says")

    def _read(self, file: int, group: int, names: tuple[str, ...]) -> pa.Table:
        key = (file, group, names)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        fragment = self._fragment(file).subset(row_group_ids=[group])
        rows: pa.Table = fragment.to_table(schema=TABLES[self._table], columns=list(names)).combine_chunks()
        self._groups[key] = rows
        size = sum(kept.nbytes for kept in self._groups.values())
        while size > _KEPT_BYTES and len(self._groups) > 1:
            _, oldest = self._groups.popitem(last=False)
            size -= oldest.nbytes
        return rows

    def _length(self, file: int) -> int:
        return sum(int(group.num_rows) for group in self._fragment(file).row_groups)

    def _fragment(self, file: int) -> Any:
        if file not in self._footers:
            make = dataset.ParquetFileFormat().make_fragment
            self._footers[file] = make(self._paths[file], filesystem=self._system)
            while len(self._footers) > _KEPT_FILES:
                self._footers.popitem(last=False)
        self._footers.move_to_end(file)
        return self._footers[file]
