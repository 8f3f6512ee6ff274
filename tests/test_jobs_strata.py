from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ingest import ingest_queries
from jobs.query_log import QueryLog, log_of_store, read_log
from jobs.strata import main
from jobs.strata_plans import Costs, cover_later, cut_strata, plans, unseen
from lore_mm.console import command_app, run
from lore_mm.errors import InputError
from stores.features import open_store

SEARCHES = ["red shoes"] * 5 + ["Red  Shoes"] * 2 + ["sofa"] * 2 + ["lamp"]


def logged(*counts: float, later: tuple[float, ...] = ()) -> QueryLog:
    columns = {"query": [f"q{i}" for i in range(len(counts))], "requests": [float(n) for n in counts]}
    if later:
        columns["later"] = list(later)
    cut = datetime(2026, 1, 1, tzinfo=UTC) if later else None
    return QueryLog(pl.DataFrame(columns), len(counts), 0, True, cut)


def counted(log: QueryLog) -> list[tuple[str, float]]:
    return log.queries.select("query", "requests").rows()


def test_every_search_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,Query\n" + "".join(f"1,{text}\n" for text in SEARCHES) + "2,\n2,   \n")
    log = read_log(path)
    assert counted(log) == [("red shoes", 7.0), ("sofa", 2.0), ("lamp", 1.0)]
    assert (log.rows, log.skipped, log.counted, log.cut, log.requests) == (12, 2, False, None, 10.0)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet", ".json"])
def test_counted_queries_of_any_kind_of_file(tmp_path: Path, ending: str) -> None:
    rows = [{"query": "sofa", "count": 3}, {"query": "SOFA", "count": 4}, {"query": "bed", "count": 0}]
    path = tmp_path / f"log{ending}"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if ending == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif ending == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_bytes(gzip.compress(lines.encode()) if ending.endswith("gz") else lines.encode())
    log = read_log(path)
    assert counted(log) == [("SOFA", 7.0)]
    assert (log.rows, log.skipped, log.counted) == (3, 1, True)


