"""The pairs that chains are written for: labelled ones of a set or a store, and made-up ones over catalogues.

Labels are balanced before anybody is asked: at most so many pairs of each level, spread over the queries, always the
same. A catalogue may be a file or folder of items, or a public set whose attributes are known: its truth then stands in
for what a seller would say. Pairs come query by query. This module asks no teacher.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import DEFAULT_ENGINE, QueryEngine, open_engine
from jobs.demo import demo_folder
from jobs.judge_material import GIVEN, Material, read_set, read_store
from jobs.judge_pictures import StorePictures
from lore_mm.catalogue import open_catalogue
from lore_mm.console import say
from lore_mm.datasets import FORMATS as DATASETS
from lore_mm.datasets import open_dataset
from lore_mm.datasets.relevance import FORMATS as GRADED
from lore_mm.datasets.relevance import GradedPair, RelevanceSet, Wanted, open_relevance
from lore_mm.errors import InputError
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import Knowledge
from lore_mm.rows import attribute_to_row, demand_to_row, item_from_row, item_to_row
from lore_mm.types import Grade, Item, ItemFeatures, Understanding
from relevance.by_rules import RulesJudge
from relevance.training.made_up import Maker
from stores.features import FeatureStore

__all__ = ["MADE_UP", "ChainPair", "Sources", "balanced", "catalogue_items", "labelled_pairs", "made_up_pairs"]

STORE = "store"  # the set of a store's labels
MADE_UP = "made up"  # the set of pairs that no set has
_LOTS = 8  # bytes


@dataclass(frozen=True, slots=True)
class ChainPair:
    """A pair with its label. `split` is the one its set names; with an `error` there is nothing to write about."""

    set: str
    understanding: Understanding
    features: ItemFeatures
    label: Grade
    label_by: Literal["people", "rules"]
    changed: str = ""
    split: str | None = None
    picture_root: str | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What the pair is known by: set, query and item."""
        return self.set, self.understanding.query.query_id, self.features.item.item_id

    @property
    def sha(self) -> str:
        """Identifies what is known of the pair: demands, item, attributes, pixels, label."""
        item = [item_to_row(self.features.item), [attribute_to_row(one) for one in self.features.attributes]]
        query = [self.understanding.query.text, self.understanding.status, self.understanding.error]
        asked = [demand_to_row(one) for one in self.understanding.demands]
        own = [int(self.label), self.label_by, self.changed, self.split, self.picture_root, self.error]
        return sha_of([query, asked, item, self.features.input_sha, own])


