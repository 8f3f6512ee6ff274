"""The card of a distillation: README.md beside the students, written from the figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["card", "view", "write_card"]

_SHOWN = {"acc_4": "acc@4", "macro_f1": "macro-F1", "quadratic_kappa": "kappa", "auc": "AUC", "ndcg_10": "nDCG@10"}
_NAMES = {
    "teacher": "the teacher itself",
    "cross_encoder": "**cross-encoder**",
    "bi_encoder": "**bi-encoder**, by its cosine",
    "bi_encoder_head": "bi-encoder, by its head",
    "untrained_cosine": "cosine of the body untrained",
    "one_grade": "one grade for all",
}


def view(metrics: Mapping[str, Any]) -> Any:
    """The figures as a rich table."""
    from rich.table import Table

    shown = Table("against", "system", *_SHOWN.values(), box=None)
    for truth, systems in metrics["held_out"]["against"].items():
        for name in _ordered(systems):
            cells = (_number(systems[name]["metrics"][key]["value"]) for key in _SHOWN)
            shown.add_row(truth, name, *cells)
    return shown


def write_card(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write README.md."""
    (folder / "README.md").write_text(card(metrics), encoding="utf-8")


def card(metrics: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    held, counts, settings = metrics["held_out"], metrics["counts"], metrics["settings"]
    left_out = ", ".join(f"{n:,} {name}" for name, n in counts.items() if name not in _KEPT and n)
    told = [
        "---",
        "library_name: sentence-transformers",
        f"base_model: {metrics['body']['name']}",
        "---",
        "",
        "# Students of a relevance judge",
        "",
        "A cross-encoder and a bi-encoder that learnt from the judgments of another judge: from how likely it finds",
        "each of the levels L1 to L4, and from what it says of each dimension that a query demands.",
        "",
        f"- Teacher: {', '.join(metrics['teachers']) or 'unnamed'}",
        f"- Body: {metrics['body']['name']} ({metrics['body']['sha'][:12]})",
        f"- Learnt from {counts['learnt_from']:,} pairs, {counts['labelled']:,} of all pairs graded by people too",
        f"- Left out: {left_out or 'nothing'}",
        f"- Loss: {settings['label']} · CE(label) + {settings['alpha']} · KL(teacher ‖ student) + "
        f"{settings['gamma']} · Σ CE(level) over the demanded dimensions",
        "",
        f"Measured on {held['pairs']:,} pairs of {held['queries']:,} queries that were not learnt from, with 95 %",
        "intervals over queries.",
    ]
    for truth, systems in held["against"].items():
        told += ["", f"## Against {'the teacher' if truth == 'teacher' else 'people’s labels'}", ""]
        told += _table(systems)
    if held["dimensions"]:
        told += ["", "## The level of each demanded dimension, against the teacher", ""]
        told += _table(held["dimensions"], "ndcg_10")
    if onnx := metrics.get("onnx"):
        told += ["", _of_onnx(onnx)]
    return "\n".join([*told, "", _USE, ""])


_KEPT = {"rows", "taught", "labelled", "learnt_from", "held_out"}
_USE = """## Use

    lore judge --judge student:OUT/student …                 the cross-encoder; the rules' path explains

    open_embedder("sentence:OUT/bi_encoder").embed_texts     unit vectors for an index (lore_mm.models)
    CrossEncoder("OUT/cross_encoder").predict(pairs)         logits of L1 to L4 (sentence_transformers)
    SentenceTransformer("OUT/bi_encoder").encode(texts)      the unit vectors

Both read a query and an item's title, as relevance/pair_text.py gives them. P(level > k) of a cosine c is
sigmoid(slope · c − cuts[k − 1]); slope and cuts stand in bi_encoder/distil.json."""


def _table(systems: Mapping[str, Any], *without: str) -> list[str]:
    shown = {key: name for key, name in _SHOWN.items() if key not in without}
    lines = [f"| system | n | {' | '.join(shown.values())} |", f"|---|---:|{'---:|' * len(shown)}"]
    for name in _ordered(systems):
        one = systems[name]
        cells = " | ".join(_interval(one["metrics"][key]) for key in shown)
        lines.append(f"| {_NAMES[name]} | {one['n']:,} | {cells} |")
    return lines


def _ordered(systems: Mapping[str, Any]) -> list[str]:
    return [name for name in _NAMES if name in systems]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(one: Mapping[str, float | None]) -> str:
    if one["value"] is None:
        return "–"
    return f"{_number(one['value'])} [{_number(one['low'])}, {_number(one['high'])}]"


def _of_onnx(onnx: Mapping[str, Any]) -> str:
    changed = onnx.get("grades_changed")
    said = "" if changed is None else f"; it gives {changed:.1%} of the held-out pairs another grade"
    return f"`student/` holds the cross-encoder in int8, {onnx['bytes'] / 1e6:.1f} MB{said}."
