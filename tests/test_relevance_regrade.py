"""Run: pytest tests/test_relevance_regrade.py

Regrading whole columns gives what `decide` gives path by path, on random paths under random rulebooks; broken rows.
"""

import math
import tomllib
from copy import deepcopy
from functools import lru_cache

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import TableError
from lore_mm.rows import judgment_from_row, judgments_table
from lore_mm.tables import JUDGMENTS
from lore_mm.types import Demand, Evidence, Grade, Judgment, Leg, MatchPath, Provenance
from relevance.regrade import regrade
from relevance.relations import DIMENSIONS, LEGAL
from relevance.rules import DEFAULT_RULES, Rule, Rulebook, _File, decide, load_rulebook

BOOK = load_rulebook()
SHIPPED = tomllib.loads(DEFAULT_RULES.read_text(encoding="utf-8"))
LEVELS = st.sampled_from(list(Grade.__members__))
# what conditions of the shipped rules speak of, and what none does
NAMES = sorted({name for rule in BOOK.rules.values() for name in rule.attributes})
VALUES = sorted({name for rule in BOOK.rules.values() for name in rule.values})
AT_THRESHOLDS = sorted({x for rule in BOOK.rules.values() for x in (rule.up_to, rule.beyond) if x is not None})
NEAR_THRESHOLDS = [x + by for x in AT_THRESHOLDS for by in (-1e-6, -1e-12, 0, 1e-12, 1e-9, 2e-9, 1e-6)]


@st.composite
def rulebooks(draw):
    """The shipped rulebook with other levels, settings, order of exceptions and one exception more."""
    raw = deepcopy(SHIPPED)
    raw["settings"] = {"soft_floor": draw(LEVELS), "spread": draw(st.floats(0.05, 1.0))}
    some = draw(st.lists(st.sampled_from(sorted(BOOK.rules)), max_size=12, unique=True))
    for rule_id in some:
        dimension, name = rule_id.split(".")
        rule = raw["rules"][dimension][name]
        rule["level"] = rule["example"]["level"] = draw(LEVELS)
    leg, unless = draw(st.lists(st.sampled_from(DIMENSIONS), min_size=2, max_size=2, unique=True))
    at = draw(st.sampled_from([Grade.L1, Grade.L2, Grade.L3]))
    more = deepcopy(raw["exceptions"]["ip_on_other_goods"]) | {
        "leg": leg, "at": str(at), "unless": unless, "at_least": draw(LEVELS), "becomes": str(Grade(at + 1)),
    }  # fmt: skip
    more["example"]["level"] = str(Grade(at + 1))
    exceptions = [*raw["exceptions"].items(), ("more", more)]
    raw["exceptions"] = dict(draw(st.permutations(exceptions)))
    return Rulebook(_File.model_validate(raw), "random")


confidences = st.floats(0, 1) | st.sampled_from([0.0, 1.0, -0.5, 1.5])
deviations = st.none() | st.floats(0, 3) | st.sampled_from([*NEAR_THRESHOLDS, math.inf, math.nan, -1.0])
some_legs = st.sampled_from(DIMENSIONS).flatmap(
    lambda dimension: st.builds(
        Leg,
        demand=st.builds(
            Demand,
            st.just(dimension),
            st.just("x"),
            canonical=st.none() | st.sampled_from([*VALUES, "nothing a rule names", ""]),
            role=st.sampled_from(["head", "modifier"]),
            strictness=st.sampled_from(["hard", "soft"]),
            polarity=st.sampled_from([1, -1]),
            confidence=confidences,
        ),
        attribute=st.sampled_from([*NAMES, dimension, ""]),
        relation=st.sampled_from(LEGAL[dimension]),
        found=st.lists(st.text(max_size=3), max_size=2).map(tuple),
        evidence=st.lists(st.builds(Evidence, st.just("title"), quote=st.text(max_size=3)), max_size=2).map(tuple),
        confidence=confidences,
        deviation=deviations,
        level=st.none() | st.sampled_from(Grade),
        rule_id=st.none() | st.just("old.rule"),
        reason=st.text(max_size=5),
    )
)
some_paths = st.lists(st.lists(some_legs, min_size=1, max_size=6).map(tuple), max_size=8)


