"""Quantities in text, in base units: lengths, sizes, counts, ages, years, shares and so on, with exact spans.

It knows units and currencies, not goods: whether 13 inch is a screen or the length of something is decided by the
caller where no screen word stands beside it. Units and factors: `schemas/units.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Quantity",
    "find_quantities",
    "format_number",
    "kind_of_unit",
    "letter_size",
    "parse_number",
    "starts_measured",
]


class Quantity(NamedTuple):
    """A number with its unit, the base unit of its kind. `number_high` is the upper end of a range, else None.

    Letter sizes have kind size, unit letter, and count notches from M = 0 (XS −2 … XL 2). Shoe sizes keep the system
    they are given in as their unit: EU, UK or US. `op` is eq, at_least ("6+ years") or at_most ("up to 2 m").
    """

    kind: str
    number: float
    number_high: float | None
    unit: str
    start: int
    end: int
    text: str
    op: str = "eq"


class _Units(NamedTuple):
    factors: dict[str, tuple[str, float, str]]  # spelling without spaces → kind, factor, base unit
    pattern: re.Pattern[str]


_PLAIN = (
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,12}\s\d/\d{1,2}|\d{1,3}/\d{1,2}|\d{1,12}[½¼¾]|[½¼¾⅓⅔]|\d{1,12}(?:[.,]\d{1,6})?"
)
_FREE = r"(?<![\w.,/$€£¥₹#])"  # a number starts here: no letter, digit or currency before it


@lru_cache(maxsize=1)
def _units() -> _Units:
    tables = tomllib.loads((Path(__file__).parent / "schemas" / "units.toml").read_text(encoding="utf-8"))
    factors: dict[str, tuple[str, float, str]] = {}
    for kind, table in tables.items():
        for spelling, factor in table.get("units", {}).items():
            factors[_key(spelling)] = (kind, float(factor), table["base"])
        for spelling, name in table.get("names", {}).items():
            factors[_key(spelling)] = (kind, 1.0, name)
    # Any word may stand where a unit stands; the table decides. That keeps the pattern small and quick.
    long = r"(?:fluid|fl\.?|square|sq|thread|degrees|us|uk|imperial)[\s-]?[a-z]+"
    unit = rf"(?!(?:x|to|by|and)\b)(?:{long}|[^\W\d_]{{1,12}}[²2]?|''|[\"”″'’′]|°c)"
    one = "(?:[\\s-]?(?P<u#>" + unit + ")(?![^\\W_]))?"
    more = r"\s?(?P<s#>-|–|—|to\b|x|×|\*|by\b)\s?(?P<n#>" + _PLAIN + ")" + one
    pattern = rf"{_FREE}(?P<n0>{_PLAIN})(?P<plus>\+)?" + one.replace("#", "0")
    pattern += "(?:" + more.replace("#", "1") + "(?:" + more.replace("#", "2") + ")?)?"
    return _Units(factors, re.compile(pattern, re.IGNORECASE))


@lru_cache(maxsize=1)
def _kinds() -> dict[str, str]:
    return {base: kind for kind, _, base in _units().factors.values() if kind != "count"}


def kind_of_unit(base: str) -> str | None:
    """The kind of quantity that is kept in a base unit: voltage for V; None for a unit that is none."""
    return _kinds().get(base)


_SCREEN = (
    r"(?:screen|monitor|display|tv|television|laptop|notebook|tablet|macbook|ipad|chromebook|touchscreen|oled|qled|lcd)"
)
_SCREEN_AFTER = re.compile(rf"[\s-]*(?:[^\W\d]+[\s-]+){{0,2}}?{_SCREEN}s?\b", re.IGNORECASE)
_SCREEN_BEFORE = re.compile(r"(?:screen|display|monitor)(?:\s+size)?\s?:?\s?$", re.IGNORECASE)
# "in" is a preposition more often than a unit: these may follow the unit.
_AFTER_IN = re.compile(
    r"\s?(?:$|[x×,.;:)|/\-]|(?:by|wide|long|tall|high|deep|thick|diameter|screen|monitor|tv|laptop|tablet|display|round|square|w|h|d|l|"
    r"heel|heels|inseam|necklace|chain|wheel|wheels|bike|pan|skillet|pot|hose|candle|clock|frame|bookshelf)\b)",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"(?:\b(?P<most>under|below|less than|up to|at most|max|maximum|smaller than|shorter than|no more than)"
    r"|(?P<lt><=?|≤)"
    r"|\b(?P<least>over|above|more than|at least|min|minimum|larger than|bigger than|longer than)|(?P<gt>>=?|≥))\s?$",
    re.IGNORECASE,
)
_FRACTIONS = {"½": 0.5, "¼": 0.25, "¾": 0.75, "⅓": 1 / 3, "⅔": 2 / 3}


def parse_number(text: str) -> float:
    """A number as written: 1,000 · 2.5 · 2,5 · 1/2 · 1 1/2 · 2½."""
    if text[-1] in _FRACTIONS:
        return (float(text[:-1]) if text[:-1] else 0.0) + _FRACTIONS[text[-1]]
    if "/" in text:
        whole, _, fraction = text.rpartition(" ")
        top, bottom = fraction.split("/")
        return (float(whole) if whole else 0.0) + float(top) / max(float(bottom), 1.0)
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        return float(text.replace(",", ""))
    return float(text.replace(",", "."))


def format_number(number: float) -> str:
    """A number for a reader: 2.5, 42, 1000; at most four decimals, no trailing zeros."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


