"""The figures of lore-vlm-tiny as a Markdown table of its model card.

A card is written by hand but for what stands between the two marks, which a training or a measurement replaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.clip.card import put_between
from jobs.vlm.measure import SYSTEMS

__all__ = ["BEGIN", "END", "figure_rows", "update_card"]

BEGIN, END = "<!-- figures: written by jobs.train_vlm -->", "<!-- end of figures -->"


def figure_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """(source, attribute, n, options, then accuracy with its interval a system) in the order of the metrics."""
    for source, attributes in metrics.items():
        for name, row in attributes.items():
            cells = [row["systems"].get(system) for system in SYSTEMS]
            shown = ["–" if c is None else f"{c['value']:.2f} [{c['low']:.2f}, {c['high']:.2f}]" for c in cells]
            yield source, name, str(row["n"]), str(row["options"]), *shown


def update_card(path: Path, metrics: Mapping[str, Any]) -> None:
    """Put the table between the marks of a card; a card without them, or none, gets it at its end."""
    head = ("data", "attribute", "n", "options", *SYSTEMS)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in figure_rows(metrics)]
    put_between(path, BEGIN, END, "\n".join(lines))
