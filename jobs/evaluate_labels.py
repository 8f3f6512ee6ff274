"""Rank the labels that are probably wrong: `lore evaluate labels`. How doubt is measured stands in `relevance.doubt`.

Labels that cannot be right at all are found by `lore check` in files as they stand; where one meets them here they come
first. No label is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.queries import DEFAULT_ENGINE
from jobs.evaluate_judge import (
    Calibrations,
    DatasetAddress,
    EmbedderAddresses,
    ExtractorNames,
    JudgeAddresses,
    LabelScale,
    LabelsFile,
    Locale,
    PairSource,
    RulesFile,
    SomeQueries,
    SplitName,
    named_embedders,
)
from jobs.judge_audit import audit_rows, found_spoilt
from jobs.judge_datasets import evaluate_set
from jobs.judge_systems import check_addresses
from jobs.open_extractors import model_options
from jobs.options import AllowUrls, ModelOption, QueryEngineAddress, StoreAddress
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from relevance.judge import DEFAULT_JUDGE

__all__ = ["main"]

Top = Annotated[int, typer.Option("--top", min=1, help="On a terminal: the N most doubtful.")]
Corrupt = Annotated[
    float | None,
    typer.Option(
        "--corrupt",
        min=0.001,
        max=0.5,
        help="Spoil this share of the labels by lot, in memory, and print how many of them are found.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", help="Write the doubtful labels to this .jsonl file.", show_default=False)
]


def main(
    store: StoreAddress = None,
    labels: LabelsFile = None,
    split: SplitName = None,
    rules: RulesFile = None,
    dataset: DatasetAddress = None,
    judge: JudgeAddresses = None,
    model_option: ModelOption = None,
    calibration: Calibrations = None,
    engine: QueryEngineAddress = DEFAULT_ENGINE,
    extractors: ExtractorNames = None,
    locale: Locale = None,
    scale: LabelScale = None,
    sample: SomeQueries = None,
    embedder: EmbedderAddresses = None,
    allow_urls: AllowUrls = False,
    corrupt: Corrupt = None,
    output: Output = None,
    top: Top = 20,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, also on a terminal.")] = False,
) -> None:
    """Rank the labels that are probably wrong, the most doubtful first, each with a judge's reason.

    Example: lore evaluate labels --dataset chorus:data/chorus --judge rules --judge student

    Example: lore evaluate labels --dataset demo --corrupt 0.1

    What the judges and baselines say is pooled by a model fitted on the other queries' labels, and single raters count
    beside it where the set has them. Doubt is how much likelier another level is. Labels are never changed.
    """
    if output is not None and output.suffix != ".jsonl":
        raise InputError(f"--output {output}: legal: the name of a .jsonl file")
    judges = judge or [DEFAULT_JUDGE]
    check_addresses(judges)
    knowledge = load_knowledge()
    source = PairSource(store, labels, dataset, split, locale, scale, sample, extractors, allow_urls)
    data, material = source.read(knowledge, engine)
    found = evaluate_set(
        data,
        judges,
        material=material,
        knowledge=knowledge,
        engine=engine,
        embedders=named_embedders(embedder, dataset is not None),
        split=split,
        resamples=0,
        rules=rules,
        options=model_options(model_option or ()),
        calibrations=calibration or (),
    )
    if corrupt is not None:
        print_json(found_spoilt(found, corrupt))
        return
    rows = audit_rows(found, knowledge)
    if output is not None:
        _write(rows, output)
    _show(rows, len(data.pairs), top, for_people(json), quiet=output is not None)


def _write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    from json import dumps

    try:
        path.write_text("".join(dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror or error}") from None


def _show(rows: Sequence[Mapping[str, Any]], pairs: int, top: int, people: bool, *, quiet: bool) -> None:
    say(f"{len(rows)} of {pairs} labels are in doubt")
    if people:
        from rich.table import Table
        from rich.text import Text

        table = Table("query", "item", "label", "rather", "doubt", "why", box=None, pad_edge=False)
        for row in rows[:top]:
            why = row["impossible"] or row["reason"] or "other systems, or people, say so"
            cells = (row["query"], row["title"][:60], row["label"], row["suggested"], f"{row['doubt']:.2f}", why)
            table.add_row(*map(Text, cells))
        print_table(table)
    elif not quiet:
        for row in rows:
            print_json(row)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_labels"))
