"""What a report shows, gathered from a store: counts over everything, and cards and queries of a bounded sample.

Everything here is plain values for a template. Texts stay as they are in the store, hostile or not: escaping is the
template's part (`jobs.report`). Memory follows the sample, but for the ids and keys of the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from jobs.plan import Run, read_runs
from jobs.report_cards import SMALL_PX, Card, SourceMark, build_card, clip, source_mark, thumbnail
from lore_mm.tables import KEYS
from stores.features import FeatureStore

__all__ = ["Agreement", "Candidate", "QueryView", "ReportData", "Step", "TableCount", "gather"]

GRADES = ("L1", "L2", "L3", "L4")
_COUNTED = ("items", "attributes", "embeddings", "demands", "judgments")
_SHOWN = ("items", "attributes", "embeddings", "queries", "demands", "judgments", "labels")  # in the order of work
_MOST_CANDIDATES = 30  # shown of one query
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
class Step:
    """One leg of a path, in words."""

    dimension: str
    demand: str
    negated: bool
    head: bool
    implied: bool
    why: str | None
    attribute: str
    found: tuple[str, ...]
    sources: tuple[SourceMark, ...]
    quote: str | None
    relation: str
    level: str | None
    rule_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One judged item of a query. `agreement`: same | near (same side of the line) | apart | None without a label."""

    item_id: str
    title: str
    grade: str | None
    score: float | None
    probabilities: tuple[float, ...]
    failed_dimensions: tuple[str, ...]
    error: str | None
    steps: tuple[Step, ...]
    label: str | None
    label_reason: str | None
    agreement: str | None


