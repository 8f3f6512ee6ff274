"""A judgment in words: `render`, the one grammar of readable paths, and a tree for a terminal.

    query "black running shoes"
    item "freerun-running-shoe"
    - category "running shoes": exact "running_shoe" in title "Running Shoe" => L4 any.exact | asks for …; it is one
    - color "black": exact "black" in image:0 off 0.38 => L4 color.share_half | asks for black; the picture shows …
    grade L4 score 0.981

Quoted parts are JSON strings, so that a path can be read back. A failed pair ends `no grade: REASON` instead, and a
grade of L2 or L1 names the failed dimensions: `grade L2 [color, price] score 0.402`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lore_mm.types import Grade, Judgment, Leg

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ["render", "tree"]

_COLORS = {Grade.L4: "green", Grade.L3: "yellow", Grade.L2: "dark_orange", Grade.L1: "red"}


def render(judgment: Judgment) -> str:
    """The readable path of a judgment, one line a leg."""
    lines = [f"query {_quoted(judgment.query)}", f"item {_quoted(judgment.item_id)}"]
    lines += [_leg(leg) for leg in (judgment.path.legs if judgment.path else ())]
    return "\n".join([*lines, verdict(judgment)])


def verdict(judgment: Judgment) -> str:
    """The last line: the grade with its failed dimensions and score, or why there is none."""
    if judgment.grade is None:
        return f"no grade: {' '.join((judgment.error or 'unknown').split())}"
    failed = f" [{', '.join(judgment.failed_dimensions)}]" if judgment.failed_dimensions else ""
    score = "" if judgment.score is None else f" score {judgment.score:.3f}"
    return f"grade {judgment.grade}{failed}{score}"


def _leg(leg: Leg) -> str:
    demand = leg.demand
    sign = "no " if demand.polarity < 0 else ""
    soft = " (wish)" if demand.strictness == "soft" else ""
    found = "".join(f" {_quoted(value)}" for value in leg.found)
    return (
        f"- {demand.dimension} {sign}{_quoted(demand.value)}{soft}: {leg.relation}{found}{_evidence(leg)}"
        f" => {leg.level} {leg.rule_id} | {' '.join(leg.reason.split())}"
    )


def _evidence(leg: Leg) -> str:
    place = ""
    if leg.evidence:
        first = leg.evidence[0]
        place = f" in {first.source}" + (f" {_quoted(first.quote)}" if first.quote else "")
    return place + ("" if leg.deviation is None else f" off {leg.deviation:.3g}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def tree(judgment: Judgment) -> Tree:
    """The path as a rich tree: a branch a leg, with its evidence below."""
    from rich.text import Text
    from rich.tree import Tree

    color = _COLORS[judgment.grade] if judgment.grade else "red"
    root = Tree(Text.assemble((verdict(judgment), f"bold {color}"), f"  {judgment.query} → {judgment.item_id}"))
    for leg in judgment.path.legs if judgment.path else ():
        level = leg.level or Grade.L1
        branch = root.add(
            Text.assemble(
                (f"{level} ", f"bold {_COLORS[level]}"),
                (f"{leg.demand.dimension} ", "bold"),
                leg.reason,
                (f"  {leg.relation}, {leg.rule_id}, {leg.confidence:.0%} sure", "dim"),
            )
        )
        for evidence in leg.evidence:
            quote = f" “{evidence.quote}”" if evidence.quote else ""
            said = f" says {evidence.value}" if evidence.value and not evidence.quote else ""
            branch.add(Text(f"{evidence.source}{quote}{said}", style="dim"))
    return root
