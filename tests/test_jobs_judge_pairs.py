"""Many pairs judged into the store: from a file, the labels, a search; what is judged again and what is not."""

import json
from contextlib import closing

import numpy as np
import pytest

from jobs import judge_pairs as job
from jobs.embed_items import embed_items
from jobs.ingest import ingest_items, ingest_labels, ingest_queries
from jobs.judge_pairs import JudgePairs, judge_pairs
from jobs.pair_sources import pairs_by_search, pairs_of_labels
from jobs.plan import Counts, read_runs
from jobs.spine import run_job
from jobs.status import status_of
from lore_mm.catalogue import read_pairs
from lore_mm.console import command_app, run
from lore_mm.errors import InputError, StoreError
from lore_mm.models import open_embedder
from lore_mm.rows import attributes_table, demands_table, judgment_from_row
from lore_mm.types import AttributeValue, Demand, Grade, Judgment, MatchPath, Provenance, Query, Understanding
from relevance.judge import open_judge
from stores.features import open_store
from stores.snapshot import Snapshot


class BrandJudge:
    """L4 where the item's brand is the query's, else L1; raises at the brand `poison`."""

    name = mode = "rules"

    def __init__(self, sha="judge 1", poison=None):
        self.sha, self.poison, self.seen = sha, poison, []

    def judge(self, pairs):
        self.seen += [(u.query.query_id, f.item.item_id) for u, f in pairs]
        return [self._one(u, f) for u, f in pairs]

    def _one(self, understanding, features):
        brands = [a.value for a in features.of("brand")]
        if self.poison in brands:
            raise ArithmeticError(f"cannot judge {self.poison}")
        query, item_id = understanding.query, features.item.item_id
        grade = Grade.L4 if understanding.demands[0].value in brands else Grade.L1
        return Judgment(query.query_id, item_id, grade, query.text, path=MatchPath(query.query_id, item_id, ()))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def brand_rows(**brands):
    made = Provenance(maker="merge", input_sha="i", settings_sha="s")
    return attributes_table(
        {
            "item_id": item_id,
            "extractor": "merge",
            "attributes": [AttributeValue("brand", "brand", brand)],
            "status": "ok",
            "provenance": made,
        }
        for item_id, brand in brands.items()
    )


def demand_rows(**queries):
    """query id → (text, brand)"""
    return demands_table(
        [
            Understanding(Query(query_id, text), text, (Demand("brand", brand),))
            for query_id, (text, brand) in queries.items()
        ],
        Provenance(maker="test"),
    )


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "store", create=True)
    items = [{"item_id": i, "title": f"{i} lamp"} for i in ("ikea", "muji", "bose")]
    ingest_items(store, write(tmp_path / "items.jsonl", *items, {"item_id": "bad", "title": "x", "price": -1}))
    store.append("attributes", brand_rows(ikea="Ikea", muji="Muji", bose="Bose"))
    store.append("demands", demand_rows(q1=("ikea lamp", "Ikea"), q2=("bose box", "Bose")))
    queries = [{"query_id": "q1", "query": "ikea lamp"}, {"query_id": "q2", "query": "bose box"}]
    ingest_queries(store, write(tmp_path / "queries.jsonl", *queries))
    return store


PAIRS = [
    {"query_id": "q1", "query": "ikea lamp", "item_id": "ikea"},
    {"query_id": "q1", "query": "ikea lamp", "item_id": "muji"},
    {"query_id": "q2", "query": "bose box", "item_id": "nowhere"},
    {"query_id": "q2", "query": "bose box", "item_id": "bad"},
    {"query_id": "q2", "query": "bose box", "item_id": "bose"},
]


def work_of(store, tmp_path, judge=None):
    return JudgePairs(store, judge or BrandJudge(), read_pairs(write(tmp_path / "p.jsonl", *PAIRS)), {"from": "file"})


def judgments(store):
    rows = [judgment_from_row(row) for row in store.latest("judgments").collect().to_dicts()]
    return {(j.query_id, j.item_id): j for j in rows}


