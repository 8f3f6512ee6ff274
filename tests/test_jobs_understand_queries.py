"""The query log read into demands: row for row, only what changed, one bad query alone."""

import json

import pytest

from jobs import understand_queries as job
from jobs.ingest import ingest_queries
from jobs.plan import Counts
from jobs.understand_queries import understand_queries
from lore_mm.console import command_app, run
from lore_mm.errors import StoreError
from lore_mm.rows import understanding_from_row
from lore_mm.types import Demand, Understanding
from stores.features import open_store


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "store", create=True)
    ingest(store, tmp_path, q1="red sofa", q2="", q3="blue lamp")
    return store


def ingest(store, folder, **texts):
    path = folder / "queries.jsonl"
    path.write_text("".join(json.dumps({"query_id": q, "query": text}) + "\n" for q, text in texts.items()))
    ingest_queries(store, path)


def understood(store):
    rows = store.latest("demands").collect().to_dicts()
    return {row["query_id"]: understanding_from_row(row) for row in rows}


@pytest.fixture
def reader(monkeypatch):
    """In the place of the real one: the first word is the demand; an empty query fails; "boom" raises."""
    seen = []

    def understand(queries, knowledge):
        seen.append([q.query_id for q in queries])
        if any("boom" in q.text for q in queries):
            raise ZeroDivisionError("boom")
        return [
            Understanding(q, q.text.lower(), (Demand("color", q.text.split()[0]),))
            if q.text
            else Understanding(q, "", status="failed", error="empty query")
            for q in queries
        ]

    monkeypatch.setattr(job, "understand", understand)
    return seen


def test_row_for_row(store, reader):
    assert understand_queries(store) == Counts(3, 2, 1, 0)
    found = understood(store)
    assert list(found) == ["q1", "q2", "q3"]
    assert found["q1"].demands == (Demand("color", "red"),)
    assert (found["q2"].status, found["q2"].error) == ("failed", "empty query")
    assert store.latest("demands").collect()["provenance"].struct.field("maker").unique().to_list() == ["understand"]


def test_only_new_and_changed_queries(store, reader, tmp_path):
    understand_queries(store)
    ingest(store, tmp_path, q1="red sofa", q3="green lamp", q4="oak table")
    assert understand_queries(store) == Counts(4, 2, 0, 2, n_still_failed=1)
    assert reader[1:] == [["q3", "q4"]]
    assert understood(store)["q3"].demands == (Demand("color", "green"),)
    assert understand_queries(store) == Counts(4, 0, 0, 4, n_still_failed=1)


def test_one_query_that_breaks_the_reader_fails_alone(store, reader, tmp_path):
    ingest(store, tmp_path, q2="boom", q5="fine")
    assert understand_queries(store) == Counts(4, 3, 1, 0)
    assert understood(store)["q2"].error == "ZeroDivisionError: boom"
    assert understood(store)["q5"].demands == (Demand("color", "fine"),)


def test_the_real_reader_through_the_command(store, capsys):
    with pytest.raises(SystemExit) as done:
        run(command_app(job.main, "understand_queries"), ["--store", store.uri])
    assert done.value.code == 0
    assert "understand_queries: 3 in = 2 ok + 1 failed + 0 skipped" in capsys.readouterr().err
    sofa = understood(store)["q1"]
    assert ("color", "red") in {(d.dimension, d.canonical) for d in sofa.demands}
    assert sofa.head is not None
    assert sofa.head.dimension == "category"


def test_no_queries_yet(tmp_path):
    store = open_store(tmp_path / "empty", create=True)
    with pytest.raises(StoreError, match=r"no queries in .* yet: lore ingest --queries FILE"):
        understand_queries(store)
