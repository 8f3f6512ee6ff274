"""`lore strata`: which queries make the traffic, and what it costs to serve them from a cache, by a student, by an LLM.

A few queries make most of the requests. Their pairs can be judged ahead (`lore precompute`), those in the middle by a
small judge, and a large one is left for the rest. This command shows where to cut, before anything is built.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from jobs.options import StoreAddress
from jobs.query_log import QueryLog, log_of_store, read_log
from jobs.strata_plans import Costs, Plan, Stratum, cover_later, cut_strata, plans, unseen
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, MissingExtraError
from stores.features import open_store

__all__ = ["main"]

_POINTS = 400  # of the drawn curve
_BAR = 20  # characters of a whole
_WORDS = 28  # characters of an example


def main(
    log: Annotated[
        str | None, typer.Argument(help="A query log: Parquet, CSV, TSV or JSON lines. That of the store unless given.")
    ] = None,
    head: Annotated[float, typer.Option(help="The head makes this share of all requests.")] = 0.5,
    middle: Annotated[float, typer.Option(help="Head and middle together make this share.")] = 0.9,
    top: Annotated[int, typer.Option(min=1, help="Items judged for each request.")] = 20,
    llm_price: Annotated[float | None, typer.Option(min=0, help="Price of 1,000 pairs judged by the LLM.")] = None,
    student_price: Annotated[float, typer.Option(min=0, help="Price of 1,000 pairs judged by the student.")] = 0.0,
    llm_rate: Annotated[float | None, typer.Option(min=1e-6, help="Pairs a second of one LLM worker.")] = None,
    student_rate: Annotated[float | None, typer.Option(min=1e-6, help="Pairs a second of one student worker.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the traffic by rank: a .svg, .png or .html file.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="JSON lines, on a terminal too.")] = False,
    store: StoreAddress = None,
) -> None:
    """Cut a query log into head, middle and tail by traffic, and compare the ways to serve them.

    The log has a line for every search (a column `query`), or a line for every query with a `frequency`. With a column
    `time` it is also told how much of the later requests the head of the earlier ones would have answered.

    Example: lore strata searches.parquet --head 0.6 --llm-price 0.40 --llm-rate 50 --plot traffic.svg
    """
    counted = read_log(log) if log is not None else log_of_store(open_store(store or default_store()))
    strata = cut_strata(counted, head, middle)
    costs = Costs(
        None if llm_price is None else llm_price / 1000,
        student_price / 1000,
        None if llm_rate is None else 1 / llm_rate,
        None if student_rate is None else 1 / student_rate,
    )
    ways = plans(strata, top, costs)
    facts = {
        "requests": counted.requests,
        "queries": counted.queries.height,
        "rows": counted.rows,
        "skipped": counted.skipped,
        "unseen": unseen(counted),
        "covers_later": cover_later(counted, head),
        "cut": counted.cut,
        "top": top,
    }
    if plot is not None:
        _draw(counted, strata, plot)
    if for_people(json_lines):
        _show(facts, strata, ways, head)
    else:
        print_json({"kind": "log", **facts})
        for stratum in strata:
            print_json({"kind": "stratum", **asdict(stratum)})
        for way in ways:
            print_json({"kind": "plan", **asdict(way)})


def _show(facts: dict[str, Any], strata: list[Stratum], ways: list[Plan], head: float) -> None:
    table = Table(title=f"{facts['requests']:,.0f} requests, {facts['queries']:,} queries", title_justify="left")
    for column in ("", "queries", "of the traffic", "", "asked at least", "such as"):
        table.add_column(column, justify="right" if column in ("queries", "asked at least") else "left")
    for one in strata:
        words = ", ".join(w if len(w) <= _WORDS else w[: _WORDS - 1] + "…" for w in one.examples)
        least = "" if one.least is None else f"{one.least:,g}"
        bar = "█" * round(_BAR * one.share)
        table.add_row(one.name, f"{one.queries:,}", f"{one.share:.1%}", bar, least, Text(words))
    print_table(table)
    print_table(_plan_table(ways, facts["top"]))
    if facts["skipped"]:
        say(f"{facts['skipped']:,} of {facts['rows']:,} rows of the log say no query, or were asked no times")
    if facts["unseen"] is not None:
        say(f"the next request is a query that is not in this log with a chance of about {facts['unseen']:.1%}")
    if facts["covers_later"] is not None:
        say(
            f"the head of the requests before {facts['cut']:%Y-%m-%d %H:%M} makes {facts['covers_later']:.1%} of those"
            f" after: so much would a cache made then have served, not {strata[0].share:.1%}"
        )
    say(f"next: lore precompute --traffic {head:g} --top {facts['top']} judges the head's pairs ahead")


def _plan_table(ways: list[Plan], top: int) -> Table:
    priced = any(way.price is not None for way in ways)
    timed = any(way.worker_s is not None for way in ways)
    table = Table(title=f"of 1,000 requests of {top} pairs each, judged by", title_justify="left")
    table.add_column("")
    names = ["LLM", "student", "cache", "ahead, once"]
    names += ["price", "price ahead"] if priced else []
    names += ["worker time", "time ahead"] if timed else []
    for name in names:
        table.add_column(name, justify="right")
    for way in ways:
        cells = [f"{n:,.0f}" if n else "–" for n in (way.llm, way.student, way.cached, way.ahead)]
        cells += [_amount(way.price), _amount(way.ahead_price)] if priced else []
        cells += [_time(way.worker_s), _time(way.ahead_s)] if timed else []
        table.add_row(way.name, *cells)
    return table


def _amount(value: float | None) -> str:
    return "?" if value is None else f"{value:,.2f}" if value >= 0.01 or not value else f"{value:.2g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def _draw(log: QueryLog, strata: list[Stratum], path: Path) -> None:
    """The share of the traffic that the most frequent queries make, by how many they are."""
    if path.suffix not in (".svg", ".png", ".html"):
        raise InputError(f"{path}: legal: the name of a .svg, .png or .html file")
    try:
        import altair as alt
        import vl_convert  # noqa: F401  altair writes pictures by it
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "altair", "plots") from None
    share = np.cumsum(log.queries["requests"].to_numpy()) / log.requests
    ranks = np.unique(np.geomspace(1, len(share), _POINTS).astype(int))
    ends = np.cumsum([one.queries for one in strata])
    values = [
        {
            "rank": int(rank),
            "share": float(share[rank - 1]),
            "stratum": strata[min(int(np.searchsorted(ends, rank)), len(strata) - 1)].name,
        }
        for rank in ranks
    ]
    x = alt.X("rank:Q", title="queries, the most frequent first", scale=alt.Scale(type="log", nice=False))
    y = alt.Y("share:Q", title="share of the traffic", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    color = alt.Color("stratum:N", sort=[one.name for one in strata], title=None)
    data: Any = alt.InlineData(values=values)
    chart = alt.Chart(data, width=520, height=260).mark_area(line=True, opacity=0.6)
    try:
        chart.encode(x=x, y=y, color=color).save(str(path), **({"inline": True} if path.suffix == ".html" else {}))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    say(f"wrote {path}")


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.strata"))
