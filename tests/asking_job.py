"""A job that asks a scripted model about each query, for the tests of budgets, pulses and status.

python asking_job.py STORE OPTIONS      OPTIONS: JSON of jobs.run_options.RunOptions, and delay_s, in_flight
"""

import importlib.util
import json
import sys
from pathlib import Path

from jobs.asked import spent_of
from jobs.spine import run_job
from lore_mm.console import run
from lore_mm.models.chat import NO_USAGE, ChatRequest
from lore_mm.models.scripted_chat import Rule, ScriptedChat
from stores.features import open_store

_spec = importlib.util.spec_from_file_location("scripted_job", Path(__file__).with_name("scripted_job.py"))
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)
queries = scripted_job.queries


class AskingWork(scripted_job.ScriptedWork):
    """Asks once a query; `usage` is what the model counted."""

    def __init__(self, store, delay_s=0.0, name="scripted:7", **kind):
        super().__init__(store, **kind)
        self.chat, self.usage = ScriptedChat([Rule(reply="YES", delay_s=delay_s)], name=name), NO_USAGE

    def spent(self):
        return spent_of(self)

    def process(self, rows, loaded):
        made = super().process(rows, loaded)
        replies = self.chat.generate([ChatRequest((text,)) for text in rows.column("query").to_pylist()])
        self.usage = sum((reply.usage for reply in replies), self.usage)
        return made


def main(address, options):
    options = json.loads(options)
    store = open_store(address)
    delay_s, in_flight = options.pop("delay_s", 0.0), options.pop("in_flight", 1)
    print(run_job(store, AskingWork(store, delay_s), in_flight=in_flight, **options))


if __name__ == "__main__":
    run(lambda args, prog_name: main(*args), sys.argv[1:])
