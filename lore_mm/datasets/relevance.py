"""Graded query–item pairs by their public formats: `open_relevance("chorus:FOLDER")`.

chorus:FOLDER    products.parquet, judgments.csv, perhaps individual_ratings.csv
esci:FOLDER      shopping_queries_dataset_examples.parquet and shopping_queries_dataset_products.parquet
wands:FOLDER     query.csv, product.csv, label.csv, tab-separated
homedepot:PATH   train.csv, perhaps product_descriptions.csv and attributes.csv beside it
rair:PATH        Parquet or JSON lines, or OWNER/NAME on the model hub; for academic research only
FILE             pairs of your own with their items, or a folder of items, queries and labels

Labels become levels by the table relevance.toml. This module knows no judge and no store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from lore_mm.datasets.relevance_set import GradedPair, RelevanceSet, Wanted
from lore_mm.errors import InputError, nearest

__all__ = ["FORMATS", "GradedPair", "RelevanceSet", "Wanted", "open_relevance"]

FORMATS: Mapping[str, str] = {
    "chorus": "lore_mm.datasets.relevance_chorus:read_chorus",
    "esci": "lore_mm.datasets.relevance_esci:read_esci",
    "wands": "lore_mm.datasets.relevance_wands:read_wands",
    "homedepot": "lore_mm.datasets.relevance_homedepot:read_homedepot",
    "rair": "lore_mm.datasets.relevance_rair:read_rair",
}
_OWN = "lore_mm.datasets.relevance_own:read_own"
_OF_LOCALES = ("esci",)


def open_relevance(address: str, wanted: Wanted | None = None) -> RelevanceSet:
    """The pairs of an address, `FORMAT:PATH` or the path of a file or folder of your own, of one split if one is named.

    Raises:
        InputError: an unknown format, split, locale or scale, a missing file, or a row or column that is wrong.
    """
    wish = wanted or Wanted()
    kind, colon, path = address.partition(":")
    if colon and kind not in FORMATS and not Path(address).exists():
        raise InputError(f"no data set format {kind!r}{nearest(kind, FORMATS)}; legal: {', '.join(FORMATS)}, or a file")
    known = bool(colon) and kind in FORMATS
    if known and not path:
        raise InputError(f"{address!r} names no path; such as: {kind}:PATH")
    if wish.locale is not None and not (known and kind in _OF_LOCALES):
        raise InputError(f"{address}: has no locales; legal for: {', '.join(_OF_LOCALES)}")
    if known:
        found = _reader(FORMATS[kind])(Path(path), wish)
    else:
        if not Path(address).exists():
            raise InputError(f"{address}: no such file; legal: a file, or FORMAT:PATH ({', '.join(FORMATS)})")
        found = _reader(_OWN)(Path(address), wish)
    return replace(found, name=address).of_split(wish.split)


def _reader(place: str) -> Callable[[Path, Wanted], RelevanceSet]:
    module, function = place.split(":")
    reader: Callable[[Path, Wanted], RelevanceSet] = getattr(import_module(module), function)
    return reader
