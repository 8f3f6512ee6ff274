"""Stored understandings by a query's text: the key, the words moved to the text asked, the view and the table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import StoreError
from lore_mm.rows import understanding_to_row
from lore_mm.tables import DEMANDS, QUERIES
from lore_mm.types import Demand, OtherReading, Provenance, Query, Understanding
from stores.features import FeatureStore, open_store
from stores.online import open_online
from stores.online_write import build_online
from stores.snapshot import Snapshot
from stores.understood import Understood, fitted, query_key

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def read_of(text: str, query_id: str = "q", **more: object) -> Understanding:
    """Every word a demand, the first of them the head and readable otherwise too."""
    demands, readings, at = [], [], 0
    for word in text.split():
        at = text.index(word, at)
        end = at + len(word)
        demands.append(Demand("special", word, word.lower(), start=at, end=end, role="modifier" if demands else "head"))
        readings = readings or [OtherReading("brand", word, word.title(), at, end, 0.25, "a name too")]
        at = end
    implied = Demand("price", "cheap", op="at_most", number=20.0, unit="USD", latent=True, knowledge=("needs/cheap",))
    return Understanding(
        Query(query_id, text), text.lower(), (*demands, implied), readings=tuple(readings), engine="knowledge", **more
    )


def rows(*understandings: Understanding, hours: int = 0, sha: str = "sha of the tables") -> pa.Table:
    provenance = Provenance("run", "knowledge 1", "text", sha)
    made = [understanding_to_row(u, provenance) for u in understandings]
    for row in made:
        row["provenance"]["made_at"] = NOON + timedelta(hours=hours)
    return pa.Table.from_pylist(made, schema=DEMANDS)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = open_store(tmp_path / "store", create=True)
    broken = Understanding(Query("q3", "broken"), "broken", status="failed", error="ZeroDivisionError", engine="tagger")
    store.append("demands", rows(read_of("red sofa", "q1"), read_of("Café Crème", "q2"), broken))
    log = [{"query_id": f"q{n}", "query": "x", "frequency": f} for n, f in ((1, 5.0), (2, None), (3, 9.0), (4, 7.0))]
    store.append("queries", pa.Table.from_pylist(log, schema=QUERIES))
    return store


def test_the_key_of_a_query() -> None:
    assert query_key("  Red\tSOFA\u200b \n") == "red sofa"
    assert query_key("ＣＡＦÉ ①") == query_key("cafe\u0301 1") == "cafe 1"
    assert query_key("红色 沙发") == "红色 沙发"
    assert query_key(" \x00 ") == ""


def test_words_are_moved_to_the_text_asked() -> None:
    stored = read_of("red café sofa", corrections=(("café", "cafe"),))
    asked = "  RED \t Cafe\u0301  sofa"
    found = fitted(Understood(stored, Provenance()), asked)
    assert found is not None
    one = found.understanding
    assert (one.query, one.normalized) == (Query("q", asked), "red café sofa")
    assert [(d.value, d.start, d.end) for d in one.demands] == [
        ("RED", 2, 5),
        ("Cafe\u0301", 8, 13),
        ("sofa", 15, 19),
        ("cheap", None, None),
    ]
    assert (one.readings[0].value, one.readings[0].start, one.readings[0].end) == ("RED", 2, 5)
    assert one.corrections == (("Cafe\u0301", "cafe"),)
    assert fitted(Understood(stored, Provenance()), "green sofa") is None


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=30), st.sampled_from(["upper", "title", "swapcase", "casefold"]), st.integers(0, 3))
def test_moved_words_have_the_key_of_the_stored_ones(text: str, way: str, spaces: int) -> None:
    """Whatever Unicode comes: served with words of the text asked that are the stored words, or not served."""
    stored = read_of(text)
    asked = " " * spaces + getattr(text, way)().replace(" ", " " * (spaces + 1))
    found = fitted(Understood(stored, Provenance()), asked)
    if found is None:
        return
    for before, after in zip(stored.demands, found.understanding.demands, strict=True):
        assert (before.start is None) == (after.start is None)
        if after.start is not None and query_key(before.value):
            assert asked[after.start : after.end] == after.value
            assert query_key(before.value) in query_key(after.value)


@pytest.mark.parametrize("online", [True, False])
def test_a_snapshot_serves_by_text_with_and_without_a_view(store: FeatureStore, online: bool) -> None:
    if online:
        assert (build_online(store).queries, open_online(store).versions) == (2, {"demands": 1})
    snapshot = Snapshot(store)
    assert (snapshot._online_queries is not None) is online
    red, upper, cafe, *none = snapshot.served(["red sofa", " RED  sofa", "cafe creme", "broken", "", "blue", "\ud800"])
    assert red == Understood(
        read_of("red sofa", "q1"), Provenance("run", "knowledge 1", "text", "sha of the tables"), NOON
    )
    assert upper is not None
    assert upper.understanding.demands[0] == Demand("special", "RED", "red", start=1, end=4, role="head")
    assert cafe is not None
    assert [d.value for d in cafe.understanding.demands] == ["cafe", "creme", "cheap"]
    assert none == [None] * 4  # a failed one is no understanding
    assert snapshot.understood(["blue", "red sofa"]) == [None, read_of("red sofa", "q1")]


@pytest.mark.parametrize("online", [True, False])
def test_of_one_text_under_several_ids_the_newest_stands(store: FeatureStore, online: bool) -> None:
    store.append("demands", rows(read_of("red sofa", "q8", confidence=0.5), hours=2))
    store.append("demands", rows(read_of("RED sofa", "q0", confidence=0.1), read_of("red  sofa", "q9"), hours=1))
    if online:
        build_online(store)
    [found] = Snapshot(store).understood(["red sofa"])
    assert found is not None
    assert (found.query.query_id, found.confidence) == ("q8", 0.5)
    store.append("demands", rows(read_of("red sofa", "q9", confidence=0.7), hours=3))
    [found] = Snapshot(store).understood(["red sofa"])  # the view is old: not used
    assert found is not None
    assert (found.query.query_id, found.confidence) == ("q9", 0.7)


def test_only_the_head_of_the_log(store: FeatureStore) -> None:
    store.append("demands", rows(read_of("oak table", "q4"), read_of("not in the log", "q7")))
    view = build_online(store, queries=3)  # q3, which failed, q4 and q1
    assert (view.queries, view.whole) == (2, False)
    assert [u is not None for u in view.understood(["red sofa", "oak table", "cafe creme"])] == [True, True, False]
    assert Snapshot(store).understood(["café crème"])[0] is not None  # the tail is in the table
    assert build_online(store, queries=0).queries == 0
    assert build_online(store).queries == 4
    nothing = open_store(store.folder / "other", create=True)  # type: ignore[operator]
    with pytest.raises(StoreError, match="no query log in"):
        build_online(nothing, queries=3)


def test_a_text_too_long_for_a_key(store: FeatureStore) -> None:
    long = "sofa " * 190 + "red"
    store.append("demands", rows(read_of(long, "q5"), read_of(long[:-3] + "blue", "q6")))
    assert build_online(store).understood([long.upper()])[0].demands[-2].value == "RED"  # type: ignore[union-attr]


def test_a_store_without_demands_serves_none(tmp_path: Path) -> None:
    store = open_store(tmp_path / "empty", create=True)
    assert Snapshot(store).understood(["red sofa"]) == [None]
