"""The queries a tagger learns from, word by word, and which of them are held out. It knows no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lore_mm.datasets.queryner import TaggedQuery, read_queryner
from lore_mm.errors import InputError
from lore_mm.models.query_words import MOST_WORDS, Span, split_words

__all__ = ["Example", "Material", "labels_of", "read_material", "read_unlabelled"]

_TENTH = 10


@dataclass(frozen=True)
class Example:
    """A query with the spans of its words. `labels`: a label a word, empty where nobody labelled it; `soft`: the
    log-probabilities of the labels, float16 (words, labels), where teachers have read it.
    """

    text: str
    words: tuple[Span, ...]
    labels: tuple[int, ...] = ()
    soft: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on, and what is measured on; `measured_on`: held-out or dev."""

    names: tuple[str, ...]  # of the labels
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    measured_on: str


def labels_of(queries: Sequence[TaggedQuery]) -> tuple[str, ...]:
    """O, then B- and I- of each type that occurs, in alphabetical order."""
    kinds = sorted({label[2:] for query in queries for label in query.labels if label != "O"})
    return ("O", *(f"{mark}-{kind}" for kind in kinds for mark in "BI"))


def read_material(address: str, *, choose: bool, limit: int | None = None) -> Material:
    """QueryNER's queries. `choose`: train on nine tenths of train and measure on the tenth, else on the whole and dev.

    The tenth is drawn by the sha1 of the query's text. `limit`: of the queries of each part; for trying out.

    Raises:
        InputError: the address is not queryner:PATH, or the files are not as they should be.
    """
    kind, _, path = address.partition(":")
    if kind != "queryner" or not path:
        raise InputError(f"--data {address!r}: legal is queryner:PATH")
    train = read_queryner(Path(path), "train")
    names = labels_of(train)
    if choose:
        test = [query for query in train if _is_held_out(query.text)]
        train = [query for query in train if not _is_held_out(query.text)]
    else:
        test = read_queryner(Path(path), "dev")
    known = {name: i for i, name in enumerate(names)}
    parts = []
    for part in (train, test):
        for query in part:
            if strange := set(query.labels) - set(known):
                raise InputError(f"{path}: query {query.query_id}: the label {min(strange)!r} is not in train")
        parts.append(tuple(_example(query, known) for query in part[:limit]))
    return Material(names, parts[0], parts[1], "held-out" if choose else "dev")


def read_unlabelled(files: Sequence[Path], without: Sequence[Example]) -> tuple[Example, ...]:
    """Queries without labels, one a line, or a JSON object a line with `query`; each once, and none of `without`.

    Raises:
        InputError: a file cannot be read; it names file and line.
    """
    seen = {example.text.lower() for example in without}
    found = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read as UTF-8 text ({error})") from None
        for number, line in enumerate(lines, 1):
            text = _query_of(line, f"{file}, line {number}") if line.startswith("{") else line.strip()
            words = split_words(text)
            if words and text.lower() not in seen:
                seen.add(text.lower())
                found.append(Example(text, tuple(words)))
    return tuple(found)


def _is_held_out(text: str) -> bool:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16) % _TENTH == 0


def _example(query: TaggedQuery, known: dict[str, int]) -> Example:
    labels = tuple(known[label] for label in query.labels)
    return Example(query.text, query.places[:MOST_WORDS], labels[:MOST_WORDS])


def _query_of(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("query"), str):
        raise InputError(f"{where}: no text in 'query'")
    return str(row["query"]).strip()
