"""The photos that lore-clip-tiny learns from, read from their public formats.

Every caption kind stands for every photo of a set, so that training may pick one kind for a whole batch: photos with
the same words are then the same thing. This module knows nothing of towers, heads or metrics.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lore_mm.errors import InputError

__all__ = ["Photo", "PhotoSet", "read_clothing", "read_demo", "read_grocery", "read_luma"]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file, its class, the unit that must not be split between training and measuring, and its captions."""

    picture: bytes
    label: str
    group: str
    captions: tuple[str, ...]  # one a kind of its set
    values: Mapping[str, tuple[str, ...]]  # attribute → values it has, for measuring


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photos of one source. `fixed_test`: groups that the source itself keeps for testing."""

    name: str
    licence: str
    kinds: tuple[str, ...]  # the names of the captions
    photos: tuple[Photo, ...]
    fixed_test: frozenset[str] = frozenset()

    def captions(self, kind: str) -> list[str]:
        """The captions of one kind, one a photo."""
        place = self.kinds.index(kind)
        return [photo.captions[place] for photo in self.photos]


def read_grocery(photos: Path, iconic: Path) -> PhotoSet:
    """The Grocery Store Dataset (MIT): train.parquet and val.parquet with photo, fine, coarse, image_bytes; and
    items.jsonl with item_id (= fine), title, coarse_class, description.

    The class is the fine one; the source's validation photos are its fixed test.
    """
    about = {row["item_id"]: row for row in _json_lines(iconic / "items.jsonl")}
    found, fixed = [], set()
    for part in ("train", "val"):
        for row in _parquet(photos / f"{part}.parquet", ("photo", "fine", "coarse", "image_bytes")):
            item = about.get(row["fine"], {})
            name = str(item.get("title") or row["fine"].replace("-", " ")).lower()
            kind = row["coarse"].replace("-", " ").lower()
            full = name if kind in name else f"{name}, {kind}"
            said = f"{full}. {item.get('description') or ''}"[:300]
            captions = (name, full, f"a photo of {full}", said)
            found.append(Photo(row["image_bytes"], row["fine"], row["photo"], captions, {"kind": (kind,)}))
            if part == "val":
                fixed.add(row["photo"])
    kinds = ("name", "name and kind", "photo", "described")
    return PhotoSet("grocery", "MIT", kinds, tuple(found), frozenset(fixed))


# What the labels of clothing-dataset-full mean, in the words of a shop: the name, and a synonym.
_GARMENTS = {
    "T-Shirt": ("t-shirt", "tee"),
    "Longsleeve": ("long-sleeved shirt", "long sleeve top"),
    "Pants": ("pants", "trousers"),
    "Shoes": ("shoes", "pair of shoes"),
    "Shirt": ("shirt", "button-down shirt"),
    "Dress": ("dress", "gown"),
    "Outwear": ("outerwear", "jacket or coat"),
    "Shorts": ("shorts", "short trousers"),
    "Hat": ("hat", "cap"),
    "Skirt": ("skirt", "ladies' skirt"),
    "Polo": ("polo shirt", "polo"),
    "Undershirt": ("undershirt", "sleeveless vest"),
    "Blazer": ("blazer", "suit jacket"),
    "Hoodie": ("hoodie", "hooded sweatshirt"),
    "Body": ("bodysuit", "baby bodysuit"),
    "Top": ("top", "sleeveless top"),
    "Blouse": ("blouse", "women's blouse"),
}


def read_clothing(folder: Path) -> PhotoSet:
    """The clothing dataset (CC0): items.parquet with sender_id, label, kids, image_bytes.

    One sender's photos stay together. Labels without a word for them here ("Other", "Not sure", "Skip") are left out.
    """
    found = []
    for row in _parquet(folder / "items.parquet", ("sender_id", "label", "kids", "image_bytes")):
        if words := _GARMENTS.get(row["label"]):
            whose = "kids' " if str(row["kids"]).lower() == "true" else ""
            captions = (words[0], words[1], f"a photo of {words[0]}", whose + words[0])
            found.append(Photo(row["image_bytes"], row["label"], row["sender_id"], captions, {}))
    return PhotoSet("clothing", "CC0-1.0", ("name", "synonym", "photo", "whose"), tuple(found))


def read_luma(folder: Path) -> PhotoSet:
    """The Luma catalogue (AFL-3.0): items.jsonl with parent, title, description, category, gender, attributes, image.

    The colour variants of a parent share their text and stay together.
    """
    found = []
    for row in _json_lines(folder / "items.jsonl"):
        values = {k: tuple(html.unescape(v).lower() for v in vs) for k, vs in row["attributes"].items()}
        color = " ".join(values.get("color", ()))
        leaf = row["category"].split("/")[-1].lower()
        made_of = " ".join((*values.get("pattern", ())[:1], *values.get("material", ())[:2]))
        captions = (
            row["title"],
            _joined(color, row["title"]),
            _joined(color, leaf),
            _joined((row.get("gender") or "").lower(), leaf),
            _joined(color, made_of, leaf),
            f"{row['title']}. {html.unescape(row['description'])}"[:300],
        )
        values |= {"leaf": (leaf,), "gender": ((row.get("gender") or "").lower(),)}
        found.append(Photo((folder / row["image"]).read_bytes(), row["item_id"], row["parent"], captions, values))
    kinds = ("title", "color and title", "color and kind", "whose", "attributes", "described")
    return PhotoSet("luma", "AFL-3.0", kinds, tuple(found))


def read_demo(folder: Path) -> PhotoSet:
    """A catalogue for measuring only: items.jsonl with item_id, title, description and image (or images)."""
    found = []
    for row in _json_lines(folder / "items.jsonl"):
        image = row.get("image") or (row.get("images") or [None])[0]
        if image is None:
            raise InputError(f"{folder / 'items.jsonl'}: item {row.get('item_id')!r} has no image")
        captions = (row["title"], row.get("description") or row["title"])
        found.append(Photo((folder / image).read_bytes(), row["item_id"], row["item_id"], captions, {}))
    return PhotoSet("demo", "MIT", ("title", "description"), tuple(found))


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=list(columns)).to_pylist()
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; wanted columns: {', '.join(columns)}") from None
    return rows
