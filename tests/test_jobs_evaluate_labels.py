"""Run: pytest tests/test_jobs_evaluate_labels.py

`lore evaluate labels`: wrong labels of a small set come first with why, impossible ones before them; people count.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from jobs.judge_audit import audit_rows, found_spoilt
from jobs.judge_datasets import evaluate_set
from lore_mm.datasets.relevance import RelevanceSet, open_relevance
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Grade

KNOWLEDGE = load_knowledge()
COLORS = ("red", "blue", "green", "black", "white", "grey", "brown", "pink", "yellow", "purple")
WRONG = ("green", "brown")  # whose sofas have the wrong label


def rows():
    """Ten queries for a sofa in a colour, with that sofa, one in another colour, and a laptop."""
    for n, color in enumerate(COLORS):
        query, other = f"{color} sofa", COLORS[(n + 3) % len(COLORS)]
        yield query, f"sofa-{color}", f"Sofa, {color}", "L1" if color in WRONG else "L4"
        yield query, f"sofa-{other}", f"Sofa, {other}", "L2"
        yield query, "laptop", "Laptop", "L4" if color == "pink" else "L1"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("audit") / "pairs.jsonl"
    names = ("query", "item_id", "title", "grade")
    made.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows()), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def found(path):
    return evaluate_set(open_relevance(str(path)), knowledge=KNOWLEDGE, embedders=[], resamples=0)


def test_wrong_labels_come_first_and_impossible_ones_before_them(found):
    first, *others = audit_rows(found, KNOWLEDGE)
    assert (first["query"], first["item_id"], first["label"]) == ("pink sofa", "laptop", "L4")
    assert first["doubt"] == 1.0 and first["impossible"].startswith("category is broken (category.unrelated)")
    assert {row["item_id"] for row in others[:2]} == {f"sofa-{color}" for color in WRONG}
    for row in others[:2]:
        assert (row["label"], row["suggested"], row["judges"]) == ("L1", "L4", {"rules": "L4"})
        assert 0 < row["doubt"] < 1 and row["impossible"] is None and sum(row["probabilities"]) == pytest.approx(1)
        assert row["reason"].startswith("rules says L4: ")
    assert all(one["doubt"] >= two["doubt"] for one, two in pairwise(others))


def test_right_labels_are_not_in_doubt(found):
    doubted = {(row["query"], row["item_id"]) for row in audit_rows(found, KNOWLEDGE)}
    right = [(query, item) for query, item, _, grade in rows() if grade == "L2"]
    assert len(doubted) < 10 and sum(pair in doubted for pair in right) <= 2


def test_people_who_agree_with_a_label_take_the_doubt_from_it(found):
    data = found.data
    keys = {(pair.query.query_id, pair.item_id): pair for pair in data.pairs}
    raters = {name: {key: pair.grade for key, pair in keys.items()} for name in ("ann", "ben")}
    key = next(key for key, pair in keys.items() if pair.query.text == "red sofa" and pair.item_id == "sofa-red")
    for said in raters.values():
        said[key] = Grade.L1  # two people say so, the label and the rules do not
    rated = RelevanceSet(data.name, data.scale, data.pairs, data.items, data.files, raters=raters)
    found_rated = evaluate_set(rated, knowledge=KNOWLEDGE, embedders=[], resamples=0)
    told = {(row["query"], row["item_id"]): row for row in audit_rows(found_rated, KNOWLEDGE)}
    assert set(told) == {("pink sofa", "laptop"), ("red sofa", "sofa-red")}
    row = told["red sofa", "sofa-red"]
    assert (row["suggested"], row["raters"], row["reason"]) == ("L1", {"ann": "L1", "ben": "L1"}, None)


def test_spoilt_labels_are_found_far_above_chance(found):
    told = found_spoilt(found, 0.1, repeats=4)
    assert (told["pairs"], told["share"], told["systems"]) == (30, 0.1, ["rules", "bm25_title"])
    assert told["precision_spoilt"] > 3 * told["chance"] and told["average_precision"] > 3 * told["chance"]
    assert "precision_50" not in told  # there are thirty
    assert told == found_spoilt(found, 0.1, repeats=4)


def test_labels_too_few_are_told(path, tmp_path):
    lines = path.read_text(encoding="utf-8").splitlines()[:3]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    few = evaluate_set(open_relevance(str(tmp_path / "few.jsonl")), knowledge=KNOWLEDGE, embedders=[], resamples=0)
    with pytest.raises(InputError, match="3 labels of 1 queries: too few to tell which are wrong"):
        audit_rows(few, KNOWLEDGE)


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.evaluate", "labels", *map(str, arguments)],
        capture_output=True,
        env=os.environ,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_prints_json_lines_or_writes_them(path, tmp_path):
    code, out, talk = command("--dataset", path, "--embedder", "none", "--output", tmp_path / "doubt.jsonl")
    assert code == 0 and out == "" and "of 30 labels are in doubt" in talk
    written = [json.loads(line) for line in (tmp_path / "doubt.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written[0]["impossible"] and written[1]["label"] == "L1"
    code, out, talk = command("--dataset", path, "--embedder", "none", "--output", tmp_path / "doubt.csv")
    assert code == 2 and talk.startswith("error: --output ") and talk.count("\n") == 1