def test_the_log_of_a_store(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    rows = [{"query_id": "a", "query": "sofa", "frequency": 2}, {"query_id": "b", "query": "Sofa"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = open_store(tmp_path / "store", create=True)
    with pytest.raises(InputError, match=r"no queries in .* yet: name a LOG"):
        log_of_store(store)
    ingest_queries(store, path)
    assert counted(log_of_store(store)) == [("sofa", 3.0)]


def test_a_log_with_times_is_cut_at_the_hour_by_which_four_fifths_have_come(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    moments = [f"2026-03-01T{hour:02}:30:00" for hour in range(10)]
    texts = ["a", "a", "a", "a", "b", "b", "c", "c", "a", "b"]
    path.write_text("".join(json.dumps({"query": q, "time": t}) + "\n" for q, t in zip(texts, moments, strict=True)))
    log = read_log(path)
    assert log.cut == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert log.queries.rows() == [("a", 5.0, 1.0), ("b", 3.0, 1.0), ("c", 2.0, 0.0)]
    assert cover_later(log, 0.5) == 0.5  # a makes half of the earlier eight, and one of the later two
    assert cover_later(log, 1.0) == 1.0


@pytest.mark.parametrize("moment", [1_772_323_200, 1_772_323_200_000, "2026-03-01", "2026-03-01T01:00:00+01:00"])
def test_a_moment_in_any_of_its_forms(tmp_path: Path, moment: object) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"query": "a", "at": moment}, {"query": "b", "at": "2026-03-01T05:00:00Z"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_log(path).cut == datetime(2026, 3, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("query,count\nsofa,many\n", "line 2, column 'count': 'many' is no count; legal: a number, 0 or more"),
        ("query,count\nsofa,-1\n", "'-1' is no count"),
        ("query,count\nsofa,nan\n", "'nan' is no count"),
        ("query,time\nsofa,noon\n", "line 2, column 'time': 'noon' is no time; legal: ISO 8601"),
        ("words\nsofa\n", "no column of queries; legal: query, search_term, keyword, q; it has words"),
        ("query,count\nsofa,0\n", "it has no query that was asked"),
    ],
)
def test_what_is_no_log_is_refused_by_name(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(InputError) as told:
        read_log(path)
    assert fault in str(told.value) and "log.csv" in str(told.value)


def test_strata_by_traffic() -> None:
    head, middle, tail = cut_strata(logged(50, 20, 10, 10, 5, 5), 0.6, 0.9)
    assert (head.queries, head.requests, head.share, head.least, head.examples) == (2, 70.0, 0.7, 20.0, ("q0", "q1"))
    assert (middle.queries, middle.share, middle.least) == (2, 0.2, 10.0)
    assert (tail.queries, tail.share, tail.least) == (2, 0.1, 5.0)


def test_an_empty_head() -> None:
    head, middle, tail = cut_strata(logged(2, 1, 1), 0, 1)
    assert (head.queries, head.least, head.share) == (0, None, 0.0)
    assert (middle.queries, tail.queries) == (3, 0)


@pytest.mark.parametrize("shares", [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_shares_that_are_none(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="legal: shares, 0 ≤ head ≤ middle ≤ 1"):
        cut_strata(logged(1), *shares)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_strata_hold_each_query_once_and_no_fewer_would_do(counts: list[int], one: float, other: float) -> None:
    head_share, middle_share = sorted((one, other))
    counts.sort(reverse=True)
    strata = cut_strata(logged(*counts), head_share, middle_share)
    assert sum(s.queries for s in strata) == len(counts)
    assert sum(s.share for s in strata) == pytest.approx(1)
    n, total = strata[0].queries, sum(counts)
    assert sum(counts[:n]) >= head_share * total * (1 - 1e-9)
    assert n == 0 or sum(counts[: n - 1]) < head_share * total


def test_the_chance_of_a_query_that_was_never_seen() -> None:
    assert unseen(logged(7, 1, 1, 1)) == 0.3
    assert unseen(logged(7, 3)) is None  # the rare ones were cut off: nothing can be said
    searches = QueryLog(logged(7, 3).queries, 10, 0, counted=False)
    assert unseen(searches) == 0.0


def test_what_each_way_costs() -> None:
    strata = cut_strata(logged(50, 30, 20), 0.5, 0.8)
    made = {way.name: way for way in plans(strata, 10, Costs(llm=0.002, student=0.0001, llm_s=0.1, student_s=0.01))}
    everything = made["LLM for all"]
    assert (everything.llm, everything.ahead, everything.price, everything.worker_s) == (10_000, 0, 20.0, 1000.0)
    mixed = made["cache, student, LLM for the tail"]
    assert (mixed.cached, mixed.student, mixed.llm, mixed.ahead) == pytest.approx((5000, 3000, 2000, 10))
    assert mixed.price == pytest.approx(2000 * 0.002 + 3000 * 0.0001)
    assert mixed.ahead_price == pytest.approx(0.02)
    assert mixed.worker_s == pytest.approx(2000 * 0.1 + 3000 * 0.01)
    assert mixed.ahead_s == pytest.approx(1.0)


def test_what_is_not_known_is_not_made_up() -> None:
    ways = plans(cut_strata(logged(3, 1), 0.5, 1.0), 2, Costs())
    assert all(way.price is None and way.worker_s is None for way in ways if way.llm)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.csv"
    path.write_text("query\n" + "\n".join(SEARCHES) + "\n")
    with pytest.raises(SystemExit) as ended:
        run(command_app(main, "lore strata"), [str(path), "--plot", str(tmp_path / "p.svg"), "--llm-price", "1"])
    assert ended.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["log", *["stratum"] * 3, *["plan"] * 5]
    assert lines[0]["requests"] == 10 and lines[0]["unseen"] == 0.1
    assert lines[1] | {"share": 0.7, "queries": 1, "examples": ["red shoes"]} == lines[1]
    assert lines[4]["name"] == "LLM for all" and lines[4]["price"] == 20.0
    assert (tmp_path / "p.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("plot", ["p.pdf", "no-such-folder/p.svg"])
def test_a_plot_that_cannot_be_drawn(tmp_path: Path, plot: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.csv"
    path.write_text("query\nsofa\n")
    with pytest.raises(SystemExit) as ended:
        run(command_app(main, "lore strata"), [str(path), "--plot", str(tmp_path / plot)])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
