"""What there is to ask about: things with what their picture shows, what their words tell, and what nothing tells.

Built from the public data sets that a shipped model may learn from, in the words of this project's own schemas and
knowledge. Each subject belongs to training, validation or test by a fixed rule, so that what must not be parted (the
variants of a product, the photos of one sender, the photos of one shelf) is not. This module knows nothing of prompts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.clip.data import Photo, PhotoSet, read_clothing, read_grocery, read_luma
from lore_mm.attribute import NOT_APPLICABLE
from lore_mm.datasets.luma import test_parent
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import check_value, load_schemas

__all__ = ["Answer", "Answers", "Part", "Subject", "read_subjects", "value_of"]

Answer = str | tuple[str, ...]  # a tuple for attributes that may hold several values
Answers = Mapping[str, Answer]
Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing. `shown`: what its picture shows; `told`: what title and text tell; each in legal values."""

    source: str
    picture: bytes
    label: str  # its class, to balance by
    group: str  # what must not be parted
    part: Part
    shown: Answers
    told: Answers
    title: str = ""
    text: str = ""


_CLOTHING: Mapping[str, Answers] = {  # label → what it means by definition
    "T-Shirt": {"category": "t_shirt", "sleeve_length": "short sleeve"},
    "Longsleeve": {"category": "long_sleeve_top", "sleeve_length": "long sleeve"},
    "Pants": {"category": "trousers", "sleeve_length": NOT_APPLICABLE},
    "Shoes": {"category": "shoe", "sleeve_length": NOT_APPLICABLE},
    "Shirt": {"category": "shirt", "neckline": "shirt collar"},
    "Dress": {"category": "dress"},
    "Outwear": {"category": "outerwear", "sleeve_length": "long sleeve"},
    "Shorts": {"category": "shorts", "sleeve_length": NOT_APPLICABLE},
    "Hat": {"category": "hat", "sleeve_length": NOT_APPLICABLE},
    "Skirt": {"category": "skirt", "sleeve_length": NOT_APPLICABLE},
    "Polo": {"category": "polo_shirt", "neckline": "polo collar"},
    "Undershirt": {"category": "tank_top", "sleeve_length": "sleeveless"},
    "Blazer": {"category": "blazer", "sleeve_length": "long sleeve"},
    "Hoodie": {"category": "hoodie", "neckline": "hooded", "sleeve_length": "long sleeve"},
    "Body": {"category": "babygrow"},
    "Blouse": {"category": "blouse"},
    "Top": {"category": "top"},
}
_PLURALS = {"carrots": "carrot", "satsumas": "satsuma", "pepper": "bell pepper", "orange": "navel orange"}
_DRINKS = ("juice", "milk", "oat milk", "soy milk")
_PACKED = ("juice", "milk", "oat milk", "soy milk", "oatghurt", "soyghurt", "yoghurt", "sour milk", "sour cream")
_BRANDS = ("Arla", "Garant", "Oatly", "Alpro", "Valio", "Yoggi", "Bravo", "God Morgon", "Tropicana")
_FLAVOURS = ("apple", "orange", "grapefruit", "mandarin", "vanilla", "blueberry", "strawberry")
_ONE_COLOR = {  # kinds of fruit and vegetable that are sold in one colour, as anyone knows them
    "banana": "yellow", "lemon": "yellow", "lime": "lime", "carrots": "orange", "cucumber": "green",
    "zucchini": "green", "granny smith": "green", "golden delicious": "yellow", "red delicious": "red", "tomato": "red",
    "asparagus": "green", "green bell pepper": "green", "red bell pepper": "red",
    "yellow bell pepper": "yellow", "aubergine": "purple",
    "orange bell pepper": "orange", "orange": "orange", "satsumas": "orange", "kiwi": "brown", "garlic": "white",
    "pomegranate": "red", "avocado": "green", "ginger": "beige", "leek": "green", "pear": "green",
}  # fmt: skip
_LUMA_KINDS = {
    "tees": "t_shirt", "pants": "trousers", "shorts": "shorts", "jackets": "jacket", "tanks": "tank_top",
    "watches": "watch", "fitness equipment": "fitness_equipment",
}  # fmt: skip
_LUMA_BAGS = (("duffle", "gym_bag"), ("backpack", "backpack"), ("messenger", "messenger_bag"), ("tote", "tote_bag"))
_LUMA_PATTERNS = {
    "solid": "solid", "solid-highlight": "solid", "striped": "striped", "color-blocked": "color-blocked",
    "checked": "checked", "graphic print": "graphic",
}  # fmt: skip
_LUMA_CLOSURES = (("full zip", "zip"), ("¼ zip", "half zip"), ("pullover", "pullover"))


def read_subjects(folder: Path) -> list[Subject]:
    """The subjects of one data set, known by the files in its folder.

    Raises:
        InputError: the folder holds none of the data sets that the shipped weights may learn from.
    """
    if (folder / "attribute_schema.json").is_file():
        luma = read_luma(folder)
        return [_luma(photo, luma) for photo in luma.photos]
    if (folder / "val.parquet").is_file():
        iconic = folder.parent / "grocery_iconic"
        return _groceries(read_grocery(folder, iconic if iconic.is_dir() else folder))
    if (folder / "items.parquet").is_file():
        return [_garment(photo) for photo in read_clothing(folder).photos]
    raise InputError(
        f"{folder} is none of: clothing (items.parquet), groceries (train.parquet, val.parquet), Luma (items.jsonl, "
        "attribute_schema.json)"
    )


