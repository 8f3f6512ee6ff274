"""Run: pytest tests/test_jobs_evaluate.py

`lore evaluate judge` and `lore check` on a small store made here, end to end.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluate_judge import evaluate_store, evaluation_rows, evaluation_tables
from jobs.judge_material import read_store
from jobs.judge_systems import stored_similarity
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.models import open_embedder
from lore_mm.rows import item_to_row, provenance_to_row
from lore_mm.tables import EMBEDDINGS, ITEMS, LABELS, QUERIES
from lore_mm.types import Item, Provenance
from stores.features import open_store

MADE = provenance_to_row(Provenance())
OK = {"status": "ok", "error": None, "provenance": MADE}
ITEM_ROWS = [
    Item("couch", "Red velvet sofa", price=450.0),
    Item("lounge", "Blue sofa", price=300.0),
    Item("chair", "Wooden chair", price=40.0),
    Item("laptop", "Laptop", price=1299.0),
]
QUERY_ROWS = [
    ("q1", "red sofa", "color", "test"),
    ("q2", "laptop", "category", "test"),
    ("q3", "sofa under 320", "price", "test"),
    ("q4", "wooden chair", "material", "dev"),
]
LABEL_ROWS = [
    ("q1", "couch", "L4"), ("q1", "lounge", "L2"), ("q1", "laptop", "L1"),
    ("q2", "laptop", "L4"), ("q2", "chair", "L1"), ("q2", "gone", "L1"),
    ("q3", "lounge", "L4"), ("q3", "couch", "L2"),
    ("q4", "chair", "L4"),
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = open_store(tmp_path_factory.mktemp("evaluate") / "store", create=True)
    items = [item_to_row(item) | {"image_root": None} | OK for item in ITEM_ROWS]
    opened.append("items", pa.Table.from_pylist(items, schema=ITEMS))
    names = ("query_id", "query", "kind", "split")
    queries = [dict(zip(names, row, strict=True)) | {"frequency": None} for row in QUERY_ROWS]
    opened.append("queries", pa.Table.from_pylist(queries, schema=QUERIES))
    labels = [dict(zip(("query_id", "item_id", "grade"), row, strict=True)) | {"reason": "x"} for row in LABEL_ROWS]
    opened.append("labels", pa.Table.from_pylist(labels, schema=LABELS))
    model = open_embedder("scripted:7")
    vectors = model.embed_texts([item.title for item in ITEM_ROWS[:3]])  # the laptop has none
    embedded = [
        {"item_id": item.item_id, "model": "scripted:7", "image": None, "text": vector.tolist()} | OK
        for item, vector in zip(ITEM_ROWS, vectors, strict=False)
    ]
    opened.append("embeddings", pa.Table.from_pylist(embedded, schema=EMBEDDINGS))
    return opened


@pytest.fixture(scope="module")
def result(store):
    return evaluate_store(store, split="test")


def test_the_pairs_are_those_of_the_split_with_their_queries(store):
    data, material = read_store(store, load_knowledge(), split="test")
    assert len(data.pairs) == 8 and set(material.understood) == {"q1", "q2", "q3"}
    first = data.pairs[0]
    assert (first.query.query_id, first.query.text, first.item_id) == ("q1", "red sofa", "couch")
    assert (int(first.grade), first.kind, first.split) == (4, "color", "test")
    assert len(read_store(store, load_knowledge())[0].pairs) == 9
    assert data.titles["laptop"] == "Laptop" and "gone" not in data.items


def test_an_item_that_is_gone_is_missing_and_never_scored(result):
    assert (result["n"], result["missing"]) == (7, 1)
    assert result["errors"] == {"no item 'gone' in the store that could be read": 1}
    assert sum(map(sum, result["confusion"])) == 7


def test_the_judge_is_right_on_this_store(result):
    assert result["confusion"] == [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3]]
    values = {name: m["value"] for name, m in result["metrics"].items()}
    right = ("acc_2", "acc_4", "macro_f1", "quadratic_kappa", "auc", "ndcg_10", "mrr", "pass_1")
    assert {name: values[name] for name in right} == dict.fromkeys(right, 1.0)
    assert set(values) == {*right, "good_rate", "ece_2", "ece_4"}  # what a public set is measured by too
    assert values["good_rate"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3, abs=1e-6)


def test_one_class_for_all(result):
    # of 8 pairs 3 are L1, 2 L2 and 3 L4: the commonest, and of two as common the lower, is L1; one item is gone
    metrics = result["baselines"]["all_one_class"]["metrics"]
    assert metrics["acc_4"]["value"] == pytest.approx(2 / 7, abs=1e-6)
    assert metrics["acc_2"]["value"] == pytest.approx(4 / 7, abs=1e-6)
    assert metrics["macro_f1"]["value"] == pytest.approx((2 * 2 / (7 + 2)) / 3, abs=1e-6)
    assert metrics["quadratic_kappa"]["value"] == 0.0
    assert metrics["auc"]["value"] == 0.5


def test_baselines_are_compared_on_the_pairs_that_both_judged(result):
    assert result["baselines"]["bm25_title"]["n"] == 7
    similar = result["baselines"]["embedding_similarity"]
    assert (similar["n"], similar["missing"]) == (5, 3)  # two pairs with the laptop, one with what is gone
    difference = result["baselines"]["all_one_class"]["difference"]["acc_4"]
    assert difference["value"] == pytest.approx(1 - 2 / 7, abs=1e-6)  # on the seven pairs that the judge graded


def test_the_similarity_is_that_of_the_vectors(store):
    data, material = read_store(store, load_knowledge(), split="test")
    model = open_embedder("scripted:7")
    query, item = model.embed_texts(["red sofa", "Red velvet sofa"])
    found = stored_similarity(data, material.vectors).scores
    assert found[0] == pytest.approx(float(query @ item), abs=1e-5)
    assert np.isnan(found[[pair.item_id for pair in data.pairs].index("laptop")])


def test_slices_of_three_queries_are_too_small_and_said(result):
    assert result["slices"] == {}
    assert any("slices of fewer than 5 queries are left out" in note for note in result["notes"])


def test_the_card_names_the_versions_of_the_store(result, store):
    again = evaluate_store(store, split="test")["card"]
    assert again == result["card"] and again["data"]["address"] == store.uri and again["extractors"] == []
    assert {"knowledge", "schemas", "engine", "rulebook", "judge"} == set(again["shas"])


def test_rows_and_tables_for_a_reader(result):
    rows = evaluation_rows(result)
    assert [row[""] for row in rows] == ["judge (rules)", "all one class", "bm25 title", "embedding similarity"]
    assert rows[0]["acc@4"] == "1.00 [1.00, 1.00]" and rows[0]["missing"] == 1
    assert len(evaluation_tables(result)) == 5  # systems, differences, slices, confusion, levels


def test_an_unknown_split_and_an_unknown_query_are_named(store, tmp_path):
    with pytest.raises(InputError, match=r"no split 'tset', did you mean 'test'\?; it has: dev, test"):
        evaluate_store(store, split="tset")
    labels = tmp_path / "labels.csv"
    labels.write_text("query_id,item_id,grade\nq9,couch,L4\n", encoding="utf-8")
    with pytest.raises(InputError, match="query_id 'q9' is not among the store's queries"):
        evaluate_store(store, labels=labels)


def command(module, *arguments):
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, env=os.environ)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command_prints_one_json_object(store, result):
    code, out, talk = command("jobs.evaluate", "judge", "--store", store.uri, "--split", "test")
    assert code == 0, talk
    assert json.loads(out) == result
    code, out, talk = command("jobs.evaluate", "jugde", "--store", store.uri)
    assert (code, out) == (2, "")
    assert talk.startswith("error: cannot measure 'jugde', did you mean 'judge'?; legal: judge, attributes, queries")


def write_lines(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def test_check_finds_impossible_labels_in_files_and_in_a_store(store, tmp_path):
    goods = [{"item_id": item.item_id, "title": item.title, "price": item.price} for item in ITEM_ROWS]
    items = write_lines(tmp_path / "items.jsonl", goods)
    asked = [{"query_id": query_id, "query": text} for query_id, text, *_ in QUERY_ROWS]
    queries = write_lines(tmp_path / "queries.jsonl", asked)
    rows = [
        ("q1", "couch", "L4", "red"),
        ("q1", "laptop", "L4", "?"),
        ("q3", "couch", "L5", "dear"),
        ("q3", "couch", "L3", "dear"),
    ]
    names = ("query_id", "item_id", "grade", "reason")
    labels = write_lines(tmp_path / "labels.jsonl", [dict(zip(names, row, strict=True)) for row in rows])
    for where in (["--queries", queries, "--items", items], ["--store", store.uri]):
        code, out, talk = command("jobs.check_labels", "--labels", labels, *where)
        found = [json.loads(line) for line in out.splitlines()]
        assert code == 1 and talk == "4 faults in 4 labels\n"
        assert [(f["file"], f["place"]) for f in found] == [(str(labels), f"line {n}") for n in (2, 3, 4, 4)]
        assert found[0]["reason"].startswith("graded L4, but category is broken (category.unrelated)")
        assert found[1]["reason"] == "grade 'L5' is not one of L1, L2, L3, L4"
        assert found[2]["reason"] == "the pair is graded L3 here and L5 in line 3"
        assert found[3]["reason"].startswith("graded L3, but price is broken (price.far)")


def test_check_of_sound_labels_says_so(store, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("query_id,item_id,grade,reason\nq1,couch,L4,red\n", encoding="utf-8")
    assert command("jobs.check_labels", "--labels", labels, "--store", store.uri) == (0, "", "no faults in 1 labels\n")
