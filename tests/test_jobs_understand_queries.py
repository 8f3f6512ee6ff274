"""The query log read into demands: row for row, only what changed, one bad query alone."""

import json
import re

import pytest

from jobs import understand_queries as job
from jobs.ingest import ingest_queries
from jobs.plan import Counts
from jobs.understand_queries import understand_queries
from lore_mm import __version__
from lore_mm.console import command_app, run
from lore_mm.errors import ModelError, PlanError, StoreError
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


class Reader:
    """An engine: the first word is the demand; an empty query fails; "boom" raises, "dead" ends the model."""

    def __init__(self, name="reader", sha="sha of the reader", alive=False):
        self.name, self.sha, self.alive, self.seen, self.closed = name, sha, alive, [], 0

    def understand(self, queries):
        self.seen.append([q.query_id for q in queries])
        if any("boom" in q.text for q in queries):
            raise ZeroDivisionError("boom")
        if any("dead" in q.text for q in queries) and not self.alive:
            raise ModelError("the model is gone")
        return [
            Understanding(q, q.text.lower(), (Demand("color", q.text.split()[0]),), engine=self.name, confidence=0.5)
            if q.text
            else Understanding(q, "", status="failed", error="empty query", engine=self.name)
            for q in queries
        ]

    def close(self):
        self.closed += 1


@pytest.fixture
def reader():
    return Reader()


def test_row_for_row(store, reader, capsys):
    assert understand_queries(store, engine=reader) == Counts(3, 2, 1, 0)
    found = understood(store)
    assert list(found) == ["q1", "q2", "q3"]
    assert found["q1"].demands == (Demand("color", "red"),)
    assert (found["q1"].engine, found["q1"].confidence) == ("reader", 0.5)
    assert (found["q2"].status, found["q2"].error) == ("failed", "empty query")
    provenance = store.latest("demands").collect()["provenance"].struct
    assert provenance.field("maker").unique().to_list() == [f"reader {__version__}"]
    assert provenance.field("settings_sha").unique().to_list() == ["sha of the reader"]
    assert reader.closed == 0  # who opened it closes it
    assert "understand_queries: read by reader 2\n" in capsys.readouterr().err


def test_only_new_and_changed_queries(store, reader, tmp_path):
    understand_queries(store, engine=reader)
    ingest(store, tmp_path, q1="red sofa", q3="green lamp", q4="oak table")
    assert understand_queries(store, engine=reader) == Counts(4, 2, 0, 2, n_still_failed=1)
    assert reader.seen[1:] == [["q3", "q4"]]
    assert understood(store)["q3"].demands == (Demand("color", "green"),)
    assert understand_queries(store, engine=reader) == Counts(4, 0, 0, 4, n_still_failed=1)


def test_another_engine_or_other_tables_make_rows_stale(store, reader):
    understand_queries(store, engine=reader)
    again = Reader(sha="another sha")
    assert understand_queries(store, engine=again) == Counts(3, 2, 1, 0)
    assert understand_queries(store, engine=Reader("other", "another sha")) == Counts(3, 0, 0, 3, n_still_failed=1)
    assert understand_queries(store, engine=reader) == Counts(3, 2, 1, 0)  # what stands is what was made last


def test_one_query_that_breaks_the_reader_fails_alone(store, reader, tmp_path):
    ingest(store, tmp_path, q2="boom", q5="fine")
    assert understand_queries(store, engine=reader) == Counts(4, 3, 1, 0)
    broken = understood(store)["q2"]
    assert (broken.error, broken.engine, broken.normalized) == ("ZeroDivisionError: boom", "reader", "boom")
    assert understood(store)["q5"].demands == (Demand("color", "fine"),)


def test_a_dead_model_stops_the_job_which_goes_on_behind_it(store, reader, tmp_path):
    ingest(store, tmp_path, q1="red sofa", q3="dead lamp", q4="oak table")
    stopped = r"^the model is gone; what was done is kept: the same command goes on behind it$"
    with pytest.raises(ModelError, match=stopped):
        understand_queries(store, engine=reader, batch_rows=2)
    assert set(understood(store)) == {"q2", "q1"}
    other = Reader(sha="a changed prompt")
    with pytest.raises(PlanError, match='engine_sha "sha of the reader" → "a changed prompt"'):
        understand_queries(store, engine=other, batch_rows=2)
    assert understand_queries(store, engine=Reader(alive=True), batch_rows=2) == Counts(4, 3, 1, 0)
    assert understood(store)["q3"].demands == (Demand("color", "dead"),)
    assert store.count("demands") == 4  # nothing was made twice


