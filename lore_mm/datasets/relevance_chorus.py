"""Chorus: products of the Icecat catalogue and human judgments on a scale of 0–3, a folder of three files.

products.parquet (id, title, short_description, supplier, img_500x500, attributes as JSON: attr_t_… text, attr_n_…
numbers, attr_b_… yes or no), judgments.csv (query, docid, rating), and individual_ratings.csv (query, docid,
agent_<n>_rating …), which may be missing. Prices are not read: the set names no currency for them.

The set has no splits of its own. Its queries are halved by the sha-256 of their text, even (dev) or odd (test), so that
what is worked on and what is measured are apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lore_mm.datasets.relevance_files import parquet_rows, separated_rows, the_file
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, item_of, query_id_of
from lore_mm.errors import InputError
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.types import Grade, Item

__all__ = ["read_chorus"]

_COLUMNS = {"query": "query", "item_id": "docid", "label": "rating", "split": "split"}
_NEED = ("query", "docid", "rating")
_TYPED = re.compile(r"^attr_[tnb]_")
_RATER = re.compile(r"^agent_\d+_rating$")


def read_chorus(path: Path, wanted: Wanted) -> RelevanceSet:
    """The set of a folder.

    Raises:
        InputError: a file or column is missing, or a row is wrong; it names them.
    """
    products, judgments = the_file(path, "products.parquet"), the_file(path, "judgments.csv")
    reader = PairReader(scale_named(wanted.scale or "0-3"))
    for where, row in separated_rows(judgments, ",", _NEED):
        reader.add(where, row | {"split": _half(row["query"] or "")}, _COLUMNS)
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    titles: dict[str, str] = {}
    judged = {pair.item_id for pair in reader.pairs}
    more = ("short_description", "supplier", "img_500x500", "attributes")
    for where, row in parquet_rows(products, ("id", "title"), more):
        titles[str(row["id"])] = row["title"] or ""
        if str(row["id"]) not in judged:
            continue
        item_of(
            {
                "item_id": row["id"],
                "title": row["title"],
                "description": row.get("short_description"),
                "brand": row.get("supplier"),
                "images": row.get("img_500x500") or None,
                "attributes": _attributes(row.get("attributes"), where),
            },
            where,
            items,
            unusable,
        )
    ratings = path / "individual_ratings.csv"
    rated = ratings.is_file()
    return RelevanceSet(
        name=f"chorus:{path}",
        scale=reader.scale,
        pairs=reader.pairs,
        items=items,
        files=(products, judgments, *([ratings] if rated else [])),
        unusable=unusable,
        notes=reader.notes(),
        titles=titles,
        raters=_raters(ratings, reader) if rated else {},
    )


def _half(query: str) -> str:
    return "test" if int(sha_of_bytes(query.encode("utf-8", "replace")), 16) % 2 else "dev"


def _attributes(given: object, where: str) -> dict[str, object]:
    """The attributes by readable names: attr_t_product_colour is "product colour"."""
    if given is None:
        return {}
    try:
        values = json.loads(given) if isinstance(given, str) else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{where}, column 'attributes': not a JSON object")
    return {" ".join(_TYPED.sub("", name).replace("_", " ").split()): value for name, value in values.items()}


def _raters(path: Path, reader: PairReader) -> Mapping[str, Mapping[tuple[str, str], Grade]]:
    found: dict[str, dict[tuple[str, str], Grade]] = {}
    for where, row in separated_rows(path, ",", ("query", "docid")):
        key = (query_id_of(str(row["query"])), str(row["docid"]))
        for column in _rater_columns(row):
            if row[column] is not None:
                found.setdefault(column.removesuffix("_rating"), {})[key] = reader.scale.grade(
                    row[column], f"{where}, column {column!r}"
                )
    return found


def _rater_columns(row: Iterable[str]) -> list[str]:
    return [name for name in row if _RATER.match(name)]
