"""How `lore quality` looks to a person: what stands out, then attributes, sources and drift, and where to look next.

It shows the worst of each and says what it leaves out; every line is in `--json` and `--output`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from lore_mm.console import print_table, say
from stores.quality import ALL, Quality

__all__ = ["show"]

_FINDINGS = 6  # of each level
_ATTRIBUTES, _CONFLICTS, _DRIFT = 25, 8, 15
_LONGEST = 60
_SOMETIMES: Mapping[str, str] = {"not_applicable": "n/a", "conflict": "conflict", "failed": "failed"}
_STYLES: Mapping[str, str] = {"wrong": "bold red", "moved": "bold yellow", "doubtful": "yellow", "missing": "cyan"}


def show(quality: Quality) -> None:
    """Print the summary of a store's quality."""
    summary = quality.summary()
    _show_head(summary)
    if not summary["items"]:
        say("nothing has been merged yet: run `lore extract`, then look again")
    _show_findings(quality)
    _show_coverage(quality)
    _show_conflicts(quality)
    if quality.against is not None:
        _show_drift(quality)
    _show_next(quality, summary)


def _show_head(summary: Mapping[str, Any]) -> None:
    versions = ", ".join(f"{t} {v}" for t, v in summary["versions"].items() if t in ("items", "attributes"))
    line = f"{summary['items']:,} items with a verdict, in {summary['categories']:,} categories"
    if summary["against"] is not None:
        was = ", ".join(f"{t} {v}" for t, v in summary["against"].items() if t in ("items", "attributes"))
        line += f"; compared with {summary['items_before']:,} before (versions {was or 'none'})"
    print_table(Text(f"{summary['store']} (versions {versions or 'none'})\n{line}"))


def _show_findings(quality: Quality) -> None:
    rows = quality.lines("finding")
    if not rows:
        print_table(Text("\nNothing stands out.", style="green"))
        return
    table = _table("What stands out", "", "about", "what", "items", "of", "see, or do", right=("items", "of"))
    left_out = 0
    for level in _STYLES:
        mine = [row for row in rows if row["level"] == level]
        left_out += len(mine[_FINDINGS:])
        for row in mine[:_FINDINGS]:
            about = row["about"] if row["category"] in (None, ALL) else f"{row['about']} · {row['category']}"
            of = "" if row["of"] is None else f"{row['of']:,}"
            see = row["next"] or row["example"] or ""
            table.add_row(Text(level, _STYLES[level]), *_cells(about, row["what"], f"{row['n']:,}", of, see))
    _print(table, left_out, "--kind finding --json")


def _show_coverage(quality: Quality) -> None:
    """Attributes over all categories, or one attribute by category; those nobody has a value of in one line."""
    rows = quality.lines("coverage")
    by_category = len({row["attribute"] for row in rows}) == 1
    if not by_category:
        rows = [row for row in rows if row["category"] == ALL]
    told = {(row["category"], row["attribute"]): _said(row) for row in quality.lines("values")}
    for row in quality.lines("number"):
        where = row["category"], row["attribute"]
        if where in told and row["n"] >= told[where][2]:  # numbers of one unit, or nearly
            ends = f"{row['minimum']:,.6g} – {row['maximum']:,.6g} {row['unit'] or ''}".strip()
            range_ = f"{ends}, median {row['median']:,.6g}"
            told[where] = (told[where][0], range_, 0)
    bare = [row["attribute"] for row in rows if not row["stated"]]
    rows = [row for row in rows if row["stated"] or by_category]
    rows.sort(key=lambda r: (r["category"] != ALL, r["coverage"] or 0.0, -r["items"], r["category"], r["attribute"]))
    if rows:
        title = f"{rows[0]['attribute']}, by category" if by_category else "Attributes, least covered first"
        first = "category" if by_category else "attribute"
        some = {name: word for name, word in _SOMETIMES.items() if any(row[name] for row in rows[:_ATTRIBUTES])}
        figures = ("items", "with a value", *some.values(), "confidence", "values")
        table = _table(title, first, *figures, "commonest, or range", right=figures)
        for row in rows[:_ATTRIBUTES]:
            distinct, said, _ = told.get((row["category"], row["attribute"]), ("", "", 0))
            about = row["category"] if by_category else row["attribute"]
            table.add_row(*_cells(about, *_covered(row, some), distinct, said))
        _print(table, len(rows[_ATTRIBUTES:]), "--kind coverage --json")
    if bare and not by_category:
        shown = ", ".join(bare[:_ATTRIBUTES]) + (" …" if len(bare) > _ATTRIBUTES else "")
        print_table(Text(f"asked by the schema, but no item has a value: {shown}"))
        say("a model can be asked for those: lore extract --vlm MODEL")


