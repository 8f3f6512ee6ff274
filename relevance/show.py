"""Judgments as they are shown: a JSON row with the versions behind it, a table, a tree for a terminal.

Where a model named another grade than its path has, where several answers differ, or where a grade that is a model's
own is not the one the rules give the path beside it, all three say so. This module judges nothing and opens nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lore_mm import __version__
from lore_mm.rows import judgment_to_row
from lore_mm.types import Grade, Judgment, Leg
from relevance.paths import render, verdict
from relevance.protocol import PairJudge
from relevance.what_if import Change, WhatIf, path_grade

if TYPE_CHECKING:
    from rich.table import Table
    from rich.tree import Tree

__all__ = ["SHA_DIGITS", "json_row", "notes", "table", "tree", "versions_of"]

SHA_DIGITS = 12  # shown of a sha: enough to tell any two versions apart; provenance has the whole of the judge's
_COLORS = {Grade.L4: "green", Grade.L3: "yellow", Grade.L2: "dark_orange", Grade.L1: "red"}
_FIRST = ("query", "item_id", "grade", "score")


def versions_of(judge: PairJudge) -> dict[str, str]:
    """What judged: this package's version, the judge's address, and the shortened sha of each of its parts."""
    parts = {name: sha[:SHA_DIGITS] for name, sha in judge.versions.items()}
    return {"lore_mm": __version__, "judge": judge.name, **parts}


def notes(judgment: Judgment) -> list[str]:
    """What a reader of the grade has to know beside it, a sentence each: a model's other word, a vote, another rule."""
    found = []
    if judgment.said is not None and judgment.said != judgment.grade:
        found.append(f"the model itself said {judgment.said}")
    if len(set(judgment.samples)) > 1:
        counted = sorted(Counter(judgment.samples).items(), reverse=True)
        found.append(f"its answers differ: {', '.join(f'{n} × {grade}' for grade, n in counted)}")
    by_rules = path_grade(judgment)
    if by_rules is not None and judgment.grade is not None and by_rules != judgment.grade:
        found.append(f"the rules alone make {by_rules} of this path")
    return found


# ---------------------------------------------------------------------------------------------------------------- JSON


def json_row(
    judgment: Judgment,
    versions: Mapping[str, str],
    *,
    explain: bool = False,
    other: WhatIf | None = None,
    asked: bool = False,
) -> dict[str, Any]:
    """A judgment as a JSON object: the columns of JUDGMENTS, `path_grade`, `notes` and `versions`.

    `path_grade` is what the rules alone make of the path. With `explain` also `path`, as `relevance.paths` renders it;
    where another rulebook was `asked` also `what_if`, null where there is no path.
    """
    row = judgment_to_row(judgment)
    by_rules = path_grade(judgment)
    shown = {name: row[name] for name in _FIRST} | {name: value for name, value in row.items() if name not in _FIRST}
    shown |= {"path_grade": None if by_rules is None else str(by_rules), "notes": notes(judgment)}
    shown |= {"path": render(judgment)} if explain else {}
    shown |= {"what_if": None if other is None else _what_if_row(other)} if asked else {}
    return shown | {"versions": dict(versions)}


def _what_if_row(other: WhatIf) -> dict[str, Any]:
    return {
        "rulebook": other.rulebook[:SHA_DIGITS],
        "from": None if other.before is None else str(other.before),
        "grade": str(other.grade),
        "score": other.score,
        "failed_dimensions": list(other.failed_dimensions),
        "legs": [_change_row(change) for change in other.changes],
    }


def _change_row(change: Change) -> dict[str, Any]:
    before, after = change.before, change.after
    return {
        "dimension": before.demand.dimension,
        "demand": before.demand.value,
        "relation": before.relation,
        "from": {"level": None if before.level is None else str(before.level), "rule_id": before.rule_id},
        "to": {"level": str(after.level), "rule_id": after.rule_id},
    }


# ---------------------------------------------------------------------------------------------------------- for people


def table(judgments: Sequence[Judgment], others: Sequence[WhatIf | None] | None = None) -> Table:
    """A row a judgment; `others`, where another rulebook was asked, in a column of its own."""
    from rich.table import Table
    from rich.text import Text

    several = len({judgment.query for judgment in judgments}) > 1
    title = None if several else Text(judgments[0].query)
    shown = Table(box=None, pad_edge=False, title=title, title_justify="left")
    if several:
        shown.add_column("query", overflow="fold")
    shown.add_column("item", no_wrap=True, overflow="fold")
    shown.add_column("grade")
    shown.add_column("score")
    if others is not None:
        shown.add_column("what if")
    shown.add_column("why")
    for i, judgment in enumerate(judgments):
        cells = [Text(judgment.query)] if several else []
        score = "" if judgment.score is None else f"{judgment.score:.2f}"
        cells += [Text(judgment.item_id), Text(str(judgment.grade or "–")), Text(score)]
        if others is not None:
            cells.append(Text(_turn(others[i])))
        shown.add_row(*cells, Text("; ".join([_why(judgment), *notes(judgment)])))
    return shown


def _why(judgment: Judgment) -> str:
    """The reason of the worst leg, the first of them; where all is well, that it is."""
    if judgment.path is None or not judgment.path.legs:
        return verdict(judgment)
    worst = min(judgment.path.legs, key=lambda leg: leg.level or 0)
    return "everything that is asked for is there" if worst.level == Grade.L4 else worst.reason


def tree(judgment: Judgment, other: WhatIf | None = None, asked: bool = False) -> Tree:
    """The path as a rich tree: a branch a leg, with its evidence below; notes, and what another rulebook would make."""
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
    for note in notes(judgment):
        root.add(Text(note, style="bold magenta"))
    if asked:
        branch = root.add(Text(f"what if: {_turn(other)}", style="bold cyan"))
        for change in other.changes if other else ():
            branch.add(Text(f"{change.before.demand.dimension}: {_ruling(change.before)} → {_ruling(change.after)}"))
    return root


def _ruling(leg: Leg) -> str:
    return f"{leg.level or '–'} {leg.rule_id or '–'}"


def _turn(other: WhatIf | None) -> str:
    """What another rulebook changes, in a few words."""
    if other is None:
        return "no path to grade"
    if other.before == other.grade:
        return f"{other.grade} as well" + (", by other rules" if other.changes else "")
    return f"{other.before or '–'} → {other.grade}"
