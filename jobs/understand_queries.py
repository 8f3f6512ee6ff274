"""`lore understand-queries`: the query log read into demands, QUERIES → DEMANDS, by an engine or a cascade of them.

A row says which engine read it. It is stale, and read anew, where the query's text has changed or whatever the engine's
readings depend on: its tables, weights, prompt or settings, which its sha identifies. `lore understand` reads single
queries, and serves those that are in a store.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from extractors.queries import DEFAULT_ENGINE, QueryEngine, open_engine
from extractors.query.engine import failed
from jobs.asked import spent_line, spent_of
from jobs.open_extractors import model_options
from jobs.openers import opened
from jobs.options import (
    KnowledgeFolders,
    ModelOption,
    QueryEngineAddress,
    StoreAddress,
    TaxonomyFolder,
    with_run_options,
)
from jobs.plan import Counts
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm import __version__
from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import ModelError, StoreError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models.chat import NO_USAGE, Usage
from lore_mm.rows import understanding_to_row
from lore_mm.tables import DEMANDS
from lore_mm.types import Provenance, Query, Understanding
from stores.features import FeatureStore, open_store

__all__ = ["OpenUnderstanding", "QueryInput", "UnderstandQueries", "main", "understand_queries"]

# Queries a commit, which is what a crash can cost, by the slowest engine asked: a fraction of a second of the tables,
# seconds of the tagger; commits of few rows make many files, which every reader pays for.
BATCH_ROWS = {"knowledge": 4096, "tagger": 1024, "llm": 256}
# Micro-batches at once where a model is asked: the next one's requests are in its queue while the last of one end.
IN_FLIGHT = 4


class QueryInput:
    """The reading half of a job over QUERIES (see `jobs.openers.Reading`)."""

    reads: tuple[str, ...] = ("queries",)
    key: tuple[str, ...] = ("query_id",)

    def __init__(self, store: FeatureStore) -> None:
        self.store = store

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The newest row of each query."""
        if "queries" not in versions:
            raise StoreError(f"no queries in {self.store.uri} yet: lore ingest --queries FILE")
        return self.store.batches("queries", columns, versions["queries"], rows, latest=True, start=start)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """The sha of each query's text."""
        return [sha_of(text) for text in rows.column("query").to_pylist()]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """Nothing is to be loaded beside the row itself."""
        return self.input_shas(rows), [None] * rows.num_rows


