"""Run: pytest tests/test_relevance_rules.py

The rulebook: loading, its errors, and `decide` as a pure function. That each rule's example reaches its rule is tested
in test_relevance_examples.py, over the real knowledge tables.
"""

import math
import tomllib
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import ConfigError
from lore_mm.types import Demand, Evidence, Grade, Leg, MatchPath
from relevance.relations import ANY, DIMENSIONS, LEGAL, RELATIONS
from relevance.rules import DEFAULT_RULES, decide, load_rulebook

BOOK = load_rulebook()


def leg(dimension, relation, confidence=1.0, deviation=None, attribute=None, **demand):
    wanted = Demand(dimension, "x", canonical=demand.pop("canonical", "x"), **demand)
    return Leg(wanted, attribute or dimension, relation, confidence=confidence, deviation=deviation)


def path(*legs):
    return MatchPath("q", "i", tuple(legs))


def level(*args, **kwargs):
    decision = decide(path(leg(*args, **kwargs)), BOOK)
    return str(decision.grade), decision.path.legs[0].rule_id


# ------------------------------------------------------------------------------------------------------------- default


def test_the_18_dimensions_are_those_of_the_schema_in_its_order():
    from lore_mm.schema import load_dimensions

    assert tuple(load_dimensions()) == DIMENSIONS
    assert len(DIMENSIONS) == 18


def test_every_legal_relation_has_a_meaning_and_every_meaning_a_dimension():
    assert {r for legal in LEGAL.values() for r in legal} == set(RELATIONS)


@pytest.mark.parametrize("dimension, relation", [(d, r) for d, legal in LEGAL.items() for r in legal])
def test_every_legal_relation_gets_a_level_with_and_without_a_deviation(dimension, relation):
    for deviation in (None, 0.0, 0.07, 0.3, 0.7, 0.95, 20.0, math.inf):
        decision = decide(path(leg(dimension, relation, deviation=deviation)), BOOK)
        rule_id = decision.path.legs[0].rule_id
        assert rule_id.split(".")[0] in (dimension, ANY)
        assert BOOK.rules[rule_id].relation == relation
        assert decision.grade == BOOK.rules[rule_id].level


@pytest.mark.parametrize(
    "arguments, expected",
    [
        # colour by the share of the item it does not cover
        ({"deviation": 1 - 0.62}, ("L4", "color.share_half")),
        ({"deviation": 1 - 0.5}, ("L4", "color.share_half")),
        ({"deviation": 1 - 0.49}, ("L3", "color.share_some")),
        ({"deviation": 1 - 0.2}, ("L3", "color.share_some")),
        ({"deviation": 1 - 0.19}, ("L2", "color.share_small")),
        ({}, ("L4", "color.stated")),
    ],
)
def test_color_bands(arguments, expected):
    assert level("color", "exact", **arguments) == expected


@pytest.mark.parametrize(
    "have, limit, expected",
    [(108, 100, "L3"), (110, 100, "L3"), (111, 100, "L2"), (45, 50, "L3"), (55, 50, "L3"), (44, 50, "L2")],
)
def test_price_band_is_ten_percent_either_way(have, limit, expected):
    assert level("price", "deviates", deviation=abs(have - limit) / limit)[0] == expected


@pytest.mark.parametrize(
    "attribute, deviation, expected",
    [
        ("screen_size", 0.05, ("L3", "spec.screen")),
        ("screen_size", 0.06, ("L2", "spec.screen_far")),
        ("length", 0.1, ("L3", "spec.tolerance")),
        ("length", 0.11, ("L2", "spec.far")),
        ("storage", 0.01, ("L2", "spec.fixed")),
        ("voltage", 0.01, ("L2", "spec.fixed")),
    ],
)
def test_spec_tolerance_depends_on_the_attribute(attribute, deviation, expected):
    assert level("spec", "deviates", attribute=attribute, deviation=deviation) == expected


@pytest.mark.parametrize(
    "canonical, share, expected",
    [
        ("cotton", 0.95, ("L4", "material.pure")),
        ("cotton", 0.90, ("L3", "material.pure_nearly")),
        ("cotton", 0.89, ("L2", "material.pure_not")),
        ("silk", 0.90, ("L4", "material.pure_silk")),
        ("silk", 0.89, ("L2", "material.pure_not")),
        ("cashmere", 0.50, ("L4", "material.pure_cashmere")),
    ],
)
def test_purity_depends_on_the_material(canonical, share, expected):
    assert level("material", "pure", canonical=canonical, deviation=1 - share) == expected


# -------------------------------------------------------------------------------------------------------------- decide


