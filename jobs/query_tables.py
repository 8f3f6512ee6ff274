"""Measured query engines as tables for a terminal of 100 columns, and their predictions for error analysis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.query_metrics import Measured
from jobs.query_scoring import QueryScore
from jobs.query_systems import Reading, Run
from lore_mm.bootstrap import Estimate
from lore_mm.datasets.query_sets import GoldDemand, GoldQuery
from lore_mm.datasets.queryner import Span, TaggedQuery
from lore_mm.types import Demand, Understanding

__all__ = ["example_rows", "prediction_rows", "query_rows", "query_tables", "save_rows"]

Labelled = TaggedQuery | GoldQuery
_TITLES = {
    "span_f1": "span F1",
    "span_precision": "span precision",
    "span_recall": "span recall",
    "macro_span_f1": "span F1, macro",
    "segmentation_f1": "segmentation F1",
    "demand_f1": "demand F1",
    "demand_precision": "demand precision",
    "demand_recall": "demand recall",
    "macro_demand_f1": "demand F1, macro",
    "located_f1": "located F1",
    "latent_precision": "latent precision",
    "latent_recall": "latent recall",
    "latent_f1": "latent F1",
    "head_accuracy": "head",
    "hard_type_accuracy": "hard type",
    "referent_accuracy": "referent",
    "strictness_accuracy": "strictness",
    "operator_accuracy": "operator",
    "number_accuracy": "number",
    "unit_accuracy": "unit",
    "correction_precision": "correction precision",
    "correction_recall": "correction recall",
    "unchanged_share": "left unchanged",
    "exact_accuracy": "whole query",
}
_PARTS = {"span": "type", "demand": "dimension"}  # what the parts of a family are


def query_tables(
    measured: Mapping[str, Measured],
    confusion: Mapping[str, Mapping[str, int]] | None = None,
    examples: Sequence[Mapping[str, str]] = (),
) -> list[object]:
    """The metrics, a system a column; F1 by type or dimension; the confusion of hard types; the worst queries."""
    from rich.box import SIMPLE
    from rich.table import Table

    systems = list(measured)
    first = measured[systems[0]]
    table = Table("", *systems, title=f"{first.n} queries, 95 % intervals over queries", box=SIMPLE)
    for metric, title in _TITLES.items():
        if metric in first.metrics:
            table.add_row(title, *(_cell(measured[name].metrics[metric]) for name in systems))
    table.add_row("failed", *(str(measured[name].failed) for name in systems))
    family = "demand" if "demand_f1" in first.metrics else "span"
    by_part = Table(_PARTS[family], "true", *systems, title=f"{family} F1 by {_PARTS[family]}", box=SIMPLE)
    for part in _parts(measured, family):
        there = [measured[name].parts.get(family, {}).get(part) for name in systems]
        true = max((one.true for one in there if one is not None), default=0)
        by_part.add_row(part, str(true), *("–" if one is None else _cell(one.metrics["f1"]) for one in there))
    tables: list[object] = [table, by_part]
    if confusion:
        said = sorted({name for row in confusion.values() for name in row})
        matrix = Table(
            "true \\ said",
            *(name.replace("_", "\n") for name in said),
            title=f"hard types said by {systems[0]}",
            box=SIMPLE,
        )
        for true_type, row in sorted(confusion.items()):
            matrix.add_row(true_type, *(str(row.get(name, "")) for name in said))
        tables.append(matrix)
    if examples:
        worst = Table(*examples[0], title=f"worst of {systems[0]}", box=SIMPLE, show_lines=True)
        for example in examples:
            worst.add_row(*(_text(cell) for cell in example.values()))
        tables.append(worst)
    return tables


def query_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `lore evaluate queries --json` printed, as rows for a reader: a metric a row, a system a cell."""
    metrics = [metric for metric in _TITLES if metric in result["metrics"]]
    return [
        {"": _TITLES[metric]} | {name: _told(system["metrics"][metric]) for name, system in result["systems"].items()}
        for metric in metrics
    ]


