"""What judging by likelihoods costs: direct through vLLM beside the bare engine, and beside a loop over transformers.

    python benchmarks/bench_direct.py                         # lore-vlm-tiny, pairs of the demo catalogue
    python benchmarks/bench_direct.py --queries 6 --items 16 --rounds 3

Arms, in turn within each round, over the same pairs of so many queries with so many items each:

    direct     `DirectJudge.judge`: rules' paths, prompts, likelihoods, grades
    bare       the very same tokens given to the same engine, all requests at once, one token out: raw prefill
    loop       transformers alone, one pair after the other: tokenised, the whole prompt read, the four logits

`direct` and `bare` with the engine's prefix cache, emptied before each; with --cold once more against an engine without
one, which says how much of the gain over the loop comes from what prompts share. The loop reads some of the pairs only,
chosen evenly, and is counted by the pair. Ratios are of pairs a second, the median over rounds, of wall time and of the
seconds of this process and the engine's together, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from bench_chat_vllm import CLOCKS, forget

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from lore_mm.console import command_app, print_json, run, say
from lore_mm.item_rows import read_item
from lore_mm.knowledge import load_knowledge
from lore_mm.models import ChatRequest
from lore_mm.models.checkpoint import checkpoint_folder
from lore_mm.models.vllm import VllmChat, open_chat
from lore_mm.models.vllm import _render as render
from lore_mm.schema import load_schemas
from lore_mm.types import ItemFeatures, Query
from relevance.by_direct import DirectJudge
from relevance.dossier import BUDGETS
from relevance.levels import LEVELS
from relevance.protocol import Pair
from relevance.rules import load_rulebook

DEMO = Path(__file__).parent.parent / "examples" / "demo"


def demo_pairs(queries: int, items: int) -> list[Pair]:
    """The first queries of the demo, each with as many items, query by query."""
    knowledge = load_knowledge()
    rows = [jsonlib.loads(line) for line in (DEMO / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = understand([Query(row["query_id"], row["query"]) for row in rows[:queries]], knowledge)
    lines = (DEMO / "items.jsonl").read_text(encoding="utf-8").splitlines()[:items]
    read = [read_item(jsonlib.loads(line))[0] for line in lines]
    found = Given(knowledge, load_schemas()).extract([ExtractorInput(item) for item in read])
    features = [ItemFeatures(item, one.attributes) for item, one in zip(read, found, strict=True)]
    return [(query, item) for query in asked for item in features]


class Recorder:
    """A chat that is another and keeps the requests."""

    def __init__(self, chat: VllmChat) -> None:
        self.name, self.sha, self._chat = chat.name, chat.sha, chat
        self.requests: list[ChatRequest] = []

    def generate(self, requests: Sequence[ChatRequest]) -> Any:
        """As the other does."""
        self.requests = list(requests)
        return self._chat.generate(requests)

    def close(self) -> None:
        """As the other does."""
        self._chat.close()


def token_ids(chat: VllmChat, requests: Sequence[ChatRequest]) -> list[list[int]]:
    """What the engine reads of each request: the template's tokens, and those that all levels begin with."""

    async def of(request: ChatRequest) -> list[int]:
        ids = list((await render(chat.engine.core, request))["prompt_token_ids"])
        tails, back = await chat._tails(chat.engine.core, request, ids)
        return [*ids[: len(ids) - back], *tails[0][:-2]]

    async def all_of() -> list[list[int]]:
        return [await of(request) for request in requests]

    return chat.engine.run(all_of())


