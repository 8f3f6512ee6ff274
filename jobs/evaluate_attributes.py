"""Measure extractors against labelled items: `lore evaluate attributes`.

Each extractor's own answers, the verdict over all of them, and the commonest answer of the training split, on the same
rows. With controls the vision-language model is also run without pictures and with those of other items: what it still
gets right it did not see. The metrics are told in `jobs.attribute_metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.calibrate import Calibration, read_calibration
from extractors.protocol import Extractor
from jobs.attribute_baselines import MAJORITY, majority_rows
from jobs.attribute_metrics import Measured, differences, measure
from jobs.attribute_runs import Pictures, run_extractors
from jobs.attribute_scoring import ScoredRow
from jobs.attribute_tables import attribute_tables, save_predictions
from jobs.open_extractors import EXTRACTORS, VlmChoice, close_extractors, open_extractors
from lore_mm.bootstrap import plain
from lore_mm.console import command_app, for_people, print_json, print_table, progress, run, say
from lore_mm.datasets import SPLITS, Dataset, open_dataset
from lore_mm.errors import InputError, nearest
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER
from lore_mm.schema import Schemas, load_schemas

__all__ = ["Evaluation", "evaluate_attributes", "main", "open_for"]

DEFAULT = "given,palette,zero_shot"
CONTROLS: Mapping[str, Pictures] = {"text only": "none", "shuffled": "shuffled"}
ALL = "all"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured: the answers by system (those of `system` are what it is about), their metrics, and notes."""

    dataset: str
    split: str
    items: int
    groups: int
    system: str
    rows: Mapping[str, Sequence[ScoredRow]]
    measured: Mapping[str, Mapping[str, Measured]]  # system → attribute, micro or macro → metrics
    notes: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """n, metrics of `system` (micro, and macro_… ones), systems, differences, notes: as `--json` prints them."""
        head = self.measured[self.system]
        main_metrics = plain(head["micro"].metrics)
        main_metrics |= {f"macro_{name}": value for name, value in plain(head["macro"].metrics).items()}
        return {
            "dataset": self.dataset,
            "split": self.split,
            "items": self.items,
            "groups": self.groups,
            "system": self.system,
            "n": head["micro"].n,
            "answered": head["micro"].answered,
            "failed": head["micro"].failed,
            "metrics": main_metrics,
            "systems": {
                name: {
                    "n": parts["micro"].n,
                    "answered": parts["micro"].answered,
                    "failed": parts["micro"].failed,
                    "micro": plain(parts["micro"].metrics),
                    "macro": plain(parts["macro"].metrics),
                    "attributes": {
                        attribute: {"n": m.n, "answered": m.answered, "failed": m.failed, "metrics": plain(m.metrics)}
                        for attribute, m in parts.items()
                        if attribute not in ("micro", "macro")
                    },
                }
                for name, parts in self.measured.items()
            },
            "differences": {
                f"{one} - {other}": plain(differences(self.measured[one]["micro"], self.measured[other]["micro"]))
                for one, other in self._compared()
            },
            "notes": list(self.notes),
        }

    def _compared(self) -> Iterator[tuple[str, str]]:
        """What is told apart: `system` from every other, and vlm from itself where it did not see the pictures."""
        for name in self.measured:
            if name != self.system:
                yield self.system, name
            if name.startswith("vlm ") and self.system != "vlm":
                yield "vlm", name


def open_for(
    dataset: Dataset,
    names: Sequence[str],
    knowledge: Knowledge,
    *,
    schemas: Schemas | None = None,
    embedder: str = DEFAULT_EMBEDDER,
    model: str = "",
) -> list[Extractor]:
    """The extractors of these names, in the order they run: under the data set's schemas, each answering all it can, or
    under other `schemas` as they are in production.

    Raises:
        InputError: an unknown name, or vlm without a model.
        ModelError, MissingExtraError: a model cannot be opened.
    """
    if "vlm" in names and not model:
        raise InputError("vlm needs a model: --model hf:lore-vlm-tiny, or another address")
    opened = open_extractors(names, embedder, knowledge, schemas or dataset.schemas, VlmChoice(model))
    for extractor in opened:
        if extractor.name == "zero_shot" and schemas is None:
            # also what no card of the model measured, and however unsure it is: what it is worth is measured here
            extractor.calibration["default"] = {"threshold": 0.0}  # type: ignore[attr-defined]
    return opened


