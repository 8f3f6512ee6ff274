"""A parsed query for a person's eyes. It knows nothing of how queries are read."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from lore_mm.types import Understanding

__all__ = ["parse_table"]

_COLOURS = {
    "category": "bold cyan", "brand": "magenta", "model": "magenta", "color": "yellow", "material": "yellow",
    "spec": "green", "price": "green", "bundle": "green", "audience": "blue", "season": "blue",
}  # fmt: skip


def parse_table(u: Understanding) -> Table:
    """One query as a table: its words with their spans coloured, and what each stands for."""
    shown = Text(u.query.text)
    for d in u.demands:
        if d.start is not None and d.end is not None:
            shown.stylize(("red " if d.polarity < 0 else "") or _COLOURS.get(d.dimension, "white"), d.start, d.end)
    title = Text.assemble(shown, "  ", (u.error or u.hard_type.replace("_", " "), "dim"))
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    for column in ("", "dimension", "words", "read as", "strictness", "why"):
        table.add_column(column)
    for d in u.demands:
        sign = "−" if d.polarity < 0 else ("●" if d.role == "head" else "+")
        read = d.canonical or ""
        if d.number is not None:
            high = "" if d.number_high is None else f"–{d.number_high:g}"
            read = f"{read} {d.op.replace('_', ' ')} {d.number:g}{high} {d.unit or ''}".strip()
        if d.alternatives:
            read += f" (or {', '.join(d.alternatives)})"
        words = Text(d.value, style=_COLOURS.get(d.dimension, "white"))
        table.add_row(
            sign, Text(d.dimension), words, Text(read), "implied" if d.latent else d.strictness, Text(d.why or "")
        )
    return table
