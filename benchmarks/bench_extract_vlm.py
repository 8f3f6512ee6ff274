"""What a whole extraction job costs beside the engine it asks, and whether its memory grows with its input.

    python benchmarks/bench_extract_vlm.py                              # a random Qwen2.5-VL in vLLM, made for it
    python benchmarks/bench_extract_vlm.py --model vllm:lore-vlm-tiny --n 512 --rounds 3
    python benchmarks/bench_extract_vlm.py --memory 20000               # no engine: scripted answers

`raw` gives vLLM's `AsyncLLM.generate` the very requests that the job made (text of the chat template, pictures,
sampling parameters, constraint), all at once; what comes before and after is not in it. `job` is the whole of
`lore extract` with the model alone: reading, decoding of pictures, prompts, replies, merging, commits. `cascade` has
the other extractors before it, and asks for less. The arms take turns on one engine, whose caches are emptied before
each; `share` is the job's requests a second over those of `raw`, the median over rounds.

With --memory the resident memory of one job is told at 1,000 items and at the end; each item has a picture.
"""

from __future__ import annotations

import asyncio
import itertools
import json as json_
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench_chat_hf import _random_model
from bench_chat_vllm import forget
from PIL import Image

from extractors.given import Given
from extractors.merge import Merger
from extractors.palette import Palette
from extractors.protocol import Extractor
from extractors.vlm import Vlm
from jobs.extract_items import IN_FLIGHT, ExtractItems
from jobs.ingest import ingest_items
from jobs.spine import run_job
from lore_mm.console import command_app, print_json, run
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import load_knowledge
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from lore_mm.models.constrain import one_spelling
from lore_mm.models.table import prompt_of
from lore_mm.models.vllm import VllmChat
from lore_mm.schema import load_schemas
from stores.features import FeatureStore, open_store

ASK = ("color", "material", "pattern", "style")
_THINGS = ("shirt", "lamp", "dress", "mug", "chair", "backpack")
_PICTURES = 256  # different ones; items share them
_numbers = itertools.count()


class Counting:
    """A chat model that keeps or counts the requests it passes on."""

    def __init__(self, inner: Chat, keep: bool = False) -> None:
        self.inner, self.keep, self.n = inner, keep, 0
        self.name, self.sha = inner.name, inner.sha
        self.requests: list[ChatRequest] = []

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The engine's replies."""
        self.n += len(requests)
        if self.keep:
            self.requests += requests
        return self.inner.generate(requests)

    def close(self) -> None:
        """Leave the engine open: it is the benchmark's."""


def shop(folder: Path, n: int, side: int) -> Path:
    """A catalogue of n items with a JPEG each."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(min(n, _PICTURES)):
        noise = Image.fromarray(draw.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        noise.resize((side, side)).save(folder / f"{i}.jpg", quality=85)
    with (folder / "items.jsonl").open("w") as file:
        for i in range(n):
            colors = {"attributes": {"Color": ["blue"]}} if i % 2 else {}
            row = {"item_id": f"item-{i}", "title": f"{_THINGS[i % len(_THINGS)]} of cotton, number {i}", **colors}
            file.write(json_.dumps({**row, "images": [f"{i % _PICTURES}.jpg"]}) + "\n")
    return folder


def items_of(folder: Path, n: int, side: int) -> FeatureStore:
    """A store with such a catalogue."""
    store = open_store(folder / "store", create=True)
    ingest_items(store, shop(folder / "shop", n, side))
    return store


def work(store: FeatureStore, chat: Chat, prompt: str, *, cascade: bool) -> ExtractItems:
    """The job over the store's items."""
    known, schemas = load_knowledge(), load_schemas()
    vlm = Vlm(chat, schemas, known, prompt=prompt, fields=ASK, ask_category=False)
    before: list[Extractor] = [Given(known, schemas), Palette(known)] if cascade else []
    return ExtractItems(store, [*before, vlm], Merger(known, schemas), PicturePolicy())


def job(store: FeatureStore, chat: Chat, prompt: str, batch_rows: int, *, cascade: bool) -> float:
    """Seconds of a whole run over all items."""
    ready = work(store, chat, prompt, cascade=cascade)
    ready.settings = {**ready.settings, "round": next(_numbers)}  # each round is a run of its own
    ready.settings_sha += f" {next(_numbers)}"
    began = time.perf_counter()
    counts = run_job(store, ready, batch_rows=batch_rows, in_flight=IN_FLIGHT)
    seconds = time.perf_counter() - began
    if counts.n_failed or counts.n_ok != counts.n_in:
        raise AssertionError(str(counts))
    return seconds