@dataclass(frozen=True, slots=True)
class QueryView:
    """A query with its judged items, best first."""

    query_id: str
    text: str
    kind: str | None
    split: str | None
    corrections: tuple[tuple[str, str], ...]
    demands: tuple[tuple[str, str], ...]
    error: str | None
    candidates: tuple[Candidate, ...]
    n_candidates: int

    @property
    def apart(self) -> int:
        """How many candidates lie on the other side of the line than their label."""
        return sum(c.agreement == "apart" for c in self.candidates)

    @property
    def labelled(self) -> int:
        """How many candidates have a label."""
        return sum(c.label is not None for c in self.candidates)

    @property
    def same(self) -> int:
        """How many candidates have the grade of their label."""
        return sum(c.agreement == "same" for c in self.candidates)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Judgments against labels over the whole store, not the sample. `matrix[label][grade]`; grade – is not judged."""

    n: int
    same: int
    same_side: int
    matrix: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ReportData:
    """All of a report."""

    store: str
    counts: tuple[TableCount, ...]
    makers: tuple[Maker, ...]
    runs: tuple[Run, ...]
    grades: Mapping[str, int]
    mode: str | None
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
    mode, judgments = _judgments(frames)
    labels = frames.get("labels")
    agreement = _agreement(judgments, labels)
    query_views, n_queries = _queries(frames, judgments, labels, queries)
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


def _spread(ids: Sequence[str], most: int) -> list[str]:
    """At most `most` of the ids, evenly spread, in their order."""
    if len(ids) <= most:
        return list(ids)
    return [ids[i * len(ids) // most] for i in range(most)]


def _cards(frames: Mapping[str, pl.LazyFrame], most: int) -> tuple[tuple[Card, ...], int]:
    if "items" not in frames:
        return (), 0
    known = frames["items"].select("item_id", "status").collect()
    failed = _failed_ids(frames, known)
    broken = [i for i in known["item_id"] if i in failed]
    sound = [i for i in known["item_id"] if i not in failed]
    first = _spread(broken, min(most, max(1, most // 10, most - len(sound))))
    rest = _spread(sound, most - len(first))
    chosen = [*first, *rest]
    rows = _rows(frames["items"], chosen)
    attributes: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    if "attributes" in frames:
        for row in _select(frames["attributes"], "item_id", chosen):
            attributes[row["item_id"]][row["extractor"]] = row
    return tuple(build_card(rows[i], attributes.get(i, {})) for i in chosen), len(known)


def _failed_ids(frames: Mapping[str, pl.LazyFrame], known: pl.DataFrame) -> set[str]:
    failed = set(known.filter(pl.col("status") == "failed")["item_id"])
    if "attributes" in frames:
        merged = frames["attributes"].filter((pl.col("extractor") == "merge") & (pl.col("status") == "failed"))
        failed |= set(merged.select("item_id").collect()["item_id"])
    return failed


def _select(frame: pl.LazyFrame, column: str, values: Iterable[str]) -> list[dict[str, Any]]:
    wanted = pl.Series(list(values), dtype=pl.String)
    return frame.filter(pl.col(column).is_in(wanted.implode())).collect().to_dicts()


def _rows(frame: pl.LazyFrame, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in _select(frame, "item_id", ids)}


def _thumbnails(frames: Mapping[str, pl.LazyFrame], ids: set[str]) -> dict[str, str]:
    if "items" not in frames:
        return {}
    found = {}
    for item_id, row in _rows(frames["items"].select("item_id", "images", "image_root", "status"), ids).items():
        uri, _ = thumbnail(row, SMALL_PX)
        if uri:
            found[item_id] = uri
    return found


# --- queries ---


def _judgments(frames: Mapping[str, pl.LazyFrame]) -> tuple[str | None, pl.LazyFrame | None]:
    """The judgments of the mode that was used last; a store may hold those of several judges."""
    if "judgments" not in frames:
        return None, None
    made = pl.col("provenance").struct.field("made_at").max().alias("made")
    modes = frames["judgments"].group_by("mode").agg(made).sort("made", "mode").collect()
    if modes.is_empty():
        return None, None
    mode = modes["mode"][-1]
    return mode, frames["judgments"].filter(pl.col("mode").eq_missing(pl.lit(mode)))


def _agreement(judgments: pl.LazyFrame | None, labels: pl.LazyFrame | None) -> Agreement | None:
    if judgments is None or labels is None:
        return None
    keys = list(KEYS["labels"])
    pairs = labels.select(*keys, label="grade").join(judgments.select(*keys, "grade"), on=keys)
    counted = pairs.group_by("label", "grade").len().collect()
    matrix = {label: dict.fromkeys((*GRADES, "–"), 0) for label in GRADES}
    for label, grade, n in counted.iter_rows():
        if label in matrix:
            matrix[label][grade if grade in GRADES else "–"] += int(n)
    cells = [(label, grade, n) for label, row in matrix.items() for grade, n in row.items()]
    n = sum(c for _, _, c in cells)
    same = sum(c for label, grade, c in cells if label == grade)
    same_side = sum(c for label, grade, c in cells if grade != "–" and (label >= "L3") == (grade >= "L3"))
    return Agreement(n, same, same_side, matrix) if n else None


def _queries(
    frames: Mapping[str, pl.LazyFrame],
    judgments: pl.LazyFrame | None,
    labels: pl.LazyFrame | None,
    most: int,
) -> tuple[tuple[QueryView, ...], int]:
    if judgments is None:
        return (), 0
    ids = judgments.select("query_id").unique(maintain_order=True).collect()["query_id"].to_list()
    chosen = _spread(ids, most)
    told = {r["query_id"]: r for r in _select(frames["queries"], "query_id", chosen)} if "queries" in frames else {}
    understood = (
        {r["query_id"]: r for r in _select(frames["demands"], "query_id", chosen)} if "demands" in frames else {}
    )
    graded: dict[tuple[str, str], Mapping[str, Any]] = {}
    if labels is not None:
        graded = {(r["query_id"], r["item_id"]): r for r in _select(labels, "query_id", chosen)}
    by_query: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _select(judgments, "query_id", chosen):
        by_query[row["query_id"]].append(row)
    titles: dict[str, str] = {}
    if "items" in frames:
        shown = {row["item_id"] for rows in by_query.values() for row in _ranked(rows)[:_MOST_CANDIDATES]}
        titles = {i: r["title"] for i, r in _rows(frames["items"].select("item_id", "title"), shown).items()}
    views = [_query(q, by_query[q], told.get(q, {}), understood.get(q, {}), graded, titles) for q in chosen]
    return tuple(views), len(ids)


def _ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Best first: by score, then by grade, then by id; pairs that could not be judged come last."""
    return sorted(rows, key=lambda r: (-(r["score"] if r["score"] is not None else -1.0), r["item_id"]))


