"""A parsed query for a person's eyes, on terminals wide and narrow, and as JSON with everything in it.

It does not know how queries are read, nor where stored readings come from: it is told in a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
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
            yield _indented(Text.assemble(("can also be: ", "dim"), *_other(reading)))
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
    """What a demand asks for, in words: "at most 50 USD", "at least 80% cotton", "not lace-up", "running shoe"."""
    words = (d.canonical or "").replace("_", " ") if d.dimension == "category" else d.canonical or ""
    said = words
    if d.number is not None:
        percent = d.unit == "share"
        unit = "%" if percent else (d.unit or "")
        numbers = [format_number(n * 100 if percent else n) for n in (d.number, d.number_high) if n is not None]
        limit = "" if percent and d.number == 1 else _LIMITS[d.op]
        measure = f"{limit}{' to '.join(numbers)}{'' if percent else ' '}{unit}".strip()
        said = f"{measure} {words}".strip() if percent else f"{words}, {measure}" if words else measure
    if d.alternatives:
        said = " or ".join([said or f"“{d.value}”", *(a.replace("_", " ") for a in d.alternatives)])
    if d.polarity < 0:
        return f"not {said or f'“{d.value}”'}"
    return said


def _coloured(u: Understanding) -> RenderableType:
    typed = u.query.text
    shown = Text(typed[:_LONGEST].replace("\n", " "), style="bold" if u.status == "ok" else "")
    for d in sorted(u.demands, key=lambda d: d.role == "head"):
        if d.start is not None and d.end is not None:
            shown.stylize(f"{_style(d)} underline", d.start, min(d.end, _LONGEST))
    if not typed.strip():
        shown = Text("(nothing)", style="dim")
    if len(typed) > _LONGEST:
        shown.append(f"… ({len(typed):,} characters)", "dim")
    return _indented(shown)


def _about(u: Understanding, said: str) -> Iterator[RenderableType]:
    """What the query is, in a line or a few."""
    said = said or (f"read by {u.engine}" if u.engine else "")
    if u.status != "ok":
        yield _indented(
            Text.assemble(
                ("not understood: ", "red"), u.error or "no reason was given", (f" · {said}" if said else "", "dim")
            )
        )
        return
    if u.corrections:
        put_right = ", ".join(f"“{typed}” → “{read}”" for typed, read in u.corrections)
        yield _indented(Text.assemble(("taken for ", "dim"), f"“{u.normalized}”", (f"  {put_right}", "dim")))
    kind = load_hard_types().get(u.hard_type, "") if u.hard_type != "other" else ""
    kind = f"{u.hard_type.replace('_', ' ')}: {kind.rstrip('.').lower()}" if kind else ""
    sure = _sure(u.confidence) if u.confidence else ""
    if kind:
        yield _indented(Text(kind, style="dim"))
    yield _indented(Text(" · ".join(part for part in (_thing(u), sure, said) if part), style="dim"))
    if u.error:
        yield _indented(Text.assemble(("though: ", "yellow"), (u.error, "dim")))
    if not u.demands:
        yield _indented(Text("nothing in it is a demand", style="yellow"))


def _sure(confidence: float) -> str:
    return f"{round(100 * confidence)}% sure"


def _thing(u: Understanding) -> str:
    if u.head is None:
        return "names no thing"
    return "implies the thing" if u.head.latent else _REFERENTS.get(u.referent or "", "")


def _table(u: Understanding, wide: bool) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", width=1)
    table.add_column("", no_wrap=True)
    table.add_column("dimension", no_wrap=True)
    table.add_column("words", overflow="fold", min_width=8)
    table.add_column("read as", overflow="fold")
    wide = wide and any(d.why for d in u.demands)
    if wide:
        table.add_column("why", overflow="fold")
    for d in u.demands:
        sign = "−" if d.polarity < 0 else ("●" if d.role == "head" else "+")
        force = "implied" if d.latent else {"hard": "hard", "soft": "wished"}[d.strictness]
        words = Text("" if d.latent and d.start is None else d.value, style=_style(d))
        read = Text(reading_of(d)) if reading_of(d) or d.why else Text("no table knows it", style="dim")
        if d.links:
            read.append("  " + " ".join(d.links), "dim")
        why = Text(d.why or "", style="dim")
        if not wide and d.why:
            read = Text.assemble(read, "\n" if read else "", why)
        row = [Text(sign, style=_style(d)), Text(force, style="dim"), Text(d.dimension.replace("_", " ")), words, read]
        table.add_row(*row, *([why] if wide else []))
    return Padding(table, (0, 0, 0, 2))


def _indented(text: Text) -> RenderableType:
    return Padding(text, (0, 0, 0, 2))


def _style(d: Demand) -> str:
    return _NOT if d.polarity < 0 else _COLOURS.get(d.dimension, _OTHER)


def _other(r: OtherReading) -> Iterator[str | tuple[str, str]]:
    yield f"“{r.value}” as {r.dimension.replace('_', ' ')}"
    if r.canonical and r.canonical != r.value:
        yield f" {r.canonical.replace('_', ' ') if r.dimension == 'category' else r.canonical}"
    if r.confidence:
        yield (f", {_sure(r.confidence)}", "dim")
    if r.why:
        yield (f" ({r.why})", "dim")
