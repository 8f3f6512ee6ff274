"""Home Depot Product Search Relevance: train.csv, and beside it maybe product_descriptions.csv and attributes.csv.

train.csv has id, product_uid, product_title, search_term and relevance, the mean of at least three people who said 1, 2
or 3; product_descriptions.csv product_uid and product_description; attributes.csv product_uid, name and value, a row an
attribute. The files are Latin-1. There are no pictures in it. A folder, or the file of pairs, may be named.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lore_mm.datasets.relevance_files import separated_rows, the_file
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, fields, item_of
from lore_mm.errors import InputError
from lore_mm.types import Item

__all__ = ["read_homedepot"]

_COLUMNS = {"query": "search_term", "item_id": "product_uid", "label": "relevance"}
_BRAND = "MFG Brand Name"
_BULLET = re.compile(r"^Bullet\s*\d+$", re.IGNORECASE)


def read_homedepot(path: Path, wanted: Wanted) -> RelevanceSet:
    """The set of a folder or of its file of pairs.

    Raises:
        InputError: a file or column is missing, a product has two titles, or a row is wrong; it names them.
    """
    pairs = path if path.is_file() else the_file(path, "train.csv")
    reader = PairReader(scale_named(wanted.scale or "1-3"))
    titles: dict[str, tuple[str, str]] = {}
    for where, row in separated_rows(pairs, ",", ("product_uid", "product_title", "search_term", "relevance")):
        pair = reader.add(where, row, _COLUMNS)
        title, place = titles.setdefault(pair.item_id, (row["product_title"] or "", where))
        if title != (row["product_title"] or ""):
            at = f"{where}, column 'product_title'"
            raise InputError(f"{at}: product {pair.item_id!r} had another title in {place}")
    described, described_file = _descriptions(pairs.parent, titles)
    said, said_file = _said(pairs.parent, titles)
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    for item_id, (title, where) in titles.items():
        named = said.get(item_id, [])
        bullets = [value for name, value in named if _BULLET.match(name)]
        brand = next((value for name, value in named if name == _BRAND), None)
        row = {
            "item_id": item_id,
            "title": title,
            "description": "\n".join(filter(None, [described.get(item_id, ""), *bullets])),
            "brand": brand,
            "attributes": fields((n, v) for n, v in named if n != _BRAND and not _BULLET.match(n)),
        }
        item_of(row, where, items, unusable)
    files = tuple(filter(None, (pairs, described_file, said_file)))
    return RelevanceSet(f"homedepot:{path}", reader.scale, reader.pairs, items, files, unusable, reader.notes())


def _descriptions(folder: Path, wanted: dict[str, Any]) -> tuple[dict[str, str], Path | None]:
    path = folder / "product_descriptions.csv"
    if not path.is_file():
        return {}, None
    found = {}
    for _, row in separated_rows(path, ",", ("product_uid", "product_description")):
        if str(row["product_uid"]) in wanted:
            found[str(row["product_uid"])] = row["product_description"] or ""
    return found, path


def _said(folder: Path, wanted: dict[str, Any]) -> tuple[dict[str, list[tuple[str, str]]], Path | None]:
    path = folder / "attributes.csv"
    if not path.is_file():
        return {}, None
    found: dict[str, list[tuple[str, str]]] = {}
    for _, row in separated_rows(path, ",", ("product_uid", "name", "value")):
        # there are blank rows in it, and ids written as 100001.0
        item_id = (row["product_uid"] or "").removesuffix(".0")
        if item_id in wanted and row["name"] and row["value"]:
            found.setdefault(item_id, []).append((row["name"], row["value"]))
    return found, path
