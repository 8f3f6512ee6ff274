"""What judges are given when they are measured: pairs with their queries read and their items' features.

`read_set` reads a public set in this process, `read_store` takes what a store holds; from there on both are measured
the same way (`jobs.judge_datasets`). It knows no judge and no metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from extractors.calibrate import Calibration
from extractors.cascade import extract_all
from extractors.gate import Gate
from extractors.merge import Merger
from extractors.protocol import Extraction, ExtractorInput
from extractors.queries import DEFAULT_ENGINE, open_engine
from jobs.judge_pictures import PictureReader, StorePictures
from jobs.open_extractors import close_extractors, open_extractors
from lore_mm.catalogue import read_labels
from lore_mm.console import progress
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader
from lore_mm.errors import InputError, PictureError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.images import PicturePolicy, load_pictures
from lore_mm.knowledge import Knowledge
from lore_mm.models import DEFAULT_EMBEDDER
from lore_mm.rows import attribute_from_row
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Item, ItemFeatures, Understanding
from relevance.protocol import Pictures

if TYPE_CHECKING:
    from stores.features import FeatureStore

__all__ = ["GIVEN", "Findings", "Material", "StoredVectors", "merged", "read_set", "read_store"]

GIVEN = ("given",)
_AT_ONCE = 256
_LABEL = "evaluate judge"
_COLUMNS = {name: name for name in ("query", "item_id", "query_id", "kind", "split", "frequency")} | {"label": "grade"}


Findings = Mapping[str, Mapping[str, Extraction]]  # item_id → extractor → …


@dataclass(frozen=True)
class StoredVectors:
    """The embeddings a store holds: item_id → unit vector, the mean of its picture's and its text's."""

    model: str
    of: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Material:
    """What judges are given: queries understood and items with their features; and what made that.

    `missing` (item_id → why) are items of pairs that cannot be judged. `shas` names what the reading depends on.
    `findings` is what each extractor found, of which `features` are the verdict.
    """

    understood: Mapping[str, Understanding]  # query_id → …
    features: Mapping[str, ItemFeatures]  # item_id → …
    missing: Mapping[str, str]
    shas: Mapping[str, str]
    extractors: tuple[str, ...] = GIVEN  # who read the items; empty where a store says it
    vectors: StoredVectors | None = None
    findings: Findings = field(default_factory=dict)
    pictures: Pictures | None = None
    notes: tuple[str, ...] = ()


def read_set(
    data: RelevanceSet,
    knowledge: Knowledge,
    engine: str = DEFAULT_ENGINE,
    extractors: Sequence[str] = GIVEN,
    policy: PicturePolicy | None = None,
) -> Material:
    """Read the queries of a set by an engine and the items of its pairs by extractors, in this process.

    Raises:
        LoreError: the engine or an extractor is unknown, dead or missing.
    """
    understood, engine_sha = _read_queries(data, knowledge, engine)
    schemas = load_schemas()
    wanted = list(dict.fromkeys(pair.item_id for pair in data.pairs))
    missing = {
        i: f"item {i!r} cannot be used: {data.unusable[i]}" if data.unusable.get(i) else f"no item {i!r} in the set"
        for i in wanted
        if i not in data.items
    }
    there = [data.items[i] for i in wanted if i in data.items]
    features: dict[str, ItemFeatures] = {}
    findings: dict[str, Mapping[str, Extraction]] = {}
    faults: list[str] = []
    opened = open_extractors(extractors, DEFAULT_EMBEDDER, knowledge, schemas)
    merger = Merger(knowledge, schemas)
    try:
        with progress(f"{_LABEL}: items", len(there)) as advance:
            for n in range(0, len(there), _AT_ONCE):
                some = there[n : n + _AT_ONCE]
                looks = any(one.needs_pictures for one in opened)
                inputs = _with_pictures(some, data.picture_root, policy) if looks else list(map(ExtractorInput, some))
                faults += [error for one in inputs for error in one.picture_errors if error]
                for item, found in zip(some, extract_all(inputs, opened, merger, Gate(Calibration())), strict=True):
                    findings[item.item_id] = own = {name: one for name, one in found.items() if name != "merge"}
                    _keep(item, own, merger, features, missing)
                advance(len(some))
    finally:
        close_extractors(opened)
    shas = {"knowledge": knowledge.sha, "schemas": schemas.sha, "engine": engine_sha}
    shas |= {one.name: one.sha for one in opened} | ({"merge": merger.sha} if len(opened) > 1 else {})
    notes = (f"{len(faults)} pictures cannot be read, such as: {faults[0][:200]}",) if faults else ()
    names = tuple(one.name for one in opened)
    root = str(data.picture_root.resolve()) if data.picture_root else None
    pictures = PictureReader(lambda item: root, policy or PicturePolicy())
    return Material(understood, features, missing, shas, names, findings=findings, pictures=pictures, notes=notes)


def _read_queries(data: RelevanceSet, knowledge: Knowledge, engine: str) -> tuple[dict[str, Understanding], str]:
    queries = list({pair.query.query_id: pair.query for pair in data.pairs}.values())
    reader = open_engine(engine, knowledge)
    try:
        read = reader.understand(queries)
        return dict(zip((query.query_id for query in queries), read, strict=True)), reader.sha
    finally:
        reader.close()


def _keep(
    item: Item,
    found: Mapping[str, Extraction],
    merger: Merger,
    features: dict[str, ItemFeatures],
    missing: dict[str, str],
) -> None:
    """The features of an item; a picture that cannot be read leaves what the first extractor makes of the text."""
    first = next(iter(found.values()))
    if first.status == "failed":
        missing[item.item_id] = f"its attributes cannot be read: {first.error}"
    else:
        features[item.item_id] = ItemFeatures(item, merged(item, found, merger))


def merged(item: Item, found: Mapping[str, Extraction], merger: Merger) -> tuple[AttributeValue, ...]:
    """The verdict over what several extractors found; of one alone, what it found."""
    if len(found) == 1:
        return next(iter(found.values())).attributes
    return merger.merge(item, found).attributes if found else ()


def _with_pictures(items: Sequence[Item], root: Path | None, policy: PicturePolicy | None) -> list[ExtractorInput]:
    """The items with their decoded pictures, None with the reason where one cannot be read."""
    refs = [ref for item in items for ref in item.images]
    read = iter(load_pictures(refs, str(root) if root else None, policy or PicturePolicy()))
    inputs = []
    for item in items:
        some = [next(read) for _ in item.images]
        inputs.append(
            ExtractorInput(
                item,
                pictures=tuple(None if isinstance(one, PictureError) else one.image for one in some),
                picture_errors=tuple(str(one) if isinstance(one, PictureError) else None for one in some),
            )
        )
    return inputs


def read_store(
    store: FeatureStore,
    knowledge: Knowledge,
    engine: str = DEFAULT_ENGINE,
    labels: Path | None = None,
    split: str | None = None,
    apart: bool = False,
    policy: PicturePolicy | None = None,
) -> tuple[RelevanceSet, Material]:
    """The labelled pairs of a store, or those of a file of labels, with the store's features and vectors.

    `apart`: what each extractor found is read too.

    Raises:
        InputError: there are no labels, a label names an unknown query, or nobody knows that split.
    """
    from stores.snapshot import Snapshot

    reader, rows = _labelled(store, labels)
    snapshot = Snapshot(store)
    wanted = list(dict.fromkeys(pair.item_id for pair in reader.pairs))
    features = {i: f for i, f in zip(wanted, snapshot.get(wanted), strict=True) if f is not None}
    titles: dict[str, str] = {}
    if "items" in store.tables():
        known = store.latest("items").select("item_id", "title").collect()
        titles = {item_id: title or "" for item_id, title in known.iter_rows()}
    data = RelevanceSet(
        name=store.uri,
        scale=reader.scale,
        pairs=reader.pairs,
        items={item_id: one.item for item_id, one in features.items()},
        files=() if labels is None else (labels,),
        notes=reader.notes(),
        titles=titles,
        content_sha=sha_of([sorted((name, store.version(name)) for name in store.tables()), rows]),
    ).of_split(split)
    understood, engine_sha = _read_queries(data, knowledge, engine)
    gone = dict.fromkeys(pair.item_id for pair in data.pairs if pair.item_id not in features)
    missing = {item_id: f"no item {item_id!r} in the store that could be read" for item_id in gone}
    shas = {"knowledge": knowledge.sha, "schemas": load_schemas().sha, "engine": engine_sha}
    findings = _findings(store, features) if apart else {}
    pictures = StorePictures(store, policy or PicturePolicy())
    return data, Material(understood, features, missing, shas, (), _vectors(store), findings, pictures)


def _labelled(store: FeatureStore, labels: Path | None) -> tuple[PairReader, list[list[str]]]:
    """The labels joined with the store's queries, in the order of their ids."""
    queries = {q["query_id"]: q for q in store.latest("queries").collect().to_dicts()}
    rows = read_labels(labels).to_pylist() if labels else store.latest("labels").collect().to_dicts()
    where = str(labels) if labels else "the store's labels"
    reader = PairReader(scale_named("levels"))
    for row in sorted(rows, key=lambda row: (row["query_id"], row["item_id"])):
        if row["query_id"] not in queries:
            hint = nearest(row["query_id"], queries)
            raise InputError(f"{where}: query_id {row['query_id']!r} is not among the store's queries{hint}")
        reader.add(f"{where}, {row['query_id']} – {row['item_id']}", queries[row["query_id"]] | row, _COLUMNS)
    if not rows:
        raise InputError(f"{where}: no labelled pairs to measure against; `lore ingest` reads labels into a store")
    return reader, [[row["query_id"], row["item_id"], row["grade"]] for row in rows]


def _findings(store: FeatureStore, wanted: Iterable[str]) -> Findings:
    """What each extractor found for these items, from the store's rows before the merge."""
    import polars as pl

    found: dict[str, dict[str, Extraction]] = {item_id: {} for item_id in wanted}
    if "attributes" not in store.tables():
        return found
    for part in store.latest("attributes").filter(pl.col("extractor") != "merge").collect().iter_slices(1024):
        for row in part.to_dicts():
            if row["item_id"] in found:
                attributes = tuple(attribute_from_row(one) for one in row["attributes"] or ())
                found[row["item_id"]][row["extractor"]] = Extraction(attributes, row.get("category"))
    return found


def _vectors(store: FeatureStore) -> StoredVectors | None:
    rows: Iterable[Mapping[str, object]] = ()
    if "embeddings" in store.tables():
        rows = store.latest("embeddings").collect().to_dicts()
    found: dict[str, NDArray[np.float32]] = {}
    model = ""
    for row in rows:
        parts = [np.asarray(row[part], dtype=np.float32) for part in ("image", "text") if row[part]]
        if parts:
            mean = np.mean(parts, axis=0)
            model = str(row["model"])
            found[str(row["item_id"])] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return StoredVectors(model, found) if found else None
