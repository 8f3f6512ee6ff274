"""Dataclasses of `lore_mm.types` to rows of `lore_mm.tables`, and back. One pair of functions a type, no cleverness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lore_mm.tables import ATTRIBUTES, DEMANDS, JUDGMENTS
from lore_mm.types import (
    AttributeValue,
    Demand,
    Evidence,
    Grade,
    Item,
    Judgment,
    Leg,
    MatchPath,
    OtherReading,
    Provenance,
    Query,
    Understanding,
)

__all__ = [
    "attribute_from_row",
    "attributes_table",
    "demands_table",
    "item_from_row",
    "item_to_row",
    "judgment_from_row",
    "judgment_to_row",
    "judgments_table",
    "understanding_from_row",
    "understanding_to_row",
]

Row = Mapping[str, Any]


def _flat(value: object) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}  # type: ignore[arg-type]


def provenance_to_row(provenance: Provenance, made_at: datetime | None = None) -> dict[str, Any]:
    """The provenance struct, stamped with the time of making (now, in UTC, unless given)."""
    return _flat(provenance) | {"made_at": made_at or datetime.now(UTC)}


def provenance_from_row(row: Row | None) -> Provenance:
    """The reverse of `provenance_to_row`; the time stays in the table."""
    row = row or {}
    return Provenance(*(row.get(k) or "" for k in ("run_id", "maker", "input_sha", "settings_sha")))


def item_to_row(item: Item) -> dict[str, Any]:
    """An item as a row of ITEMS, without image_root, status, error and provenance."""
    row = _flat(item)
    row["attributes"] = [{"name": k, "values": list(v)} for k, v in item.attributes.items()]
    row["images"] = list(item.images)
    return row


def item_from_row(row: Row) -> Item:
    """An item from a row of ITEMS."""
    return Item(
        item_id=row["item_id"],
        title=row["title"],
        description=row.get("description") or "",
        category=row.get("category"),
        brand=row.get("brand"),
        attributes={a["name"]: tuple(a["values"] or ()) for a in row.get("attributes") or ()},
        price=row.get("price"),
        currency=row.get("currency"),
        images=tuple(row.get("images") or ()),
        store=row.get("store"),
    )


def evidence_from_row(row: Row) -> Evidence:
    """Evidence from its struct."""
    region = row.get("region")
    return Evidence(**{**row, "region": tuple(region) if region else None})


def attribute_to_row(attribute: AttributeValue) -> dict[str, Any]:
    """The attribute struct."""
    return _flat(attribute) | {"evidence": [_flat(e) for e in attribute.evidence]}


def attribute_from_row(row: Row) -> AttributeValue:
    """The reverse of `attribute_to_row`."""
    return AttributeValue(**{**row, "evidence": tuple(evidence_from_row(e) for e in row.get("evidence") or ())})


def demand_to_row(demand: Demand) -> dict[str, Any]:
    """The demand struct."""
    return _flat(demand)


def demand_from_row(row: Row) -> Demand:
    """The reverse of `demand_to_row`."""
    lists = {name: tuple(row.get(name) or ()) for name in ("alternatives", "links", "knowledge")}
    return Demand(**{**row, **lists})


def leg_to_row(leg: Leg) -> dict[str, Any]:
    """The leg struct; the level is written as L1 … L4."""
    return _flat(leg) | {
        "demand": demand_to_row(leg.demand),
        "evidence": [_flat(e) for e in leg.evidence],
        "level": None if leg.level is None else str(leg.level),
    }


def leg_from_row(row: Row) -> Leg:
    """The reverse of `leg_to_row`."""
    return Leg(
        **{
            **row,
            "demand": demand_from_row(row["demand"]),
            "found": tuple(row.get("found") or ()),
            "evidence": tuple(evidence_from_row(e) for e in row.get("evidence") or ()),
            "level": Grade[row["level"]] if row.get("level") else None,
        }
    )


def understanding_to_row(understanding: Understanding, provenance: Provenance) -> dict[str, Any]:
    """A row of DEMANDS."""
    return {
        "query_id": understanding.query.query_id,
        "query": understanding.query.text,
        "normalized": understanding.normalized,
        "hard_type": understanding.hard_type,
        "corrections": [{"typed": a, "read": b} for a, b in understanding.corrections],
        "demands": [demand_to_row(d) for d in understanding.demands],
        "referent": understanding.referent,
        "readings": [_flat(r) for r in understanding.readings],
        "confidence": understanding.confidence,
        "engine": understanding.engine,
        "status": understanding.status,
        "error": understanding.error,
        "provenance": provenance_to_row(provenance),
    }


def understanding_from_row(row: Row) -> Understanding:
    """The reverse of `understanding_to_row`."""
    return Understanding(
        query=Query(row["query_id"], row["query"]),
        normalized=row.get("normalized") or "",
        demands=tuple(demand_from_row(d) for d in row.get("demands") or ()),
        corrections=tuple((c["typed"], c["read"]) for c in row.get("corrections") or ()),
        hard_type=row.get("hard_type") or "other",
        status=row["status"],
        error=row.get("error"),
        referent=row.get("referent"),
        readings=tuple(OtherReading(**r) for r in row.get("readings") or ()),
        confidence=row.get("confidence") or 0.0,
        engine=row.get("engine") or "",
    )


def judgment_to_row(judgment: Judgment) -> dict[str, Any]:
    """A row of JUDGMENTS."""
    return {
        "query_id": judgment.query_id,
        "item_id": judgment.item_id,
        "query": judgment.query,
        "grade": None if judgment.grade is None else str(judgment.grade),
        "probabilities": None if judgment.probabilities is None else list(judgment.probabilities),
        "score": judgment.score,
        "legs": [leg_to_row(leg) for leg in judgment.path.legs] if judgment.path else [],
        "failed_dimensions": list(judgment.failed_dimensions),
        "rule_ids": list(judgment.rule_ids),
        "said": None if judgment.said is None else str(judgment.said),
        "samples": [str(grade) for grade in judgment.samples],
        "mode": judgment.mode,
        "status": judgment.status,
        "error": judgment.error,
        "provenance": provenance_to_row(judgment.provenance),
    }


def judgment_from_row(row: Row) -> Judgment:
    """The reverse of `judgment_to_row`."""
    legs = tuple(leg_from_row(leg) for leg in row.get("legs") or ())
    p = row.get("probabilities")
    return Judgment(
        query_id=row["query_id"],
        item_id=row["item_id"],
        grade=Grade[row["grade"]] if row.get("grade") else None,
        query=row.get("query") or "",
        probabilities=(p[0], p[1], p[2], p[3]) if p else None,
        score=row.get("score"),
        path=MatchPath(row["query_id"], row["item_id"], legs) if row["status"] == "ok" else None,
        failed_dimensions=tuple(row.get("failed_dimensions") or ()),
        rule_ids=tuple(row.get("rule_ids") or ()),
        said=Grade[row["said"]] if row.get("said") else None,
        samples=tuple(Grade[grade] for grade in row.get("samples") or ()),
        mode=row.get("mode") or "rules",
        status=row["status"],
        error=row.get("error"),
        provenance=provenance_from_row(row.get("provenance")),
    )


def attributes_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of ATTRIBUTES as a table; `attributes` may hold dataclasses, `provenance` too."""
    made = [
        {
            **row,
            "attributes": [attribute_to_row(a) for a in row["attributes"]],
            "provenance": provenance_to_row(row["provenance"]),
        }
        for row in rows
    ]
    return _table(made, ATTRIBUTES)


def demands_table(understandings: Iterable[Understanding], provenance: Provenance) -> pa.Table:
    """Understandings as a table of DEMANDS."""
    return _table([understanding_to_row(u, provenance) for u in understandings], DEMANDS)


def judgments_table(judgments: Iterable[Judgment]) -> pa.Table:
    """Judgments as a table of JUDGMENTS."""
    return _table([judgment_to_row(j) for j in judgments], JUDGMENTS)


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table. Halves of surrogate pairs, which no table can hold, become U+FFFD; one text ends no batch."""
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:
        return pa.Table.from_pylist([_encodable(row) for row in rows], schema=schema)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {key: _encodable(one) for key, one in value.items()}
    return [_encodable(one) for one in value] if isinstance(value, list | tuple) else value
