"""Many pairs judged into the store: those of a file, of the labels, or each query with the items nearest to it.

`lore judge` answers on the spot and keeps nothing; this job writes JUDGMENTS, resumes, and judges again only what
changed: the query's demands, the item, its attributes (its pictures, for a judge that looks at them), or the judge: its
tables, rules, model, prompt. A store keeps one judgment a pair and mode, so that several judges stand side by side.
The pairs are held in memory (their ids and the query text, some 100 bytes each), and so are their queries' demands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Unpack

import polars as pl
import pyarrow as pa
import typer

from extractors.queries import QueryEngine, open_engine, understand
from jobs.asked import spent_of
from jobs.judge_pictures import StorePictures
from jobs.open_extractors import model_options
from jobs.openers import opened
from jobs.options import KnowledgeFolder, ModelOption, StoreAddress, with_run_options
from jobs.pair_sources import pairs_by_search, pairs_of_labels
from jobs.plan import Counts
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.catalogue import read_pairs
from lore_mm.config import default_store
from lore_mm.console import command_app, run
from lore_mm.errors import InputError, StoreError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER, Embedder, open_embedder
from lore_mm.models.chat import Usage
from lore_mm.rows import attribute_to_row, demand_to_row, item_to_row, judgments_table, understanding_from_row
from lore_mm.types import ItemFeatures, Query, Understanding
from relevance.judge import DEFAULT_JUDGE, JudgeAddress, RulesFile, open_judge
from relevance.protocol import PairJudge, failed_judgment
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot

__all__ = ["JudgePairs", "item_sha", "judge_pairs", "main", "pair_sha", "query_sha"]

_BATCH_ROWS = {
    "direct": 512,
    "reason": 128,
    "chain": 256,
}  # of modes that ask a model, by what an answer costs; 1024 for the others


@dataclass(frozen=True, slots=True)
class _Pair:
    understanding: Understanding
    features: ItemFeatures | None
    error: str | None = None


class PairInput:
    """Pairs as a job's input, as they were given; what is known of them is looked up by a judge's own `load`."""

    reads: tuple[str, ...] = ("items", "attributes", "demands")
    key: tuple[str, ...] = ("query_id", "item_id")

    def __init__(self, store: FeatureStore, pairs: pa.Table) -> None:
        self.store, self.pairs = store, pairs

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The pairs as they were given."""
        if "items" not in versions:
            raise StoreError(f"no items in {self.store.uri} yet: lore ingest PATH")
        names = list(columns or self.pairs.column_names)
        yield from self.pairs.slice(start).select(names).to_batches(max_chunksize=rows)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """What is known of each pair: the query's demands, the item, its attributes, pictures where they are seen."""
        return self.load(rows)[0]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """Needs what reads queries: see JudgePairs."""
        raise NotImplementedError("pairs are loaded where their judge is")


