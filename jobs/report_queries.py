"""The judged queries of a report: their items best first, each with its path in words, beside the labels.

Plain values for a template; texts are cut to a readable length but otherwise as hostile as they came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from jobs.report_cards import SourceMark, clip, in_words, source_mark
from lore_mm.rows import judgment_from_row
from lore_mm.tables import KEYS
from relevance.show import notes

__all__ = [
    "Agreement",
    "Candidate",
    "QueryView",
    "Step",
    "build_agreement",
    "build_queries",
    "modes_of",
    "newest_judgments",
    "rows_by_id",
    "select_rows",
    "spread",
]

GRADES = ("L1", "L2", "L3", "L4")
_MOST_CANDIDATES = 30  # shown of one query


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
    notes: tuple[str, ...]  # what else the judge said, where it was not of one mind
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


# --- taking a sample ---


def spread(ids: Sequence[str], most: int) -> list[str]:
    """At most `most` of the ids, evenly spread, in their order."""
    if len(ids) <= most:
        return list(ids)
    return [ids[i * len(ids) // most] for i in range(most)]


def select_rows(frame: pl.LazyFrame, column: str, values: Iterable[str]) -> list[dict[str, Any]]:
    """The rows whose column holds one of the values."""
    wanted = pl.Series(list(values), dtype=pl.String)
    return frame.filter(pl.col(column).is_in(wanted.implode())).collect().to_dicts()


def rows_by_id(frame: pl.LazyFrame, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows of these items, by item_id."""
    return {row["item_id"]: row for row in select_rows(frame, "item_id", ids)}


# --- judgments ---


def newest_judgments(frames: Mapping[str, pl.LazyFrame]) -> tuple[str | None, pl.LazyFrame | None]:
    """The judgments of the mode that was used last; a store may hold those of several judges."""
    if "judgments" not in frames:
        return None, None
    made = pl.col("provenance").struct.field("made_at").max().alias("made")
    modes = frames["judgments"].group_by("mode").agg(made).sort("made", "mode").collect()
    if modes.is_empty():
        return None, None
    mode = modes["mode"][-1]
    return mode, frames["judgments"].filter(pl.col("mode").eq_missing(pl.lit(mode)))


def modes_of(judgments: pl.LazyFrame | None) -> dict[str, int]:
    """Mode → how many judgments a store holds of it."""
    if judgments is None:
        return {}
    return dict(judgments.group_by(pl.col("mode").fill_null("–")).len().sort("mode").collect().iter_rows())


def build_agreement(judgments: pl.LazyFrame | None, labels: pl.LazyFrame | None) -> Agreement | None:
    """Count all pairs that are both judged and labelled; None where there are none."""
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


def build_queries(
    frames: Mapping[str, pl.LazyFrame],
    judgments: pl.LazyFrame | None,
    labels: pl.LazyFrame | None,
    most: int,
) -> tuple[tuple[QueryView, ...], int]:
    """Views of at most `most` judged queries, evenly spread, and how many judged queries there are."""
    if judgments is None:
        return (), 0
    ids = judgments.select("query_id").unique(maintain_order=True).collect()["query_id"].to_list()
    chosen = spread(ids, most)
    told = _by_query(frames.get("queries"), chosen)
    understood = _by_query(frames.get("demands"), chosen)
    graded: dict[tuple[str, str], Mapping[str, Any]] = {}
    if labels is not None:
        graded = {(r["query_id"], r["item_id"]): r for r in select_rows(labels, "query_id", chosen)}
    by_query: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in select_rows(judgments, "query_id", chosen):
        by_query[row["query_id"]].append(row)
    titles: dict[str, str] = {}
    if "items" in frames:
        shown = {row["item_id"] for rows in by_query.values() for row in _ranked(rows)[:_MOST_CANDIDATES]}
        titles = {i: r["title"] for i, r in rows_by_id(frames["items"].select("item_id", "title"), shown).items()}
    views = [_view(q, by_query[q], told.get(q, {}), understood.get(q, {}), graded, titles) for q in chosen]
    return tuple(views), len(ids)


def _by_query(frame: pl.LazyFrame | None, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {} if frame is None else {row["query_id"]: row for row in select_rows(frame, "query_id", ids)}


def _ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Best first by score, equals by id; pairs that could not be judged come last."""
    return sorted(rows, key=lambda r: (-(r["score"] if r["score"] is not None else -1.0), r["item_id"]))


def _view(
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
        error=understood.get("error") if understood.get("status") == "failed" else None,
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
        notes=tuple(notes(judgment_from_row(row))),
        steps=tuple(_step(leg) for leg in row["legs"] or ()),
        label=wanted,
        label_reason=label["reason"] if label else None,
        agreement=agreement,
    )


def _demand_words(demand: Mapping[str, Any]) -> str:
    words = clip(demand["value"] or demand["canonical"] or "", 120)
    meant = in_words(demand["dimension"], demand["canonical"] or "")
    if meant and meant.casefold() != words.casefold():
        words = f"{words} ({clip(meant, 80)})"
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
        found=tuple(clip(in_words(demand.get("dimension"), f), 80) for f in (leg["found"] or ())[:6]),
        sources=tuple(marks.values()),
        quote=next((clip(e["quote"], 120) for e in evidence if e["quote"]), None),
        relation=(leg["relation"] or "").replace("_", " "),
        level=leg["level"],
        rule_id=leg["rule_id"],
        reason=clip(leg["reason"] or "", 300),
    )
