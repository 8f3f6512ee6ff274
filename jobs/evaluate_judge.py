"""Measure judges against labels, beside baselines that get every fair chance: `lore evaluate judge`.

With --dataset a set of graded pairs is measured, read in this process; without, the labels of a store on the store's
features. Where pairs come from is told in `jobs.judge_material`, what is measured in `jobs.judge_datasets`. Missing
judgments are reported and never scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extractors.queries import DEFAULT_ENGINE
from jobs.demo import demo_folder
from jobs.judge_answers import answer_rows, check_ending, save_answers
from jobs.judge_datasets import Evaluation, evaluate_set
from jobs.judge_material import GIVEN, Material, read_set, read_store
from jobs.judge_systems import check_addresses
from jobs.judge_tables import METRIC_NAMES, evaluation_rows, evaluation_tables
from jobs.open_extractors import DEFAULT, EXTRACTORS, model_options
from jobs.options import AllowUrls, ModelOption, QueryEngineAddress, StoreAddress, listed
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.datasets.relevance import FORMATS, RelevanceSet, Wanted, open_relevance
from lore_mm.errors import InputError
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER
from relevance.judge import DEFAULT_JUDGE, MODES

if TYPE_CHECKING:
    from stores.features import FeatureStore

__all__ = [
    "METRIC_NAMES",
    "Calibrations",
    "DatasetAddress",
    "EmbedderAddresses",
    "ExtractorNames",
    "JudgeAddresses",
    "LabelScale",
    "LabelsFile",
    "Locale",
    "PairSource",
    "RulesFile",
    "SomeQueries",
    "SplitName",
    "evaluate_store",
    "evaluation_rows",
    "evaluation_tables",
    "main",
    "named_embedders",
]

DatasetAddress = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help=f"Graded pairs instead of the store's labels: {', '.join(f'{name}:PATH' for name in FORMATS)}, demo, or a "
        "file of pairs with query, item_id, title and grade.",
        show_default=False,
    ),
]
JudgeAddresses = Annotated[
    list[str] | None,
    typer.Option("--judge", help=f"{', '.join(MODES.values())}; may be repeated: the first is compared with the rest."),
]
LabelsFile = Annotated[
    Path | None, typer.Option("--labels", help="Labels to use instead of the store's: query_id, item_id, grade.")
]
SplitName = Annotated[str | None, typer.Option("--split", help="Only queries of this split, such as test.")]
RulesFile = Annotated[Path | None, typer.Option("--rules", help="Judge by this rulebook instead of the shipped one.")]
Locale = Annotated[
    str | None, typer.Option("--locale", help="Of esci: us, es or jp; us unless given.", show_default=False)
]
LabelScale = Annotated[
    str | None,
    typer.Option("--scale", help="How labels become levels: levels, 0-3, 1-3, 1-4, esci, wands.", show_default=False),
]
SomeQueries = Annotated[int | None, typer.Option("--sample", min=1, help="Only N queries, by lot, always the same.")]
ExtractorNames = Annotated[
    str | None,
    typer.Option(
        "--extractors",
        help=f"With --dataset: who reads the items, of {', '.join(EXTRACTORS[:-1])}; given unless named.",
        show_default=False,
    ),
]
EmbedderAddresses = Annotated[
    list[str] | None,
    typer.Option(
        "--embedder",
        help=f"Whose similarity of query and title to compare with, such as {DEFAULT_EMBEDDER}; may be repeated; none "
        "to leave it out.",
    ),
]
Calibrations = Annotated[
    list[str] | None,
    typer.Option(
        "--calibration",
        help="A file that `lore calibrate judge` wrote for one of the judges, or contextual; may be repeated.",
        show_default=False,
    ),
]
Necessity = Annotated[
    bool,
    typer.Option(
        "--visual-necessity",
        help="Also judge the pairs with pictures on text alone and on pictures alone. Items of a --dataset are then "
        f"read by {','.join(DEFAULT)} unless --extractors names others.",
    ),
]
SaveFile = Annotated[
    Path | None,
    typer.Option("--save", help="Write every answer beside its label to this .parquet or .jsonl file."),
]


@dataclass(frozen=True)
class PairSource:
    """Which graded pairs, as the options say it."""

    store: str | None = None
    labels: Path | None = None
    dataset: str | None = None
    split: str | None = None
    locale: str | None = None
    scale: str | None = None
    sample: int | None = None
    extractors: str | None = None
    allow_urls: bool = False

    def read(self, knowledge: Knowledge, engine: str, necessity: bool = False) -> tuple[RelevanceSet, Material]:
        """The pairs and what judges are given; for `necessity` also what each extractor found, on pictures too.

        Raises:
            InputError: options that do not go together, or pairs that cannot be had.
        """
        policy = PicturePolicy(allow_urls=self.allow_urls)
        if self.dataset is None:
            only = {"locale": self.locale, "scale": self.scale, "extractors": self.extractors}
            if named := [name for name, value in only.items() if value is not None]:
                raise InputError(f"--{named[0]} goes with --dataset; the store's labels are measured without it")
            from stores.features import open_store

            opened = open_store(self.store or default_store())
            data, material = read_store(
                opened, knowledge, engine, self.labels, self.split, apart=necessity, policy=policy
            )
            return data.sample(self.sample), material
        if self.store is not None or self.labels is not None:
            raise InputError("--dataset brings its own items and labels; leave --store and --labels out")
        address = str(demo_folder()) if self.dataset == "demo" else self.dataset
        wanted = Wanted(split=self.split, locale=self.locale, scale=self.scale)
        data = open_relevance(address, wanted).sample(self.sample)
        names = listed(self.extractors) if self.extractors is not None else DEFAULT if necessity else GIVEN
        return data, read_set(data, knowledge, engine, names, policy)


def evaluate_store(store: FeatureStore, split: str | None = None, labels: Path | None = None) -> dict[str, Any]:
    """The rules and the baselines on the labels of a store, as `--json` prints it.

    Raises:
        InputError: there are no labels, a label names an unknown query, or nobody knows that split.
    """
    knowledge = load_knowledge()
    data, material = read_store(store, knowledge, labels=labels, split=split)
    found = evaluate_set(data, material=material, knowledge=knowledge, embedders=(), split=split)
    return found.result


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
    visual_necessity: Necessity = False,
    allow_urls: AllowUrls = False,
    save: SaveFile = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Measure judges against labels, beside baselines, with 95 % intervals over queries.

    Example: lore evaluate judge --split test

    Example: lore evaluate judge --dataset chorus:data/chorus --judge rules --judge student --save answers.parquet

    The baselines: the commonest grade for all, BM25 on titles, and similarities of embeddings, the last two with
    thresholds cross-validated on the labels. Pairs without a judgment are reported and never scored. `lore evaluate
    labels` ranks the labels that are probably wrong.
    """
    check_ending(save)
    judges = judge or [DEFAULT_JUDGE]
    check_addresses(judges)
    knowledge = load_knowledge()
    source = PairSource(store, labels, dataset, split, locale, scale, sample, extractors, allow_urls)
    data, material = source.read(knowledge, engine, necessity=visual_necessity)
    if embedder == ["none"]:
        material = replace(material, vectors=None)
    found = evaluate_set(
        data,
        judges,
        material=material,
        knowledge=knowledge,
        engine=engine,
        embedders=named_embedders(embedder, dataset is not None),
        split=split,
        necessity=visual_necessity,
        rules=rules,
        options=model_options(model_option or ()),
        calibrations=calibration or (),
    )
    if save is not None:
        rows = answer_rows(found.data, found.judges, found.baselines)
        say(f"{save_answers(rows, save)} pairs with every answer, disagreements first: {save}")
    _show(found, json)


def named_embedders(named: Sequence[str] | None, of_titles: bool) -> Sequence[str]:
    """The embedders that `--embedder` names; the default one for a set, and for a store none beside its own vectors.

    Raises:
        InputError: none, and others beside it.
    """
    if named is None:
        return (DEFAULT_EMBEDDER,) if of_titles else ()
    if "none" in named and len(named) > 1:
        raise InputError("--embedder none leaves similarities out; name no other beside it")
    return () if named == ["none"] else named


def _show(found: Evaluation, json: bool) -> None:
    if not for_people(json):
        print_json(found.result)
        return
    for table in evaluation_tables(found.result):
        print_table(table)
    for note in found.result["notes"]:
        say(note)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_judge"))
