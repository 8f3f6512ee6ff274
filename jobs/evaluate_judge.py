"""Measure a judge against labels, beside baselines that get every fair chance: `lore evaluate judge`.

With --dataset a public set of graded pairs is measured (`jobs.judge_datasets`); without, the store's own labels are.
All labelled pairs of a store are judged by mode `rules` and by three baselines: the commonest grade for everything,
BM25 between query and title, and the similarity of embeddings. The last two give scores; the thresholds that make them
grades are fitted on the labels, cross-validated over queries, which is help the rules do not get. Missing judgments
are reported and never scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from extractors.queries import DEFAULT_ENGINE
from jobs.demo import demo_folder
from jobs.judge_datasets import RESAMPLES, evaluate_set
from jobs.judge_tables import METRIC_NAMES, evaluation_rows, evaluation_tables
from jobs.options import QueryEngineAddress
from lore_mm.bootstrap import plain
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.datasets.relevance import FORMATS, Wanted, open_relevance
from lore_mm.errors import InputError, MissingExtraError, ModelError, nearest
from lore_mm.models import DEFAULT_EMBEDDER
from lore_mm.types import Judgment, Query

if TYPE_CHECKING:
    from stores.features import FeatureStore

__all__ = [
    "METRIC_NAMES",
    "LabelledPairs",
    "evaluate_judge",
    "evaluation_rows",
    "evaluation_tables",
    "main",
    "read_labelled",
]

FOLDS = 5


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs with their true levels, column by column."""

    query_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    texts: tuple[str, ...]  # the queries
    kinds: tuple[str, ...]  # of the queries; "other" where none is given
    truth: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.truth)


def read_labelled(store: FeatureStore, labels: Path | None = None, split: str | None = None) -> LabelledPairs:
    """The labels of the store, or of a file, joined with the store's queries; of one split where it is named.

    Raises:
        InputError: there are no labels, a label names an unknown query, or nobody knows that split.
    """
    from lore_mm.catalogue import read_labels

    queries = {q["query_id"]: q for q in store.latest("queries").collect().to_dicts()}
    rows = read_labels(labels).to_pylist() if labels else store.latest("labels").collect().to_dicts()
    where = str(labels) if labels else "the store's labels"
    for row in rows:
        if row["query_id"] not in queries:
            hint = nearest(row["query_id"], queries)
            raise InputError(f"{where}: query_id {row['query_id']!r} is not among the store's queries{hint}")
    splits = sorted({q["split"] for q in queries.values() if q["split"]})
    if split is not None:
        if split not in splits:
            raise InputError(
                f"no split {split!r}{nearest(split, splits)}; the store has: {', '.join(splits) or 'none'}"
            )
        rows = [row for row in rows if queries[row["query_id"]]["split"] == split]
    if not rows:
        raise InputError(f"{where}: no labelled pairs to measure against; `lore ingest` reads labels into a store")
    rows.sort(key=lambda row: (row["query_id"], row["item_id"]))
    return LabelledPairs(
        query_ids=tuple(r["query_id"] for r in rows),
        item_ids=tuple(r["item_id"] for r in rows),
        texts=tuple(queries[r["query_id"]]["query"] for r in rows),
        kinds=tuple(queries[r["query_id"]]["kind"] or "other" for r in rows),
        truth=tuple(int(r["grade"][1]) for r in rows),
    )


def evaluate_judge(
    store: FeatureStore, labels: Path | None = None, split: str | None = None, rules: Path | None = None
) -> dict[str, Any]:
    """Judge all labelled pairs and measure: the judge, the baselines, the differences, and the slices by kind of query.

    The result is JSON-able: n, missing, metrics {name: {value, low, high}}, baselines {name: {n, missing, metrics,
    difference}}, slices {kind: {n, missing, metrics}}, confusion (rows: true L1–L4), errors (reason → count), notes.
    """
    from relevance.scoring import evaluate

    pairs = read_labelled(store, labels, split)
    judgments = judge_pairs(store, pairs, rules)
    grades = [int(j.grade or 0) for j in judgments]
    scores = [np.nan if j.score is None else j.score for j in judgments]
    result = evaluate(pairs.truth, grades, scores, pairs.query_ids, resamples=RESAMPLES)
    baselines, notes = _baselines(store, pairs)
    return {
        "split": split,
        **_measured(result),
        "confusion": result.confusion.tolist(),
        "baselines": {
            name: {**_measured(evaluate(pairs.truth, g, s, pairs.query_ids, resamples=RESAMPLES)),
                   "difference": _difference(pairs, grades, scores, g, s)}
            for name, (g, s) in baselines.items()
        },
        "slices": _slices(pairs, grades, scores),
        "errors": _errors(judgments),
        "notes": notes,
    }  # fmt: skip


