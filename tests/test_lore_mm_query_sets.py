"""Run: pytest tests/test_lore_mm_query_sets.py

QueryNER and queries with gold demands, read from small files written here in each of their formats.
"""

import json
import re
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.datasets import queryner_types
from lore_mm.datasets.query_sets import GoldDemand, read_gold
from lore_mm.datasets.queryner import Span, TaggedQuery, bio_spans, read_queryner
from lore_mm.datasets.queryner_types import entity_types, negated_type, type_of
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_dimensions

ROWS = [
    {"esci_example_id": 7, "tokens": ["red", "shoes", "for", "men"],
     "labels": ["B-color", "B-core_product_type", "B-department", "I-department"]},
    {"esci_example_id": 8, "tokens": ["nike", "#", "4"], "labels": ["B-creator", "O", "B-UoM"]},
]  # fmt: skip
SPANS = [
    (Span(0, 3, "color"), Span(4, 9, "core_product_type"), Span(10, 17, "department")),
    (Span(0, 4, "creator"), Span(7, 8, "UoM")),
]


def write_lines(file: Path, rows: list) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


# -- types -------------------------------------------------------------------------------------------------------------


def test_every_type_has_a_dimension_and_every_dimension_a_type():
    dimensions = load_dimensions()
    assert len(entity_types()) == 17
    for one in entity_types().values():
        assert {one.dimension, *one.also} <= set(dimensions), one
        assert one.means.endswith(".")
    assert {*map(type_of, dimensions), negated_type()} <= set(entity_types())
    # the way there and back: what a type's own dimension leads to, but for a few values, is another type
    lossy = {t for t, one in entity_types().items() if type_of(one.dimension) != t}
    assert lossy == {"product_number", "shape", "origin", "condition", "occasion"}


def test_the_values_that_go_elsewhere_are_those_of_the_tables():
    table = tomllib.loads((Path(queryner_types.__file__).parent / "queryner.toml").read_text(encoding="utf-8"))
    terms = load_knowledge().terms
    for dimension, kinds in table["values"].items():
        for kind, values in kinds.items():
            assert kind in entity_types() and kind != type_of(dimension)
            assert {(dimension, value) for value in values} <= terms.keys()
            assert {type_of(dimension, value) for value in values} == {kind}


# -- BIO ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-a I-a O B-b", [("a", 0, 1), ("b", 3, 3)]),
        ("B-a B-a", [("a", 0, 0), ("a", 1, 1)]),
        ("I-a I-a", [("a", 0, 1)]),  # ill-formed, and read as conlleval does
        ("O I-a O", [("a", 1, 1)]),
        ("B-a I-b I-b", [("a", 0, 0), ("b", 1, 2)]),
        ("B-a O I-a", [("a", 0, 0), ("a", 2, 2)]),
        ("I-b B-b I-a", [("b", 0, 0), ("b", 1, 1), ("a", 2, 2)]),
    ],
)
def test_bio_is_read_as_conlleval_reads_it(labels, spans):
    assert bio_spans(labels.split()) == spans


@given(st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), max_size=8))
def test_every_tagged_word_is_in_one_span_of_its_type(labels):
    owned = {i: kind for kind, first, last in bio_spans(labels) for i in range(first, last + 1)}
    assert owned == {i: label[2:] for i, label in enumerate(labels) if label != "O"}
    begins = {first for _, first, _ in bio_spans(labels)}
    assert begins >= {i for i, label in enumerate(labels) if label[0] == "B"}


# -- QueryNER's files --------------------------------------------------------------------------------------------------


def parquet(folder: Path) -> None:
    """As the public release has it: numbers, in data/, the split called validation."""
    order = ["O", *(f"{m}-{t}" for t in ("UoM", "color", "condition", "content", "core_product_type") for m in "BI")]
    order += ["B-creator", "I-creator", "B-department", "I-department"]
    rows = [{"tokens": r["tokens"], "ner_tags": [order.index(tag) for tag in r["labels"]]} for r in ROWS]
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "validation-00000-of-00001.parquet")


