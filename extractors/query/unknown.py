"""Words of a query that no table knows: a part number, the thing itself, what is excluded, else a wish.

It knows the words that carry no demand, and neither tables nor goods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from extractors.context import Phrase
from lore_mm.knowledge import Knowledge
from lore_mm.text import Token, tokens
from lore_mm.types import Demand
from lore_mm.values import Quantity

__all__ = ["EMPTY", "HEAD_ORDER", "unknown_words"]

HEAD_ORDER = ("category", "model", "brand", "ip", "store")  # what can be the head, the likeliest first

# Words that carry no demand.
EMPTY = frozenset(
    "a an the of for with in on and or to by from at as is are be it its this that these those my your our their "
    "me i we you some any all very really quite just also too so best good great nice want need looking look find "
    "search buy buying get shop please show something thing things stuff which what who how where when why do "
    "does can could should would will not no without non free except excluding minus under over below above "
    "between around about up than more less least most if but plus use used using like per ones one other else "
    "there here online near today now model brand size sized color colour type kind made series version edition "
    "needed set make makes buyable quality".split()
)
_NEGATING = frozenset(("without", "no", "not", "non", "excluding", "except", "minus"))
_PART_NUMBER = re.compile(r"(?=[a-z0-9-]*\d)(?=[a-z0-9-]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*", re.IGNORECASE)


def unknown_words(
    text: str, demands: Sequence[Demand], phrase: Phrase, quantities: Sequence[Quantity], knowledge: Knowledge
) -> Iterator[Demand]:
    """Words that no table knows: a part number, a series' unknown variant, the unknown thing itself, else a wish."""
    taken = {i for d in demands if d.start is not None and d.end is not None for i in range(d.start, d.end)}
    taken.update(i for m in phrase.mentions for i in range(m.start, m.end))
    taken.update(i for q in quantities for i in range(q.start, q.end))
    words = [w for w in tokens(text) if w.start not in taken]
    solved = any(m.table == "need" and knowledge.needs[m.canonical].kind != "jargon" for m in phrase.mentions)
    named = any(
        d.dimension in HEAD_ORDER and (d.canonical or d.dimension == "category") for d in demands if d.polarity > 0
    )
    found = [*_runs(text, words)]
    thing = _likeliest_thing(text, found)
    for n, (start, end, negated) in enumerate(found):
        value = text[start:end]
        if _PART_NUMBER.fullmatch(value) and len(value) > 3:
            yield Demand("model", value, start=start, end=end, confidence=0.8)
        elif negated:
            yield Demand("style_detail", value, op="not", polarity=-1, start=start, end=end, confidence=0.6)
        elif not named and not solved and n == thing:
            yield Demand("category", value, start=start, end=end, confidence=0.4, why="no table knows these words")
        else:
            yield Demand("special", value, strictness="soft", start=start, end=end, confidence=0.4)


_TAIL = re.compile(r"\b(?:for|from|with|without|over|under|to|in|on|by)\b", re.IGNORECASE)


def _likeliest_thing(text: str, runs: Sequence[tuple[int, int, bool]]) -> int | None:
    """Which run of unknown words names the thing: the last before "for", "with" and the like; never a bare number."""
    worded = [n for n, (start, end, _) in enumerate(runs) if not text[start:end].replace(" ", "").isdigit()]
    before = [n for n in worded if not _TAIL.search(text[: runs[n][0]])]
    return next(iter([*reversed(before), *worded[-1:]]), None)


def _runs(text: str, words: Sequence[Token]) -> Iterator[tuple[int, int, bool]]:
    """Neighbouring unknown words as one; part numbers alone. The flag says that a negation stands before."""
    run: list[Token] = []
    negated = False
    for word in [*words, None]:
        empty = word is None or word.text in EMPTY
        code = word is not None and not empty and bool(_PART_NUMBER.fullmatch(word.text)) and len(word.text) > 3
        joined = bool(run) and word is not None and not text[run[-1].end : word.start].strip(" -'’&")
        if run and (empty or code or not joined):
            yield run[0].start, run[-1].end, negated
            run, negated = [], False
        if word is None:
            return
        if code:
            start = word.start
            yield start, word.end, negated
            negated = False
        elif empty:
            negated = word.text in _NEGATING
        else:
            run.append(word)
