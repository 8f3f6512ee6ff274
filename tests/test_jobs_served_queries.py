"""Queries served from a store, and read by an engine only where they are not there or stale."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest

from extractors.queries import understand
from jobs.build_online import main as build_online
from jobs.ingest import ingest_items, ingest_queries
from jobs.served_queries import QueryDesk
from jobs.understand_queries import understand_queries
from lore_mm.console import command_app
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.rows import understanding_to_row
from lore_mm.tables import DEMANDS
from lore_mm.types import Demand, Provenance, Query, Understanding
from stores.features import open_store
from stores.snapshot import Snapshot

KNOWLEDGE = load_knowledge()
FAR = Demand("color", "lamp", "purple", start=0, end=4, role="head", why="from afar")


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two queries read by the tables, one by an engine that is not here, and one that failed."""
    folder = tmp_path_factory.mktemp("served")
    store = open_store(folder / "store", create=True)
    ingest_items(store, write(folder / "items.jsonl", {"item_id": "lamp", "title": "Purple lamp"}))
    log = [{"query_id": "q1", "query": "Red sofa", "frequency": 9}, {"query_id": "q2", "query": "oak table"}]
    ingest_queries(store, write(folder / "queries.jsonl", *log))
    understand_queries(store)
    far = Understanding(Query("q3", "lamp"), "lamp", (FAR,), confidence=0.9, engine="llm:afar")
    broken = Understanding(Query("q4", "broken"), "broken", status="failed", error="boom", engine="llm:afar")
    rows = [understanding_to_row(one, Provenance("run", "llm:afar 1", "text", "far")) for one in (far, broken)]
    store.append("demands", pa.Table.from_pylist(rows, schema=DEMANDS))
    return store


def desk(store, engine=None):
    return QueryDesk(KNOWLEDGE, engine, Snapshot(store))


def test_what_is_stored_is_served_and_the_rest_read(store):
    one = desk(store)
    asked = [Query("a", "red  SOFA"), Query("b", "lamp"), Query("c", "blue sofa"), Query("d", "broken")]
    served, lamp, fresh, broken = one.read(asked)
    assert [r.stored is not None for r in (served, lamp, fresh, broken)] == [True, True, False, False]
    assert (served.understanding.query, served.understanding.engine) == (Query("a", "red  SOFA"), "knowledge")
    assert served.understanding.normalized == "red SOFA"
    assert [(d.value, d.start, d.end) for d in served.understanding.demands] == [("SOFA", 5, 9), ("red", 0, 3)]
    assert served.provenance.settings_sha == one.engine().sha
    assert served.said.startswith("from the store: read by knowledge, 20")
    assert served.said.endswith(f" UTC; version {store.version('demands')}")
    assert (lamp.understanding.demands, lamp.understanding.confidence) == ((FAR,), 0.9)
    assert fresh.understanding == understand([Query("c", "blue sofa")], KNOWLEDGE)[0]
    assert (fresh.said, fresh.version, broken.understanding.status) == ("read by knowledge", None, "ok")


def test_the_engine_is_opened_only_where_it_is_needed(store, monkeypatch):
    monkeypatch.setattr("jobs.served_queries.open_engine", lambda *_: pytest.fail("opened"))
    assert desk(store).read([Query("a", "lamp")])[0].understanding.demands == (FAR,)
    assert desk(store).read([]) == []


def test_of_an_engine_that_is_named_nothing_stale_is_served(store):
    sofa, lamp = desk(store, "knowledge").read([Query("a", "red sofa"), Query("b", "lamp")])
    assert (sofa.stored is not None, lamp.stored) == (True, None)
    assert lamp.understanding.demands[0].canonical == "lamp"
    with pytest.raises(InputError, match="no query engine 'tables'"):
        desk(store, "tables")
    with pytest.raises(InputError, match="no query engine ''"):
        desk(store, "")


def test_without_a_store_all_is_read():
    [one] = QueryDesk(KNOWLEDGE).read([Query("a", "lamp")])
    assert (one.stored, one.understanding.engine) == (None, "knowledge")


def lore(*words, stdin=None):
    done = subprocess.run(
        [sys.executable, "-m", "lore_mm.cli", *map(str, words)], input=stdin, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "LORE_STORE"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_the_command_says_what_it_served(store):
    code, (lamp, blue), talk = lore("understand", "LAMP", "-", "--store", store.uri, stdin="blue sofa\n")
    assert (code, talk) == (0, "")
    assert (lamp["served"], lamp["engine"], lamp["demands"][0]["why"]) == (True, "llm:afar", "from afar")
    assert (lamp["provenance"]["maker"], lamp["provenance"]["version"]) == ("llm:afar 1", store.version("demands"))
    assert lamp["provenance"]["made_at"].startswith("20")
    assert (blue["served"], blue["engine"], blue["provenance"]["version"]) == (False, "knowledge", None)
    code, (lamp,), _ = lore("understand", "LAMP", "--engine", "knowledge", "--store", store.uri)
    assert (code, lamp["served"], lamp["engine"]) == (0, False, "knowledge")


def test_the_command_refuses_a_store_that_is_not_there(tmp_path):
    code, lines, talk = lore("understand", "lamp", "--store", tmp_path / "none")
    assert (code, lines) == (1, [])
    assert talk == f"error: no store at {tmp_path}/none: make one with `lore ingest` or `lore demo`\n"


def test_the_judge_uses_what_is_stored(store):
    """ "lamp" is stored as a purple thing, which the item is; named, the tables read it as a lamp."""
    words = ("judge", "--query", "lamp", "--item", "lamp", "--store", store.uri)
    code, (line,), _ = lore(*words)
    assert (code, [leg["demand"]["why"] for leg in line["legs"]]) == (0, ["from afar"])
    code, (line,), _ = lore(*words, "--engine", "knowledge")
    assert (code, [leg["demand"]["canonical"] for leg in line["legs"]]) == (0, ["lamp"])
    asked = json.dumps({"query": "lamp", "item": {"title": "Purple lamp"}})
    code, (line,), _ = lore("judge", "--store", store.uri, stdin=asked)
    assert (code, [leg["demand"]["why"] for leg in line["legs"]]) == (0, ["from afar"])
    code, lines, talk = lore("judge", "--engine", "tables", stdin=asked)
    assert (code, lines) == (2, [])
    assert talk.startswith("error: no query engine 'tables'")


def test_head_queries_are_put_online(store, capsys):
    with pytest.raises(SystemExit):
        command_app(build_online, "online")(["--store", store.uri, "--queries", "1"])
    said = json.loads(capsys.readouterr().out)
    assert (said["items"], said["queries"], said["versions"]["demands"]) == (1, 1, store.version("demands"))
    online = Snapshot(store)
    assert online._online_queries is not None
    assert [u is not None for u in online._online_queries.understood(["red sofa", "lamp"])] == [True, False]
    assert QueryDesk(KNOWLEDGE, None, online).read([Query("a", "LAMP")])[0].understanding.demands[0].value == "LAMP"