def two_columns(folder: Path) -> None:
    lines = ["-DOCSTART- O", "", "# id = 1"]
    for row in ROWS:
        lines += [f"{w}\t{t}" for w, t in zip(row["tokens"], row["labels"], strict=True)] + ["", ""]
    (folder / "dev.conll").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    "write",
    [
        lambda f: write_lines(f / "dev.jsonl", ROWS),
        lambda f: write_lines(f / "validation.jsonl", [{"tokens": r["tokens"], "tags": r["labels"]} for r in ROWS]),
        lambda f: (f / "dev.json").write_text(json.dumps(ROWS), encoding="utf-8"),
        parquet,
        two_columns,
    ],
    ids=["jsonl", "validation", "json", "parquet", "conll"],
)
def test_each_format_gives_the_same_queries(tmp_path, write):
    write(tmp_path)
    queries = read_queryner(tmp_path, "dev")
    assert [q.text for q in queries] == ["red shoes for men", "nike # 4"]
    assert [q.spans for q in queries] == SPANS
    assert [q.labels for q in queries] == [tuple(r["labels"]) for r in ROWS]


def test_a_file_is_read_whatever_the_split_and_keeps_its_ids(tmp_path):
    queries = read_queryner(write_lines(tmp_path / "mine.jsonl", ROWS), "train")
    assert [q.query_id for q in queries] == ["7", "8"]


def test_places_are_those_of_the_words_also_beyond_ascii():
    query = TaggedQuery("1", ("跑鞋", "für", "männer"), ("B-core_product_type", "B-department", "I-department"))
    assert [query.text[a:b] for a, b in query.places] == list(query.tokens)
    assert [query.text[s.start : s.end] for s in query.spans] == ["跑鞋", "für männer"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a"]}, "line 2: no column 'labels'"),
        ({"token": ["a"], "labels": ["O"]}, "line 2: no column 'tokens', did you mean 'token'?"),
        ({"tokens": ["a", "b"], "labels": ["O"]}, "line 2: 2 words and 1 tags"),
        ({"tokens": ["a"], "labels": ["B-colour"]}, "column 'labels': the tag 'B-colour', did you mean 'color'?"),
        ({"tokens": ["a"], "labels": ["S-color"]}, "the tag 'S-color', did you mean 'color'?; legal: O, or B- or I-"),
        ({"tokens": ["a"], "labels": ["B-"]}, "the tag 'B-'; legal"),
        ({"tokens": ["a"], "ner_tags": [35]}, "line 2, column 'ner_tags': the tag 35; legal: 0 to 34"),
        ({"tokens": ["a"], "ner_tags": [-1]}, "the tag -1; legal: 0 to 34"),
        ({"tokens": ["a"], "labels": [True]}, "true or false; legal: tags such as"),
        ({"tokens": ["a"], "labels": "O"}, "column 'labels': text; legal: a list of tags"),
        ({"tokens": [], "labels": []}, "column 'tokens': a list; legal: a list of words"),
        ({"tokens": ["a", " "], "labels": ["O", "O"]}, "legal: a list of words, none of them empty"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path, row, said):
    file = write_lines(tmp_path / "dev.jsonl", [ROWS[0], row])
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_queryner(file, "dev")
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"holds no split 'dev'; looked for dev\.jsonl or validation\.jsonl"):
        read_queryner(tmp_path, "dev")
    with pytest.raises(InputError, match="split 'tests', did you mean 'test'"):
        read_queryner(tmp_path, "tests")
    with pytest.raises(InputError, match="no such file"):
        read_queryner(tmp_path / "dev.conll", "dev")
    (tmp_path / "dev.conll").write_text("\n\n")
    with pytest.raises(InputError, match="holds no queries"):
        read_queryner(tmp_path, "dev")
    (tmp_path / "dev.conll").write_text("red B-color\nshoes\n")
    with pytest.raises(InputError, match="line 2: 'shoes'; legal: a word and its tag"):
        read_queryner(tmp_path, "dev")
    (tmp_path / "dev.conll").write_bytes(b"r\xff\xfe B-color")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        read_queryner(tmp_path, "dev")


# -- gold demands ------------------------------------------------------------------------------------------------------

GOLD = {
    "query_id": "g1", "query": "red red wine glass under 20", "split": "dev", "hard_type": "other",
    "referent": "precise",
    "demands": [
        {"dimension": "category", "words": "red wine glass", "canonical": ["glass", None], "role": "head"},
        {"dimension": "color", "words": "red", "start": 0, "canonical": "red"},
        {"dimension": "price", "words": "under 20", "op": "at_most", "number": 20, "unit": None},
        {"dimension": "function", "canonical": None, "latent": True},
    ],
}  # fmt: skip


