"""The head of a query log, judged ahead of time."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from jobs import plan_command, precompute
from jobs.embed_items import embed_items
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items, ingest_queries
from jobs.pair_sources import head_of
from lore_mm.console import command_app
from lore_mm.errors import InputError
from stores.features import open_store


def log(**frequencies):
    rows = [(name, None if n is None else float(n)) for name, n in frequencies.items()]
    return pl.DataFrame(rows, schema={"query_id": pl.String, "frequency": pl.Float64}, orient="row")


@pytest.mark.parametrize(
    ("traffic", "head"),
    [(0.01, "b"), (0.5, "b"), (0.51, "bc"), (0.8, "bc"), (0.81, "bca"), (0.9, "bca"), (0.91, "bcad"), (1, "bcad")],
)
def test_the_head_is_the_fewest_that_make_the_share(traffic, head):
    found = head_of(log(a=10, b=50, c=30, d=10, never=0, unknown=None), traffic)
    assert found["query_id"].to_list() == list(head)


def test_what_is_no_share_and_what_was_never_asked_are_refused():
    for nonsense in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="legal: a share above 0, at most 1"):
            head_of(log(a=1), nonsense)
    with pytest.raises(InputError, match="no query of the log has a frequency"):
        head_of(log(a=None, b=0), 0.5)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Four items and three queries, of which one makes three quarters of the traffic."""
    folder = tmp_path_factory.mktemp("shop")
    titles = {"a": "Red hoodie", "b": "Blue hoodie", "c": "Camera lens", "d": "Desk lamp"}
    rows = [{"item_id": item_id, "title": title} for item_id, title in titles.items()]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [("q1", "hoodie", 75), ("q2", "lamp", 15), ("q3", "lens", 10)]
    rows = [{"query_id": i, "query": text, "frequency": n} for i, text, n in queries]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = open_store(folder / "store", create=True)
    ingest_items(store, folder / "items.jsonl")
    ingest_queries(store, folder / "log.jsonl")
    extract_items(store, extractors=["given"])
    embed_items(store, embedder="scripted:3")
    return store


def ask(command, store, *more):
    arguments = ["--store", store.uri, "--embedder", "scripted:3", "--top", "2", *more]
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_head_is_judged_and_only_once(shop):
    done = ask(command_app(precompute.main, "lore precompute"), shop, "--traffic", "0.5")
    assert done.exit_code == 0
    judged = shop.latest("judgments").collect()
    assert judged["query_id"].to_list() == ["q1", "q1"]
    assert set(judged["status"]) == {"ok"}
    before = shop.version("judgments")
    ask(command_app(precompute.main, "lore precompute"), shop, "--traffic", "0.5")
    assert shop.version("judgments") == before
    ask(command_app(precompute.main, "lore precompute"), shop, "--traffic", "0.9")
    rows = shop.scan("judgments").collect()
    assert rows["query_id"].to_list() == ["q1", "q1", "q2", "q2"]  # those that stood are not judged again


def test_what_it_would_do_is_told(shop):
    """With the whole log: two items a query, whatever of them is judged already."""
    line = f"precompute --store {shop.uri} --embedder scripted:3 --top 2 --traffic 1 --json"
    told = CliRunner().invoke(plan_command.app, line.split(), catch_exceptions=False)
    assert told.exit_code == 0
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert sum(line["n"] for line in lines if line["kind"] == "rows") == 6
