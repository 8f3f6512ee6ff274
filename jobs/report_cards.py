"""One item as a card of the report: its photo as a data URI, its text with marked evidence, its attributes as chips.

Plain values for a template; texts are cut to a readable length but otherwise as hostile as they came. It does not
know stores or queries.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lore_mm.errors import PictureError
from lore_mm.images import PicturePolicy, load_picture
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_dimensions

__all__ = [
    "SMALL_PX",
    "Card",
    "Chip",
    "EvidenceView",
    "Part",
    "SourceMark",
    "Swatch",
    "build_card",
    "clip",
    "in_words",
    "source_mark",
    "thumbnail",
]

LARGE_PX, SMALL_PX = 240, 72
_LONGEST_TITLE, _LONGEST_TEXT = 240, 700
_CONTEXT = 28  # characters shown on either side of a quote
_MOST_VALUES, _MOST_EVIDENCE = 12, 6


@dataclass(frozen=True, slots=True)
class SourceMark:
    """Where a value was read, as a reader is told: kind picks the icon (photo | title | text | seller | other)."""

    kind: str
    word: str

    @property
    def short(self) -> str:
        """The word without the key or number of the source."""
        return {"photo": "photo", "seller": "seller"}.get(self.kind, self.word)


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """One piece of evidence: the quote with a little of what stands around it."""

    source: SourceMark
    extractor: str | None
    before: str
    quote: str | None
    after: str
    value: str | None
    percent: int
    region: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class Swatch:
    """A colour with its share of the item. `hex` is None for a colour the knowledge tables do not know."""

    name: str
    hex: str | None
    percent: int | None


@dataclass(frozen=True, slots=True)
class Chip:
    """All values of one attribute, colours by falling share. `status`: value | conflict | failed."""

    number: int  # of the chip on its card, from 1: what parts of the text refer to
    name: str
    values: tuple[str, ...]
    more: int  # values not shown
    status: str
    derived: bool
    percent: int  # the lowest confidence among the values
    sources: tuple[SourceMark, ...]
    evidence: tuple[EvidenceView, ...]
    swatches: tuple[Swatch, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of text and the numbers of the chips it is evidence for."""

    text: str
    chips: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """An item as the report shows it."""

    item_id: str
    title: tuple[Part, ...]
    description: tuple[Part, ...]
    category: str | None
    price: str | None
    picture: str | None  # data URI
    picture_error: str | None
    status: str
    errors: tuple[str, ...]
    chips: tuple[Chip, ...]
    unstated: tuple[str, ...]

    @property
    def has_conflict(self) -> bool:
        """True where sources disagree on some attribute."""
        return any(chip.status == "conflict" for chip in self.chips)


def clip(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def in_words(dimension: str | None, value: str) -> str:
    """A value as people call it: a category by its name instead of its id."""
    known = load_knowledge().categories.get(value) if dimension == "category" else None
    return known.name if known else value


def source_mark(source: str) -> SourceMark:
    """The words for an evidence source: title | text | given.<key> | image:<i>."""
    if source.startswith("image"):
        index = source.partition(":")[2]
        return SourceMark("photo", "photo" if index in ("", "0") else f"photo {clip(index, 8)}")
    if source.startswith("given"):
        key = source.partition(".")[2]
        return SourceMark("seller", f"seller’s {clip(key, 40)}" if key else "seller")
    if source in ("title", "text"):
        return SourceMark(source, "title" if source == "title" else "description")
    return SourceMark("other", clip(source, 40) or "unknown")


def thumbnail(row: Mapping[str, Any], side: int) -> tuple[str | None, str | None]:
    """The first picture of a row of ITEMS that can be read, as a JPEG data URI, or None and the reason.

    Pictures behind URLs are never fetched for a report.
    """
    refs: Sequence[str] = row["images"] or ()
    if not refs:
        return None, "no picture"
    reason = None
    for ref in refs[:4]:
        try:
            if row["image_root"] is None:
                raise PictureError("the catalogue's folder is not known")
            image = load_picture(ref, row["image_root"], PicturePolicy(max_side=side)).image
        except PictureError as error:
            reason = reason or clip(str(error), 200)
            continue
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=82, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), None
    return None, reason


def build_card(row: Mapping[str, Any], extractions: Mapping[str, Mapping[str, Any]]) -> Card:
    """A card from a row of ITEMS and the item's rows of ATTRIBUTES by extractor.

    The verdict is the row of `merge`; where there is none, what the extractors found stands side by side.
    """
    verdicts = [extractions["merge"]] if "merge" in extractions else list(extractions.values())
    attributes = [a for verdict in verdicts for a in verdict["attributes"] or ()]
    title, text = row["title"] or "", row["description"] or ""
    order = {dimension: i for i, dimension in enumerate(load_dimensions())}
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for attribute in sorted(attributes, key=lambda a: order.get(a["dimension"], len(order))):
        if attribute["status"] in ("value", "conflict", "failed"):
            by_name.setdefault(attribute["name"] or "", []).append(attribute)
    chips = [_chip(i, name, found, title, text) for i, (name, found) in enumerate(by_name.items(), 1)]
    picture, picture_error = thumbnail(row, LARGE_PX)
    price = row["price"]
    return Card(
        item_id=row["item_id"],
        title=_marked(title, _LONGEST_TITLE, by_name, "title"),
        description=_marked(text, _LONGEST_TEXT, by_name, "text"),
        category=clip(row["category"], 120) if row["category"] else None,
        price=None if price is None else f"{price:,.2f} {clip(row['currency'] or '', 8)}".strip(),
        picture=picture,
        picture_error=picture_error,
        status="failed" if row["status"] == "failed" else _status(verdicts, row["status"]),
        errors=tuple(_errors(row, extractions)),
        chips=tuple(chips),
        unstated=tuple(sorted({a["name"] or "" for a in attributes if a["status"] == "not_stated"} - set(by_name))),
    )