def with_demand(**changes: object) -> dict:
    row = {"dimension": "category", "words": "glass"} | changes
    return GOLD | {"demands": [{k: v for k, v in row.items() if v is not ...}]}


def test_a_gold_query_is_read(tmp_path):
    [query] = read_gold(write_lines(tmp_path / "gold.jsonl", [GOLD]))
    thing, color, price, latent = query.demands
    assert (thing.start, thing.end, thing.canonical) == (4, 18, ("glass", None))
    assert (color.start, color.end, color.canonical) == (0, 3, ("red",))
    assert price == GoldDemand("price", "under 20", 19, 27, None, "at_most", 20.0, unit=None, unit_judged=True)
    assert latent.latent and latent.start is None and latent.canonical == (None,)
    assert query.heads == (thing,) and query.normalized is None and query.referent == "precise"


def test_splits_are_told_apart(tmp_path):
    file = write_lines(tmp_path / "gold.jsonl", [GOLD, GOLD | {"query_id": "g2", "split": "test", "referent": None}])
    assert [q.query_id for q in read_gold(file)] == ["g1", "g2"]
    assert [q.query_id for q in read_gold(file, "test")] == ["g2"]
    with pytest.raises(InputError, match="split 'train'; legal: dev, test"):
        read_gold(file, "train")
    write_lines(file, [GOLD])
    with pytest.raises(InputError, match="holds no queries of split 'test'"):
        read_gold(file, "test")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (GOLD, "column 'query_id': 'g1' is there twice"),
        (GOLD | {"hard_type": "negative"}, "'hard_type': 'negative'"),
        (GOLD | {"split": "train"}, "'split': 'train'; legal: dev, test"),
        (GOLD | {"referent": "vague"}, "'referent': 'vague'; legal: precise, generic"),
        (GOLD | {"query": " "}, "'query': text; legal: text"),
        (GOLD | {"normalised": "x"}, "no key 'normalised', did you mean 'normalized'?"),
        (GOLD | {"normalized": 1}, "'normalized': a number; legal: text"),
        (GOLD | {"demands": {}}, "column 'demands': an object; legal: a list of objects"),
        (with_demand(dimension="colour"), "demand 1, 'dimension': 'colour', did you mean 'color'?; legal: category"),
        (with_demand(words="cup"), "demand 1: 'cup' does not stand in 'red red wine glass under 20'"),
        (with_demand(words="red"), "'red' occurs more than once in 'red red wine glass under 20'; say which"),
        (with_demand(words="red", start=1), "'red' does not stand in 'red red wine glass under 20' at 1"),
        (with_demand(start="4"), "key 'start': text; legal: a whole number"),
        (with_demand(words=...), "'words': missing; legal: text"),
        (with_demand(op="less"), "'op': 'less'; legal: eq, range, at_least"),
        (with_demand(polarity=0), "key 'polarity': 0; legal: 1, -1"),
        (with_demand(number="5"), "key 'number': text; legal: a number"),
        (with_demand(number=float("nan")), "key 'number': not a finite number"),
        (with_demand(number_high=10**400), "key 'number_high': not a finite number"),
        (with_demand(unit=5), "key 'unit': a number; legal: text or null"),
        (with_demand(canonical=[]), "key 'canonical': legal: a text, null, or a list"),
        (with_demand(canonical=3), "key 'canonical': legal: a text, null, or a list"),
        (with_demand(latent="yes"), "key 'latent': text; legal: true or false"),
        (with_demand(latent=True, canonical="glass"), "a latent demand stands on no words"),
        (with_demand(latent=True, words=...), "a latent demand needs 'canonical' or 'number'"),
        (with_demand(strict="soft"), "no key 'strict', did you mean 'strictness'?"),
        (GOLD | {"query_id": "g2", "demands": [GOLD["demands"][0], {"dimension": "material", "words": "glass"}]},
         "the demands on 'red wine glass' and 'glass' overlap"),
    ],
)  # fmt: skip
def test_a_wrong_gold_row_is_named(tmp_path, row, said):
    file = write_lines(tmp_path / "gold.jsonl", [GOLD, row])
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_gold(file)
    assert f"{file}, line 2" in str(error.value) and "\n" not in str(error.value)
