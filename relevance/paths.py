"""A judgment in words and back: `render` and `parse`, the one grammar of readable paths.

    query "black running shoes"
    item "freerun-running-shoe"
    - category "running shoes" as "running_shoe" (head): exact "running_shoe" in title "Running Shoe" => L4 any.exact
    - color "black": exact "black" in image:0 off 0.38 => L4 color.share_half | asks for black; the picture shows it
    said L3
    samples L4 L4 L3
    grade L4 score 0.981

One line a leg: dimension (`/attribute` where it has another name), demand (`no` before it where it is negated; `as`
what it means in the tables, where that is another word, `as ?` where they do not know it), its marks, the relation,
what was found, the first evidence, the deviation, level and rule, and the reason. `said` and `samples` stand only where
a model said something itself. A failed pair ends `no grade: REASON`; a grade of L2 or L1 names the failed dimensions:
`grade L2 [color, price] score 0.402`.

Quoted parts are JSON strings. What `decide` looks at to grade a path is all there, so that a path read back gets the
same grade by the same rules; confidences, spans, further evidence, probabilities and provenance are not. This module
knows no rules and no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from itertools import takewhile
from typing import Literal, NoReturn

from lore_mm.errors import InputError, nearest
from lore_mm.types import Demand, Evidence, Grade, Judgment, Leg, MatchPath
from relevance.relations import DIMENSIONS, LEGAL

__all__ = ["LONGEST", "parse", "render", "verdict"]

LONGEST = 2**20  # characters that are read
_PLAIN = re.compile(r"[A-Za-z0-9_.:\-]+")  # what stands without quotes where a word is wanted
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|-?inf|nan")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # to some readers, though not to JSON
_JSON = json.JSONDecoder()
_MARKS = {" (head, wish)": ("head", "wish"), " (head)": ("head",), " (wish)": ("wish",)}


# ------------------------------------------------------------------------------------------------------------ to words


def render(judgment: Judgment) -> str:
    """The readable path of a judgment, one line a leg."""
    lines = [f"query {_quoted(judgment.query)}", f"item {_quoted(judgment.item_id)}"]
    lines += [_leg(leg) for leg in (judgment.path.legs if judgment.path else ())]
    lines += [f"said {judgment.said}"] if judgment.said else []
    lines += [f"samples {' '.join(map(str, judgment.samples))}"] if judgment.samples else []
    return "\n".join([*lines, verdict(judgment)])


def verdict(judgment: Judgment) -> str:
    """The last line: the grade with its failed dimensions and score, or why there is none."""
    if judgment.grade is None:
        return f"no grade: {_flat(judgment.error or '') or 'unknown'}"
    failed = f" [{', '.join(map(_word, judgment.failed_dimensions))}]" if judgment.failed_dimensions else ""
    score = "" if judgment.score is None else f" score {judgment.score:.3f}"
    return f"grade {judgment.grade}{failed}{score}"


def _leg(leg: Leg) -> str:
    demand = leg.demand
    place = _word(demand.dimension) + ("" if leg.attribute == demand.dimension else f"/{_word(leg.attribute)}")
    asked = ("no " if demand.polarity < 0 else "") + _quoted(demand.value)
    if demand.canonical != demand.value:
        asked += " as " + ("?" if demand.canonical is None else _quoted(demand.canonical))
    marks = ["head"] * (demand.role == "head") + ["wish"] * (demand.strictness == "soft")
    asked += f" ({', '.join(marks)})" if marks else ""
    found = "".join(f" {_quoted(value)}" for value in leg.found)
    return f"- {place} {asked}: {_word(leg.relation)}{found}{_evidence(leg)}{_ruling(leg)}"


def _evidence(leg: Leg) -> str:
    place = ""
    if leg.evidence:
        first = leg.evidence[0]
        place = f" in {_word(first.source)}" + (f" {_quoted(first.quote)}" if first.quote else "")
    return place + ("" if leg.deviation is None else f" off {leg.deviation:.9g}")


def _ruling(leg: Leg) -> str:
    said = "" if leg.level is None and leg.rule_id is None else f" => {'?' if leg.level is None else leg.level}"
    said += "" if leg.rule_id is None else f" {_word(leg.rule_id)}"
    reason = _flat(leg.reason)
    return said + (f" | {reason}" if reason else "")


def _flat(text: str) -> str:
    return " ".join(text.split())


def _word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return _LINE_ENDS.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


# ---------------------------------------------------------------------------------------------------------- from words


def parse(text: str) -> Judgment:
    """What `render` put into words: query, item, legs, what a model said, grade, failed dimensions and score, or error.

    Strict: it takes exactly what `render` writes, to the character, with dimensions and relations of the closed
    vocabulary (`relevance.relations`). The time is linear in the length, whatever stands in the text.

    Raises:
        InputError: naming the line, the character, and what may stand there.
    """
    if len(text) > LONGEST:
        raise InputError(f"path: {len(text):,} characters, the limit is {LONGEST:,}")
    lines = [_Line(line, number) for number, line in enumerate(text.split("\n"), 1)]
    if len(lines) < 3:
        lines[-1].fail("the path ends too early; legal: query, item, the legs, and a grade or no grade")
    first, second, *rest, last = lines
    query, item_id = first.only("query"), second.only("item")
    samples: tuple[Grade, ...] = ()
    said = None
    if rest and rest[-1].take("samples "):
        samples = rest.pop().grades()
    if rest and rest[-1].take("said "):
        said = rest[-1].grade()
        rest.pop().end()
    legs = tuple(_read_leg(line) for line in rest)
    found = _read_verdict(last)
    judgment = replace(
        found,
        query=query,
        item_id=item_id,
        path=MatchPath("", item_id, legs) if legs else None,
        said=said,
        samples=samples,
    )
    for line, wanted in zip(lines, render(judgment).split("\n"), strict=True):
        if line.text != wanted:
            pairs = zip(line.text, wanted, strict=False)
            line.at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            legal = _clipped(wanted[line.at :]) if line.at < len(wanted) else "the end of the line"
            line.fail(f"not as it is written; legal here: {legal}")
    return judgment


class _Line:
    """A line of a path, read from the left."""

    def __init__(self, text: str, place: int) -> None:
        self.text, self.place, self.at = text, place, 0

    def fail(self, reason: str) -> NoReturn:
        raise InputError(f"path, line {self.place}, character {self.at + 1}: {reason}")

    def take(self, words: str) -> bool:
        """Go on behind these words, if they stand here."""
        if not self.text.startswith(words, self.at):
            return False
        self.at += len(words)
        return True

    def need(self, words: str) -> None:
        if not self.take(words):
            self.fail(f"legal here: {words!r}, not {_clipped(self.text[self.at :])}")

    def end(self) -> None:
        if self.at < len(self.text):
            self.fail(f"legal here: the end of the line, not {_clipped(self.text[self.at :])}")

    def quoted(self) -> str:
        """A JSON string."""
        if not self.text.startswith('"', self.at):
            self.fail(f"legal here: a text in double quotes, not {_clipped(self.text[self.at :])}")
        try:
            value, self.at = _JSON.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.at = error.pos
            self.fail(f"no JSON string: {error.msg}")
        return str(value)

    def another(self) -> str | None:
        """A JSON string behind a space, if one stands here."""
        if not self.text.startswith(' "', self.at):
            return None
        self.at += 1
        return self.quoted()

    def word(self) -> str:
        """A plain word, or a text in quotes."""
        if found := _PLAIN.match(self.text, self.at):
            self.at = found.end()
            return found.group()
        return self.quoted()

    def one_of(self, legal: Collection[str], what: str) -> str:
        start, word = self.at, self.word()
        if word not in legal:
            self.at = start
            hint = nearest(word, legal) if len(word) < 100 else ""
            self.fail(f"no {what} {_clipped(word)}{hint}; legal: {', '.join(legal)}")
        return word

    def number(self) -> float:
        found = _NUMBER.match(self.text, self.at)
        if not found:
            self.fail(f"legal here: a number, not {_clipped(self.text[self.at :])}")
        self.at = found.end()
        return float(found.group())

    def grade(self) -> Grade:
        return Grade[self.one_of(Grade.__members__, "level")]

    def grades(self) -> tuple[Grade, ...]:
        """The levels up to the end of the line."""
        found = [self.grade()]
        while self.take(" "):
            found.append(self.grade())
        self.end()
        return tuple(found)

    def rest(self) -> str:
        """All that is left of the line."""
        start, self.at = self.at, len(self.text)
        return self.text[start:]

    def only(self, name: str) -> str:
        """The text of a line that holds nothing but a name and a text."""
        self.need(name + " ")
        text = self.quoted()
        self.end()
        return text


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _read_leg(line: _Line) -> Leg:
    line.need("- ")
    dimension = line.one_of(DIMENSIONS, "dimension")
    attribute = line.word() if line.take("/") else dimension
    line.need(" ")
    polarity: Literal[1, -1] = -1 if line.take("no ") else 1
    canonical: str | None
    value = canonical = line.quoted()
    if line.take(" as "):
        canonical = None if line.take("?") else line.quoted()
    marks = next((marks for words, marks in _MARKS.items() if line.take(words)), ())
    line.need(": ")
    relation = line.one_of(LEGAL[dimension], f"relation of {dimension}")
    found = tuple(iter(line.another, None))
    evidence = (Evidence(line.word(), line.another()),) if line.take(" in ") else ()
    deviation = line.number() if line.take(" off ") else None
    level, rule_id, reason = None, None, ""
    if line.take(" => "):
        level = None if line.take("?") else line.grade()
        if not line.text.startswith(" | ", line.at) and line.take(" "):
            rule_id = line.word()
    if line.take(" | "):
        reason = line.rest()
    line.end()
    demand = Demand(
        dimension,
        value,
        canonical,
        polarity=polarity,
        strictness="soft" if "wish" in marks else "hard",
        role="head" if "head" in marks else "modifier",
    )
    return Leg(demand, attribute, relation, found, evidence, 1.0, deviation, level, rule_id, reason)


def _read_verdict(line: _Line) -> Judgment:
    """A judgment of the last line alone."""
    if line.take("no grade: "):
        return Judgment("", "", None, status="failed", error=line.rest())
    if not line.take("grade "):
        line.fail(f"legal here: 'grade ' or 'no grade: ', not {_clipped(line.text)}")
    grade, failed, score = line.grade(), [], None
    if line.take(" ["):
        failed.append(line.one_of(DIMENSIONS, "dimension"))
        while line.take(", "):
            failed.append(line.one_of(DIMENSIONS, "dimension"))
        line.need("]")
    if line.take(" score "):
        score = line.number()
    line.end()
    return Judgment("", "", grade, score=score, failed_dimensions=tuple(failed))