class UnderstandQueries(QueryInput):
    """A query engine over micro-batches of queries (see `jobs.work.Work`)."""

    job, table = "understand_queries", "demands"
    verdict: Mapping[str, str] = {}

    def __init__(self, store: FeatureStore, engine: QueryEngine) -> None:
        super().__init__(store)
        self.engine = engine
        self.settings: Mapping[str, Any] = {"engine": engine.name, "engine_sha": engine.sha}
        self.settings_sha = engine.sha
        self.read_by: Counter[str] = Counter()  # queries that were understood, by the engine that read them
        self.settled_for_less = 0  # of those: where a later engine of a cascade failed, and the reading before stands
        self._counting = threading.Lock()

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """Rows of DEMANDS, one a query."""
        queries = [Query(row["query_id"], row["query"], row["frequency"]) for row in rows.to_pylist()]
        found = self.engine.understand(queries)
        with self._counting:
            self.read_by.update(one.engine for one in found if one.status == "ok")
            self.settled_for_less += sum(one.status == "ok" and one.error is not None for one in found)
        return _table(found)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Queries that could not be understood, with the reason."""
        queries = (Query(row["query_id"], row["query"]) for row in rows.to_pylist())
        return _table([failed(query, error, self.engine.name) for query in queries])

    def spent(self) -> dict[str, Usage]:
        """What the models of the engine were asked so far (see `jobs.budget`)."""
        return spent_of(self.engine)

    def note(self) -> str:
        """A few words on what a model was asked."""
        used = _usage(self.engine)
        return f"{used.calls:,} calls · {used.prompt_tokens + used.completion_tokens:,} tokens"

    def line(self) -> str:
        """One sentence at the end of a job: who read how many queries, and what that cost where a model was asked."""
        who = ", ".join(f"{name} {n:,}" for name, n in self.read_by.most_common())
        used = _usage(self.engine)
        spent = f"{used.calls:,} calls, {used.prompt_tokens:,} tokens of prompts, {used.completion_tokens:,} of replies"
        less = f"; in {self.settled_for_less:,} of them a later engine failed" if self.settled_for_less else ""
        return f"read by {who or 'none'}{less}" + (f"; {spent}" if used.calls else "")


@dataclass(frozen=True)
class OpenUnderstanding:
    """How UnderstandQueries is opened (see `jobs.openers.Opener`). An engine that is open stays so at the end."""

    store: FeatureStore
    engine: str | QueryEngine
    options: Mapping[str, Any]
    knowledge: Knowledge | None
    threads: int = 1
    loads_apart: bool = True

    @contextmanager
    def open(self) -> Iterator[UnderstandQueries]:
        """With the engine."""
        if not isinstance(self.engine, str):
            yield UnderstandQueries(self.store, self.engine)
            return
        engine = open_engine(self.engine, self.knowledge, **self.options)
        try:
            yield UnderstandQueries(self.store, engine)
        finally:
            engine.close()

    def facts(self, work: UnderstandQueries) -> Mapping[str, Any]:
        """None are needed."""
        return {}

    def reading(self, facts: Mapping[str, Any], store: FeatureStore | None = None) -> QueryInput:
        """Queries."""
        return QueryInput(store or self.store)


def _table(found: Sequence[Understanding]) -> pa.Table:
    rows = [understanding_to_row(one, Provenance(maker=f"{one.engine} {__version__}")) for one in found]
    return pa.Table.from_pylist(rows, schema=DEMANDS)


def _usage(engine: QueryEngine) -> Usage:
    """What the models of an engine, or of the engines of a cascade, were asked so far."""
    parts = getattr(engine, "engines", (engine,))
    return sum((getattr(part, "usage", NO_USAGE) for part in parts), NO_USAGE)


def _slowest(address: str) -> str:
    """The kind of engine that sets the pace of an address."""
    kinds = {part.strip().partition(":")[0] for part in address.split(",")}
    return next((kind for kind in ("llm", "tagger") if kind in kinds), "knowledge")


def understand_queries(
    store: FeatureStore,
    *,
    engine: str | QueryEngine = DEFAULT_ENGINE,
    options: Mapping[str, Any] | None = None,
    knowledge: Sequence[Path] = (),
    **run_options: Unpack[RunOptions],
) -> Counts:
    """Understand a store's queries; see `jobs.spine.run_job` for what is skipped and resumed.

    `engine` is an address of `extractors.queries.open_engine`, with its `options` (`taxonomy`, those of its chat
    model), and closed at the end; or an engine that is open, and stays so. `knowledge` are folders of the user's own
    tables, laid over the shipped ones. `batch_rows`: as `BATCH_ROWS` has it unless given.

    Raises:
        InputError, MissingExtraError: the engine cannot be opened.
        ModelError: its model is dead; what was committed stays, and the same call goes on behind it.
    """
    pace = _slowest(engine if isinstance(engine, str) else engine.name)
    known = load_knowledge(tuple(knowledge)) if isinstance(engine, str) else None
    how = OpenUnderstanding(store, engine, options or {}, known, threads=IN_FLIGHT if pace == "llm" else 1)
    run_options["batch_rows"] = run_options.get("batch_rows") or BATCH_ROWS[pace]
    try:
        with opened(how, store, run_options) as it:
            here = it.elsewhere is None
            counts = run_job(
                store,
                it.work,
                in_flight=how.threads,
                note=it.work.note if pace == "llm" and here else None,
                elsewhere=it.elsewhere,
                **run_options,
            )
            if counts.n_ok + counts.n_failed and (here or it.work.spent()):
                say(f"{it.work.job}: {it.work.line() if here else spent_line(it.work.spent())}")
    except ModelError as error:
        raise ModelError(f"{error}; what was done is kept: the same command goes on behind it") from error
    return counts


@with_run_options(batch_rows="Queries a commit: what a crash can cost. 4096, with the tagger 1024, with a model 256.")
def main(
    store: StoreAddress = None,
    engine: QueryEngineAddress = DEFAULT_ENGINE,
    model_option: ModelOption = None,
    knowledge: KnowledgeFolders = None,
    taxonomy: TaxonomyFolder = None,
    **options: Unpack[RunOptions],
) -> None:
    """Read the queries of a store's log into demands.

    Unchanged queries are skipped; interrupted, the same command goes on where it stopped. Another engine, or other
    tables, weights or prompts of the same, make all rows stale. Try --sample first.

    Example: lore understand-queries --engine knowledge,tagger

    Example: lore understand-queries --engine knowledge,llm:openai:http://localhost:8000/v1#MODEL --sample 100
    """
    understand_queries(
        open_store(store or default_store()),
        engine=engine,
        options=model_options(model_option or ()) | ({"taxonomy": taxonomy} if taxonomy else {}),
        knowledge=knowledge or (),
        **options,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.understand_queries"))
