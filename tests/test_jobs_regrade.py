"""Run: pytest tests/test_jobs_regrade.py

`lore regrade`: what is graded again and what is not, what the rows then say, resuming, and what is printed.
"""

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from jobs import regrade as job
from jobs.ingest import ingest_items
from jobs.judge_pairs import JudgePairs
from jobs.plan import Counts, read_runs
from jobs.regrade import regrade_judgments
from jobs.spine import run_job
from lore_mm.catalogue import read_pairs
from lore_mm.console import command_app, run
from lore_mm.errors import PlanError, StoreError
from lore_mm.knowledge import Color, Knowledge
from lore_mm.rows import judgment_from_row, judgments_table
from lore_mm.tables import JUDGMENTS
from lore_mm.types import Demand, Grade, Judgment, Leg, MatchPath, Provenance, Query
from relevance.by_rules import RulesJudge
from relevance.protocol import failed_judgment, sha_with_rulebook
from relevance.rules import DEFAULT_RULES, decide, load_rulebook
from stores.features import open_store

SHIPPED = load_rulebook()
OLD = sha_with_rulebook("a" * 64, SHIPPED.sha)


@pytest.fixture
def strict(tmp_path):
    """The shipped rules, but a neighbouring colour breaks the demand."""
    text = DEFAULT_RULES.read_text(encoding="utf-8")
    start = text.index("[rules.color.near]")
    end = text.index("[rules", start + 1)
    file = tmp_path / "strict.toml"
    file.write_text(text[:start] + text[start:end].replace('"L3"', '"L2"') + text[end:], encoding="utf-8")
    return file


def write(path, row):
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def leg(dimension, relation, **values):
    return Leg(Demand(dimension, "x", "x"), dimension, relation, confidence=0.9, **values)


def judgment(item_id, *legs, mode="rules", **values):
    decision = decide(MatchPath("q", item_id, legs), SHIPPED)
    made = Provenance("run 1", f"judge:{mode}", f"input of {item_id}", OLD)
    return Judgment(
        "q", item_id, decision.grade, "black shoes", decision.probabilities, decision.score, decision.path,
        decision.failed_dimensions, decision.rule_ids, mode=mode, provenance=made, **values,
    )  # fmt: skip


NEAR, EXACT = leg("color", "near"), leg("category", "exact")
STORED = [
    judgment("a", EXACT, NEAR),
    judgment("b", EXACT),
    judgment("c", NEAR, mode="reason", said=Grade.L4, samples=(Grade.L3, Grade.L4)),
    judgment("a", EXACT, NEAR, mode="student"),
    failed_judgment(Query("q", "black shoes"), "d", "no such item"),
    judgment("e", EXACT, NEAR),
    judgment("f", NEAR, NEAR),
]


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "store", create=True)
    store.append("judgments", judgments_table(STORED))
    return store


def newest(store):
    rows = [judgment_from_row(row) for row in store.latest("judgments").collect().to_dicts()]
    return {(one.item_id, one.mode): one for one in rows}


def test_grades_follow_the_rulebook_and_the_rows_say_so(store, strict):
    book = load_rulebook(strict)
    outcome = regrade_judgments(store, book)
    assert outcome.counts == Counts(5, 5, 0, 0)
    assert outcome.left_alone == {
        "it could not be judged and has no path": 1,
        "mode student: the grade is the model's own, not the rulebook's": 1,
    }
    found = newest(store)
    assert len(found) == len(STORED)
    assert {key: str(one.grade) for key, one in found.items() if one.grade} == {
        ("a", "rules"): "L2", ("b", "rules"): "L4", ("c", "reason"): "L2", ("a", "student"): "L3",
        ("e", "rules"): "L2", ("f", "rules"): "L2",
    }  # fmt: skip
    for old in STORED:
        new = found[old.item_id, old.mode]
        if old.mode == "student" or old.grade is None:
            assert new == old
            continue
        decision = decide(old.path, book)
        assert (new.grade, new.path, new.rule_ids) == (decision.grade, decision.path, decision.rule_ids)
        assert new.failed_dimensions == decision.failed_dimensions
        assert new.probabilities == pytest.approx(decision.probabilities, abs=1e-12)
        assert (new.said, new.samples, new.query, new.error, new.status) == (old.said, (), old.query, None, "ok")
        made = new.provenance
        assert (made.maker, made.input_sha) == (f"regrade of judge:{old.mode}", f"input of {old.item_id}")
        assert made.settings_sha == sha_with_rulebook("a" * 64, book.sha)
        assert made.run_id.startswith("regrade-")


def test_done_twice_it_does_nothing_and_back_again_it_is_as_it_was(store, strict):
    book = load_rulebook(strict)
    regrade_judgments(store, book)
    before = store.snapshot()
    outcome = regrade_judgments(store, book)
    assert (outcome.counts, store.snapshot()) == (Counts(), before)
    assert outcome.left_alone["graded by this rulebook already"] == 5
    regrade_judgments(store, SHIPPED)
    for key, one in newest(store).items():
        [old] = [old for old in STORED if (old.item_id, old.mode) == key]
        assert replace(one, provenance=old.provenance, samples=old.samples) == old
        assert one.provenance.settings_sha == old.provenance.settings_sha


