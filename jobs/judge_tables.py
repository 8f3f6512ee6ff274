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
_MORE_NAMES = {
    "ndcg_10": "nDCG@10",
    "mrr": "MRR",
    "pass_1": "pass@1",
    "pass_8": "pass@8",
    "good_rate": "GoodRate",
    "ece_2": "ECE@2",
    "ece_4": "ECE@4",
}


def evaluation_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparison as rows for a reader: a system a row, a metric with its interval a cell."""
    judges = set(result.get("systems", ())) - set(result["baselines"])
    systems = {f"judge ({name})": result["systems"][name] for name in result.get("systems", ()) if name in judges}
    systems = systems or {"judge (rules)": result}
    measured = [one["metrics"] for one in (*systems.values(), *result["baselines"].values())]
    names = METRIC_NAMES | {
        metric: title for metric, title in _MORE_NAMES.items() if any(metric in one for one in measured)
    }
    return [
        {"": name if ":" in name or name in systems else name.replace("_", " ")}
        | {"pairs": system["n"], "missing": system["missing"]}
        | {title: _cell(system["metrics"].get(metric)) for metric, title in names.items()}
        for name, system in {**systems, **result["baselines"]}.items()
    ]


def evaluation_tables(result: Mapping[str, Any]) -> list[object]:
    """The comparison, the differences, the slices, the confusion, the levels one by one; and people, if any."""
    from rich.box import SIMPLE
    from rich.table import Table

    rows = evaluation_rows(result)
    # a system a column: four systems with their intervals fit a terminal of 80 columns, seven metrics do not
    comparison = Table("", *(row[""] for row in rows), title="95 % intervals over queries", box=SIMPLE)
    for name in list(rows[0])[1:]:
        comparison.add_row(name, *(str(row[name]).replace(", ", "–") for row in rows))
    slices = Table("slice", "pairs", *METRIC_NAMES.values(), title="the judge by slice", box=SIMPLE)
    for kind, part in result["slices"].items():
        values = [part["metrics"][metric]["value"] for metric in METRIC_NAMES]
        slices.add_row(kind, str(part["n"]), *(_short(v) for v in values))
    matrix = Table("true \\ given", "L1", "L2", "L3", "L4", title="the judge's grades", box=SIMPLE)
    for i, counts in enumerate(result["confusion"], 1):
        matrix.add_row(f"L{i}", *map(str, counts))
    return [comparison, *_differences(result), slices, matrix, *_more(result), *_necessity(result)]


_COMPARED = {"acc_2": "acc@2", "macro_f1": "macro-F1", "quadratic_kappa": "kappa²", "ndcg_10": "nDCG@10"}


def _differences(result: Mapping[str, Any]) -> list[object]:
    """The first judge minus each other system; a star where the interval excludes zero."""
    from rich.box import SIMPLE
    from rich.table import Table

    told = {name: one["difference"] for name, one in result.get("systems", {}).items() if "difference" in one}
    if not told:
        return []
    table = Table(f"{result['judge']} minus", *told, title="on the pairs that both judged; * excludes zero", box=SIMPLE)
    for metric, title in _COMPARED.items():
        table.add_row(title, *(_narrow(one.get(metric), "+.2f") + _star(one.get(metric)) for one in told.values()))
    return [table]


def _narrow(estimate: Mapping[str, float | None] | None, form: str = ".2f") -> str:
    return _cell(estimate, form).replace(", ", "–")


def _star(one: Mapping[str, float | None] | None) -> str:
    low, high = (one["low"], one["high"]) if one else (None, None)
    return "*" if low is not None and high is not None and (low > 0 or high < 0) else ""


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


def _necessity(result: Mapping[str, Any]) -> list[object]:
    """What judges make of text alone, pictures alone and both, on the pairs with pictures."""
    from rich.box import SIMPLE
    from rich.table import Table

    tables: list[object] = []
    for name, one in result.get("visual_necessity", {}).items():
        names = METRIC_NAMES | {"ndcg_10": "nDCG@10"}
        table = Table("", "text", "image", "both", "text − both", title=f"{name}: {one['note']}", box=SIMPLE)
        for metric, told in names.items():
            minus = one["text_minus_both"][metric]
            values = (_narrow(one[side]["metrics"][metric]) for side in ("text", "image", "both"))
            table.add_row(told, *values, _narrow(minus, "+.2f") + _star(minus))
        table.add_row("pairs", *(str(one[side]["n"]) for side in ("text", "image", "both")), "")
        for share, told in (
            ("only_picture", "only the picture settles"),
            ("misled_by_picture", "the picture misleads"),
        ):
            table.add_row(told, "", "", _narrow(one[share]["level"]), "")
        tables.append(table)
    return tables


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cell(estimate: Mapping[str, float | None] | None, form: str = ".2f") -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    low, high = (estimate[k] if estimate[k] is not None else float("nan") for k in ("low", "high"))
    return f"{estimate['value']:{form}} [{low:.2f}, {high:.2f}]"
