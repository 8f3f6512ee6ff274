"""Exclusions of several words, or not in English: "anything but leather", "other than nike", ohne, sin, 不要.

The scanner reads the plain English ones (without, no, not, -free). This module knows words, not goods.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lore_mm.mentions import Mention

__all__ = ["excluded_start", "with_exclusions"]

_SIGNS = (
    " but ", "than ", "from ", "ohne ", "sin ", "senza ", "sem ", "zonder ", "kein", "pas de", "不", "无", "無", "没",
    "除", "非", "без ", "بدون ",
)  # fmt: skip
_CUE = re.compile(
    r"\b(?:(?:any(?:thing)?|all|everything|every\w*) but|other than|rather than|apart from|aside from|free from|"
    r"ohne|sin|senza|sem|zonder|keine?n?|pas de|без|بدون)\s(?:an?\s|the\s|any\s)?"
    r"|不要|不含|不带|不是|无|無|没有|除了|非",
    re.IGNORECASE,
)


def with_exclusions(text: str, mentions: list[Mention]) -> list[Mention]:
    """The mentions with those right behind such a cue negated, and what is joined to them by "or" or "and"."""
    low = text.lower()
    if not any(sign in low for sign in _SIGNS):
        return mentions
    out = list(mentions)
    for cue in _CUE.finditer(text):
        place = cue.end()
        for n, m in enumerate(out):
            if m.start >= place and text[place : m.start].strip(" ,").lower() in (
                "",
                "or",
                "and",
                "oder",
                "u",
                "o",
                "ou",
            ):
                if place != cue.end() and text[place : m.start].strip() == "":
                    break  # "anything but leather sofa": the sofa is wanted
                out[n] = replace(m, negated=True)
                place = m.end
    return out


def excluded_start(text: str, start: int) -> bool:
    """True where such a cue stands right before."""
    low = text[:start].lower()
    if not any(sign in low for sign in _SIGNS):
        return False
    return any(cue.end() == start or text[cue.end() : start].isspace() for cue in _CUE.finditer(text, 0, start))