def letter_size(text: str) -> int | None:
    """Notches from M of a letter size: XS −2, S −1, M 0, L 1, XL 2, XXL 3; None for anything else."""
    text = text.strip().lower()
    words = {
        "s": -1,
        "small": -1,
        "m": 0,
        "medium": 0,
        "l": 1,
        "large": 1,
        "x-large": 2,
        "extra large": 2,
        "x-small": -2,
    }
    if text in words:
        return words[text]
    found = re.fullmatch(r"(?:(\d)x|(x{1,5}))([sl])", text)
    if not found:
        return None
    steps = 1 + (int(found[1]) if found[1] else len(found[2]))
    return steps if found[3] == "l" else -steps


def find_quantities(text: str) -> list[Quantity]:
    """All quantities of a text, in order, without overlaps. Dimensions such as 40 x 60 cm give one for each number.

    Prices are not quantities: see `lore_mm.prices`.
    """
    if not (_NUMERAL.search(text) or _NUMBER_WORD.search(text.lower())):
        return []
    free = _Spans()
    found: list[Quantity] = []
    for worded in _WORDED.finditer(text):
        for quantity in _worded(worded):
            free.take(quantity.start, quantity.end)
            found.append(quantity)
    units = _units()
    position = 0
    while (digit := _DIGIT.search(text, position)) is not None:
        m = units.pattern.match(text, digit.start())
        if m is None:
            position = digit.end()
            continue
        made = [q for q in _measured(m, text, units.factors) if free.open(q.start, q.end)]
        for quantity in made:
            free.take(quantity.start, quantity.end)
        found.extend(made)
        position = made[-1].end if made else m.end("n0")
    for dated in _YEAR.finditer(text) if "19" in text or "20" in text else ():
        if free.open(dated.start(), dated.end()):
            found.append(Quantity("year", float(dated[0]), None, "year", dated.start(), dated.end(), dated[0]))
    return sorted(found, key=lambda q: (q.start, q.end))


def starts_measured(text: str, start: int) -> bool:
    """True where the number at `start` has a unit, so that it is no price."""
    found = _units().pattern.match(text, start)
    return bool(found and found["u0"] and _key(found["u0"]) in _units().factors) or bool(
        re.match(r"\d+\s?(?:years?|months?|yrs?|%)", text[start:], re.IGNORECASE)
    )