def judge_pairs(store: FeatureStore, pairs: LabelledPairs, rules: Path | None = None) -> list[Judgment]:
    """One judgment a labelled pair, made now: queries are read and paths walked on the store's features."""
    from extractors.queries import understand
    from lore_mm.knowledge import load_knowledge
    from relevance.judge import open_judge
    from relevance.protocol import failed_judgment
    from stores.query import Snapshot

    knowledge = load_knowledge()
    queries = {i: Query(i, text) for i, text in zip(pairs.query_ids, pairs.texts, strict=True)}
    understood = dict(zip(queries, understand(list(queries.values()), knowledge), strict=True))
    wanted = list(dict.fromkeys(pairs.item_ids))
    features = dict(zip(wanted, Snapshot(store).get(wanted), strict=True))
    judge = open_judge("rules", knowledge, rules=rules)
    ready = [(understood[q], f) for q, i in _ids(pairs) if (f := features[i]) is not None]
    judged = iter(judge.judge(ready))
    return [
        next(judged) if features[i] is not None else failed_judgment(queries[q], i, f"no item {i!r} in the store")
        for q, i in _ids(pairs)
    ]


def _ids(pairs: LabelledPairs) -> list[tuple[str, str]]:
    return list(zip(pairs.query_ids, pairs.item_ids, strict=True))


Outputs = tuple[Sequence[int], Sequence[float]]  # grades (0 missing), scores (NaN missing)


def _baselines(store: FeatureStore, pairs: LabelledPairs) -> tuple[dict[str, Outputs], list[str]]:
    from relevance.baselines import BM25, cross_fitted, majority

    common = majority(pairs.truth)
    titles = {r["item_id"]: r["title"] for r in store.latest("items").select("item_id", "title").collect().to_dicts()}
    bm25 = BM25(titles)
    found: dict[str, list[float]] = {
        "bm25_title": [bm25.score(text, item) for text, item in zip(pairs.texts, pairs.item_ids, strict=True)]
    }
    notes = [
        f"all_one_class gives L{common}, the commonest grade of these labels",
        f"thresholds of bm25_title and embedding_similarity: fitted for kappa on the other queries, in {FOLDS} folds",
    ]
    try:
        found["embedding_similarity"] = _similarities(store, pairs)
    except (InputError, ModelError, MissingExtraError) as error:
        notes.append(f"embedding_similarity is missing: {error}")
    outputs: dict[str, Outputs] = {"all_one_class": ([common] * len(pairs), [0.0] * len(pairs))}
    for name, scores in found.items():
        outputs[name] = (cross_fitted(scores, pairs.truth, pairs.query_ids, FOLDS).tolist(), scores)
    return outputs, notes


def _similarities(store: FeatureStore, pairs: LabelledPairs) -> list[float]:
    """Cosine between the query's text and the item's mean of picture and text vectors; NaN where an item has none."""
    from lore_mm.models import open_embedder

    rows = store.latest("embeddings").collect().to_dicts() if "embeddings" in store.tables() else []
    vectors: dict[str, NDArray[np.float32]] = {}
    for row in rows:
        parts = [np.asarray(row[part], dtype=np.float32) for part in ("image", "text") if row[part]]
        if parts:
            mean = np.mean(parts, axis=0)
            vectors[row["item_id"]] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    if not vectors:
        raise InputError("the store has no embeddings; `lore embed` makes them")
    texts = list(dict.fromkeys(pairs.texts))
    embedded = dict(zip(texts, open_embedder(rows[0]["model"]).embed_texts(texts), strict=True))
    return [
        float(vectors[item] @ embedded[text]) if item in vectors else float("nan")
        for text, item in zip(pairs.texts, pairs.item_ids, strict=True)
    ]


def _measured(scored: Any) -> dict[str, Any]:
    return {"n": scored.n, "missing": scored.missing, "metrics": plain(scored.metrics)}