def evaluate_attributes(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    train: Dataset | None = None,
    split: str = ALL,
    knowledge: Knowledge | None = None,
    schemas: Schemas | None = None,
    calibration: Calibration | None = None,
    controls: bool = False,
    coverage_at: float = 0.95,
    resamples: int = 1000,
    policy: PicturePolicy | None = None,
) -> Evaluation:
    """Run extractors over a data set and measure each, the verdict over them, and the majority of `train`.

    `schemas`: those that the extractors were opened with, where not the data set's own. `controls` repeats vlm without
    pictures and with those of other items.

    Raises:
        InputError: the data set has no labelled rows.
        LoreError: an engine is dead or missing.
    """
    if not dataset.truth:
        raise InputError(f"{dataset.name}: no labelled rows to measure against")
    runs: list[tuple[str | None, Sequence[Extractor], Pictures]] = [(None, extractors, "own")]
    if controls and any(e.name == "vlm" for e in extractors):
        blind = [e for e in extractors if e.name == "vlm" or not e.needs_pictures]
        runs += [(f"vlm {name}", blind, pictures) for name, pictures in CONTROLS.items()]
    rows: dict[str, list[ScoredRow]] = {}
    systems = len(extractors) + (len(extractors) > 1)
    with progress("evaluate attributes", len(dataset.truth) * (systems + len(runs) - 1)) as advance:
        for renamed, some, pictures in runs:
            for row in run_extractors(
                dataset,
                some,
                knowledge=knowledge,
                schemas=schemas,
                policy=policy,
                pictures=pictures,
                calibration=calibration,
            ):
                if renamed is None or row.extractor == "vlm":
                    name = renamed or row.extractor
                    rows.setdefault(name, []).append(replace(row, extractor=name))
                    advance(1)
    if train is not None and train.truth:
        rows[MAJORITY] = list(majority_rows(train, dataset))
    return Evaluation(
        dataset.name,
        split,
        len(dataset.items),
        len({row.group for row in rows[extractors[0].name]}),
        "merge" if len(extractors) > 1 else extractors[0].name,
        rows,
        {name: measure(some, coverage_at=coverage_at, resamples=resamples) for name, some in rows.items()},
        _notes(rows, coverage_at, shipped=schemas is not None),
    )


def _notes(rows: Mapping[str, Sequence[ScoredRow]], coverage_at: float, *, shipped: bool) -> list[str]:
    notes = ["asked by schemas other than the data set's: what these do not have is never answered"] if shipped else []
    notes += [f"coverage: the share of rows that can be answered with a precision of {coverage_at:g}, surest first"]
    if MAJORITY in rows:
        notes.append(f"{MAJORITY}: the commonest answer of split train for each attribute")
    else:
        notes.append("no majority baseline: its answers come from split train, which is measured here itself or empty")
    for name, some in rows.items():
        reasons = Counter(row.error for row in some if row.error)
        if reasons:
            told = "; ".join(f"{n} × {reason[:120]}" for reason, n in reasons.most_common(3))
            notes.append(f"{name}: {reasons.total()} rows failed and count as not answered: {told}")
    return notes