def _query(
    query_id: str,
    rows: list[dict[str, Any]],
    told: Mapping[str, Any],
    understood: Mapping[str, Any],
    graded: Mapping[tuple[str, str], Mapping[str, Any]],
    titles: Mapping[str, str],
) -> QueryView:
    candidates = [
        _candidate(row, graded.get((query_id, row["item_id"])), titles.get(row["item_id"]) or row["item_id"])
        for row in _ranked(rows)[:_MOST_CANDIDATES]
    ]
    return QueryView(
        query_id=query_id,
        text=clip(told.get("query") or understood.get("query") or rows[0]["query"] or query_id, 300),
        kind=told.get("kind"),
        split=told.get("split"),
        corrections=tuple((c["typed"], c["read"]) for c in understood.get("corrections") or ()),
        demands=tuple((d["dimension"] or "", _demand_words(d)) for d in understood.get("demands") or ()),
        error=understood.get("error"),
        candidates=tuple(candidates),
        n_candidates=len(rows),
    )


def _candidate(row: Mapping[str, Any], label: Mapping[str, Any] | None, title: str) -> Candidate:
    grade, wanted = row["grade"], label["grade"] if label else None
    agreement = None
    if wanted is not None:
        if grade == wanted:
            agreement = "same"
        else:
            agreement = "near" if grade is not None and (grade >= "L3") == (wanted >= "L3") else "apart"
    return Candidate(
        item_id=row["item_id"],
        title=clip(title, 200),
        grade=grade,
        score=row["score"],
        probabilities=tuple(row["probabilities"] or ()),
        failed_dimensions=tuple(row["failed_dimensions"] or ()),
        error=row["error"],
        steps=tuple(_step(leg) for leg in row["legs"] or ()),
        label=wanted,
        label_reason=label["reason"] if label else None,
        agreement=agreement,
    )


def _demand_words(demand: Mapping[str, Any]) -> str:
    words = clip(demand["value"] or demand["canonical"] or "", 120)
    canonical = demand["canonical"]
    if canonical and canonical.casefold() != words.casefold():
        words = f"{words} = {clip(canonical, 80)}"
    return f"not {words}" if demand["polarity"] == -1 or demand["op"] == "not" else words


def _step(leg: Mapping[str, Any]) -> Step:
    demand = leg["demand"] or {}
    evidence = leg["evidence"] or []
    marks = {mark.kind: mark for mark in (source_mark(e["source"] or "") for e in evidence)}
    return Step(
        dimension=demand.get("dimension") or "",
        demand=_demand_words({**demand, "polarity": 1, "op": "eq"}) if demand else "",
        negated=demand.get("polarity") == -1 or demand.get("op") == "not",
        head=demand.get("role") == "head",
        implied=bool(demand.get("latent")),
        why=clip(demand["why"], 200) if demand.get("why") else None,
        attribute=leg["attribute"] or "",
        found=tuple(clip(f, 80) for f in (leg["found"] or ())[:6]),
        sources=tuple(marks.values()),
        quote=next((clip(e["quote"], 120) for e in evidence if e["quote"]), None),
        relation=(leg["relation"] or "").replace("_", " "),
        level=leg["level"],
        rule_id=leg["rule_id"],
        reason=clip(leg["reason"] or "", 300),
    )
