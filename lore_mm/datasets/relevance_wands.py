"""WANDS, the Wayfair Annotation Dataset: a folder of three tab-separated files, all called .csv.

query.csv (query_id, query, query_class), product.csv (product_id, product_name, product_class, category hierarchy,
product_description, product_features as name:value|name:value) and label.csv (query_id, product_id, label: Exact,
Partial or Irrelevant). The folder itself or the one above it may be named. There are no pictures in it.

After Chen et al., WANDS: Dataset for Product Search Relevance Assessment, 2022.
"""

from __future__ import annotations

from pathlib import Path

from lore_mm.datasets.relevance_files import separated_rows, the_file
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, fields, item_of
from lore_mm.errors import InputError, nearest
from lore_mm.types import Item

__all__ = ["read_wands"]

_COLUMNS = {"query_id": "query_id", "query": "query", "item_id": "product_id", "label": "label", "kind": "kind"}
_PRODUCT = ("product_id", "product_name", "product_description", "product_features")
_HIERARCHY = ("category hierarchy", "category_hierarchy")  # the file's header, and what its description calls it


def read_wands(path: Path, wanted: Wanted) -> RelevanceSet:
    """The set of a folder.

    Raises:
        InputError: a file or column is missing, a label names an unknown query, or a row is wrong; it names them.
    """
    folder = path / "dataset" if (path / "dataset" / "label.csv").is_file() else path
    queries, products, labels = (the_file(folder, f"{name}.csv") for name in ("query", "product", "label"))
    asked: dict[str, tuple[str | None, str | None]] = {}
    for where, row in separated_rows(queries, "\t", ("query_id", "query")):
        query_id = str(row["query_id"])
        if query_id in asked:
            raise InputError(f"{where}, column 'query_id': {query_id!r} is there twice")
        asked[query_id] = (row["query"], row.get("query_class"))
    reader = PairReader(scale_named(wanted.scale or "wands"))
    for where, row in separated_rows(labels, "\t", ("query_id", "product_id", "label")):
        query_id = str(row["query_id"])
        if query_id not in asked:
            hint = nearest(query_id, asked)
            raise InputError(f"{where}, column 'query_id': {query_id!r} is not among the queries of {queries}{hint}")
        text, kind = asked[query_id]
        reader.add(where, row | {"query": text, "kind": kind}, _COLUMNS)
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    titles: dict[str, str] = {}
    judged = {pair.item_id for pair in reader.pairs}
    for where, row in separated_rows(products, "\t", _PRODUCT):
        titles[str(row["product_id"])] = row["product_name"] or ""
        if str(row["product_id"]) not in judged:
            continue
        features = (part.partition(":") for part in (row["product_features"] or "").split("|"))
        item_of(
            {
                "item_id": row["product_id"],
                "title": row["product_name"],
                "description": row["product_description"],
                "category": next((row[name] for name in _HIERARCHY if row.get(name)), None),
                "attributes": fields([("product type", row.get("product_class") or "")])
                | fields((name, value) for name, _, value in features),
            },
            where,
            items,
            unusable,
        )
    files = (queries, products, labels)
    return RelevanceSet(f"wands:{path}", reader.scale, reader.pairs, items, files, unusable, reader.notes(), titles)
