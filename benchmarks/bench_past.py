"""A store as it was: a moment among many commits, an item's history, and what changed, each beside its bare engine.

    python benchmarks/bench_past.py [ITEMS] [--commits N] [--changed N] [--attributes N]

Every ratio is measured in this one run, both sides taking turns, by the median processor time of five. A moment is
looked up beside the Delta library's own listing of the log; a history beside DuckDB on the bare Parquet files of the
same version; a small change beside the comparison of all rows.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from unittest.mock import patch

import duckdb
from bench_online import append, filled_store, processor_seconds, say
from deltalake import DeltaTable

from stores.differences import differences
from stores.features import FeatureStore, open_store
from stores.moments import versions_at
from stores.snapshot import Snapshot


def bench_moment(folder: Path, commits: int) -> None:
    """A moment in the middle of a log of many commits; each is one small append, but written by hand."""
    store = filled_store(folder, 20, 2)
    log = folder / "attributes" / "_delta_log"
    last = max(int(path.stem) for path in log.glob("*.json"))
    text = (log / f"{last:020}.json").read_text("utf-8")
    for version in range(last + 1, commits):
        (log / f"{version:020}.json").write_text(text, "utf-8")
    DeltaTable(str(folder / "attributes")).create_checkpoint()
    moment = f"attributes@{commits // 2}"
    assert versions_at(store, moment)["attributes"] == commits // 2
    ours, bare = processor_seconds(
        lambda: versions_at(store, moment), lambda: DeltaTable(str(folder / "attributes")).history()
    )
    say("as of a commit, beside DeltaTable.history", ours / bare, f"{commits:,} commits: {ours:.2f} s, {bare:.2f} s")


def bench_history(store: FeatureStore, item_id: str) -> None:
    """All rows ever written of one item, and the reasons; DuckDB reads the rows alone."""
    snapshot = Snapshot(store)
    listed = ", ".join(f"'{path}'" for path in store.files("attributes"))
    text = f"SELECT * FROM read_parquet([{listed}], union_by_name = true) WHERE item_id = '{item_id}'"
    assert duckdb.sql(text).to_arrow_table().num_rows >= 1
    ours, bare = processor_seconds(
        lambda: snapshot.history(item_id), lambda: duckdb.connect().sql(text).to_arrow_table()
    )
    rows = store.count("attributes")
    say("history of an item, beside DuckDB's rows", ours / bare, f"of {rows:,} rows: {ours:.3f} s, {bare:.3f} s")


def bench_changes(store: FeatureStore, old: Snapshot, changed: int) -> None:
    """The differences of a few changed items: by what the log tells, and by comparing everything."""
    new = Snapshot(store)

    def by_log() -> int:
        return sum(batch.num_rows for batch in differences(old, new))

    def by_all() -> int:
        with patch("stores.differences.touched_keys", lambda *_: None):
            return by_log()

    assert by_log() == by_all() > 0
    ours, bare = processor_seconds(by_log, by_all)
    detail = f"{changed:,} items of {store.count('items'):,} rows: {ours:.2f} s, {bare:.2f} s"
    say("what changed, beside comparing all", ours / bare, detail)


def main() -> None:
    """Measure, and print a line a claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="?", type=int, default=200_000)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=1_000)
    parser.add_argument("--attributes", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench_moment(Path(folder) / "log", asked.commits)
        store = filled_store(Path(folder) / "store", asked.items, asked.attributes)
        old = Snapshot(open_store(store.uri))
        middle = asked.items // 2
        append(store, range(middle, middle + asked.changed), asked.attributes - 1, "gadget")
        bench_history(store, f"item-{middle}")
        bench_changes(store, old, asked.changed)


if __name__ == "__main__":
    main()
