"""The card of a student: README.md of its folder, every number from metrics.json and config.json beside it.

The keys of metrics.json; what is not there is left out of the card, but for the first five:

    name            of the model
    bytes           of model.onnx
    body            {"name", "layers", "width", "licence"}: the encoder that it began from
    trained_on      [{"set", "used_as", "licence", "pairs", "queries"}], a row each; pairs and queries may be null
    measured        [{"set", "how", "queries", "systems"}]: how says who was held out from whom, in words; systems is
                    that of `lore evaluate judge --json` or like it: name → {"n", "missing", "metrics": {acc_2, acc_4,
                    macro_f1, quadratic_kappa, auc, ndcg_10, …: {"value", "low", "high"}}, "difference": the first
                    system minus this one, by metric}; the first is this model. "people": {"quadratic_kappa": {value,
                    low, high}} beside them
    confusion       4 × 4, true levels in rows, as measured on the first set
    ablations       {what was left out: {metric: {"value", "low", "high"}}}, trained and measured as the first set
    calibration     {"ece_4", "temperature"} and other numbers by name
    parity          {"largest_difference"}: logits, ONNX in float32 against torch
    quantisation    {"grades_changed"}: share of the judged pairs, int8 against float32
    speed           {what: number}, as benchmarks/bench_student.py prints them
    training        {setting: value}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.judge_tables import METRIC_NAMES
from lore_mm.models.cross_encoder import EncoderSettings
from lore_mm.models.pair_pieces import MOST_PIECES, MOST_QUERY_PIECES
from relevance.pair_text import LONGEST_LINE
from relevance.path_features import PATH_FEATURES
from relevance.word_features import WORD_FEATURES

__all__ = ["card", "write_card"]

_METRICS = {**METRIC_NAMES, "ndcg_10": "nDCG@10"}
_LEVELS = ("L1", "L2", "L3", "L4")


def card(metrics: Mapping[str, Any], settings: EncoderSettings) -> str:
    """The card as Markdown.

    Raises:
        KeyError: one of the first five keys is missing.
    """
    parts = [
        _what(metrics, settings),
        "\n".join(["## What it was trained on", "", *_trained_on(metrics["trained_on"], settings)]),
        _purpose(),
        "\n".join(["## Figures", "", *_figures(metrics)]).rstrip(),
    ]
    if training := metrics.get("training"):
        rows = [(name.replace("_", " "), _number(value)) for name, value in training.items()]
        parts.append("\n".join(["## How it was trained", "", *_table(("setting", "value"), rows)]))
    return "\n\n".join(parts) + "\n"


def write_card(folder: Path, metrics: Mapping[str, Any], settings: EncoderSettings) -> None:
    """Write README.md."""
    (folder / "README.md").write_text(card(metrics, settings), encoding="utf-8")


def _what(metrics: Mapping[str, Any], settings: EncoderSettings) -> str:
    body = metrics["body"]
    rest = len(settings.features) - len(PATH_FEATURES) - len(WORD_FEATURES)
    if settings.thresholds is None:
        grade = "The grade is the likeliest level."
    else:
        cuts = ", ".join(f"{cut:.3f}" for cut in settings.thresholds)
        grade = f"The grade is cut from the expected grade, scaled to [0, 1], at {cuts} (L2, L3, L4)."
    return f"""# Model card: {metrics["name"]}

A small cross-encoder that says how relevant an item is to a search query: P(L1) … P(L4) from both texts read together
and from what the path of the rules says of the pair, as numbers. int8 ONNX, {metrics["bytes"] / 1e6:.1f} MB, for a CPU,
on onnxruntime and tokenizers alone (`pip install 'lore-mm[tagger]'`). It is judge mode `student`:
`lore judge --judge student --query "…" --item …`.

## What it is

- An encoder of {body["layers"]} layers, {body["width"]} wide, begun from {body["name"]} ({body["licence"]}). It reads
  `[CLS] query [SEP] title [SEP]`, at most {MOST_PIECES} word pieces; of the query at most {MOST_QUERY_PIECES}, of the
  title at most {LONGEST_LINE} characters. It learnt from made-up pairs alone (lessons): it has seen no judgment.
