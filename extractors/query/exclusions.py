"""Exclusions of several words, or not in English: "anything but leather", "other than nike", ohne, sin, 不要.

The scanner reads the plain English ones (without, no, not, -free). This module knows words, not goods.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from lore_mm.mentions import Mention
from lore_mm.text import one_of

__all__ = ["exclusion_cues", "with_exclusions"]

_SIGNS = one_of(
    " but ", "than ", "from ", "ohne ", "sin ", "senza ", "sem ", "zonder ", "kein", "pas de", "不", "无", "無", "没",
    "除", "非", "без ", "بدون ",
)  # fmt: skip
_CUE = re.compile(
    r"\b(?:(?:any(?:thing)?|all|everything|every\w*) but|other than|rather than|apart from|aside from|free from|"
    r"ohne|sin|senza|sem|zonder|keine?n?|pas de|без|بدون)\s(?:an?\s|the\s|any\s)?"
    r"|不要|不含|不带|不是|无|無|没有|除了|非",
    re.IGNORECASE,
)


def exclusion_cues(text: str) -> list[tuple[int, int]]:
    """The spans of such cues."""
    if not _SIGNS.search(text.lower()):
        return []
    return [m.span() for m in _CUE.finditer(text)]


def with_exclusions(text: str, mentions: list[Mention], cues: Sequence[tuple[int, int]]) -> list[Mention]:
    """The mentions with those right behind a cue negated, and what is joined to them by "or" or "and".

    What follows without a joining word is wanted: "anything but leather sofa" is a sofa.
    """
    out = list(mentions)
    for _, end in cues:
        place, first = end, True
        for n, m in enumerate(out):
            if m.start < place:
                continue
            between = text[place : m.start].strip(" ,").lower()
            if between if first else between not in _JOINING:
                break
            out[n] = replace(m, negated=True)
            place, first = m.end, False
    return out


_JOINING = frozenset(("or", "and", "nor", "oder", "und", "o", "y", "ou", "et"))
