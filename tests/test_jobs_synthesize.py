"""lore synthesize: rows by the rules and by a teacher, balanced, never lost or doubled; failures with reasons."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from extractors.query.llm import LlmEngine
from jobs.chain_pairs import Sources, balanced, catalogue_items, labelled_pairs
from jobs.judge_material import read_set
from jobs.synthesize_chains import QueryReadings, open_teacher, synthesize_chains
from lore_mm.console import command_app, run
from lore_mm.datasets.relevance import open_relevance
from lore_mm.datasets.relevance_set import GradedPair
from lore_mm.errors import InputError, ModelError, PlanError
from lore_mm.knowledge import load_knowledge
from lore_mm.models.json_reply import spelled
from lore_mm.models.scripted_chat import Rule, ScriptedChat
from lore_mm.types import Demand, Grade, Query, Understanding
from relevance.by_rules import RulesJudge
from relevance.chain_prompt import ChainPrompt
from relevance.dossier import BUDGETS
from relevance.rules import load_rulebook
from relevance.synthesize import main
from relevance.training.making import HeldOut, RowMaker
from relevance.training.rows import completion, has_chain, read_chains, reference
from relevance.training.teacher import Teacher
from stores.features import open_store

KNOWLEDGE, RULES = load_knowledge(), load_rulebook()
L1, L2, L3, L4 = Grade
QUERY = "black running shoes"
PAIRS = [
    {"query": QUERY, "item_id": "good", "title": "Freerun Running Shoe, Black", "grade": "L4"},
    {"query": QUERY, "item_id": "navy", "title": "Trail Running Shoe, Navy", "grade": "L2", "split": "test"},
    {"query": QUERY, "item_id": "mug", "title": "Ceramic Mug, Black", "grade": "L1"},
    {"query": QUERY, "item_id": "bare", "title": "Street Running Shoe", "grade": "L4"},  # the rules say L3
]
HEAD = '- category "running shoes" as "running_shoe" (head)'


@pytest.fixture
def file(tmp_path):
    """Four graded pairs with their items."""
    path = tmp_path / "shoes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


def read(file):
    data = open_relevance(str(file))
    return labelled_pairs(data, read_set(data, KNOWLEDGE), "shoes", lambda item: None)


def maker():
    held_out = HeldOut(categories=0, queries=0, dev=0)
    return RowMaker(ChainPrompt(KNOWLEDGE, RULES, BUDGETS["tiny"]), held_out)


def synthesize(store, pairs, teacher=None, **settings):
    judge = RulesJudge(KNOWLEDGE, RULES)
    return synthesize_chains(open_store(store, create=True), pairs, judge, maker(), teacher, **settings)


def found(source, quote, found):
    return {"source": source, "quote": quote, "found": found}


def ruled(relation, rule, level):
    return {"relation": relation, "rule": rule, "level": level}


# (evidence of the category, of the color, rulings of both, grade), by a word of the title
SAID = {
    "Freerun": ("Running Shoe", "Black", ("exact", "any.exact", "L4"), ("exact", "color.stated", "L4"), "L4"),
    "Trail": ("Running Shoe", "Navy", ("exact", "any.exact", "L4"), ("other", "color.other", "L2"), "L2"),
    "Mug": ("Ceramic Mug", "Black", ("unrelated", "category.unrelated", "L1"), ("exact", "color.stated", "L4"), "L1"),
    "Street": ("Running Shoe", "", ("exact", "any.exact", "L4"), ("unstated", "any.unstated", "L3"), "L3"),
}


def teaching():
    """The rules of a scripted teacher that judges as the rulebook does."""
    rules = []
    for word, (thing, color, category, shade, grade) in SAID.items():
        evidence = {"category_1": found("title", thing, thing.lower()), "color_2": found("title", color, color.lower())}
        if not color:
            evidence["color_2"] = found("none", "", "")
        ruling = {"category_1": ruled(*category), "color_2": ruled(*shade), "grade": grade}
        rules += [Rule(words=("evidence", word), answer=evidence), Rule(words=("ruling", word), answer=ruling)]
    return rules


def scripted(*faults, **settings):
    """The scripted teacher, with rules before its own."""
    return Teacher(ScriptedChat([*faults, *teaching()]), KNOWLEDGE, RULES, **{"samples": 2, **settings})


def rows_of(store):
    """What stands, without when and in which run it was made."""
    rows = open_store(store).scan("chains").sort("item_id").collect()
    return rows.with_columns(pl.col("provenance").struct.field("input_sha", "settings_sha", "maker")).drop("provenance")


# -- rows --------------------------------------------------------------------------------------------------------------


def test_the_rules_write_the_rows_of_a_labelled_set(file, tmp_path):
    out = tmp_path / "out" / "chains.parquet"
    done = synthesize(tmp_path / "s", read(file), out=out)
    assert (done.counts.n_ok, done.counts.n_failed) == (4, 0)
    rows = {row.item_id: row for row in read_chains(out)}
    assert list(rows) == ["good", "navy", "mug", "bare"]  # in the order of the pairs
    good = rows["good"]
    assert (good.set, good.label, good.label_by) == ("shoes", 4, "people")
    assert (good.teacher, good.category) == ("rules", "running_shoe")
    assert completion(good).split("\n") == [
        "<think>",
        f'{HEAD}: exact "running_shoe" in title "Running Shoe" => L4',
        '- color "black": exact "black" in title "Black" => L4',
        "</think>",
        "grade L4",
    ]
    assert good.item_told.startswith('title "Freerun Running Shoe, Black"') and good.prompt.endswith(good.item_told)
    assert (rows["navy"].split, good.split) == ("queries", "train")  # a set's own test is learned from by nobody
    bare = rows["bare"]
    assert (has_chain(bare), bare.status, bare.right, int(reference(bare).grade)) == (False, "ok", 0, 3)
    assert good.provenance.run_id.startswith("synthesize-") and good.provenance.settings_sha
    assert done.summary == {
        "teacher": "rules",
        "asked": 4,
        "kept": 3,
        "hinted": 0,
        "without_chain": 1,
        "failed": {},
        "labels": {"L1": 1, "L2": 1, "L3": 0, "L4": 1},
        "splits": {"queries": 1, "train": 2},
        "mean_length": done.summary["mean_length"],
        "samples": {},
        "tokens": {"prompt": 0, "completion": 0, "calls": 0},
        "out": str(out),
    }
    assert done.summary["mean_length"]["legs"] == 2.0


def test_a_teacher_writes_them_beside_and_fails_where_it_finds_no_way_to_the_label(file, tmp_path):
    out = tmp_path / "taught.parquet"
    synthesize(tmp_path / "s", read(file))
    teacher = scripted()
    done = synthesize(tmp_path / "s", read(file), teacher, out=out)
    rows = {row.item_id: row for row in read_chains(out)}
    assert [row.status for row in rows.values()] == ["ok", "ok", "ok", "failed"]
    assert rows["navy"].rules.split("\n") == [
        f'{HEAD}: exact "running shoe" in title "Running Shoe" => L4 any.exact',
        '- color "black": other "navy" in title "Navy" => L2 color.other',
    ]
    assert rows["navy"].multimodal.split("\n")[1] == '- color "black": "navy" in title "Navy"'
    assert (rows["navy"].knowledge.split("\n")[0], rows["navy"].failed) == (HEAD, ("color",))
    assert rows["mug"].reference and rows["mug"].failed == ("category",)
    assert {(row.teacher, row.teacher_sha, row.samples) for row in rows.values()} == {("scripted", teacher.sha, 2)}
    assert [row.right for row in rows.values()] == [2, 2, 2, 0]
    assert rows["bare"].error == "no sample has the label: 3 wrong; such as: the grade L3 where the label is L4"
    assert (rows["bare"].rules, rows["bare"].label) == ("", 4)
    assert done.summary["failed"] == {"no sample has the label": 1}
    assert done.summary["samples"] == {"kept": 6, "wrong": 3}
    assert done.summary["tokens"]["calls"] == teacher.chat.requests == 2 * (4 * 2 + 1)
    assert open_store(tmp_path / "s").scan("chains").collect().height == 8  # the rules' rows stand beside


def test_a_hint_that_helps_is_told_in_the_row(file, tmp_path):
    wrong = Rule(words=("ruling", "Freerun"), times=2, answer={**teaching()[1].answer, "grade": "L2"})
    done = synthesize(tmp_path / "s", read(file)[:1], scripted(wrong), out=tmp_path / "t.parquet")
    (row,) = read_chains(tmp_path / "t.parquet")
    assert (row.hinted, row.right, row.status, done.summary["hinted"]) == (True, 0, "ok", 1)


# -- nothing lost, nothing paid twice ----------------------------------------------------------------------------------


def test_what_stands_is_not_asked_again_and_what_failed_only_on_demand(file, tmp_path):
    pairs = read(file)
    synthesize(tmp_path / "s", pairs, scripted())
    again = scripted()
    done = synthesize(tmp_path / "s", pairs, again, out=tmp_path / "t.parquet")
    assert (again.chat.requests, done.counts.n_skipped, len(read_chains(tmp_path / "t.parquet"))) == (0, 4, 4)
    done = synthesize(tmp_path / "s", pairs, again, retry_failed=True)
    assert (done.counts.n_skipped, again.chat.requests) == (3, 6)
    other = scripted(samples=3)  # another teacher's settings: all of it anew
    assert synthesize(tmp_path / "s", pairs, other).counts.n_skipped == 0


def test_a_dead_teacher_loses_no_committed_row(file, tmp_path):
    class Dies(ScriptedChat):
        def generate(self, requests):
            if self.requests >= 8:
                raise ModelError("out of memory")
            return super().generate(requests)

    dying = Teacher(Dies(teaching()), KNOWLEDGE, RULES, samples=2)
    with pytest.raises(ModelError, match="out of memory"):
        synthesize(tmp_path / "s", read(file), dying, batch_rows=1, in_flight=1)
    assert rows_of(tmp_path / "s")["item_id"].to_list() == ["good", "navy"]
    teacher = scripted()
    with pytest.raises(PlanError, match="an unfinished run"):
        synthesize(tmp_path / "s", read(file)[:2], teacher, batch_rows=1)
    done = synthesize(tmp_path / "s", read(file), teacher, batch_rows=1, in_flight=1)
    assert (done.counts.n_in, done.counts.n_ok, done.counts.n_failed) == (4, 3, 1)
    assert teacher.chat.requests == 4 + 6  # the mug and the bare one
    synthesize(tmp_path / "whole", read(file), scripted())
    assert rows_of(tmp_path / "s").equals(rows_of(tmp_path / "whole"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.test_jobs_synthesize import *

class Kills(ScriptedChat):
    def generate(self, requests):
        if self.requests >= 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(requests)

teacher = Teacher(Kills(teaching()), KNOWLEDGE, RULES, samples=2)
synthesize(Path(sys.argv[1]), read(Path(sys.argv[2])), teacher, batch_rows=1, in_flight=1)
"""


