"""`lore calibrate attributes`: how far each extractor is to be believed, and what need not be asked for, from labels.

Extractors run over the training split of a labelled data set, under the schemas that `lore extract` asks by; their
answers are fitted (`extractors.calibrate_fit`). What came of it is measured on the test split: how many fields are
settled without the model, how right they are, and, where a model is named, the cascade beside asking the model for
everything: calls, fields, tokens and accuracy on the same rows. It knows no metric of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.calibrate import Calibration, write_calibration
from extractors.calibrate_fit import JudgedField, fit_calibration
from extractors.gate import Gate
from extractors.protocol import Extraction, Extractor, ExtractorInput
from jobs.asked import Asked
from jobs.attribute_metrics import Measured, differences, measure
from jobs.attribute_runs import run_extractors
from jobs.attribute_scoring import ScoredRow
from jobs.calibrate_tables import calibration_tables
from jobs.open_extractors import DEFAULT, EXTRACTORS, VlmChoice, close_extractors, model_options, open_extractors
from jobs.options import Ask, KnowledgeFolder, ModelOption, Prompt, StoreAddress, VlmAddress, listed
from lore_mm.bootstrap import Draws, Estimate, estimate, plain, ratio
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, progress, run, say
from lore_mm.datasets import Dataset, open_dataset, shipped_name
from lore_mm.datasets.dataset import in_test
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_CHAT, DEFAULT_EMBEDDER
from lore_mm.places import place_of
from lore_mm.schema import Schemas, load_schemas

__all__ = ["HeldOut", "fit", "held_out", "main"]

RESAMPLES = 1000
CALIBRATION = "calibration.json"


class _Meter:
    """Stands where the model does: asks it, where there is one, and keeps what was settled and what was spent."""

    name = "vlm"

    def __init__(self, inner: Extractor | None) -> None:
        self.inner, self.asked = inner, Asked()
        self.needs_pictures = bool(inner and inner.needs_pictures)
        self.sha = inner.sha if inner else ""
        self.settled: dict[str, frozenset[str]] = {}

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """As the model's extractor does; nothing where there is none."""
        self.settled |= {one.item.item_id: one.settled for one in inputs}
        found = self.inner.extract(inputs) if self.inner else [Extraction(category=one.category) for one in inputs]
        self.asked.add(found)
        return found


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the calibration does on rows it was not fitted on.

    `settled_precision`: share of settled fields where nothing false is said; `settled_share`: of all labelled fields.
    With a model: metrics by system (`cascade`, `all asked`, `vlm`), the cascade's differences from asking for all, and
    what each run asked. `vlm_on_settled`: the share right of the model's own answers to the fields it was spared.
    """

    dataset: str
    n: int
    n_settled: int
    settled_precision: Estimate
    settled_share: Estimate
    vlm_on_settled: Estimate | None = None
    systems: dict[str, Measured] = field(default_factory=dict)
    difference: dict[str, Estimate] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)

    @property
    def saved_calls(self) -> int:
        """Calls that asking for everything makes, and the cascade does not."""
        return self.asked["all asked"].usage.calls - self.asked["cascade"].usage.calls if self.asked else 0

    @property
    def saved_fields(self) -> int:
        """Fields that the model was not asked for."""
        return self.asked["all asked"].fields - self.asked["cascade"].fields if self.asked else self.n_settled

    def as_json(self) -> dict[str, Any]:
        """n, metrics {name: {value, low, high}}, asked, saved: as `--json` prints it."""
        metrics = {"settled_precision": self.settled_precision, "settled_share": self.settled_share}
        if self.vlm_on_settled:
            metrics["vlm_on_settled"] = self.vlm_on_settled
        for name, system in self.systems.items():
            label = name.replace(" ", "_")
            metrics |= {
                f"{label}_{m}": e for m, e in system.metrics.items() if m in ("accuracy", "precision", "recall")
            }
        metrics |= {f"difference_{m}": self.difference[m] for m in ("accuracy",) if m in self.difference}
        asked = {
            name: {
                "calls": one.usage.calls,
                "fields": one.fields,
                "prompt_tokens": one.usage.prompt_tokens,
                "completion_tokens": one.usage.completion_tokens,
            }
            for name, one in self.asked.items()
        }
        return {
            "dataset": self.dataset,
            "n": self.n,
            "metrics": plain(metrics),
            "n_settled": self.n_settled,
            "asked": asked,
            "saved": {"calls": self.saved_calls, "fields": self.saved_fields},
        }


def fit(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    knowledge: Knowledge,
    schemas: Schemas | None = None,
    precision: float = 0.95,
    risk: float = 0.05,
    tick: Callable[[int], None] = lambda n: None,
) -> Calibration:
    """Run extractors over labelled items, and fit what their confidences are worth.

    `schemas`: those they were opened with, where not the data set's own; entries bear the attributes' names there.

    Raises:
        InputError: the data set has no labelled rows.
        LoreError: an engine is dead or missing.
    """
    if not dataset.truth:
        raise InputError(f"{dataset.name}: no labelled rows to fit on")
    judged = []
    for row in run_extractors(dataset, extractors, knowledge=knowledge, schemas=schemas):
        tick(1)
        if row.extractor != "merge":
            name = shipped_name(row.attribute) if schemas else row.attribute
            values = tuple(zip(row.confidences, row.hits, strict=True))
            judged.append(JudgedField(row.extractor, name, row.group, values))
    groups = len({row.group for row in judged})
    fitted_on = f"{dataset.name}: {len(dataset.truth)} fields of {len(dataset.items)} items in {groups} groups"
    return fit_calibration(judged, precision=precision, risk=risk, fitted_on=fitted_on)


def held_out(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    calibration: Calibration,
    *,
    knowledge: Knowledge,
    schemas: Schemas | None = None,
    resamples: int = RESAMPLES,
    tick: Callable[[int], None] = lambda n: None,
) -> HeldOut:
    """Run the cascade over other labelled items, and where a model is among the extractors, that with nothing settled.

    Raises:
        LoreError: an engine is dead or missing.
    """
    model = next((e for e in extractors if e.name == "vlm"), None)
    cheap = [e for e in extractors if e.name != "vlm"]
    unsettling = calibration.model_copy(
        update={"entries": tuple(e.model_copy(update={"threshold": None}) for e in calibration.entries)}
    )
    runs: dict[str, dict[str, list[ScoredRow]]] = {}
    meters: dict[str, _Meter] = {}
    for name, fitted in (("cascade", calibration), ("all asked", unsettling)):
        if name == "cascade" or model:
            meters[name] = _Meter(model)
            runs[name] = {}
            some = [*cheap, meters[name]]
            for row in run_extractors(dataset, some, knowledge=knowledge, schemas=schemas, gate=Gate(fitted)):
                tick(1)
                runs[name].setdefault(row.extractor, []).append(row)
    rows = runs["cascade"]["merge"]
    settled = [
        i
        for i, row in enumerate(rows)
        if (shipped_name(row.attribute) if schemas else row.attribute) in meters["cascade"].settled[row.item_id]
    ]
    found = HeldOut(
        dataset.name,
        len(rows),
        len(settled),
        _share(rows, settled, [rows[i].right for i in settled], resamples),
        _share(rows, range(len(rows)), [i in set(settled) for i in range(len(rows))], resamples),
    )
    if model is None:
        return found
    everything = runs["all asked"]
    systems = {"cascade": rows, "all asked": everything["merge"], "vlm": everything["vlm"]}
    measured = {name: measure(some, resamples=resamples)["micro"] for name, some in systems.items()}
    return HeldOut(
        found.dataset,
        found.n,
        found.n_settled,
        found.settled_precision,
        found.settled_share,
        _share(rows, settled, [everything["vlm"][i].right for i in settled], resamples),
        measured,
        differences(measured["cascade"], measured["all asked"]),
        {name: meter.asked for name, meter in meters.items()},
    )


def _parted(dataset: Dataset) -> Dataset:
    """The data set with both splits: where it has no training split, a fifth of its groups is held out."""
    if "train" in dataset.splits.values():
        return dataset
    splits = {i.item_id: "test" if in_test(dataset.group(i.item_id)) else "train" for i in dataset.items}
    return replace(dataset, splits=splits)


def _share(rows: Sequence[ScoredRow], at: Iterable[int], yes: Sequence[bool], resamples: int) -> Estimate:
    """The share of these rows that are so, with its interval over groups."""
    places = list(at)
    draws = Draws([row.group for row in rows], resamples, 0)
    columns = [[float(one), 1.0] for one in yes] or [[0.0, 0.0]]
    part, whole = draws.sums(columns, places or [0]).T
    return estimate(ratio(part, whole))


def _own_file(store: str) -> Path:
    """The file of a store that `lore extract` takes by itself."""
    folder = place_of(store)
    if not isinstance(folder, Path):
        raise InputError(
            f"{store} lies in a bucket: name a file with --out, and give it to `lore extract --calibration`"
        )
    return folder / CALIBRATION


def main(
    dataset: Annotated[
        str, typer.Option("--dataset", help="Labelled items: luma:FOLDER, or a FILE; see `lore evaluate attributes`.")
    ],
    store: StoreAddress = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file; the store's own unless given.")] = None,
    extractors: Annotated[
        str, typer.Option("--extractors", help=f"Which, between commas, of: {', '.join(EXTRACTORS)}.")
    ] = ",".join(DEFAULT),
    embedder: Annotated[str, typer.Option("--embedder", help="The model of zero_shot.")] = DEFAULT_EMBEDDER,
    vlm: VlmAddress = None,
    ask: Ask = None,
    prompt: Prompt = None,
    model_option: ModelOption = None,
    precision: Annotated[float, typer.Option("--precision", help="Settled fields are to be right so often.")] = 0.95,
    risk: Annotated[float, typer.Option("--risk", help="The chance to miss that by luck, for each.")] = 0.05,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N items of each split.")] = None,
    knowledge: KnowledgeFolder = None,
    schemas: Annotated[Path | None, typer.Option(help="A folder of attribute schemas of your own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Fit how far each extractor is to be believed, and which fields the model need not be asked for.

    Fitted on the training split of labelled items, measured on the test split: name --vlm to see what the cascade
    saves against asking the model for everything, and at what accuracy. `lore extract` uses the file.

    Example: lore calibrate attributes --dataset luma:data/luma --precision 0.95 --vlm hf:lore-vlm-tiny
    """
    path = out or _own_file(store or default_store())
    known, shapes = load_knowledge((knowledge,) if knowledge else ()), load_schemas((schemas,) if schemas else ())
    whole = _parted(open_dataset(dataset, known))
    train, test = whole.in_split("train").first(limit), whole.in_split("test").first(limit)
    names = listed(extractors)
    choice = None
    if vlm or "vlm" in names:
        fields = tuple(listed(ask)) if ask else None
        choice = VlmChoice(vlm or DEFAULT_CHAT, model_options(model_option or ()), prompt, fields)
        names = [*names, "vlm"]
    opened = open_extractors(names, embedder, known, shapes, choice)
    try:
        total = len(train.truth) * (len(opened) + 1) + len(test.truth) * (len(opened) + 1) * (2 if choice else 1)
        with progress("calibrate", total) as tick:
            fitted = fit(train, opened, knowledge=known, schemas=shapes, precision=precision, risk=risk, tick=tick)
            measured = (
                held_out(test, opened, fitted, knowledge=known, schemas=shapes, tick=tick) if test.truth else None
            )
    finally:
        close_extractors(opened)
    write_calibration(fitted, path)
    if for_people(json):
        for table in calibration_tables(fitted, measured):
            print_table(table)
    else:
        entries = [entry.model_dump(mode="json", exclude={"knots"}) for entry in fitted.entries]
        print_json({"file": str(path), **(measured.as_json() if measured else {}), "entries": entries})
    say(f"calibrate: written to {path}")


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.fit_thresholds"))
