"""extractors.query.tagger: the tables' reading and a tagger's made one; row law; hostile queries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.queries import open_engine
from extractors.query.engine import LONGEST
from extractors.query.knowledge import KnowledgeEngine
from extractors.query.tagged import with_tags
from lore_mm.datasets.queryner_types import entity_types
from lore_mm.errors import ModelError
from lore_mm.knowledge import load_knowledge
from lore_mm.models.query_tagger import FOLDER, Tag
from lore_mm.types import Query

KNOWLEDGE = load_knowledge()
TABLES = KnowledgeEngine(KNOWLEDGE)


def tags_of(marked):
    """The text and its tags: "[creator apple] pie"; of confidence 0.9, or that behind a colon: [creator:0.4 …]."""
    text, tags = "", []
    for part in marked.replace("]", "[").split("["):
        name, _, words = part.partition(" ")
        kind, _, sure = name.partition(":")
        if kind in entity_types():
            tags.append(Tag(kind, len(text), len(text) + len(words), float(sure or 0.9)))
            text += words
        else:
            text += part
    return text, tags


def read(marked):
    """The merged reading as {words: (dimension, canonical)} in order, head first."""
    text, tags = tags_of(marked)
    tables = TABLES.understand([Query("q", text)])[0]
    demands, readings = with_tags(text, tables.demands, tables.readings, tags, KNOWLEDGE)
    for d in demands:
        assert d.start is None or text[d.start : d.end] == d.value
    assert all(d.role == "modifier" for d in demands[1:])
    return demands, readings


def facts(marked):
    return {d.value: (d.dimension, d.canonical) for d in read(marked)[0]}


# what the tables know stays theirs


def test_known_words_numbers_prices_and_negations_keep_the_tables_reading():
    found = facts(
        "[content red] [content nike] [core_product_type running shoes] [content size 42] [content under 50 dollars] "
        "without [content laces]"
    )
    tables = {
        d.value: (d.dimension, d.canonical)
        for d in TABLES.understand(
            [Query("q", tags_of("red nike running shoes size 42 under 50 dollars without laces")[0])]
        )[0].demands
    }
    assert found == tables
    assert found["laces"] == ("style_detail", "lace-up") and found["red"] == ("color", "red")


def test_without_tags_unknown_wishes_go_and_all_else_stays():
    assert facts("red zibble shoes") == {"shoes": ("category", "shoe"), "red": ("color", "red")}
    # the thing itself stays, though no tag touches it
    assert facts("zibble") == {"zibble": ("category", None)}


# unknown words by their type


@pytest.mark.parametrize(
    ("kind", "dimension"),
    [
        ("creator", "brand"),
        ("product_name", "model"),
        ("product_number", "model"),
        ("content", "ip"),
        ("department", "audience"),
        ("color", "color"),
        ("material", "material"),
        ("shape", "style_detail"),
        ("UoM", "spec"),
        ("quantity", "special"),  # no number of pieces can be read from it
        ("price", "special"),
        ("time", "year"),
        ("origin", "special"),
        ("condition", "special"),
        ("occasion", "special"),
        ("modifier", "style_detail"),
    ],
)
def test_unknown_words_are_read_by_their_type(kind, dimension):
    demands, _ = read(f"[{kind} zibble frood] [core_product_type shoes]")
    assert [(d.dimension, d.value, d.canonical, d.confidence) for d in demands[1:]] == [
        (dimension, "zibble frood", None, 0.9)
    ]
    assert demands[0].value == "shoes" and demands[0].role == "head"
    assert kind.replace("_", " ") in demands[1].why


def test_what_follows_for_is_a_function():
    assert facts("shoes for [modifier zibbling]")["zibbling"] == ("function", None)
    assert facts("shoes [modifier for my zibbling]")["zibbling"] == ("function", None)


def test_an_unsure_tag_makes_a_wish():
    sure = read("[creator:0.9 zibble] shoes")[0][1]
    unsure = read("[creator:0.6 zibble] shoes")[0][1]
    guess = read("[creator:0.3 zibble] shoes")[0][1]
    assert (sure.dimension, sure.strictness) == ("brand", "hard")
    assert (unsure.dimension, unsure.strictness) == ("brand", "soft")
    assert (guess.dimension, guess.strictness) == ("special", "soft")


def test_a_longer_name_goes_before_the_known_words_in_it():
    assert facts("[creator garden zibble] shoes") == {"shoes": ("category", "shoe"), "garden zibble": ("brand", None)}
    # but part of a name that the tables know as such is that name
    assert facts("[creator nike zibble] shoes")["nike"] == ("brand", "Nike")


# which words are the thing


def test_an_unknown_thing_becomes_the_head():
    demands, _ = read("[modifier garden] [core_product_type zibbler]")
    assert (demands[0].value, demands[0].dimension, demands[0].role) == ("zibbler", "category", "head")


def test_a_kind_inside_the_name_of_an_unknown_thing_is_not_the_thing():
    found = facts("[color red] [core_product_type bread zibbler]")
    assert found == {"bread zibbler": ("category", None), "red": ("color", "red")}


def test_qualities_before_an_unknown_thing_stay_qualities():
    assert facts("[core_product_type leather zibbler]") == {
        "zibbler": ("category", None),
        "leather": ("material", "leather"),
    }


def test_unknown_words_before_a_known_kind_are_part_of_its_name():
    demands, _ = read("[core_product_type zibble boots] [color red]")
    assert (demands[0].value, demands[0].canonical, demands[0].confidence) == ("zibble boots", "boot", 0.9)
    assert demands[1].value == "red"


def test_another_known_kind_is_the_head_where_the_tags_say_so():
    text = "lamp table"
    tables = TABLES.understand([Query("q", text)])[0]
    head = tables.demands[0].value
    other = "lamp" if head == "table" else "table"
    marked = text.replace(other, f"[core_product_type {other}]").replace(head, f"[modifier {head}]")
    demands, _ = read(marked)
    if any(d.dimension == "category" and d.value == other for d in tables.demands):
        assert demands[0].value == other
    assert sum(d.dimension == "category" and d.polarity > 0 for d in demands) == 1


def test_a_mere_quality_is_the_thing_where_nothing_else_is():
    demands, _ = read("[modifier edible] [core_product_type glitter]")
    assert [(d.value, d.dimension, d.role) for d in demands] == [
        ("glitter", "category", "head"),
        ("edible", "style_detail", "modifier"),
    ]


def test_a_problem_keeps_the_thing_that_solves_it():
    text = "keep coffee hot"
    tables = TABLES.understand([Query("q", text)])[0]
    demands, _ = with_tags(text, tables.demands, (), [Tag("core_product_type", 0, len(text), 0.9)], KNOWLEDGE)
    assert demands[0] == tables.demands[0] and demands[0].latent and demands[0].role == "head"


# ambiguous words


def test_a_tag_picks_between_readings_that_the_tables_leave_open():
    text = "apple"
    tables = TABLES.understand([Query("q", text)])[0]
    assert tables.demands[0].dimension == "category" and tables.readings[0].dimension == "brand"
    as_brand, left = read("[creator apple]")
    assert [(d.dimension, d.canonical, d.role) for d in as_brand] == [("brand", "Apple", "head")]
    assert (left[0].dimension, left[0].canonical, left[0].confidence) == (
        "category",
        tables.demands[0].canonical,
        pytest.approx(0.1),
    )
    as_fruit, _ = read("[core_product_type apple]")
    assert [(d.dimension, d.canonical) for d in as_fruit] == [("category", tables.demands[0].canonical)]
    unsure, _ = read("[creator:0.4 apple]")
    assert unsure == list(tables.demands)


def test_other_scripts_are_left_to_the_tables():
    text = "蓝牙耳机 zibble"
    tables = TABLES.understand([Query("q", text)])[0]
    demands, _ = with_tags(text, tables.demands, (), [Tag("creator", 0, 4, 0.99)], KNOWLEDGE)
    assert "brand" not in {d.dimension for d in demands}


# the engine over a real model


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    if any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")):
        pytest.skip("needs tagger and train")
    import torch

    from extractors.query.tagger import TaggerEngine
    from jobs.tagger.export import export
    from jobs.tagger.learner import TaggerModel
    from lore_mm.models.query_tagger import open_tagger
    from tests.tiny_tagger import tiny_bert

    names = ["O", *(f"{mark}-{kind}" for kind in sorted(entity_types()) for mark in "BI")]
    body = tiny_bert(tmp_path_factory.mktemp("body"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = TaggerModel.of_body(body, len(names), hints=False)
        torch.nn.init.normal_(model.out.weight, std=1.5)
    folder = tmp_path_factory.mktemp("tagger")
    export(model, (body / "tokenizer.json").read_bytes(), names, folder)
    made = TaggerEngine(open_tagger(folder), KNOWLEDGE)
    yield made
    made.close()
    made.close()


def test_as_many_results_in_the_same_order_and_failures_with_a_reason(engine):
    texts = ["red nike shoes", "", "zibble lamp", "x" * (LONGEST + 1), "!?", "shoes"]
    queries = [Query(str(i), text) for i, text in enumerate(texts)]
    found = engine.understand(queries)
    assert [u.query for u in found] == queries
    assert [u.status for u in found] == ["ok", "failed", "ok", "failed", "failed", "ok"]
    assert found[1].error == found[4].error == "empty query" and "1,001 characters" in found[3].error
    assert {u.engine for u in found} == {"tagger"} and found[1].demands == ()
    assert found[::-1] == engine.understand(queries[::-1])  # no query depends on those beside it
    assert engine.understand([]) == []
    assert found[0].head.canonical == "shoe" and "schema:" in "".join(found[0].demands[1].links)


def test_the_sha_follows_the_weights_and_the_tables(engine, tmp_path):
    from extractors.query.tagger import TaggerEngine

    (tmp_path / "brands.toml").write_text('Zibble = { makes = ["footwear"] }\n')
    own = load_knowledge((tmp_path,))
    assert engine.sha == TaggerEngine(engine.tagger, KNOWLEDGE).sha != TABLES.sha
    assert TaggerEngine(engine.tagger, own).sha != engine.sha


PIECES = (
    "red nike running shoes apple zibble for without under $50 size 42 2 pack 跑鞋 \u0301 \ud800 🎁 , "
    "iphone 13 case keep coffee hot"
).split()


@given(st.one_of(st.text(max_size=50), st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join)))
@settings(max_examples=150, deadline=None)
def test_every_reading_is_whole(engine, text):
    (u,) = engine.understand([Query("q", text)])
    assert u.query.text == text and (u.status == "ok") == (u.error is None)
    heads = [d for d in u.demands if d.role == "head"]
    assert heads == list(u.demands[: len(heads)]) and len(heads) <= 1
    for d in u.demands:
        assert (d.start is None) == (d.end is None)
        if d.start is not None:
            assert 0 <= d.start < d.end <= len(text)
        assert 0 <= d.confidence <= 1 and d.value
    assert 0 <= u.confidence <= 1


@pytest.mark.skipif(not (FOLDER / "model.onnx").is_file() or find_spec("onnxruntime") is None, reason="needs tagger")
@pytest.mark.parametrize("address", ["tagger", f"tagger:{FOLDER}"])
def test_the_shipped_engine_opens_by_its_address(address):
    engine = open_engine(address)
    (u,) = engine.understand([Query("q", "red zibble running shoes for women")])
    assert u.engine == "tagger" and u.head.canonical == "running_shoe"
    assert {("color", "red"), ("audience", "women")} <= {(d.dimension, d.canonical) for d in u.demands}
    engine.close()


def test_a_folder_without_a_tagger_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        open_engine(f"tagger:{tmp_path}")


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    import sys

    from lore_mm.errors import MissingExtraError
    from lore_mm.models.query_words import Reader

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match="tokenizers"):
        Reader(b"", Path("tokenizer.json"))
