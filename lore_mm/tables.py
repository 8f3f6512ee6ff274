"""The table of tables: what flows between stages and lies on disk, as Arrow schemas.

Every stage checks what it is given at its door (`check_table`) and gives back as many rows as it took, in the same
order, with the same keys. A row that could not be made has status `failed` and an error; nothing else is null without
a reason. Conversions to and from the dataclasses of `lore_mm.types` are in `lore_mm.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from lore_mm.errors import TableError, nearest

__all__ = [
    "ATTRIBUTES",
    "CHAINS",
    "DEMANDS",
    "EMBEDDINGS",
    "ITEMS",
    "JUDGMENTS",
    "KEYS",
    "LABELS",
    "MAX_REPLY",
    "PAIRS",
    "QUERIES",
    "RUNS",
    "TABLES",
    "check_table",
]

MAX_REPLY = 4_000  # characters of a raw reply that are kept
_TEXT, _NUMBER, _WHEN = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")


def _need(name: str, type_: pa.DataType) -> pa.Field[Any]:
    return pa.field(name, type_, nullable=False)


def _may(name: str, type_: pa.DataType) -> pa.Field[Any]:
    return pa.field(name, type_)


_STATUS = (_need("status", _TEXT), _may("error", _TEXT))
PROVENANCE = pa.struct(
    [
        _may("run_id", _TEXT),
        _may("maker", _TEXT),
        _may("input_sha", _TEXT),
        _may("settings_sha", _TEXT),
        _may("made_at", _WHEN),
    ]
)
EVIDENCE = pa.struct(
    [
        _may("source", _TEXT),
        _may("quote", _TEXT),
        _may("start", pa.int32()),
        _may("end", pa.int32()),
        _may("region", pa.list_(_NUMBER)),  # x0, y0, x1, y1 in shares of width and height
        _may("value", _TEXT),
        _may("extractor", _TEXT),
        _may("confidence", _NUMBER),
    ]
)
ATTRIBUTE = pa.struct(
    [
        _may("name", _TEXT),
        _may("dimension", _TEXT),
        _may("value", _TEXT),
        _may("status", _TEXT),
        _may("number", _NUMBER),
        _may("unit", _TEXT),
        _may("share", _NUMBER),
        _may("kind", _TEXT),
        _may("confidence", _NUMBER),
        _may("extractor", _TEXT),
        _may("evidence", pa.list_(EVIDENCE)),
        _may("error", _TEXT),
    ]
)
USAGE = pa.struct(
    [
        _may("calls", pa.int64()),
        _may("prompt_tokens", pa.int64()),  # those of pictures included
        _may("completion_tokens", pa.int64()),
        _may("asked", pa.list_(_TEXT)),  # the attributes a model was asked for
        _may("settled", pa.list_(_TEXT)),  # those it was not asked for, because earlier extractors had settled them
    ]
)
SHAS = pa.list_(pa.struct([_may("name", _TEXT), _may("sha", _TEXT)]))
PACK_LINE = pa.struct(
    [
        _may("text", _TEXT),
        _may("picture", pa.int32()),
        _may("region", pa.list_(_NUMBER)),
        _may("confidence", _NUMBER),
    ]
)
DEMAND = pa.struct(
    [
        _may("dimension", _TEXT),
        _may("value", _TEXT),
        _may("canonical", _TEXT),
        _may("op", _TEXT),
        _may("number", _NUMBER),
        _may("number_high", _NUMBER),
        _may("unit", _TEXT),
        _may("polarity", pa.int8()),
        _may("strictness", _TEXT),
        _may("role", _TEXT),
        _may("start", pa.int32()),
        _may("end", pa.int32()),
        _may("confidence", _NUMBER),
        _may("latent", pa.bool_()),
        _may("why", _TEXT),
        _may("alternatives", pa.list_(_TEXT)),
        _may("links", pa.list_(_TEXT)),
        _may("knowledge", pa.list_(_TEXT)),
    ]
)
OTHER_READING = pa.struct(
    [
        _may("dimension", _TEXT),
        _may("value", _TEXT),
        _may("canonical", _TEXT),
        _may("start", pa.int32()),
        _may("end", pa.int32()),
        _may("confidence", _NUMBER),
        _may("why", _TEXT),
    ]
)
LEG = pa.struct(
    [
        _may("demand", DEMAND),
        _may("attribute", _TEXT),
        _may("relation", _TEXT),
        _may("found", pa.list_(_TEXT)),
        _may("evidence", pa.list_(EVIDENCE)),
        _may("confidence", _NUMBER),
        _may("deviation", _NUMBER),
        _may("level", _TEXT),
        _may("rule_id", _TEXT),
        _may("reason", _TEXT),
    ]
)

ITEMS = pa.schema(
    [
        _need("item_id", _TEXT),
        _need("title", _TEXT),
        _may("description", _TEXT),
        _may("category", _TEXT),
        _may("brand", _TEXT),
        _may("attributes", pa.list_(pa.struct([_may("name", _TEXT), _may("values", pa.list_(_TEXT))]))),
        _may("price", _NUMBER),
        _may("currency", _TEXT),
        _may("images", pa.list_(_TEXT)),
        _may("store", _TEXT),
        _may("image_root", _TEXT),  # the folder that relative picture paths start from
        *_STATUS,
        _may("provenance", PROVENANCE),  # input_sha: the seller's row, without its pictures
    ]
)
QUERIES = pa.schema(
    [
        _need("query_id", _TEXT),
        _need("query", _TEXT),
        _may("frequency", _NUMBER),
        _may("kind", _TEXT),  # a slice for reports, such as negative or brand
        _may("split", _TEXT),
    ]
)
ATTRIBUTES = pa.schema(
    [
        _need("item_id", _TEXT),
        _need("extractor", _TEXT),  # given, palette, zero_shot …, and merge for the verdict over them
        _may("category", _TEXT),  # the category the extractor worked under
        _may("attributes", pa.list_(ATTRIBUTE)),
        *_STATUS,
        _may("provenance", PROVENANCE),
        _may("reply", _TEXT),  # a model's last raw answer, of a failed row, cut to MAX_REPLY characters
        _may("usage", USAGE),  # of rows whose extractor asks a model
        _may("made_from", SHAS),  # what the extractor read of the item, and of those before it: part → sha
        _may("asked_with", SHAS),  # attribute → sha of the question it answers; no sha where it was settled before
        _may("pack", pa.list_(PACK_LINE)),  # text that was read on the pictures
    ]
)
EMBEDDINGS = pa.schema(
    [
        _need("item_id", _TEXT),
        _need("model", _TEXT),
        _may("image", pa.list_(pa.float32())),  # unit vectors of one width; null where there is no picture
        _may("text", pa.list_(pa.float32())),
        *_STATUS,
        _may("provenance", PROVENANCE),
        _may("made_from", SHAS),  # text, pictures → sha
    ]
)
DEMANDS = pa.schema(
    [
        _need("query_id", _TEXT),
        _need("query", _TEXT),
        _may("normalized", _TEXT),
        _may("hard_type", _TEXT),
        _may("corrections", pa.list_(pa.struct([_may("typed", _TEXT), _may("read", _TEXT)]))),
        _may("demands", pa.list_(DEMAND)),
        _may("referent", _TEXT),
        _may("readings", pa.list_(OTHER_READING)),
        _may("confidence", _NUMBER),
        _may("engine", _TEXT),
        *_STATUS,
        _may("provenance", PROVENANCE),
    ]
)
PAIRS = pa.schema([_need("query_id", _TEXT), _need("query", _TEXT), _need("item_id", _TEXT)])
LABELS = pa.schema(
    [
        _need("query_id", _TEXT),
        _need("item_id", _TEXT),
        _need("grade", _TEXT),  # L1 … L4
        _may("reason", _TEXT),
    ]
)
JUDGMENTS = pa.schema(
    [
        _need("query_id", _TEXT),
        _need("item_id", _TEXT),
        _may("query", _TEXT),
        _may("grade", _TEXT),  # L1 … L4, null exactly where status is not ok
        _may("probabilities", pa.list_(_NUMBER)),
        _may("score", _NUMBER),
        _may("legs", pa.list_(LEG)),
        _may("failed_dimensions", pa.list_(_TEXT)),
        _may("rule_ids", pa.list_(_TEXT)),
        _may("said", _TEXT),  # L1 … L4: the model's own word, where the grade is the rulebook's on the model's path
        _may("samples", pa.list_(_TEXT)),  # the grades of a model's several answers
        _may("mode", _TEXT),
        *_STATUS,
        _may("provenance", PROVENANCE),
    ]
)
CHAINS = pa.schema(  # what a judge is trained on: see relevance.training.rows
    [
        _need("query_id", _TEXT),
        _need("item_id", _TEXT),
        _need("query", _TEXT),
        _need("label", pa.int8()),  # 1 … 4
        _need("set", _TEXT),
        _need("label_by", _TEXT),  # people | rules
        _need("changed", _TEXT),  # the dimension on which the pair was spoilt; empty where on none
        _need("category", _TEXT),
        _need("split", _TEXT),  # train | dev | queries | categories
        _need("system", _TEXT),
        _need("prompt", _TEXT),
        _need("item_told", _TEXT),
        _may("pictures", pa.list_(_TEXT)),
        _may("picture_root", _TEXT),
        _need("knowledge", _TEXT),  # lines of legs, one step each deeper
        _need("multimodal", _TEXT),
        _need("rules", _TEXT),
        _may("failed", pa.list_(_TEXT)),
        _need("reference", _TEXT),  # those of the rules
        _need("teacher", _TEXT),
        _need("teacher_sha", _TEXT),
        _need("samples", pa.int32()),
        _need("right", pa.int32()),
        _need("hinted", pa.bool_()),
        *_STATUS,
        _may("provenance", PROVENANCE),
    ]
)
RUNS = pa.schema(
    [
        _need("run_id", _TEXT),
        _need("job", _TEXT),
        _need("event", _TEXT),  # started | resumed | waits | works | stopped | finished
        _may("fingerprint", _TEXT),
        _may("settings", _TEXT),  # JSON: what the fingerprint was made of, so that a refusal can name what changed
        _may("table", _TEXT),
        _may("n_in", pa.int64()),
        _may("n_ok", pa.int64()),
        _may("n_failed", pa.int64()),
        _may("n_skipped", pa.int64()),
        _need("at", _WHEN),
        _may("worker", _TEXT),  # the process that wrote this: machine, number, when it began
    ]
)

TABLES: Mapping[str, pa.Schema] = MappingProxyType(
    {
        "items": ITEMS,
        "queries": QUERIES,
        "labels": LABELS,
        "attributes": ATTRIBUTES,
        "embeddings": EMBEDDINGS,
        "demands": DEMANDS,
        "judgments": JUDGMENTS,
        "chains": CHAINS,
        "runs": RUNS,
    }
)
KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "items": ("item_id",),
        "queries": ("query_id",),
        "labels": ("query_id", "item_id"),
        "attributes": ("item_id", "extractor"),
        "embeddings": ("item_id", "model"),
        "demands": ("query_id",),
        "judgments": ("query_id", "item_id", "mode"),
        "chains": ("set", "query_id", "item_id", "teacher"),
        "runs": ("run_id", "event"),
    }
)


def check_table(table: pa.Table | pa.RecordBatch, schema: pa.Schema, where: str) -> None:
    """Check that a table has exactly the columns of a schema, of those types, in any order.

    Nullability is checked on the data: a needed column may not hold a null.

    Raises:
        TableError: naming `where`, and the columns that are missing, extra, mistyped or null.
    """
    have = {f.name: f.type for f in table.schema}
    want = {f.name: f for f in schema}
    faults = [f"missing column {name!r} ({field.type})" for name, field in want.items() if name not in have]
    faults += [
        f"unknown column {name!r}{nearest(name, want.keys() - have.keys())}" for name in have if name not in want
    ]
    for name, field in want.items():
        if name not in have:
            continue
        if have[name] != field.type:
            faults.append(f"column {name!r} is {have[name]}, needs {field.type}")
        elif not field.nullable and table.column(name).null_count:
            rows = table.column(name).is_null().to_pylist()
            faults.append(f"column {name!r} is empty in row {rows.index(True)}")
    if faults:
        raise TableError(f"{where}: {'; '.join(faults)}; legal columns: {', '.join(want)}")
