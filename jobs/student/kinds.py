"""What kind of thing each product of a catalogue is, read off the catalogue itself: no labels, no tables.

Three ways, the first that tells: the words that its title has in small letters, where several makers use them; other
marks of a title (kinds.toml); a linear model on words and names of attributes that learnt from the first two, where it
is sure. It knows no queries.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lore_mm.datasets.relevance_files import parquet_rows, the_file
from lore_mm.errors import MissingExtraError
from lore_mm.text import singular

__all__ = ["Product", "head_words", "read_products", "supplies", "words_of"]

_LEAST, _LEAST_MAKERS = 4, 2  # products and makers that use a kind's words
_LEARNT_FROM = 6  # products of a kind, for the model to learn it
_SURE = 0.9
_SMALL = re.compile(r"[a-z][a-z\-/]+")
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a catalogue; `kind` in small letters, None where nothing tells it."""

    title: str
    brand: str
    kind: str | None


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return tomllib.loads((Path(__file__).parent / "kinds.toml").read_text(encoding="utf-8"))


def supplies() -> frozenset[str]:
    """Heads of kinds that go with another thing."""
    return frozenset(_table()["supplies"].split())


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in small letters and in the singular."""
    return tuple(singular(word) for word in _WORD.findall(text.lower()))


def head_words(kinds: Sequence[str | None]) -> frozenset[str]:
    """The last words of kinds: what turns the words before it into what the thing is for."""
    return frozenset(words[-1] for kind in kinds if kind and (words := words_of(kind)))


def read_products(folder: Path) -> list[Product]:
    """The products of a Chorus folder (products.parquet), in its order.

    Raises:
        InputError: the file or a column is missing.
        MissingExtraError: scikit-learn is not installed.
    """
    more = ("short_description", "supplier", "attributes")
    rows = [row for _, row in parquet_rows(the_file(folder, "products.parquet"), ("id", "title"), more)]
    titles = [str(row["title"] or "") for row in rows]
    makers = [str(row.get("supplier") or "") for row in rows]
    kinds = [a or b for a, b in zip(_written(titles, makers), map(_marked, titles), strict=True)]
    kinds = _learnt(rows, titles, kinds)
    return [Product(*one) for one in zip(titles, makers, kinds, strict=True) if one[0]]


def _runs(title: str) -> Iterator[str]:
    """The longest runs of words in small letters."""
    ends, run = _ends(), []
    for word in [*title.split(), ""]:
        plain = word.rstrip(",;").strip("()")
        if _SMALL.fullmatch(plain) and plain not in ends:
            run.append(plain)
        elif run:
            yield " ".join(run)
            run = []
        if run and word.endswith((",", ";")):
            yield " ".join(run)
            run = []


@lru_cache(maxsize=1)
def _ends() -> frozenset[str]:
    return frozenset(_table()["ends"].split())


def _written(titles: Sequence[str], makers: Sequence[str]) -> list[str | None]:
    """The kind that a title has in small letters: the last one of several words, else the first."""
    runs = [list(_runs(title)) for title in titles]
    counts, users = Counter(run for some in runs for run in some), defaultdict(set)
    for some, maker in zip(runs, makers, strict=True):
        for run in some:
            users[run].add(maker)
    no_kinds = set(_table()["no_kinds"])
    legal = {r for r, n in counts.items() if n >= _LEAST and len(users[r]) >= _LEAST_MAKERS and r not in no_kinds}
    found: list[str | None] = []
    for some in runs:
        named = [run for run in some if run in legal]
        found.append(None if not named else named[-1] if " " in named[-1] else named[0])
    return found


def _marked(title: str) -> str | None:
    return next((str(mark["kind"]) for mark in _table()["marks"] if re.search(mark["pattern"], title)), None)


def _learnt(rows: Sequence[Mapping[str, Any]], titles: Sequence[str], kinds: list[str | None]) -> list[str | None]:
    """The kinds, and where there is none the one that a model is sure of."""
    try:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import SGDClassifier
    except ImportError as error:
        raise MissingExtraError(error.name or "sklearn", "calibrate") from None
    texts = [f"{title} {row.get('short_description') or ''}" for title, row in zip(titles, rows, strict=True)]
    names = [" ".join(json.loads(row.get("attributes") or "{}")) for row in rows]
    counts = Counter(kinds)
    known = [i for i, kind in enumerate(kinds) if kind and counts[kind] >= _LEARNT_FROM]
    if len({kinds[i] for i in known}) < 2:
        return kinds  # nothing to tell apart
    parts = [TfidfVectorizer(min_df=2, token_pattern=r"[A-Za-z]{2,}", sublinear_tf=True).fit_transform(texts)]
    if any(names):
        parts.append(TfidfVectorizer(min_df=3, token_pattern=r"\S+", binary=True).fit_transform(names))
    table = hstack(parts).tocsr()
    model = SGDClassifier(loss="log_loss", alpha=2e-6, max_iter=15, random_state=0)
    model.fit(table[known], [kinds[i] for i in known])
    likely = model.predict_proba(table)
    best = likely.argmax(axis=1)
    return [
        kind or (str(model.classes_[j]) if likely[i, j] > _SURE else None)
        for i, (kind, j) in enumerate(zip(kinds, best, strict=True))
    ]
