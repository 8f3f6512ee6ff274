"""Questions and their right answers, in the compact form that small models are asked in.

    Title: …                                      left out where there is none
    Text: …
    On the pack: …
    Give as JSON: category, color, material

The answer holds one key an attribute asked for, in that order; `not_stated` where neither picture nor words tell. This
module knows nothing of tokens, pictures or models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.vlm.subjects import Answer, Answers, Subject
from lore_mm.attribute import NOT_STATED
from lore_mm.knowledge import Category, Knowledge, load_knowledge
from lore_mm.schema import load_schemas

__all__ = ["MULTI", "TEXT", "Instruction", "compact_prompt", "instruction", "reply_of", "word_instruction"]

MULTI = ("color", "material", "style", "function", "season", "size", "special", "diet", "flavour")
_NEVER = ("price", "year", "store", "weight", "condition")  # what no picture and none of our titles tell
_UNSEEN = ("model", "size", "length", "width", "height", "volume", "age", "origin", *_NEVER)  # what no picture tells
TEXT = 240  # characters of a description


@dataclass(frozen=True, slots=True)
class Instruction:
    """A question and its answer; `pictured`: the picture stands before the question."""

    pictured: bool
    prompt: str
    reply: str


def compact_prompt(fields: Sequence[str], title: str = "", text: str = "", pack: str = "") -> str:
    """The words of the user's turn, after the pictures."""
    lines = [f"Title: {title}"] if title else []
    lines += [f"Text: {text}"] if text else []
    lines += [f"On the pack: {pack}"] if pack else []
    return "\n".join([*lines, f"Give as JSON: {', '.join(fields)}"])


def reply_of(answers: Mapping[str, Answer]) -> str:
    """The one spelling of an answer; several values at once are an array."""
    return json.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in answers.items()}, ensure_ascii=False)


def instruction(subject: Subject, chance: random.Random) -> Instruction:
    """One question about a thing: with its picture nine times in ten, with its words half the time, if it has any."""
    worded = bool(subject.title) and chance.random() < 0.5
    pictured = not worded or chance.random() < 0.8
    text = subject.text if worded and chance.random() < 0.5 else ""
    known: Answers = {**(subject.shown if pictured else {}), **(subject.told if worded else {})}
    if subject.source == "luma" and not text:  # the material stands in the description, if anywhere
        known = {name: value for name, value in known.items() if name != "material"}
    asked = _asked(subject, known, chance, worded=worded, pictured=pictured)
    answers = {name: known.get(name, NOT_STATED) for name in asked}
    title = subject.title if worded else ""
    pack = ""
    if title and subject.source == "grocery" and chance.random() < 0.2:  # the same words, as read off the pack
        title, pack = "", title.upper()
    return Instruction(pictured, compact_prompt(asked, title, text[:TEXT], pack), reply_of(answers))


def _asked(subject: Subject, known: Answers, chance: random.Random, *, worded: bool, pictured: bool) -> list[str]:
    """One to five attributes: known ones, and now and then one that nothing tells."""
    names = sorted(known)
    chance.shuffle(names)
    names = names[: chance.choice((1, 1, 2, 2, 3, 4))]
    if "category" in known and "category" not in names and chance.random() < 0.8:
        names[0] = "category"
    silent = list(_NEVER)
    if "material" not in known and (pictured or not worded):
        silent += ["material"] * 3
    if not pictured and not subject.text and "color" not in known:
        silent += ["color"] * 3
    if chance.random() < 0.35:
        names.append(chance.choice(silent))
    if not worded and chance.random() < 0.1:  # as many at once as an extractor asks for
        names += chance.sample([name for name in _UNSEEN if name not in names], 4)
    if chance.random() < 0.5:
        chance.shuffle(names)
    else:  # the order of a schema: the category first
        names.sort(key=lambda name: name != "category")
    return names


def word_instruction(chance: random.Random) -> Instruction:
    """A question about a made-up title, in the words of the knowledge tables: reading, and the legal spelling."""
    knowledge = load_knowledge()
    category = chance.choice(_kinds(knowledge))
    words: dict[str, tuple[str, Answer]] = {"category": (chance.choice((category.name, *category.terms)), category.id)}
    schema = load_schemas().for_category(category.id, knowledge)
    worn = knowledge.department(category.id) in ("fashion", "footwear", "bags", "jewellery")
    if chance.random() < 0.55:
        color = chance.choice(list(knowledge.colors.values()))
        words["color"] = (chance.choice((color.name, color.name, *color.terms)), (color.name,))
    if chance.random() < 0.45 and "material" in schema.specs:
        material = chance.choice(list(knowledge.materials.values()))
        words["material"] = (chance.choice((material.name, material.name, *material.terms)), (material.name,))
    if chance.random() < 0.4 and worn:
        audience = chance.choice(("men", "women", "kids", "girls", "boys", "baby", "unisex"))
        words["audience"] = (audience, audience)
    if chance.random() < 0.4:
        brand = chance.choice(list(knowledge.brands))
        words["brand"] = (brand, brand)
    if chance.random() < 0.2 and worn:
        pattern = chance.choice(list(schema.specs["pattern"].values))
        words["pattern"] = (pattern, pattern)
    names = list(words)
    silent = [n for n in ("color", "material", "audience", "brand", "pattern", *_NEVER) if n not in words]
    asked = chance.sample(names, chance.randint(1, len(names))) + chance.sample(silent, chance.choice((0, 0, 1, 2)))
    if chance.random() < 0.5:
        chance.shuffle(asked)
    else:
        asked.sort(key=lambda name: name != "category")
    answers = {name: words[name][1] if name in words else NOT_STATED for name in asked}
    return Instruction(False, compact_prompt(asked, _made_up_title(words, chance)), reply_of(answers))


def _kinds(knowledge: Knowledge) -> list[Category]:
    return list(knowledge.categories.values())


def _made_up_title(words: Mapping[str, tuple[str, Answer]], chance: random.Random) -> str:
    said = {name: word for name, (word, _) in words.items()}
    audience = said.pop("audience", "")
    head = said.pop("category")
    brand = said.pop("brand", "")
    before = list(said.values())
    chance.shuffle(before)
    after = ""
    if before and chance.random() < 0.25:
        after = chance.choice((" - {}", ", {}", " in {}")).format(before.pop())
    possessive = {"men": "men's", "women": "women's", "kids": "kids'", "girls": "girls'", "boys": "boys'"}
    if audience and chance.random() < 0.5:
        before.insert(0, possessive.get(audience, audience))
    elif audience:
        after += f" for {audience}"
    title = " ".join([*before, head]) + after
    title = chance.choice((title, title.title(), title[:1].upper() + title[1:]))
    extra = chance.choice(("", "", "", " 2-pack", " Size M", " No. 7", " XL", " Pro", " 500"))
    return " ".join(f"{brand} {title}{extra}".split())
