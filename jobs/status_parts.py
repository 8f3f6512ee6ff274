"""What is in a store, table by table: counts of the newest rows, errors by reason, engines, judges, indexes.

It only looks, and knows nothing of runs (`jobs.status_runs`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from jobs.asked import asked_in
from jobs.regrade_changes import REGRADED
from lore_mm.tables import KEYS, TABLES
from stores.features import FeatureStore

__all__ = [
    "AskedStatus",
    "EngineStatus",
    "ErrorClass",
    "IndexStatus",
    "JudgeStatus",
    "TableStatus",
    "asked_of",
    "engines_of",
    "error_classes",
    "indexes_of",
    "judges_of",
    "tables_in",
]


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table: its version, all rows ever written, and of the newest row of each key how many failed.

    Of attributes the failed verdicts count, one an item.
    """

    table: str
    version: int
    n_rows: int
    n_newest: int
    n_failed: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """A vector index, and whether the table it was built from has moved on since."""

    index: str
    n: int
    model: str
    table_version: int
    stale: bool


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """Rows of a table that failed for the same reason, and one of them in full."""

    table: str
    error: str
    n: int
    key: str
    example: str


@dataclass(frozen=True, slots=True)
class AskedStatus:
    """What an extractor's model was asked over all rows ever written, as each was paid for, and what it was spared."""

    extractor: str
    items: int
    calls: int
    fields_asked: int
    fields_settled: int  # not asked for: earlier extractors had settled them
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """An engine, the queries whose newest understanding is by it, and how many of those failed.

    `settled_for_less`: where a later engine of a cascade was asked too and failed, so that this one's reading stands.
    """

    engine: str
    queries: int
    failed: int
    settled_for_less: int
    mean_confidence: float | None  # of those that are ok, in [0, 1]


@dataclass(frozen=True, slots=True)
class JudgeStatus:
    """The newest judgments of a mode, one a pair, and how many of them failed.

    `said_otherwise`: where the model named another grade than its path has by the rules.
    """

    mode: str
    judgments: int
    failed: int
    regraded: int  # whose grade another rulebook has given since
    said_otherwise: int


def tables_in(store: FeatureStore, versions: Mapping[str, int]) -> tuple[list[TableStatus], list[ErrorClass]]:
    """The tables at these versions, and what of their newest rows failed, by reason."""
    tables, errors = [], []
    for name, version in versions.items():
        keys, newest = list(KEYS[name]), store.latest(name, version)
        n_newest = int(newest.select(pl.len()).collect().item())
        failed = pl.DataFrame()
        if "status" in TABLES[name].names:
            is_failed = pl.col("status") == "failed"
            if name == "attributes":  # the verdict repeats what its extractors said
                is_failed &= pl.col("extractor") == "merge"
            failed = newest.filter(is_failed).select(*keys, "error").collect()
            errors += error_classes(name, failed, keys)
        tables.append(TableStatus(name, version, store.count(name, version), n_newest, failed.height))
    return tables, errors


def engines_of(store: FeatureStore, version: int) -> list[EngineStatus]:
    """Who read the queries; rows of an earlier version, which did not name the engine, by their maker."""
    ok = pl.col("status") == "ok"
    counted = (
        store.latest("demands", version)
        .group_by(engine=pl.coalesce("engine", pl.col("provenance").struct.field("maker"), pl.lit("")))
        .agg(
            queries=pl.len(),
            failed=(~ok).sum(),
            settled_for_less=(ok & pl.col("error").is_not_null()).sum(),
            mean_confidence=pl.col("confidence").filter(ok).mean(),
        )
    )
    return [
        EngineStatus(**row) for row in counted.sort("queries", "engine", descending=[True, False]).collect().to_dicts()
    ]


def judges_of(store: FeatureStore, version: int) -> list[JudgeStatus]:
    """The newest judgments by mode."""
    counted = (
        store.latest("judgments", version)
        .group_by(mode=pl.col("mode").fill_null(""))
        .agg(
            judgments=pl.len(),
            failed=(pl.col("status") == "failed").sum(),
            regraded=pl.col("provenance").struct.field("maker").str.starts_with(REGRADED).sum(),
            said_otherwise=(pl.col("said") != pl.col("grade")).sum(),
        )
    )
    return [JudgeStatus(**row) for row in counted.sort("mode").collect().to_dicts()]


def asked_of(store: FeatureStore, versions: Mapping[str, int]) -> list[AskedStatus]:
    """What models were asked over all rows of ATTRIBUTES."""
    one = asked_in(store, versions["attributes"]) if "attributes" in versions else None
    if one is None:
        return []
    used = one.usage
    return [
        AskedStatus("vlm", one.items, used.calls, one.fields, one.settled, used.prompt_tokens, used.completion_tokens)
    ]


def indexes_of(store: FeatureStore, versions: Mapping[str, int]) -> list[IndexStatus]:
    """The manifests beside the tables, read without FAISS."""
    found = []
    for current in sorted((store.beside() / "vectors").glob("*/current")):
        try:
            manifest = json.loads((current.parent / current.read_text().strip() / "manifest.json").read_text())
            version = int(manifest["table_version"])
            found.append(
                IndexStatus(
                    index=current.parent.name,
                    n=int(manifest["n"]),
                    model=str(manifest.get("model", "")),
                    table_version=version,
                    stale=versions.get(str(manifest.get("table", "embeddings"))) != version,
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            found.append(IndexStatus(current.parent.name, 0, "unreadable", -1, True))
    return found


_VARYING = (
    (re.compile(r"image:\d+: .*?: "), "image: "),
    (re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\""), "'…'"),  # the apostrophe of "a shop's folder" quotes nothing
    (re.compile(r"(?<![A-Za-z])(/[^\s/:]+)+"), "…"),
    (re.compile(r"\d[\d,.]*"), "#"),
)


def error_classes(table: str, failed: pl.DataFrame, keys: list[str]) -> list[ErrorClass]:
    """Failed rows (keys and error) by reason: errors that differ only in names, paths and numbers are one class."""
    classes: dict[str, tuple[int, str, str]] = {}
    for *key, error in failed.select(*keys, "error").iter_rows():
        text = error or "no reason was kept"
        short = text
        for pattern, instead in _VARYING:
            short = pattern.sub(instead, short)
        n, first_key, example = classes.get(short[:120], (0, " · ".join(map(str, key)), text))
        classes[short[:120]] = (n + 1, first_key, example)
    return [
        ErrorClass(table, name, n, key, example)
        for name, (n, key, example) in sorted(classes.items(), key=lambda c: -c[1][0])
    ]
