from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from lore_mm.errors import ConfigError, ModelError
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from lore_mm.models.chat import Token, Usage
from lore_mm.models.scripted_chat import Rule, ScriptedChat

SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"enum": ["green", "red", "blue", "not_stated"]},
        "material": {"type": "array", "items": {"enum": ["cotton", "wool"]}, "minItems": 1},
    },
    "required": ["color", "material"],
    "additionalProperties": False,
}
SCRIPT = """
[[rules]]
words = ["red", "dress"]
answer = { color = "red", material = ["wool", "cotton"], size = 3 }
confidence = { color = 0.6, default = 0.8 }
likelihoods = { yes = 0.7, no = 0.2 }
reply = "It is red."

[[rules]]
words = ["refused"]
error = "the picture was refused"
reply = "raw"

[[rules]]
words = ["half"]
cut = 0.5

[[rules]]
words = ["lawless"]
lawless = true
reply = "{\\"color\\": \\"beige\\"}"

[[rules]]
words = ["two pictures"]
pictures = 2
reply = "two"

[[rules]]
words = ["flaky"]
times = 2
dead = "out of memory"

[default]
answer = { color = "blue" }
reply = "I do not know."
"""


@pytest.fixture
def chat(tmp_path: Path) -> Chat:
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT)
    return open_chat(f"scripted:{path}")


def one(chat: Chat, *parts: Any, **settings: Any) -> ChatReply:
    (reply,) = chat.generate([ChatRequest(parts, **settings)])
    return reply


def test_the_first_rule_whose_words_stand_in_the_prompt_speaks(chat: Chat) -> None:
    asked = ("A RED cotton dress", "reddish dress", "red shoe")
    said = [json.loads(one(chat, text, json_schema=SCHEMA).text)["color"] for text in asked]
    assert said == ["red", "blue", "blue"]
    assert one(chat, "dress", system="All is red.").text == "It is red."
    assert one(chat, "shoe").text == "I do not know."


def test_a_picture_may_carry_a_word(chat: Chat) -> None:
    picture = Image.new("RGB", (4, 4))
    assert one(chat, picture, "dress").text == "I do not know."
    picture.info["word"] = "red"
    assert one(chat, picture, "dress").text == "It is red."


def test_rules_may_ask_for_a_number_of_pictures(chat: Chat) -> None:
    picture = Image.new("RGB", (4, 4))
    assert one(chat, picture, "two pictures").text == "I do not know."
    assert one(chat, picture, picture, "two pictures").text == "two"


def test_a_constrained_answer_obeys_whatever_the_script_says(chat: Chat) -> None:
    assert one(chat, "red dress", json_schema=SCHEMA).text == '{"color": "red", "material": ["wool", "cotton"]}'
    narrow = {**SCHEMA, "properties": {**SCHEMA["properties"], "color": {"enum": ["grey", "black"]}}}  # type: ignore[dict-item]
    assert one(chat, "red dress", json_schema=narrow).text == '{"color": "grey", "material": ["wool", "cotton"]}'
    assert one(chat, "red dress", json_schema={"enum": ["x", "y"]}).text == '"x"'


def test_tokens_carry_the_scripted_confidence(chat: Chat) -> None:
    reply = one(chat, "red dress", json_schema=SCHEMA, logprobs=True)
    doubt = [Token(token.text, round(math.exp(token.logprob), 6)) for token in reply.tokens if token.logprob]
    assert doubt == [Token("red", 0.6), Token("wool", 0.8), Token("cotton", 0.8)]
    assert "".join(token.text for token in reply.tokens) == reply.text
    assert one(chat, "red dress", json_schema=SCHEMA).tokens == ()
    free = one(chat, "red dress", logprobs=True)
    assert [token.text for token in free.tokens] == ["It", " is", " red", "."]
    assert sum(token.logprob for token in free.tokens) == pytest.approx(math.log(0.8))


def test_likelihoods_are_scripted_and_share_what_is_left(chat: Chat) -> None:
    reply = one(chat, "red dress", choices=("no", "yes", "perhaps", "never"))
    assert [math.exp(value) for value in reply.likelihoods] == pytest.approx([0.2, 0.7, 0.05, 0.05])
    assert reply.text == ""
    even = one(chat, "shoe", choices=("a", "b", "c", "d"))
    assert [math.exp(value) for value in even.likelihoods] == pytest.approx([0.25] * 4)


def test_usage_counts_words_and_pictures(chat: Chat) -> None:
    reply = one(chat, Image.new("RGB", (4, 4)), "A red dress.", system="Be short")
    assert reply.usage == Usage(calls=1, prompt_tokens=64 + 4 + 2, completion_tokens=4)


