"""RAIR: Chinese query–item pairs with levels L1–L4, in Parquet or JSON lines. For academic research only.

A record has query, title, item_id, groundtruth, shop_name, vqa_result (what a model saw on the picture), rule_list,
cpv_sku (JSON: attribute → value), subset and image_base64. A file or a folder of them may be named; a split is a
subset. `rule_list` says why a pair was graded as it was and is not shown to a judge. Pictures stand inside the records
and are not decoded here: of 70 GB most are pictures.

After Lu et al., RAIR: A Rule-Aware Multimodal Benchmark for Challenging E-Commerce Relevance Assessment, 2025.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lore_mm.datasets.relevance_files import Row, parquet_rows, plain_rows
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, fields, item_of
from lore_mm.errors import InputError
from lore_mm.types import Item

__all__ = ["read_rair"]

_COLUMNS = {"query": "query", "item_id": "item_id", "label": "groundtruth", "kind": "subset", "split": "subset"}
_NEED = ("query", "title", "item_id", "groundtruth")
_MORE = ("shop_name", "vqa_result", "cpv_sku", "subset")
_ENDINGS = (".parquet", ".jsonl")
_BRAND = "品牌"
_LICENCE = "RAIR is for academic research only: no shipped weights, no product may be made with it"


def read_rair(path: Path, wanted: Wanted) -> RelevanceSet:
    """The records of a file, or of a folder's files.

    Raises:
        InputError: no file, a column is missing, an item is two different ones, or a row is wrong; it names them.
    """
    files = _files(path)
    reader = PairReader(scale_named(wanted.scale or "levels"))
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    for file in files:
        for where, row in _rows(file):
            if wanted.split is not None and row.get("subset") != wanted.split:
                continue
            pair = reader.add(where, row, _COLUMNS)
            if pair.item_id not in items and pair.item_id not in unusable:
                item_of(_item(row, pair.item_id, where), where, items, unusable)
            elif (known := items.get(pair.item_id)) and known.title != row["title"]:
                raise InputError(f"{where}, column 'title': item {pair.item_id!r} had another title before")
    if not reader.pairs:
        raise InputError(f"{path}: no records" + (f" of subset {wanted.split!r}" * bool(wanted.split)))
    notes = (_LICENCE, "pictures are inside the records and were not shown to the judge", *reader.notes())
    return RelevanceSet(f"rair:{path}", reader.scale, reader.pairs, items, tuple(files), unusable, notes)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in _ENDINGS and file.is_file())
        if not found:
            raise InputError(f"{path}: holds no {' or '.join(_ENDINGS)} file")
        return found
    if path.suffix not in _ENDINGS:
        raise InputError(f"{path}: legal: a folder, or a file ending in {' or '.join(_ENDINGS)}")
    return [path]


def _rows(path: Path) -> Iterator[Row]:
    return parquet_rows(path, _NEED, _MORE) if path.suffix == ".parquet" else plain_rows(path, _NEED)


def _item(row: dict[str, Any], item_id: str, where: str) -> dict[str, Any]:
    given = row.get("cpv_sku")
    try:
        said = json.loads(given) if given else {}
    except (ValueError, TypeError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise InputError(f"{where}, column 'cpv_sku': not a JSON object of attribute → value")
    seen = fields([("vqa_result", str(row.get("vqa_result") or ""))])
    brand = said.get(_BRAND)
    return {
        "item_id": item_id,
        "title": row["title"],
        "brand": brand if isinstance(brand, str) and brand.strip() else None,
        "attributes": said | seen,
        "store": row.get("shop_name"),
    }
