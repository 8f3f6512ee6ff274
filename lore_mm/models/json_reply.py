"""Constrained JSON: its one spelling, whether it obeys a JSON Schema, and the first or any legal instance of one.

It understands the part of JSON Schema (draft 2020-12) that schemas of replies are written in: `enum`, `const`, `type`,
`anyOf`, `oneOf`, `$ref` into `$defs`, objects with `properties`, `required` and `additionalProperties` true or false,
arrays with `items`, `minItems`, `maxItems` and `uniqueItems`, bounds of numbers, lengths and `pattern` of strings. A
schema that says more is refused, never half obeyed. This module knows no model and no attribute.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lore_mm.errors import ConfigError

__all__ = ["fault", "in_order", "instance", "read_json", "spelled"]

Schema = Mapping[str, Any]
Choose = Callable[[int], int]  # of n things, which: 0 … n - 1

_TALK = {"title", "description", "default", "examples", "$schema", "$id", "$defs", "$comment", "format", "deprecated"}
_RULES = {
    "enum", "const", "type", "anyOf", "oneOf", "$ref", "properties", "required", "additionalProperties", "items",
    "minItems", "maxItems", "uniqueItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength",
    "maxLength", "pattern",
}  # fmt: skip
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_SHOWN = 60  # characters of a value in a message
_LONGEST = 6  # items of an array that is made up


def spelled(value: object) -> str:
    """The one spelling of a constrained reply: separators ", " and ": ", letters as they are, no other blanks."""
    return json.dumps(value, ensure_ascii=False)


def read_json(text: str) -> Any:
    """Read one JSON value strictly.

    Raises:
        ValueError: not JSON, NaN or Infinity, a key twice in one object, a number out of range, or nested too deep;
            the text says which.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:_SHOWN]} is out of range")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def fault(value: object, schema: Schema) -> str | None:
    """Why a JSON value does not obey a schema, beginning with where; None if it obeys.

    Raises:
        ConfigError: the schema says something this module does not understand.
    """
    return _fault(value, schema, schema, "")


def _fault(value: object, schema: Schema, root: Schema, at: str) -> str | None:
    schema = _resolved(schema, root)
    if "enum" in schema and not any(_same(value, legal) for legal in schema["enum"]):
        return f"{at or 'the reply'}: {_shown(value)} is not one of the {len(schema['enum'])} legal values"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{at or 'the reply'}: {_shown(value)} is not {_shown(schema['const'])}"
    if "type" in schema and not any(_is(value, name) for name in _types(schema)):
        return f"{at or 'the reply'}: {_shown(value)} is no {' or '.join(_types(schema))}"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            faults = [_fault(value, one, root, at) for one in schema[key]]
            fits = faults.count(None)
            if not fits:
                return faults[0]
            if key == "oneOf" and fits > 1:
                return f"{at or 'the reply'}: {_shown(value)} fits {fits} of the shapes of which it may fit one"
    if isinstance(value, dict):
        return _object_fault(value, schema, root, at)
    if isinstance(value, list):
        return _array_fault(value, schema, root, at)
    return _scalar_fault(value, schema, at)


def _object_fault(value: Mapping[str, Any], schema: Schema, root: Schema, at: str) -> str | None:
    known = schema.get("properties", {})
    if missing := [key for key in schema.get("required", ()) if key not in value]:
        return f"{at or 'the reply'}: {', '.join(missing)} missing"
    if schema.get("additionalProperties") is False and (extra := [key for key in value if key not in known]):
        return f"{at or 'the reply'}: {', '.join(_shown(key) for key in extra)} not asked for"
    faults = (_fault(value[key], known[key], root, f"{at}.{key}" if at else key) for key in known if key in value)
    return next((one for one in faults if one), None)


def _array_fault(value: Sequence[Any], schema: Schema, root: Schema, at: str) -> str | None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return f"{at or 'the reply'}: {len(value)} items"
    if schema.get("uniqueItems") and any(_same(a, b) for i, a in enumerate(value) for b in value[:i]):
        return f"{at or 'the reply'}: an item twice"
    faults = (_fault(one, schema.get("items", {}), root, f"{at}[{i}]") for i, one in enumerate(value))
    return next((one for one in faults if one), None)


def _scalar_fault(value: object, schema: Schema, at: str) -> str | None:
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
            return f"{at or 'the reply'}: a text of {len(value)} characters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"{at or 'the reply'}: {_shown(value)} does not match {schema['pattern']}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
        if not (low <= value <= high and above < value < below):
            return f"{at or 'the reply'}: {_shown(value)} is out of bounds"
    return None


def _resolved(schema: Schema | bool, root: Schema) -> Schema:
    """The schema with its reference followed.

    Raises:
        ConfigError: see `fault`.
    """
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        ref = str(schema["$ref"])
        name = ref.removeprefix("#/$defs/")
        if name == ref or name not in root.get("$defs", {}) or ref in seen:
            raise ConfigError(f"JSON Schema: $ref {ref!r} leads nowhere; it must name one of $defs")
        seen.add(ref)
        schema = root["$defs"][name]
    if schema is True:
        return {}
    if not isinstance(schema, Mapping):
        raise ConfigError(f"JSON Schema: {_shown(schema)} is no schema")
    if unknown := [key for key in schema if key not in _RULES and key not in _TALK]:
        raise ConfigError(f"JSON Schema: {', '.join(map(repr, unknown))} is not understood; write it without")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise ConfigError("JSON Schema: additionalProperties must be true or false")
    return schema


