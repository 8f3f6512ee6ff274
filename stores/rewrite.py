"""Files of a table replaced by one that holds their rows, or some of them, in the same order, while others append.

The new file is written beside the others and flushed; one commit then names it and takes the old ones out. Three rules
keep every row there once, and in its place:

- A commit is made at exactly the version behind the one that was looked at. The Delta library finds no conflict in two
  commits that take the same file out, and would let each of them add its copy.
- The new file has the time of the first of them, and so comes where they were; files of one millisecond stay together.
  Not of the last: a file that was written before it and is not committed yet would come before all of them, and so
  before earlier rows of its own writer. Where one was committed since that stands among them, nothing is committed.
- A file that a commit may have named is not deleted, whatever that commit said.

Who dies before the commit leaves a file that no version names (`stores.vacuum` deletes it), and nothing else. This
module does not know which files are worth it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction
from numpy.typing import NDArray
from pyarrow import dataset

from lore_mm.errors import StoreError
from stores.features import ROW_GROUP, FeatureStore
from stores.handles import Stamp, stamp_of
from stores.log_faults import one_line
from stores.streams import keep_rows, rebatch, slices
from stores.table_files import TableFile, committed, merged_name, ordered_files

__all__ = ["Group", "Replaced", "Target", "Upkeep"]

Group = list[TableFile]  # files written in one millisecond
_ATTEMPTS = 500  # at a commit while others commit: each takes milliseconds
_PIECE = 2_048  # rows: hundreds of small batches take more memory than their rows do
_Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Target:
    """How large a file is to become: it is closed behind the group of files with which it reaches one of these."""

    n_bytes: int = 128 * 1024 * 1024
    rows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Replaced:
    """One commit: so many groups of files were replaced by one file, which is None where no row was left."""

    groups: int
    files: int
    new: TableFile | None


class Upkeep:
    """One table as it stood when this was made, of which files are replaced, one commit after the other.

    Attributes:
        groups: the files of that version in the order of their rows, those of one millisecond together.

    Raises:
        StoreError: no such table, or it may only be read.
    """

    def __init__(self, store: FeatureStore, table: str) -> None:
        self.store, self.table = store, table
        self._system = store.filesystem(table)
        self._delta: DeltaTable = store.open_table(table)
        if not store.address.may_write(table):
            raise self._fault("no permission to write there")
        files = ordered_files(self._delta, table)
        self.groups: list[Group] = [list(group) for _, group in groupby(files, key=lambda file: file.written_ms)]
        self._version = self._delta.version()
        self._stamp: Stamp | None = stamp_of(self._delta, self._system)
        self._added: dict[str, int] = {}  # by others and by this, since: path → time of writing
        self._removed: set[str] = set()

    def replace(
        self, groups: Sequence[Group], target: Target, keep: Mapping[str, _Rows] | None = None
    ) -> Replaced | None:
        """Replace the first of `groups`, which follow one another, by one file that holds their rows in their order.

        `keep` leaves rows out: path → those of a file that stay, rising; all of a file that is not named. Such a commit
        says that data has changed. A single file of which all rows stay is left as it is. None where others have
        changed these files in the meantime, and nothing was committed.

        Raises:
            StoreError: a file cannot be read or written, or the table is gone or another.
        """
        path = merged_name(max(file.latest_ms for group in groups for file in group))
        try:
            used, rows = self._write(path, groups, target, keep)
            old = [file for group in groups[:used] for file in group]
            if rows == 0 or (keep is None and len(old) == 1):
                self._system.delete_file(path)
                if rows:
                    return Replaced(used, 1, old[0])
                new = None
            else:
                new = TableFile(path, rows, self._system.get_file_info(path).size, old[0].written_ms)
        except (OSError, pa.ArrowException) as error:
            with suppress(OSError):
                self._system.delete_file(path)
            raise self._fault(error) from None
        try:
            done = self._commit(old, new, shorter=keep is not None)
        except (OSError, ValueError, DeltaError) as error:
            raise self._fault(error) from None
        if done:
            return Replaced(used, len(old), new)
        if new is not None:
            with suppress(OSError):
                self._system.delete_file(path)
        return None

    def end(self) -> None:
        """Write a checkpoint of the log, so that who opens the table reads what stands, and not what came and went.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self.store.open_table(self.table).create_checkpoint()
        except (OSError, DeltaError) as error:
            raise self._fault(error) from None

    def _write(
        self, path: str, groups: Sequence[Group], target: Target, keep: Mapping[str, _Rows] | None
    ) -> tuple[int, int]:
        """Write the rows of the first groups to a new file; how many groups and how many rows they were."""
        schema: pa.Schema = pa.schema(self._delta.schema().to_arrow())  # type: ignore[arg-type]
        make, used, rows = dataset.ParquetFileFormat().make_fragment, 0, 0
        with (
            self._system.open_output_stream(path) as sink,
            pq.ParquetWriter(sink, schema, compression="zstd") as writer,
        ):

            def stream() -> Iterator[pa.RecordBatch]:
                nonlocal used, rows
                for group in groups:
                    for file in group:
                        fragment = make(file.path, filesystem=self._system)
                        batches = fragment.to_batches(
                            schema=schema, batch_size=ROW_GROUP, batch_readahead=1, fragment_readahead=0
                        )
                        for batch in keep_rows(batches, keep.get(file.path) if keep else None):
                            rows += batch.num_rows
                            yield batch
                    used += 1
                    if rows >= target.rows or sink.tell() >= target.n_bytes:
                        return

            for part in slices(rebatch(stream(), schema, _PIECE), ROW_GROUP):
                writer.write_table(part, row_group_size=ROW_GROUP)
        if self.store.folder is not None:
            with (self.store.folder / self.table / path).open("rb") as written:
                os.fsync(written.fileno())
        return used, rows

    def _commit(self, old: Sequence[TableFile], new: TableFile | None, shorter: bool) -> bool:
        """One file for the others, at the version behind all that is known; False where they are not as they were."""
        now, changed = int(time.time() * 1000), shorter
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(file.path, changed, now, file.n_bytes, {}) for file in old
        ]
        if new is not None:
            stats = json.dumps({"numRecords": new.rows})
            actions.insert(0, AddAction(new.path, new.n_bytes, {}, new.written_ms, changed, stats))
        properties = CommitProperties(
            max_commit_retries=0, custom_metadata={"lore": "retention" if shorter else "compaction"}
        )
        for _ in range(_ATTEMPTS):
            self._follow()
            if new is not None and new.path in self._added:
                return True  # the answer to the commit was lost, as happens on the way to a bucket
            if not self._stands(old):
                return False
            try:
                self._delta.create_write_transaction(
                    actions, mode="append", schema=self._delta.schema(), commit_properties=properties
                )
                return True
            except CommitFailedError:  # another was faster: see first what it did
                time.sleep(random.uniform(0, 0.005))
        raise self._fault("too many writers at once; the same call may succeed")

    def _follow(self) -> None:
        """See what was committed since."""
        if self._stamp is None or stamp_of(self._delta, self._system) != self._stamp:
            raise self._fault("deleted, replaced or set back while in use")
        self._delta.update_incremental()
        present = self._delta.version()
        for actions in committed(self._system, range(self._version + 1, present + 1)):
            for action in actions:
                if "add" in action:
                    self._added[unquote(action["add"]["path"])] = action["add"]["modificationTime"]
                elif "remove" in action:
                    self._removed.add(unquote(action["remove"]["path"]))
        self._version, self._stamp = present, stamp_of(self._delta, self._system)

    def _stands(self, old: Sequence[TableFile]) -> bool:
        """Whether these files are all there, and none among them that was not."""
        first, last = old[0].written_ms, old[-1].written_ms
        return all(file.path not in self._removed for file in old) and not any(
            first <= at <= last and path not in self._removed for path, at in self._added.items()
        )

    def _fault(self, what: str | Exception) -> StoreError:
        text = what if isinstance(what, str) else one_line(what)
        return StoreError(f"cannot compact {self.table} in {self.store.uri}: {text}")