DatasetAddress = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="Labelled items: luma:FOLDER, implicitave:FOLDER, wdc_pave:PATH, or a FILE of items with a column truth "
        "(attribute → value, list, not_stated, not_applicable), or of item_id, attribute, value beside items.jsonl.",
    ),
]
ExtractorNames = Annotated[
    str, typer.Option("--extractors", help=f"Which to compare, between commas, of: {', '.join(EXTRACTORS)}.")
]
ModelAddress = Annotated[
    str, typer.Option("--model", help="The model of vlm: hf:NAME, vllm:NAME, openai:URL#NAME, scripted:FILE.")
]
Shipped = Annotated[
    bool,
    typer.Option("--shipped", help="Ask by the shipped schemas, as `lore extract` does, not by the data set's values."),
]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="Correct confidences by what `lore calibrate attributes` wrote.")
]
CoverageAt = Annotated[
    float, typer.Option("--coverage-at", min=0.0, max=1.0, help="The precision that coverage is told for.")
]
Controls = Annotated[
    bool, typer.Option("--controls", help="Also vlm without pictures, and with the pictures of other items.")
]
Save = Annotated[Path | None, typer.Option("--save", help="Write every answer beside its truth to this Parquet file.")]


def main(
    dataset: DatasetAddress,
    extractors: ExtractorNames = DEFAULT,
    model: ModelAddress = "",
    embedder: Annotated[str, typer.Option("--embedder", help="The model of zero_shot.")] = DEFAULT_EMBEDDER,
    split: Annotated[str, typer.Option("--split", help="Which items: test, train or all.")] = "test",
    attributes: Annotated[str, typer.Option("--attributes", help="Only these, between commas; else all.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N items.")] = None,
    shipped: Shipped = False,
    calibration: CalibrationFile = None,
    coverage_at: CoverageAt = 0.95,
    controls: Controls = False,
    save: Save = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Measure extractors against labelled items: each alone, the verdict over them, and the majority class.

    Example: lore evaluate attributes --dataset luma:data/luma --extractors given,palette,zero_shot

    Told for each attribute and over all (micro pools rows, macro is the mean over attributes): accuracy (a set must be
    whole), any match, precision, recall and F1 of the values said, calibration error, Brier score, and coverage at a
    target precision; with 95 % bootstrap intervals over groups that belong together (products, not colour variants).
    Rows that failed count as not answered, and are reported.
    """
    if save is not None and save.suffix != ".parquet":
        raise InputError(f"--save {save}: legal: the name of a .parquet file")
    knowledge = load_knowledge()
    whole = open_dataset(dataset, knowledge)
    whole = whole.only(wanted) if (wanted := _listed(attributes)) else whole
    chosen = _split(whole, split).first(limit)
    corrected = read_calibration(calibration) if calibration else None
    schemas = load_schemas() if shipped else None
    names = _listed(extractors)
    with _opened(chosen, names, knowledge, schemas=schemas, embedder=embedder, model=model) as opened:
        found = evaluate_attributes(
            chosen,
            opened,
            train=whole.in_split("train") if split == "test" else None,
            split=split,
            knowledge=knowledge,
            schemas=schemas,
            calibration=corrected,
            controls=controls,
            coverage_at=coverage_at,
        )
    if save is not None:
        save_predictions(found.rows, save)
        say(f"{sum(map(len, found.rows.values()))} answers beside their truth: {save}")
    if for_people(json):
        for table in attribute_tables(found.measured):
            print_table(table)
        for note in found.notes:
            say(note)
    else:
        print_json(found.as_json())


@contextmanager
def _opened(dataset: Dataset, names: Sequence[str], knowledge: Knowledge, **models: Any) -> Iterator[list[Extractor]]:
    """The extractors, and their engines closed in the end."""
    extractors = open_for(dataset, names, knowledge, **models)
    try:
        yield extractors
    finally:
        close_extractors(extractors)


def _split(dataset: Dataset, split: str) -> Dataset:
    legal = (*SPLITS, ALL)
    if split not in legal:
        raise InputError(f"no split {split!r}{nearest(split, legal)}; legal: {', '.join(legal)}")
    return dataset if split == ALL else dataset.of_split(split)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_attributes"))