def test_killed_it_goes_on_where_it_stopped(file, tmp_path):
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s"), str(file), root]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert rows_of(tmp_path / "s")["item_id"].to_list() == ["good", "navy"]
    teacher = scripted()
    done = synthesize(tmp_path / "s", read(file), teacher, batch_rows=1, in_flight=1)
    assert (done.counts.n_in, teacher.chat.requests) == (4, 10)
    synthesize(tmp_path / "whole", read(file), scripted(), in_flight=2)
    assert rows_of(tmp_path / "s").equals(rows_of(tmp_path / "whole"))


class Reads:
    """A query model that gives these readings."""

    sha = "0"

    def __init__(self, readings):
        self.samples = lambda queries, count: [readings for _ in queries]


def test_a_query_is_read_once_however_often_it_comes():
    chat = ScriptedChat(seed=1)
    readings = QueryReadings(LlmEngine(chat, KNOWLEDGE, temperature=0.7), 3)
    one, other = Query("a", "red shoes"), Query("b", "mug")
    first = readings([one, other])
    asked = chat.requests
    assert [len(some) for some in first] == [3, 3] and asked >= 6
    assert readings([other, one]) == first[::-1] and chat.requests == asked
    same = [Understanding(one, "", (Demand("color", "red", confidence=c),), confidence=c) for c in (0.5, 0.9)]
    (shared,) = QueryReadings(Reads(same), 2)([one])
    assert shared[0] is shared[1] is same[0]  # what asks for the same is told once
    assert len({spelled([d.value for d in read.demands]) for some in first for read in some}) > 2  # other seeds


