"""A parsed query for a person's eyes, on terminals wide and narrow, and as JSON with everything in it.

It does not know how queries are read, nor where stored readings come from: it is told in a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from lore_mm.rows import understanding_to_row
from lore_mm.schema import load_hard_types
from lore_mm.types import Demand, OtherReading, Provenance, Understanding
from lore_mm.values import format_number

__all__ = ["ParseView", "as_json", "reading_of"]

_COLOURS = {
    "category": "bold cyan", "component": "cyan", "brand": "magenta", "model": "magenta", "ip": "magenta",
    "store": "magenta", "color": "yellow", "material": "yellow", "spec": "green", "price": "green",
    "bundle": "green", "year": "green", "audience": "blue", "season": "blue",
}  # fmt: skip
_OTHER, _NOT = "bright_white", "red"
_LIMITS = {"at_least": "at least ", "at_most": "at most ", "eq": "", "not": "", "share": "at least ", "range": "from "}
_REFERENTS = {"precise": "names one kind of thing", "generic": "names a class of things"}
_WIDE = 110  # columns from which the reasons stand beside the demands, and not beneath them
_LONGEST = 400  # characters of a query that are shown


class ParseView:
    """One query: its words coloured by what they stand for, what it is, and each demand a row.

    `said` is a line on who read it, where that is more than the engine's name.
    """

    def __init__(self, understanding: Understanding, said: str = "") -> None:
        self.understanding, self.said = understanding, said

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        u = self.understanding
        yield _coloured(u)
        yield from _about(u, self.said)
        if u.demands:
            yield _table(u, wide=options.max_width >= _WIDE)
        for reading in u.readings:
            yield Text.assemble(("  can also be: ", "dim"), *_other(reading))
        yield Text()


def as_json(
    u: Understanding, served: bool, provenance: Provenance, made_at: datetime | None, version: int | None
) -> object:
    """Everything of an understanding, and where it comes from: a JSON-able row.

    `served`: from the store, at `version` of its demands; else read just now.
    """
    row: dict[str, Any] = understanding_to_row(u, provenance)
    del row["query_id"]
    row["served"] = served
    row["provenance"] |= {"made_at": made_at, "version": version}
    return row


def reading_of(d: Demand) -> str:
    """What a demand asks for, in words: "at most 50 USD", "at least 80 % cotton", "not lace-up", "running shoe"."""
    words = (d.canonical or "").replace("_", " ") if d.dimension == "category" else d.canonical or ""
    said = words
    if d.number is not None:
        percent = d.unit == "share"
        unit = "%" if percent else (d.unit or "")
        numbers = [format_number(n * 100 if percent else n) for n in (d.number, d.number_high) if n is not None]
        limit = "" if percent and d.number == 1 else _LIMITS[d.op]
        measure = f"{limit}{' to '.join(numbers)} {unit}".strip()
        said = f"{measure} {words}".strip() if percent else f"{words}, {measure}" if words else measure
    if d.alternatives:
        said = " or ".join([said or f"“{d.value}”", *(a.replace("_", " ") for a in d.alternatives)])
    if d.polarity < 0:
        return f"not {said or f'“{d.value}”'}"
    return said


def _coloured(u: Understanding) -> Text:
    typed = u.query.text
    shown = Text("  " + typed[:_LONGEST].replace("\n", " "), style="bold" if u.status == "ok" else "")
    for d in sorted(u.demands, key=lambda d: d.role == "head"):
        if d.start is not None and d.end is not None:
            shown.stylize(f"{_style(d)} underline", d.start + 2, min(d.end, _LONGEST) + 2)
    if len(typed) > _LONGEST:
        shown.append(f"… ({len(typed):,} characters)", "dim")
    return shown


def _about(u: Understanding, said: str) -> Iterator[Text]:
    if u.status != "ok":
        yield Text.assemble("  ", ("not understood: ", "red"), u.error or "no reason was given")
        if said:
            yield Text(f"  {said}", style="dim")
        return
    if u.corrections:
        put_right = ", ".join(f"“{typed}” → “{read}”" for typed, read in u.corrections)
        yield Text.assemble(("  read as ", "dim"), f"“{u.normalized}”", (f"  ({put_right})", "dim"))
    kind = u.hard_type.replace("_", " ")
    kind = f"{kind}: {(load_hard_types().get(u.hard_type) or '').rstrip('.').lower()}" if u.hard_type != "other" else ""
    head = _REFERENTS.get(u.referent or "", "" if u.head else "names no thing")
    sure = f"{u.confidence:.0%} sure".replace("%", " %") if u.confidence else ""
    told = [part for part in (kind, head, sure, said or (f"read by {u.engine}" if u.engine else "")) if part]
    yield Text("  " + " · ".join(told), style="dim")
    if u.error:
        yield Text.assemble("  ", ("though: ", "yellow"), (u.error, "dim"))
    if not u.demands:
        yield Text("  nothing in it is a demand", style="yellow")


def _table(u: Understanding, wide: bool) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" ", width=3, justify="right")
    table.add_column("dimension", no_wrap=True)
    table.add_column("words", overflow="fold", min_width=8)
    table.add_column("read as", overflow="fold", ratio=None if wide else 1)
    table.add_column("how", no_wrap=True)
    if wide:
        table.add_column("why", overflow="fold", ratio=1)
    for d in u.demands:
        sign = "−" if d.polarity < 0 else ("●" if d.role == "head" else "+")
        words = Text("" if d.latent and d.start is None else d.value, style=_style(d))
        read = Text(reading_of(d)) if reading_of(d) else Text("no table knows it", style="dim")
        because = Text("; ".join(part for part in (d.why or "", ", ".join(d.links)) if part), style="dim")
        if not wide and because.plain:
            read = Text.assemble(read, "\n", because)
        row = [Text(sign, style=_style(d)), Text(d.dimension.replace("_", " ")), words, read, _force(d)]
        table.add_row(*row, *([because] if wide else []))
    return table


def _force(d: Demand) -> Text:
    return Text(
        "implied" if d.latent else {"hard": "hard", "soft": "wished"}[d.strictness], style="dim" if d.latent else ""
    )


def _style(d: Demand) -> str:
    return _NOT if d.polarity < 0 else _COLOURS.get(d.dimension, _OTHER)


def _other(r: OtherReading) -> Iterator[str | tuple[str, str]]:
    yield f"“{r.value}” as {r.dimension.replace('_', ' ')}"
    if r.canonical and r.canonical != r.value:
        yield f" {r.canonical.replace('_', ' ') if r.dimension == 'category' else r.canonical}"
    if r.confidence:
        yield (f", {r.confidence:.0%} sure".replace("%", " %"), "dim")
    if r.why:
        yield (f" ({r.why})", "dim")