def _types(schema: Schema) -> list[str]:
    named = schema["type"]
    names = [named] if isinstance(named, str) else list(named)
    if unknown := [name for name in names if name not in _TYPES]:
        raise ConfigError(f"JSON Schema: no type {unknown[0]!r}; legal types: {', '.join(_TYPES)}")
    return names


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(one: object, other: object) -> bool:
    """Equality of JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else spelled(value)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def in_order(value: Any, schema: Schema) -> Any:
    """A value that obeys the schema, the keys of its objects in the order of the schema's properties."""
    return _in_order(value, schema, schema)


def _in_order(value: Any, schema: Schema, root: Schema) -> Any:
    schema = _resolved(schema, root)
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if _fault(value, one, root, "") is None:
            value = _in_order(value, one, root)
            break
    if isinstance(value, dict):
        known = schema.get("properties", {})
        keys = [*(key for key in known if key in value), *(key for key in value if key not in known)]
        return {key: _in_order(value[key], known.get(key, {}), root) for key in keys}
    if isinstance(value, list):
        return [_in_order(one, schema.get("items", {}), root) for one in value]
    return value


def instance(schema: Schema, choose: Choose = lambda n: 0) -> Any:
    """A value that obeys the schema: the first legal one, or the one that `choose` leads to.

    The first: of listed values and shapes the first, of arrays and texts the shortest, of numbers the one nearest to
    nought, required keys only.

    Raises:
        ConfigError: the schema is not understood, contradicts itself, refers to itself without end, or asks for a text
            by a pattern that a few plain words do not match.
    """
    try:
        made = _instance(schema, schema, choose)
    except RecursionError:
        raise ConfigError("JSON Schema: it refers to itself without end") from None
    if wrong := fault(made, schema):
        raise ConfigError(f"JSON Schema: no legal answer could be made up ({wrong})")
    return made


def _instance(schema: Schema, root: Schema, choose: Choose) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "anyOf", "oneOf"):
        if legal := schema.get(key):
            picked = legal[choose(len(legal))]
            return picked if key == "enum" else _instance(picked, root, choose)
    names = _types(schema) if "type" in schema else [_implied(schema)]
    name = names[choose(len(names))]
    if name == "object":
        required = schema.get("required", ())
        known = schema.get("properties", {})
        wanted = [key for key in known if key in required or choose(2)]
        return {key: _instance(known[key], root, choose) for key in wanted}
    if name == "array":
        return _made_array(schema, root, choose)
    if name == "string":
        return _made_text(schema, choose)
    if name in ("number", "integer"):
        return _made_number(schema, name, choose)
    return bool(choose(2)) if name == "boolean" else None


def _implied(schema: Schema) -> str:
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _made_array(schema: Schema, root: Schema, choose: Choose) -> list[Any]:
    low = int(schema.get("minItems", 0))
    high = max(low, min(int(schema.get("maxItems", low + _LONGEST)), low + _LONGEST))
    wanted = low + choose(high - low + 1)
    made: list[Any] = []
    tried = 0
    while len(made) < wanted and tried < 50 * wanted:
        # where an item may not repeat, the first are the first, the second … of the items' values
        draw = _shifted(choose, tried) if schema.get("uniqueItems") else choose
        one = _instance(schema.get("items", {}), root, draw)
        tried += 1
        if not (schema.get("uniqueItems") and any(_same(one, other) for other in made)):
            made.append(one)
    return made


def _shifted(choose: Choose, offset: int) -> Choose:
    return lambda n: (choose(n) + offset) % n


_WORDS = ("a", "red", "cotton", "classic", "Café", "made in Italy", "2024", "XL", "12", "1.5", "2026-01-31")


def _made_text(schema: Schema, choose: Choose) -> str:
    low = int(schema.get("minLength", 0))
    high = int(schema.get("maxLength", max(low, 40)))
    pattern = schema.get("pattern")
    start = choose(len(_WORDS))
    for i in range(len(_WORDS)):
        word = _WORDS[(start + i) % len(_WORDS)]
        text = (word * (low // len(word) + 1))[: max(low, min(len(word), high))] if low or start else ""
        if pattern is None or re.search(pattern, text):
            return text
        if re.search(pattern, word[:high]):
            return word[:high]
    return ""  # the caller finds the fault and says so


def _made_number(schema: Schema, name: str, choose: Choose) -> int | float:
    low = float(schema.get("minimum", schema.get("exclusiveMinimum", -math.inf)))
    high = float(schema.get("maximum", schema.get("exclusiveMaximum", math.inf)))
    first = min(max(0.0, low), high)
    candidates = [first, math.ceil(first), first + 1, first - 1, (low + high) / 2]
    span = high - first if math.isfinite(high) else 1000.0
    drawn = first + span * choose(1001) / 1000
    candidates.insert(0, math.floor(drawn) if drawn == math.floor(drawn) or name == "integer" else round(drawn, 3))
    for one in candidates:
        number = int(one) if math.isfinite(one) and float(one).is_integer() else one
        if (name == "number" or isinstance(number, int)) and _scalar_fault(number, schema, "") is None:
            return number
    return 0
