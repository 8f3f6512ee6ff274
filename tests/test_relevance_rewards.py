"""Run: pytest tests/test_relevance_rewards.py

What a chain is worth: every reward by its value, probes that must not pay, and texts that mean harm.
"""

import json
import random
import time
from dataclasses import replace

import pytest

from lore_mm.errors import InputError
from lore_mm.types import Grade
from relevance.chain import needed, write_chain
from relevance.rules import load_rulebook
from relevance.training.probes import PROBES, balanced, probe
from relevance.training.rewards import REWARDS, Limits, Rewards, score, truth_of
from relevance.training.rows import chain_at, completion
from tests.chain_rows import ROWS, many, row

LIMITS = Limits(100)
BLUE, NAVY, BLACK, SOFA = ROWS
HOODIE = '- category "hoodie" (head): exact "hoodie" in title "Hoodie" => L4'
OTHER = '- color "blue": other "black" in title "Black" => L2'
WEIGHTS = {"level": 0.6, "side": 0.2, "legs": 0.2, "grounded": 0.1, "length": 0.1, "overlong": 0.5}


def chain(grade, *legs):
    return "\n".join(["<think>", *legs, "</think>", f"grade {grade}"])


def scored(of, text, length=20, limits=LIMITS, order="think_first"):
    return score(text, length, truth_of(of), limits, load_rulebook(), order)


def nothing(found):
    return all(value == 0 for value in found.values())


@pytest.mark.parametrize("of", ROWS, ids=lambda one: one.item_id)
@pytest.mark.parametrize("cite", [True, False])
def test_a_reference_chain_gets_everything(of, cite):
    found = scored(of, completion(of, cite=cite))
    assert found == {name: 1.0 for name in REWARDS} | {"length": 0.8, "overlong": 0.0}


@pytest.mark.parametrize("of", ROWS, ids=lambda one: one.item_id)
def test_what_the_grade_does_not_rest_on_may_be_left_out(of):
    found = scored(of, write_chain(needed(chain_at(of))))
    assert (found["legs"], found["grounded"], found["level"]) == (1.0, 1.0, 1.0)


