"""The extractor over a real engine whose model has learned nothing: every reply parses, because it is constrained."""

import json

import pytest
from PIL import Image

from extractors.protocol import ExtractorInput
from extractors.vlm import Vlm
from lore_mm.knowledge import load_knowledge
from lore_mm.models import open_chat
from lore_mm.schema import load_schemas
from lore_mm.types import Item

pytest.importorskip("transformers")
pytest.importorskip("torch")
llguidance = pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

KNOWLEDGE, SCHEMAS = load_knowledge(), load_schemas()


def departments():
    """One kind of each department."""
    kinds = {}
    for kind in KNOWLEDGE.categories:
        kinds.setdefault(KNOWLEDGE.department(kind), kind)
    return sorted(kinds.values())


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location("tiny_models", Path(__file__).parent / "tiny_models.py")
    tiny = module_from_spec(spec)
    spec.loader.exec_module(tiny)
    engine = open_chat(f"hf:{tiny.tiny_vlm(tmp_path_factory.mktemp('tiny'))}")
    yield engine
    engine.close()


def test_every_reply_of_a_model_that_knows_nothing_is_read(chat):
    asked = ("category", "color", "bundle", "length", "neckline", "slimming", "brand")
    extractor = Vlm(chat, SCHEMAS, KNOWLEDGE, prompt="compact", fields=asked)
    pictures = [Image.new("RGB", (84, 60), color) for color in ("red", "navy", "white")]
    inputs = [
        ExtractorInput(Item(str(i), f"Thing number {i}"), ("dress", "mug", None)[i % 3], (picture,), (None,))
        for i, picture in enumerate(pictures)
    ]
    made = extractor.extract(inputs)
    for one in made:
        assert (one.status, one.error) == ("ok", None)
        assert {a.name for a in one.attributes} == set(one.asked)
        for value in one.attributes:
            assert value.status in ("value", "not_stated", "not_applicable"), value.error
            assert 0 < value.confidence <= 1
            if value.status == "value":
                assert value.evidence
        assert one.usage.calls == 2 and one.usage.completion_tokens > 0
    assert extractor.extract(inputs) == made


@pytest.mark.parametrize("kind", departments())
def test_the_schema_of_every_department_compiles_for_both_decoders(kind):
    from lore_mm.models.constrain import one_spelling

    schema = SCHEMAS.for_category(kind, KNOWLEDGE).json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(one_spelling(schema)))
    assert llguidance.LLMatcher.validate_grammar(grammar, llguidance.LLTokenizer("byte")) == ""
    xgrammar = pytest.importorskip("xgrammar")
    xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False)
    text = json.dumps(schema)
    # what vLLM refuses to hand to xgrammar
    assert not any(word in text for word in ('"multipleOf"', '"uniqueItems"', '"maxLength"', '"minLength"'))


def test_texts_and_numbers_end_in_both_decoders():
    """The longest text and number that each lets a model write, byte by byte, is bounded."""
    import numpy as np

    from lore_mm.models.constrain import one_spelling

    schema = SCHEMAS.for_category("dress", KNOWLEDGE).json_schema(["brand", "length"])
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(
        tokenizer, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(one_spelling(schema)))
    )
    written = b""
    while not matcher.is_stopped():
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        legal = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:256])
        byte = next((ord(c) for c in "9x." if ord(c) in legal), int(legal[0]) if len(legal) else None)
        if byte is None:
            break
        matcher.consume_token(byte)
        written += bytes([byte])
        assert len(written) < 200
    said = json.loads(written)
    assert said["brand"] == "9" * 48
    assert said["length"] == 999_999_999.999
