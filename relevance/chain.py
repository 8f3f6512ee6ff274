"""A chain: the path of a pair as a trained model writes it, with its grade. The one grammar of training and judging.

    <think>
    - category "hoodie" (head): exact "hoodie" in title "Hoodie" => L4 any.exact
    - color "blue": other "black" in given.color "Black" => L2 color.other
    </think>
    grade L2 [color]

Each line is a leg as `relevance.paths` writes it, without its reason; the number behind `off` has two digits. The id of
the rule may be left out. A chain is learned in three steps, each with more of every leg (LORE §3.3):

    knowledge       what the query asks for             - color "blue"
    multimodal      and what the item has there         - color "blue": "black" in given.color "Black"
    rules           and how that is judged              - color "blue": other "black" in given.color "Black" => L2

At the step multimodal a demand that nothing speaks to says `nothing`. The grade stands behind the thinking
(think_first) or before it (answer_first), on a line of its own.

A chain need not say everything: that an item satisfies a query takes all hard demands, that it does not takes one
that is broken. `needed` leaves out the rest. This module knows no model and no tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from lore_mm.errors import InputError
from lore_mm.types import Grade, Judgment, Leg
from relevance.path_line import Line, word
from relevance.paths import check_written, read_demand, read_found, read_verdict, verdict, write_demand, write_found
from relevance.relations import LEGAL

__all__ = [
    "CLOSE",
    "DEPTHS",
    "LONGEST",
    "OPEN",
    "ORDERS",
    "Chain",
    "Depth",
    "Order",
    "chain_of",
    "needed",
    "read_chain",
    "write_chain",
]

Depth = Literal["knowledge", "multimodal", "rules"]
Order = Literal["think_first", "answer_first"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)
ORDERS: tuple[Order, ...] = get_args(Order)
LONGEST = 16_384  # characters that are read
OPEN, CLOSE, NOTHING = "<think>", "</think>", "nothing"


@dataclass(frozen=True, slots=True)
class Chain:
    """What a chain says: the legs as far as its depth goes, the grade, and the dimensions that failed.

    Legs have no confidence and no reason; at a depth below `rules` their relation is empty and they have no level.
    """

    grade: Grade
    legs: tuple[Leg, ...] = ()
    failed: tuple[str, ...] = ()
    depth: Depth = "rules"
    order: Order = "think_first"


def chain_of(judgment: Judgment, depth: Depth = "rules", order: Order = "think_first", cite: bool = True) -> Chain:
    """The chain of a judgment's path and grade; with `cite` its legs name their rules.

    Raises:
        ValueError: the judgment has no grade or no path.
    """
    if judgment.grade is None or judgment.path is None:
        raise ValueError(f"{judgment.query_id} – {judgment.item_id}: a failed judgment has no chain")
    legs = tuple(_plain(leg, depth, cite) for leg in judgment.path.legs)
    return Chain(judgment.grade, legs, judgment.failed_dimensions, depth, order)


def needed(chain: Chain) -> Chain:
    """The chain with the legs that its grade rests on: below L4 those of its level, for L4 all but wishes."""
    if chain.grade == Grade.L4:
        kept = [leg for leg in chain.legs if leg.demand.strictness == "hard"] or chain.legs
    else:
        kept = [leg for leg in chain.legs if leg.level == chain.grade] or chain.legs
    return replace(chain, legs=tuple(kept))


def write_chain(chain: Chain) -> str:
    """A chain in words."""
    thought = "\n".join([OPEN, *(_written(leg, chain.depth) for leg in chain.legs), CLOSE])
    said = verdict(Judgment("", "", chain.grade, failed_dimensions=chain.failed))
    return f"{thought}\n{said}" if chain.order == "think_first" else f"{said}\n{thought}"


def read_chain(text: str) -> Chain:
    """What `write_chain` put into words, to the character. Its depth is that of its legs, `rules` where it has none.

    Raises:
        InputError: naming the line, the character, and what may stand there.
    """
    if len(text) > LONGEST:
        raise InputError(f"chain: {len(text):,} characters, the limit is {LONGEST:,}")
    lines = [Line(line, number, "chain") for number, line in enumerate(text.split("\n"), 1)]
    answered = not lines[0].text.startswith(OPEN)
    if len(lines) < 3:
        lines[-1].fail(f"the chain ends too early; legal: {OPEN}, the legs, {CLOSE}, and a line with the grade")
    said = lines.pop(0 if answered else -1)
    first, *middle, last = lines
    for line, mark in ((first, OPEN), (last, CLOSE)):
        line.need(mark)
        line.end()
    found = read_verdict(said)
    if found.grade is None or found.score is not None:
        said.at = 0
        said.fail("legal here: a grade, and the dimensions that failed")
    read = [_read(line) for line in middle]
    depth = read[0][1] if read else "rules"
    for line, (_, its) in zip(middle, read, strict=True):
        if its != depth:
            line.fail(f"a leg of the step {its} in a chain of the step {depth}")
    order: Order = "answer_first" if answered else "think_first"
    chain = Chain(found.grade, tuple(leg for leg, _ in read), found.failed_dimensions, depth, order)
    written = [said, *lines] if answered else [*lines, said]
    check_written(written, write_chain(chain))
    return chain


def _plain(leg: Leg, depth: Depth, cite: bool) -> Leg:
    """A leg as the chain of a step has it."""
    off = None if leg.deviation is None else float(f"{leg.deviation:.2g}")
    bare = Leg(leg.demand, leg.attribute, "")
    if depth == "knowledge":
        return bare
    bare = replace(bare, found=leg.found, evidence=leg.evidence[:1])
    if depth == "multimodal":
        return bare
    return replace(bare, relation=leg.relation, deviation=off, level=leg.level, rule_id=leg.rule_id if cite else None)


def _written(leg: Leg, depth: Depth) -> str:
    asked = write_demand(leg)
    if depth == "knowledge":
        return asked
    found = write_found(leg)
    if depth == "multimodal":
        return f"{asked}:{found or f' {NOTHING}'}"
    cited = f" {word(leg.rule_id)}" if leg.rule_id else ""
    return f"{asked}: {word(leg.relation)}{found} => {leg.level}{cited}"


def _read(line: Line) -> tuple[Leg, Depth]:
    leg = read_demand(line)
    if line.at == len(line.text):
        return leg, "knowledge"
    line.need(":")
    if line.take(f" {NOTHING}"):
        line.end()
        return leg, "multimodal"
    if line.text.startswith((' "', " in "), line.at):
        found, evidence, off = read_found(line)
        line.end()
        return replace(leg, found=found, evidence=evidence, deviation=off), "multimodal"
    line.need(" ")
    dimension = leg.demand.dimension
    relation = line.one_of(LEGAL[dimension], f"relation of {dimension}")
    found, evidence, off = read_found(line)
    line.need(" => ")
    level = line.grade()
    rule_id = line.word() if line.take(" ") else None
    line.end()
    return Leg(leg.demand, leg.attribute, relation, found, evidence, 1.0, off, level, rule_id), "rules"