def test_a_demand_that_is_needed_may_not():
    found = scored(BLUE, chain("L4", HOODIE))  # the colour is forgotten
    assert (found["level"], found["legs"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("grade", "level", "side"), [("L1 [category]", 0, 1), ("L2 [color]", 1, 1), ("L3", 0, 0), ("L4", 0, 0)]
)
def test_level_and_side(grade, level, side):
    found = scored(BLACK, chain(grade, HOODIE, OTHER))
    assert (found["format"], found["level"], found["side"]) == (1, level, side)
    assert found["legs"] == level  # the legs are right, but do not lead to another verdict
    assert found["length"] == 0.8 * level


@pytest.mark.parametrize(
    ("legs", "worth"),
    [
        ((HOODIE, OTHER), 1.0),
        ((OTHER,), 1.0),
        ((HOODIE, OTHER.replace("other", "unstated")), 0.0),  # unstated is L3: the verdict does not follow
        ((HOODIE, OTHER.replace("=> L2", "=> L1")), 0.0),  # half of the legs, and none that is needed
        ((OTHER, OTHER), 0.0),
        ((HOODIE.replace("L4", "L3"), OTHER), 0.5),  # a level that the rulebook does not give
        ((HOODIE + " color.other", OTHER), 0.5),  # a rule that does not decide it
        ((HOODIE + " any.exact", OTHER), 1.0),
        ((OTHER, '- brand "acme": brand_other "x" in title "Black" => L2'), 0.0),  # fails on what it does not name
        ((OTHER, '- style "boho": exact "black" in title "Black" => L4'), 0.5),  # nobody asked for it
        ((OTHER.replace(":", " (wish):", 1),), 0.0),  # a wish is no worse than L3
        ((HOODIE, OTHER.replace("other", "deviates", 1).replace("color", "price", 1)), 0.0),
    ],
)
def test_legs(legs, worth):
    assert scored(BLACK, chain("L2 [color]", *legs))["legs"] == pytest.approx(worth)


def test_failed_dimensions_are_those_of_the_legs_or_of_the_reference():
    both = '- category "hoodie" (head): unrelated "sofa" in title "Sofa" => L1'
    for failed, worth in (("[category]", 1), ("[category, color]", 1), ("[color]", 0), ("[category, brand]", 0)):
        assert scored(SOFA, chain(f"L1 {failed}", both))["legs"] == worth
    assert scored(SOFA, chain("L1", both))["legs"] == 0


def test_people_may_know_better_than_the_reference():
    """The rules say L2; people said L3: another reading of the colour is no fault then."""
    kind = replace(BLACK, label=3, label_by="people", failed=())
    near = '- color "blue": near "black" in title "Black" => L3'
    assert scored(kind, chain("L3", HOODIE, near))["legs"] == 1
    assert scored(kind, chain("L3", HOODIE, OTHER))["legs"] == 0  # but these legs do not lead there
    assert scored(kind, chain("L2 [color]", HOODIE, OTHER))["level"] == 0


def test_a_row_without_reference():
    bare = replace(BLACK, reference="", rules="", failed=())
    assert scored(bare, chain("L2 [color]", HOODIE, OTHER))["legs"] == 1
    assert scored(bare, chain("L2 [color]", HOODIE.replace("hoodie", "jacket"), OTHER))["legs"] == 0.5


def test_an_exception_counts_where_its_other_leg_was_left_out():
    """The rulebook softens a leg for the sake of another: the reference's level of it stays legal without that one."""
    kitty = '- ip "hello kitty": exact "hello kitty" in title "Hello Kitty" => L4'
    plate = '- category "mug" (head): unrelated "plate" in title "Plate" => L2'
    soft = row("hello kitty mug", "plate", "Hello Kitty Plate", 2, [kitty, plate], ["category"])
    assert [scored(soft, chain("L2 [category]", *legs))["legs"] for legs in ((kitty, plate), (plate,))] == [1, 1]
    assert scored(replace(soft, reference=""), chain("L2 [category]", plate))["legs"] == 0


@pytest.mark.parametrize(
    ("leg", "worth"),
    [
        (OTHER, 1.0),
        (OTHER.replace('in title "Black"', 'in title "BLACK  hoodie"'), 1.0),
        (OTHER.replace('in title "Black"', 'in title "Bla"'), 0.5),  # a part of a word
        (OTHER.replace('in title "Black"', 'in title "Red"'), 0.5),
        (OTHER.replace('in title "Black"', 'in given.color "black"'), 1.0),
        (OTHER.replace('in title "Black"', 'in dream "black"'), 0.5),
        (OTHER.replace('in title "Black"', 'in title "!!"'), 0.5),
        (OTHER.replace('in title "Black"', 'in title "black…hoodie"'), 1.0),
        (OTHER.replace(' in title "Black"', " in title"), 0.5),
        (OTHER.replace(' in title "Black"', ""), 0.5),
        (OTHER.replace(' "black" in title "Black"', ""), 0.5),  # a claim without any words
        (OTHER.replace('"black" in title "Black"', '"green" in title "Hoodie"'), 0.5),  # words of something else
        (OTHER.replace('"black" in title "Black"', '"black" in image:0'), 0.5),  # there is no picture
    ],
)
def test_grounded(leg, worth):
    assert scored(BLACK, chain("L2 [color]", HOODIE, leg))["grounded"] == worth


def test_evidence_of_a_picture_needs_a_picture():
    seen = chain("L2 [color]", OTHER.replace('in title "Black"', "in image:0 off 0.2"))
    told = replace(BLACK, item_told='title: "Hoodie"\n- "color": "black" ("image:0", 0.9)')
    assert [scored(one, seen)["grounded"] for one in (BLACK, replace(BLACK, pictures=("a.jpg",)), told)] == [0, 1, 1]


def test_a_chain_without_claims_is_grounded_only_where_there_is_nothing_to_claim():
    silent = '- color "blue": unstated => L3'
    assert scored(BLACK, chain("L3", silent))["grounded"] == 0
    plain = row("blue hoodie", "plain", "Hoodie", 3, [HOODIE, silent])
    assert scored(plain, chain("L3", silent)) == {name: 1.0 for name in REWARDS} | {"length": 0.8, "overlong": 0.0}


@pytest.mark.parametrize(
    ("length", "limits", "short", "over"),
    [(0, LIMITS, 1, 0), (25, LIMITS, 0.75, 0), (100, LIMITS, 0, 0), (500, LIMITS, 0, 0), (80, Limits(100, 20), 0.2, 0),
     (90, Limits(100, 20), 0.1, -0.5), (100, Limits(100, 20), 0, -1), (500, Limits(100, 20), 0, -1)],
)  # fmt: skip
def test_lengths(length, limits, short, over):
    found = scored(BLUE, completion(BLUE), length, limits)
    assert (found["length"], found["overlong"]) == (pytest.approx(short), pytest.approx(over))
    assert scored(BLUE, "no chain", length, limits) == dict.fromkeys(REWARDS, 0.0) | {"overlong": pytest.approx(over)}


def test_the_order_and_the_depth_that_are_trained():
    first = completion(BLUE, order="answer_first")
    assert nothing(scored(BLUE, first))
    assert scored(BLUE, first, order="answer_first")["format"] == 1
    assert nothing(scored(BLUE, completion(BLUE), order="answer_first"))
    assert nothing(scored(BLUE, chain("L4", '- category "hoodie" (head)')))  # no more than the demands


@pytest.mark.parametrize(
    "text",
    ["", "\n\n\n", "grade L4", "<think>\n</think>\ngrade L4", chain("L5", HOODIE), chain("L4", HOODIE) + "\n",
     chain("L4", HOODIE) + "\ngrade L4", chain("no grade: x", HOODIE), chain("L4 score 0.5", HOODIE), "\x00" * 9,
     chain("L4", '- price "9" as ?: deviates off nan => L4'),
     chain("L4", HOODIE.replace('"hoodie"', '"\\ud800"', 1)[:-3]), "<think>" * 5000, '"' * 20_000,
     chain("L4", '- price "9" as ?: deviates off 1e999 => L4')],
)  # fmt: skip
def test_what_is_no_chain_gets_nothing_and_breaks_nothing(text):
    found = scored(BLUE, text)
    assert found["format"] == 0 or found["legs"] == 0
    assert all(0 <= value <= 1 for value in found.values())


def test_spoilt_chains_break_nothing():
    """Random edits of a chain: every reward stays in its range."""
    chance, text = random.Random(0), completion(SOFA, cite=True)
    pieces = ['"', "\\", " => ", "L1", "\n", "off 1e9", "nan", " (wish)", " as ?", "\ud800", "…", ":", "image:0", "é"]
    for _ in range(3000):
        spoilt = list(text)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(spoilt))
            spoilt[at : at + chance.randint(0, 8)] = chance.choice(pieces)
        found = scored(SOFA, "".join(spoilt))
        assert all(0 <= value <= 1 for value in found.values())
        assert found["format"] or nothing(found)


