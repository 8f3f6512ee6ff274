"""QueryNER: search queries of a shop, word by word tagged with 17 entity types in BIO.

PATH is a folder with the splits (train, dev or validation, test) or one file. Rows hold `tokens` and their tags: as
text in `labels`, `ner_tags` or `tags`, or as numbers in the order of the public release (O, then B- and I- of the types
in alphabetical order, capitals first). JSON lines, JSON and Parquet; or two columns of text, a word and its tag a line,
blank lines between queries (.conll, .bio, .iob2, .txt, .tsv). Spans are characters of the words joined by one space.

After Palen-Michel, Liang, Wu and Lignos, QueryNER: Segmentation of E-commerce Queries, LREC-COLING 2024. It knows no
engine and no metric.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lore_mm.datasets.queryner_types import entity_types
from lore_mm.errors import InputError, nearest
from lore_mm.records import ENDINGS, kind_of, open_records

__all__ = ["SPLITS", "Span", "TaggedQuery", "bio_spans", "read_queryner"]

SPLITS = ("train", "dev", "test")
_CALLED = {"dev": ("dev", "validation", "valid"), "train": ("train",), "test": ("test",)}
_TAGS = ("labels", "ner_tags", "tags")
_IDS = ("query_id", "id", "esci_example_id")
_COLUMNS_OF_TEXT = (".conll", ".bio", ".iob2", ".txt", ".tsv")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters [start, end) of a query, and what they are."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class TaggedQuery:
    """A query with its words and their tags, one each."""

    query_id: str
    tokens: tuple[str, ...]
    labels: tuple[str, ...]

    @cached_property
    def text(self) -> str:
        """The words joined by one space."""
        return " ".join(self.tokens)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The characters [start, end) of each word."""
        ends: list[tuple[int, int]] = []
        for token in self.tokens:
            start = ends[-1][1] + 1 if ends else 0
            ends.append((start, start + len(token)))
        return tuple(ends)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The tagged spans, in order."""
        return tuple(
            Span(self.places[first][0], self.places[last][1], kind) for kind, first, last in bio_spans(self.labels)
        )


def bio_spans(labels: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of each span, as conlleval reads BIO, and seqeval where no scheme is asked for.

    An I- after O, after another type or at the start begins a span of its own (Tjong Kim Sang and De Meulder,
    Introduction to the CoNLL-2003 shared task, 2003); so nothing tagged is dropped.
    """
    spans: list[tuple[str, int, int]] = []
    before = ""
    for i, label in enumerate(labels):
        mark, _, kind = label.partition("-")
        if mark == "I" and kind == before:
            spans[-1] = (kind, spans[-1][1], i)
        elif mark in ("B", "I"):
            spans.append((kind, i, i))
        before = kind
    return spans


def read_queryner(path: Path, split: str) -> list[TaggedQuery]:
    """The queries of one split of a folder, or of a file.

    Raises:
        InputError: no such split, an unreadable file, or a row whose words and tags do not fit; it names file and line.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}{nearest(split, SPLITS)}; legal: {', '.join(SPLITS)}")
    file = _file_of(path, split) if path.is_dir() else path
    rows = _columns_of_text(file) if file.suffix.lower() in _COLUMNS_OF_TEXT else _records(file)
    queries = list(rows)
    if not queries:
        raise InputError(f"{file}: holds no queries")
    return queries


def _file_of(folder: Path, split: str) -> Path:
    """The file of a split: train.jsonl, validation.parquet, data/test-00000-of-00001.parquet …"""
    named = re.compile(rf"(?:{'|'.join(_CALLED[split])})(?:-00000-of-00001)?")
    for place in (folder, folder / "data"):
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            stem, dot, ending = file.name.partition(".")
            if named.fullmatch(stem) and f"{dot}{ending}".lower() in (*ENDINGS, *_COLUMNS_OF_TEXT):
                return file
    called = " or ".join(f"{name}.jsonl" for name in _CALLED[split])
    raise InputError(f"{folder}: holds no split {split!r}; looked for {called}, or .parquet, .json, .conll")


def _records(file: Path) -> Iterator[TaggedQuery]:
    records = open_records(file)
    for place, row in records:
        where = records.where(place)
        name = next((name for name in _TAGS if name in row), None)
        if "tokens" not in row or name is None:
            missing = "tokens" if "tokens" not in row else _TAGS[0]
            raise InputError(f"{where}: no column {missing!r}{nearest(missing, row)}; it has: {', '.join(row)[:300]}")
        tokens = _texts(row["tokens"], f"{where}, column 'tokens'")
        yield _tagged(_id(row, place), tokens, _labels(row[name], f"{where}, column {name!r}"), where)


def _id(row: Mapping[str, Any], place: int) -> str:
    return next((str(row[name]) for name in _IDS if row.get(name) is not None), str(place))


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        raise InputError(f"{where}: {kind_of(value)}; legal: a list of words, none of them empty")
    return tuple(value)


def _labels(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where}: {kind_of(value)}; legal: a list of tags")
    found = []
    for tag in value:
        if isinstance(tag, int) and not isinstance(tag, bool):
            if not 0 <= tag < len(_numbered()):
                raise InputError(f"{where}: the tag {tag}; legal: 0 to {len(_numbered()) - 1}")
            tag = _numbered()[tag]
        found.append(_checked(tag, where))
    return tuple(found)


def _numbered() -> list[str]:
    """The tags in the order of the public release."""
    return ["O", *(f"{mark}-{kind}" for kind in sorted(entity_types()) for mark in "BI")]


def _checked(tag: object, where: str) -> str:
    if not isinstance(tag, str):
        raise InputError(f"{where}: {kind_of(tag)}; legal: tags such as B-color, I-color and O")
    if _is_tag(tag):
        return tag
    kind, legal = tag.partition("-")[2], ", ".join(entity_types())
    raise InputError(
        f"{where}: the tag {tag!r}{nearest(kind, entity_types())}; legal: O, or B- or I- and one of {legal}"
    )


def _is_tag(tag: str) -> bool:
    mark, _, kind = tag.partition("-")
    return tag == "O" or (mark in ("B", "I") and kind in entity_types())


def _tagged(query_id: str, tokens: tuple[str, ...], labels: tuple[str, ...], where: str) -> TaggedQuery:
    if len(tokens) != len(labels):
        raise InputError(f"{where}: {len(tokens)} words and {len(labels)} tags; legal: one tag a word")
    return TaggedQuery(query_id, tokens, labels)


def _columns_of_text(file: Path) -> Iterator[TaggedQuery]:
    """A word and its tag a line (what stands between is passed over), a blank line after each query."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    words: list[tuple[str, str]] = []
    for number, line in enumerate([*lines, ""], 1):
        cells = line.split()
        if cells and (cells[0] == "-DOCSTART-" or (cells[0] == "#" and not _is_tag(cells[-1]))):  # no query, a remark
            continue
        where = f"{file}, line {number}"
        if len(cells) == 1:
            raise InputError(f"{where}: {line!r}; legal: a word and its tag")
        if cells:
            words.append((cells[0], _checked(cells[-1], where)))
        elif words:
            yield TaggedQuery(str(number - len(words)), *(tuple(column) for column in zip(*words, strict=True)))
            words = []
