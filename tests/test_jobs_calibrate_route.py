"""Run: pytest tests/test_jobs_calibrate_route.py

A store in which a cheap judge is right where it is sure, and a dear one has judged the same pairs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.calibrate_route import calibrate_route, main, read_judged
from lore_mm.console import command_app, run
from lore_mm.errors import InputError
from lore_mm.rows import judgments_table
from lore_mm.tables import QUERIES
from lore_mm.types import Grade, Judgment, Provenance
from relevance.routing import read_routing
from stores.features import FeatureStore, open_store

pytest.importorskip("scipy.stats")

N, EACH = 300, 4  # queries, and pairs of each


def judged(query: int, item: int, mode: str, level: int | None, sure: float = 0.7, sha: str = "") -> Judgment:
    rest = (1 - sure) / 3
    return Judgment(
        f"q{query}",
        f"i{item}",
        None if level is None else Grade(level),
        f"query {query}",
        None if level is None else tuple(sure if i + 1 == level else rest for i in range(4)),  # type: ignore[arg-type]
        mode=mode,
        status="failed" if level is None else "ok",
        error="why" if level is None else None,
        provenance=Provenance(maker=f"judge:{mode}", settings_sha=sha or f"sha of {mode}"),
    )


def a_store(folder: Path) -> FeatureStore:
    """The cheap judge says L4 of everything: it is 0.9 sure and right of even items, 0.6 sure and wrong of odd ones."""
    store = open_store(folder / "store", create=True)
    rows = [
        {
            "query_id": f"q{q}",
            "query": f"query {q}",
            "frequency": 1000.0 if q < 30 else 10.0,
            "kind": None,
            "split": None,
        }
        for q in range(N)
    ]
    store.append("queries", pa.Table.from_pylist(rows, schema=QUERIES))
    made = []
    for q in range(N):
        for i in range(EACH):
            made.append(judged(q, i, "student", 4, 0.9 if i % 2 == 0 else 0.6))
            made.append(judged(q, i, "reason", 4 if i % 2 == 0 else 1, 1.0))
    made += [judged(0, 90, "student", None), judged(0, 90, "reason", 2)]  # the cheap one failed
    made += [judged(0, 91, "student", 3), judged(0, 91, "reason", None)]  # the dear one did
    made += [judged(0, 92, "student", 3), judged(0, 93, "reason", 3)]  # only one has judged it
    made += [judged(0, 94, "student", 3, sha="older"), judged(0, 94, "reason", 3)]
    store.append("judgments", judgments_table(made))
    return store


def test_pairs_that_both_have_judged(tmp_path: Path) -> None:
    found = read_judged(a_store(tmp_path), "student", "reason")
    assert len(found.queries) == N * EACH + 1
    assert found.left_out == {"judged by another version of a judge": 1}
    assert (found.cheap_sha, found.dear_sha) == ("sha of student", "sha of reason")
    failed = np.flatnonzero(np.isnan(found.sure))
    assert [(found.queries[i], found.cheap[i], found.dear[i], found.asked[i]) for i in failed] == [("q0", 0, 2, 1000.0)]
    assert found.hard == ["other"] * len(found.queries)


def test_it_answers_where_it_is_sure(tmp_path: Path) -> None:
    found = read_judged(a_store(tmp_path), "student", "reason")
    made = calibrate_route(found, [("head", 1000.0), ("tail", 0.0)], cheap="student", dear="reason:x", target=0.9)
    head, tail = made.strata
    assert (head.queries, head.pairs, tail.queries, tail.pairs) == (30, 121, 270, 1080)
    assert tail.sure == pytest.approx(0.9) and (tail.served, tail.agreement) == (0.5, 1.0)
    assert tail.held_out is not None and (tail.held_out.served, tail.held_out.agreement) == (0.5, 1.0)
    assert tail.p_value < 0.025  # both strata hold at once
    assert head.sure is None or head.sure == pytest.approx(0.9)  # thirty queries may be too few, never too trusting


def test_sides_may_agree_where_levels_do_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    rows = [{"query_id": f"q{q}", "query": f"query {q}", "frequency": 1.0} for q in range(N)]
    store.append("queries", pa.Table.from_pylist(rows, schema=QUERIES))
    pairs = [(judged(q, 0, "student", 3), judged(q, 0, "reason", 4)) for q in range(N)]
    store.append("judgments", judgments_table([one for pair in pairs for one in pair]))
    found = read_judged(store, "student", "reason")
    by_side = calibrate_route(found, [("all", 0.0)], cheap="student", dear="reason:x", agree="side")
    by_grade = calibrate_route(found, [("all", 0.0)], cheap="student", dear="reason:x", agree="grade")
    assert by_side.strata[0].served == 1.0 and by_grade.strata[0].sure is None


def test_hard_queries_always_go_to_the_dear_one(tmp_path: Path) -> None:
    found = read_judged(a_store(tmp_path), "student", "reason")
    made = calibrate_route(found, [("all", 0.0)], cheap="student", dear="reason:x", target=0.9, hard_types=("other",))
    assert made.strata[0].served == 0.0 and made.hard_types == ("other",)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = a_store(tmp_path)
    arguments = ["--cheap", "student", "--dear", "reason:scripted:7", "--store", store.uri, "--target", "0.9"]
    with pytest.raises(SystemExit) as ended:
        run(command_app(main, "lore calibrate route"), [*arguments, "--out", str(tmp_path / "route.json")])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert "1 pairs left out: judged by another version of a judge" in told.err
    made = read_routing(tmp_path / "route.json")
    said = json.loads(told.out)
    assert said.pop("file") == str(tmp_path / "route.json") and said == made.model_dump(mode="json")
    assert [(s.name, s.least) for s in made.strata] == [("head", 1000.0), ("middle", 1000.0), ("tail", 0.0)]
    assert made.strata[2].sure == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--agree", "all"], "--agree all; legal: grade, side"),
        (["--hard", "questions"], "--hard questions, did you mean 'question'?"),
        (["--target", "1.5"], "target is 1.5; legal: above 0 and below 1"),
        (["--cheap", "direct:hf:x"], "no pair is judged by both direct and reason"),
        (["--head", "2"], "--head 2 and --middle 0.9; legal: shares"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, more: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = a_store(tmp_path)
    arguments = ["--cheap", "student", "--dear", "reason:x", "--store", store.uri, "--out", str(tmp_path / "r.json")]
    with pytest.raises(SystemExit) as ended:
        run(command_app(main, "lore calibrate route"), [*arguments, *more])
    assert ended.value.code == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_a_store_without_judgments_says_what_to_do(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", QUERIES.empty_table())
    with pytest.raises(InputError, match="judged there by: none; lore judge-pairs --judge student"):
        read_judged(store, "student", "reason")
