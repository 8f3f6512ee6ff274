"""A teacher: what its three steps are told, which samples are kept, and that no reply can bring it down."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extractors.given import Given
from extractors.protocol import ExtractorInput
from lore_mm.errors import ConfigError, ModelError, PictureError
from lore_mm.knowledge import load_knowledge
from lore_mm.models.chat import ChatReply
from lore_mm.models.json_reply import fault, spelled
from lore_mm.models.scripted_chat import Rule, ScriptedChat
from lore_mm.schema import load_schemas
from lore_mm.types import Demand, Evidence, Grade, Item, ItemFeatures, Query, Understanding
from relevance.chain import chain_of, read_chain, write_chain
from relevance.path_schema import LegKind
from relevance.rules import decide, load_rulebook
from relevance.training.teach_schema import evidence_schema, ruling_schema
from relevance.training.teacher import Teacher

KNOWLEDGE, RULES = load_knowledge(), load_rulebook()
L1, L2, L3, L4 = Grade
SHOES = Demand("category", "running shoes", "running_shoe", role="head")
BLACK = Demand("color", "black", "black")
CHEAP = Demand("price", "under 100", op="at_most", number=100.0)
GIVEN = Given(KNOWLEDGE, load_schemas())
ITEM = Item("i", "Freerun Running Shoe, Black", "A light shoe for the road.", price=89.0, currency="USD")
NONE = {"source": "none", "quote": "", "found": ""}
SHOE = {"source": "title", "quote": "Running Shoe", "found": "running shoe"}
COLOR = {"source": "title", "quote": "Black", "found": "black"}
EXACT = {"relation": "exact", "rule": "any.exact", "level": "L4"}
STATED = {"relation": "exact", "rule": "color.stated", "level": "L4"}
GOOD = {"category_1": SHOE, "color_2": COLOR}, {"category_1": EXACT, "color_2": STATED, "grade": "L4"}
NEAR = {"relation": "near", "rule": "color.near", "level": "L3"}


def asked(*demands, text="black running shoes"):
    return Understanding(Query("q", text), text, demands or (SHOES, BLACK))


def features(item=ITEM):
    (found,) = GIVEN.extract([ExtractorInput(item)])
    return ItemFeatures(item, found.attributes, input_sha="pixels")


class Says:
    """A chat model that gives each sample its evidence and its ruling: samples[n] = (evidence, ruling)."""

    name, sha = "says", "0"

    def __init__(self, *samples):
        self.samples, self.calls = list(samples), []

    def generate(self, requests):
        self.calls.append(list(requests))
        return [self.reply(request) for request in requests]

    def reply(self, request):
        step = "grade" in request.json_schema["properties"]
        said = self.samples[request.seed][step]
        return ChatReply(said if isinstance(said, str) else spelled(said))

    def close(self):
        """Nothing is held."""


def taught(*samples, label=L4, demands=(), item=None, **settings):
    """What becomes of one pair; the last of the samples is the hinted one where there is one more."""
    settings = {"samples": len(samples), "hints": False, **settings}
    teacher = Teacher(Says(*samples), KNOWLEDGE, RULES, **settings)
    (one,) = teacher.teach([(asked(*demands), item or features())], [label])
    assert one.samples == settings["samples"]
    return one, teacher


def chain(one):
    return write_chain(chain_of(one.judgment)).split("\n")


# -- the three steps ---------------------------------------------------------------------------------------------------


def test_a_sample_with_the_label_that_agrees_with_the_rules_is_the_chain():
    one, teacher = taught(GOOD, GOOD, GOOD)
    assert (one.error, one.right, one.hinted, one.outcomes) == (None, 3, False, {"kept": 3})
    head = '- category "running shoes" as "running_shoe" (head)'
    assert chain(one) == [
        "<think>",
        f'{head}: exact "running shoe" in title "Running Shoe" => L4 any.exact',
        '- color "black": exact "black" in title "Black" => L4 color.stated',
        "</think>",
        "grade L4",
    ]  # fmt: skip
    assert one.judgment.path.legs[1].evidence == (Evidence("title", "Black", 22, 27),)
    assert (one.judgment.mode, one.judgment.provenance.settings_sha) == ("teacher", teacher.sha)
    assert decide(one.judgment.path, RULES).grade == one.judgment.grade == L4
    evidence, ruling = teacher.chat.calls  # each step of all samples in one call
    assert [request.seed for request in evidence] == [request.seed for request in ruling] == [0, 1, 2]
    assert {request.temperature for request in evidence} == {0.7}
    assert list(evidence[0].json_schema["properties"]) == ["category_1", "color_2"]
    assert list(ruling[0].json_schema["properties"]) == ["category_1", "color_2", "grade"]


def test_the_label_is_told_in_no_step_and_rules_in_the_last_only():
    _, teacher = taught(GOOD, label=L4)
    (evidence,), (ruling,) = teacher.chat.calls
    assert "L4" not in evidence.system + evidence.parts[0] and "any.exact" not in evidence.parts[0]
    assert "People who know" not in evidence.parts[0] + ruling.parts[0]
    assert "exact L4 color.stated: " in ruling.parts[0]
    assert 'category_1: "running shoe" in "title", the words "Running Shoe"' in ruling.parts[0]
    assert ruling.parts[0].endswith("The ruling as JSON, keys category_1, color_2, grade:")


def test_numbers_are_settled_and_no_question_of_the_last_step():
    said = {"category_1": SHOE, "price_2": {"source": "given", "quote": "89 USD", "found": "89 USD"}}
    one, teacher = taught((said, {"category_1": EXACT, "grade": "L4"}), demands=(SHOES, CHEAP))
    assert one.judgment.grade == L4
    assert chain(one)[2] == '- price "under 100" as ?: within "89 USD" in given.price "89" off 0 => L4 any.within'
    (_,), (ruling,) = teacher.chat.calls
    assert list(ruling.json_schema["properties"]) == ["category_1", "grade"]
    assert 'price_2 price "under 100": the number is inside what is demanded, L4 by any.within' in ruling.parts[0]


def test_what_nobody_asked_for_is_settled_too():
    used = features(Item("i", "Used Freerun Running Shoe, Black"))
    one, teacher = taught((GOOD[0], {**GOOD[1], "grade": "L3"}), label=L3, item=used)
    assert [leg.relation for leg in one.judgment.path.legs] == ["exact", "exact", "second_rate"]
    (_,), (ruling,) = teacher.chat.calls
    assert 'special "nothing special": used, flawed' in ruling.parts[0]


def test_pictures_are_shown_where_evidence_is_looked_for_and_believed_there():
    picture = Image.new("RGB", (8, 8))
    bare = features(Item("i", "Freerun Running Shoe", images=("a.png",)))
    said = {"category_1": SHOE, "color_2": {"source": "image", "quote": "", "found": "black"}}
    one, teacher = taught((said, GOOD[1]), item=bare, pictures=lambda item: [picture, picture])
    (evidence,), (ruling,) = teacher.chat.calls
    assert (evidence.pictures, ruling.pictures) == ((picture,), ())
    assert chain(one)[2] == '- color "black": exact "black" in image:0 => L4 color.stated'
    blind, _ = taught((said, GOOD[1]), item=bare)
    assert blind.judgment is None  # nothing was shown: the color is not stated, and the grade not L4
    assert blind.error.startswith(
        "no sample agrees with the rulebook: 1 inconsistent; such as: color_2: unstated is L3"
    )


def test_a_picture_that_cannot_be_read_fails_the_pair_before_anything_is_asked():
    def broken(item):
        raise PictureError("no picture")

    teacher = Teacher(Says(), KNOWLEDGE, RULES, pictures=broken)
    (one,) = teacher.teach([(asked(), features(Item("i", "Shoe", images=("a.png",))))], [L4])
    assert (one.judgment, one.samples, one.error) == (None, 0, "its pictures cannot be read: no picture")
    assert teacher.chat.calls == []


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_the_shortest_of_the_kept_chains_is_the_pairs():
    long = {**GOOD[0], "category_1": {**SHOE, "found": "a running shoe for the road"}}
    one, _ = taught((long, GOOD[1]), GOOD, (long, GOOD[1]))
    assert '"running shoe" in title' in chain(one)[1]
    assert one.outcomes == {"kept": 3}


def test_a_sample_with_another_grade_is_wrong():
    other = {"category_1": EXACT, "color_2": {"relation": "other", "rule": "color.other", "level": "L2"}, "grade": "L2"}
    one, _ = taught((GOOD[0], other), GOOD, (GOOD[0], other))
    assert (one.judgment.grade, one.right, one.outcomes) == (L4, 1, {"wrong": 2, "kept": 1})
    lost, _ = taught((GOOD[0], other), (GOOD[0], other))
    assert (lost.judgment, lost.right) == (None, 0)
    assert lost.error == "no sample has the label: 2 wrong; such as: the grade L2 where the label is L4"


@pytest.mark.parametrize(
    ("color", "grade", "why"),
    [
        ({**STATED, "level": "L3"}, "L3", "color_2: exact is L4 by color.stated, not L3"),
        (
            {**STATED, "rule": "color.near"},
            "L3",
            "color_2: color.near is no rule for exact; legal: color.stated, color.sh",
        ),
        ({**STATED, "rule": ""}, "L3", "color_2: nothing is no rule for exact; legal: color.stated, color.share_some"),
        (STATED, "L3", "its grade is L3, and that of its path is L4"),
    ],
)
def test_a_ruling_that_is_not_the_rulebooks_is_inconsistent(color, grade, why):
    one, _ = taught((GOOD[0], {"category_1": EXACT, "color_2": color, "grade": grade}), label=L3)
    assert (one.judgment, one.right, one.outcomes) == (None, 1, {"inconsistent": 1})
    assert one.error.startswith(f"no sample agrees with the rulebook: 1 inconsistent; such as: {why}")


def test_words_that_the_item_does_not_have_are_gone_before_the_ruling():
    made_up = {**GOOD[0], "color_2": {"source": "title", "quote": "Midnight", "found": "midnight black"}}
    one, teacher = taught((made_up, {**GOOD[1], "color_2": NEAR, "grade": "L3"}), label=L3)
    assert "Midnight" not in teacher.chat.calls[1][0].parts[0]
    assert one.outcomes == {"kept": 1}  # near for nothing is read as unstated, which is L3 as well
    assert chain(one)[2] == '- color "black": unstated => L3 any.unstated'
    against = {"relation": "other", "rule": "color.other", "level": "L2"}
    lost, _ = taught((made_up, {**GOOD[1], "color_2": against, "grade": "L2"}), label=L2)
    assert lost.outcomes == {"ungrounded": 1}
    assert lost.error.endswith("it calls 'black' other and shows nothing for it")


def test_a_hint_is_given_once_and_where_nothing_else_is_kept():
    bad = (GOOD[0], {**GOOD[1], "grade": "L2"})
    one, teacher = taught(bad, bad, GOOD, samples=2, hints=True)
    assert (one.hinted, one.right, one.outcomes) == (True, 0, {"wrong": 2, "kept": 1})
    assert [len(call) for call in teacher.chat.calls] == [2, 2, 1, 1]
    told = [call[-1].parts[0] for call in teacher.chat.calls]
    assert ["grade this pair L4" in text for text in told] == [False, False, True, True]
    kept, teacher = taught(GOOD, bad, bad, samples=2, hints=True)
    assert (kept.hinted, len(teacher.chat.calls)) == (False, 2)
    lost, _ = taught(bad, bad, bad, samples=2, hints=True)
    assert (lost.hinted, lost.error.startswith("no sample has the label: 3 wrong")) == (False, True)


def test_each_sample_has_its_own_reading_of_the_query():
    calls = []

    def decode(queries):
        calls.append(queries)
        unread = Understanding(queries[0], "", (), status="failed", error="no JSON")
        return [(asked(SHOES), asked(), unread) for _ in queries]

    only = {"category_1": SHOE}, {"category_1": EXACT, "grade": "L4"}
    chat = Says(only, GOOD, None)
    teacher = Teacher(chat, KNOWLEDGE, RULES, decode, samples=3, hints=False)
    pairs = [(asked(), features()), (asked(), features(Item("j", "Freerun Running Shoe")))]
    one, other = teacher.teach(pairs, [L4, L1])
    assert calls == [[Query("q", "black running shoes")]]  # once for both
    assert (one.outcomes, len(chain(one))) == ({"kept": 2, "unreadable": 1}, 4)  # the shorter: one leg
    assert (other.outcomes, other.right) == ({"wrong": 2, "unreadable": 1}, 0)
    (evidence, _) = chat.calls
    assert [(len(one.json_schema["properties"]), one.seed) for one in evidence] == [(1, 0), (1, 0), (2, 1), (2, 1)]
    (unread,) = Teacher(chat, KNOWLEDGE, RULES, lambda queries: [[decode(queries)[0][2]]], samples=1).teach(
        pairs[:1], [L4]
    )
    assert unread.error.endswith("1 unreadable; such as: the query was not understood: no JSON")


def test_results_stand_in_the_order_of_the_pairs():
    pairs = [(asked(text=text), features()) for text in ("b", "a", "b", "a")]
    teacher = Teacher(Says(GOOD), KNOWLEDGE, RULES, samples=1, hints=False)
    made = teacher.teach(pairs, [L4, L3, L4, L4])
    assert [one.judgment and one.judgment.query for one in made] == ["b", None, "b", "a"]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "no JSON", "{}", '{"category_1": 3}', spelled({**GOOD[0], "more": 1})])
@pytest.mark.parametrize("step", [0, 1])
def test_a_reply_that_cannot_be_read_costs_one_sample(said, step):
    bad = (said, GOOD[1]) if step == 0 else (GOOD[0], said)
    one, _ = taught(bad, GOOD)
    assert one.outcomes == {"unreadable": 1, "kept": 1}
    lost, _ = taught(bad)
    assert lost.error.startswith(
        "no sample could be read: 1 unreadable; such as: the " + ("ruling" if step else "evid")
    )


def test_a_scripted_teacher_that_is_refused_cut_off_or_lawless():
    faults = [
        Rule(error="too long", times=1),
        Rule(cut=0.5, times=1),
        Rule(reply="<html>", lawless=True, times=1),
        Rule(words=("evidence",), answer=GOOD[0], confidence=1.0),
        Rule(words=("ruling",), answer=GOOD[1], confidence=1.0),
    ]
    chat = ScriptedChat(faults)
    teacher = Teacher(chat, KNOWLEDGE, RULES, samples=4)
    (one,) = teacher.teach([(asked(), features())], [L4])
    assert (one.outcomes, one.hinted) == ({"unreadable": 3, "kept": 1}, False)
    assert teacher.outcomes == Counter(unreadable=3, kept=1)
    assert chat.requests == teacher.usage.calls == 5  # four for evidence, one ruling
    assert teacher.usage.completion_tokens > 0


def test_a_dead_engine_ends_it():
    teacher = Teacher(ScriptedChat([Rule(dead="out of memory")]), KNOWLEDGE, RULES)
    with pytest.raises(ModelError, match="out of memory"):
        teacher.teach([(asked(), features())], [L4])


def test_replies_that_are_too_few_are_a_reason():
    class Short(Says):
        def generate(self, requests):
            return super().generate(requests)[:-1]

    (one,) = Teacher(Short(GOOD, GOOD), KNOWLEDGE, RULES, samples=2, hints=False).teach([(asked(), features())], [L4])
    assert "gave 1 replies for 2 requests" in one.error


def test_a_pair_with_nothing_to_judge_is_asked_about_by_nobody():
    teacher = Teacher(Says(), KNOWLEDGE, RULES, samples=2)
    empty = (asked(), ItemFeatures(Item("i", " ")))
    silent = (Understanding(Query("p", "…"), "…"), features())
    made = teacher.teach([empty, silent], [L4, L4])
    assert [one.outcomes for one in made] == [{"unreadable": 3}, {"unreadable": 3}]
    assert "the item has no words" in made[0].error and "names no demand" in made[1].error
    assert teacher.chat.calls == []


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("samples", 0, "samples: a whole number from 1 to 64, not 0"),
        ("temperature", 3, "temperature: a number from 0 to 2, not 3"),
        ("temperature", 0, "samples: at a temperature of 0 all of them are the same reply"),
        ("max_tokens", 0, "max_tokens: a whole number"),
    ],
)
def test_a_setting_out_of_bounds_is_named(setting, value, why):
    with pytest.raises(ConfigError, match=why):
        Teacher(Says(), KNOWLEDGE, RULES, **{setting: value})


def test_prompts_of_ones_own_are_held_to_their_variables(tmp_path):
    own = tmp_path / "teach_rules.jinja"
    own.write_text("{% block system %}s{% endblock %}{% block ask %}{{ labels }}{% endblock %}")
    with pytest.raises(ConfigError, match="unknown variable 'labels'"):
        Teacher(Says(), KNOWLEDGE, RULES, prompts=tmp_path)
    own.write_text("{% block system %}s{% endblock %}{% block ask %}Rule on {{ open }}{% endblock %}")
    _, teacher = taught(GOOD, prompts=tmp_path)
    assert teacher.chat.calls[1][0].parts[0].endswith("Rule on ['category_1', 'color_2']")
    assert teacher.sha != taught(GOOD)[1].sha


@given(st.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_whatever_a_lawful_teacher_says_what_is_kept_is_lawful(seed):
    teacher = Teacher(ScriptedChat(seed=seed), KNOWLEDGE, RULES, samples=4)
    pairs = [(asked(SHOES, BLACK, CHEAP), features())] * 2
    for label, one in zip((L4, L1), teacher.teach(pairs, [L4, L1]), strict=True):
        assert sum(one.outcomes.values()) == 4 + (one.judgment is None or one.hinted)
        if one.judgment:
            made = read_chain(write_chain(chain_of(one.judgment)))
            assert made.grade == label == decide(one.judgment.path, RULES).grade
        else:
            assert one.error


def test_the_schemas_of_two_steps_are_that_of_a_path_in_two():
    kinds = (LegKind("category"), LegKind("color", excluded=True), LegKind("price", numbered=True))
    evidence = evidence_schema(kinds)
    assert fault({"category_1": SHOE, "color_2": NONE, "price_3": NONE}, evidence) is None
    assert fault({"category_1": SHOE, "color_2": NONE}, evidence) == "the reply: price_3 missing"
    ruling = ruling_schema((("color_2", kinds[1]),))
    assert ruling["properties"]["color_2"]["properties"]["relation"]["enum"] == [
        "satisfied_negation", "negation_unstated", "violated_negation",
    ]  # fmt: skip
    assert ruling is ruling_schema((("color_2", kinds[1]),))