class JudgePairs(PairInput):
    """The judge over micro-batches of pairs (see `jobs.work.Work`)."""

    table = "judgments"

    def __init__(
        self,
        store: FeatureStore,
        judge: PairJudge,
        pairs: pa.Table,
        origin: Mapping[str, Any],
        engine: QueryEngine | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        # an unfinished search does not stand in the way of the labels, nor one judge in that of another
        self.job = f"judge_pairs_of_{origin['from']}" + ("" if judge.mode == DEFAULT_JUDGE else f"_by_{judge.mode}")
        super().__init__(store, pairs)
        self.judge, self.engine = judge, engine
        self.knowledge = knowledge or load_knowledge()
        self.verdict: Mapping[str, str] = {"mode": judge.mode}
        sha = sha_of([sha_of(part.to_pylist()) for part in pairs.to_batches(max_chunksize=8192)])
        self.settings: Mapping[str, Any] = {
            "judge": judge.name,
            "judge_sha": judge.sha,
            "pairs": {**origin, "sha": sha},
        }
        if engine is not None:
            self.settings = {**self.settings, "engine": engine.name, "engine_sha": engine.sha}
        self.settings_sha = judge.sha
        self._snapshot: Snapshot | None = None
        self._demands: dict[tuple[str, str | None], Understanding] = {}
        self._read: dict[tuple[str, str | None], Understanding] = {}  # just now, because no demands are stored

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The pairs as they were given; items and demands are looked up at the pinned versions."""
        self.pin(versions)
        yield from super().read(versions, columns, rows, start)

    def pin(self, versions: Mapping[str, int]) -> None:
        """Look items and demands up at these versions from now on."""
        if "items" in versions and (self._snapshot is None or self._snapshot.versions != dict(versions)):
            self._snapshot = Snapshot(self.store, versions)
            self._demands = self._understood(versions.get("demands"))

    def _understood(self, version: int | None) -> dict[tuple[str, str | None], Understanding]:
        """The stored demands of the pairs' queries, where they are of the very same text."""
        if version is None:
            return {}
        wanted = pl.DataFrame(self.pairs.select(["query_id", "query"])).unique().lazy()
        found = self.store.latest("demands", version).join(wanted, on=["query_id", "query"], how="semi")
        rows = (row for part in found.collect().iter_slices(1024) for row in part.to_dicts())
        return {(row["query_id"], row["query"]): understanding_from_row(row) for row in rows}

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The pairs with their understanding and features."""
        if self._snapshot is None:
            raise StoreError("pairs are looked up in a snapshot, and none is open")
        asked = [((row["query_id"], row["query"]), row["item_id"]) for row in rows.to_pylist()]
        new = [
            Query(*query)
            for query in dict.fromkeys(q for q, _ in asked)
            if query[1] is not None and query not in self._demands and query not in self._read
        ]
        read = self.engine.understand(new) if self.engine else understand(new, self.knowledge)
        self._read |= {(one.query.query_id, one.query.text): one for one in read}
        queries = {query: self._demands.get(query) or self._read.get(query) for query, _ in asked}
        ids = list(dict.fromkeys(item_id for _, item_id in asked))
        items = dict(zip(ids, self._snapshot.get(ids), strict=True))
        query_shas = {query: query_sha(queries.get(query)) for query, _ in asked}
        looks = self.judge.mode.endswith("-vision")
        item_shas = {item_id: item_sha(one, looks) for item_id, one in items.items()}
        shas = [pair_sha(query_shas[query], item_shas[item_id]) for query, item_id in asked]
        return shas, [self._pair(*query, queries.get(query), item_id, items[item_id]) for query, item_id in asked]

    def _pair(
        self, query_id: str, text: str | None, read: Understanding | None, item_id: str, features: ItemFeatures | None
    ) -> _Pair:
        query = Query(query_id, text or "")
        if text is None or read is None:
            return _Pair(Understanding(query, ""), None, f"no query {query_id!r} in the store")
        error = None if features is not None else f"no item {item_id!r} in the store that could be read"
        return _Pair(read, features, error)

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """Rows of JUDGMENTS, one a pair."""
        ready = [(pair.understanding, pair.features) for pair in loaded if pair.features is not None]
        judged = iter(self.judge.judge(ready))
        made = []
        for pair, item_id in zip(loaded, rows.column("item_id").to_pylist(), strict=True):
            if pair.features is None:
                made.append(
                    failed_judgment(pair.understanding.query, str(item_id), pair.error or "", mode=self.judge.mode)
                )
            else:
                made.append(next(judged))
        return judgments_table(made)

    def spent(self) -> dict[str, Usage]:
        """What the models of the judge and of the query engine were asked so far (see `jobs.budget`)."""
        return spent_of(self.judge, self.engine)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Pairs without a grade, with the reason."""
        return judgments_table(
            failed_judgment(Query(row["query_id"], row["query"] or ""), row["item_id"], error, mode=self.judge.mode)
            for row in rows.to_pylist()
        )


def query_sha(understanding: Understanding | None) -> str | None:
    """Of what a judge is told of a query."""
    if understanding is None:
        return None
    demands = [demand_to_row(demand) for demand in understanding.demands]
    return sha_of([understanding.query.text, understanding.status, demands])


def item_sha(features: ItemFeatures | None, looks: bool = False) -> str | None:
    """Of what a judge is told of an item; with what its extractors saw (pixels and text) where it looks itself."""
    if features is None:
        return None
    told = [item_to_row(features.item), [attribute_to_row(a) for a in features.attributes]]
    return sha_of([*told, features.input_sha] if looks else told)


def pair_sha(query: str | None, item: str | None) -> str:
    """Of what a judge is told of a pair: `input_sha` of its row of JUDGMENTS. From `query_sha` and `item_sha`."""
    return sha_of([query, item])


def judge_pairs(
    store: FeatureStore,
    *,
    pairs: Path | None = None,
    labels: bool = False,
    top: int | None = None,
    traffic: float | None = None,
    embedder: str | Embedder = DEFAULT_EMBEDDER,
    judge: str = DEFAULT_JUDGE,
    options: Mapping[str, Any] | None = None,
    knowledge: Sequence[Path] = (),
    rules: Path | None = None,
    engine: str | None = None,
    engine_options: Mapping[str, Any] | None = None,
    **run_options: Unpack[RunOptions],
) -> Counts:
    """Judge the pairs of a file, of the labels, or of a search; see `jobs.spine.run_job` for skips and resumes.

    `top` takes the items nearest to each query of the store, with `traffic` only to the most frequent queries, which
    together make that share of all requests (`jobs.precompute`).

    `judge` is an address of `relevance.judge.open_judge`, with `options` for it and its model. Demands that are stored
    are used; `engine` (an address of `extractors.queries.open_engine`, with `engine_options`) reads the queries
    without, the knowledge tables unless given. `batch_rows`, what a crash can cost, follows the judge unless given.

    Raises:
        InputError: not exactly one of `pairs`, `labels` and `top` is given, or `traffic` is no share.
    """
    if (pairs is not None) + labels + (top is not None) != 1:
        raise InputError("which pairs? name exactly one of --pairs FILE, --labels and --top K")
    origin: dict[str, Any]
    if pairs is not None:
        table, origin = read_pairs(pairs), {"from": "file"}
    elif labels:
        table, origin = pairs_of_labels(store), {"from": "labels"}
    else:
        model = open_embedder(embedder) if isinstance(embedder, str) else embedder
        table, origin = (
            pairs_by_search(store, model, top or 1, traffic),
            {"from": "search", "top": top, "model": model.name},
        )
        if traffic is not None:
            origin |= {"from": "head", "traffic": traffic}
    known = load_knowledge(tuple(knowledge))
    how = OpenJudgePairs(
        *(store, judge, options or {}, known, rules, table, origin),
        *(engine, engine_options or {}),
    )
    with opened(how, store, run_options) as it:
        run_options["batch_rows"] = run_options.get("batch_rows") or it.facts["batch_rows"]
        return run_job(store, it.work, elsewhere=it.elsewhere, **run_options)


@dataclass(frozen=True)
class OpenJudgePairs:
    """How JudgePairs is opened (see `jobs.openers.Opener`). What pairs are looked up by needs what reads their queries,
    so that they are loaded where the judge is.
    """

    store: FeatureStore
    judge: str
    options: Mapping[str, Any]
    knowledge: Knowledge
    rules: Path | None
    pairs: pa.Table
    origin: Mapping[str, Any]
    engine: str | None
    engine_options: Mapping[str, Any]
    threads: int = 1
    loads_apart: bool = False

    @contextmanager
    def open(self) -> Iterator[JudgePairs]:
        """With the judge, and with an engine that reads queries where one is named."""
        pictures = StorePictures(self.store)
        judge = open_judge(self.judge, self.knowledge, rules=self.rules, pictures=pictures, **self.options)
        reader = None
        try:
            reader = open_engine(self.engine, self.knowledge, **self.engine_options) if self.engine else None
            yield JudgePairs(self.store, judge, self.pairs, self.origin, reader, self.knowledge)
        finally:
            judge.close()
            if reader is not None:
                reader.close()

    def facts(self, work: JudgePairs) -> Mapping[str, Any]:
        """Rows a commit."""
        return {"batch_rows": _BATCH_ROWS.get(work.judge.mode.removesuffix("-vision"), 1024)}

    def reading(self, facts: Mapping[str, Any], store: FeatureStore | None = None) -> PairInput:
        """Pairs, without what is known of them."""
        return PairInput(store or self.store, self.pairs)


@with_run_options(batch_rows="Rows a commit: what a crash can cost. It follows the judge.")
def main(
    pairs: Annotated[Path | None, typer.Option(help="A file of pairs: query, item_id (query_id).")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="The pairs that are labelled in the store.")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="Each query of the store with its K nearest items.")] = None,
    store: StoreAddress = None,
    embedder: Annotated[str, typer.Option(help="The model of --top, by address.")] = DEFAULT_EMBEDDER,
    judge: JudgeAddress = DEFAULT_JUDGE,
    model_option: ModelOption = None,
    knowledge: KnowledgeFolder = None,
    rules: RulesFile = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Who reads queries that are not understood in the store: knowledge, tagger, llm:CHAT …"),
    ] = None,
    engine_option: Annotated[
        list[str] | None, typer.Option("--engine-option", help="An option of the engine's model; repeatable.")
    ] = None,
    **options: Unpack[RunOptions],
) -> None:
    """Judge many pairs and keep the judgments, with their paths, in the store.

    Unchanged pairs are skipped; interrupted, the same command goes on where it stopped. Judgments of several judges
    stand side by side, one a pair and mode.

    Example: lore judge-pairs --top 20

    Example: lore judge-pairs --labels --judge direct:hf:lore-vlm-tiny --model-option dtype=float32
    """
    judge_pairs(
        open_store(store or default_store()),
        pairs=pairs,
        labels=labels,
        top=top,
        embedder=embedder,
        judge=judge,
        options=model_options(model_option or ()),
        knowledge=[knowledge] if knowledge else [],
        rules=rules,
        engine=engine,
        engine_options=model_options(engine_option or ()),
        **options,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.judge_pairs"))