@dataclass(frozen=True)
class Sources:
    """Where pairs come from: graded sets, catalogues, and where neither is named the labels of a store.

    At most `per_label` pairs of each level are taken of each set; `made_up` pairs are made over all catalogues.
    """

    datasets: Sequence[str] = ()
    catalogues: Sequence[str] = ()
    made_up: int = 10_000
    per_label: int = 1000
    split: str | None = None
    scale: str | None = None
    locale: str | None = None
    extractors: Sequence[str] = GIVEN
    policy: PicturePolicy = field(default_factory=PicturePolicy)
    seed: int = 0

    def read(
        self, store: FeatureStore, knowledge: Knowledge, judge: RulesJudge, engine: str = DEFAULT_ENGINE
    ) -> list[ChainPair]:
        """All pairs, set by set and query by query. Tells what was left out.

        Raises:
            InputError: a set or catalogue cannot be read, two have the same name, or there are no labels.
        """
        names = [_name_of(address) for address in self.datasets]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise InputError(f"--dataset: two sets are called {twice[0]!r}; take them in two runs, to two files")
        made: list[ChainPair] = []
        for name, address in zip(names, self.datasets, strict=True):
            made += self._of_set(name, address, knowledge, engine)
        if self.catalogues:
            reader = open_engine(engine, knowledge)
            try:
                some, counts = made_up_pairs(self.catalogues, self.made_up, knowledge, judge, reader, self.seed)
            finally:
                reader.close()
            say(f"{MADE_UP}: {len(some)} pairs; " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
            made += some
        if not self.datasets and not self.catalogues:
            made = self._of_store(store, knowledge, engine)
        return made

    def _of_set(self, name: str, address: str, knowledge: Knowledge, engine: str) -> list[ChainPair]:
        place = str(demo_folder()) if address == "demo" else address
        data = open_relevance(place, Wanted(split=self.split, locale=self.locale, scale=self.scale))
        data = self._balanced(name, data)
        material = read_set(data, knowledge, engine, self.extractors, self.policy)
        root = _place(data.picture_root)
        return labelled_pairs(data, material, name, lambda item: root)

    def _of_store(self, store: FeatureStore, knowledge: Knowledge, engine: str) -> list[ChainPair]:
        if only := [name for name in ("scale", "locale") if getattr(self, name) is not None]:
            raise InputError(f"--{only[0]} goes with --dataset; without it the store's labels are taken")
        if store.version("labels") is None:
            raise InputError(
                f"no labels in {store.uri}: name a --dataset or a --catalogue, or read labels with `lore ingest`"
            )
        data, material = read_store(store, knowledge, engine, split=self.split, policy=self.policy)
        pictures = StorePictures(store, self.policy)
        return labelled_pairs(self._balanced(STORE, data), material, STORE, pictures.root_of)

    def _balanced(self, name: str, data: RelevanceSet) -> RelevanceSet:
        """Labels evened out, of the pairs whose item is there."""
        there = [pair for pair in data.pairs if pair.item_id in data.items]
        kept = balanced(there, self.per_label)
        had, has = (Counter(str(pair.grade) for pair in some) for some in (data.pairs, kept))
        levels = ", ".join(f"{has[str(grade)]} of {had[str(grade)]} {grade}" for grade in Grade)
        lost = len(data.pairs) - len(there)
        say(f"{name}: {levels}" + (f"; {lost} are of items that are not there or cannot be used" if lost else ""))
        if not kept:
            raise InputError(f"{name}: none of its {len(data.pairs)} pairs has an item that can be used")
        return replace(data, pairs=tuple(kept))


def _name_of(address: str) -> str:
    """The name of a set in rows: its format, or the name of its file."""
    kind, colon, _ = address.partition(":")
    return kind if colon and kind in (*GRADED, *DATASETS) else Path(address).stem


def balanced(pairs: Sequence[GradedPair], most: int) -> list[GradedPair]:
    """At most so many pairs of each level, as few of one query as can be, query by query in the order of the set."""
    by_query: dict[tuple[Grade, str], list[GradedPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda one: _lot(one.query.query_id, one.item_id)):
        by_query[pair.grade, pair.query.query_id].append(pair)
    turns: dict[Grade, list[tuple[int, int, GradedPair]]] = defaultdict(list)
    for (grade, query_id), some in by_query.items():
        turns[grade] += [(turn, _lot(query_id), one) for turn, one in enumerate(some)]
    kept = {id(one) for some in turns.values() for _, _, one in sorted(some, key=lambda one: one[:2])[:most]}
    first: dict[str, int] = {}
    for pair in pairs:
        first.setdefault(pair.query.query_id, len(first))
    return sorted((one for one in pairs if id(one) in kept), key=lambda one: first[one.query.query_id])


def _lot(*names: str) -> int:
    return int(sha_of_bytes("\0".join(names).encode("utf-8", "replace"))[: 2 * _LOTS], 16)


def labelled_pairs(
    data: RelevanceSet, material: Material, name: str, root_of: Callable[[Item], str | None]
) -> list[ChainPair]:
    """The pairs of a set that was read; one whose item could not be read has the reason.

    `root_of` names the folder that an item's pictures are relative to.
    """
    made = []
    for pair in data.pairs:
        features = material.features.get(pair.item_id)
        made.append(
            ChainPair(
                name,
                material.understood[pair.query.query_id],
                features or ItemFeatures(Item(pair.item_id, "")),
                pair.grade,
                "people",
                split=pair.split,
                picture_root=root_of(features.item) if features and features.item.images else None,
                error=None if features else material.missing.get(pair.item_id, "its item is not there"),
            )
        )
    return made


def catalogue_items(address: str, knowledge: Knowledge) -> tuple[list[Item], str | None]:
    """The items of a catalogue, and the folder that their pictures are relative to.

    `demo`; a graded or a labelled set by its address; or a file or folder as `lore ingest` reads it.

    Raises:
        InputError: it cannot be read.
    """
    kind, colon, _ = address.partition(":")
    if address == "demo" or (colon and kind in GRADED):
        graded = open_relevance(str(demo_folder()) if address == "demo" else address)
        return list(graded.items.values()), _place(graded.picture_root)
    if colon and kind in DATASETS:
        found = open_dataset(address, knowledge)
        said: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for one in found.truth:
            if one.values:
                said[one.item_id][one.attribute] = one.values
        return [replace(item, attributes=said[item.item_id]) for item in found.items], _place(found.picture_root)
    if colon and not Path(address).exists():
        legal = ", ".join(f"{name}:PATH" for name in (*GRADED, *DATASETS))
        raise InputError(f"--catalogue {address!r}: no such file or format; legal: demo, {legal}, a file or a folder")
    opened = open_catalogue(address)
    rows = [row for table in opened.batches(1024) for row in table.to_pylist()]
    bad = [row for row in rows if row["status"] != "ok"]
    if bad:
        say(f"{address}: {len(bad)} of {len(rows)} items cannot be used, such as: {bad[0]['error']}")
    return [item_from_row(row) for row in rows if row["status"] == "ok"], str(opened.image_root)


def _place(folder: Path | None) -> str | None:
    return str(folder.resolve()) if folder else None


def made_up_pairs(
    addresses: Sequence[str], count: int, knowledge: Knowledge, judge: RulesJudge, engine: QueryEngine, seed: int = 0
) -> tuple[list[ChainPair], Counter[str]]:
    """So many pairs over the items of these catalogues together, and what became of the queries made up for them.

    Raises:
        InputError: a catalogue cannot be read, or the kind of none of its items is known.
    """
    given = Given(knowledge)

    def extract(items: Sequence[Item]) -> list[ItemFeatures]:
        found = given.extract([ExtractorInput(item) for item in items])
        return [ItemFeatures(item, one.attributes) for item, one in zip(items, found, strict=True)]

    items: dict[str, Item] = {}
    roots: dict[str, str | None] = {}
    for address in addresses:
        some, root = catalogue_items(address, knowledge)
        for item in some:
            if items.setdefault(item.item_id, item) is item:
                roots[item.item_id] = root
    try:
        maker = Maker(extract(list(items.values())), knowledge, judge, engine.understand, extract)
    except ValueError as error:
        raise InputError(f"{', '.join(addresses)}: {error}") from None
    made = []
    for one in maker.made(count, seed):
        item = one.features.item
        # a picture shows what the item was before it was changed
        features = replace(one.features, item=replace(item, images=())) if one.changed else one.features
        made.append(
            ChainPair(
                MADE_UP,
                one.understanding,
                features,
                one.judgment.grade or Grade.L1,
                "rules",
                changed=one.changed,
                picture_root=roots.get(item.item_id) if features.item.images else None,
            )
        )
    return made, maker.counts
