"""A job without a model, for the tests of the spine, and a command that kills itself at a named instant.

    python scripted_job.py STORE LOG OPTIONS

OPTIONS is JSON; what may stand in it, and what holds unless it does, is OPTIONS below. instant: never · process (as the
numberth micro-batch is worked on) · files (its data files are written, not its commit) · committed (its commit stands,
nobody was told) · start (before the started row) · finish (before the finished row).
"""

import json
import os
import re
import signal
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

import stores.features
from jobs import partitions, spine
from lore_mm.console import run
from lore_mm.tables import DEMANDS, QUERIES
from stores.features import open_store

OPTIONS = {
    "instant": "never",
    "number": 0,
    "in_flight": 1,
    "batch_rows": 10,
    "voice": "upper",
    "bad": (),  # ids that raise
    "pace": 0.0,  # seconds a micro-batch
    "stuck": 0,  # which micro-batch never ends
    "least_slices": 0,  # of a partition; 0: as shipped
    "go": "",  # a file to wait for before beginning
    "run": {},  # more options of run_job
}
_OF_A_PARTITION = re.compile(r"[0-9a-f]{64}/[0-9]+")


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


def main(address, log, **options):
    """Run the job with what is said of it: see OPTIONS. Prints `ready` before it begins, and its counts at the end."""
    said = SimpleNamespace(**{**OPTIONS, **options})
    if said.least_slices:
        partitions._LEAST_SLICES = said.least_slices
    store = open_store(address)
    work = ScriptedWork(store, said.voice, said.bad, log=Path(log))
    commits = 0
    write, say_event, process = stores.features._write, spine.write_event, work.process

    def deadly_write(delta, rows, transaction):
        nonlocal commits
        ours = transaction is not None and _OF_A_PARTITION.fullmatch(transaction[0])
        commits += bool(ours)
        if ours and commits == said.number and said.instant == "files":
            pq.write_table(rows, Path(address) / "demands" / f"part-00000-{uuid.uuid4()}.parquet")
            die()
        write(delta, rows, transaction)
        if ours and commits == said.number and said.instant == "committed":
            die()

    def deadly_event(store, plan, event, counts=None):
        if (event, said.instant) in (("started", "start"), ("finished", "finish")):
            die()
        return say_event(store, plan, event, counts)

    def deadly_process(rows, loaded):
        time.sleep(said.pace)
        made = process(rows, loaded)
        while said.stuck and len(work.batches) >= said.stuck:
            time.sleep(1)
        if said.instant == "process" and len(work.batches) == said.number:
            die()
        return made

    def noted_loss(turns, partition, lost=partitions.Turns.lost):
        with Path(f"{log}.lost").open("a") as file:
            file.write("lost\n")
        lost(turns, partition)

    stores.features._write, spine.write_event, work.process = deadly_write, deadly_event, deadly_process
    partitions.Turns.lost = noted_loss
    print("ready", flush=True)
    while said.go and not Path(said.go).exists():
        time.sleep(0.001)
    print(spine.run_job(store, work, batch_rows=said.batch_rows, in_flight=said.in_flight, **said.run))


if __name__ == "__main__":
    run(lambda args, prog_name: main(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3])))