def test_faults(chat: Chat) -> None:
    refused = one(chat, "refused", json_schema=SCHEMA)
    assert (refused.error, refused.text, refused.finish) == ("the picture was refused", "raw", "error")
    half = one(chat, "half", json_schema=SCHEMA)
    assert half.error == "the reply broke off after 6 tokens"
    assert half.text == '{"color": "green", "material": '
    lawless = one(chat, "lawless", json_schema=SCHEMA)
    assert lawless.text == '{"color": "beige"}'
    assert lawless.error == "the reply breaks the schema: the reply: material missing"
    assert one(chat, "half of it", max_tokens=2).text == ""


def test_a_limit_of_tokens_cuts(chat: Chat) -> None:
    assert one(chat, "shoe", max_tokens=2) == ChatReply("I do", "length", usage=Usage(1, 1, 2))
    assert one(chat, "shoe", max_tokens=2, json_schema=SCHEMA).error == "the reply broke off after 2 tokens"


def test_an_engine_dies_as_often_as_the_script_says(chat: Chat) -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match="out of memory"):
            chat.generate([ChatRequest(("flaky",))])
    assert one(chat, "flaky").text == "I do not know."


def test_rules_may_be_given_in_python_and_requests_are_counted() -> None:
    chat = ScriptedChat([Rule(words=("a",), reply="b")])
    assert [reply.text for reply in chat.generate([ChatRequest(("a",)), ChatRequest(("c",))])] == ["b", ""]
    assert chat.requests == 2
    assert isinstance(chat, Chat)


def test_seeds_answer_at_random_but_always_alike() -> None:
    requests = [ChatRequest((f"item {i}",), json_schema=SCHEMA) for i in range(60)]
    first, again = open_chat("scripted:7").generate(requests), open_chat("scripted:7").generate(requests[::-1])[::-1]
    assert first == again
    values = [json.loads(reply.text) for reply in first]
    for value in values:
        jsonschema.validate(value, SCHEMA)
    assert {value["color"] for value in values} == {"green", "red", "blue", "not_stated"}
    other = open_chat("scripted:8").generate(requests)
    assert [reply.text for reply in other] != [reply.text for reply in first]


def test_a_seeded_answer_depends_on_pixels_and_where_it_is_warm_on_the_seed() -> None:
    chat = open_chat("scripted:1")
    free: dict[str, Any] = {"json_schema": {"type": "integer", "minimum": 0, "maximum": 10**6}}
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert one(chat, red, **free) == one(chat, red.copy(), **free) != one(chat, blue, **free)
    assert one(chat, "x", seed=1, **free) == one(chat, "x", seed=2, **free)
    warm = free | {"temperature": 1.0}
    assert one(chat, "x", seed=1, **warm) == one(chat, "x", seed=1, **warm) != one(chat, "x", seed=2, **warm)


def test_likelihoods_of_a_seed_sum_to_one() -> None:
    reply = one(open_chat("scripted:3"), "x", choices=("a", "b", "c"))
    assert sum(map(math.exp, reply.likelihoods)) == pytest.approx(1)
    assert len(set(reply.likelihoods)) > 1


def test_a_script_may_be_json_and_is_known_by_its_content(tmp_path: Path) -> None:
    path, other = tmp_path / "a.json", tmp_path / "b.toml"
    path.write_text('{"default": {"reply": "hm"}}')
    other.write_text('[default]\nreply = "hm"')
    assert one(open_chat(f"scripted:{path}"), "x").text == "hm"
    assert open_chat(f"scripted:{path}").sha == open_chat(f"scripted:{other}").sha != open_chat("scripted:0").sha


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[rules]]\nword = ['x']", "rules.0.word: Extra inputs are not permitted"),
        ("[default]\ncut = 2", "default.cut: Input should be less than or equal to 1"),
        ("[default]\nconfidence = 0.0", "default.confidence: 0.0 is no probability above 0"),
        ("[default]\nconfidence = { color = 1.5 }", "default.confidence: 1.5 is no probability"),
        ("[[rules]]\nlikelihoods = { a = 0.9, b = 0.9 }", "rules.0.likelihoods: probabilities above 0 whose sum"),
        ("[default]\nlawless = true", "default.lawless: it needs a reply"),
        ("[default", "script.toml: "),
    ],
)
def test_a_broken_script_is_one_line_that_names_the_place(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        open_chat(f"scripted:{path}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", "1.5", "."])
def test_neither_number_nor_file(name: str) -> None:
    with pytest.raises(ModelError, match="neither a whole number nor a file"):
        open_chat(f"scripted:{name}")
