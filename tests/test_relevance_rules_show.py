"""Run: pytest tests/test_relevance_rules_show.py

The rulebook shown: as rows, and as the page docs/rules.md, which is no other than the shipped rulebook.
"""

import json
import re
from pathlib import Path

import pytest

from lore_mm.errors import InputError
from relevance.relations import ANY, DIMENSIONS
from relevance.rules import DEFAULT_RULES, load_rulebook
from relevance.rules_show import describe, main, reference

BOOK = load_rulebook()
DOCS = Path(__file__).parent.parent / "docs"


def test_the_page_of_all_rules_is_the_shipped_rulebook():
    page = (DOCS / "rules.md").read_text(encoding="utf-8")
    assert page == reference(BOOK), "lore rules --markdown > docs/rules.md"


def test_every_rule_stands_on_the_page_once():
    page = reference(BOOK)
    for rule_id in BOOK.rules:
        assert page.count(f"| {rule_id} |") == 1
    assert all(f"## {dimension}\n" in page for dimension in (ANY, *DIMENSIONS))


def test_a_rule_as_data():
    rows = {row["rule"]: row for row in describe(BOOK, "color")}
    assert rows["color.share_half"] == {
        "rule": "color.share_half",
        "relation": "exact",
        "meaning": "the item has the very value that is demanded",
        "where": "deviation up to 0.5",
        "level": "L4",
        "says": "The colour covers at least half of the item.",
        "example": {
            "query": "black sneakers", "item": "Sneakers", "picture": {"black": 0.62, "white": 0.38}, "level": "L4",
        },
    }  # fmt: skip
    assert {row["rule"]: row["where"] for row in describe(BOOK, "brand")}[
        "brand.head_compatible"
    ] == "as the query's head"


def test_the_command_prints_the_rules_of_a_dimension_as_json_lines(capsys):
    main("price", json_wanted=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["rule"] for row in rows] == ["price.near", "price.far", "price.other_currency"]
    with pytest.raises(InputError, match="no dimension 'colr', did you mean 'color'"):
        main("colr")
    main(markdown=True)
    assert capsys.readouterr().out == reference(BOOK)


def test_the_seven_open_points_are_decided_in_the_rulebook_and_told_on_the_page():
    marked = re.findall(r"# decided (\d):", DEFAULT_RULES.read_text(encoding="utf-8"))
    assert sorted(marked) == list("1234567")
    page = (DOCS / "rulebook.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\d) \|", page, flags=re.MULTILINE)
    assert told == list("1234567")


def test_every_relation_and_rule_that_the_page_of_decisions_names_exists():
    page = (DOCS / "rulebook.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:any|exceptions|" + "|".join(DIMENSIONS) + r")\.\w+)`", page)
    known = {*BOOK.rules, *(f"exceptions.{name}" for name in BOOK.exceptions)}
    assert named and set(named) <= known, set(named) - known
