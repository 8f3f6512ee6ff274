"""The figures of a training as rows, and as the Markdown tables of the model card.

A card is written by hand but for what stands between the two marks, which a training replaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "figure_rows", "put_between", "tables", "update_card"]

BEGIN, END = "<!-- figures: written by jobs.train_clip -->", "<!-- end of figures -->"
_ASIDE = ("calibration", "recipe")


def figure_rows(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str, str]]:
    """(figure, value, 95 % interval, chance, n) of every figure, in the order of the metrics."""
    for key, value in metrics.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if not isinstance(value, Mapping) or key in _ASIDE:
            continue
        if "interval" in value:
            low, high = value["interval"]
            counted = f"{value['splits']} splits" if "splits" in value else str(value["n"])
            yield name, f"{value['value']:.3f}", f"{low:.3f}–{high:.3f}", f"{value['chance']:.3f}", counted
        else:
            yield from figure_rows(value, name)


def tables(metrics: Mapping[str, Any]) -> str:
    """The card's tables: figures, then calibration."""
    lines = ["| figure | value | 95 % interval | chance | n |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in figure_rows(metrics)]
    grocery = metrics.get("grocery", {})
    if "held_out_classes" in grocery:
        lines += ["", "Held out in the shipped split: " + ", ".join(grocery["held_out_classes"]) + "."]
        lines += [
            "Of these, named in ImageNet-1k: " + (", ".join(grocery["of_them_named_in_imagenet"]) or "none") + "."
        ]
    if calibration := metrics.get("calibration"):
        lines += [
            "",
            "| attribute | temperature | threshold | calibration error | accuracy | answered | precision | n |",
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for name, row in calibration.items():
            keys = ("temperature", "threshold", "calibration_error", "accuracy", "answered", "precision", "n")
            cells = ["–" if key not in row else f"{row[key]:.0f}" if key == "n" else f"{row[key]:.3f}" for key in keys]
            lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def update_card(path: Path, metrics: Mapping[str, Any]) -> None:
    """Put the tables between the marks of a card; a card without them, or none, gets them at its end."""
    put_between(path, BEGIN, END, tables(metrics))


def put_between(path: Path, begin: str, end: str, made: str) -> None:
    """Replace what stands between two marks of a file; where they are missing they are added at its end."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Figures\n"
    before, mark, rest = text.partition(begin)
    after = rest.partition(end)[2] if mark else "\n"
    between = f"{begin}\n\n{made}\n\n{end}"
    path.write_text((before if mark else text.rstrip() + "\n\n") + between + after, encoding="utf-8")
