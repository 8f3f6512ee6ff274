"""RAIR: Chinese query–item pairs with levels L1–L4, in Parquet or JSON lines. For academic research only.

A record has query, title, item_id, groundtruth, shop_name, vqa_result (what a model saw on the picture), rule_list,
cpv_sku (JSON: attribute → value), subset and image_base64. A file, a folder of them, or a data set of the model hub
(OWNER/NAME) may be named; a split is a subset, or one of its folders (General_Subset). `rule_list` says why a pair was
graded as it was and is not shown to a judge. Pictures stand inside the records and are not decoded here: of 70 GB most
are pictures, and from the hub only the other columns are fetched.

After Lu et al., RAIR: A Rule-Aware Multimodal Benchmark for Challenging E-Commerce Relevance Assessment, 2025.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lore_mm.datasets.relevance_files import Row, parquet_rows, plain_rows
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, fields, item_of
from lore_mm.errors import InputError
from lore_mm.fingerprint import sha_of
from lore_mm.models.hub import hub_fault
from lore_mm.types import Item

__all__ = ["read_rair"]

_COLUMNS = {"query": "query", "item_id": "item_id", "label": "groundtruth", "kind": "subset", "split": "split"}
_NEED = ("query", "title", "item_id", "groundtruth")
_MORE = ("shop_name", "vqa_result", "cpv_sku", "subset")
_ENDINGS = (".parquet", ".jsonl")
_BRAND = "品牌"
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = "RAIR is for academic research only: no shipped weights, no product may be made with it"


def read_rair(path: Path, wanted: Wanted) -> RelevanceSet:
    """The records of a file, or of a folder's files.

    Raises:
        InputError: no file or hub, a column is missing, an item is two different ones, or a row is wrong; it is named.
    """
    parts = _parts(path)
    folders = {part.folder for part in parts if part.folder}
    if wanted.split in folders:
        parts = [part for part in parts if part.folder == wanted.split]
    reader = PairReader(scale_named(wanted.scale or "levels"))
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    for part in parts:
        for where, row in part.rows():
            row["split"] = wanted.split if wanted.split in folders else row.get("subset")
            if wanted.split not in (None, row["split"]):
                continue
            pair = reader.add(where, row, _COLUMNS)
            if pair.item_id not in items and pair.item_id not in unusable:
                item_of(_item(row, pair.item_id, where), where, items, unusable)
            elif (known := items.get(pair.item_id)) and known.title != row["title"]:
                raise InputError(f"{where}, column 'title': item {pair.item_id!r} had another title before")
    if not reader.pairs:
        raise InputError(f"{path}: no records" + (f" of subset {wanted.split!r}" * bool(wanted.split)))
    notes = (_LICENCE, "pictures are inside the records and were not shown to the judge", *reader.notes())
    return RelevanceSet(
        f"rair:{path}",
        reader.scale,
        reader.pairs,
        items,
        tuple(part.file for part in parts if part.file is not None),
        unusable,
        notes,
        content_sha=sha_of(marks) if (marks := [part.mark for part in parts if part.mark]) else "",
    )


@dataclass(frozen=True)
class _Part:
    """One file of records: the folder that it lies in, where it is, or what marks its content on the hub."""

    folder: str
    rows: Callable[[], Iterator[Row]]
    file: Path | None = None
    mark: str = ""


def _parts(path: Path) -> list[_Part]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _ENDINGS and file.is_file())
        if not files:
            raise InputError(f"{path}: holds no {' or '.join(_ENDINGS)} file")
        return [_Part(file.parent.name if file.parent != path else "", partial(_rows, file), file) for file in files]
    if not path.exists() and not path.suffix and _HUB.fullmatch(path.as_posix()):
        return _hub_parts(path.as_posix(), _open_hub(path.as_posix()))
    if path.suffix not in _ENDINGS:
        raise InputError(f"{path}: legal: a folder, a file ending in {' or '.join(_ENDINGS)}, or OWNER/NAME of the hub")
    return [_Part("", partial(_rows, path), path)]


def _rows(path: Path) -> Iterator[Row]:
    return parquet_rows(path, _NEED, _MORE) if path.suffix == ".parquet" else plain_rows(path, _NEED)


def _open_hub(name: str) -> Any:
    """The model hub as a file system (fsspec).

    Raises:
        InputError: it cannot be used; the text says why, and what to do instead.
    """
    if fault := hub_fault():
        raise InputError(f"rair:{name}: no such file or folder, and the model hub cannot be used: {fault}")
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


def _hub_parts(name: str, hub: Any) -> list[_Part]:
    """The Parquet files of a data set on the hub, of which only the wanted columns are fetched, when they are read."""
    root = f"datasets/{name}"
    try:
        found = {place: about for place, about in hub.find(root, detail=True).items() if place.endswith(".parquet")}
    except Exception as error:  # the hub's client raises whatever it meets: no such name, no leave, no network
        said = (str(error).splitlines() or [""])[0][:200]
        raise InputError(f"rair:{name}: the model hub has no such data set, or shows it to nobody: {said}") from None
    if not found:
        raise InputError(f"rair:{name}: holds no .parquet file")

    def rows(place: str) -> Iterator[Row]:
        with hub.open(place, "rb") as opened:
            yield from parquet_rows(Path(place), _NEED, _MORE, opened=opened)

    parts = []
    for place, about in sorted(found.items()):
        inside = PurePosixPath(place).relative_to(root)
        mark = sha_of([place, about.get("size"), about.get("blob_id")])
        parts.append(_Part(inside.parent.name, partial(rows, place), mark=mark))
    return parts


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
