"""Run: pytest tests/test_relevance_paths.py

The grammar of readable paths: what is rendered is parsed to the same text and the same grade, everything else is
refused with the place and what is legal there.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError
from lore_mm.types import Demand, Evidence, Grade, Judgment, Leg, MatchPath
from relevance.paths import LONGEST, parse, render
from relevance.relations import DIMENSIONS, LEGAL
from relevance.rules import decide, load_rulebook

BOOK = load_rulebook()
STRANGE = ["", "?", " as ?", '"', "\\", " | ", " => L4", "\n", "\u2028x\x85", "a\tb", "grade L4", "\ud800", "{{ x }}"]
texts = st.text(max_size=8) | st.sampled_from(STRANGE)
numbers = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 0.1, 1 - 0.62, 1 / 3, 1e-7, 1e300])
evidence = st.builds(
    Evidence, source=st.sampled_from(["title", "text", "image:0", "given.color", "given.Farbe (außen)"]) | texts,
    quote=st.none() | texts,
)  # fmt: skip
legs = st.sampled_from(DIMENSIONS).flatmap(
    lambda dimension: st.builds(
        Leg,
        demand=st.builds(
            Demand,
            st.just(dimension),
            value=texts,
            canonical=st.none() | texts | st.just("cashmere"),
            polarity=st.sampled_from([1, -1]),
            strictness=st.sampled_from(["hard", "soft"]),
            role=st.sampled_from(["head", "modifier"]),
            confidence=st.floats(0, 1),
        ),
        attribute=st.sampled_from([dimension, "screen_size", "storage"]) | texts,
        relation=st.sampled_from(LEGAL[dimension]),
        found=st.lists(texts, max_size=3).map(tuple),
        evidence=st.lists(evidence, max_size=2).map(tuple),
        confidence=st.floats(0, 1),
        deviation=numbers,
        level=st.none() | st.sampled_from(Grade),
        rule_id=st.none() | st.sampled_from(["any.exact", "color.my own rule"]) | texts,
        reason=texts,
    )
)
judgments = st.builds(
    Judgment,
    query_id=texts,
    item_id=texts,
    grade=st.none() | st.sampled_from(Grade),
    query=texts,
    score=numbers,
    path=st.none() | st.builds(MatchPath, st.just("q"), st.just("i"), st.lists(legs, max_size=4).map(tuple)),
    failed_dimensions=st.lists(st.sampled_from(DIMENSIONS), max_size=3).map(tuple),
    said=st.none() | st.sampled_from(Grade),
    samples=st.lists(st.sampled_from(Grade), max_size=4).map(tuple),
    error=st.none() | texts,
)


@settings(max_examples=300, deadline=None)
@given(judgments)
def test_what_is_rendered_is_read_back_to_the_same_text(judgment):
    text = render(judgment)
    again = parse(text)
    assert render(again) == text
    n_legs = len(judgment.path.legs) if judgment.path else 0
    assert len(text.splitlines()) == 3 + n_legs + bool(judgment.said) + bool(judgment.samples)
    assert (again.query, again.item_id, again.grade) == (judgment.query, judgment.item_id, judgment.grade)
    assert (again.said, again.samples) == (judgment.said, judgment.samples)
    if judgment.grade is not None:
        assert (again.failed_dimensions, again.error, again.status) == (judgment.failed_dimensions, None, "ok")
    kept = ("dimension", "value", "canonical", "polarity", "strictness", "role")
    for old, new in zip(
        judgment.path.legs if judgment.path else (), again.path.legs if again.path else (), strict=True
    ):
        assert [getattr(old.demand, name) for name in kept] == [getattr(new.demand, name) for name in kept]
        assert (old.attribute, old.relation, old.found) == (new.attribute, new.relation, new.found)
        assert (old.level, old.rule_id) == (new.level, new.rule_id)
        assert old.deviation is None or new.deviation == pytest.approx(old.deviation, rel=1e-8, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(legs, min_size=1, max_size=4), st.lists(st.integers(0, 30_000), min_size=4, max_size=4))
def test_a_path_read_back_gets_the_same_grade_by_the_same_rules(some, deviations):
    """Deviations to nine digits: those at a ten-thousandth are exact."""
    some = [replace(one, deviation=one.deviation and n / 10_000) for one, n in zip(some, deviations, strict=False)]
    decision = decide(MatchPath("", "i", tuple(some)), BOOK)
    judgment = Judgment("", "i", decision.grade, path=decision.path, failed_dimensions=decision.failed_dimensions)
    again = decide(parse(render(judgment)).path, BOOK)
    assert (again.grade, again.rule_ids) == (decision.grade, decision.rule_ids)
    assert (again.failed_dimensions, [one.level for one in again.path.legs]) == (
        decision.failed_dimensions, [one.level for one in decision.path.legs],
    )  # fmt: skip


PATH = """\
query "black 14 inch laptop"
item "x1"
- category "laptop" (head): exact "laptop" in title "Laptop" => L4 any.exact | asks for laptop; it is one
- spec/screen_size "14 inch" (wish): deviates "13.5" in "given.Bild schirm" "13.5" off 0.0357142857 => L3 spec.screen
- color no "black" as ?: words_none | nothing
said L3
samples L3 L4
grade L2 [color, price] score 0.402"""


def test_the_grammar():
    judgment = parse(PATH)
    assert (judgment.query, judgment.item_id, judgment.grade, judgment.score) == (
        "black 14 inch laptop", "x1", Grade.L2, 0.402,
    )  # fmt: skip
    assert (judgment.said, judgment.samples) == (Grade.L3, (Grade.L3, Grade.L4))
    assert judgment.failed_dimensions == ("color", "price")
    head, spec, color = judgment.path.legs
    assert head == Leg(
        Demand("category", "laptop", "laptop", role="head"), "category", "exact", ("laptop",),
        (Evidence("title", "Laptop"),), level=Grade.L4, rule_id="any.exact", reason="asks for laptop; it is one",
    )  # fmt: skip
    assert (spec.attribute, spec.demand.strictness, spec.deviation) == ("screen_size", "soft", 0.0357142857)
    assert spec.evidence == (Evidence("given.Bild schirm", "13.5"),)
    assert (color.demand.polarity, color.demand.canonical, color.level, color.rule_id) == (-1, None, None, None)
    failed = parse('query "a"\nitem "b"\nno grade: no such item')
    assert (failed.grade, failed.status, failed.error, failed.path) == (None, "failed", "no such item", None)


@pytest.mark.parametrize(
    "old, new, error",
    [
        ('query "black 14', "query black 14", "line 1, character 7: legal here: a text in double quotes, not 'black"),
        ('item "x1"', 'itm "x1"', "line 2, character 1: legal here: 'item ', not 'itm \"x1\"'"),
        ("- category", "- catgory", "line 3, character 3: no dimension 'catgory', did you mean 'category'?; legal: "),
        (": exact", ": exactly", "line 3, character 29: no relation of category 'exactly', did you mean 'exact'?"),
        ("color no", "color not", "line 5, character 9: legal here: a text in double quotes, not 'not \"black\""),
        ("words_none", "near", None),
        ("words_none", "deviates", "line 5, character 26: no relation of color 'deviates'; legal: exact"),
        ("=> L4", "=> L5", "line 3, character 65: no level 'L5'; legal: L1, L2, L3, L4"),
        ("off 0.0357142857", "off a lot", "line 4, character 88: legal here: a number, not 'a lot => L3"),
        ("off 0.0357142857", "off 0.0357142857000", "line 4, character 100: not as it is written; legal here: ' => L3"),
        ("[color, price]", "[color, prise]", "line 8, character 18: no dimension 'prise', did you mean 'price'?"),
        ("score 0.402", "score 0.4020", "line 8, character 36: not as it is written; legal here: the end of the line"),
        ("score 0.402", "score 0.402 or L4", "line 8, character 36: legal here: the end of the line, not ' or L4'"),
        ("said L3", "said L3 L4", "line 6, character 8: legal here: the end of the line, not ' L4'"),
        ("grade L2", "Grade: L2", "line 8, character 1: legal here: 'grade ' or 'no grade: ', not 'Grade: L2"),
        ("| nothing", "| nothing\r", "line 5, character 46: not as it is written"),
        ('"x1"', '"x1', "line 2, character 6: no JSON string: Unterminated string starting at"),
        ('"x1"', '"\\u0078\\u0031"', "line 2, character 7: not as it is written; legal here: 'x1\"'"),
        ("samples L3 L4\n", "samples L3 L4\n\n", "line 6, character 1: legal here: '- ', not 'said L3'"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_grammar_is_refused_with_its_place(old, new, error):
    assert old in PATH
    text = PATH.replace(old, new, 1)
    if error is None:
        assert render(parse(text)) == text
        return
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"path, {error}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "\n\n", "L4", 'query "a"\nitem "b"', PATH + "\n", " " + PATH, PATH * 2])
def test_pieces_and_more_than_a_path_are_refused(text):
    with pytest.raises(InputError, match=r"^path, line \d+, character \d+: "):
        parse(text)


@pytest.mark.parametrize(
    "piece",
    ['- color "a": exact "a"', '"', "\\", "[" * 50, "- " * 30, 'x"' * 30, "a" * 500, '- color "a": exact' + ' ""' * 200,
     "grade L4 [" + "color, " * 60, "\n", "é\u2028"],
)  # fmt: skip
def test_hostile_texts_are_refused(piece):
    """A megabyte each: what took more than time in proportion to the length would not end."""
    hostile = 'query "a"\nitem "b"\n' + piece * (LONGEST // len(piece) - 10)
    with pytest.raises(InputError):
        parse(hostile)
    with pytest.raises(InputError, match="characters, the limit is"):
        parse("x" * (LONGEST + 1))


@given(st.text(alphabet='-"Lg4 aqueryitmcolr:x=>|\n[],.0', max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        assert render(parse(text)) == text
    except InputError as error:
        assert "\n" not in str(error)