def test_the_worst_leg_is_the_grade_and_names_its_dimension():
    decision = decide(path(leg("category", "exact"), leg("color", "other"), leg("price", "within")), BOOK)
    assert decision.grade is Grade.L2
    assert decision.failed_dimensions == ("color",)
    assert decision.rule_ids == ("any.exact", "color.other", "any.within")


def test_an_unrelated_head_is_l1_whatever_else_fits():
    decision = decide(path(leg("category", "unrelated", role="head"), leg("color", "exact")), BOOK)
    assert decision.grade is Grade.L1
    assert decision.failed_dimensions == ("category",)


def test_a_soft_demand_is_never_worse_than_the_floor():
    broken = leg("material", "other", strictness="soft")
    decision = decide(path(leg("category", "exact"), broken), BOOK)
    assert decision.grade is Grade.L3 and decision.failed_dimensions == ()
    assert decision.path.legs[1].rule_id == "material.other"


def test_the_right_character_on_other_goods_is_l2():
    legs = (leg("category", "unrelated", role="head"), leg("ip", "exact"))
    decision = decide(path(*legs), BOOK)
    assert decision.grade is Grade.L2
    assert decision.rule_ids == ("category.unrelated", "any.exact", "exceptions.ip_on_other_goods")
    assert decide(path(legs[0], leg("ip", "other")), BOOK).grade is Grade.L1


def test_a_path_without_legs_and_an_unknown_relation_are_refused():
    with pytest.raises(ValueError, match="without legs"):
        decide(path(), BOOK)
    with pytest.raises(ValueError, match="no rule for relation 'hyponym' in dimension 'color'"):
        decide(path(leg("color", "hyponym")), BOOK)


def test_probabilities_of_one_leg_spread_its_doubt_by_halves():
    # at L4 with confidence 0.79: 0.21 of doubt in the proportion 1/2 : 1/4 : 1/8 over L3, L2, L1
    p = decide(path(leg("color", "exact", confidence=0.79)), BOOK).probabilities
    assert p == pytest.approx((0.21 * 1 / 7, 0.21 * 2 / 7, 0.21 * 4 / 7, 0.79))


def test_probabilities_are_the_distribution_of_the_minimum():
    legs = [leg("category", "exact", 0.9), leg("color", "near", 0.7), leg("price", "deviates", 0.8, deviation=0.5)]
    decision = decide(path(*legs), BOOK)
    single = [decide(path(one), BOOK).probabilities for one in legs]
    slow = [0.0] * 4
    for levels in product(range(4), repeat=3):  # every combination of levels, by hand
        slow[min(levels)] += math.prod(p[k] for p, k in zip(single, levels, strict=True))
    assert decision.probabilities == pytest.approx(slow)
    assert decision.score == pytest.approx(sum((k + 1) * p for k, p in enumerate(slow)) / 3 - 1 / 3)


def test_a_soft_leg_puts_no_probability_below_its_floor():
    p = decide(path(leg("color", "other", confidence=0.6, strictness="soft")), BOOK).probabilities
    assert p[0] == p[1] == 0.0 and sum(p) == pytest.approx(1.0)


def test_a_modifier_that_is_perhaps_not_meant_constrains_only_as_far_as_it_is_there():
    # a demand in doubt by half, and broken beyond doubt where it is there: half the time all is well
    half = leg("color", "other", confidence=0.5 * 1.0)
    half = replace(half, demand=replace(half.demand, confidence=0.5))
    decision = decide(path(half), BOOK)
    assert decision.probabilities == pytest.approx((0.0, 0.5, 0.0, 0.5))
    assert decision.grade is Grade.L2
    # a head in doubt leaves the level in doubt
    head = replace(half, demand=replace(half.demand, role="head"))
    assert decide(path(head), BOOK).probabilities == pytest.approx((0.2, 0.5, 0.2, 0.1))


RELATIONS_OF = {d: sorted(legal) for d, legal in LEGAL.items()}
any_leg = st.sampled_from(DIMENSIONS).flatmap(
    lambda d: st.builds(
        leg,
        st.just(d),
        st.sampled_from(RELATIONS_OF[d]),
        confidence=st.floats(0, 1),
        deviation=st.none() | st.floats(0, 3),
        strictness=st.sampled_from(["hard", "soft"]),
        role=st.sampled_from(["head", "modifier"]),
    )
)


@given(st.lists(any_leg, min_size=1, max_size=6))
def test_probabilities_sum_to_one_and_score_lies_between_0_and_1(legs):
    decision = decide(path(*legs), BOOK)
    assert sum(decision.probabilities) == pytest.approx(1.0)
    assert all(p >= -1e-12 for p in decision.probabilities)
    assert -1e-9 <= decision.score <= 1 + 1e-9
    assert [one.relation for one in decision.path.legs] == [one.relation for one in legs]


