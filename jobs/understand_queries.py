"""The query log read into demands: QUERIES → DEMANDS. `lore understand` reads single queries, this all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from extractors.queries import understand
from jobs.options import BatchRows, KnowledgeFolder, Limit, NewRun, RetryFailed, Sample, StoreAddress
from jobs.plan import Counts
from jobs.spine import run_job
from lore_mm.config import default_store
from lore_mm.console import command_app, run
from lore_mm.errors import StoreError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.rows import demands_table
from lore_mm.types import Provenance, Query, Understanding
from stores.features import FeatureStore, open_store

__all__ = ["UnderstandQueries", "main", "understand_queries"]


class UnderstandQueries:
    """The knowledge tables over micro-batches of queries (see `jobs.work.Work`)."""

    job, table = "understand_queries", "demands"
    reads: tuple[str, ...] = ("queries",)
    key: tuple[str, ...] = ("query_id",)
    verdict: Mapping[str, str] = {}

    def __init__(self, store: FeatureStore, knowledge: Knowledge) -> None:
        self.store = store
        self.knowledge = knowledge
        self.settings: Mapping[str, Any] = {"knowledge": knowledge.sha}
        self.settings_sha = sha_of(self.settings)

    def read(self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        """The newest row of each query."""
        if "queries" not in versions:
            raise StoreError(f"no queries in {self.store.uri} yet: lore ingest --queries FILE")
        return self.store.batches("queries", columns, versions["queries"], rows, latest=True)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """The sha of each query's text."""
        return [sha_of(text) for text in rows.column("query").to_pylist()]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """Nothing is to be loaded beside the row itself."""
        return self.input_shas(rows), [None] * rows.num_rows

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """Rows of DEMANDS, one a query."""
        found = understand(
            [Query(row["query_id"], row["query"], row["frequency"]) for row in rows.to_pylist()], self.knowledge
        )
        return demands_table(found, Provenance(maker="understand"))

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Queries that could not be understood, with the reason."""
        found = [
            Understanding(Query(row["query_id"], row["query"]), row["query"], status="failed", error=error)
            for row in rows.to_pylist()
        ]
        return demands_table(found, Provenance(maker="understand"))


def understand_queries(
    store: FeatureStore,
    *,
    knowledge: Sequence[Path] = (),
    batch_rows: int = 1024,
    limit: int | None = None,
    sample: int | None = None,
    retry_failed: bool = False,
    new_run: bool = False,
) -> Counts:
    """Understand a store's queries; see `jobs.spine.run_job` for what is skipped and resumed."""
    return run_job(
        store,
        UnderstandQueries(store, load_knowledge(tuple(knowledge))),
        batch_rows=batch_rows,
        limit=limit,
        sample=sample,
        retry_failed=retry_failed,
        new_run=new_run,
    )


def main(
    store: StoreAddress = None,
    knowledge: KnowledgeFolder = None,
    batch_rows: BatchRows = 1024,
    limit: Limit = None,
    sample: Sample = None,
    retry_failed: RetryFailed = False,
    new_run: NewRun = False,
) -> None:
    """Read the queries of a store's log into demands.

    Unchanged queries are skipped; interrupted, the same command goes on where it stopped.

    Example: python -m jobs.understand_queries --store .lore/store
    """
    understand_queries(
        open_store(store or default_store()),
        knowledge=[knowledge] if knowledge else [],
        batch_rows=batch_rows,
        limit=limit,
        sample=sample,
        retry_failed=retry_failed,
        new_run=new_run,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.understand_queries"))
