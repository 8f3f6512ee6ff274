"""Amazon's Shopping Queries Dataset (ESCI): a folder of two Parquet files.

shopping_queries_dataset_examples.parquet (query_id, query, product_id, product_locale, esci_label, and split) and
shopping_queries_dataset_products.parquet (product_id, product_locale, product_title, product_description,
product_bullet_point, product_brand, product_color). One locale at a time, "us" unless another is named: product ids are
unique only within one. There are no pictures in it.

After Reddy et al., Shopping Queries Dataset: A Large-Scale ESCI Benchmark for Improving Product Search, 2022.
"""

from __future__ import annotations

from pathlib import Path

from lore_mm.datasets.relevance_files import parquet_rows, the_file
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, item_of
from lore_mm.errors import InputError, nearest
from lore_mm.types import Item

__all__ = ["LOCALES", "read_esci"]

LOCALES = ("us", "es", "jp")
_COLUMNS = {
    "query_id": "query_id", "query": "query", "item_id": "product_id", "label": "esci_label", "split": "split"
}  # fmt: skip
_SPLITS = ("train", "test")


def read_esci(path: Path, wanted: Wanted) -> RelevanceSet:
    """The pairs of one locale, and of one split where it is named, with the products that they need.

    Raises:
        InputError: a file or column is missing, no such locale or split, or a row is wrong; it names them.
    """
    locale = wanted.locale or LOCALES[0]
    if locale not in LOCALES:
        raise InputError(f"{path}: no locale {locale!r}{nearest(locale, LOCALES)}; legal: {', '.join(LOCALES)}")
    if wanted.split is not None and wanted.split not in _SPLITS:
        legal = ", ".join(_SPLITS)
        raise InputError(f"{path}: no split {wanted.split!r}{nearest(wanted.split, _SPLITS)}; legal: {legal}")
    examples = the_file(path, "shopping_queries_dataset_examples.parquet", "examples.parquet")
    products = the_file(path, "shopping_queries_dataset_products.parquet", "products.parquet")
    need = ["query_id", "query", "product_id", "product_locale", "esci_label"]
    only: dict[str, list[str]] = {"product_locale": [locale]}
    if wanted.split is not None:
        need, only = [*need, "split"], only | {"split": [wanted.split]}
    reader = PairReader(scale_named(wanted.scale or "esci"))
    for where, row in parquet_rows(examples, need, ("split",), only):
        reader.add(where, row, _COLUMNS)
    if not reader.pairs:
        raise InputError(
            f"{examples}: no pairs of locale {locale!r}" + (f", split {wanted.split!r}" * bool(wanted.split))
        )
    return _with_products(path, locale, examples, products, reader)


def _with_products(path: Path, locale: str, examples: Path, products: Path, reader: PairReader) -> RelevanceSet:
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    ids = list(dict.fromkeys(pair.item_id for pair in reader.pairs))
    more = ("product_description", "product_bullet_point", "product_brand", "product_color")
    need = ("product_id", "product_locale", "product_title")
    for where, row in parquet_rows(products, need, more, {"product_locale": [locale], "product_id": ids}):
        parts = (row.get("product_bullet_point"), row.get("product_description"))
        item_of(
            {
                "item_id": row["product_id"],
                "title": row["product_title"],
                "description": "\n".join(part for part in parts if part),
                "brand": row.get("product_brand"),
                "attributes": {"color": row.get("product_color")},
            },
            where,
            items,
            unusable,
        )
    return RelevanceSet(
        name=f"esci:{path}",
        scale=reader.scale,
        pairs=reader.pairs,
        items=items,
        files=(examples, products),
        unusable=unusable,
        notes=(f"locale {locale}", *reader.notes()),
    )
