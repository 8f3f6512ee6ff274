"""A store written row by row at chosen times, for tests of what it was and how it came about."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lore_mm.rows import attribute_to_row, item_to_row
from lore_mm.tables import ATTRIBUTES, ITEMS
from lore_mm.types import AttributeValue, Evidence, Item

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def value(name, said, confidence=0.9, extractor="given", **more):
    evidence = (Evidence("title", said, 0, len(said), extractor=extractor),) if said else ()
    return AttributeValue(name, "style", said, confidence=confidence, extractor=extractor, evidence=evidence, **more)


def provenance(minutes, run="r1", maker="given", input_sha="in1", settings="s1"):
    made_at = None if minutes is None else at(minutes)
    return {"run_id": run, "maker": maker, "input_sha": input_sha, "settings_sha": settings, "made_at": made_at}


def put_items(store, minutes, *items, error=None, **more):
    rows = [
        item_to_row(one)
        | {
            "image_root": None,
            "status": "failed" if error else "ok",
            "error": error,
            "provenance": provenance(minutes, maker="catalogue", **more),
        }
        for one in items
    ]
    store.append("items", pa.Table.from_pylist(rows, schema=ITEMS))


def found(item_id, extractor, minutes, *values, error=None, made_from=None, run="r1", maker=None, **more):
    """A row of ATTRIBUTES; `more` goes to its provenance, or is a column."""
    columns = {k: more.pop(k) for k in ("reply", "usage", "asked_with", "pack") if k in more}
    row = {
        "item_id": item_id,
        "extractor": extractor,
        "category": None,
        "attributes": [attribute_to_row(one) for one in values],
        "status": "failed" if error else "ok",
        "error": error,
        "provenance": provenance(minutes, run, maker or extractor, **more),
        "made_from": shas(made_from),
        **columns,
    }
    return row | {"asked_with": shas(columns.get("asked_with"))}


def shas(pairs):
    return [{"name": name, "sha": sha} for name, sha in pairs.items()] if pairs else None


def put(store, *rows):
    """One commit of rows of ATTRIBUTES."""
    store.append("attributes", pa.Table.from_pylist(list(rows), schema=ATTRIBUTES))


def set_clock(store, table, times):
    """Write other times of committing into a table's log: version → time."""
    for version, time in times.items():
        path = store.folder / table / "_delta_log" / f"{version:020}.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = int(time.timestamp() * 1000)
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def shirt(title="Red shirt", **more):
    return Item("shirt", title, **more)
