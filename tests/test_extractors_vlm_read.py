"""Reading replies: places, likelihoods, and whatever a stranger may send."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.vlm_read import ReplyError, parse_reply, read_answer
from lore_mm.attribute import AttributeSpec
from lore_mm.models.chat import ChatReply, Token

FIT = AttributeSpec(name="fit", dimension="style_detail", ask="?", values={"slim": ("tight",), "so-so": ()})
COLOR = AttributeSpec(name="color", dimension="color", ask="?", multi=True, values={"red": (), "weiß": ()})
LENGTH = AttributeSpec(name="length", dimension="spec", ask="?", type="number", unit="cm", minimum=0)
NOTE = AttributeSpec(name="note", dimension="spec", ask="?", type="text")
NEW = AttributeSpec(name="new", dimension="special", ask="?", type="flag")
SPECS = (FIT, COLOR, LENGTH, NOTE, NEW)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(), one, max_size=3))


def reply(value):
    return parse_reply(ChatReply(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


def read(spec, value):
    return [(r.status, r.value, r.number) for r in read_answer(spec, reply({spec.name: value}))]


@given(st.dictionaries(st.text(max_size=8), values, max_size=5), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_spans_hold_the_values_however_the_json_is_laid_out(said, indent, ascii_only):
    text = json.dumps(said, indent=indent, ensure_ascii=ascii_only)
    answers = reply(text).answers
    assert list(answers) == list(said)
    for key, answer in answers.items():
        expected = said[key] if isinstance(said[key], list) else [said[key]]
        assert list(answer.values) == expected
        for i, (start, end) in enumerate(answer.spans):
            piece = text[start:end]
            if i == 0 and isinstance(said[key], list):
                assert piece[0] == "["
                piece = piece[1:]
            assert json.loads(piece) == expected[i]


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_reply_error(data):
    for text in (data.decode("utf-8", "replace"), data.decode("latin-1"), '{"fit": ' + data.decode("latin-1")):
        try:
            parsed = reply(text)
        except ReplyError as error:
            assert str(error)
        else:
            for spec in SPECS:
                assert read_answer(spec, parsed)


@given(values)
def test_any_json_for_any_attribute_gives_at_least_one_storable_reading(value):
    for spec in SPECS:
        for one in read_answer(spec, reply({spec.name: value})):
            assert (one.value is None) == (one.status != "value")
            assert one.status != "failed" or one.error
            (one.value or "").encode("utf-8")
            assert 0 <= one.confidence <= 1


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        (FIT, "Tight", [("value", "slim", None)]),
        (FIT, ["so so"], [("value", "so-so", None)]),
        (FIT, "Not Stated", [("not_stated", None, None)]),
        (COLOR, "weiß", [("value", "weiß", None)]),
        (COLOR, ["red", "red", "WEISS"], [("value", "red", None), ("value", "weiß", None)]),
        (COLOR, ["not_stated", "red"], [("value", "red", None)]),
        (COLOR, ["not_applicable"], [("not_applicable", None, None)]),
        (LENGTH, 12.5, [("value", "12.5 cm", 12.5)]),
        (LENGTH, "1 m", [("value", "100 cm", 100.0)]),
        (NOTE, " hand\nmade\ud800 ", [("value", "hand made", None)]),
        (NEW, True, [("value", "yes", None)]),
        (NEW, "no", [("value", "no", None)]),
    ],
)
def test_values_in_the_words_of_the_schema(spec, value, expected):
    text = json.dumps({spec.name: value})
    assert [(r.status, r.value, r.number) for r in read_answer(spec, reply(text))] == expected


@pytest.mark.parametrize(
    ("spec", "value", "error"),
    [
        (FIT, ["slim", "so-so"], "fit: 2 values where 1 may stand"),
        (FIT, [], "fit: an empty list"),
        (FIT, None, "fit: null is no answer"),
        (FIT, {"value": "slim"}, "fit: dict is no answer"),
        (COLOR, ["red"] * 33, "color: 33 values where 32 may stand"),
        (LENGTH, True, "length: 'True' is not a number"),
        (LENGTH, -1, "length: -1 is outside 0 to inf cm"),
        (NOTE, "x" * 500, "note: a text has 1 to 200 characters, this has 500"),
        (NEW, "maybe", "new: 'maybe' is not legal; legal values: yes, no"),
    ],
)
def test_what_is_not_legal_is_a_failed_reading_with_its_reason(spec, value, error):
    (one,) = read_answer(spec, reply({spec.name: value}))
    assert (one.status, one.error, one.confidence) == ("failed", error, 0.0)


def test_a_key_that_is_missing():
    (one,) = read_answer(FIT, reply({"color": ["red"]}))
    assert one.error == "fit: not answered"


def test_a_fence_is_taken_off_and_nothing_else():
    assert read_answer(FIT, reply('```json\n{"fit": "slim"}\n```\n'))[0].value == "slim"
    for text in ('Sure! {"fit": "slim"}', '{"fit": "slim"} I hope this helps', '{"fit": "slim"}{}', "{'fit': 'slim'}"):
        with pytest.raises(ReplyError, match="no legal JSON"):
            reply(text)


def test_tokens_that_do_not_spell_the_reply_measure_nothing():
    text = '{"fit": "slim"}'
    broken = ChatReply(text, tokens=(Token("{", -1.0), Token("\ufffd", -1.0)))
    assert read_answer(FIT, parse_reply(broken))[0].confidence == 0.5
    sure = ChatReply(text, tokens=(Token('{"fit": ', -3.0), Token('"slim"', 0.0), Token("}", -3.0)))
    assert read_answer(FIT, parse_reply(sure))[0].confidence == 1.0
    wrong = ChatReply(text, tokens=(Token('{"fit": "slim"}', 0.7),))  # a probability above 1
    assert read_answer(FIT, parse_reply(wrong))[0].confidence == 1.0
    never = ChatReply(text, tokens=(Token('{"fit": "slim"}', float("-inf")),))
    assert read_answer(FIT, parse_reply(never))[0].confidence == 0.0