def _status(verdicts: Sequence[Mapping[str, Any]], given: str) -> str:
    if verdicts and all(verdict["status"] == "failed" for verdict in verdicts):
        return "failed"
    return given


def _errors(row: Mapping[str, Any], extractions: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    seen = set()
    for who, error in [("", row["error"]), *((name, e["error"]) for name, e in extractions.items())]:
        if error and error not in seen:
            seen.add(error)
            yield clip(f"{who}: {error}" if who else error, 300)


def _chip(number: int, name: str, found: Sequence[Mapping[str, Any]], title: str, text: str) -> Chip:
    statuses = {a["status"] for a in found}
    evidence = [e for a in found for e in a["evidence"] or ()]
    marks = {mark.kind: mark for mark in (source_mark(e["source"] or "") for e in evidence)}
    colors = sorted((a for a in found if a["dimension"] == "color" and a["value"]), key=lambda a: -(a["share"] or 0.0))
    values = [_value(a) for a in found if a["value"]]
    return Chip(
        number=number,
        name=clip(name, 40).replace("_", " "),
        values=tuple(values[:_MOST_VALUES]),
        more=max(0, len(values) - _MOST_VALUES),
        status="conflict" if "conflict" in statuses else "value" if "value" in statuses else "failed",
        derived=all(a["kind"] == "derived" for a in found),
        percent=_percent(min((a["confidence"] if a["confidence"] is not None else 1.0 for a in found), default=1.0)),
        sources=tuple(marks.values()),
        evidence=tuple(_evidence(e, title, text) for e in evidence[:_MOST_EVIDENCE]),
        swatches=tuple(_swatch(a) for a in colors[:_MOST_VALUES]),
        error=next((clip(a["error"], 200) for a in found if a["error"]), None),
    )


def _percent(share: float) -> int:
    return round(100 * min(1.0, max(0.0, share)))


def _value(attribute: Mapping[str, Any]) -> str:
    return clip(in_words(attribute["dimension"], attribute["value"]), 80)


def _swatch(attribute: Mapping[str, Any]) -> Swatch:
    known = load_knowledge().colors.get(attribute["value"])
    share = attribute["share"]
    return Swatch(
        clip(attribute["value"], 40), known.hex if known else None, None if share is None else _percent(share)
    )


def _evidence(evidence: Mapping[str, Any], title: str, text: str) -> EvidenceView:
    source = evidence["source"] or ""
    whole = {"title": title, "text": text}.get(source, "")
    span = _span(whole, evidence)
    region = evidence["region"]
    return EvidenceView(
        source=source_mark(source),
        extractor=evidence["extractor"],
        before=_tail(whole[: span[0]]) if span else "",
        quote=clip(evidence["quote"], 160) if evidence["quote"] else None,
        after=_head(whole[span[1] :]) if span else "",
        value=clip(evidence["value"], 80) if evidence["value"] else None,
        percent=_percent(evidence["confidence"] if evidence["confidence"] is not None else 1.0),
        region=tuple(region) if region and len(region) == 4 else None,
    )


def _tail(text: str) -> str:
    return text if len(text) <= _CONTEXT else "…" + text[-_CONTEXT:]


def _head(text: str) -> str:
    return text if len(text) <= _CONTEXT else text[:_CONTEXT] + "…"


def _span(whole: str, evidence: Mapping[str, Any]) -> tuple[int, int] | None:
    """Where the quote stands in the text, as the evidence says, or where it is found; None where it is not there."""
    quote, start, end = evidence["quote"], evidence["start"], evidence["end"]
    if not quote or not whole:
        return None
    if start is not None and end is not None and whole[start:end] == quote:
        return start, end
    at = whole.find(quote)
    return None if at < 0 else (at, at + len(quote))


def _marked(whole: str, most: int, by_name: Mapping[str, Sequence[Mapping[str, Any]]], source: str) -> tuple[Part, ...]:
    """The text in stretches, each with the chips whose evidence covers it."""
    shown = clip(whole, most)
    kept = len(shown) if shown == whole else len(shown) - 1  # the ellipsis is evidence for nothing
    spans = []
    for number, found in enumerate(by_name.values(), 1):
        for evidence in (e for a in found for e in a["evidence"] or () if e["source"] == source):
            if (span := _span(whole, evidence)) and span[1] <= kept:
                spans.append((*span, number))
    cuts = sorted({0, len(shown), *(edge for start, end, _ in spans for edge in (start, end))})
    return tuple(
        Part(shown[a:b], tuple(sorted({n for start, end, n in spans if start <= a and b <= end})))
        for a, b in pairwise(cuts)
    )
