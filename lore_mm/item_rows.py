"""One row of a seller's catalogue to one Item: any row whatever gives exactly one, with the reasons it is not usable.

Nothing is mended in silence: what cannot be kept as it stands is a fault, named by column, and the rest of the row is
kept. This module does not know files, and never raises for the sake of a value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from lore_mm.records import kind_of
from lore_mm.types import Item

__all__ = ["COLUMNS", "LONGEST", "PREFIX", "key_fault", "number_of", "read_item", "read_text"]

COLUMNS = (
    "item_id",
    "title",
    "description",
    "category",
    "brand",
    "attributes",
    "price",
    "currency",
    "images",
    "image",
    "store",
)
PREFIX = "attributes."  # a column "attributes.color" is the seller's own attribute "color"
LONGEST = {"title": 10_000, "description": 100_000}  # characters; any other text: _LONGEST_OTHER
_LONGEST_OTHER = 10_000
_LONGEST_KEY = 512
# Control characters that are no white space, and halves of surrogate pairs, which no UTF-8 file can hold.
_UNFIT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_MOST_FAULTS = 5


def key_fault(value: object, column: str) -> str | None:
    """Why a value cannot be a key, or None. Keys are text or whole numbers, on one line, at most 512 characters."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"{column} is empty"
    if isinstance(value, bool) or not isinstance(value, str | int):
        return f"{_shown(value)} is {kind_of(value)}; legal: text or a whole number"
    text = str(value) if isinstance(value, str) or abs(value) < 10**100 else "9" * 1000
    if len(text) > _LONGEST_KEY:
        return f"{len(text):,} characters, the limit is {_LONGEST_KEY}"
    if unfit := _CONTROL.search(text):
        return f"control character U+{ord(unfit[0]):04X} at character {unfit.start()}"
    return None


def read_item(row: Mapping[str, Any], textual: bool = False) -> tuple[Item, str | None]:
    """One row (its item_id sound, see `key_fault`) → the item and why it cannot be used, None where it can.

    `textual`: all values are text, as in CSV; then `images`, `attributes` and `attributes.<name>` hold JSON or `a|b`.
    """
    faults: list[str] = []

    def text(column: str) -> str | None:
        return read_text(row.get(column), column, faults)

    title = text("title") or ""
    if not title.strip() and not any(fault.startswith("title:") for fault in faults):
        faults.append("title: empty")
    item = Item(
        item_id=str(row["item_id"]),
        title=title,
        description=text("description") or "",
        category=text("category"),
        brand=text("brand"),
        attributes=_attributes(row, textual, faults),
        price=_price(row.get("price"), faults),
        currency=text("currency"),
        images=_images(row, textual, faults),
        store=text("store"),
    )
    more = len(faults) - _MOST_FAULTS
    error = "; ".join(faults[:_MOST_FAULTS]) + (f"; and {more} more" if more > 0 else "")
    return item, error or None


def read_text(value: object, column: str, faults: list[str], kept: bool = True) -> str | None:
    """A text as it stands; too long: its beginning; not a text: a number in words, else nothing. Faults are added.

    `kept`: whether a row with faults is kept, so that a fault says how much of a long text is.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        faults.append(f"{column}: {_shown(value)} is {kind_of(value)}, not text")
        return _number_text(value)
    limit = LONGEST.get(column, _LONGEST_OTHER)
    if len(value) > limit:
        rest = f"; the first {limit:,} are kept" if kept else ""
        faults.append(f"{column}: {len(value):,} characters, the limit is {limit:,}{rest}")
        value = value[:limit]
    if unfit := _UNFIT.search(value):
        what = "half a surrogate pair" if ord(unfit[0]) >= 0xD800 else "control character"
        faults.append(f"{column}: {what} U+{ord(unfit[0]):04X} at character {unfit.start()}")
        value = _UNFIT.sub(lambda m: "\N{REPLACEMENT CHARACTER}" if ord(m[0]) >= 0xD800 else " ", value)
    return value


def _price(value: object, faults: list[str]) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = number_of(value)
    if number is None:
        faults.append(f"price: {_shown(value)} is not a number; legal: digits with a decimal point, such as 12.50")
    elif not math.isfinite(number):
        faults.append(f"price: {_shown(value)} is not a price; leave it empty where there is none")
    elif number < 0:
        faults.append(f"price: {_shown(value)} is negative")
    else:
        return number
    return None


def number_of(value: object) -> float | None:
    """A number, or a text that is one in plain ASCII digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str):
        value = value.strip()
        if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            return float(value)
        if len(value) > 400 or not _NUMBER.fullmatch(value):
            return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return math.inf


