"""Which pairs are judged: the labelled ones of a store, or each query with its nearest items, of the log or its head.

It judges nothing. Pairs are held in memory: their ids and the query's text, some 100 bytes each.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from lore_mm.console import say
from lore_mm.errors import InputError, StoreError
from lore_mm.models import Embedder
from lore_mm.tables import PAIRS
from stores.features import FeatureStore
from stores.snapshot import Snapshot

__all__ = ["head_of", "pairs_by_search", "pairs_of_labels"]

_SEARCH_AT_ONCE = 256


def pairs_of_labels(store: FeatureStore) -> pa.Table:
    """The labelled pairs of a store, with their queries' text where the store has it, in the order of the labels."""
    if store.version("labels") is None:
        raise StoreError(f"no labels in {store.uri} yet: lore ingest --labels FILE")
    labels = store.latest("labels").select("query_id", "item_id").collect()
    texts = pl.DataFrame(schema={"query_id": pl.String, "query": pl.String})
    if store.version("queries") is not None:
        texts = store.latest("queries").select("query_id", "query").collect()
    joined = labels.join(texts, on="query_id", how="left", maintain_order="left")
    return pa.table({name: pa.array(joined[name].to_list(), pa.string()) for name in PAIRS.names})


def head_of(queries: pl.DataFrame, traffic: float) -> pl.DataFrame:
    """The fewest queries that together make this share of all requests, the most frequent first.

    `queries` has the columns query_id and frequency; one without a frequency counts as never asked.

    Raises:
        InputError: the share is not above 0 and at most 1, or no query has a frequency.
    """
    if not 0 < traffic <= 1:
        raise InputError(f"--traffic is {traffic:g}; legal: a share above 0, at most 1")
    asked = queries.filter(pl.col("frequency") > 0).sort("frequency", "query_id", descending=[True, False])
    if asked.is_empty():
        raise InputError("no query of the log has a frequency: ingest one with a column `frequency`")
    before = pl.col("frequency").cum_sum() - pl.col("frequency")
    # a share of the whole that rounding puts a hair beyond the last query is still that query's
    return asked.filter(before < traffic * pl.col("frequency").sum() * (1 - 1e-12))


def pairs_by_search(store: FeatureStore, embedder: Embedder, top: int, traffic: float | None = None) -> pa.Table:
    """Each query of a store, or of the head of its log, with the `top` items nearest to its text, the nearest first."""
    if store.version("queries") is None:
        raise StoreError(f"no queries in {store.uri} yet: lore ingest --queries FILE")
    snapshot = Snapshot(store)
    if lag := snapshot.lag():
        raise StoreError(lag)
    log = store.latest("queries").select("query_id", "query", "frequency").collect()
    if traffic is not None:
        head = head_of(log, traffic)
        say(f"{head.height:,} of {log.height:,} queries make {traffic:.0%} of the traffic")
        log = head
    queries = log.select("query_id", "query").rows()
    found: dict[str, list[str]] = {name: [] for name in PAIRS.names}
    for start in range(0, len(queries), _SEARCH_AT_ONCE):
        some = queries[start : start + _SEARCH_AT_ONCE]
        hits = snapshot.search(text=[text for _, text in some], k=top, embedder=embedder)
        for (query_id, text), nearest in zip(some, hits, strict=True):
            found["query_id"] += [query_id] * len(nearest)
            found["query"] += [text] * len(nearest)
            found["item_id"] += [item_id for item_id, _ in nearest]
    return pa.table({name: pa.array(values, pa.string()) for name, values in found.items()})