# -- which pairs -------------------------------------------------------------------------------------------------------


def test_labels_are_balanced_and_spread_over_queries():
    plan = [("a", 40, L1), ("a", 2, L4), ("b", 5, L1), ("c", 1, L1), ("c", 3, L2)]
    pairs = [GradedPair(Query(q, q), f"{q}{level}{i}", level) for q, n, level in plan for i in range(n)]
    kept = balanced(pairs, 6)
    per = {(q, level): sum(p.query.query_id == q and p.grade == level for p in kept) for q, _, level in plan}
    assert per == {("a", L1): 3, ("b", L1): 2, ("c", L1): 1, ("a", L4): 2, ("c", L2): 3} or per[("b", L1)] == 3
    assert [p.query.query_id for p in kept] == sorted(p.query.query_id for p in kept)  # query by query
    assert balanced(list(reversed(pairs)), 6)[0] in kept and balanced(pairs, 1000) == pairs
    assert {p.item_id for p in balanced(pairs, 6)} == {p.item_id for p in kept}  # always the same


def test_pairs_made_up_over_a_catalogue_know_what_was_changed(tmp_path):
    store = open_store(tmp_path / "s", create=True)
    sources = Sources(catalogues=("demo",), made_up=40)
    pairs = sources.read(store, KNOWLEDGE, RulesJudge(KNOWLEDGE, RULES))
    assert len(pairs) == 40 and {pair.set for pair in pairs} == {"made up"}
    changed = [pair for pair in pairs if pair.changed]
    assert changed and not any(pair.features.item.images for pair in changed)
    synthesize(tmp_path / "s", pairs, out=tmp_path / "c.parquet")
    rows = read_chains(tmp_path / "c.parquet")
    assert all(has_chain(row) and row.label_by == "rules" for row in rows)
    assert all(row.changed in row.failed or row.label >= 3 for row in rows if row.changed)
    assert any(row.pictures and row.picture_root for row in rows)


