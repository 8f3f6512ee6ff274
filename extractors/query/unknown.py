"""Words that no table knows: a part number, a maker's model, the thing itself, what is excluded, else a wish.

It knows the words that carry no demand, and neither tables nor goods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lore_mm.knowledge import Knowledge
from lore_mm.phrases import Phrase
from lore_mm.text import Token
from lore_mm.types import Demand

__all__ = ["EMPTY", "HEAD_ORDER", "unknown_words"]

HEAD_ORDER = ("category", "model", "brand", "ip", "store")  # what can be the head, the likeliest first

# Words that carry no demand; the last lines are the commonest of other languages.
EMPTY = frozenset(
    "a an the of for with in on and or to by from at as is are be it its this that these those my your our their "
    "me i we you some any all very really quite just also too so best good great nice want need looking look find "
    "search buy buying get shop please show something thing things stuff which what who how where when why do "
    "does can could should would will not no without non free except excluding minus under over below above "
    "between around about up than more less least most if but plus use used using like per ones one other else "
    "there here online near today now model brand size sized color colour type kind made series version edition "
    "needed set make makes buyable quality "
    "am was were been has have had he she they them his hers us may might must shall im i'm i'd i'll dont don't cant "
    "can't cannot isn't won't that's what's hi hello hey thanks thank ok okay yes maybe preferably ideally "
    "possibly looks looking likes liked love loves costs cost costing priced price works work working go goes "
    "going come comes put out off away into onto during because while then only even still ever always "
    "anything anyone everything every each both either neither such own same lot lots way ways "
    "vs versus better worse difference compare compared comparison similar alternative alternatives instead "
    "de la le les el los una un une du des der das den dem ein eine einen et und y e con para por pour avec mit für "
    "fur von vom zum zur im i u na для и в с на 的 和 与 及 或 用 给 了 吗 在 是 款 个".split()
)  # fmt: skip
_NEGATING = frozenset(("without", "no", "not", "non", "excluding", "except", "minus", "sans"))
_PART_NUMBER = re.compile(r"(?=[a-z0-9-]*\d)(?=[a-z0-9-]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*", re.IGNORECASE)
_CODE = 4  # letters and digits of a part number at least
_MARKUP = re.compile(r"<[^<>]{0,200}>")


class _Run(NamedTuple):
    """Neighbouring unknown words; `code` for a part number, `negated` where a negation stands before."""

    start: int
    end: int
    negated: bool
    code: bool


def unknown_words(
    text: str,
    words: Sequence[Token],
    demands: Sequence[Demand],
    phrase: Phrase,
    numbers: Sequence[tuple[int, int]],
    cues: Sequence[tuple[int, int]],
    knowledge: Knowledge,
) -> Iterator[Demand]:
    """The demands of words that no table knows, each run of neighbours as one.

    A part number is a model. Right behind a maker, a run with a number in it is a model too ("hoka mach 6"), and so is
    any run where nothing else names the thing ("fjallraven kanken"). Where nothing at all is named, the likeliest run
    is the thing. What a negation stands before, or one of the `cues` of an exclusion, is excluded. The rest are wishes,
    of unknown dimension. `words` are the text's tokens.
    """
    taken = [(d.start, d.end) for d in demands if d.start is not None and d.end is not None]
    taken += [(m.start, m.end) for m in phrase.mentions]
    taken += [*numbers, *cues]
    if "<" in text:
        taken += [m.span() for m in _MARKUP.finditer(text)]
    found = [*_runs(text, _outside(taken, words))]
    if not found:
        return
    solved = any(m.table == "need" and knowledge.needs[m.canonical].kind != "jargon" for m in phrase.mentions)
    named = {d.dimension for d in demands if d.polarity > 0 and (d.canonical or d.dimension == "category")}
    is_thing = "category" in named or "model" in named
    makers = {d.end for d in demands if d.dimension == "brand" and d.end is not None and d.polarity > 0}
    thing = None if solved or named.intersection(HEAD_ORDER) else _likeliest_thing(text, found)
    for n, run in enumerate(found):
        value = text[run.start : run.end]
        if run.code:
            yield Demand("model", value, start=run.start, end=run.end, confidence=0.8)
        elif run.negated or any(not text[end : run.start].strip() for _, end in cues if end <= run.start):
            yield Demand("style_detail", value, op="not", polarity=-1, start=run.start, end=run.end, confidence=0.6)
        elif run.start - 1 in makers and (any(c.isdigit() for c in value) or not (is_thing or solved)):
            is_thing = True
            yield Demand("model", value, start=run.start, end=run.end, confidence=0.6, why="the words behind a maker")
        elif n == thing:
            yield Demand(
                "category", value, start=run.start, end=run.end, confidence=0.4, why="no table knows these words"
            )
        else:
            yield Demand("special", value, strictness="soft", start=run.start, end=run.end, confidence=0.4)


def _outside(spans: Sequence[tuple[int, int]], words: Sequence[Token]) -> list[Token]:
    """The words that begin in none of the spans."""
    return [w for w in words if not any([start <= w.start < end for start, end in spans])]


_NUMBERED = frozenset(("no",))  # "no 5" is a number, not a negation
_TAIL = re.compile(r"\b(?:for|from|with|without|over|under|to|in|on|by)\b", re.IGNORECASE)


def _likeliest_thing(text: str, runs: Sequence[_Run]) -> int | None:
    """Which run of unknown words names the thing: the last before "for", "with" and the like; never a bare number."""
    worded = [n for n, r in enumerate(runs) if not r.code and not text[r.start : r.end].replace(" ", "").isdigit()]
    before = [n for n in worded if not _TAIL.search(text[: runs[n].start])]
    return next(iter([*reversed(before), *worded[-1:]]), None)


def _runs(text: str, words: Sequence[Token]) -> Iterator[_Run]:
    """Neighbouring unknown words as one; part numbers alone, with their hyphens."""
    run: list[Token] = []
    negated = False
    skip = -1
    for word in (*words, None):
        if word is not None and word.start < skip:
            continue
        empty = word is None or (word.text in EMPTY and not _is_numero(text, word))
        code = None if word is None or empty else _code(text, word)
        joined = bool(run) and word is not None and not text[run[-1].end : word.start].strip(" -'’&")
        if run and (empty or code or not joined):
            yield _Run(run[0].start, run[-1].end, negated, False)
            run, negated = [], False
        if word is None:
            return
        if code:
            yield _Run(word.start, code, negated, True)
            negated, skip = False, code
        elif empty:
            negated = word.text in _NEGATING
        else:
            run.append(word)


def _is_numero(text: str, word: Token) -> bool:
    return (
        word.text in _NUMBERED
        and text[word.end : word.end + 1] in (" ", ".")
        and text[word.end + 1 : word.end + 3].strip(" .").isdigit()
    )


_HYPHENED = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")


def _code(text: str, word: Token) -> int | None:
    """The end of the part number that begins here, hyphens included ("wh-ch520"), or None."""
    if word.text.isalpha() and text[word.end : word.end + 1] != "-":
        return None
    whole = _HYPHENED.match(text, word.start)
    if whole is None or len(whole[0]) < _CODE or not _PART_NUMBER.fullmatch(whole[0]):
        return None
    return whole.end()