def test_every_pair_has_its_row(store, tmp_path):
    assert run_job(store, work_of(store, tmp_path), batch_rows=2) == Counts(5, 3, 2, 0)
    found = judgments(store)
    assert list(found) == [(p["query_id"], p["item_id"]) for p in PAIRS]
    assert [j.grade for j in found.values()] == [Grade.L4, Grade.L1, None, None, Grade.L4]
    assert found["q2", "nowhere"].error == "no item 'nowhere' in the store that could be read"
    assert found["q2", "bad"].error == "no item 'bad' in the store that could be read"
    assert found["q1", "ikea"].query == "ikea lamp"
    assert {j.provenance.settings_sha for j in found.values()} == {"judge 1"}


def test_only_what_changed_is_judged_again(store, tmp_path):
    run_job(store, work_of(store, tmp_path))
    before, judge = store.snapshot(), BrandJudge()
    assert run_job(store, work_of(store, tmp_path, judge)) == Counts(5, 0, 0, 5, n_still_failed=2)
    assert (judge.seen, store.snapshot()) == ([], before)
    store.append("attributes", brand_rows(muji="Ikea", bose="Bose"))  # bose: other row, same content
    assert run_job(store, work_of(store, tmp_path, judge)) == Counts(5, 1, 0, 4, n_still_failed=2)
    assert judge.seen == [("q1", "muji")]
    assert judgments(store)["q1", "muji"].grade == Grade.L4
    store.append("demands", demand_rows(q2=("bose box", "Sony")))
    judge.seen.clear()
    assert run_job(store, work_of(store, tmp_path, judge)) == Counts(5, 1, 2, 2)
    assert judge.seen == [("q2", "bose")]
    assert judgments(store)["q2", "bose"].grade == Grade.L1
    assert run_job(store, work_of(store, tmp_path, BrandJudge("judge 2"))) == Counts(5, 3, 2, 0)


def test_one_pair_that_breaks_the_judge_fails_alone(store, tmp_path):
    assert run_job(store, work_of(store, tmp_path, BrandJudge(poison="Muji"))) == Counts(5, 2, 3, 0)
    failed = judgments(store)["q1", "muji"]
    assert (failed.grade, failed.error) == (None, "ArithmeticError: cannot judge Muji")


def test_demands_of_another_text_are_not_taken(store, tmp_path, monkeypatch):
    """A query whose text changed since it was understood is read anew."""
    read = []

    def understand(queries, knowledge):
        read.extend(q.text for q in queries)
        return [Understanding(q, q.text, (Demand("brand", "Muji"),)) for q in queries]

    monkeypatch.setattr(job, "understand", understand)
    pairs = read_pairs(write(tmp_path / "p.jsonl", {"query_id": "q1", "query": "muji lamp", "item_id": "muji"}))
    assert run_job(store, JudgePairs(store, BrandJudge(), pairs, {"from": "file"})) == Counts(1, 1, 0, 0)
    assert judgments(store)["q1", "muji"].grade == Grade.L4
    assert set(read) == {"muji lamp"}


def test_an_engine_reads_the_queries_without_demands_and_each_once(store, tmp_path):
    class Reader:
        name, sha, seen = "reader", "1", []

        def understand(self, queries):
            self.seen += [q.text for q in queries]
            return [Understanding(q, q.text, (Demand("brand", "Muji"),), engine="reader") for q in queries]

    rows = [{"query_id": "q1", "query": "muji lamp", "item_id": item_id} for item_id in ("muji", "ikea", "bose")]
    pairs = read_pairs(write(tmp_path / "p.jsonl", *rows, {"query_id": "q2", "query": "bose box", "item_id": "bose"}))
    work = JudgePairs(store, BrandJudge(), pairs, {"from": "file"}, Reader())
    assert run_job(store, work, batch_rows=1) == Counts(4, 4, 0, 0)
    assert Reader.seen == ["muji lamp"]  # "bose box" is stored
    assert [j.grade for j in judgments(store).values()] == [Grade.L4, Grade.L1, Grade.L1, Grade.L4]
    assert {k: v for k, v in work.settings.items() if "engine" in k} == {"engine": "reader", "engine_sha": "1"}


