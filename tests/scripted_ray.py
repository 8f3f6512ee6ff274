"""Openers of scripted works for the tests of `--run-on ray`; imported by the workers of the cluster too."""

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lore_mm.errors import ModelError
from lore_mm.models.chat import Usage
from stores.features import open_store
from tests.scripted_job import ScriptedWork


class Work(ScriptedWork):
    """Notes the process of each call of `load` and `process` in a file; stops the job at the id `dead`.

    The micro-batch with the id `slow` takes two seconds.
    """

    def __init__(self, store, notes, dead=None, slow=None, spends=False, **rest):
        super().__init__(store, **rest)
        self.notes, self.dead, self.slow = notes, dead, slow
        if spends:
            self.spent = lambda: {"scripted": Usage(len(self.batches), 10 * len(self.batches), 0)}

    def note(self, what, ids):
        with Path(self.notes).open("a") as file:
            file.write(f"{what} {os.getpid()} {' '.join(ids)}\n")

    def load(self, rows):
        self.note("load", rows.column("query_id").to_pylist())
        return super().load(rows)

    def process(self, rows, loaded):
        ids = rows.column("query_id").to_pylist()
        self.note("process", ids)
        if self.slow in ids:
            time.sleep(2.0)
        if self.dead in ids:
            raise ModelError("the engine is dead")
        return super().process(rows, loaded)


@dataclass(frozen=True)
class Opener:
    address: str
    notes: str
    dead: str | None = None
    rest: dict = field(default_factory=dict)
    unopened: str | None = None
    threads: int = 1
    loads_apart: bool = True

    @contextmanager
    def open(self):
        if self.unopened:
            raise ModelError(self.unopened)
        yield Work(open_store(self.address), self.notes, self.dead, **self.rest)

    def facts(self, work):
        return {"voice": work.settings["voice"]["name"]}

    def reading(self, facts, store=None):
        assert facts["voice"]
        return Work(store or open_store(self.address), self.notes, **self.rest)
