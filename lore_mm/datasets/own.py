"""The project's own format of a labelled data set: a catalogue with the truth in it, or labels beside a catalogue.

Either a file of items as `lore ingest` reads them, with a column `truth`: an object of attribute → value, list of
values, "not_stated" or "not_applicable" (in a CSV file as JSON, or a column `truth.<attribute>` each; several values
between bars), and optionally `group` (what belongs together) and `split` (train or test; test where it says nothing).
Or a file of item_id, attribute and value, a row a value, with the catalogue items.* in the same folder. It asks by the
schemas the project ships, and an attribute these do not have by the values that the truth names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED, AttributeSpec, check_value
from lore_mm.catalogue import open_catalogue
from lore_mm.datasets.dataset import SPLITS, Dataset, Truth
from lore_mm.datasets.files import column, texts
from lore_mm.datasets.options import attribute_spec
from lore_mm.errors import InputError, nearest
from lore_mm.item_rows import COLUMNS, PREFIX, read_item
from lore_mm.knowledge import Knowledge
from lore_mm.records import ENDINGS, Records, kind_of, open_records
from lore_mm.rows import item_from_row
from lore_mm.schema import Schemas, load_schemas
from lore_mm.types import Item

__all__ = ["read_own"]

_TRUTH = "truth"
_OWN = (_TRUTH, "group", "split")
_LABELS = {"item_id", "attribute", "value"}
Said = dict[str, tuple[str, ...]]  # attribute → values, or one of the two silences


@dataclass
class _Read:
    """What a file said, before its values were held against schemas."""

    items: dict[str, Item] = field(default_factory=dict)
    truth: dict[str, Said] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)


def read_own(path: Path, knowledge: Knowledge) -> Dataset:
    """The data set of a file.

    Raises:
        InputError: the file, or the catalogue beside it, cannot be read; a column or a value is wrong.
    """
    records = open_records(path)
    first = next(iter(records), (1, {}))[1]
    columns = set(records.header or first)
    if columns == _LABELS:
        read = _labels(records)
    elif _TRUTH in columns or any(name.startswith(f"{_TRUTH}.") for name in columns):
        read = _catalogue_with_truth(records)
    else:
        raise InputError(
            f"{path}: no column {_TRUTH!r}; legal: items with a column {_TRUTH!r} (an object of attribute → value), "
            f"or exactly item_id, attribute and value beside items{ENDINGS[0]}"
        )
    schemas = _schemas(read, knowledge)
    return Dataset(
        name=str(path),
        items=tuple(read.items.values()),
        truth=tuple(_truths(read, schemas, str(path))),
        schemas=schemas,
        splits={item_id: read.splits.get(item_id, "test") for item_id in read.items},
        groups=read.groups,
        picture_root=path.parent.resolve(),
    )


def _catalogue_with_truth(records: Records) -> _Read:
    read = _Read()
    for place, row in records:
        where = records.where(place)
        item_id = column(row, "item_id", where)
        if item_id in read.items:
            raise InputError(f"{where}, column 'item_id': {item_id!r} is there twice")
        unknown = [n for n in row if n not in (*COLUMNS, *_OWN) and not n.startswith((PREFIX, f"{_TRUTH}."))]
        if unknown:
            legal = (*COLUMNS, *_OWN)
            raise InputError(
                f"{where}: unknown column {unknown[0]!r}{nearest(unknown[0], legal)}; legal: {', '.join(legal)}"
            )
        item, fault = read_item(row, records.textual)
        if fault:
            raise InputError(f"{where}: {fault}")
        read.items[item_id] = replace(item, item_id=item_id)
        read.truth[item_id] = _truth_of(row, records.textual, where)
        if group := row.get("group"):
            read.groups[item_id] = str(group)
        if split := row.get("split"):
            if split not in SPLITS:
                raise InputError(f"{where}, column 'split': {split!r}; legal: {', '.join(SPLITS)}")
            read.splits[item_id] = split
    return read


def _truth_of(row: Mapping[str, Any], textual: bool, where: str) -> Said:
    given = row.get(_TRUTH)
    if textual and isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise InputError(f"{where}, column {_TRUTH!r}: not a JSON object") from None
    if isinstance(given, list) and all(isinstance(one, tuple) and len(one) == 2 for one in given):
        given = dict(given)  # a map column of Parquet
    if given in (None, ""):
        given = {}
    if not isinstance(given, Mapping):
        raise InputError(f"{where}, column {_TRUTH!r}: {kind_of(given)}; legal: an object of attribute → value")
    columns = {name[len(_TRUTH) + 1 :]: row[name] for name in row if name.startswith(f"{_TRUTH}.")}
    found: Said = {}
    for name, value in {**given, **columns}.items():
        if value is None or value == "":
            continue
        if textual and isinstance(value, str) and "|" in value:
            value = value.split("|")
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, int | float):
            value = f"{value:g}"
        found[str(name)] = texts(value, f"{where}, column {_TRUTH!r}, {name}")
    return found


def _labels(records: Records) -> _Read:
    """The rows of a labels file with the items of the catalogue beside it that they are about."""
    read = _Read()
    for place, row in records:
        where = records.where(place)
        item_id, name = column(row, "item_id", where), column(row, "attribute", where)
        said = read.truth.setdefault(item_id, {})
        said[name] = (*said.get(name, ()), column(row, "value", where))
    catalogue = records.path.parent
    for table in open_catalogue(catalogue).batches():
        for row in table.to_pylist():
            if row["item_id"] in read.truth:
                read.items[row["item_id"]] = item_from_row(row)
    for item_id in read.truth:
        if item_id not in read.items:
            hint = nearest(item_id, read.items)
            raise InputError(f"{records.path}: item_id {item_id!r} is not among the items of {catalogue}{hint}")
    return read


def _schemas(read: _Read, knowledge: Knowledge) -> Schemas:
    """The shipped schemas, with the attributes that they do not have added for every category."""
    shipped = load_schemas()
    known = {name for department in shipped.departments.values() for name in department.specs}
    seen: dict[str, list[tuple[str, ...]]] = {}
    for said in read.truth.values():
        for name, values in said.items():
            if name not in known:
                seen.setdefault(name, []).append(tuple(v for v in values if v not in (NOT_STATED, NOT_APPLICABLE)))
    new = {
        name: attribute_spec(
            name, name.replace("_", " "), [v for values in lists for v in values], knowledge,
            multi=any(len(values) > 1 for values in lists), visual=True,
        )
        for name, lists in seen.items()
    }  # fmt: skip
    common = shipped.departments["common"]
    return Schemas({**shipped.departments, "common": replace(common, specs={**common.specs, **new})})


def _truths(read: _Read, schemas: Schemas, where: str) -> Iterator[Truth]:
    for item_id, said in read.truth.items():
        for name, values in said.items():
            spec = next(d.specs[name] for d in schemas.departments.values() if name in d.specs)
            silences = [value for value in values if value in (NOT_STATED, NOT_APPLICABLE)]
            if silences and len(values) > 1:
                raise InputError(f"{where}, item {item_id!r}: {name} cannot be {silences[0]} and have values too")
            if silences:
                yield Truth(item_id, name, status="not_stated" if silences[0] == NOT_STATED else "not_applicable")
            elif values:
                yield Truth(item_id, name, tuple(dict.fromkeys(_checked(spec, value) for value in values)))


def _checked(spec: AttributeSpec, value: str) -> str:
    """A value in the schema's own words, where the schema lists them itself."""
    return str(check_value(spec, value)) if spec.type == "choice" and spec.values and not spec.values_from else value