class _Spans:
    """Spans already read; a later reading must not overlap them."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, start: int, end: int) -> None:
        self._taken.update(range(start, end))

    def open(self, start: int, end: int) -> bool:
        return self._taken.isdisjoint(range(start, end))


def _measured(m: re.Match[str], text: str, factors: dict[str, tuple[str, float, str]]) -> list[Quantity]:
    """The quantities of one match of numbers and units: one, a range, or up to three sides."""
    parts = []  # number, unit, start of the number, end of number and unit, separator before
    for i in "012":
        if m[f"n{i}"] is not None:
            unit = m[f"u{i}"]
            end = m.end(f"u{i}") if unit else m.end(f"n{i}")
            parts.append((m[f"n{i}"], unit, m.start(f"n{i}"), end, m[f"s{i}"].lower() if i != "0" else ""))
    while parts and not _is_unit(parts[-1], text, factors):
        parts.pop()
    for n in range(len(parts) - 1, 0, -1):  # a word that is no unit parts what stands before it from what follows
        if parts[n - 1][1] is not None and not _is_unit(parts[n - 1], text, factors):
            parts = parts[n:]
            break
    if not parts:
        return []
    made: list[Quantity] = []
    unit = None
    for number, own, start, end, separator in reversed(parts):
        unit = own or unit
        assert unit is not None
        kind, factor, base = factors[_key(unit)]
        value = parse_number(number) * factor
        made.insert(0, Quantity(kind, value, None, base, start, end, text[start:end]))
        if separator in ("-", "–", "—", "to") and len(parts) > 1 and number is parts[1][0]:
            first = parts[0]
            low = parse_number(first[0]) * (factors[_key(first[1])][1] if first[1] else factor)
            if low <= value:
                made[0] = Quantity(kind, low, value, base, first[2], end, text[first[2] : end])
                break
    first_q = made[0]
    if first_q.number_high is None:
        made[0] = first_q._replace(op=_bound(text, first_q.start, bool(m["plus"])))
    return [_as_screen(q, text) for q in made]


def _bound(text: str, start: int, plus: bool) -> str:
    before = _BOUND.search(text[max(0, start - 16) : start])
    if plus or (before and (before["least"] or before["gt"])):
        return "at_least"
    return "at_most" if before else "eq"


def _key(unit: str) -> str:
    return re.sub(r"[\s.-]", "", unit.lower())


def _is_unit(
    part: tuple[str, str | None, int, int, str], text: str, factors: dict[str, tuple[str, float, str]]
) -> bool:
    """False where the letters after a number are no unit, or a word of another meaning: 2 in 1, 5G, 3M, 10 M."""
    number, unit, start, end, _ = part
    if unit is None or _key(unit) not in factors:
        return False
    apart = text[start + len(number)] in " \t\n\xa0"
    if unit.lower() == "in":
        return not re.match(r"\s?-?\d", text[end : end + 3]) and (
            not apart or bool(_AFTER_IN.match(text[end : end + 12]))
        )
    if unit in ("M", "G"):
        return unit == "G" and number not in ("2", "3", "4", "5", "6")
    if unit in ("'", "’", "′"):
        return not apart and not re.match(r"\w", text[end : end + 1])
    if unit.lower() in ("man", "set", "speed", "string", "core", "blade", "seat") and apart:
        return False  # "3 core values": these count only when joined by a hyphen
    return True


def _as_screen(quantity: Quantity, text: str) -> Quantity:
    """An inch beside a screen word is a screen's diagonal, kept in inches."""
    written = quantity.text.rstrip().lower()
    if quantity.kind != "length" or not written.endswith(("in", "inch", "inches", '"', "”", "″", "''")):
        return quantity
    after = text[quantity.end : quantity.end + 40]
    if _SCREEN_AFTER.match(after) or _SCREEN_BEFORE.search(text[max(0, quantity.start - 20) : quantity.start]):
        high = None if quantity.number_high is None else round(quantity.number_high / 2.54, 6)
        return quantity._replace(kind="screen", unit="in", number=round(quantity.number / 2.54, 6), number_high=high)
    return quantity


_N = r"\d{1,3}(?:[.,]\d)?"
_TO = r"\s?(?:-|–|to)\s?"
_WORDS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
}
_IN_WORDS = "|".join(_WORDS)
_DIGIT = re.compile(r"[\d½¼¾⅓⅔]")
# A text without any of these has no quantity: numerals, and the ends of words that stand for numbers.
_NUMERAL = re.compile(r"[0-9½¼¾⅓⅔]")
_NUMBER_WORD = re.compile(rf"\b(?:dozen|sizes?|{_IN_WORDS})\b|hd\b|x[ls]\b")
_YEAR = re.compile(r"(?<![\w.,$€£¥#/-])(?:19[3-9]\d|20[0-4]\d)(?![\w%°]|[.,]\d|\s?[x×]\s?\d|-[a-z0-9])", re.IGNORECASE)
_WORDED = re.compile(
    r"\b(?=\w)(?:"  # asked once a word, not once a letter and wording
    rf"(?:pack|set|box|case|bundle|lot)s?\s+of\s+(?P<pack>\d{{1,4}}|{_IN_WORDS}|a dozen)\b"
    rf"|(?P<worded>{_IN_WORDS})[\s-](?P<worded_unit>piece|pack|pair|seater|person|tier|drawer|man)s?\b"
    r"|(?<![\w.])(?P<times>\d{1,3})\s?x(?=\s[a-z])(?!\s(?:the|as|more|faster|better|larger|longer|optical|digital|zoom|magnif|by)\b)"
    r"|(?P<dozen>(?:a\s)?dozen)\b"
    r"|aged?s?\s?(?P<ages>\d{1,2})(?:" + _TO + r"(?P<ages_high>\d{1,2}))?(?P<ages_open>\s?\+|\sand up)?(?!\w)"
    r"|(?P<age>\d{1,2})(?:"
    + _TO
    + r"(?P<age_high>\d{1,2}))?(?P<age_open>\+)?[\s-]?(?P<age_unit>years?|yrs?|months?|mos?)\b"
    r"(?:[\s-](?P<old>olds?)\b|(?P<age_plus>\s?\+))?(?!\s(?:warranty|guarantee))"
    r"|(?<![\w.])(?P<share>\d{1,3}(?:\.\d+)?)\s?(?:%|per\s?cent\b)"
    r"|(?P<k>[458])k(?:\suhd)?\b|(?P<lines>480|720|1080|1440|2160|4320)[pi]\b"
    r"|(?P<named>ultra[\s-]?hd|uhd|full[\s-]?hd|fhd|qhd|wqhd)\b"
    r"|(?P<gold>9|10|14|18|22|24)k\b"
    r"|spf\s?(?P<spf>\d{1,3})\+?(?!\w)"
    r"|(?P<zoom>\d{1,3})x\s(?:optical\s|digital\s)?(?:zoom|magnification|magnifying)\b"
    r"|(?:size\s)?(?P<letter>[2-9]xl|x{1,4}l|x{1,3}s|[2-4]xs)\b"
    r"|sizes?:?\s(?P<sized>[sml]|small|medium|large)(?![\w'’-])"
    rf"|(?:size\s)?(?P<system>eu|uk|us|eur)(?:\ssize)?\s?(?P<shoe>{_N})(?:{_TO}(?P<shoe_high>{_N}))?(?![\w%])"
    rf"|sizes?:?\s?(?P<plain>{_N})(?:{_TO}(?P<plain_high>{_N}))?(?![\w%])(?!\s?(?:cm|mm|inch|in|ft|m|x)\b)"
    r"|w(?P<waist>\d{2})[\sx/]{0,2}l(?P<leg>\d{2})\b)",
    re.IGNORECASE,
)
_LINES = {"uhd": 2160, "ultrahd": 2160, "fullhd": 1080, "fhd": 1080, "qhd": 1440, "wqhd": 1440}  # rows of pixels
_K_LINES = {"4": 2160, "5": 2880, "8": 4320}