def judged(*paths):
    """A judgment a path, with what an earlier rulebook made of it."""
    return [
        Judgment(
            "q", str(i), Grade.L3, "words", (0.1, 0.2, 0.3, 0.4), 0.5, MatchPath("q", str(i), legs), ("color",),
            ("old.rule",), Grade.L1, (Grade.L2, Grade.L4), "reason", provenance=Provenance("run", "maker", "in", "set"),
        )
        for i, legs in enumerate(paths)
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(rulebooks(), some_paths)
def test_regrading_is_deciding(rulebook, paths):
    before = judged(*paths)
    table = judgments_table(before)
    result = regrade(table, rulebook)
    assert result.rows.schema == JUDGMENTS and result.refused == {}
    after = [judgment_from_row(row) for row in result.rows.to_pylist()]
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        decision = decide(old.path, rulebook)
        assert new.grade == decision.grade
        assert new.rule_ids == decision.rule_ids
        assert new.failed_dimensions == decision.failed_dimensions
        assert repr(new.path) == repr(decision.path)  # levels, rules and all else; nan is nan
        assert new.probabilities == pytest.approx(decision.probabilities, abs=1e-12, rel=0)
        assert new.score == pytest.approx(decision.score, abs=1e-12, rel=0)
        assert new.samples == ()  # their paths are not kept
    untouched = [name for name in JUDGMENTS.names if name not in CHANGED]
    assert result.rows.select(untouched).equals(table.select(untouched))


CHANGED = ("grade", "probabilities", "score", "legs", "failed_dimensions", "rule_ids", "samples")


@settings(max_examples=30, deadline=None)
@given(some_paths, st.integers(1, 4))
def test_pieces_and_slices_change_nothing(paths, size):
    table = judgments_table(judged((leg("color", "exact"),), *paths))
    whole = regrade(table, BOOK).rows
    parts = [regrade(table.slice(start, size), BOOK).rows for start in range(0, table.num_rows, size)]
    assert repr(pa.concat_tables(parts).to_pylist()) == repr(whole.to_pylist())
    chunked = pa.concat_tables([table.slice(start, size) for start in range(0, table.num_rows, size)])
    assert repr(regrade(chunked, BOOK).rows.to_pylist()) == repr(whole.to_pylist())


def leg(dimension, relation, **values):
    return Leg(Demand(dimension, "x", "x"), dimension, relation, **values)


def test_what_cannot_be_graded_is_refused_and_the_others_are_not_touched_by_it():
    good = (leg("category", "exact"), leg("color", "near"))
    paths = [good, (), (leg("color", "hyponym"),), (leg("nonsense", "exact"), good[0]), good,
             (leg("color", "near", confidence=math.nan),)]  # fmt: skip
    result = regrade(judgments_table(judged(*paths)), BOOK)
    assert result.refused == {
        1: "a path without legs has no grade",
        2: "no rule for relation 'hyponym' in dimension 'color'",
        3: "no rule for relation 'exact' in dimension 'nonsense'",
        5: "the confidence of a leg is no number",
    }
    rows = result.rows.to_pylist()
    assert [row["grade"] for row in rows] == ["L3", None, None, None, "L3", None]
    for i in result.refused:
        assert (rows[i]["probabilities"], rows[i]["score"]) == (None, None)
        assert (rows[i]["failed_dimensions"], rows[i]["rule_ids"]) == ([], [])
        assert all((one["level"], one["rule_id"]) == (None, None) for one in rows[i]["legs"])
    assert [one["relation"] for one in rows[3]["legs"]] == ["exact", "exact"]
    assert [rows[0][name] for name in CHANGED] == [rows[4][name] for name in CHANGED]


def test_missing_legs_and_numbers_are_refused_too():
    row = judgments_table(judged((leg("color", "exact"),))).to_pylist()[0]
    blank = [{**row["legs"][0], "confidence": None}, {**row["legs"][0], "demand": None}]
    rows = [
        {**row, "legs": None},
        {**row, "legs": [blank[0]]},
        {**row, "legs": [blank[1]]},
        {**row, "legs": [None]},
        row,
    ]
    result = regrade(pa.Table.from_pylist(rows, JUDGMENTS), BOOK)
    assert list(result.refused) == [0, 1, 2, 3]
    assert result.rows.column("grade").to_pylist() == [None, None, None, None, "L4"]


def test_no_rows_and_another_table():
    empty = JUDGMENTS.empty_table()
    assert regrade(empty, BOOK).rows.equals(empty)
    with pytest.raises(TableError, match="regrade: missing column 'legs'"):
        regrade(empty.drop_columns(["legs"]), BOOK)


def test_a_rules_conditions_are_those_that_legs_are_told_apart_by():
    """A condition that is added to a rule must be added to `relevance.regrade` as well."""
    assert set(Rule.model_fields) - {"relation", "level", "says", "example"} == {
        "up_to", "beyond", "attributes", "values", "role",
    }  # fmt: skip


@lru_cache
def many():
    return judgments_table(judged(*[(leg("color", "exact"),) * n for n in range(1, 60)]))


def test_a_long_path_of_one_and_the_same_rule_names_it_once():
    rows = regrade(many(), BOOK).rows
    assert set(map(tuple, rows.column("rule_ids").to_pylist())) == {("color.stated",)}
    assert set(rows.column("grade").to_pylist()) == {"L4"}
