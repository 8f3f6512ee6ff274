"""Attacked judges as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["attack_tables"]

_RATES = ("changed", "raised", "lowered", "failed", "unchanged", "succeeded")


def attack_tables(result: Mapping[str, Any]) -> list[object]:
    """The judges side by side; of the first one the kinds, the places, and the worst examples."""
    from rich.box import SIMPLE
    from rich.table import Table

    judges = result["judges"]
    whole = Table("", *judges, title="attacks: share of grades, 95 % intervals", box=SIMPLE)
    whole.add_row("attacks judged", *(str(one["n"]) for one in judges.values()))
    for rate in _RATES:
        whole.add_row(rate, *(_cell(one["metrics"][rate]) for one in judges.values()))
    whole.add_row("mean change of score", *(_signed(one["score_change"]) for one in judges.values()))
    whole.add_row("harmless texts: changed", *(_cell(one["control"]["metrics"]["changed"]) for one in judges.values()))
    first = judges[result["judge"]]
    parts = Table("", "attacks", "raised", "lowered", "failed", "unchanged", "changed", "score", box=SIMPLE)
    parts.title = f"{result['judge']}: by family, kind and place"
    for part in ("family", "kind", "place"):
        for name, one in first["by"][part].items():
            counts = (str(one["counts"][key]) for key in ("raised", "lowered", "failed", "unchanged"))
            changed = _cell(one["metrics"]["changed"])
            parts.add_row(name, str(one["n"]), *counts, changed, _signed(one["score_change"]))
        parts.add_section()
    return [whole, parts, _examples(result["judge"], first["worst"])] if first["worst"] else [whole, parts]


def _examples(judge: str, worst: list[dict[str, Any]]) -> object:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "id", "kind, place", "pair", "grade", "score", "text", title=f"{judge}: what moved it most", box=SIMPLE
    )
    for one in worst:
        grades = f"{one['clean']} → {one['attacked'] or 'none'}"
        pair = f"{one['query']} → {one['item_id']}"
        text = Text(" ".join(str(one["text"]).split())[:80])  # a text's square brackets are no markup
        table.add_row(
            one["id"], f"{one['kind']}, {one['place']}", Text(pair), grades, _signed(one["score_change"]), text
        )
    return table


def _cell(estimate: Mapping[str, float | None]) -> str:
    if estimate["value"] is None:
        return "–"
    return f"{estimate['value']:.2f} {estimate['low']:.2f}–{estimate['high']:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
