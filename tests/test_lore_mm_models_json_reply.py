from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.errors import ConfigError
from lore_mm.knowledge import load_knowledge
from lore_mm.models.json_reply import fault, in_order, instance, read_json, spelled
from lore_mm.schema import load_schemas

TEXTS = st.sampled_from(["a", "b", "red", "weiß", ""])
SCALARS = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["string", "null"], "maxLength": 4}),
    st.lists(TEXTS, min_size=1, unique=True).map(lambda values: {"enum": values}),
    st.sampled_from([{"const": "red"}, {"const": 3}, {"const": True}, {"enum": [1, True, None, [1]]}]),
    st.tuples(st.integers(-5, 5), st.integers(0, 5)).map(
        lambda p: {"type": "integer", "minimum": p[0], "maximum": sum(p)}
    ),
    st.integers(-5, 5).map(lambda low: {"type": "number", "exclusiveMinimum": low}),
    st.tuples(st.integers(0, 3), st.integers(0, 5)).map(
        lambda p: {"type": "string", "minLength": p[0], "maxLength": sum(p)}
    ),
)


def made_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 3)).map(
        lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
    )
    objects = st.tuples(st.dictionaries(TEXTS, inner, max_size=3), st.booleans()).map(
        lambda t: {"type": "object", "properties": t[0], "required": sorted(t[0])[:2], "additionalProperties": t[1]}
    )
    return st.one_of(arrays, objects, st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}))


SCHEMAS = st.recursive(SCALARS, made_of, max_leaves=6)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-6, 6), st.booleans(), st.none(), st.sampled_from([0.5, 3.0])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


@given(SCHEMAS, VALUES)
def test_it_finds_fault_where_jsonschema_does(schema: Any, value: Any) -> None:
    legal = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (fault(value, schema) is None) == legal


@given(SCHEMAS, st.integers(0, 2**32))
def test_what_it_makes_up_is_legal_and_has_the_order_of_the_schema(schema: Any, seed: int) -> None:
    for choose in (lambda n: 0, random.Random(seed).randrange):
        value = instance(schema, choose)
        jsonschema.Draft202012Validator(schema).validate(value)
        assert spelled(in_order(value, schema)) == spelled(value)
        assert read_json(spelled(value)) == value


def test_the_first_instance_is_the_first_and_shortest() -> None:
    schema = {
        "type": "object",
        "properties": {
            "color": {"enum": ["green", "red"]},
            "optional": {"type": "string"},
            "materials": {
                "anyOf": [{"type": "array", "items": {"enum": ["wool", "linen"]}, "minItems": 2, "uniqueItems": True}]
            },
            "weight": {"type": "number", "minimum": 2.5, "maximum": 9},
            "loss": {"type": "integer", "maximum": -2},
            "note": {"type": "string", "minLength": 1},
            "day": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
        },
        "required": ["color", "materials", "weight", "loss", "note", "day"],
    }
    assert instance(schema) == {
        "color": "green", "materials": ["wool", "linen"], "weight": 2.5, "loss": -2, "note": "a", "day": "2026-01-31",
    }  # fmt: skip


def test_every_shipped_schema_is_understood() -> None:
    schemas, knowledge = load_schemas(), load_knowledge()
    for category in (None, "clothing", "sandal", "phone", "freezer", "light_bulb"):
        schema = schemas.for_category(category, knowledge).json_schema()
        for choose in (lambda n: 0, random.Random(1).randrange):
            value = instance(schema, choose)
            jsonschema.validate(value, schema)
            assert list(value) == list(schema["properties"])


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"not": {}}, "'not' is not understood"),
        ({"type": "text"}, "no type 'text'; legal types: object, array"),
        ({"$ref": "#/elsewhere"}, "leads nowhere"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "leads nowhere"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "must be true or false"),
        ({"type": "array", "items": 3}, "is no schema"),
    ],
)
def test_a_schema_that_says_more_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match="JSON Schema: ") as caught:
        fault([1] if "items" in schema else {}, schema)
    assert reason in str(caught.value)


def test_references_are_followed() -> None:
    schema = {
        "$ref": "#/$defs/leg",
        "$defs": {"leg": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}, "n": {"type": "integer"}},
    }
    assert fault({"n": 3}, schema) is None
    assert fault({"n": "x"}, schema) == "n: 'x' is no integer"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "string", "pattern": "^zzz$"},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/a"}}, "required": ["b"]}},
        },
        {"type": "array", "items": {"enum": ["a"]}, "minItems": 2, "uniqueItems": True},
    ],
)
def test_what_no_answer_obeys_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigError, match=r"no legal answer|without end"):
        instance(schema)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON at character 0"),
        ('{"a": 1', "not JSON at character 7"),
        ('{"a": 1} x', "not JSON at character 9"),
        ("[NaN]", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("1e999", "out of range"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000, "nested too deep"),
        ('"\n"', "not JSON at character 1"),
        ("9" * 5000, "digits"),
    ],
)
def test_json_is_read_strictly(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_json(text)
    assert reason in str(caught.value)


@given(VALUES)
def test_one_spelling(value: Any) -> None:
    assert spelled(value) == json.dumps(value, ensure_ascii=False)
    assert read_json(spelled(value)) == value


def test_keys_come_in_the_order_of_the_schema_also_inside() -> None:
    schema = {
        "anyOf": [{"type": "array", "items": {"properties": {"b": {}, "a": {}}, "type": "object"}}, {"type": "null"}]
    }
    assert spelled(in_order([{"x": 0, "a": 1, "b": 2}], schema)) == '[{"b": 2, "a": 1, "x": 0}]'


def test_faults_say_where() -> None:
    schema = {"properties": {"a": {"items": {"properties": {"b": {"maxLength": 2}}}}}}
    assert fault({"a": [{"b": "ok"}, {"b": "long"}]}, schema) == "a[1].b: a text of 4 characters"