def test_it_goes_on_where_it_stopped(store, strict, monkeypatch):
    book = load_rulebook(strict)
    append, seen = store.append, []

    def failing(table, rows, transaction=None, **options):
        if table == "judgments":
            seen.append(rows.num_rows)
            if len(seen) == 2:
                raise StoreError("the disk is full")
        return append(table, rows, transaction, **options)

    monkeypatch.setattr(store, "append", failing)
    with pytest.raises(StoreError, match="the disk is full"):
        regrade_judgments(store, book, batch_rows=2)
    assert [str(one.grade) for one in newest(store).values()].count("L2") == 1  # of a and b, a has changed
    monkeypatch.undo()
    with pytest.raises(PlanError, match="rulebook"):
        regrade_judgments(store, SHIPPED, batch_rows=2)
    regrade_judgments(store, book, batch_rows=2)
    assert [str(one.grade) for one in newest(store).values()].count("L2") == 4
    assert store.count("judgments") == len(STORED) + 5
    [one] = [one for one in read_runs(store, "regrade")]
    assert (one.resumed, one.counts) == (1, Counts(5, 5, 0, 0))


def test_a_path_that_no_rule_fits_is_a_failed_row_and_the_others_are_graded(store, strict):
    strange = judgments_table([judgment("s", NEAR)]).to_pylist()
    strange[0]["legs"][0]["relation"] = "of another version"
    store.append("judgments", pa.Table.from_pylist(strange, JUDGMENTS))
    assert regrade_judgments(store, load_rulebook(strict)).counts == Counts(6, 5, 1, 0)
    one = newest(store)["s", "rules"]
    assert (one.grade, one.status) == (None, "failed")
    assert one.error == "no rule for relation 'of another version' in dimension 'color'"


def test_a_dry_run_tells_the_same_and_writes_nothing(store, strict):
    book, before = load_rulebook(strict), store.snapshot()
    dry = regrade_judgments(store, book, dry_run=True)
    assert store.snapshot() == before
    wet = regrade_judgments(store, book)
    assert dry.changes.as_row() == wet.changes.as_row()
    assert (dry.counts, dry.left_alone) == (wet.counts, wet.left_alone)
    assert wet.changes.as_row() == {
        "n_changed": 4,
        "grades": [{"from": "L3", "to": "L2", "n": 4}, {"from": "L4", "to": "L4", "n": 1}],
        "rules": [
            {
                "from": {"rule_id": "color.near", "level": "L3"},
                "to": {"rule_id": "color.near", "level": "L2"},
                "legs": 5,
                "turned": 4,
            }
        ],
        "examples": [
            {"from": "L3", "to": "L2", "query": "black shoes", "query_id": "q", "item_id": i, "mode": mode}
            for i, mode in (("a", "rules"), ("c", "reason"), ("e", "rules"))
        ],
    }


def test_changes_add_up_over_batches(store, strict):
    book = load_rulebook(strict)
    whole = regrade_judgments(store, book, dry_run=True).changes.as_row()
    parts = regrade_judgments(store, book, dry_run=True, batch_rows=1).changes.as_row()
    assert parts == whole


def test_what_is_regraded_is_not_judged_again_by_the_judge_with_those_rules(tmp_path, strict):
    world = Knowledge(colors=[Color(name="black", family="black", hex="#000000")])
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, write(tmp_path / "items.jsonl", {"item_id": "x", "title": "black lamp"}))
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", {"query": "black", "item_id": "x"}))

    def judged_by(book):
        work = JudgePairs(store, RulesJudge(world, book), pairs, {"from": "file"}, knowledge=world)
        return run_job(store, work)

    assert judged_by(SHIPPED) == Counts(1, 1, 0, 0)
    book = load_rulebook(strict)
    assert regrade_judgments(store, book).counts == Counts(1, 1, 0, 0)
    assert judged_by(book) == Counts(1, 0, 0, 1)
    assert judged_by(SHIPPED) == Counts(1, 1, 0, 0)


def test_no_judgments(tmp_path):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, write(tmp_path / "items.jsonl", {"item_id": "x", "title": "lamp"}))
    with pytest.raises(StoreError, match=r"no judgments in .*: lore judge-pairs"):
        regrade_judgments(store, SHIPPED)


def test_the_command(store, strict, capsys):
    def command(*arguments):
        with pytest.raises(SystemExit) as done:
            run(command_app(job.main, "regrade"), [*map(str, arguments), "--store", store.uri])
        said = capsys.readouterr()
        return done.value.code, said.out, said.err

    code, out, err = command("--rules", strict, "--dry-run")
    assert code == 0 and "5 would be graded, 0 could not; nothing was written" in err
    row = json.loads(out)
    assert (row["dry_run"], row["n_in"], row["n_ok"], row["n_failed"], row["n_changed"]) == (True, 5, 5, 0, 4)
    assert row["rulebook"] == load_rulebook(strict).sha
    code, out, err = command("--rules", strict)
    assert code == 0 and json.loads(out)["n_changed"] == 4
    assert "regrade: 5 in = 5 ok + 0 failed + 0 skipped" in err
    assert "1 left as they are: mode student: the grade is the model's own" in err
    code, out, err = command("--rules", strict, "--json")
    assert code == 0 and json.loads(out)["left_alone"]["graded by this rulebook already"] == 5
    code, out, err = command("--rules", "none.toml")
    assert (code, out, err) == (2, "", "error: rulebook none.toml does not exist\n")


def test_changes_are_tables_for_people(store, strict, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(job, "for_people", lambda json: True)
    with pytest.raises(SystemExit):
        run(command_app(job.main, "regrade"), ["--rules", str(strict), "--store", store.uri])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["4", "of", "5", "judgments", "have", "another", "grade"] in lines
    assert ["color.near", "L3", "color.near", "L2", "5", "4"] in lines
    assert ["L3", "L2", "black", "shoes", "a"] in lines
