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

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Literal

from lore_mm.errors import InputError
from lore_mm.types import Demand, Evidence, Grade, Judgment, Leg, MatchPath
from relevance.path_line import Line, clipped, flat, quoted, word
from relevance.relations import DIMENSIONS, LEGAL

__all__ = [
    "LONGEST",
    "check_written",
    "parse",
    "read_demand",
    "read_found",
    "read_leg",
    "read_verdict",
    "render",
    "verdict",
    "write_demand",
    "write_found",
    "write_leg",
]

LONGEST = 2**20  # characters that are read
_MARKS = {" (head, wish)": ("head", "wish"), " (head)": ("head",), " (wish)": ("wish",)}


# ------------------------------------------------------------------------------------------------------------ to words


def render(judgment: Judgment) -> str:
    """The readable path of a judgment, one line a leg."""
    lines = [f"query {quoted(judgment.query)}", f"item {quoted(judgment.item_id)}"]
    lines += [write_leg(leg) for leg in (judgment.path.legs if judgment.path else ())]
    lines += [f"said {judgment.said}"] if judgment.said else []
    lines += [f"samples {' '.join(map(str, judgment.samples))}"] if judgment.samples else []
    return "\n".join([*lines, verdict(judgment)])


def verdict(judgment: Judgment) -> str:
    """The last line: the grade with its failed dimensions and score, or why there is none."""
    if judgment.grade is None:
        return f"no grade: {flat(judgment.error or '') or 'unknown'}"
    failed = f" [{', '.join(map(word, judgment.failed_dimensions))}]" if judgment.failed_dimensions else ""
    score = "" if judgment.score is None else f" score {judgment.score:.3f}"
    return f"grade {judgment.grade}{failed}{score}"


def write_leg(leg: Leg) -> str:
    """A leg as its line has it."""
    return f"{write_demand(leg)}: {word(leg.relation)}{write_found(leg)}{_ruling(leg)}"


def write_demand(leg: Leg) -> str:
    """The beginning of a leg's line: what is asked for, and which attribute would answer it."""
    demand = leg.demand
    place = word(demand.dimension) + ("" if leg.attribute == demand.dimension else f"/{word(leg.attribute)}")
    asked = ("no " if demand.polarity < 0 else "") + quoted(demand.value)
    if demand.canonical != demand.value:
        asked += " as " + ("?" if demand.canonical is None else quoted(demand.canonical))
    marks = ["head"] * (demand.role == "head") + ["wish"] * (demand.strictness == "soft")
    asked += f" ({', '.join(marks)})" if marks else ""
    return f"- {place} {asked}"


def write_found(leg: Leg) -> str:
    """What was found and where, with a space before it; empty where nothing was."""
    place = "".join(f" {quoted(value)}" for value in leg.found)
    if leg.evidence:
        first = leg.evidence[0]
        place += f" in {word(first.source)}" + (f" {quoted(first.quote)}" if first.quote else "")
    return place + ("" if leg.deviation is None else f" off {leg.deviation:.9g}")


def _ruling(leg: Leg) -> str:
    said = "" if leg.level is None and leg.rule_id is None else f" => {'?' if leg.level is None else leg.level}"
    said += "" if leg.rule_id is None else f" {word(leg.rule_id)}"
    reason = flat(leg.reason)
    return said + (f" | {reason}" if reason else "")


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
    lines = [Line(line, number) for number, line in enumerate(text.split("\n"), 1)]
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
    legs = tuple(read_leg(line) for line in rest)
    found = read_verdict(last)
    judgment = replace(
        found,
        query=query,
        item_id=item_id,
        path=MatchPath("", item_id, legs) if legs else None,
        said=said,
        samples=samples,
    )
    check_written(lines, render(judgment))
    return judgment


def check_written(lines: Sequence[Line], written: str) -> None:
    """Check that lines are, to the character, what is written of what they tell.

    Raises:
        InputError: naming the first line and character where they differ.
    """
    for line, wanted in zip(lines, written.split("\n"), strict=True):
        if line.text != wanted:
            pairs = zip(line.text, wanted, strict=False)
            line.at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            legal = clipped(wanted[line.at :]) if line.at < len(wanted) else "the end of the line"
            line.fail(f"not as it is written; legal here: {legal}")


def read_leg(line: Line) -> Leg:
    """The leg of a whole line.

    Raises:
        InputError: naming the character, and what may stand there.
    """
    demanded = read_demand(line)
    line.need(": ")
    relation = line.one_of(LEGAL[demanded.demand.dimension], f"relation of {demanded.demand.dimension}")
    found, evidence, deviation = read_found(line)
    level, rule_id, reason = None, None, ""
    if line.take(" => "):
        level = None if line.take("?") else line.grade()
        if not line.text.startswith(" | ", line.at) and line.take(" "):
            rule_id = line.word()
    if line.take(" | "):
        reason = line.rest()
    line.end()
    return Leg(demanded.demand, demanded.attribute, relation, found, evidence, 1.0, deviation, level, rule_id, reason)


def read_demand(line: Line) -> Leg:
    """What `write_demand` wrote, as a leg without a relation; the line stands behind it.

    Raises:
        InputError: naming the character, and what may stand there.
    """
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
    demand = Demand(
        dimension,
        value,
        canonical,
        polarity=polarity,
        strictness="soft" if "wish" in marks else "hard",
        role="head" if "head" in marks else "modifier",
    )
    return Leg(demand, attribute, "")


def read_found(line: Line) -> tuple[tuple[str, ...], tuple[Evidence, ...], float | None]:
    """What `write_found` wrote: what was found, the evidence, and the deviation."""
    found = tuple(iter(line.another, None))
    evidence = (Evidence(line.word(), line.another()),) if line.take(" in ") else ()
    return found, evidence, line.number() if line.take(" off ") else None


def read_verdict(line: Line) -> Judgment:
    """A judgment of its last line alone.

    Raises:
        InputError: naming the character, and what may stand there.
    """
    if line.take("no grade: "):
        return Judgment("", "", None, status="failed", error=line.rest())
    if not line.take("grade "):
        line.fail(f"legal here: 'grade ' or 'no grade: ', not {clipped(line.text)}")
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
