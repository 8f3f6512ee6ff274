"""How well `lore synthesize` feeds its teacher: requests a second beside the bare engine given the very same requests.

    python benchmarks/bench_synthesize.py                                  # a simulated engine, half a minute
    python benchmarks/bench_synthesize.py --teacher hf:lore-vlm-tiny --pairs 8 --samples 2 --rate 0

The simulated engine batches as a server does: so many requests at once, each as long, whoever asked; it answers at
random within the schema. What is measured is whether it ever waits for us: while prompts are told, replies read, chains
made and rows committed, there must be something in its queue. `bare` gives it all requests of the run in one call.

Two ratios: of the whole run, with its beginning and with the steps of the last micro-batch, in which there is less and
less to ask; and `fed`, from the first whole micro-batch to the last, which is what a long run comes to.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from heapq import heapify, heapreplace
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.chain_pairs import Sources
from jobs.synthesize_chains import open_teacher, synthesize_chains
from lore_mm.console import command_app, print_json, run, say
from lore_mm.knowledge import load_knowledge
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from relevance.by_rules import RulesJudge
from relevance.chain_prompt import ChainPrompt
from relevance.rules import load_rulebook
from relevance.training.making import RowMaker
from stores.features import open_store


class Engine:
    """A chat that is another, at the pace of a server, and keeps what it was asked.

    `slots` requests are answered at once, each in `latency` s; with `latency` 0 at the other's own pace.
    """

    def __init__(self, chat: Chat, slots: int, latency: float) -> None:
        self.name, self.sha, self._chat, self.latency = chat.name, chat.sha, chat, latency
        self._slots, self._guard = [0.0] * slots, threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget what was asked."""
        self.calls: list[tuple[float, list[ChatRequest]]] = []
        self.ended: list[float] = []

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """As the other does, not sooner than a server would."""
        began = time.perf_counter()
        with self._guard:
            self.calls.append((began, list(requests)))
            self._slots = [max(began, free) for free in self._slots]
            heapify(self._slots)
            ends = []
            for _ in requests if self.latency else ():
                ends.append(self._slots[0] + self.latency)
                heapreplace(self._slots, ends[-1])
        replies = self._chat.generate(requests)
        if ends:
            time.sleep(max(0.0, ends[-1] - time.perf_counter()))
        with self._guard:
            self.ended += ends or [time.perf_counter()] * len(replies)
        return replies

    def close(self) -> None:
        """As the other does."""
        self._chat.close()


def ours(engine: Engine, pairs: int, samples: int, batch_rows: int, in_flight: int) -> dict[str, Any]:
    """The seconds of a run, and what its summary says."""
    knowledge, rulebook = load_knowledge(), load_rulebook()
    judge, maker = RulesJudge(knowledge, rulebook), RowMaker(ChainPrompt(knowledge, rulebook))
    teacher = open_teacher("bench", knowledge, rulebook, samples=samples, opener=lambda _: engine)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "store", create=True)
        some = Sources(datasets=("demo",)).read(store, knowledge, judge)[:pairs]
        judge.judge([(one.understanding, one.features) for one in some])  # the tables' caches are warm
        engine.reset()
        began = time.perf_counter()
        done = synthesize_chains(store, some, judge, maker, teacher, batch_rows=batch_rows, in_flight=in_flight)
        ended = time.perf_counter()
    most = max(len(requests) for _, requests in engine.calls)
    handed = [at for at, requests in engine.calls if len(requests) >= most]  # first steps of whole micro-batches
    first, until = min(handed), max(handed)
    n = sum(len(requests) for _, requests in engine.calls)
    return {
        "requests": n,
        "per_s": n / (ended - began),
        "fed_per_s": sum(first < one <= until for one in engine.ended) / (until - first),
        "kept": done.summary["kept"],
        "samples": done.summary["samples"],
    }


def main(
    teacher: Annotated[str, typer.Option(help="The engine: scripted:SEED, hf:NAME …")] = "scripted:7",
    pairs: Annotated[int, typer.Option(help="Pairs of the demo.")] = 96,
    samples: Annotated[int, typer.Option(help="Samples a pair.")] = 4,
    rate: Annotated[float, typer.Option(help="Requests a second of the simulated engine; 0: the engine's own.")] = 50,
    slots: Annotated[int, typer.Option(help="Requests that it answers at once.")] = 16,
    batch_rows: Annotated[int, typer.Option(help="Pairs a micro-batch.")] = 16,
    in_flight: Annotated[int, typer.Option(help="Micro-batches at once.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Requests a second of synthesis, beside those of the bare engine on the same requests.

    Example: python benchmarks/bench_synthesize.py --in-flight 1
    """
    engine = Engine(open_chat(teacher), slots, slots / rate if rate else 0.0)
    found = ours(engine, pairs, samples, batch_rows, in_flight)
    asked = [request for _, requests in engine.calls for request in requests]
    began = time.perf_counter()
    engine.generate(asked)
    found["bare_per_s"] = len(asked) / (time.perf_counter() - began)
    engine.close()
    found["ratio"] = found["per_s"] / found["bare_per_s"]
    found["fed_ratio"] = found["fed_per_s"] / found["bare_per_s"]
    if json:
        print_json(found)
        return
    say(f"{pairs} pairs, {samples} samples, {batch_rows} pairs a micro-batch, {in_flight} in flight, {teacher}")
    for name in ("requests", "per_s", "bare_per_s", "fed_per_s", "ratio", "fed_ratio"):
        print(f"{name:12} {found[name]:10.3f}")


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_synthesize.py"))