def test_a_catalogue_is_a_file_a_set_or_refused(file, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a", "title": "Mug"}\n{"item_id": "b", "title": ""}\n')
    items, root = catalogue_items(str(path), KNOWLEDGE)
    assert ([item.item_id for item in items], root) == (["a"], str(tmp_path))
    with pytest.raises(InputError, match="legal: demo, chorus:PATH"):
        catalogue_items("cathalogue:x", KNOWLEDGE)
    path.write_text('{"item_id": "a", "title": "zzqx"}\n')
    store, judge = open_store(tmp_path / "s", create=True), RulesJudge(KNOWLEDGE, RULES)
    with pytest.raises(InputError, match="nothing to ask for"):
        Sources(catalogues=(str(path),)).read(store, KNOWLEDGE, judge)
    with pytest.raises(InputError, match="two sets are called 'shoes'"):
        Sources(datasets=(str(file), str(file))).read(store, KNOWLEDGE, judge)
    with pytest.raises(InputError, match="no labels in"):
        Sources().read(store, KNOWLEDGE, judge)


# -- the command -------------------------------------------------------------------------------------------------------


def command(*arguments):
    """The exit code."""
    with pytest.raises(SystemExit) as stopped:
        run(command_app(main, "lore synthesize"), [str(one) for one in arguments])
    return stopped.value.code or 0


def test_the_command_writes_and_sums_up(file, tmp_path, capsys):
    out = tmp_path / "c.parquet"
    command("--dataset", file, "--store", tmp_path / "s", "--told", "tiny", "--per-label", 1, "--out", out, "--json")
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert (summary["asked"], summary["out"]) == (3, str(out))
    assert "shoes: 1 of 1 L1, 1 of 1 L2, 0 of 0 L3, 1 of 2 L4" in said.err
    assert len(read_chains(out)) == 3


def test_the_command_asks_a_teacher(file, tmp_path, capsys):
    script = tmp_path / "teacher.json"
    script.write_text(json.dumps({"rules": [{"error": "no such model"}]}))
    arguments = ["--dataset", file, "--store", tmp_path / "s", "--teacher", f"scripted:{script}", "--samples", 2]
    command(*arguments, "--out", tmp_path / "c.parquet", "--limit", 2, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert (summary["asked"], summary["kept"], summary["failed"]) == (2, 0, {"no sample could be read": 2})
    rows = read_chains(tmp_path / "c.parquet")
    assert {row.error for row in rows} == {
        "no sample could be read: 2 unreadable; such as: the query was not understood: no such model"
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--told", "tinny"], "--told 'tinny', did you mean 'tiny'?"),
        (["--out", "chains.csv"], "--out chains.csv: legal is a file that ends in .parquet"),
        (["--teacher", "hg:x"], "no chat model 'hg:x'"),
        (["--teacher", "scripted:1", "--temperature", "0"], "at a temperature of 0 all of them are the same"),
        (["--teacher", "scripted:1", "--prompts", "nowhere"], "--prompts nowhere: no such folder"),
        (["--teacher", "scripted:1", "--model-option", "x=1"], "teacher scripted:1: "),
        (["--split", "nope"], "no split 'nope'"),
        (["--rules", "none.toml"], "none.toml does not exist"),
    ],
)
def test_the_command_says_what_is_wrong(file, tmp_path, capsys, arguments, why):
    assert command("--dataset", file, "--store", tmp_path / "s", *arguments) in (1, 2)
    assert why in capsys.readouterr().err.replace("\n", " ")


# -- a real engine -----------------------------------------------------------------------------------------------------

BRIEF = """{% block system %}JSON.{% endblock %}{% block query %}{{ query | quoted }}
{% for leg in legs %}{{ leg.key }}: {{ leg.words | quoted }}
{% endfor %}{% endblock %}{% block item %}{{ title | quoted }}{% endblock %}{% block ask %}WHAT{% endblock %}"""


def test_a_real_engine_that_knows_nothing_leaves_a_reason_in_every_row(file, tmp_path, tiny_vlm_folder):
    pytest.importorskip("llguidance", reason="needs the extra hf")
    for name, ask in (("teach_evidence", "evidence {{ hint }}"), ("teach_rules", "ruling {{ hint }} {{ evidence }}")):
        (tmp_path / f"{name}.jinja").write_text(BRIEF.replace("WHAT", ask))
    (tmp_path / "understand.jinja").write_text("{% block user %}{{ query | quoted }}{% endblock %}")
    teacher = open_teacher(f"hf:{tiny_vlm_folder}", KNOWLEDGE, RULES, samples=2, prompts=tmp_path, max_tokens=700)
    teacher.decode = None  # the tables' demands: a model that knows nothing says too many
    try:
        done = synthesize(tmp_path / "s", read(file)[:2], teacher, out=tmp_path / "c.parquet")
    finally:
        teacher.chat.close()
    rows = read_chains(tmp_path / "c.parquet")
    assert (done.counts.n_in, len(rows)) == (2, 2)
    for row in rows:
        assert (row.status, row.samples) == ("failed", 2) or has_chain(row)
        assert row.error is None or " such as: " in row.error
    # six samples: each is read, whatever it says
    assert sum(done.summary["samples"].values()) in (4, 5, 6) and "unreadable" not in done.summary["samples"]
    assert done.summary["tokens"]["completion"] > 100