def value_of(attribute: str, word: str, category: str | None = None) -> str | None:
    """The legal value that a word stands for, or None."""
    spec = load_schemas().for_category(category, load_knowledge()).specs[attribute]
    try:
        return str(check_value(spec, word))
    except InputError:
        return None


def _dice(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()


def _garment(photo: Photo) -> Subject:
    """A sender's photos stay together: an eighth of the senders is for testing, an eighth for validation."""
    dice = _dice(f"sender {photo.group}")[0] % 8
    part: Part = "test" if dice == 0 else "validation" if dice == 1 else "train"
    child = photo.captions[3].startswith("kids'")
    shown = {**_CLOTHING[photo.label], "audience": "kids" if child else "adults"}
    return Subject("clothing", photo.picture, photo.label, photo.group, part, shown, {})


def _groceries(photos: PhotoSet) -> list[Subject]:
    """The source's own validation photos, taken apart from the others, are for testing.

    Of each class's other photos, numbered as they were taken, the last tenth is for validation.
    """
    last: dict[str, int] = {}
    for photo in photos.photos:
        last[photo.label] = max(last.get(photo.label, 0), _number(photo))
    made = []
    for photo in photos.photos:
        late = _number(photo) > 0.9 * last[photo.label]
        part: Part = "test" if photo.group in photos.fixed_test else "validation" if late else "train"
        made.append(_grocery(photo, part))
    return made


def _number(photo: Photo) -> int:
    found = re.search(r"_(\d+)\.\w+$", photo.group)
    return int(found[1]) if found and photo.group.startswith("train") else 0


def _grocery(photo: Photo, part: Part) -> Subject:
    name, kind = photo.captions[0], photo.values["kind"][0]
    category = value_of("category", _PLURALS.get(kind, kind)) or "food"
    told: dict[str, Answer] = {"category": category}
    if kind in _PACKED:
        told["brand"] = next((b for b in _BRANDS if b.lower() in name), "not_stated")
        told["form"] = "liquid" if kind in _DRINKS else "fresh"
        flavours = tuple(f for f in _FLAVOURS if f in name)
        told["flavour"] = flavours or "not_stated"
        shown = {**told, "variety": name}
        if kind in _DRINKS:
            shown["packaging"] = "carton"
    else:
        shown = {**told, "variety": name, "form": "fresh", "packaging": "unpacked", "brand": "not_stated"}
        told["form"] = "fresh"
    color = _ONE_COLOR.get(name) or _ONE_COLOR.get(kind)
    if color:
        shown["color"] = (color,)
    told["variety"] = name
    return Subject("grocery", photo.picture, photo.label, photo.group, part, shown, told, title=_titled(name))


def _titled(name: str) -> str:
    return " ".join(word.capitalize() for word in name.split())


def _luma(photo: Photo, photos: PhotoSet) -> Subject:
    values = photo.values
    title = photo.captions[photos.kinds.index("title")].replace("&trade;", "™")
    text = photo.captions[photos.kinds.index("described")][len(photo.captions[0]) + 2 :]
    text = " ".join(text.replace("\n- ", " ").split())
    category = _luma_category(photo, title)
    shown: dict[str, Answer] = {"category": category}
    for word in values.get("color", ()):
        shown["color"] = (word,)
    for word in values.get("pattern", ())[:1]:
        shown["pattern"] = _LUMA_PATTERNS.get(word, "solid")
    styles = values.get("style_general", ())
    closure = next((ours for theirs, ours in _LUMA_CLOSURES if theirs in styles), None)
    if closure:
        shown["closure"] = closure
    if category == "hoodie":
        shown["neckline"] = "hooded"
    if gender := values.get("gender", ("",))[0]:
        shown["audience"] = gender
        shown["gender"] = gender.title()
    for name in ("style_general", "style_bottom"):  # the catalogue's own attributes, in its own spelling
        if own := values.get(name):
            shown[name] = tuple(word.title() for word in own)
    told: dict[str, Answer] = {"category": category}
    if named := _named_materials(values.get("material", ()), f"{title} {text}"):
        told["material"] = named
    part: Part = "train"
    if test_parent(photo.group):
        part = "test"
    elif _dice(photo.group)[1] % 8 == 0:
        part = "validation"
    return Subject("luma", photo.picture, category, photo.group, part, shown, told, title, text)


def _luma_category(photo: Photo, title: str) -> str:
    leaf, styles, lower = photo.values["leaf"][0], photo.values.get("style_general", ()), title.lower()
    if leaf == "hoodies & sweatshirts":
        return "hoodie" if "hoodie" in lower or "hoodie" in styles or "hooded" in styles else "sweatshirt"
    if leaf == "bras & tanks":
        return "sports_bra" if "bra" in lower.split() or "bra" in styles else "tank_top"
    if leaf == "bags":
        return next((ours for theirs, ours in _LUMA_BAGS if theirs in lower), "bag")
    return _LUMA_KINDS.get(leaf, "clothing")


def _named_materials(words: Sequence[str], text: str) -> tuple[str, ...]:
    """Those materials of the record that the words name too, in the record's order."""
    lower = text.lower()
    found = (value_of("material", re.sub("[®™]", "", word)) for word in words if re.sub("[®™]", "", word) in lower)
    return tuple(dict.fromkeys(value for value in found if value))
