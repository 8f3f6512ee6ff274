"""Which keys of a table were written between two versions: what an index or a view made from the older one has to look
at again. It reads what the commits between them brought, and nothing else.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from lore_mm.errors import StoreError
from lore_mm.tables import KEYS, TABLES
from stores.features import FeatureStore
from stores.streams import stream_files
from stores.table_files import TableFile, any_changing, committed_files

__all__ = ["same_rows", "touched_keys"]

_ROWS = 65_536


def same_rows(store: FeatureStore, table: str, one: int, other: int) -> bool:
    """Whether a table has the same rows in the same order at two versions: between them it was compacted at most.

    Only entries of the log are read, up to the first that says otherwise; none where the versions are one.
    """
    between = range(min(one, other) + 1, max(one, other) + 1)
    return not any_changing(store.filesystem(table), between)


def touched_keys(store: FeatureStore, table: str, old: int, new: int) -> pa.Table | None:
    """The keys of all rows that were added or taken away after version `old` and up to `new`, each once.

    What the rows say at `new` is another question: a key may be gone there, or as it was. None where it cannot be told
    any more, because a file or an entry of the log was removed (`lore compact --vacuum`), or where `old` is not before
    `new`: who asks must then look at every row.

    Raises:
        StoreError: the log points outside of the table's folder.
    """
    keys = list(KEYS[table])
    if old > new:
        return None
    system = store.filesystem(table)
    paths = committed_files(system, table, range(old + 1, new + 1))
    if paths is None:
        return None
    files = [TableFile(path, None, 0, 0) for path in paths]
    try:
        batches = list(stream_files(files, system, table, keys, _ROWS))
    except OSError:  # removed since
        return None
    except pa.ArrowException as error:
        what = " ".join(str(error).split())[:300]
        raise StoreError(f"cannot read table {table} in {store.uri}: {what}") from None
    rows = pa.Table.from_batches(batches, pa.schema([TABLES[table].field(key) for key in keys]))
    return pl.DataFrame(rows).unique(maintain_order=True).to_arrow().cast(rows.schema)
