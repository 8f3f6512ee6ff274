"""Extractions as rows of ATTRIBUTES, and back: what stands of an item is read to see what of it may stand on.

This module knows no extractor and no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from extractors.protocol import Earlier, Extraction, PackLine
from jobs.asked import usage_row
from jobs.item_input import LoadedItem
from lore_mm.rows import attribute_from_row
from lore_mm.tables import MAX_REPLY
from lore_mm.types import Provenance

__all__ = ["NEEDED", "VERDICT", "earlier_from_rows", "extraction_row", "verdict_row"]

VERDICT = "merge"
# of a row, to know what of it stands
NEEDED = (
    *("extractor", "category", "attributes", "status", "error", "provenance"),
    *("reply", "made_from", "asked_with", "pack"),
)


def extraction_row(item_id: str, name: str, extraction: Extraction, settings_sha: str) -> dict[str, Any]:
    """A row of ATTRIBUTES (see `lore_mm.rows.attributes_table`)."""
    return {
        "item_id": item_id,
        "extractor": name,
        "category": extraction.category,
        "attributes": extraction.attributes,
        "status": extraction.status,
        "error": extraction.error,
        "provenance": Provenance(maker=name, settings_sha=settings_sha),
        "reply": extraction.reply[:MAX_REPLY] if extraction.reply else None,
        "usage": usage_row(extraction),
        "made_from": _pairs(extraction.made_from),
        "asked_with": _pairs(extraction.asked_with),
        "pack": [_line_to_row(line) for line in extraction.pack] or None,
    }


def verdict_row(one: LoadedItem, extractions: Mapping[str, Extraction], content: Mapping[str, str]) -> dict[str, Any]:
    """The row of the merger: failed where a picture could not be read too, with each reason once."""
    verdict = extractions[VERDICT]
    failures = {n: e.error or "failed" for n, e in extractions.items() if e.status == "failed" and n != VERDICT}
    said, of_pictures = verdict.error, "; ".join(dict.fromkeys(e for e in one.picture_errors if e))
    if said == "; ".join(f"{name}: {error}" for name, error in failures.items()):  # else the merger itself failed
        said = "; ".join(f"{name}: {error}" for name, error in failures.items() if error != of_pictures)
    faults = [fault for fault in (one.picture_fault, said) if fault]
    failed = verdict.status == "failed" or one.picture_fault is not None
    row = extraction_row(one.item.item_id, VERDICT, verdict, "")
    status, error = ("failed", "; ".join(faults)) if failed else ("ok", None)
    return {**row, "status": status, "error": error, "made_from": _pairs(content)}


def earlier_from_rows(rows: Iterable[Mapping[str, Any]], again: bool) -> dict[str, Earlier]:
    """What stands of one item, by extractor, from its newest rows; `again`: what failed of it is to be made again."""
    return {row["extractor"]: Earlier(*_from_row(row), again) for row in rows}


def _from_row(row: Mapping[str, Any]) -> tuple[Extraction, str]:
    attributes = row["attributes"] or () if row["extractor"] != VERDICT else ()  # a verdict is always made anew
    extraction = Extraction(
        tuple(attribute_from_row(a) for a in attributes),
        row["category"],
        row["status"],
        row["error"],
        tuple(_line_from_row(line) for line in row["pack"] or ()),
        reply=row["reply"],
        made_from={pair["name"]: pair["sha"] for pair in row["made_from"] or ()},
        asked_with={pair["name"]: pair["sha"] for pair in row["asked_with"] or ()},
    )
    return extraction, (row["provenance"] or {}).get("settings_sha") or ""


def _pairs(shas: Mapping[str, str | None]) -> list[dict[str, str | None]] | None:
    return [{"name": name, "sha": sha} for name, sha in shas.items()] or None


def _line_to_row(line: PackLine) -> dict[str, Any]:
    return {"text": line.text, "picture": line.picture, "region": list(line.region), "confidence": line.confidence}


def _line_from_row(row: Mapping[str, Any]) -> PackLine:
    x0, y0, x1, y1 = row["region"]
    return PackLine(row["text"], row["picture"], (x0, y0, x1, y1), row["confidence"])