@settings(max_examples=300)
@given(st.lists(any_leg, min_size=1, max_size=5), st.data())
def test_a_worse_leg_never_gives_a_better_grade(legs, data):
    place = data.draw(st.integers(0, len(legs) - 1))
    old = legs[place]
    relation = data.draw(st.sampled_from(RELATIONS_OF[old.demand.dimension]))
    new = replace(old, relation=relation, deviation=data.draw(st.none() | st.floats(0, 3)))
    before, after = BOOK.rule_for(old)[1].level, BOOK.rule_for(new)[1].level
    changed = decide(path(*legs[:place], new, *legs[place + 1 :]), BOOK).grade
    grade = decide(path(*legs), BOOK).grade
    assert changed <= grade if after <= before else changed >= grade


@given(st.lists(any_leg, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_legs_changes_nothing(legs, random):
    shuffled = random.sample(legs, len(legs))
    one, other = decide(path(*legs), BOOK), decide(path(*shuffled), BOOK)
    assert one.grade == other.grade
    assert one.probabilities == pytest.approx(other.probabilities) and one.score == pytest.approx(other.score)
    assert set(one.failed_dimensions) == set(other.failed_dimensions)
    assert set(one.rule_ids) == set(other.rule_ids)


@given(st.lists(any_leg, min_size=1, max_size=5), st.text(max_size=9), st.sampled_from([None, *Grade]))
def test_a_grade_is_a_function_of_the_path_and_the_rulebook_alone(legs, text, stale):
    """What a reader is told, where it was read and what an earlier rulebook made of it are no arguments."""
    told = [
        replace(one, level=stale, rule_id=text, reason=text, found=(text,), evidence=(Evidence("title", text),))
        for one in legs
    ]
    plain = decide(path(*legs), BOOK)
    for again in (decide(path(*legs), BOOK), decide(path(*told), BOOK), decide(plain.path, BOOK)):
        assert (again.grade, again.probabilities, again.score) == (plain.grade, plain.probabilities, plain.score)
        assert (again.failed_dimensions, again.rule_ids) == (plain.failed_dimensions, plain.rule_ids)
        assert [one.level for one in again.path.legs] == [one.level for one in plain.path.legs]


def tails(probabilities):
    """P(at least L2), P(at least L3), P(L4)."""
    return [sum(probabilities[k:]) for k in (1, 2, 3)]


@given(st.lists(any_leg, min_size=1, max_size=5), any_leg)
def test_one_more_demand_never_makes_a_level_likelier(legs, more):
    fewer, all_of_them = decide(path(*legs), BOOK), decide(path(*legs, more), BOOK)
    if all_of_them.rule_ids[-1].startswith("exceptions.") != fewer.rule_ids[-1].startswith("exceptions."):
        return  # the new leg is what an exception waited for
    assert all(a <= f + 1e-9 for a, f in zip(tails(all_of_them.probabilities), tails(fewer.probabilities), strict=True))


@settings(max_examples=300)
@given(st.lists(any_leg, min_size=1, max_size=4), st.floats(0.3, 1), st.data())
def test_a_worse_level_never_makes_a_grade_likelier(legs, confidence, data):
    """For a leg that is found with a confidence of 2/7 and more; what is surer to be wrong than right says less."""
    place = data.draw(st.integers(0, len(legs) - 1))
    legs[place] = old = replace(legs[place], confidence=confidence)
    relation = data.draw(st.sampled_from(RELATIONS_OF[old.demand.dimension]))
    new = replace(old, relation=relation)
    before, after = BOOK.rule_for(old)[1].level, BOOK.rule_for(new)[1].level
    worse, better = (new, old) if after <= before else (old, new)
    one = decide(path(*legs[:place], worse, *legs[place + 1 :]), BOOK).probabilities
    other = decide(path(*legs[:place], better, *legs[place + 1 :]), BOOK).probabilities
    assert all(a <= b + 1e-9 for a, b in zip(tails(one), tails(other), strict=True))


@pytest.mark.parametrize("relation, at", [("exact", 3), ("near", 2)])
def test_the_surer_a_leg_the_likelier_its_level(relation, at):
    legs = [leg("style", relation, confidence=c / 10) for c in range(11)]
    likely = [decide(path(one), BOOK).probabilities[at] for one in legs]
    assert likely == sorted(likely) and likely[0] == 0.0 and likely[-1] == 1.0


# -------------------------------------------------------------------------------------------------------------- loader


def written(tmp_path, change):
    text = DEFAULT_RULES.read_text(encoding="utf-8")
    file = tmp_path / "rules.toml"
    file.write_text(change(text), encoding="utf-8")
    return file


WRONG = {
    "a relation that is none": (
        'relation = "unrelated"',
        'relation = "unrelatd"',
        r"\[rules.category.unrelated\] unknown relation 'unrelatd', did you mean 'unrelated'\?; legal relations: exact",
    ),
    "a level that is none": (
        'soft_floor = "L3"',
        'soft_floor = "L5"',
        r"\[settings.soft_floor\] 'L5' is not a level; legal levels: L1, L2, L3, L4",
    ),
    "a dimension that is none": (
        "[rules.brand.brand_other]",
        "[rules.brnad.brand_other]",
        r"\[rules.brnad\] unknown dimension, did you mean 'brand'\?; legal: category, ",
    ),
    "an unknown key at the top": (
        'version = "1"',
        'version = "1"\nversoin = 1',
        r"\[versoin\] unknown key, did you mean 'version'\?; legal keys: exceptions, rules, settings, version",
    ),
    "an unknown key of a rule": (
        "up_to = 0.05",
        "up_t = 0.05",
        r"\[rules.material.pure.up_t\] unknown key, did you mean 'up_to'\?",
    ),
    "an exception that hardens": (
        'at = "L1"',
        'at = "L3"',
        r"\[exceptions.ip_on_other_goods\] may soften L3 by one level only, not to L2",
    ),
    "a relation without a rule": (
        '[rules.price.far]\nrelation = "deviates"',
        '[rules.price.far]\nrelation = "within"',
        r"\[rules.price\] has no rule without conditions for 'deviates'",
    ),
    "a rule behind one that takes all": (
        '[rules.price.near]\nrelation = "deviates"\nup_to = 0.1',
        '[rules.price.near]\nrelation = "deviates"',
        r"\[rules.price.far\] is never reached: \[rules.price.near\] takes all",
    ),
    "an exception on an unknown dimension": (
        'unless = "ip"',
        'unless = "ipp"',
        r"\[exceptions.ip_on_other_goods\] unknown dimension 'ipp', did you mean 'ip'\?",
    ),
    "a number out of range": (
        "spread = 0.5 ",
        "spread = 1.5 ",
        r"\[settings.spread\] Input should be less than or equal to 1",
    ),
    "no TOML": ("[settings]", "[settings", r"rules.toml: "),
}


@pytest.mark.parametrize("old, new, message", WRONG.values(), ids=WRONG)
def test_a_wrong_rulebook_is_one_line_that_names_file_place_and_what_is_legal(tmp_path, old, new, message):
    file = written(tmp_path, lambda text: text.replace(old, new, 1))
    assert file.read_text(encoding="utf-8") != DEFAULT_RULES.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_rulebook(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_an_example_that_disagrees_with_its_rule_is_refused(tmp_path):
    line = 'example = { query = "laptop", item = "Leather Sofa", level = "L1" }'
    file = written(tmp_path, lambda text: text.replace(line, line.replace('"L1"', '"L2"')))
    with pytest.raises(ConfigError, match=r"\[rules.category.unrelated\] its example says L2, the rule gives L1"):
        load_rulebook(file)


def test_a_missing_rulebook_is_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_rulebook(tmp_path / "none.toml")


def test_the_sha_follows_the_content_and_not_the_layout(tmp_path):
    same = written(tmp_path, lambda text: "# a comment\n" + text)
    assert load_rulebook(same).sha == BOOK.sha
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", lambda text: text.replace("up_to = 0.05", "up_to = 0.06", 1))
    assert load_rulebook(other).sha != BOOK.sha


def test_a_changed_rule_changes_the_grade_of_the_same_path(tmp_path):
    file = written(
        tmp_path,
        lambda text: text.replace('relation = "unstated"\nlevel = "L3"\nsays = "The item\'s brand',
                                  'relation = "unstated"\nlevel = "L2"\nsays = "The item\'s brand').replace(
            'item = "Football", level = "L3"', 'item = "Football", level = "L2"'),
    )  # fmt: skip
    one = path(leg("brand", "unstated"))
    assert (decide(one, BOOK).grade, decide(one, load_rulebook(file)).grade) == (Grade.L3, Grade.L2)


def test_every_rule_says_something_and_has_an_example():
    raw = tomllib.loads(DEFAULT_RULES.read_text(encoding="utf-8"))
    assert len(BOOK.rules) == sum(len(rules) for rules in raw["rules"].values())
    for rule_id, rule in BOOK.rules.items():
        assert rule.says.endswith("."), rule_id
        assert rule.example.query and rule.example.item, rule_id
