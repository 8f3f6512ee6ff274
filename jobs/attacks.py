"""Attacks on a judge: texts put into an item, a query or a picture, read from a file and laid over clean pairs.

A row of the file (JSON lines) names the pair by the ids of a folder of items, queries and labels, the place, the text,
and what it tries. Texts are put where a seller or shopper would put them, and go through the same door as any seller's
row (`lore_mm.item_rows`), so that what is refused there is refused here. This module knows no judge and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from PIL import Image as Images
from PIL import ImageDraw, ImageFont, ImageStat
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lore_mm.datasets.relevance_set import GradedPair, RelevanceSet
from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of_file
from lore_mm.images import load_picture
from lore_mm.item_rows import read_item, read_text
from lore_mm.types import Item, Query

__all__ = ["CONTROL", "LIES", "Attack", "AttackSet", "AttackedPair", "attack", "drawn", "read_attacks"]

Place = Literal["title", "description", "attribute", "brand", "store", "category", "query", "picture"]
Kind = Literal[
    "order", "chat_template", "fake_reply", "fake_rule", "fake_section", "closing", "hidden", "encoding", "language",
    "pressure", "boast", "leak", "padding", "markup", "stuffing", "negation", "spoofing", "control",
]  # fmt: skip
LIES = ("stuffing", "negation", "spoofing")  # false words about the thing; the other kinds tell the judge what to do
CONTROL = "control"  # harmless words in the same places: what any words at all would change
_LONGEST = 2_000_000  # characters of a text with its repetitions
_ON_PICTURE = 400  # characters that are drawn
_NO_PICTURE = (320, 320)  # pixels of the white picture of an item that has none


class Attack(BaseModel):
    """One row of the file.

    `how` says where the text goes in its place; `field` is the seller's field of place attribute, `look` how a text is
    drawn on a picture. The text stands there `times` over, and `then` after it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=100)
    kind: Kind
    place: Place
    query_id: str
    item_id: str
    tries: Literal["raise", "lower", "break", "leak", "none"]
    text: str = Field(min_length=1)
    times: int = Field(default=1, ge=1)
    then: str = ""
    how: Literal["after", "before", "instead"] = "after"
    field: str = Field(default="notes", min_length=1)
    look: Literal["band", "corner", "across", "faint"] = "band"
    note: str = ""

    @property
    def words(self) -> str:
        """The text as it is put there."""
        return self.text * self.times + self.then

    @property
    def family(self) -> str:
        """lie, control, or instruction for the kinds that talk to the judge."""
        return "control" if self.kind == CONTROL else "lie" if self.kind in LIES else "instruction"


@dataclass(frozen=True)
class AttackSet:
    """Attacks with the clean pairs that they are laid over, and the folder where the pictures of the items are."""

    path: Path
    attacks: tuple[Attack, ...]
    data: RelevanceSet
    folder: Path

    @cached_property
    def pairs(self) -> Mapping[tuple[str, str], GradedPair]:
        """The labelled pairs by query_id and item_id."""
        return {(pair.query.query_id, pair.item_id): pair for pair in self.data.pairs}

    def pair(self, attack: Attack) -> GradedPair:
        """The clean pair of an attack."""
        return self.pairs[attack.query_id, attack.item_id]

    @property
    def sha(self) -> str:
        """Identifies the file of attacks."""
        return sha_of_file(self.path)

    def picture(self, item: Item) -> Image:
        """The first picture of an item; a white one where it has none.

        Raises:
            PictureError: it cannot be read.
        """
        if not item.images:
            return Images.new("RGB", _NO_PICTURE, "white")
        return load_picture(item.images[0], self.folder).image


@dataclass(frozen=True)
class AttackedPair:
    """A pair after the attack. `error` says why it does not get through the door; `picture` is the drawn one."""

    attack: Attack
    query: Query
    item: Item
    error: str | None = None
    picture: Image | None = None


