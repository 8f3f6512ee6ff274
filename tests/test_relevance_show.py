"""Run: pytest tests/test_relevance_show.py

What is shown of judgments: versions in every JSON line, other words of a model, and what another rulebook would make.
"""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from lore_mm import __version__
from lore_mm.types import Demand, Grade, Judgment, Leg, MatchPath, Query
from relevance.protocol import failed_judgment
from relevance.rules import DEFAULT_RULES, decide, load_rulebook
from relevance.show import json_row, notes, table, tree, versions_of
from relevance.what_if import path_grade, what_if

BOOK = load_rulebook()


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """The shipped rules, but a neighbouring colour breaks the demand."""
    text = DEFAULT_RULES.read_text(encoding="utf-8")
    start = text.index("[rules.color.near]")
    end = text.index("[rules", start + 1)
    file = tmp_path_factory.mktemp("rules") / "strict.toml"
    file.write_text(text[:start] + text[start:end].replace('"L3"', '"L2"') + text[end:], encoding="utf-8")
    return load_rulebook(file)


def leg(dimension, relation, value, reason):
    return Leg(Demand(dimension, value, value), dimension, relation, reason=reason)


def judged(**values):
    legs = (leg("category", "exact", "shoes", "a shoe"), leg("color", "near", "black", "nearly black"))
    decision = decide(MatchPath("q", "i", legs), BOOK)
    return replace(
        Judgment("q", "i", decision.grade, "black shoes", decision.probabilities, decision.score, decision.path,
                 decision.failed_dimensions, decision.rule_ids),
        **values,
    )  # fmt: skip


def printed(renderable):
    console = Console(width=160, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def test_a_judgment_of_one_mind_has_no_notes():
    assert notes(judged()) == []
    assert notes(judged(said=Grade.L3, samples=(Grade.L3, Grade.L3))) == []
    assert notes(failed_judgment(Query("q", "x"), "i", "why")) == []


@pytest.mark.parametrize(
    "values, note",
    [
        ({"said": Grade.L4}, "the model itself said L4"),
        ({"samples": (Grade.L3, Grade.L4, Grade.L3)}, "its answers differ: 1 × L4, 2 × L3"),
        ({"mode": "direct", "grade": Grade.L4}, "the rules alone make L3 of this path"),
        ({"mode": "student", "grade": Grade.L1}, "the rules alone make L3 of this path"),
    ],
)
def test_another_word_is_seen_in_the_table_the_tree_and_json(values, note):
    judgment = judged(**values)
    assert notes(judgment) == [note]
    assert note in printed(table([judgment])) and note in printed(tree(judgment))
    assert json_row(judgment, {})["notes"] == [note]
    assert json_row(judgment, {})["path_grade"] == "L3"


def test_every_json_line_says_what_judged_it_and_stays_small():
    parts = {"knowledge": "0123456789abcdef" * 4, "model": "f" * 64}
    versions = versions_of(SimpleNamespace(name="direct:hf:tiny", versions=parts))
    assert versions == {
        "lore_mm": __version__, "judge": "direct:hf:tiny", "knowledge": "0123456789ab", "model": "f" * 12,
    }  # fmt: skip
    for judgment in (judged(), failed_judgment(Query("q", "x"), "i", "why")):
        row = json_row(judgment, versions)
        assert row["versions"] == versions
        assert list(row)[:4] == ["query", "item_id", "grade", "score"] and "path" not in row and "what_if" not in row
    assert len(json.dumps(versions)) < 200
    assert json_row(judged(), versions, explain=True)["path"].startswith('query "black shoes"\nitem "i"\n- category')


def test_what_if_tells_the_grades_and_the_rules_that_differ(strict):
    other = what_if(judged(), strict)
    assert (other.before, other.grade, other.failed_dimensions) == (Grade.L3, Grade.L2, ("color",))
    [change] = other.changes
    assert (change.before.rule_id, change.before.level) == ("color.near", Grade.L3)
    assert (change.after.rule_id, change.after.level) == ("color.near", Grade.L2)
    assert json_row(judged(), {}, other=other, asked=True)["what_if"] == {
        "rulebook": strict.sha[:12],
        "from": "L3",
        "grade": "L2",
        "score": other.score,
        "failed_dimensions": ["color"],
        "legs": [
            {
                "dimension": "color",
                "demand": "black",
                "relation": "near",
                "from": {"level": "L3", "rule_id": "color.near"},
                "to": {"level": "L2", "rule_id": "color.near"},
            }
        ],
    }
    shown = printed(tree(judged(), other, asked=True))
    assert "what if: L3 → L2" in shown and "color: L3 color.near → L2 color.near" in shown
    assert "L3 → L2" in printed(table([judged()], [other]))


def test_what_if_of_a_models_own_grade_compares_what_the_rules_make(strict):
    own = judged(mode="student", grade=Grade.L4)
    assert (what_if(own, strict).before, what_if(own, strict).grade) == (Grade.L3, Grade.L2)


def test_what_if_nothing_differs_or_there_is_no_path(strict):
    same = what_if(judged(), BOOK)
    assert (same.before, same.grade, same.changes) == (Grade.L3, Grade.L3, ())
    assert "what if: L3 as well" in printed(tree(judged(), same, asked=True))
    failed = failed_judgment(Query("q", "x"), "i", "why")
    assert what_if(failed, strict) is None and path_grade(failed) is None
    assert json_row(failed, {}, asked=True)["what_if"] is None
    assert "no path to grade" in printed(tree(failed, None, asked=True))


def test_a_hostile_title_is_text_in_the_table():
    judgment = judged(item_id="[red]x[/red]", query="[b]q[/b]")
    assert "[red]x[/red]" in printed(table([judgment])) and "[b]q[/b]" in printed(table([judgment]))
