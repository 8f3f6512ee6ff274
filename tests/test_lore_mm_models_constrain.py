"""llguidance behind Grammars and Constraint: random walks through legal tokens, no model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lore_mm.errors import ConfigError
from lore_mm.models.constrain import Constraint, Grammars, one_spelling

pytest.importorskip("llguidance", reason="needs the extra hf")

printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
scalars = st.one_of(printable, st.integers(-1000, 1000), st.booleans(), st.none())


def objects(values: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(printable, values, min_size=1, max_size=4).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )


leaves = st.one_of(
    st.builds(lambda values: {"enum": values}, st.lists(scalars, min_size=1, max_size=5, unique_by=json.dumps)),
    st.builds(lambda value: {"const": value}, scalars),
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 6)),
    st.builds(
        lambda low, n: {"type": "integer", "minimum": low, "maximum": low + n}, st.integers(1, 99), st.integers(0, 9)
    ),
    st.just({"type": "boolean"}),
    st.just({"type": ["null", "string"], "maxLength": 3}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        objects(inner),
        st.builds(lambda items, n: {"type": "array", "items": items, "maxItems": n}, inner, st.integers(0, 3)),
        st.builds(lambda *some: {"anyOf": list(some)}, inner, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def tokenizer(tiny_vlm_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_vlm_folder)


@pytest.fixture(scope="module")
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, len(tokenizer) + 40, [tokenizer.eos_token_id, tokenizer.pad_token_id])


def legal(constraint: Constraint, row: int = 0) -> list[int]:
    flags = np.unpackbits(constraint.legal_bits().view(np.uint8), axis=1, bitorder="little")[row]
    return np.flatnonzero(flags).tolist()


def walk(grammars: Grammars, tokenizer: Any, schema: Any, seed: int) -> str:
    """A reply of random legal tokens."""
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    constraint = Constraint([grammars.matcher(schema)], grammars.vocabulary, sorted(ends))
    draw, ids = random.Random(seed), []
    for _ in range(2000):
        token = draw.choice(legal(constraint))
        constraint.follow([token])
        if token in ends:
            assert constraint.complete(0)
            return tokenizer.decode(ids)
        ids.append(token)
    raise AssertionError("it never ended")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=schemas, seed=st.integers(0, 10**6))
def test_any_walk_obeys_the_schema_and_has_one_spelling(
    grammars: Grammars, tokenizer: Any, schema: Any, seed: int
) -> None:
    text = walk(grammars, tokenizer, schema, seed)
    value = json.loads(text)
    jsonschema.validate(value, schema)
    assert json.dumps(value, ensure_ascii=False) == text


def test_a_thousand_values_each_remain_possible(grammars: Grammars, tokenizer: Any) -> None:
    values = [f"value {i * 7919 % 1000}, naïve" for i in range(1000)]
    matcher = grammars.matcher({"enum": values})
    for value in (values[0], values[500], values[999]):
        ids = tokenizer(json.dumps(value, ensure_ascii=False), add_special_tokens=False)["input_ids"]
        copy = matcher.deep_copy()
        assert copy.try_consume_tokens(ids) == len(ids)
        assert copy.is_accepting()
    assert matcher.deep_copy().try_consume_tokens(tokenizer('"value 1000', add_special_tokens=False)["input_ids"]) < 10


def test_rows_go_their_own_ways(grammars: Grammars, tokenizer: Any) -> None:
    """One row ends early, one has no constraint, one goes on."""
    one = tokenizer('"a"', add_special_tokens=False)["input_ids"]
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    constraint = Constraint(
        [grammars.matcher({"const": "a"}), None, grammars.matcher({"const": "a, and more"})], grammars.vocabulary, ends
    )
    for token in one:
        assert token in legal(constraint)
        constraint.follow([token, 9, None])
    assert legal(constraint, 0) == sorted(ends)
    assert len(legal(constraint, 1)) >= grammars.vocabulary
    assert legal(constraint, 2) == [i for i in legal(constraint, 2) if tokenizer.decode([i]).startswith('"')]
    assert constraint.complete(0)
    assert not constraint.complete(1)
    assert not constraint.complete(2)
    assert constraint.fault(0) is None


def test_an_illegal_token_is_a_fault_of_its_row(grammars: Grammars, tokenizer: Any) -> None:
    constraint = Constraint([grammars.matcher({"const": 1})] * 1, grammars.vocabulary, [tokenizer.eos_token_id])
    constraint.follow(tokenizer("x", add_special_tokens=False)["input_ids"])
    assert "x" in str(constraint.fault(0))
    assert not constraint.complete(0)
    assert legal(constraint) == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strong"}, "strong"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"enum": [float("nan")]}, "not JSON"),
        ({"enum": [{1, 2}]}, "not JSON"),
        ({"$ref": "#/$defs/nothing"}, "enforced"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(grammars: Grammars, schema: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        grammars.matcher(schema)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("low", "high", "legal", "illegal"),
    [
        (0, 90, ["0", "1.5", "0.125", "90", "12.340"], ["-1", "90.5", "0.1255", "1.", "1e1"]),
        (-40, 5, ["-18", "-0.5", "-40", "0", "4.125"], ["-41", "5.5", "4.1255"]),
        (-40, -5, ["-18", "-5", "-7.25"], ["0", "-4", "-41"]),
    ],
)
def test_numbers_keep_their_bounds_and_few_decimals(
    grammars: Grammars, tokenizer: Any, low: float, high: float, legal: list[str], illegal: list[str]
) -> None:
    def accepted(text: str) -> bool:
        matcher = grammars.matcher({"type": "number", "minimum": low, "maximum": high})
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    assert [text for text in legal if not accepted(text)] == []
    assert [text for text in illegal if accepted(text)] == []


def test_the_order_of_keys_is_part_of_a_schema(grammars: Grammars, tokenizer: Any) -> None:
    names = ("b", "a", "c")
    for order in (names, names[::-1]):
        schema = {"type": "object", "properties": {n: {"const": 1} for n in order}, "required": list(order)}
        text = walk(grammars, tokenizer, {**schema, "additionalProperties": False}, 0)
        assert text == "{" + ", ".join(f'"{n}": 1' for n in order) + "}"


def test_one_spelling_leaves_the_given_schema_alone() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string", "pattern": "^x$"}},
        "$defs": {"c": {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "string"}}]}},
    }
    before = json.dumps(schema)
    made = one_spelling(schema)
    assert json.dumps(schema) == before
    assert "pattern" in made["properties"]["a"]
    assert made["properties"]["b"]["pattern"] == "^x$"
    assert "pattern" in made["$defs"]["c"]["anyOf"][0]
    assert "pattern" in made["$defs"]["c"]["anyOf"][1]["items"]
    assert made["x-guidance"]["item_separator"] == ", "