def _said(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """Of a line of values: how many there are, the commonest, and the items that have one."""
    commonest = ", ".join(f"{_cut(one['value'], 24)} {one['n']:,}" for one in row["top"][:3])
    return f"{row['distinct_values']:,}", commonest, row["items"]


def _covered(row: Mapping[str, Any], some: Iterable[str]) -> Sequence[str]:
    counts = [f"{row[name]:,}" if row[name] else "" for name in some]
    confidence = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
    return (f"{row['items']:,}", _percent(row["coverage"]), *counts, confidence)


def _show_conflicts(quality: Quality) -> None:
    rows = [row for row in quality.lines("conflict", category=ALL) if row["disagreed"] or row["both"]]
    if not rows:
        return
    columns = ("attribute", "sources", "both spoke", "agree", "more or less", "disagree", "verdict follows")
    table = _table("Where two sources speak of the same", *columns, right=columns[2:6])
    for row in rows[:_CONFLICTS]:
        follows = f"{row['one']} {row['follows_one']:,}, {row['other']} {row['follows_other']:,}"
        counts = (f"{row[name]:,}" for name in ("both", "agreed", "wider"))
        disagree = f"{row['disagreed']:,} ({_percent(row['share'])})"
        shown = follows if row["disagreed"] else ""
        table.add_row(*_cells(row["attribute"], f"{row['one']}, {row['other']}", *counts, disagree, shown))
    _print(table, len(rows[_CONFLICTS:]), "--kind conflict --json")


def _show_drift(quality: Quality) -> None:
    rows = quality.lines("drift")
    flagged = [row for row in rows if row["flagged"]]
    shown = flagged[:_DRIFT] or [row for row in rows if row["category"] == ALL][:_DRIFT]
    title = "What moved" if flagged else "Nothing moved more than chance would have it; the largest distances"
    columns = ("attribute", "category", "items", "coverage", "PSI", "bits", "by chance", "KS", "new", "gone")
    table = _table(title, *columns, right=columns[2:])
    for row in shown:
        coverage = f"{_percent(row['coverage_before'])} → {_percent(row['coverage_now'])}"
        table.add_row(
            *_cells(
                row["attribute"],
                row["category"],
                f"{row['items_before']:,} → {row['items_now']:,}",
                "" if row["coverage_now"] is None else coverage,
                *(_number(row[name], digits) for name, digits in (("psi", 2), ("jsd", 3), ("jsd_by_chance", 3))),
                _number(row["ks"], 2),
                *(f"{row[name]:,}" if row[name] else "" for name in ("new", "vanished")),
            )
        )
    _print(table, len(flagged[_DRIFT:]), "--kind drift --json")


def _show_next(quality: Quality, summary: Mapping[str, Any]) -> None:
    if quality.looked_at > 1:
        say(f"sources were compared on one in {quality.looked_at} items")
    say("more: --category NAME, --attribute NAME; every line: --json or --output FILE.parquet")
    if summary["against"] is None:
        say("what changed since an earlier moment: --against TIME; stop a pipeline: --fail-on 'coverage(brand)<0.8'")
    else:
        say("which values changed, item by item, and why: lore query --since TIME")


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in columns:
        whole = name in ("attribute", "category", "")
        justify: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=justify, header_style="dim", overflow="fold", no_wrap=whole)
    return table


def _print(table: Table, left_out: int, how: str) -> None:
    print_table(table)
    if left_out > 0:
        print_table(Text(f"… and {left_out:,} more: {how}", style="dim"))


def _cells(*texts: str) -> list[Text]:
    """Words from a store as they stand, without markup and of bearable length."""
    return [Text(_cut(" ".join(text.split()), 2 * _LONGEST)) for text in texts]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{share:.1%}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
