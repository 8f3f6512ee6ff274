"""The figures of a tagger's training as rows, and as the Markdown table of its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.clip.card import put_between

__all__ = ["BEGIN", "END", "figure_rows", "tables", "update_card"]

BEGIN, END = "<!-- figures: written by jobs.train_tagger -->", "<!-- end of figures -->"
_SIZES = {"float32": "model in float32", "int8": "model as shipped, int8"}


def figure_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """(what, F1, 95 % interval, precision, recall, spans labelled): both models overall, the shipped one by type."""
    for key, name in _SIZES.items():
        if key in metrics:
            yield _row(name, metrics[key]["spans"])
    for kind, figures in sorted(metrics.get("int8", {}).get("types", {}).items(), key=lambda pair: -pair[1]["n"]):
        yield _row(kind, figures)


def tables(metrics: Mapping[str, Any]) -> str:
    """The card's table and the figures beside it."""
    shipped = metrics["int8"]
    error = shipped["calibration_error"]
    lines = [
        f"Measured on {shipped['queries']} queries of QueryNER ({metrics['measured_on']}).",
        "",
        "| | F1 of spans | 95 % interval | precision | recall | spans |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in figure_rows(metrics)),
        "",
        f"- Words with the right label: {shipped['words_right']:.3f}; queries wholly right: "
        f"{shipped['queries_right']:.3f}.",
        f"- What int8 costs: {metrics['quantisation']['f1_lost']:+.4f} of F1 against float32; "
        f"{metrics['quantisation']['spans_changed']:.4f} of the spans are others.",
        f"- ONNX in float32 against torch: logits differ by {metrics['parity']['largest_difference']:.1e} at most.",
        f"- Decoding by Viterbi: {shipped['spans']['f1']:.4f}; word by word: {shipped['f1_greedy']:.4f}.",
        f"- Calibration error of a span's confidence, the product of its words' probabilities: {error['product']:.3f} "
        f"(their geometric mean: {error['geometric_mean']:.3f}).",
        f"- model.onnx: {metrics['bytes'] / 1e6:.1f} MB.",
    ]
    return "\n".join(lines)


def update_card(path: Path, metrics: Mapping[str, Any]) -> None:
    """Put the table between the marks of a card; a card without them, or none, gets it at its end."""
    put_between(path, BEGIN, END, tables(metrics))


def _row(name: str, figures: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    low, high = figures["interval"]
    cells = [_cell(figures["f1"]), f"{_cell(low)}–{_cell(high)}", _cell(figures["precision"]), _cell(figures["recall"])]
    return (name, cells[0], cells[1], cells[2], cells[3], str(figures["n"]))


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
