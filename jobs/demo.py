"""`lore demo`: everything, once, on the demo catalogue: from photos and titles to judged, explained, measured pairs.

Each step is the same function that the command of its name calls; nothing here is special to the demo but the folder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jobs.options import StoreAddress
from lore_mm.config import default_store
from lore_mm.console import command_app, print_table, run, say
from lore_mm.errors import InputError

__all__ = ["demo_folder", "main", "run_demo"]

TOP = 10  # items judged for each query, beside the labelled ones


def demo_folder() -> Path:
    """The folder of the demo catalogue: examples/demo in a checkout of the project.

    Raises:
        InputError: this is not a checkout.
    """
    folder = Path(__file__).resolve().parent.parent / "examples" / "demo"
    if not (folder / "items.jsonl").exists():
        raise InputError(f"no demo catalogue at {folder}: the demo runs in a checkout of the project")
    return folder


@contextmanager
def _step(title: str) -> Iterator[None]:
    say(f"── {title}")
    began = time.perf_counter()
    yield
    say(f"   {time.perf_counter() - began:.1f} s")


def run_demo(store: str, output: Path, folder: Path, embedder: str) -> None:
    """Run the whole path into `store` and write the report to `output`."""
    from jobs.embed_items import embed_items
    from jobs.evaluate_judge import evaluate_store, evaluation_rows, evaluation_tables
    from jobs.extract_items import extract_items
    from jobs.ingest import ingest_items, ingest_labels, ingest_queries
    from jobs.judge_pairs import judge_pairs
    from jobs.report import write_report
    from jobs.understand_queries import understand_queries
    from lore_mm.models import open_embedder
    from stores.features import open_store

    with _step("read the catalogue, the queries and the labels"):
        opened = open_store(store, create=True)
        ingest_items(opened, folder)
        ingest_queries(opened, folder / "queries.jsonl")
        ingest_labels(opened, folder / "labels.jsonl")
    with _step(f"open the embedder {embedder}"):
        model = open_embedder(embedder)
    with _step("extract attributes: given, palette, zero_shot, merge"):
        extract_items(opened, embedder=model)
    with _step("embed pictures and texts, build the index"):
        embed_items(opened, embedder=model)
    with _step("understand the queries"):
        understand_queries(opened)
    with _step(f"judge the labelled pairs, and each query's {TOP} nearest items"):
        judge_pairs(opened, labels=True)
        judge_pairs(opened, top=TOP, embedder=model)
    with _step("measure against the labels of split test"):
        result = evaluate_store(opened, split="test")
        print_table(evaluation_tables(result)[0])
        say("   by slice, and the confusion: lore evaluate judge --split test")
    with _step("write the report"):
        write_report(opened, output, evaluation=evaluation_rows(result))


def main(
    store: StoreAddress = None,
    output: Annotated[Path, typer.Option(help="The HTML report to write.")] = Path("report.html"),
    embedder: Annotated[str, typer.Option(help="The embedder, by address.")] = "open_clip:lore-clip-tiny",
) -> None:
    """Run everything on the demo catalogue: start here.

    Run again, it does only what has changed.

    Example: lore demo
    """
    began = time.perf_counter()
    run_demo(store or default_store(), output, demo_folder(), embedder)
    say(f"\ndone in {time.perf_counter() - began:.0f} s; open {output.resolve()} in a browser, then try")
    say('  lore judge --query "black running shoes under 100" --item runx-running-shoe --explain')
    say('  lore query --text "something green for the desk" --where "price < 20"')
    say('  lore understand "red nike running shoes size 42 without laces"')


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.demo"))
