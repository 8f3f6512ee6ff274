"""What tagging queries costs beside the bare model: the same tensors through onnxruntime alone, and through torch.

Ratios are measured in one run, by turns, on however many cores OMP_NUM_THREADS gives; queries a second depend on the
machine. Queries are those of the examples. Without the shipped weights, or --folder with others, there is nothing to
measure.

    python benchmarks/bench_tagger.py
    python benchmarks/bench_tagger.py --batch 1 --batch 64 --threads 2
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lore_mm.console import command_app, run
from lore_mm.models.query_tagger import FOLDER, QueryTagger, open_tagger
from lore_mm.models.query_words import split_words
from lore_mm.records import open_records

QUERIES = Path(__file__).parent.parent / "examples" / "queries" / "gold.jsonl"
ROUNDS = 5


def bare(tagger: QueryTagger, texts: list[str], batch: int) -> Callable[[], None]:
    """The session alone, on the tensors that tagging these texts makes."""
    inputs: list[dict[str, Any]] = []
    session = tagger._session

    class Kept:
        def run(self, names: None, given: dict[str, Any]) -> Any:
            inputs.append(given)
            return session.run(names, given)

    tagger._session = Kept()
    for start in range(0, len(texts), batch):
        tagger.tag(texts[start : start + batch])
    tagger._session = session
    return lambda: [session.run(None, given) for given in inputs] and None


def torch_body(folder: Path, texts: list[str], batch: int, threads: int) -> Callable[[], None] | None:
    """A BERT of the same shape in torch, float32, padded as is usual; None where torch is not installed."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        return None
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import BertConfig, BertModel

    from lore_mm.models.query_words import Reader

    torch.set_num_threads(threads)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    model = BertModel(config, add_pooling_layer=False).eval()
    reader = Reader((folder / "tokenizer.json").read_bytes(), folder / "tokenizer.json")
    read = [one.ids for one in reader.read([[text[a:b] for a, b in split_words(text)] for text in texts])]
    batches = []
    for start in range(0, len(read), batch):
        rows = read[start : start + batch]
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, some, there in zip(rows, ids, mask, strict=True):
            some[: len(row)], there[: len(row)] = row, 1
        batches.append((torch.from_numpy(ids), torch.from_numpy(mask)))

    def once() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                model(input_ids=ids, attention_mask=mask)

    return once


def timed(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The best of several rounds, in seconds; the ways take turns, so that a busy machine is as busy for each."""
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            before = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - before)
    return best


def main(
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Queries handed over at once; 1 and 64.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of one batch.")] = 1,
    folder: Annotated[Path, typer.Option(help="The tagger's folder.")] = FOLDER,
) -> None:
    """Queries a second of the tagger, and its ratio to the bare session and to torch.

    python benchmarks/bench_tagger.py --threads 2
    """
    records = open_records(QUERIES)
    texts = [str(row["query"]) for _, row in records]
    tagger = open_tagger(folder, threads=threads)
    for size in batch or [1, 64]:

        def tag(size: int = size) -> None:
            for start in range(0, len(texts), size):
                tagger.tag(texts[start : start + size])

        ways: dict[str, Callable[[], None]] = {"tagger": tag, "session": bare(tagger, texts, size)}
        if body := torch_body(folder, texts, size, threads):
            ways["torch"] = body
        seconds = timed(ways)
        line = f"batch {size:>3}: {len(texts) / seconds['tagger']:>6,.0f} queries/s"
        line += f"; the bare session takes {seconds['session'] / seconds['tagger']:.2f} of the time"
        if "torch" in seconds:
            line += f"; torch in float32 {seconds['torch'] / seconds['tagger']:.1f} times as long"
        print(f"{line} ({len(texts)} queries, {threads} threads, best of {ROUNDS})")


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_tagger.py"))