- {len(settings.features)} features, each in [0, 1]: {len(PATH_FEATURES)} of the rules' path (their probabilities, the
  relation of the head, level and confidence of each group of dimensions), {rest} of how the query was read, and
  {len(WORD_FEATURES)} of the words that query and item share. No id, no price, no count over other pairs is among them.
- Extremely randomised trees (Geurts, Ernst and Wehenkel 2006), grown on judged pairs, vote on the level: they see the
  features and the logarithms of what the encoder makes of the pair. {grade}
- A pair's result does not depend on the pairs beside it: nothing is padded, and every piece's activations are quantised
  by themselves. `config.json` keeps the sha256 of both files, which is compared before they are opened, and features by
  name and version: others than those it was trained on are refused."""


def _trained_on(rows: Sequence[Mapping[str, Any]], settings: EncoderSettings) -> Iterator[str]:
    cells = [
        (row["set"], row["used_as"], _number(row.get("queries")), _number(row.get("pairs")), row["licence"])
        for row in rows
    ]
    yield from _table(("set", "used as", "queries", "pairs", "licence"), cells)
    yield ""
    yield (
        f"`config.json` lists marks (the first digits of a sha256) of the {len(settings.training_queries)} labelled "
        "queries it learnt from, so that a measurement on one of them can say so."
    )


def _purpose() -> str:
    return """## What it is for, and what it is not for

For: English product search, where no large model is at hand or is worth its price; a second opinion beside the rules,
whose path it carries as its explanation. The path's levels are the rulebook's and may speak for another grade.

Not for: queries without a demand (they get no grade), other languages, kinds of goods far from those it was trained on
without measuring it there first, decisions about people. A rule that is changed changes the numbers it reads, but not
what it learnt: after large changes it should be trained anew. Its thresholds are those of the sets below: on another
shop it ranks better than it grades, until they are fitted there."""


def _figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    for part in metrics["measured"]:
        yield f"**{part['set']}**, {part['queries']} queries: {part['how']}."
        yield ""
        yield from _systems(part["systems"])
        yield ""
        if people := (part.get("people") or {}).get("quadratic_kappa"):
            yield f"Agreement of single people with one another: kappa² {_interval(people)}."
            yield ""
    if confusion := metrics.get("confusion"):
        rows = [(f"true {level}", *map(str, row)) for level, row in zip(_LEVELS, confusion, strict=True)]
        yield from (*_table(("", *(f"said {level}" for level in _LEVELS)), rows), "")
    if ablations := metrics.get("ablations"):
        rows = [(name, *(_interval(found.get(metric)) for metric in _METRICS)) for name, found in ablations.items()]
        yield from (*_table(("without", *_METRICS.values()), rows), "")
    yield from _notes(metrics)


def _systems(systems: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    first = next(iter(systems))
    rows = [
        (name, str(found["n"]), *(_interval(found["metrics"].get(metric)) for metric in _METRICS))
        for name, found in systems.items()
    ]
    yield from _table(("", "pairs", *_METRICS.values()), rows)
    rows = [
        (f"{first} minus {name}", *(_interval(found["difference"].get(metric), signed=True) for metric in _METRICS))
        for name, found in systems.items()
        if found.get("difference")
    ]
    if rows:
        yield ""
        yield from _table(("paired difference", *_METRICS.values()), rows)


def _notes(metrics: Mapping[str, Any]) -> Iterator[str]:
    if lost := metrics.get("quantisation"):
        yield (
            f"- What int8 costs: {lost['grades_changed']:.4f} of the grades of the judged pairs are others than with "
            "the encoder in float32."
        )
    if parity := metrics.get("parity"):
        yield f"- ONNX in float32 against torch: logits differ by {parity['largest_difference']:.1e} at most."
    for key in ("calibration", "speed"):
        for name, value in metrics.get(key, {}).items():
            yield f"- {key.capitalize()}, {name.replace('_', ' ')}: {_number(value)}."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def _interval(figure: Mapping[str, float | None] | None, *, signed: bool = False) -> str:
    """The value (low to high); – for none."""
    if figure is None or figure.get("value") is None:
        return "–"
    form = "+.3f" if signed else ".3f"
    low, high = figure.get("low"), figure.get("high")
    between = "" if low is None or high is None else f" ({format(low, form)} to {format(high, form)})"
    return format(figure["value"], form) + between


def _number(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