def test_the_engine_is_closed_whatever_happens(store, reader, monkeypatch, tmp_path):
    opened = []

    def open_engine(address, knowledge, **options):
        opened.append((address, options))
        return reader

    monkeypatch.setattr(job, "open_engine", open_engine)
    understand_queries(store, engine="llm:x", options={"seed": 3})
    ingest(store, tmp_path, q3="dead lamp")
    with pytest.raises(ModelError):
        understand_queries(store, engine="llm:x")
    assert (opened, reader.closed) == ([("llm:x", {"seed": 3}), ("llm:x", {})], 2)


@pytest.mark.parametrize(
    ("address", "rows", "in_flight"),
    [
        ("knowledge", 4096, 1),
        ("knowledge,tagger", 1024, 1),
        ("knowledge,llm:hf:tiny", 256, 4),
        ("llm:scripted:1", 256, 4),
    ],
)
def test_micro_batches_by_engine(store, monkeypatch, address, rows, in_flight):
    """Several in work only where an engine gains by it."""
    seen = {}
    monkeypatch.setattr(job, "run_job", lambda store, work, **settings: seen.update(settings) or Counts())
    understand_queries(store, engine=Reader(address))
    assert (seen["batch_rows"], seen["in_flight"], bool(seen["note"])) == (rows, in_flight, in_flight > 1)


def command(*words):
    with pytest.raises(SystemExit) as done:
        run(command_app(job.main, "understand_queries"), list(words))
    return done.value.code


def test_the_real_reader_through_the_command(store, capsys, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "brands.toml").write_text('[[brand]]\nname = "Zorblax"\n')
    assert command("--store", store.uri) == 0
    said = capsys.readouterr().err
    assert "understand_queries: 3 in = 2 ok + 1 failed + 0 skipped" in said
    assert "understand_queries: read by knowledge 2\n" in said
    sofa = understood(store)["q1"]
    assert ("color", "red") in {(d.dimension, d.canonical) for d in sofa.demands}
    assert sofa.head is not None
    assert (sofa.head.dimension, sofa.engine) == ("category", "knowledge")
    assert command("--store", store.uri) == 0
    assert "nothing had changed, nothing was done" in capsys.readouterr().err


SCRIPT = """
[[rules]]
words = ["blue"]
dead = "out of memory"

[default.answer.head]
dimension = "category"
words = "zorblax"
canonical = "zorblax"
referent = "precise"
knowledge = []
"""


def test_a_scripted_model_in_a_cascade_that_dies(store, capsys, tmp_path):
    """The tables read what they are sure of; the job stops with one line where the model is needed and dead."""
    script = tmp_path / "model.toml"
    script.write_text(SCRIPT)
    words = ("--store", store.uri, "--engine", f"knowledge,llm:scripted:{script}", "--batch-rows", "1")
    ingest(store, tmp_path, q1="red zorblax", q2="blue lamp", q3="blue zorblax")
    assert command(*words) == 1
    said = capsys.readouterr().err
    assert "out of memory; what was done is kept: the same command goes on behind it" in said
    ingest(store, tmp_path, q3="green zorblax")
    assert command(*words, "--new-run") == 0
    said = capsys.readouterr().err
    assert re.search(r"understand_queries: read by .*llm:scripted:.*; \d+ calls, [\d,]+ tokens of prompts", said)
    assert set(understood(store)) == {"q1", "q2", "q3"}
    assert understood(store)["q2"].engine == "knowledge"
    assert understood(store)["q3"].engine == f"llm:scripted:{script}"


def test_an_unknown_engine_is_named(store, capsys):
    assert command("--store", store.uri, "--engine", "knowlege") == 2
    assert "no query engine 'knowlege', did you mean 'knowledge'?; legal: " in capsys.readouterr().err


def test_no_queries_yet(tmp_path):
    store = open_store(tmp_path / "empty", create=True)
    with pytest.raises(StoreError, match=r"no queries in .* yet: lore ingest --queries FILE"):
        understand_queries(store)