def raw(chat: VllmChat, requests: Sequence[ChatRequest]) -> float:
    """Seconds for the engine alone to answer these requests."""
    from transformers import AutoProcessor
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    core = chat.engine.core
    template = AutoProcessor.from_pretrained(core.vllm_config.model_config.model).apply_chat_template
    prepared = []
    for request in requests:
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in request.parts]
        system = [{"role": "system", "content": request.system}] if request.system else []
        text = template([*system, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        schema = json_.dumps(one_spelling(request.json_schema)) if request.json_schema else None
        settings = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=0.0,
            logprobs=0,
            structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prepared.append(({"prompt": text, "multi_modal_data": {"image": list(request.pictures)}}, settings))

    async def one(prompt: Any, settings: Any) -> None:
        async for _ in core.generate(prompt, settings, f"raw-{next(_numbers)}"):
            pass

    async def together() -> None:
        await asyncio.gather(*(one(*each) for each in prepared))

    began = time.perf_counter()
    chat.engine.run(together())
    return time.perf_counter() - began


def measure(model: str, n: int, side: int, rounds: int, batch_rows: int, folder: Path) -> dict[str, Any]:
    """The arms in turn on one engine."""
    address = model or f"vllm:{_random_model(folder / 'model')}"
    prompt = prompt_of(address) if model else "compact"
    chat = open_chat(address, max_model_len=2048)
    assert isinstance(chat, VllmChat)
    try:
        store = items_of(folder, n, side)
        kept = Counting(chat, keep=True)
        job(store, kept, prompt, batch_rows, cascade=False)  # also warms everything up
        rates: dict[str, list[float]] = {"raw": [], "job": [], "cascade": []}
        asked = {}
        for number in range(rounds):
            for arm in (list(rates), list(reversed(rates)))[number % 2]:  # no arm always follows the same one
                chat.engine.run(forget(chat))
                counting = Counting(chat)
                if arm == "raw":
                    seconds, asked[arm] = raw(chat, kept.requests), len(kept.requests)
                else:
                    seconds = job(store, counting, prompt, batch_rows, cascade=arm == "cascade")
                    asked[arm] = counting.n
                rates[arm].append(asked[arm] / seconds)
    finally:
        chat.close()
    shares = [a / b for a, b in zip(rates["job"], rates["raw"], strict=True)]
    return {
        "model": address if model else "vllm: a random Qwen2.5-VL",
        "items": n,
        "batch_rows": batch_rows,
        "in_flight": IN_FLIGHT,
        "rounds": rounds,
        "requests": asked,
        "requests_s": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        "share": round(statistics.median(shares), 3),
        "shares": [round(share, 3) for share in shares],
        "cascade_items_s": round(statistics.median(rates["cascade"]) * n / asked["cascade"], 1),
    }


def measure_memory(n: int, side: int, batch_rows: int, folder: Path) -> dict[str, Any]:
    """Resident memory of one job on scripted answers, as its items go by."""
    store = items_of(folder, n, side)
    ready = work(store, open_chat("scripted:1"), "compact", cascade=False)
    seen: list[tuple[int, float]] = []

    def sample() -> str:
        seen.append((ready.asked.items, _resident_mib()))
        return ""

    process = ready.process

    def sampled(rows: Any, loaded: Any) -> Any:
        made = process(rows, loaded)
        sample()
        return made

    ready.process = sampled  # type: ignore[method-assign]
    began = time.perf_counter()
    counts = run_job(store, ready, batch_rows=batch_rows, in_flight=IN_FLIGHT)
    seconds = time.perf_counter() - began
    if counts.n_ok != n:
        raise AssertionError(str(counts))

    def peak(low: int, high: int) -> int:
        return round(max((mib for items, mib in seen if low < items <= high), default=float("nan")))

    marks = [m for m in (1_000, 5_000, 10_000, 20_000, 50_000) if m < n] + [n]
    bands = list(itertools.pairwise([0, *marks]))
    return {
        "items": n,
        "batch_rows": batch_rows,
        "in_flight": IN_FLIGHT,
        "items_s": round(n / seconds),
        "peak_mib": {f"items {low + 1}-{high}": peak(low, high) for low, high in bands},
    }


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(
    model: Annotated[str, typer.Option(help="vllm:NAME; a random one is made unless given.")] = "",
    n: Annotated[int, typer.Option(help="Items.")] = 512,
    side: Annotated[int, typer.Option(help="Side of a picture in pixels.")] = 256,
    rounds: Annotated[int, typer.Option(help="Rounds of the three arms.")] = 4,
    batch_rows: Annotated[int, typer.Option(help="Items a micro-batch.")] = 256,
    memory: Annotated[int, typer.Option(help="Measure memory over so many items instead.")] = 0,
) -> None:
    """Measure a whole extraction job beside its bare engine.

    Example: python benchmarks/bench_extract_vlm.py --n 512
    """
    with tempfile.TemporaryDirectory() as folder:
        if memory:
            print_json(measure_memory(memory, side, batch_rows, Path(folder)))
        else:
            print_json(measure(model, n, side, rounds, batch_rows, Path(folder)))


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_extract_vlm.py"))
