"""ImplicitAVE: products with a picture and a title, each labelled with one attribute that the title does not state.

A folder of items.csv (id, image, category, title, attribute, value, domain, or these by the names of the published
tables, see `_ALSO`), options_<domain>.json (attribute → legal values) and images/. A column `split` says which rows are
for training; without one a fifth is for testing. Only the labelled attribute of an item is true or false of it; the
others are not asked. An attribute whose options differ between domains is one attribute a domain ("home_material").

After Zou et al., ImplicitAVE: an open-source dataset and multimodal LLMs benchmark for implicit attribute value
extraction, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lore_mm.attribute import fold
from lore_mm.datasets.dataset import Dataset, Truth, in_test
from lore_mm.datasets.files import column, read_json, rows_of, texts
from lore_mm.datasets.options import attribute_spec, plain_name, schemas_of
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge
from lore_mm.types import Item

__all__ = ["read_implicitave"]

_PREFIX = "options_"
_TITLE = "[Title] "  # before each title of the published tables
_ALSO = {"title": "texts", "attribute": "attribute_names", "value": "attribute_values"}
Options = Mapping[tuple[str, str], Sequence[str]]  # (domain, attribute), both folded → legal values


def read_implicitave(folder: Path, knowledge: Knowledge) -> Dataset:
    """The data set of a folder.

    Raises:
        InputError: a file or column is missing, or a value is not among its attribute's options.
    """
    options = _options(folder)
    names = _names(options)
    specs = {
        names[key]: attribute_spec(names[key], key[1], values, knowledge, visual=True)
        for key, values in options.items()
    }
    items: dict[str, Item] = {}
    splits: dict[str, str] = {}
    truth: list[Truth] = []
    for where, row in rows_of(folder / "items.csv"):
        item_id, image = _column(row, "id", where), row.get("image", row.get("images"))
        title = _column(row, "title", where).removeprefix(_TITLE)
        images = (_picture(folder, image.strip()),) if isinstance(image, str) and image.strip() else ()
        items.setdefault(item_id, Item(item_id, title, images=images))
        split = row.get("split") or ("test" if in_test(item_id) else "train")
        splits[item_id] = "train" if split == "train" else "test"
        key, value = _labelled(row, options, where), _column(row, "value", where)
        legal = {fold(v): v for v in specs[names[key]].values}
        if fold(value) not in legal:
            raise InputError(
                f"{where}: {value!r} is no option of {key[1]!r} ({key[0]}){nearest(value, legal.values())}; "
                f"legal: {', '.join(legal.values())[:300]}"
            )
        truth.append(Truth(item_id, names[key], (legal[fold(value)],)))
    return Dataset(
        name=f"implicitave:{folder}",
        items=tuple(items.values()),
        truth=tuple(truth),
        schemas=schemas_of("implicitave", "1", specs.values()),
        splits=splits,
        groups={},
        picture_root=folder,
    )


def _labelled(row: Mapping[str, Any], options: Options, where: str) -> tuple[str, str]:
    """The domain and attribute that a row labels, folded.

    Raises:
        InputError: the domain's options do not have it.
    """
    domain, attribute = _column(row, "domain", where), _column(row, "attribute", where)
    key = (fold(domain), fold(attribute))
    if key not in options:
        known = sorted({a for d, a in options if d == key[0]})
        raise InputError(
            f"{where}: {_PREFIX}{domain}.json has no attribute {attribute!r}{nearest(attribute, known)}; "
            f"it has: {', '.join(known) or 'nothing, or there is no such file'}"
        )
    return key


def _column(row: Mapping[str, Any], name: str, where: str) -> str:
    """A column by either of its names."""
    return column(row, _ALSO[name] if name not in row and _ALSO.get(name) in row else name, where)


def _options(folder: Path) -> Options:
    """The legal values of each attribute of each domain.

    Raises:
        InputError: there is no such file, or one holds something else.
    """
    found: dict[tuple[str, str], Sequence[str]] = {}
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        for attribute, values in read_json(path).items():
            domain = fold(path.stem[len(_PREFIX) :])
            found[domain, fold(attribute)] = tuple(dict.fromkeys(texts(values, f"{path}, {attribute!r}")))
    if not found:
        raise InputError(f"{folder}: holds no {_PREFIX}<domain>.json with the legal values of each attribute")
    return found


def _names(options: Options) -> dict[tuple[str, str], str]:
    """A name for each (domain, attribute): the attribute's own, after its domain where domains differ about it."""
    shared: dict[str, set[tuple[str, ...]]] = {}
    for (_, attribute), values in options.items():
        shared.setdefault(attribute, set()).add(tuple(values))
    return {
        (domain, attribute): plain_name(attribute if len(shared[attribute]) == 1 else f"{domain} {attribute}")
        for domain, attribute in options
    }


def _picture(folder: Path, image: str) -> str:
    """A picture's path from the folder: items.csv may name it from there or from images/."""
    return image if "/" in image or (folder / image).is_file() else f"images/{image}"