def _images(row: Mapping[str, Any], textual: bool, faults: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for column in ("image", "images"):
        given = row.get(column)
        if column == "images" and textual:
            given = _listed(given)
        if given is None or isinstance(given, str | bool | int | float | Mapping):
            given = [given]
        for one in given if isinstance(given, list | tuple) else [given]:
            ref = read_text(one, column, faults) if isinstance(one, str) or one is None else None
            if ref is None and one is not None:
                faults.append(f"{column}: {_shown(one)} is {kind_of(one)}, not the path of a picture")
            if ref and ref not in found:
                found.append(ref)
    return tuple(found)


def _listed(given: object) -> object:
    """A cell of a CSV file that may hold several values: a JSON list, or values between bars."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        try:
            value = json.loads(given)
            return value if isinstance(value, list) else given
        except (ValueError, RecursionError):
            return given
    return [part.strip() for part in given.split("|")] if "|" in given else given


def _attributes(row: Mapping[str, Any], textual: bool, faults: list[str]) -> dict[str, tuple[str, ...]]:
    given = row.get("attributes")
    if textual and isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            faults.append(f"attributes: {_shown(given)} is not a JSON object")
            given = None
    pairs = _pairs(given, faults)
    pairs += [(name[len(PREFIX) :], row[name]) for name in row if name.startswith(PREFIX)]
    found: dict[str, tuple[str, ...]] = {}
    for name, values in pairs:
        if not isinstance(name, str) or not name.strip():
            faults.append("attributes: one has no name")
            continue
        fit_name = read_text(name, "attributes", faults) or ""
        texts = _values(fit_name, _listed(values) if textual else values, faults)
        if texts:
            found[fit_name] = (*found.get(fit_name, ()), *texts)
    return found


def _pairs(given: object, faults: list[str]) -> list[tuple[object, object]]:
    """Seller attributes in any of the shapes in which files hold them: an object, a map, a list of {name, values}."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.items())
    if isinstance(given, list):
        if all(isinstance(one, Mapping) and set(one) == {"name", "values"} for one in given):
            return [(one["name"], one["values"]) for one in given]
        if all(isinstance(one, tuple) and len(one) == 2 for one in given):
            return list(given)
    faults.append(f"attributes: {_shown(given)} is {kind_of(given)}, not an object of name: value or list of values")
    return []


def _values(name: str, given: object, faults: list[str]) -> Sequence[str]:
    texts: list[str] = []
    column = PREFIX + " ".join(name.split())[:60]
    for one in given if isinstance(given, list | tuple) else [given]:
        if one is None:
            continue
        text = _number_text(one) if not isinstance(one, str) else read_text(one, column, faults)
        if text is None:
            faults.append(f"{column}: {_shown(one)} is {kind_of(one)}; legal: text, a number, or a list of these")
        elif text.strip():
            texts.append(text)
    return texts


def _number_text(value: object) -> str | None:
    """A number as a person writes it: 12.0 → "12"; true and false as those words; None for what is no number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int) and abs(value) >= 10**100:
        return None
    return str(value) if isinstance(value, int | float | Decimal) and math.isfinite(value) else None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list nested without end
        text = "…"
    return text if len(text) <= 60 else text[:40] + "…" + text[-15:]