def read_attacks(path: Path, data: RelevanceSet, folder: Path) -> AttackSet:
    """The attacks of a file of JSON lines, on pairs of a set whose pictures are in `folder`.

    Raises:
        InputError: the file cannot be read, or a line is wrong: its number, the field and what is legal there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    found: dict[str, Attack] = {}
    labelled = {(pair.query.query_id, pair.item_id) for pair in data.pairs}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        attack = _row(line, f"{path}:{number}")
        if attack.id in found:
            raise InputError(f"{path}:{number}: id {attack.id!r} stands here a second time")
        _check_pair(attack, labelled, data, f"{path}:{number}")
        found[attack.id] = attack
    if not found:
        raise InputError(f"{path}: no attacks")
    return AttackSet(path, tuple(found.values()), data, folder)


def _row(line: str, where: str) -> Attack:
    try:
        attack = Attack.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        hint = nearest(name, Attack.model_fields) if first["type"] == "extra_forbidden" else ""
        raise InputError(f"{where}: {name or 'row'}: {first['msg']}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if len(attack.text) * attack.times + len(attack.then) > _LONGEST:
        raise InputError(f"{where}: text: over {_LONGEST:,} characters with its repetitions")
    return attack


def _check_pair(attack: Attack, labelled: set[tuple[str, str]], data: RelevanceSet, where: str) -> None:
    if (attack.query_id, attack.item_id) not in labelled:
        raise InputError(
            f"{where}: query_id {attack.query_id!r} with item_id {attack.item_id!r} is no labelled pair of {data.name}"
        )
    if attack.item_id not in data.items:
        raise InputError(f"{where}: item_id {attack.item_id!r} cannot be used in {data.name}")


def attack(attacks: AttackSet, one: Attack) -> AttackedPair:
    """An attack laid over its pair.

    Raises:
        PictureError: the picture it should be drawn on cannot be read.
    """
    pair = attacks.pair(one)
    item = attacks.data.items[pair.item_id]
    if one.place == "query":
        faults: list[str] = []
        text = read_text(_put(one, pair.query.text), "query", faults) or ""
        return AttackedPair(one, replace(pair.query, text=text), item, faults[0] if faults else None)
    if one.place == "picture":
        picture = drawn(attacks.picture(item), one.words, one.look)
        shown = replace(item, images=(f"{one.id}.png", *item.images[1:]))
        return AttackedPair(one, pair.query, shown, picture=picture)
    changed, error = read_item(_seller_row(item, one))
    return AttackedPair(one, pair.query, changed, error)


def _put(one: Attack, clean: str) -> str:
    if one.how == "instead" or not clean:
        return one.words
    return f"{one.words} {clean}" if one.how == "before" else f"{clean} {one.words}"


def _seller_row(item: Item, one: Attack) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(item, name)
        for name in ("item_id", "title", "description", "category", "brand", "price", "currency", "store")
    }
    attributes: dict[str, Sequence[str]] = {name: list(values) for name, values in item.attributes.items()}
    if one.place == "attribute":
        attributes[one.field] = [*(attributes.get(one.field, ()) if one.how != "instead" else ()), one.words]
    else:
        row[one.place] = _put(one, row[one.place] or "")
    return row | {"attributes": attributes, "images": list(item.images)}


# ------------------------------------------------------------------------------------------------------------ pictures


def drawn(picture: Image, text: str, look: str = "band") -> Image:
    """A copy of a picture with a text on it.

    band: black on a white band below · corner: small, above on the left, in black or white · across: large and red over
    the middle · faint: in nearly the colour of what is behind it. Letters are Latin; others come out as boxes.
    """
    copy = picture.convert("RGB")
    width, height = copy.size
    share = {"band": 14, "corner": 24, "across": 8, "faint": 12}[look]
    size = max(10, min(copy.size) // share)
    font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(copy)
    lines = _lines(" ".join(text.split())[:_ON_PICTURE], font, width - 8)
    line_height = int(size * 1.25)
    room = line_height * len(lines) + 6
    top = {"band": height - room, "corner": 4, "across": (height - room) // 2, "faint": 4}[look]
    behind = ImageStat.Stat(copy.crop((0, 0, width, max(1, min(height, room))))).mean  # above, where two looks write
    color: tuple[int, ...] = (200, 0, 0) if look == "across" else (0, 0, 0)
    if look == "band":
        pen.rectangle((0, top, width, height), fill="white")
    elif look == "corner":
        color = (255, 255, 255) if sum(behind) < 3 * 128 else (0, 0, 0)
    elif look == "faint":
        color = tuple(int(c) - 14 if c > 128 else int(c) + 14 for c in behind)
    for n, line in enumerate(lines):
        pen.text((4, top + 2 + n * line_height), line, font=font, fill=color)
    return copy


def _lines(text: str, font: Any, width: int) -> list[str]:
    """The text in lines that fit, broken between words, and inside of one that is wider than a line."""
    lines: list[str] = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
