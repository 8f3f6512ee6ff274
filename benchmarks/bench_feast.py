"""The online view beside Feast's online read: the same rows and fields, in the same run, taking turns.

    python -m venv /tmp/feast-venv
    /tmp/feast-venv/bin/pip install feast
    python benchmarks/bench_feast.py --feast-python /tmp/feast-venv/bin/python [ITEMS]

Feast stands in an environment of its own, because what it pins does not go with what lore-mm needs. It is driven with
its own embedded default, the online store in SQLite, through `FeatureStore.get_online_features(...).to_dict()`; lore-mm
through `Snapshot.get` and a dictionary of the same fields. Both are checked to give the same values. One id a call, and
a hundred a call; each figure is the median of all calls of five turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bench_online import filled_store, item, say, verdict

from lore_mm.types import ItemFeatures
from stores.online_write import build_online
from stores.snapshot import Snapshot

TURNS = 5
FIELDS = ("title", "description", "brand", "price", "color", "color_share", "height", "height_unit")
FEAST = """
import json, sys, time
from datetime import datetime, timedelta
from pathlib import Path
import pandas as pd
import feast
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String

folder = Path(sys.argv[1])
online = {"type": "sqlite", "path": str(folder / "online.db")}
config = RepoConfig(
    project="bench", provider="local", registry=str(folder / "registry.db"), online_store=online,
    entity_key_serialization_version=3,
)
store = FeatureStore(config=config)
rows = pd.read_parquet(folder / "rows.parquet")
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
kinds = {"price": Float64, "color_share": Float64, "height": Float64}
names = [name for name in rows.columns if name not in ("item_id", "at")]
view = FeatureView(
    name="items", entities=[item], ttl=timedelta(0), online=True,
    schema=[Field(name=name, dtype=kinds.get(name, String)) for name in names],
    source=FileSource(path=str(folder / "rows.parquet"), timestamp_field="at"),
)
store.apply([item, view])
for start in range(0, len(rows), 5_000):
    store.write_to_online_store("items", rows[start : start + 5_000])
features = [f"items:{name}" for name in names]
print(json.dumps({"version": feast.__version__}), flush=True)
for line in sys.stdin:
    calls = json.loads(line)
    taken, answers = [], []
    for ids in calls:
        begun = time.perf_counter()
        answer = store.get_online_features(features=features, entity_rows=[{"item_id": i} for i in ids]).to_dict()
        taken.append(time.perf_counter() - begun)
        answers.append(answer)
    print(json.dumps({"seconds": taken, "first": answers[0]}), flush=True)
"""


def fields_of(found: ItemFeatures) -> dict[str, Any]:
    """One row as Feast holds it."""
    color, height = found.attributes
    told = found.item
    return {
        "title": told.title,
        "description": told.description,
        "brand": told.brand,
        "price": told.price,
        "color": color.value,
        "color_share": color.share,
        "height": height.number,
        "height_unit": height.unit,
    }


def rows_of(n: int) -> pa.Table:
    """All rows, flat."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = (ItemFeatures(item(i), verdict(i, 2)) for i in range(n))
    made = [{"item_id": one.item.item_id, "at": at, **fields_of(one)} for one in found]
    return pa.Table.from_pylist(made)


class Feast:
    """A process with Feast in it."""

    def __init__(self, python: str, folder: Path, n: int) -> None:
        pq.write_table(rows_of(n), folder / "rows.parquet")
        program = folder / "with_feast.py"
        program.write_text(FEAST)
        environment = os.environ | {"FEAST_USAGE": "False", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [python, str(program), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.version = self._answer()["version"]

    def read(self, calls: list[list[str]]) -> tuple[list[float], dict[str, list[Any]]]:
        """The seconds of each call, and what the first one gave."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(calls) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["first"]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # it may talk
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit("Feast ended without an answer; its words are above")


def ours(snapshot: Snapshot) -> Callable[[list[list[str]]], tuple[list[float], dict[str, list[Any]]]]:
    """As `Feast.read`, through a snapshot."""

    def read(calls: list[list[str]]) -> tuple[list[float], dict[str, list[Any]]]:
        taken, first = [], None
        for ids in calls:
            begun = time.perf_counter()
            rows = [fields_of(found) for found in snapshot.get(ids) if found is not None]
            answer = {"item_id": ids} | {name: [row[name] for row in rows] for name in FIELDS}
            taken.append(time.perf_counter() - begun)
            first = first or answer
        return taken, first or {}

    return read


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="?", type=int, default=10_000)
    parser.add_argument("--feast-python", required=True, help="the Python of an environment that has Feast")
    asked = parser.parse_args()
    n, lots = asked.items, random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = filled_store(folder / "store", n, 2)
        build_online(store)
        mine, feast = ours(Snapshot(store)), Feast(asked.feast_python, folder, n)
        for a_call, calls in ((1, 200), (100, 20)):
            taken: list[list[float]] = [[], []]
            for _ in range(TURNS):
                ids = [[f"item-{i}" for i in lots.choices(range(n), k=a_call)] for _ in range(calls)]
                answers = []
                for side, read in enumerate((mine, feast.read)):
                    seconds, first = read(ids)
                    taken[side] += seconds
                    answers.append(first)
                if answers[0] != answers[1]:
                    raise SystemExit(f"they give other values:\n{answers[0]}\n{answers[1]}")
            here, there = (statistics.median(one) for one in taken)
            detail = f"{n} rows, {a_call} ids a call: {here * 1e6:,.1f} µs, Feast {feast.version} {there * 1e6:,.0f} µs"
            say("online read of the same rows and fields / Feast's, times as fast", there / here, detail)
        feast.close()


if __name__ == "__main__":
    main()
