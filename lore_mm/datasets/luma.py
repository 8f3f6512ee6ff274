"""Luma: a shop's sportswear, colour variant by colour variant, with the legal values of its attributes.

A folder of items.jsonl (item_id, parent, title, description, category, gender, attribute_set, attributes, image),
attribute_schema.json (attribute → label, input, options) and images/. The category (the last part of the path) and the
gender are truth as well. Variants of one parent share their text, so a parent is a group and never split.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lore_mm.attribute import AttributeSpec, fold
from lore_mm.datasets.dataset import Dataset, Truth, in_test
from lore_mm.datasets.files import column, prose, read_json, rows_of, texts
from lore_mm.datasets.options import attribute_spec, schemas_of
from lore_mm.errors import InputError
from lore_mm.item_rows import number_of
from lore_mm.knowledge import Knowledge
from lore_mm.types import Item

__all__ = ["read_luma", "test_parent"]

_NONE = "n/a"  # an option that is no value
_UNSEEN = ("size", "eco_collection", "performance_fabric", "erin_recommends", "new", "sale")  # by no picture
_YES_NO = ("Yes", "No")


def test_parent(parent: str) -> bool:
    """Whether a product, and with it all of its colour variants, belongs to the test split."""
    return in_test(parent)


test_parent.__test__ = False  # type: ignore[attr-defined]  # no test, whatever a collector makes of its name


def read_luma(folder: Path, knowledge: Knowledge) -> Dataset:
    """The data set of a folder.

    A value that the schema file does not list (the shop's own data has some) is legal as well.

    Raises:
        InputError: a file or column is missing or of another kind.
    """
    described = read_json(folder / "attribute_schema.json")
    items: list[Item] = []
    said: dict[tuple[str, str], tuple[str, ...]] = {}  # (item, attribute) → values
    parents: dict[str, str] = {}
    for where, row in rows_of(folder / "items.jsonl"):
        item = _item(row, where)
        if item.item_id in parents:
            raise InputError(f"{where}, column 'item_id': {item.item_id!r} is there twice")
        items.append(item)
        parents[item.item_id] = column(row, "parent", where)
        said |= {(item.item_id, name): values for name, values in _attributes(row, where)}
    specs = {name: _spec(name, described.get(name), values, knowledge) for name, values in _by_attribute(said).items()}
    truth = tuple(
        Truth(item_id, name, tuple(dict.fromkeys(specs[name].lookup[fold(v)] for v in values)))
        for (item_id, name), values in said.items()
    )
    return Dataset(
        name=f"luma:{folder}",
        items=tuple(items),
        truth=truth,
        schemas=schemas_of("luma", "1", specs.values()),
        splits={i: "test" if test_parent(parent) else "train" for i, parent in parents.items()},
        groups=parents,
        picture_root=folder,
    )


def _item(row: Mapping[str, Any], where: str) -> Item:
    return Item(
        item_id=column(row, "item_id", where),
        title=column(row, "title", where),
        description=prose(row, "description", where),
        price=number_of(row.get("price")),
        images=texts(row.get("image") or [], f"{where}, column 'image'"),
    )


def _attributes(row: Mapping[str, Any], where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is true of one item, with the entities of the shop's page (&reg;) as characters."""
    given = row.get("attributes")
    if not isinstance(given, Mapping):
        raise InputError(f"{where}, column 'attributes': needs an object of attribute → list of values")
    gender = {"gender": [row["gender"]]} if row.get("gender") and "gender" not in given else {}
    category = str(row.get("category") or "").split("/")[-1].strip()
    for name, values in {"category": [category] if category else [], **gender, **given}.items():
        found = [html.unescape(v) for v in texts(values, f"{where}, column 'attributes', {name}")]
        if kept := tuple(v for v in found if fold(v) != fold(_NONE)):
            yield name, kept


def _by_attribute(said: Mapping[tuple[str, str], tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for (_, name), values in said.items():
        found.setdefault(name, []).append(values)
    return found


def _spec(name: str, entry: object, seen: Sequence[tuple[str, ...]], knowledge: Knowledge) -> AttributeSpec:
    """One attribute: the options of the schema file, and what else is seen; several at once where any item has."""
    described: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    listed = [html.unescape(str(o)) for o in described.get("options") or ()]
    if described.get("input") == "boolean":
        listed = list(_YES_NO)
    options: dict[str, str] = {}  # folded → as first written
    for value in (*listed, *(v for values in seen for v in values)):
        options.setdefault(fold(value), value)
    options.pop(fold(_NONE), None)
    label = str(described.get("label") or name.replace("_", " ")).split("\n")[-1]
    multi = any(len(values) > 1 for values in seen)
    return attribute_spec(name, label, list(options.values()), knowledge, multi=multi, visual=name not in _UNSEEN)
