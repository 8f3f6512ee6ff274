"""Fit what a judge's probabilities are worth, on graded pairs: `lore calibrate judge`.

The judge judges the pairs as it is, one temperature and a bias for each level are fitted (`relevance.calibration`), and
what that is worth is measured on queries that were not fitted on, in folds. Pairs without a judgment, and judgments
without probabilities, are told and left out. The file is used by `--model-option calibration=FILE` wherever a judge is
named, or by `relevance.judge.open_judge(…, calibration=FILE)`. It knows no way to read pairs of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.queries import DEFAULT_ENGINE
from jobs.evaluate_judge import (
    DatasetAddress,
    LabelScale,
    LabelsFile,
    Locale,
    PairSource,
    RulesFile,
    SomeQueries,
    SplitName,
)
from jobs.judge_material import Material
from jobs.judge_systems import run_judge
from jobs.open_extractors import model_options
from jobs.options import ModelOption, QueryEngineAddress, StoreAddress
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge, load_knowledge
from relevance.calibration import LevelCalibration, fit_levels, write_levels
from relevance.judge import DEFAULT_JUDGE, open_judge
from relevance.levels import LEVELS

__all__ = ["calibrate_judge", "main"]


def calibrate_judge(
    address: str,
    data: RelevanceSet,
    material: Material,
    knowledge: Knowledge,
    *,
    rules: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> LevelCalibration:
    """The calibration of the judge at an address, fitted on all pairs of a set that it gives probabilities for.

    Raises:
        InputError: it is opened calibrated already, or too few pairs are left to fit on.
        LoreError: the judge cannot be had, or its model is dead.
    """
    if options and options.get("calibration") is not None:
        raise InputError("a judge that is calibrated already cannot be calibrated again: leave calibration out")
    with closing(open_judge(address, knowledge, rules=rules, pictures=material.pictures, **(options or {}))) as judge:
        found = run_judge(address, judge, data, material)
        sha = judge.sha
    kept = [(p, pair) for p, pair in zip(found.probabilities or (), data.pairs, strict=True) if p is not None]
    if not kept:
        why = next(iter(found.errors), "it gives no probabilities")
        raise InputError(f"judge {address}: none of {len(data.pairs)} pairs has probabilities to fit on: {why}")
    fit = fit_levels([p for p, _ in kept], [int(pair.grade) for _, pair in kept], [p.query.query_id for _, p in kept])
    return LevelCalibration(
        kind="fitted",
        judge=address,
        judge_sha=sha,
        scale=fit.scale,
        bias=fit.bias,
        dataset=data.name,
        dataset_sha=data.sha,
        queries=fit.queries,
        before=fit.before,
        after=fit.after,
    )


def main(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    judge: Annotated[
        str, typer.Option("--judge", help="Which judge: rules, student, direct:CHAT …; see `lore judge`.")
    ] = DEFAULT_JUDGE,
    dataset: DatasetAddress = None,
    store: StoreAddress = None,
    labels: LabelsFile = None,
    split: SplitName = None,
    rules: RulesFile = None,
    model_option: ModelOption = None,
    engine: QueryEngineAddress = DEFAULT_ENGINE,
    locale: Locale = None,
    scale: LabelScale = None,
    sample: SomeQueries = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Fit what a judge's probabilities are worth: one temperature, and a bias for each level.

    Example: lore calibrate judge --judge direct:hf:lore-vlm-tiny --dataset demo --split dev --out direct.json

    Then: lore evaluate judge --judge direct:hf:lore-vlm-tiny --model-option calibration=direct.json --split test

    Measured on the queries that were not fitted on, in folds. The file holds for this very judge, and is refused once
    its model, prompt, rules or tables are other ones.
    """
    knowledge = load_knowledge()
    source = PairSource(store, labels, dataset, split, locale, scale, sample)
    data, material = source.read(knowledge, engine)
    options = model_options(model_option or ())
    fitted = calibrate_judge(judge, data, material, knowledge, rules=rules, options=options)
    write_levels(fitted, out)
    assert fitted.before is not None and fitted.after is not None
    if left := len(data.pairs) - fitted.before.n:
        say(f"calibrate judge: {left} of {len(data.pairs)} pairs have no probabilities and were left out")
    if for_people(json):
        print_table(_table(fitted))
    else:
        print_json({"file": str(out), "n": fitted.before.n, **fitted.model_dump(mode="json")})
    say(f"calibrate judge: written to {out}")


def _table(fitted: LevelCalibration) -> object:
    from rich.box import SIMPLE
    from rich.table import Table

    assert fitted.before is not None and fitted.after is not None
    biases = ", ".join(f"{level} {value:+.2f}" for level, value in zip(LEVELS, fitted.bias, strict=True))
    temperature = f"temperature {1 / fitted.scale:.2f}" if fitted.scale else "its order says nothing and is not used"
    table = Table("", "as it is", "calibrated", box=SIMPLE)
    table.title = f"{fitted.judge} on {fitted.dataset}: {fitted.before.n} pairs of {fitted.queries} queries"
    table.caption = f"{temperature}; biases {biases}; calibrated: each query by what was fitted on the others"
    names = {"nll": "negative log-likelihood", "ece_2": "calibration error, relevant", "ece_4": "…, of the level"}
    for name, told in names.items():
        table.add_row(told, f"{getattr(fitted.before, name):.3f}", f"{getattr(fitted.after, name):.3f}")
    return table


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.calibrate_judge"))
