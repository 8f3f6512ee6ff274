"""What a report shows, gathered from a store: counts over everything, and cards and queries of a bounded sample.

Everything here is plain values for a template. Texts stay as they are in the store, hostile or not: escaping is the
template's part (`jobs.report`). Memory follows the sample, but for the ids and keys of the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from jobs.plan import Run, read_runs
from jobs.report_cards import SMALL_PX, Card, build_card, thumbnail
from jobs.report_queries import (
    Agreement,
    QueryView,
    build_agreement,
    build_queries,
    modes_of,
    newest_judgments,
    rows_by_id,
    select_rows,
    spread,
)
from stores.features import FeatureStore

__all__ = ["Maker", "ReportData", "TableCount", "gather"]

_COUNTED = ("items", "attributes", "embeddings", "demands", "judgments")
_SHOWN = ("items", "attributes", "embeddings", "queries", "demands", "judgments", "labels")  # in the order of work
_MOST_MAKERS = 20


@dataclass(frozen=True, slots=True)
class TableCount:
    """The newest rows of one table by status, and the version it was read at."""

    table: str
    version: int
    rows: int
    ok: int
    failed: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Maker:
    """Which settings made how many of a table's newest rows. Shas are shortened to 12 digits."""

    table: str
    maker: str
    settings_sha: str
    run_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class ReportData:
    """All of a report."""

    store: str
    counts: tuple[TableCount, ...]
    makers: tuple[Maker, ...]
    runs: tuple[Run, ...]
    grades: Mapping[str, int]
    mode: str | None
    modes: Mapping[str, int]  # mode → judgments in the store; shown are those of `mode`
    agreement: Agreement | None
    cards: tuple[Card, ...]
    n_items: int
    queries: tuple[QueryView, ...]
    n_queries: int
    thumbnails: Mapping[str, str] = field(default_factory=dict)  # item_id → data URI, small, for the queries' rows


def gather(store: FeatureStore, items: int = 200, queries: int = 200) -> ReportData:
    """Read a store for its report: at most `items` cards and `queries` queries, spread evenly over what there is.

    Failed items come first, up to a tenth of the cards, since they are what a reader has to see.

    Raises:
        StoreError: a table cannot be read.
    """
    versions = store.snapshot()
    frames = {name: store.latest(name, version) for name, version in versions.items()}
    mode, judgments = newest_judgments(frames)
    labels = frames.get("labels")
    agreement = build_agreement(judgments, labels)
    query_views, n_queries = build_queries(frames, judgments, labels, queries)
    cards, n_items = _cards(frames, items)
    thumbnails = _thumbnails(frames, {c.item_id for q in query_views for c in q.candidates})
    grades: dict[str, int] = {}
    if judgments is not None:
        counted = judgments.group_by("grade").len().collect()
        grades = {grade or "–": n for grade, n in sorted(counted.iter_rows(), key=lambda r: r[0] or "", reverse=True)}
    return ReportData(
        store=store.uri,
        counts=_counts(frames, versions),
        makers=_makers(frames),
        runs=tuple(reversed(read_runs(store))),
        grades=grades,
        mode=mode,
        modes=modes_of(frames.get("judgments")),
        agreement=agreement,
        cards=cards,
        n_items=n_items,
        queries=query_views,
        n_queries=n_queries,
        thumbnails=thumbnails,
    )


# --- counts ---


def _counts(frames: Mapping[str, pl.LazyFrame], versions: Mapping[str, int]) -> tuple[TableCount, ...]:
    found = []
    for name in _SHOWN:
        if name not in frames:
            continue
        if name not in _COUNTED:
            rows = int(frames[name].select(pl.len()).collect().item())
            found.append(TableCount(name, versions[name], rows, rows, 0, 0))
            continue
        frame = frames[name].filter(pl.col("extractor") == "merge") if name == "attributes" else frames[name]
        by_status = dict(frame.group_by("status").len().collect().iter_rows())
        ok, failed, skipped = (int(by_status.get(status, 0)) for status in ("ok", "failed", "skipped"))
        found.append(TableCount(name, versions[name], ok + failed + skipped, ok, failed, skipped))
    return tuple(found)


def _makers(frames: Mapping[str, pl.LazyFrame]) -> tuple[Maker, ...]:
    found = []
    names = ("maker", "settings_sha", "run_id")
    for table in _COUNTED:
        if table in frames:
            parts = [pl.col("provenance").struct.field(name).fill_null("") for name in names]
            grouped = frames[table].select(*parts).group_by(*names).len().sort("len", descending=True)
            for maker, sha, run_id, rows in grouped.head(_MOST_MAKERS).collect().iter_rows():
                found.append(Maker(table, maker, sha[:12], run_id, int(rows)))
    return tuple(found)


# --- cards ---


def _cards(frames: Mapping[str, pl.LazyFrame], most: int) -> tuple[tuple[Card, ...], int]:
    if "items" not in frames:
        return (), 0
    known = frames["items"].select("item_id", "status").collect()
    failed = _failed_ids(frames, known)
    broken = [i for i in known["item_id"] if i in failed]
    sound = [i for i in known["item_id"] if i not in failed]
    first = spread(broken, min(most, max(1, most // 10, most - len(sound))))
    rest = spread(sound, most - len(first))
    chosen = [*first, *rest]
    rows = rows_by_id(frames["items"], chosen)
    attributes: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    if "attributes" in frames:
        for row in select_rows(frames["attributes"], "item_id", chosen):
            attributes[row["item_id"]][row["extractor"]] = row
    return tuple(build_card(rows[i], attributes.get(i, {})) for i in chosen), len(known)


def _failed_ids(frames: Mapping[str, pl.LazyFrame], known: pl.DataFrame) -> set[str]:
    failed = set(known.filter(pl.col("status") == "failed")["item_id"])
    if "attributes" in frames:
        merged = frames["attributes"].filter((pl.col("extractor") == "merge") & (pl.col("status") == "failed"))
        failed |= set(merged.select("item_id").collect()["item_id"])
    return failed


def _thumbnails(frames: Mapping[str, pl.LazyFrame], ids: set[str]) -> dict[str, str]:
    if "items" not in frames:
        return {}
    found = {}
    for item_id, row in rows_by_id(frames["items"].select("item_id", "images", "image_root", "status"), ids).items():
        uri, _ = thumbnail(row, SMALL_PX)
        if uri:
            found[item_id] = uri
    return found
