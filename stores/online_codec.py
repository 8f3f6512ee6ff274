"""What lies in an online view: keys and values as bytes, MessagePack, and back into the dataclasses of `lore_mm.types`.

A value is the dataclass with all its fields by name, so that it is decoded in C straight into the class; a value of a
field that the class does not foresee (an empty one that an earlier version left) is taken over as the tables' rows are.
It knows no files and no stores.
"""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from lore_mm.errors import StoreError
from lore_mm.rows import attribute_from_row, item_from_row
from lore_mm.types import AttributeValue, Item, ItemFeatures
from stores.understood import Understood, understood_from_row

__all__ = [
    "collector_paused",
    "encode_item",
    "encode_understood",
    "encode_verdict",
    "features_from_bytes",
    "features_from_rows",
    "key_of",
    "understood_from_bytes",
]

_LONGEST_KEY = 500  # LMDB takes 511 bytes
_ONE = TypeVar("_ONE")

_encode = msgspec.msgpack.Encoder().encode
_features = msgspec.msgpack.Decoder(ItemFeatures).decode
_understood = msgspec.msgpack.Decoder(Understood).decode
_anything = msgspec.msgpack.Decoder().decode

_MAP_OF_3 = b"\x83"
_ITEM, _ATTRIBUTES, _INPUT_SHA = (_encode(name) for name in ("item", "attributes", "input_sha"))


class _Pauses:
    """How many decodings under way want the collector to rest, and whether it was at work before the first."""

    def __init__(self) -> None:
        self.lock, self.n, self.was_on = threading.Lock(), 0, False


_pauses = _Pauses()


def key_of(text: str) -> bytes:
    """What the entry of an id, or of a query's key, is found by: never empty, never too long for LMDB."""
    key = text.encode("utf-8", "surrogatepass")
    return b"=" + key if len(key) <= _LONGEST_KEY else b"#" + hashlib.sha256(key).digest()


def features_from_rows(item: Mapping[str, Any], merged: Mapping[str, Any] | None) -> ItemFeatures | None:
    """What a judge sees, from a row of ITEMS and the item's row of ATTRIBUTES by `merge`; None where the item failed.

    `input_sha` is that of what was extracted from (pictures and text), and where nothing was, that of the seller's row.
    """
    if item["status"] != "ok":
        return None
    return ItemFeatures(
        item=item_from_row(item), attributes=_values(merged or {}), input_sha=_sha(merged if merged else item)
    )


def encode_item(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """A row of ITEMS as the two parts of an entry: put together they are the features of an item without a verdict,
    with the first part and `encode_verdict` those of one that has it.
    """
    item: Item = item_from_row(row)
    return _MAP_OF_3 + _ITEM + _encode(item), _tail((), _sha(row))


def encode_verdict(row: Mapping[str, Any]) -> bytes:
    """A row of ATTRIBUTES by `merge` as the second part of its item's entry."""
    return _tail(_values(row), _sha(row))


def encode_understood(one: Understood) -> bytes:
    """An understanding with what made it."""
    return _encode(one)


def features_from_bytes(data: bytes) -> ItemFeatures:
    """The reverse of `encode_item` and `encode_verdict`.

    Raises:
        StoreError: the bytes are damaged.
    """
    try:
        return _features(data)
    except msgspec.MsgspecError as error:
        return _unforeseen(data, error, _features_of_map)


def understood_from_bytes(data: bytes) -> Understood:
    """The reverse of `encode_understood`.

    Raises:
        StoreError: the bytes are damaged.
    """
    try:
        return _understood(data)
    except msgspec.MsgspecError as error:
        return _unforeseen(data, error, _understood_of_map)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without collections of cyclic garbage in this process meanwhile.

    What is decoded holds no cycles, but each new object counts towards the next collection, which then walks through
    all there are: four fifths of the time of decoding a hundred thousand items went there. Where it was off it stays
    off.
    """
    with _pauses.lock:
        if _pauses.n == 0:
            _pauses.was_on = gc.isenabled()
            gc.disable()
        _pauses.n += 1
    try:
        yield
    finally:
        with _pauses.lock:
            _pauses.n -= 1
            if _pauses.n == 0 and _pauses.was_on:
                gc.enable()


def _values(row: Mapping[str, Any]) -> tuple[AttributeValue, ...]:
    return tuple(attribute_from_row(value) for value in row.get("attributes") or ())


def _sha(row: Mapping[str, Any]) -> str:
    return (row.get("provenance") or {}).get("input_sha") or ""


def _tail(values: tuple[AttributeValue, ...], sha: str) -> bytes:
    return _ATTRIBUTES + _encode(values) + _INPUT_SHA + _encode(sha)


def _unforeseen(data: bytes, error: msgspec.MsgspecError, careful: Callable[[Any], _ONE]) -> _ONE:
    """What is whole, but with values that the classes do not foresee, taken over as the tables' rows are."""
    try:
        if isinstance(error, msgspec.ValidationError):
            return careful(_anything(data))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError) as another:
        raise StoreError(f"an entry of the online view is damaged: {another}") from None
    raise StoreError(f"an entry of the online view is damaged: {error}")


def _features_of_map(found: Any) -> ItemFeatures:
    item = found["item"]
    given = [{"name": name, "values": values} for name, values in item["attributes"].items()]
    return ItemFeatures(item_from_row(item | {"attributes": given}), _values(found), found["input_sha"])


def _understood_of_map(found: Any) -> Understood:
    row = found["understanding"]
    query = {"query_id": row["query"]["query_id"], "query": row["query"]["text"]}
    corrections = [{"typed": typed, "read": read} for typed, read in row["corrections"]]
    provenance = found["provenance"] | {"made_at": found["made_at"]}
    return understood_from_row(row | query | {"corrections": corrections, "provenance": provenance})
