"""A calibration, and what it does on held-out rows, as tables and sentences for a terminal. It measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extractors.calibrate import ANY, Calibration

if TYPE_CHECKING:
    from jobs.fit_thresholds import HeldOut
    from lore_mm.bootstrap import Estimate

__all__ = ["calibration_tables"]


def calibration_tables(calibration: Calibration, measured: HeldOut | None) -> list[object]:
    """Who settles what at which precision; then held-out rows: what was settled, and the cascade beside asking all."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    title = f"fitted on {calibration.fitted_on}; to settle at a precision of {calibration.precision:g}"
    fitted = Table("extractor", "attribute", "values", "right", "settled", "precision", "at least", "coverage")
    fitted.title, fitted.box = title, SIMPLE
    for e in calibration.entries:
        if e.attribute != ANY:
            share = f"{e.right / e.n:.3f}" if e.n else "–"
            cells = (f"{e.precision:.3f}", f"{e.precision_low:.3f}") if e.precision is not None else ("–", "–")
            fitted.add_row(
                e.extractor, e.attribute, str(e.n), share, str(e.settled or "never"), *cells, f"{e.coverage:.3f}"
            )
    if measured is None:
        return [fitted, Text("no item is in the test split: nothing was held out to measure on")]
    lines = [
        f"held out ({measured.n} labelled fields): {measured.n_settled} settled without the model, "
        f"{_cell(measured.settled_share)} of all, {_cell(measured.settled_precision)} of them right"
    ]
    if not measured.asked:
        return [fitted, Text("\n".join(lines))]
    if measured.vlm_on_settled:
        lines.append(f"the model's own answers to these: {_cell(measured.vlm_on_settled)} right")
    lines.append(f"saved: {measured.saved_calls:,} calls, {measured.saved_fields:,} fields")
    compared = Table("", *measured.systems, box=SIMPLE, title="held out, 95 % intervals over groups")
    for metric in ("accuracy", "precision", "recall"):
        compared.add_row(metric, *(_cell(one.metrics[metric]) for one in measured.systems.values()))
    for name, of in (("calls", "calls"), ("tokens of prompts", "prompt_tokens"), ("of replies", "completion_tokens")):
        spent = [measured.asked.get(system) for system in measured.systems]
        compared.add_row(name, *("" if one is None else f"{getattr(one.usage, of):,}" for one in spent))
    fields = [measured.asked.get(system) for system in measured.systems]
    compared.add_row("fields asked", *("" if one is None else f"{one.fields:,}" for one in fields))
    difference = _cell(measured.difference["accuracy"])
    lines.append(f"accuracy of the cascade less that of asking for everything: {difference}")
    return [fitted, compared, Text("\n".join(lines))]


def _cell(e: Estimate) -> str:
    return "–" if e.value != e.value else f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
