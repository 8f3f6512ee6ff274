"""Measured judges as tables for a terminal of 80 columns, and as rows for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["METRIC_NAMES", "evaluation_rows", "evaluation_tables"]

METRIC_NAMES = {
    "acc_2": "acc@2",
    "acc_4": "acc@4",
    "macro_f1": "macro-F1",
    "quadratic_kappa": "kappa²",
    "auc": "AUC",
}
_MORE_NAMES = {"ndcg_10": "nDCG@10", "mrr": "MRR", "good_rate": "GoodRate", "ece_2": "ECE@2", "ece_4": "ECE@4"}


def evaluation_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparison as rows for a reader: a system a row, a metric with its interval a cell."""
    judges = set(result.get("systems", ())) - set(result["baselines"])
    systems = {f"judge ({name})": result["systems"][name] for name in result.get("systems", ()) if name in judges}
    systems = systems or {"judge (rules)": result}
    names = METRIC_NAMES | {metric: title for metric, title in _MORE_NAMES.items() if metric in result["metrics"]}
    return [
        {"": name if name in systems else name.replace("_", " "), "pairs": system["n"], "missing": system["missing"]}
        | {title: _cell(system["metrics"].get(metric)) for metric, title in names.items()}
        for name, system in {**systems, **result["baselines"]}.items()
    ]


def evaluation_tables(result: Mapping[str, Any]) -> list[object]:
    """The comparison, the slices, the confusion; and where they were measured, the levels one by one, and people."""
    from rich.box import SIMPLE
    from rich.table import Table

    rows = evaluation_rows(result)
    # a system a column: four systems with their intervals fit a terminal of 80 columns, seven metrics do not
    comparison = Table("", *(row[""] for row in rows), title="95 % intervals over queries", box=SIMPLE)
    for name in list(rows[0])[1:]:
        comparison.add_row(name, *(str(row[name]).replace(", ", "–") for row in rows))
    by, title = ("slice", "the judge by slice") if "systems" in result else _BY_KIND
    slices = Table(by, "pairs", *METRIC_NAMES.values(), title=title, box=SIMPLE)
    for kind, part in result["slices"].items():
        values = [part["metrics"][metric]["value"] for metric in METRIC_NAMES]
        slices.add_row(kind, str(part["n"]), *(_short(v) for v in values))
    matrix = Table("true \\ given", "L1", "L2", "L3", "L4", title="the judge's grades", box=SIMPLE)
    for i, counts in enumerate(result["confusion"], 1):
        matrix.add_row(f"L{i}", *map(str, counts))
    return [comparison, slices, matrix, *_more(result)]


_BY_KIND = ("kind of query", "the judge by kind of query")


def _more(result: Mapping[str, Any]) -> list[object]:
    from rich.box import SIMPLE
    from rich.table import Table

    tables: list[object] = []
    if levels := result.get("levels"):
        table = Table("level", "true", "said", "precision", "recall", "F1", title="the judge by level", box=SIMPLE)
        for name, one in levels.items():
            shares = (_short(one[part]) for part in ("precision", "recall", "f1"))
            table.add_row(name, str(one["true"]), str(one["said"]), *shares)
        tables.append(table)
    if people := result.get("people"):
        table = Table("raters", "pairs", "acc@2", "acc@4", "kappa²", title="people among themselves", box=SIMPLE)
        for name, one in people.items():
            cells = (_cell(one["metrics"][metric]) for metric in ("acc_2", "acc_4", "quadratic_kappa"))
            table.add_row(name, str(one["n"]), *(cell.replace(", ", "–") for cell in cells))
        tables.append(table)
    return tables


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cell(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    low, high = (estimate[k] if estimate[k] is not None else float("nan") for k in ("low", "high"))
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}]"