def bare(chat: VllmChat, prompts: Sequence[Sequence[int]]) -> float:
    """The share of tokens that the prefix cache gave; every prompt is read and one token said."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    settings = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)

    async def one(i: int, ids: Sequence[int]) -> int:
        cached = 0
        async for output in chat.engine.core.generate(
            {"prompt_token_ids": list(ids)}, settings, f"bare-{time.monotonic_ns()}-{i}"
        ):
            cached = output.num_cached_tokens or 0
        return cached

    async def together() -> int:
        return sum(await asyncio.gather(*(one(i, ids) for i, ids in enumerate(prompts))))

    return chat.engine.run(together()) / sum(map(len, prompts))


def loop_over(folder: str, requests: Sequence[ChatRequest]) -> Callable[[], list[list[float]]]:
    """What one writes first: for each pair a template, a forward pass, and the logits of the four digits."""
    from lore_mm.models import torchvision_cpu

    torchvision_cpu.install()
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    digits = [tokenizer(level, add_special_tokens=False)["input_ids"][-1] for level in LEVELS]

    def judge() -> list[list[float]]:
        found = []
        for request in requests:
            turns = (("system", request.system), ("user", str(request.parts[0])))
            messages = [{"role": role, "content": text} for role, text in turns]
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)) + "L"
            inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
            with torch.inference_mode():
                logits = model(**inputs, logits_to_keep=1).logits[0, -1]
            found.append(logits[digits].log_softmax(-1).tolist())
        return found

    return judge


def timed(arm: Callable[[], Any], pairs: int) -> dict[str, float]:
    """Pairs a second, by each clock."""
    started = {clock: read() for clock, read in CLOCKS.items()}
    arm()
    return {clock: pairs / (read() - started[clock]) for clock, read in CLOCKS.items()}


def measure(model: str, pairs: Sequence[Pair], looped: int, rounds: int, budget: str, cached: bool) -> dict[str, Any]:
    """Pairs a second of each arm, the median over rounds, and the ratios within each."""
    chat = open_chat(model, max_model_len=4096, enable_prefix_caching=cached)
    assert isinstance(chat, VllmChat)
    recorder = Recorder(chat)
    judge = DirectJudge(recorder, load_knowledge(), load_rulebook(), budget=BUDGETS[budget])
    judged = judge.judge(pairs)  # the first round warms everything up, and is not counted
    assert all(one.grade for one in judged), next(one.error for one in judged if not one.grade)
    prompts = token_ids(chat, recorder.requests)
    share = bare(chat, prompts)
    some = recorder.requests[:: max(1, len(pairs) // max(1, looped))][:looped]
    arms: dict[str, tuple[Callable[[], Any], int]] = {
        "direct": (lambda: judge.judge(pairs), len(pairs)),
        "bare": (lambda: bare(chat, prompts), len(pairs)),
    }
    if some:
        arms["loop"] = (loop_over(checkpoint_folder(model), some), len(some))
    speeds: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for number in range(rounds):
        for name, (arm, n) in sorted(arms.items(), reverse=number % 2 == 1):
            chat.engine.run(forget(chat))
            speeds[name].append(timed(arm, n))
    chat.engine.run(forget(chat))
    share = bare(chat, prompts)
    chat.close()
    ratios = {
        f"direct_to_{other}_{clock}": statistics.median(
            a[clock] / b[clock] for a, b in zip(speeds["direct"], speeds[other], strict=True)
        )
        for other in arms
        if other != "direct"
        for clock in CLOCKS
    }
    per_s = {
        f"{n}_{clock}": statistics.median(one[clock] for one in found)
        for n, found in speeds.items()
        for clock in CLOCKS
    }
    return {
        "tokens_a_pair": sum(map(len, prompts)) / len(prompts),
        "from_the_cache": share,
        "pairs_per_s": per_s,
        **ratios,
    }


def main(
    model: Annotated[str, typer.Option(help="Folder, name of the model table, or hub repository.")] = "lore-vlm-tiny",
    queries: Annotated[int, typer.Option(help="Queries of the demo.")] = 4,
    items: Annotated[int, typer.Option(help="Items judged against each.")] = 16,
    looped: Annotated[int, typer.Option(help="Pairs that the loop reads.")] = 6,
    rounds: Annotated[int, typer.Option(help="Rounds that are counted.")] = 3,
    budget: Annotated[str, typer.Option(help="How much of a pair is told: full or compact.")] = "full",
    cold: Annotated[
        bool, typer.Option("--cold", help="Measure once more on an engine without a prefix cache.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Pairs a second of mode direct: beside raw prefill of the same engine, and beside a loop over transformers.

    Example: python benchmarks/bench_direct.py --queries 4 --items 16
    """
    pairs = demo_pairs(queries, items)
    found = {"cached": measure(model, pairs, looped, rounds, budget, cached=True)}
    say(jsonlib.dumps(found))
    if cold:
        found["cold"] = measure(model, pairs, looped, rounds, budget, cached=False)
    if json:
        print_json({"pairs": len(pairs), "looped": looped, "rounds": rounds, "budget": budget, **found})
        return
    say(f"{len(pairs)} pairs of {queries} queries, {rounds} rounds; the loop reads {looped} of them; prompts: {budget}")
    for name, one in found.items():
        print(f"{name}: {one['tokens_a_pair']:.0f} tokens a pair, {one['from_the_cache']:.0%} of them from the cache")
        for arm, speed in one["pairs_per_s"].items():
            print(f"  {arm:16} {speed:8.2f} pairs/s")
        for ratio in (key for key in one if key.startswith("direct_to")):
            print(f"  {ratio:24} {one[ratio]:.3f}")


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_direct.py"))