def test_functions_for_a_trainer():
    rewards = Rewards(ROWS, LIMITS)
    functions = rewards.functions()
    assert [one.__name__ for one in functions] == list(REWARDS)
    said = [[{"role": "assistant", "content": completion(BLACK)}], [{"role": "assistant", "content": completion(BLUE)}]]
    columns = {"prompts": ["", ""], "completion_ids": [[1] * 20, [1] * 50], "row": [2, 2], "log_metric": print}
    values = {one.__name__: one(completions=said, **columns) for one in functions}
    assert values["level"] == [1, 0]
    assert values["length"] == [0.8, 0]
    assert functions[1](completions=[completion(BLACK)], completion_ids=[[1]], row=[2]) == [1]


def test_a_bad_reference_is_told():
    with pytest.raises(InputError, match="line 2"):
        Rewards([replace(BLUE, reference="- colour nothing")], LIMITS)


def test_probes_do_not_pay():
    """No way to answer without reading the pair comes near an honest chain."""
    found = {one.name: one for one in probe(many(40), WEIGHTS, LIMITS)}
    honest = found.pop("honest, whole chain").total
    shorter = found.pop("honest, what is needed").total
    assert 1.1 < honest < shorter < 1.2
    assert set(found) == set(PROBES)
    assert all(one.total < 0.6 * honest for one in found.values()), {n: o.total for n, o in found.items()}
    assert found["always L1"].rewards["level"] == pytest.approx(0.25)
    assert found["empty path, right grade"].total == 0
    assert found["a leg twice"].rewards["format"] == 0


def test_balanced():
    kept = balanced([*many(8), *many(4)[:1]])
    assert sorted(one.label for one in kept) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert balanced([]) == []
    assert [one.item_id for one in balanced(many(40), 1)] != [one.item_id for one in balanced(many(40), 2)]


def test_thousands_a_second():
    rows = many(400)
    said = [completion(one) for one in rows]
    rewards = Rewards(rows, LIMITS)
    before = time.perf_counter()
    for place, text in enumerate(said):
        rewards.of(place, text, 20)
    assert time.perf_counter() - before < 0.4  # measured: 0.07 s


def test_json_strings_of_any_kind_stay_in_time():
    long = json.dumps("ab " * 4000)
    before = time.perf_counter()
    scored(BLUE, chain("L4", f"- color {long}: exact {long[:10]}"))
    assert time.perf_counter() - before < 0.2
    assert Grade.L4 == 4
