"""A job without a model, for the tests of the spine, and a command that kills itself at a named instant.

    python scripted_job.py STORE LOG INSTANT NUMBER IN_FLIGHT

INSTANT: never · process (as the NUMBERth micro-batch is worked on) · files (its data files are written, not its commit)
· committed (its commit stands, nobody was told) · start (before the started row) · finish (before the finished row).
"""

import os
import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import stores.features
from jobs import spine
from lore_mm.tables import DEMANDS, QUERIES
from stores.features import open_store


class ScriptedWork:
    """Upper-cases queries. `bad` ids raise in process, `unloadable` ones in load."""

    job, table = "scripted", "demands"
    reads = ("queries",)
    key = ("query_id",)

    def __init__(self, store, voice="upper", bad=(), unloadable=(), log=None):
        self.verdict = {}
        self.store, self.bad, self.unloadable, self.log = store, set(bad), set(unloadable), log
        self.settings = {"voice": {"name": voice}}
        self.settings_sha = f"voice {voice}"
        self.batches = []  # ids of each call of process

    def read(self, versions, columns, rows, start=0):
        return self.store.batches("queries", columns, versions["queries"], rows, latest=True, start=start)

    def input_shas(self, rows):
        return [f"sha of {text}" for text in rows.column("query").to_pylist()]

    def load(self, rows):
        ids = rows.column("query_id").to_pylist()
        if lost := self.unloadable.intersection(ids):
            raise OSError(f"cannot load {sorted(lost)[0]}")
        return self.input_shas(rows), ids

    def process(self, rows, loaded):
        ids = rows.column("query_id").to_pylist()
        assert loaded == ids
        self.batches.append(ids)
        if self.log:
            with self.log.open("a") as file:
                file.write(" ".join(ids) + "\n")
        if broken := self.bad.intersection(ids):
            raise ValueError(f"no voice for {sorted(broken)[0]}")
        return self._rows(rows, "ok", None)

    def failed(self, rows, error):
        return self._rows(rows, "failed", error)

    def _rows(self, rows, status, error):
        return pa.Table.from_pylist(
            [
                {
                    "query_id": row["query_id"],
                    "query": row["query"],
                    "normalized": row["query"].upper() if status == "ok" else None,
                    "status": status,
                    "error": error,
                    "provenance": {"maker": "scripted"},
                }
                for row in rows.to_pylist()
            ],
            schema=DEMANDS,
        )


def queries(texts):
    """A table of QUERIES out of id → text."""
    return pa.Table.from_pylist([{"query_id": i, "query": t} for i, t in texts.items()], schema=QUERIES)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def main(address, log, instant, number, in_flight):
    store = open_store(address)
    work = ScriptedWork(store, log=Path(log))
    commits = 0
    write, say_event, process = stores.features._write, spine.write_event, work.process

    def deadly_write(delta, rows, transaction):
        nonlocal commits
        ours = transaction is not None and transaction[0].endswith("/0")
        commits += ours
        if ours and commits == number and instant == "files":
            pq.write_table(rows, Path(address) / "demands" / "part-00000-orphan.parquet")
            die()
        write(delta, rows, transaction)
        if ours and commits == number and instant == "committed":
            die()

    def deadly_event(store, plan, event, counts=None):
        if (event, instant) in (("started", "start"), ("finished", "finish")):
            die()
        return say_event(store, plan, event, counts)

    def deadly_process(rows, loaded):
        made = process(rows, loaded)
        if instant == "process" and len(work.batches) == number:
            die()
        return made

    stores.features._write, spine.write_event, work.process = deadly_write, deadly_event, deadly_process
    print(spine.run_job(store, work, batch_rows=10, in_flight=in_flight))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