def _worded(m: re.Match[str]) -> Iterator[Quantity]:
    """The quantity of one match of a wording that is more than number and unit."""

    def made(kind: str, number: float, unit: str, high: float | None = None, op: str = "eq") -> Quantity:
        return Quantity(kind, number, high, unit, m.start(), m.end(), m[0], op)

    def high(group: str) -> float | None:
        return parse_number(m[group]) if m[group] else None

    which = m.lastgroup
    if m["pack"]:
        words = m["pack"].lower()
        yield made("count", 12 if words == "a dozen" else float(_WORDS.get(words) or words), "pack")
    elif m["worded"]:
        unit = m["worded_unit"].lower()
        yield made("count", _WORDS[m["worded"].lower()], {"seater": "seat", "man": "person"}.get(unit, unit))
    elif m["times"]:
        yield made("count", float(m["times"]), "pack")
    elif m["dozen"]:
        yield made("count", 12, "pack")
    elif m["ages"]:
        yield made("age", float(m["ages"]), "year", high("ages_high"), "at_least" if m["ages_open"] else "eq")
    elif m["age"]:
        open_ = m["age_open"] or m["age_plus"]
        per = 12 if m["age_unit"].lower().startswith("mo") else 1
        top = high("age_high")
        yield made("age", float(m["age"]) / per, "year", top and top / per, "at_least" if open_ else "eq")
    elif m["share"]:
        yield made("share", float(m["share"]), "%")
    elif m["k"] or m["lines"] or m["named"]:
        named = re.sub(r"[\s-]", "", (m["named"] or "").lower())
        lines = _K_LINES[m["k"]] if m["k"] else int(m["lines"]) if m["lines"] else _LINES[named]
        yield made("resolution", lines, "lines")
    elif m["gold"] or m["spf"] or m["zoom"]:
        kind, unit = ("purity", "k") if m["gold"] else ("spf", "spf") if m["spf"] else ("zoom", "x")
        yield made(kind, float(m["gold"] or m["spf"] or m["zoom"]), unit)
    elif m["letter"] or m["sized"]:
        yield made("size", float(letter_size(m["letter"] or m["sized"]) or 0), "letter")
    elif m["shoe"]:
        system = m["system"].upper()[:2]
        yield made("shoe_size", parse_number(m["shoe"]), system, high("shoe_high"))
    elif m["plain"]:
        yield made("size", parse_number(m["plain"]), "", high("plain_high"))
    elif m["waist"]:
        yield made("size", float(m["waist"]), "waist")._replace(
            end=m.end("waist"), text=m[0][: m.end("waist") - m.start()]
        )
        yield Quantity(
            "size", float(m["leg"]), None, "leg", m.start("leg") - 1, m.end(), m[0][m.start("leg") - 1 - m.start() :]
        )
    else:  # pragma: no cover
        raise AssertionError(which)