def example_rows(
    queries: Sequence[Labelled], run: Run[Any], scores: Sequence[QueryScore], n: int
) -> list[dict[str, str]]:
    """The n queries with the most false and missing things: query, what is true, what was said."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i].missed)
    return [
        {
            "query": queries[i].text,
            "true": "; ".join(map(_readable, _truth(queries[i]))) or "nothing",
            "said": scores[i].error or "; ".join(map(_readable, _said(queries[i].text, run.results[i]))) or "nothing",
        }
        for i in order[:n]
        if scores[i].missed or scores[i].error
    ]


def prediction_rows(
    queries: Sequence[Labelled],
    runs: Mapping[str, Run[Any]],
    scores: Mapping[str, Sequence[QueryScore]],
) -> Iterator[dict[str, Any]]:
    """Every system's result of every query beside the truth, as JSON-able rows."""
    for name, run in runs.items():
        for query, result, score in zip(queries, run.results, scores[name], strict=True):
            yield {
                "system": name,
                "query_id": query.query_id,
                "query": query.text,
                "true": _truth(query),
                "said": _said(query.text, result),
                **_whole(query, result),
                "exact": bool(score.shares["exact"].right),
                "missed": score.missed,
                "error": score.error,
            }


def save_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Rows as JSON lines, in place of what was there at one stroke; how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    n = 0
    with new.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            n += 1
    new.replace(path)
    return n


def _truth(query: Labelled) -> list[dict[str, Any]]:
    if isinstance(query, TaggedQuery):
        return [_span(query.text, span) for span in query.spans]
    return [_demand(query.text, one) for one in query.demands]


def _said(text: str, result: Reading | Understanding) -> list[dict[str, Any]]:
    if isinstance(result, Reading):
        return [_span(text, span) for span in sorted(result.spans)]
    return [_demand(text, one) for one in result.demands]


def _span(text: str, span: Span) -> dict[str, Any]:
    return {"type": span.type, "words": text[span.start : span.end], "start": span.start, "end": span.end}


def _demand(text: str, one: Demand | GoldDemand) -> dict[str, Any]:
    words = None if one.start is None else text[one.start : one.end]
    canonical = list(one.canonical) if isinstance(one.canonical, tuple) else one.canonical
    fields = ("op", "number", "number_high", "unit", "polarity", "strictness", "role", "latent")
    return {
        "dimension": one.dimension, "words": words, "start": one.start, "end": one.end, "canonical": canonical
    } | {name: getattr(one, name) for name in fields}  # fmt: skip


def _whole(query: Labelled, result: Reading | Understanding) -> dict[str, Any]:
    """What is told of the query as a whole, where the truth has it."""
    if isinstance(query, TaggedQuery) or isinstance(result, Reading):
        return {}
    names = ("hard_type", "referent", "normalized")
    return {name: {"true": getattr(query, name), "said": getattr(result, name)} for name in names}


def _readable(one: Mapping[str, Any]) -> str:
    """color: "navy blue" = navy, unwanted."""
    words = f'"{one["words"]}"' if one["words"] is not None else "implied"
    told = f"{one.get('type') or one['dimension']}: {words}"
    if "dimension" in one:
        given = one["canonical"]
        values = [str(v) for v in (given if isinstance(given, list) else [given]) if v is not None]
        told += f" = {' or '.join(values)}" if values else ""
        told += "" if one["number"] is None else f" {one['op']} {one['number']:g} {one['unit'] or ''}".rstrip()
        told += ", unwanted" if one["polarity"] < 0 else ""
        told += ", head" if one["role"] == "head" else ""
    return told


def _parts(measured: Mapping[str, Measured], family: str) -> list[str]:
    """The parts that any system has, those with most to find first."""
    true: dict[str, int] = {}
    for one in measured.values():
        for name, part in one.parts.get(family, {}).items():
            true[name] = max(part.true, true.get(name, 0))
    return sorted(true, key=lambda name: (-true[name], name))


def _cell(estimate: Estimate) -> str:
    if estimate.value != estimate.value:
        return "–"
    return f"{estimate.value:.3f} {estimate.low:.3f}–{estimate.high:.3f}"


def _told(estimate: Mapping[str, float | None]) -> str:
    if estimate["value"] is None:
        return "–"
    low, high = (estimate[k] if estimate[k] is not None else float("nan") for k in ("low", "high"))
    return f"{estimate['value']:.3f} [{low:.3f}, {high:.3f}]"


def _text(cell: str) -> Any:
    from rich.text import Text

    return Text(cell)  # a query's square brackets are no markup