def test_items_are_those_of_the_plan(store, tmp_path):
    """Features that change under a run are seen by the next one, not by half of this one."""
    work = work_of(store, tmp_path)
    process = work.process

    def meddling(rows, loaded):
        if store.version("attributes") == 1:
            store.append("attributes", brand_rows(bose="Sony"))
        return process(rows, loaded)

    work.process = meddling
    assert run_job(store, work, batch_rows=1) == Counts(5, 3, 2, 0)
    assert judgments(store)["q2", "bose"].grade == Grade.L4
    assert run_job(store, work_of(store, tmp_path), batch_rows=1) == Counts(5, 1, 0, 4, n_still_failed=2)
    assert judgments(store)["q2", "bose"].grade == Grade.L1


def test_pairs_of_labels(store, tmp_path):
    labels = [
        {"query_id": "q2", "item_id": "bose", "grade": "L4"},
        {"query_id": "q9", "item_id": "ikea", "grade": "L1"},
        {"query_id": "q1", "item_id": "ikea", "grade": "L4"},
    ]
    ingest_labels(store, write(tmp_path / "labels.jsonl", *labels))
    pairs = pairs_of_labels(store)
    assert pairs.to_pylist() == [
        {"query_id": "q2", "query": "bose box", "item_id": "bose"},
        {"query_id": "q9", "query": None, "item_id": "ikea"},
        {"query_id": "q1", "query": "ikea lamp", "item_id": "ikea"},
    ]
    assert run_job(store, JudgePairs(store, BrandJudge(), pairs, {"from": "labels"})) == Counts(3, 2, 1, 0)
    assert judgments(store)["q9", "ikea"].error == "no query 'q9' in the store"


def test_pairs_by_search_are_the_nearest(store):
    embedder = open_embedder("scripted:3")
    with pytest.raises(StoreError):
        pairs_by_search(store, embedder, 2)
    embed_items(store, embedder=embedder)
    rows = [r for r in store.latest("embeddings").collect().to_dicts() if r["text"] is not None]
    vectors = np.array([row["text"] for row in rows])
    expected = []
    for query_id, text in (("q1", "ikea lamp"), ("q2", "bose box")):
        similarity = vectors @ embedder.embed_texts([text])[0]
        nearest = np.argsort(-similarity)[:2]
        expected += [{"query_id": query_id, "query": text, "item_id": rows[i]["item_id"]} for i in nearest]
    assert pairs_by_search(store, embedder, 2).to_pylist() == expected


def test_labels_and_searches_do_not_stand_in_each_others_way(store, tmp_path):
    ingest_labels(store, write(tmp_path / "labels.jsonl", {"query_id": "q1", "item_id": "ikea", "grade": "L4"}))
    embed_items(store, embedder="scripted:3")
    poisoned = JudgePairs(
        store, BrandJudge(), pairs_by_search(store, open_embedder("scripted:3"), 3), {"from": "search"}
    )
    poisoned.process = lambda rows, loaded: (_ for _ in ()).throw(StoreError("the disk is full"))
    with pytest.raises(StoreError):
        run_job(store, poisoned)
    assert run_job(store, JudgePairs(store, BrandJudge(), pairs_of_labels(store), {"from": "labels"})) == Counts(1, 1)
    unfinished = [run.plan.job for run in read_runs(store) if run.finished_at is None]
    assert unfinished == ["judge_pairs_of_search"]


MODEL = """
[[rules]]
words = ["muji", "lamp"]
times = 1
error = "the server was busy"

[[rules]]
words = ["ikea", "lamp"]
likelihoods = { L4 = 0.7, L3 = 0.1, L2 = 0.1, L1 = 0.1 }

[default]
likelihoods = { L1 = 0.7, L2 = 0.1, L3 = 0.1, L4 = 0.1 }
"""


