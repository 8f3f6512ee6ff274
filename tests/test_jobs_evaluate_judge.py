"""Run: pytest tests/test_jobs_evaluate_judge.py

`lore evaluate judge --dataset` on a small set made here: what is measured, what is told and never scored, the command.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import judge_systems
from jobs.evaluate_judge import evaluation_rows, evaluation_tables, main
from jobs.judge_answers import answer_rows, save_answers
from jobs.judge_datasets import evaluate_set
from jobs.judge_material import read_set
from jobs.judge_slices import slices_of
from jobs.judge_systems import run_judge
from jobs.report import _read_evaluation
from lore_mm.console import command_app
from lore_mm.datasets.relevance import RelevanceSet, open_relevance
from lore_mm.errors import ConfigError, InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Grade, Judgment
from relevance.calibration import LevelCalibration, write_levels
from relevance.judge import open_judge
from relevance.rules import DEFAULT_RULES, load_rulebook

ITEMS = {
    "couch": {"title": "Red velvet sofa", "price": 450.0, "image": "couch.jpg"},
    "lounge": {"title": "Blue sofa", "price": 300.0},
    "chair": {"title": "Wooden chair", "price": 40.0},
    "laptop": {"title": "Laptop", "price": 1299.0},
}
PAIRS = [
    ("red sofa", "couch", "L4", 900), ("red sofa", "lounge", "L2", 900), ("red sofa", "laptop", "L1", 900),
    ("laptop", "laptop", "L4", 60), ("laptop", "chair", "L1", 60), ("laptop", "gone", "L1", 60),
    ("sofa under 320", "lounge", "L4", 30), ("sofa under 320", "couch", "L2", 30),
    ("wooden chair", "chair", "L4", 10),
]  # fmt: skip
METRICS = {
    "acc_2", "acc_4", "macro_f1", "quadratic_kappa", "auc", "ndcg_10", "mrr", "good_rate", "pass_1", "ece_2",
    "ece_4",
}  # fmt: skip


def write_pairs(path, pairs=PAIRS, **more):
    told = set()
    rows = []
    for query, item, grade, frequency in pairs:
        row = {"query": query, "item_id": item, "grade": grade, "frequency": frequency, "split": "test"} | more
        rows.append(row if item in told else row | ITEMS.get(item, {}))
        told.add(item)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> RelevanceSet:
    return open_relevance(str(write_pairs(tmp_path_factory.mktemp("judged") / "pairs.jsonl")))


@pytest.fixture(scope="module")
def result(data):
    return evaluate_set(data, embedders=["scripted:7"], resamples=40).result


def test_the_judge_is_right_on_this_set_and_what_is_missing_is_told(result):
    assert (result["n"], result["missing"]) == (8, 1)
    assert result["errors"] == {"no item 'gone' in the set": 1}
    assert result["confusion"] == [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 4]]
    assert set(result["metrics"]) == METRICS
    values = {name: one["value"] for name, one in result["metrics"].items()}
    assert {values[name] for name in ("acc_2", "acc_4", "macro_f1", "quadratic_kappa", "auc", "ndcg_10", "mrr")} == {1}
    assert values["good_rate"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2 + 1) / 4, abs=1e-6)
    assert any(note.startswith("1 labels are of 1 items that are not there") for note in result["notes"])
    assert any(note.startswith("rules: 1 pairs have no judgment") for note in result["notes"])


def test_levels_and_labels_are_counted(result):
    assert result["levels"]["L4"] == {"true": 4, "said": 4, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert result["levels"]["L3"] == {"true": 0, "said": 0, "precision": None, "recall": None, "f1": None}
    assert result["labels"] == {
        "pairs": 9, "queries": 4, "levels": {"L1": 3, "L2": 2, "L3": 0, "L4": 4},
        "good_rate": pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1) / 4, abs=1e-6),
    }  # fmt: skip


def test_baselines_stand_beside_and_answer_for_the_same_pairs(result):
    assert list(result["systems"]) == ["rules", "all_one_class", "bm25_title", "cosine:scripted:7"]
    assert list(result["baselines"]) == ["all_one_class", "bm25_title", "cosine:scripted:7"]
    for name, system in result["systems"].items():
        assert (system["n"], system["missing"]) == (8, 1), name
    one = result["systems"]["all_one_class"]
    assert one["metrics"]["acc_4"]["value"] == 0.5  # four of the eight are L4
    assert one["difference"]["acc_4"]["value"] == 0.5 and one["metrics"]["auc"]["value"] == 0.5
    assert "difference" not in result["systems"]["rules"] and "ece_2" not in one["metrics"]


def test_the_card_names_everything_that_a_figure_hangs_on(result, data):
    card = result["card"]
    assert card["data"] == {"address": data.name, "sha": data.sha, "scale": "levels", "files": ["pairs.jsonl"]}
    assert card["shas"]["knowledge"] == load_knowledge().sha and card["shas"]["rulebook"] == load_rulebook().sha
    assert all(len(sha) == 64 for sha in card["shas"].values())
    assert set(card["shas"]) == {"knowledge", "schemas", "given", "engine", "rulebook", "judge"}
    assert (card["engine"], card["embedders"], card["resamples"], card["folds"]) == ("knowledge", ["scripted:7"], 40, 5)
    assert card["extractors"] == ["given"]


def test_the_same_set_measured_again_is_the_same(result, data):
    assert evaluate_set(data, embedders=["scripted:7"], resamples=40).result == result


def test_several_judges_are_compared_pair_by_pair(tmp_path):
    book = tmp_path / "mine.toml"
    book.write_text(DEFAULT_RULES.read_text(encoding="utf-8"), encoding="utf-8")
    few = open_relevance(str(write_pairs(tmp_path / "pairs.jsonl", PAIRS[:3])))
    found = evaluate_set(few, ["rules", f"rules:{book}"], embedders=[], resamples=20).result
    assert list(found["systems"]) == ["rules", f"rules:{book}", "all_one_class", "bm25_title"]
    assert found["systems"][f"rules:{book}"]["difference"]["acc_4"] == {
        "value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0,
    }  # fmt: skip
    titles = [row[""] for row in evaluation_rows(found)]
    assert titles == ["judge (rules)", f"judge (rules:{book})", "all one class", "bm25 title"]


def test_slices_of_few_queries_are_left_out(data):
    knowledge = load_knowledge()
    understood = read_set(data, knowledge).understood
    found, small = slices_of(data, understood, knowledge)
    assert found == {} and small > 4  # four queries: every slice is too small


def test_slices_are_of_whole_divisions_and_large_enough(tmp_path):
    asked = {"red": 500, "blue": 450, "green": 50, "black": 50, "white": 50, "grey": 50, "brown": 50}
    sofas = [(f"{color} sofa", "couch", "L4", n) for color, n in asked.items()]
    chairs = [(f"{color} chair", "lounge", "L1", 50) for color in list(asked)[:5]]
    some = open_relevance(str(write_pairs(tmp_path / "pairs.jsonl", sofas + chairs)))
    knowledge = load_knowledge()
    material = read_set(some, knowledge)
    found, small = slices_of(some, material.understood, knowledge)
    assert found["frequency: tail"] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]  # of 1,450 searches red has the first third
    assert found["picture: with"] == list(range(7)) and found["picture: without"] == list(range(7, 12))
    assert small == 2  # head and mid: one query each
    assert "dimension: color" not in found  # all of them ask for one: no slice, but the whole
    run = run_judge("rules", open_judge("rules", knowledge), some, material)
    assert run.grades == [Grade.L4, *[Grade.L2] * 11]  # other colours, and another kind of seat


def test_a_query_that_is_not_understood_is_missing_and_said(tmp_path):
    found = evaluate_set(
        open_relevance(str(write_pairs(tmp_path / "pairs.jsonl", [*PAIRS[:3], ("?!", "lounge", "L1", 1)]))),
        embedders=[],
        resamples=10,
    ).result
    assert (found["n"], found["missing"]) == (3, 1)
    assert sum(map(sum, found["confusion"])) == 3 and sum(found["errors"].values()) == 1


def test_agreement_of_people_where_the_set_has_raters(data):
    ids = {pair.query.query_id for pair in data.pairs}
    keys = [(pair.query.query_id, pair.item_id) for pair in data.pairs]
    assert len(ids) == 4
    said = {
        "one": {key: Grade.L4 if n % 2 else Grade.L1 for n, key in enumerate(keys)},
        "two": {key: Grade.L4 if n % 2 else Grade.L1 for n, key in enumerate(keys[:6])},
    }
    rated = RelevanceSet(data.name, data.scale, data.pairs, data.items, data.files, raters=said)
    people = evaluate_set(rated, embedders=[], resamples=10).result["people"]
    assert people["one – two"]["n"] == 6
    assert people["one – two"]["metrics"]["quadratic_kappa"]["value"] == 1.0


def test_tables_and_reports_show_it(result, tmp_path):
    rows = evaluation_rows(result)
    assert [row[""] for row in rows] == ["judge (rules)", "all one class", "bm25 title", "cosine:scripted:7"]
    assert rows[0]["nDCG@10"] == "1.00 [1.00, 1.00]" and rows[1]["ECE@2"] == "–"
    assert len(evaluation_tables(result)) == 5  # systems, differences, slices, confusion, levels; no people here
    (tmp_path / "evaluation.json").write_text(json.dumps(result), encoding="utf-8")
    assert _read_evaluation(tmp_path / "evaluation.json") == rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "demo", "judge": ["rulez"]}, "no judge 'rulez', did you mean 'rules'.*legal: rules, rules:"),
        ({"dataset": "demo", "store": "x"}, "leave --store and --labels out"),
        ({"dataset": "demo", "judge": ["rules", "rules"]}, "name each judge once"),
        ({"locale": "us"}, "--locale goes with --dataset"),
        ({"extractors": "given"}, "--extractors goes with --dataset"),
        ({"dataset": "demo", "extractors": "gievn"}, "no extractor 'gievn', did you mean 'given'"),
        ({"dataset": "demo", "embedder": ["none", "scripted:1"]}, "name no other beside it"),
        ({"dataset": "demo", "save": Path("a.csv")}, "--save a.csv: legal: the name of a .parquet or .jsonl file"),
        ({"dataset": "demo", "locale": "us"}, "has no locales"),
        ({"dataset": "demo", "engine": "knowlege"}, "knowlege"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(options, message):
    with pytest.raises(InputError, match=message):
        main(**{"sample": 1 if "dataset" in options else None, "embedder": ["none"]} | options)


def test_the_command_prints_one_json_object(data, tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl")
    command = [sys.executable, "-m", "jobs.evaluate", "judge", "--dataset", str(path), "--embedder", "none", "--json"]
    done = subprocess.run(command, capture_output=True, env=os.environ, text=True)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["n"] == 8 and set(printed["metrics"]) == METRICS
    assert {"systems", "baselines", "slices", "confusion", "notes", "card", "people", "levels"} <= set(printed)
    assert command_app(main, "x").registered_commands[0].callback is main


# ------------------------------------------------------------------------------------------------ every answer, a file


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_every_answer_stands_beside_its_label_disagreements_first(tmp_path, ending):
    pairs = [("red sofa", "couch", "L1", 9), *PAIRS[1:6]]  # the first label is wrong
    few = open_relevance(str(write_pairs(tmp_path / "pairs.jsonl", pairs)))
    book = tmp_path / "mine.toml"
    book.write_text(DEFAULT_RULES.read_text(encoding="utf-8"), encoding="utf-8")
    found = evaluate_set(few, ["rules", f"rules:{book}"], embedders=[], resamples=9)
    path = tmp_path / f"answers.{ending}"
    assert save_answers(answer_rows(few, found.judges, found.baselines), path) == 6
    if ending == "parquet":
        rows = pq.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    first, last = rows[0], rows[-1]
    assert (first["query"], first["item_id"], first["truth"], first["apart"]) == ("red sofa", "couch", "L1", 3.0)
    assert list(first["systems"]) == ["rules", f"rules:{book}", "all_one_class", "bm25_title"]
    said = first["systems"]["rules"]
    assert said["grade"] == "L4" and said["probabilities"][3] > 0.5 and said["error"] is None
    assert rows[1]["apart"] == 0.0
    broken = next(row for row in rows if row["item_id"] == "lounge")["systems"]["rules"]
    assert broken["failed_dimensions"] == ["color"] and broken["reason"].startswith("color 'red': ")
    assert (last["item_id"], last["apart"], last["title"]) == ("gone", None, None)
    assert (
        last["systems"]["rules"]["error"] == "no item 'gone' in the set" and last["systems"]["rules"]["grade"] is None
    )
    assert last["systems"]["bm25_title"]["score"] is None


def test_answers_that_cannot_be_written_are_told(tmp_path):
    with pytest.raises(InputError, match="No such file or directory"):
        save_answers([], tmp_path / "nowhere" / "answers.jsonl")


# ----------------------------------------------------------------------------------- judges that were trained, samples


class Trained:
    """A judge that says L4 of everything, five times over, and was trained on some queries."""

    name, mode, sha, versions = "trained", "trained", "0" * 64, {"model": "1" * 64}

    def __init__(self, *queries):
        self.queries = queries

    def judge(self, pairs):
        return [
            Judgment(u.query.query_id, f.item.item_id, Grade.L4, score=1.0, samples=(Grade.L4,) * 4 + (Grade.L1,))
            for u, f in pairs
        ]

    def was_trained_on(self, query):
        return query in self.queries

    def close(self):
        pass


def test_a_judge_trained_on_queries_of_the_set_is_also_measured_on_the_others(data, monkeypatch):
    monkeypatch.setattr(judge_systems, "open_judge", lambda address, *_, **__: Trained("laptop", "red sofa"))
    found = evaluate_set(data, ["student"], embedders=[], resamples=10).result
    told = found["systems"]["student"]["trained_on"]
    assert told["queries"] == 2 and told["others"]["queries"] == 2 and told["others"]["n"] == 3
    assert told["others"]["metrics"]["acc_4"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert (
        "student: 2 of 4 queries were in its training data; `trained_on` has the figures on the others"
        in (found["notes"])
    )
    # four of five answers are L4: right with 4/5 on the four pairs that are, with 1/5 on the two that are L1
    assert found["metrics"]["pass_1"]["value"] == pytest.approx((4 * 4 / 5 + 2 * 1 / 5 + 2 * 0) / 8)
    assert "pass_8" not in found["metrics"] and "ece_2" not in found["metrics"]


def test_a_judge_trained_on_all_of_them_has_no_others(data, monkeypatch):
    texts = {pair.query.text for pair in data.pairs}
    monkeypatch.setattr(judge_systems, "open_judge", lambda address, *_, **__: Trained(*texts))
    found = evaluate_set(data, ["student"], embedders=[], resamples=10).result
    assert found["systems"]["student"]["trained_on"] == {"queries": 4, "others": None}


def test_a_calibration_goes_over_the_judge_that_it_is_for(data, tmp_path):
    judge = open_judge("rules", load_knowledge())
    flat = LevelCalibration(kind="fitted", judge="rules", judge_sha=judge.sha, scale=0.0, bias=(0.0, 0.0, 0.0, 0.0))
    write_levels(flat, tmp_path / "flat.json")
    found = evaluate_set(data, embedders=[], resamples=10, calibrations=[str(tmp_path / "flat.json")]).result
    assert found["card"]["judges"]["rules"]["calibration"] == flat.sha
    # every level equally likely: a quarter is right of L4 … as sure, and the half that is relevant as sure as told
    assert found["metrics"]["ece_4"]["value"] == pytest.approx(abs(0.25 - 2 / 8))
    other = LevelCalibration(kind="fitted", judge="x", judge_sha="0" * 64, scale=1.0, bias=(0.0, 0.0, 0.0, 0.0))
    write_levels(other, tmp_path / "other.json")
    with pytest.raises(ConfigError, match="the calibration was fitted for judge x"):
        evaluate_set(data, embedders=[], resamples=10, calibrations=[str(tmp_path / "other.json")])
