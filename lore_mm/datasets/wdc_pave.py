"""WDC-PAVE: product offers of the web with the values of their category's attributes, read or normalised; text only.

JSON lines with id, cluster_id, category, input_title, input_description and target_scores: attribute → value → scores,
or n/a where the offer does not state it. Several values of one attribute are equally good answers. A folder is read by
its files: those of raw values (names without "normalized"), where there are any; "train" and "test" in the names are
the splits, and files of one split only are split by cluster. Attributes go by the names that the shipped schemas have
for them: Brand and Manufacturer are both `brand`, Part Number and Model Number `model`.

After Brinkmann, Baumann and Bizer, Using LLMs for the extraction and normalization of product attribute values, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lore_mm.datasets.dataset import SPLITS, Dataset, Truth, in_test
from lore_mm.datasets.files import column, prose, rows_of
from lore_mm.datasets.options import attribute_spec, schemas_of, shipped_name
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge
from lore_mm.records import kind_of
from lore_mm.types import Item

__all__ = ["read_wdc_pave"]

_SILENT = "n/a"
_NORMALISED = "normalized"


def read_wdc_pave(path: Path, knowledge: Knowledge) -> Dataset:
    """The offers of a file, or of a folder's files.

    Raises:
        InputError: no file, or a column is missing or of another kind.
    """
    items: dict[str, Item] = {}
    splits: dict[str, str] = {}
    groups: dict[str, str] = {}
    truth: list[Truth] = []
    labels: dict[str, str] = {}
    files = _files(path)
    by_file = len({_split_of(file) for file in files} - {None}) > 1
    for file in files:
        for where, row in rows_of(file):
            item_id = column(row, "id", where)
            if item_id in items:
                raise InputError(f"{where}, column 'id': {item_id!r} is there twice")
            items[item_id] = Item(item_id, column(row, "input_title", where), prose(row, "input_description", where))
            cluster = row.get("cluster_id")
            groups[item_id] = item_id if cluster is None else str(cluster)
            splits[item_id] = (by_file and _split_of(file)) or ("test" if in_test(groups[item_id]) else "train")
            for attribute, values in _targets(row.get("target_scores"), where).items():
                labels.setdefault(shipped_name(attribute), attribute)
                truth.append(_truth(item_id, shipped_name(attribute), values))
    specs = [attribute_spec(name, label, (), knowledge) for name, label in labels.items()]
    return Dataset(
        name=f"wdc_pave:{path}",
        items=tuple(items.values()),
        truth=tuple(truth),
        schemas=schemas_of("wdc_pave", "1", specs),
        splits=splits,
        groups=groups,
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise InputError(f"{path}: holds no .jsonl files")
    return [file for file in found if _NORMALISED not in file.name] or found


def _split_of(file: Path) -> str | None:
    return next((split for split in SPLITS if split in file.name), None)


def _targets(given: object, where: str) -> Mapping[str, tuple[str, ...]]:
    """Attribute → the values that are right; n/a is the value of one that the offer does not state."""
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) and v for v in given.values()):
        raise InputError(
            f"{where}, column 'target_scores': {kind_of(given)}; legal: an object of attribute → value → scores"
        )
    return {str(attribute): tuple(str(value) for value in values) for attribute, values in given.items()}


def _truth(item_id: str, attribute: str, values: tuple[str, ...]) -> Truth:
    stated = tuple(value for value in values if value != _SILENT)
    if not stated:
        return Truth(item_id, attribute, status="not_stated")
    return Truth(item_id, attribute, stated, any_of=True)