def test_judgments_of_a_model_stand_beside_those_of_the_rules(store, tmp_path):
    """One a pair and mode; a reply that failed is a failed row, and taken again when that is asked for."""
    (tmp_path / "model.toml").write_text(MODEL, encoding="utf-8")
    file = write(tmp_path / "p.jsonl", *PAIRS[:2])
    address = f"direct:scripted:{tmp_path / 'model.toml'}"

    def judged_by(judge, **how):
        return run_job(store, JudgePairs(store, judge, read_pairs(file), {"from": "file"}), **how)

    assert judge_pairs(store, pairs=file) == Counts(2, 2, 0, 0)
    with closing(open_judge(address, budget="compact")) as judge:
        assert judged_by(judge) == Counts(2, 1, 1, 0)
        assert judgments(store)["q1", "muji"].error == "the server was busy"
        assert judged_by(judge) == Counts(2, 0, 0, 2, n_still_failed=1)
        assert judged_by(judge, retry_failed=True) == Counts(2, 1, 0, 1)
    assert judge_pairs(store, pairs=file, judge=address, options={"budget": "compact"}) == Counts(2, 0, 0, 2)
    assert judge_pairs(store, pairs=file) == Counts(2, 0, 0, 2)
    rows = Snapshot(store).sql("SELECT mode, item_id, grade, status FROM judgments ORDER BY mode, item_id").to_pylist()
    assert [(row["mode"], row["item_id"], row["status"]) for row in rows] == [
        (mode, item_id, "ok") for mode in ("direct", "rules") for item_id in ("ikea", "muji")
    ]
    assert rows[0]["grade"] == "L4"
    joined = Snapshot(store).sql(
        "SELECT r.item_id, d.grade AS direct FROM judgments r JOIN judgments d USING (query_id, item_id) "
        "WHERE r.mode = 'rules' AND d.mode = 'direct' ORDER BY r.item_id"
    )
    assert joined["item_id"].to_pylist() == ["ikea", "muji"]
    assert [(j.mode, j.judgments, j.failed) for j in status_of(store).judges] == [("direct", 2, 0), ("rules", 2, 0)]
    assert [run.plan.job for run in read_runs(store)].count("judge_pairs_of_file_by_direct") == 2
    other = judge_pairs(store, pairs=file, judge=address, options={"budget": "full"}, sample=1)
    assert (other.n_in, other.n_skipped) == (1, 0)  # another prompt, another judge


def test_an_option_that_no_judge_has_and_a_judge_that_there_is_none_of(store, tmp_path):
    file = write(tmp_path / "p.jsonl", PAIRS[0])
    with pytest.raises(InputError, match="judge rules has no option 'samples'"):
        judge_pairs(store, pairs=file, options={"samples": 3})
    with pytest.raises(InputError, match="no judge 'raeson:x', did you mean 'reason'"):
        judge_pairs(store, pairs=file, judge="raeson:x")


def test_the_command(store, tmp_path, capsys):
    for arguments in ([], ["--labels", "--top", "3"]):
        with pytest.raises(SystemExit) as wrong:
            run(command_app(job.main, "judge_pairs"), [*arguments, "--store", store.uri])
        assert wrong.value.code == 2
        assert "name exactly one of --pairs FILE, --labels and --top K" in capsys.readouterr().err
    file = write(tmp_path / "p.jsonl", {"query": "lamp", "item_id": "ikea"}, {"query": "lamp", "item_id": "none"})
    with pytest.raises(SystemExit) as done:
        run(command_app(job.main, "judge_pairs"), ["--pairs", str(file), "--store", store.uri])
    assert done.value.code == 0
    assert "judge_pairs_of_file: 2 in = 1 ok + 1 failed + 0 skipped" in capsys.readouterr().err
    with pytest.raises(InputError):
        judge_pairs(store, pairs=tmp_path / "nothing.jsonl")
