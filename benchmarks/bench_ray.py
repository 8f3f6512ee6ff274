"""What `--run-on ray` costs and gives on one machine: the same jobs here and there, in one run.

    python benchmarks/bench_ray.py                       # 20,000 rows of a trivial job, then 2,048 pictures
    python benchmarks/bench_ray.py --rows 4000 --pictures 256 --workers 2

`open_s` is the start of the cluster and of the engines, paid once a run; rates are rows a second of the clock without
it. Only where a model is slower than the way to it does a second machine help: the rates of the trivial job are that of
the way itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

sys.path.insert(0, str(Path(__file__).parent))  # workers import this file by its name
from bench_jobs import PHOTOS, Trivial

from jobs.extract_items import extract_items
from jobs.ingest import ingest_items
from jobs.openers import opened
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.console import command_app, print_json, run
from lore_mm.tables import QUERIES
from stores.features import FeatureStore, open_store


@dataclass(frozen=True)
class OpenTrivial:
    """The opener of the job that does next to nothing."""

    store: FeatureStore
    threads: int = 1
    loads_apart: bool = True

    @contextmanager
    def open(self) -> Iterator[Trivial]:
        """Nothing is opened."""
        yield Trivial(self.store)

    def facts(self, work: Trivial) -> Mapping[str, Any]:
        """None."""
        return {}

    def reading(self, facts: Mapping[str, Any], store: FeatureStore | None = None) -> Trivial:
        """The job itself."""
        return Trivial(store or self.store)


def trivial(folder: Path, rows: int, batch_rows: int, options: RunOptions) -> dict[str, Any]:
    """The trivial job over queries."""
    store = open_store(folder, create=True)
    queries = [{"query_id": f"q{i:08}", "query": f"red shoes {i}"} for i in range(rows)]
    store.append("queries", pa.Table.from_pylist(queries, schema=QUERIES))
    began = time.perf_counter()
    with opened(OpenTrivial(store), store, options) as it:
        open_s, began = time.perf_counter() - began, time.perf_counter()
        run_job(store, it.work, elsewhere=it.elsewhere, batch_rows=batch_rows, **options)
        took = time.perf_counter() - began
    return {"open_s": round(open_s, 2), "rows_s": round(rows / took)}


def pictures(folder: Path, n: int, options: RunOptions) -> dict[str, Any]:
    """Palettes of `n` items with one photo each; with the start of the cluster, which a run of hours does not see."""
    catalogue, photos = folder / "catalogue", sorted((PHOTOS / "images").iterdir())
    catalogue.mkdir(parents=True)
    lines = [f'{{"item_id": "i{i}", "title": "Thing", "images": ["{photos[i % len(photos)].name}"]}}' for i in range(n)]
    (catalogue / "items.jsonl").write_text("\n".join(lines))
    for photo in photos:
        (catalogue / photo.name).write_bytes(photo.read_bytes())
    store = open_store(folder / "store", create=True)
    ingest_items(store, catalogue)
    began = time.perf_counter()
    extract_items(store, extractors=["palette"], batch_rows=64, **options)
    return {"rows_s_with_start": round(n / (time.perf_counter() - began), 1)}


def main(
    rows: Annotated[int, typer.Option(min=1, help="Rows of the trivial job.")] = 20_000,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows a micro-batch.")] = 1024,
    number: Annotated[int, typer.Option("--pictures", min=1, help="Items with a picture.")] = 2048,
    workers: Annotated[int, typer.Option(min=1, help="Engines on Ray.")] = 1,
) -> None:
    """Print rows a second, local and on a Ray cluster of this machine."""
    there: RunOptions = {"run_on": "ray", "workers": workers}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("local", RunOptions()), ("ray", there)):
            made = trivial(Path(folder) / f"trivial-{name}", rows, batch_rows, options)
            print_json({"what": "trivial", "where": name, "rows": rows, "batch_rows": batch_rows, **made})
        for name, options in (("local", RunOptions()), ("ray", there)):
            made = pictures(Path(folder) / f"pictures-{name}", number, options)
            print_json({"what": "palette", "where": name, "rows": number, **made})


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_ray.py"))