def _difference(
    pairs: LabelledPairs, grades: Sequence[int], scores: Sequence[float], other: Sequence[int], theirs: Sequence[float]
) -> dict[str, dict[str, float | None]]:
    """The judge minus a baseline, paired."""
    from relevance.scoring import paired_difference

    found = paired_difference(
        pairs.truth, grades, other, pairs.query_ids, scores_a=scores, scores_b=theirs, resamples=RESAMPLES
    )
    return plain(found)


def _slices(pairs: LabelledPairs, grades: Sequence[int], scores: Sequence[float]) -> dict[str, dict[str, Any]]:
    from relevance.scoring import evaluate

    result = {}
    for kind in sorted(set(pairs.kinds)):
        at = [i for i, k in enumerate(pairs.kinds) if k == kind]
        columns = [[column[i] for i in at] for column in (pairs.truth, grades, scores, pairs.query_ids)]
        result[kind] = _measured(evaluate(*columns, resamples=RESAMPLES))  # type: ignore[arg-type]
    return result


def _errors(judgments: Sequence[Judgment]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for judgment in judgments:
        if judgment.grade is None:
            reason = judgment.error or "unknown"
            counts[reason] = counts.get(reason, 0) + 1
    return counts


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
    typer.Option("--judge", help="With --dataset: rules, or rules:RULEBOOK.toml; may be repeated."),
]
Locale = Annotated[
    str | None, typer.Option("--locale", help="Of esci: us, es or jp; us unless given.", show_default=False)
]
LabelScale = Annotated[
    str | None,
    typer.Option("--scale", help="How labels become levels: levels, 0-3, 1-3, 1-4, esci, wands.", show_default=False),
]
SomeQueries = Annotated[
    int | None, typer.Option("--sample", min=1, help="With --dataset: only N queries, by lot, always the same.")
]
EmbedderAddress = Annotated[
    str, typer.Option("--embedder", help="With --dataset: whose similarity to compare with; none to leave it out.")
]


def main(
    store: Annotated[
        str | None, typer.Option("--store", help="The store's address; the default one if left out.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Labels to use instead of the store's: query_id, item_id, grade.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only queries of this split, such as test.")] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="Judge by this rulebook instead of the shipped one.")
    ] = None,
    dataset: DatasetAddress = None,
    judge: JudgeAddresses = None,
    engine: QueryEngineAddress = DEFAULT_ENGINE,
    locale: Locale = None,
    scale: LabelScale = None,
    sample: SomeQueries = None,
    embedder: EmbedderAddress = DEFAULT_EMBEDDER,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Measure a judge against labels, beside three baselines, with 95 % intervals over queries.

    Example: lore evaluate judge --split test

    Example: lore evaluate judge --dataset chorus:data/chorus --json

    The baselines: the commonest grade for all, BM25 on titles, and embedding similarity, the last two with thresholds
    cross-validated on the labels. Pairs without a judgment are reported and never scored.
    """
    if dataset is None:
        only = {"judge": judge, "locale": locale, "scale": scale, "sample": sample}
        only |= {"engine": engine != DEFAULT_ENGINE or None, "embedder": embedder != DEFAULT_EMBEDDER or None}
        if named := [name for name, value in only.items() if value is not None]:
            raise InputError(f"--{named[0]} goes with --dataset; the store's labels are measured without it")
        result = _of_store(store, labels, split, rules)
    else:
        if store is not None or labels is not None:
            raise InputError("--dataset brings its own items and labels; leave --store and --labels out")
        data = open_relevance(
            str(demo_folder()) if dataset == "demo" else dataset, Wanted(split=split, locale=locale, scale=scale)
        )
        shipped = "rules" if rules is None else f"rules:{rules}"
        judges = [shipped if address == "rules" else address for address in judge or ["rules"]]
        similar = None if embedder == "none" else embedder
        result = evaluate_set(data.sample(sample), judges, engine=engine, embedder=similar, split=split)
    if not for_people(json):
        print_json(result)
        return
    for table in evaluation_tables(result):
        print_table(table)
    for note in result["notes"]:
        say(note)


def _of_store(store: str | None, labels: Path | None, split: str | None, rules: Path | None) -> dict[str, Any]:
    from lore_mm.config import default_store
    from stores.features import open_store

    return evaluate_judge(open_store(store or default_store()), labels, split, rules)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_judge"))
