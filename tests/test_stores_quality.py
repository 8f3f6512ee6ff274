from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError
from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import DEMANDS, EMBEDDINGS, ITEMS, JUDGMENTS, QUERIES
from lore_mm.types import AttributeValue, Item, Provenance
from stores import quality_conflicts
from stores.features import FeatureStore, open_store
from stores.quality import ALL, KINDS, NONE, Limits, Quality
from stores.quality_gate import failing, parse_rule
from stores.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MADE = provenance_to_row(Provenance(input_sha="row"), NOON)


def value(name: str, words: str | None, confidence: float = 1.0, **more: Any) -> AttributeValue:
    return AttributeValue(name, more.pop("dimension", "spec"), words, confidence=confidence, **more)


def silent(name: str, status: str) -> AttributeValue:
    return value(name, None, status=status)


def row(item_id: str, extractor: str, category: str | None, *values: AttributeValue, error: str = "") -> dict[str, Any]:
    status = {"status": "failed", "error": error} if error else {"status": "ok", "error": None}
    more = {"category": category, "attributes": list(values), "provenance": Provenance(input_sha="pixels")}
    return {"item_id": item_id, "extractor": extractor} | more | status


def item_rows(*items: Item, failed: str | None = None) -> pa.Table:
    status = {"status": "failed" if failed else "ok", "error": failed, "image_root": None, "provenance": MADE}
    return pa.Table.from_pylist([item_to_row(i) | status for i in items], schema=ITEMS)


def fill(schema: pa.Schema, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | r for r in rows], schema=schema)


# Six shoes and two sofas, and one thing of no known kind. Every figure below is counted by hand from here.
CATALOGUE = {
    "r1": ("running_shoe", [value("brand", "Nike", 0.9), value("color", "red", 0.8), value("color", "black", 0.6)]),
    "r2": (
        "running_shoe",
        [value("brand", "Nike", 0.7), value("color", "red", status="conflict"), value("color", "red")],
    ),
    "r3": ("running_shoe", [value("brand", "Adidas"), silent("color", "not_stated")]),
    "r4": ("running_shoe", [silent("brand", "not_stated"), value("color", "sort of red")]),
    "r5": ("running_shoe", [silent("brand", "failed"), value("color", "black")]),
    "r6": ("running_shoe", [value("brand", ""), value("heel_height", "3 cm", number=3.0, unit="cm")]),
    "s1": (
        "sofa",
        [value("brand", "Ikea"), value("seats", "0", number=0.0), value("width", "200", number=200.0, unit="cm")],
    ),
    "s2": ("sofa", [silent("brand", "not_applicable"), value("width", "80 in", number=80.0, unit="in")]),
    "x1": (None, [value("sole", "rubber")]),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = open_store(tmp_path_factory.mktemp("quality") / "store", create=True)
    pictured = {"images": ("a.jpg",), "price": 10.0, "description": "words"}
    items = [Item(i, f"Item {i}", **pictured) for i in ("r1", "r2", "r3", "r4", "s1")]
    bare = [Item(i, f"Item {i}", description=" ") for i in ("r5", "r6", "s2", "x1", "left out")]
    store.append("items", item_rows(*items, *bare))
    store.append("items", item_rows(Item("broken", ""), failed="title is empty"))
    store.append("attributes", attributes_table([row(i, "merge", c, *v) for i, (c, v) in CATALOGUE.items()]))
    given = [
        row("r1", "given", "running_shoe", value("brand", "Nike", 0.9), value("color", "RED", 0.9)),
        row("r2", "given", "running_shoe", value("brand", "nike", 0.5), value("color", "red", 0.9)),
        row("r3", "given", None, value("brand", "Adidas"), value("category", "shoe")),
        row("s1", "given", "sofa", value("width", "2 m", number=200.0, unit="cm")),
        row("s2", "given", "sofa", value("width", "80 in", number=80.0, unit="in")),
    ]
    vlm = [
        row("r1", "vlm", "running_shoe", value("brand", "Nike", 0.5), value("color", "blue", 0.4)),
        row("r2", "vlm", "running_shoe", value("brand", "Puma", 0.3), value("color", "red", 0.8)),
        row("r3", "vlm", "running_shoe", value("brand", "Asics", 0.7), value("category", "running_shoe")),
        row("r4", "vlm", "running_shoe", error="HTTP 503 from 'http://a' after 12.5 s"),
        row("r5", "vlm", "running_shoe", error="HTTP 502 from 'http://b' after 3 s"),
        row("s1", "vlm", "sofa", value("width", "201 cm", number=201.0, unit="cm")),
        row("s2", "vlm", "sofa", value("width", "203 cm", number=203.0, unit="cm"), silent("brand", "not_stated")),
    ]
    store.append("attributes", attributes_table([*given, *vlm]))
    store.append("embeddings", fill(EMBEDDINGS, *({"item_id": i, "model": "m", "status": "ok"} for i in ("r1", "r2"))))
    store.append("queries", fill(QUERIES, *({"query_id": q, "query": q} for q in ("q1", "q2", "q3"))))
    read = {"query": "q", "confidence": 1.0, "demands": []}
    store.append("demands", fill(DEMANDS, {"query_id": "q1", "status": "ok"} | read))
    store.append("demands", fill(DEMANDS, {"query_id": "q2", "status": "failed", "error": "no model"} | read))
    judged = [("r1", "L4", "ok"), ("r2", None, "failed"), ("s1", "L1", "ok")]
    rows = ({"query_id": "q1", "item_id": i, "grade": g, "mode": "rules", "status": s} for i, g, s in judged)
    store.append("judgments", fill(JUDGMENTS, *rows))
    return store


@pytest.fixture(scope="module")
def quality(store: FeatureStore) -> Quality:
    return Quality(Snapshot(store), limits=Limits(items=2))


def line(quality: Quality, kind: str, **equal: Any) -> dict[str, Any]:
    found = quality.lines(kind, **equal)
    assert len(found) == 1, found
    return found[0]


def test_coverage_by_hand(quality: Quality) -> None:
    brand = line(quality, "coverage", category="running_shoe", attribute="brand")
    counted = {"items": 6, "stated": 4, "not_stated": 1, "not_applicable": 0, "conflict": 0, "failed": 1, "silent": 0}
    assert {name: brand[name] for name in counted} == counted
    assert brand["coverage"] == pytest.approx(4 / 6)
    assert brand["confidence"] == pytest.approx((0.9 + 0.7 + 1 + 1) / 4)
    assert brand["in_schema"]
    color = line(quality, "coverage", category="running_shoe", attribute="color")
    assert (color["stated"], color["conflict"], color["not_stated"], color["silent"]) == (4, 1, 1, 1)
    assert color["values_per_item"] == pytest.approx(6 / 4)  # red and black; red twice, once disputed; two single ones
    closure = line(quality, "coverage", category="running_shoe", attribute="closure")
    assert (closure["items"], closure["stated"], closure["silent"], closure["coverage"]) == (6, 0, 6, 0.0)
    assert closure["confidence"] is None and closure["in_schema"]


def test_coverage_over_all_counts_the_categories_that_ask_for_it(quality: Quality) -> None:
    brand = line(quality, "coverage", category=ALL, attribute="brand")
    assert (brand["items"], brand["stated"], brand["not_applicable"], brand["silent"]) == (9, 5, 1, 1)
    assert brand["coverage"] == pytest.approx(5 / 8)  # it does not apply to one of the nine
    assert line(quality, "coverage", category=ALL, attribute="seats")["items"] == 2  # sofas alone are asked
    sole = line(quality, "coverage", category=ALL, attribute="sole")
    assert (sole["items"], sole["stated"]) == (7, 1)  # shoes, and the thing that has one unasked
    assert not line(quality, "coverage", category=NONE, attribute="sole")["in_schema"]


def test_gaps_by_hand(quality: Quality) -> None:
    found = {g["what"]: (g["n"], g["of"], g["examples"]) for g in quality.lines("gap")}
    assert found == {
        "items that could not be read": (1, 11, ["broken"]),
        "items without a picture": (5, 11, ["left out", "r5", "r6"]),
        "items without a price": (5, 11, ["left out", "r5", "r6"]),
        "items without a description": (5, 11, ["left out", "r5", "r6"]),
        "items without a vector": (8, 11, ["left out", "r3", "r4"]),
        "items of no known category": (1, 9, ["x1"]),
        "items not extracted": (1, 11, ["left out"]),
        "queries not read yet": (1, 3, ["q3"]),
        "queries that could not be read": (1, 2, ["q2"]),
        "queries without a demand": (1, 2, ["q1"]),
        "judgments that failed": (1, 3, ["q1 r2"]),
    }


def test_failures_of_one_reason_are_counted_together(quality: Quality) -> None:
    assert quality.lines("failure") == [
        {
            "kind": "failure",
            "extractor": "vlm",
            "reason": "HTTP # from … after # s",
            "n": 2,
            "of": 7,
            "share": pytest.approx(2 / 7),
            "examples": ["r4", "r5"],
        }
    ]


def test_values_by_hand(quality: Quality) -> None:
    color = line(quality, "values", category="running_shoe", attribute="color")
    assert (color["items"], color["distinct_values"], color["singles"]) == (4, 3, 1)
    top = [(v["value"], v["n"], v["share"]) for v in color["top"]]
    assert top == [("red", 3, 0.75), ("black", 2, 0.5), ("sort of red", 1, 0.25)]
    width = line(quality, "values", category="sofa", attribute="width")
    assert width["units"] == ["cm", "in"]


def test_illegal_values_are_told_with_what_would_be_legal(quality: Quality) -> None:
    wrong = {
        (o["attribute"], o["why"], o["value"]): (o["category"], o["told"], o["example"])
        for o in quality.lines("odd", wrong=True)
    }
    assert wrong == {
        ("color", "not a legal value", "sort of red"): ("running_shoe", None, "r4"),
        ("seats", "out of bounds", "0"): ("sofa", "1.0 to 50.0", "s1"),
        ("width", "not in the base unit", "80 in"): ("sofa", "cm", "s2"),
        ("brand", "no words", ""): ("running_shoe", None, "r6"),
        ("sole", "not asked of this category", None): (NONE, None, "x1"),
    }


def test_conflicts_by_hand(quality: Quality) -> None:
    brand = line(quality, "conflict", category=ALL, attribute="brand")
    assert (brand["one"], brand["other"]) == ("given", "vlm")
    assert (brand["both"], brand["agreed"], brand["wider"], brand["disagreed"]) == (3, 1, 0, 2)
    assert (brand["follows_one"], brand["follows_other"]) == (2, 0)
    assert brand["confidence_one"] == pytest.approx((0.9 + 0.5 + 1.0) / 3)
    assert brand["confidence_other"] == pytest.approx((0.5 + 0.3 + 0.7) / 3)
    examples = [(e["one"], e["other"], e["item"], e["confidence_one"]) for e in brand["disputes"]]
    assert examples == [("Adidas", "Asics", "r3", 1.0), ("nike", "Puma", "r2", 0.5)]
    color = line(quality, "conflict", category=ALL, attribute="color")
    assert (color["both"], color["agreed"], color["disagreed"]) == (2, 1, 1)  # RED is red; blue is not
    kind = line(quality, "conflict", category=ALL, attribute="category")
    assert (kind["agreed"], kind["wider"], kind["disagreed"]) == (0, 1, 0)  # a running shoe is a shoe
    width = line(quality, "conflict", category="sofa", attribute="width")
    assert (width["agreed"], width["disagreed"]) == (1, 1)  # 201 is within a hundredth of 200; 203 cm are not 80 in


def test_conflicts_of_many_items_are_counted_on_some_of_them(store: FeatureStore, monkeypatch) -> None:
    monkeypatch.setattr(quality_conflicts, "MOST_ITEMS", 3)
    quality = Quality(Snapshot(store))
    seen = sum(c["both"] for c in quality.lines("conflict", category=ALL))
    assert quality.looked_at == 3 and quality.summary()["conflicts_looked_at"] == pytest.approx(1 / 3)
    assert seen < 8  # all of them


def test_what_stands_out_comes_worst_first(quality: Quality) -> None:
    found = quality.lines("finding")
    levels = [f["level"] for f in found]
    assert levels == sorted(levels, key=["wrong", "moved", "doubtful", "missing"].index)
    assert (found[0]["about"], found[0]["n"], found[0]["next"]) == ("vlm", 2, "lore extract --retry-failed")
    disputed = next(f for f in found if f["about"] == "brand" and f["level"] == "doubtful")
    assert disputed["what"] == "given and vlm disagree: “Adidas”, “Asics”"
    assert (disputed["n"], disputed["of"], disputed["next"]) == (2, 3, "lore query r3")


def test_one_category_with_those_beneath_and_one_attribute(store: FeatureStore) -> None:
    shoes = Quality(Snapshot(store), category="footwear")
    assert shoes.summary()["items"] == 6
    assert line(shoes, "coverage", category=ALL, attribute="brand")["items"] == 6
    assert [g["of"] for g in shoes.lines("gap")] == [6] * 6  # queries and judgments are of no category
    assert {c["category"] for c in shoes.lines("conflict")} == {ALL, "running_shoe"}
    brand = Quality(Snapshot(store), category="sofa", attribute="brand")
    assert [(c["category"], c["attribute"]) for c in brand.lines("coverage")] == [(ALL, "brand"), ("sofa", "brand")]
    assert Quality(Snapshot(store), category=NONE).summary()["items"] == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"category": "runing_shoe"}, "no category 'runing_shoe', did you mean 'running_shoe'?"),
        ({"category": "lamp"}, "no item here is of the category 'lamp' or one beneath it"),
        ({"attribute": "colr"}, "no attribute 'colr' here"),
    ],
)
def test_what_is_not_there_is_said(store: FeatureStore, asked: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match="^" + said.replace("?", r"\?")):
        Quality(Snapshot(store), **asked)


def test_numbers_by_hand(tmp_path: Path) -> None:
    """Prices 1 … 40 and one of a million: quartiles of type 1, fences on logarithms."""
    store = open_store(tmp_path / "store", create=True)
    prices = [*(float(n) for n in range(1, 41)), 1e6]
    rows = [
        row(f"i{n:02}", "merge", "sofa", value("price", f"{p:g}", number=p, unit="USD")) for n, p in enumerate(prices)
    ]
    store.append("attributes", attributes_table(rows))
    quality = Quality(Snapshot(store), limits=Limits(items=10))
    found = line(quality, "number", category="sofa", attribute="price")
    assert [found[n] for n in ("n", "minimum", "lower_quartile", "median", "upper_quartile", "maximum")] == [
        41, 1, 11, 21, 31, 1e6,
    ]  # fmt: skip
    assert found["fence_high"] == pytest.approx(31 * (31 / 11) ** 3)
    assert found["fence_low"] == pytest.approx(11 / (31 / 11) ** 3)
    assert found["far_out"] == 1
    odd = line(quality, "odd", why="far out")
    assert (odd["value"], odd["example"], odd["wrong"]) == ("1e+06 USD", "i40", False)


def test_values_that_look_wrong(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    rows = [row(f"i{n:02}", "merge", "sofa", value("brand", "Westwing"), value("color", "red")) for n in range(30)]
    rows.append(row("odd", "merge", "sofa", value("brand", "Westwingg"), value("color", "blue")))
    store.append("attributes", attributes_table(rows))
    odd = {(o["why"], o["attribute"]): o for o in Quality(Snapshot(store), limits=Limits(items=20)).lines("odd")}
    slip = odd["perhaps misspelt", "brand"]
    assert (slip["value"], slip["told"], slip["example"]) == ("Westwingg", "like Westwing (30)", "odd")
    same = odd["nearly all say the same", "color"]
    assert (same["value"], same["n"], same["told"]) == ("red", 30, "of 31")
    few = Quality(Snapshot(store), limits=Limits(items=40)).lines("odd", why="nearly all say the same")
    assert few == []


HOSTILE = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["<script>alert(1)</script>", "'; DROP TABLE counted; --", "[red]", "\x00", "(all)"]),
)
NUMBERS = st.one_of(st.none(), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))
VALUES = st.builds(
    AttributeValue,
    name=HOSTILE,
    dimension=HOSTILE,
    value=st.none() | HOSTILE,
    status=st.sampled_from(["value", "conflict", "failed", "not_stated", "not_applicable", "nonsense"]),
    number=NUMBERS,
    unit=st.none() | HOSTILE,
    confidence=st.floats(),
)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(st.tuples(st.none() | HOSTILE, st.lists(VALUES, max_size=4)), min_size=1, max_size=4))
def test_hostile_values_do_not_break_it(tmp_path_factory: pytest.TempPathFactory, found: list[Any]) -> None:
    store = open_store(tmp_path_factory.mktemp("hostile") / "store", create=True)
    for extractor in ("merge", "given", "vlm"):
        rows = [row(f"i{n}", extractor, category, *values) for n, (category, values) in enumerate(found)]
        store.append("attributes", attributes_table(rows))
    quality = Quality(Snapshot(store), Snapshot(store), limits=Limits(items=1))
    for kind in KINDS:
        quality.table(kind)
    names = {(v.name[:80], c) for c, values in found for v in values}
    lines = quality.lines("coverage")
    assert {name for name, _ in names} <= {c["attribute"] for c in lines}
    for covered in lines:
        parts = sum(covered[n] for n in ("stated", "not_stated", "not_applicable", "failed", "silent"))
        assert parts == covered["items"] and covered["silent"] >= 0
        assert covered["coverage"] is None or 0 <= covered["coverage"] <= 1


def test_a_huge_value_is_cut_and_told(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    store.append("attributes", attributes_table([row("i", "merge", "sofa", value("brand", "ä" * 1_000_000))]))
    quality = Quality(Snapshot(store))
    assert line(quality, "odd", why="too long")["value"] == "ä" * 201


def test_an_empty_store_and_one_without_verdicts(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    store.append("items", item_rows(Item("a", "A")))
    quality = Quality(Snapshot(store))
    assert quality.summary()["items"] == 0
    assert {g["what"]: g["n"] for g in quality.lines("gap")}["items not extracted"] == 1
    for kind in KINDS:
        quality.table(kind)


def rules(quality: Quality, text: str) -> list[tuple[str, str | None, float | None]]:
    return [(f.about, f.category, f.value and round(f.value, 4)) for f in failing(parse_rule(text), quality)]


def test_rules_fail_by_hand(quality: Quality) -> None:
    assert rules(quality, "coverage(brand) < 0.7") == [("brand", ALL, 0.625)]
    assert rules(quality, "coverage(brand)<62.5%") == []
    assert rules(quality, "coverage( brand , running_shoe ) <= .66") == []
    assert rules(quality, "coverage(brand, *) < 1") == [("brand", "running_shoe", 0.6667)]  # of sofas all that can
    assert rules(quality, "illegal(seats) > 0") == [("seats: out of bounds", None, 1)]
    assert rules(quality, "illegal(closure) > 0") == []
    assert rules(quality, "disagreement(brand) >= 0.5") == [("brand (given, vlm)", ALL, 0.6667)]
    assert rules(quality, "without_vector > 0.5") == [("items without a vector", None, round(8 / 11, 4))]
    assert rules(quality, "failed_rows > 1%") == [("vlm: HTTP # from … after # s", None, 0.2857)]
    assert rules(quality, "items < 9") == [] and rules(quality, "items < 10") == [("items", None, 9)]
    # an attribute nobody has a value of is asked only by name; what cannot be measured fails
    assert "closure" not in [about for about, _, _ in rules(quality, "coverage < 1")]
    assert rules(quality, "coverage(closure) < 0.1") == [("closure", ALL, 0.0)]
    assert rules(quality, "coverage(nonsense) < 0.1") == [("nonsense", None, None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("coverage", "'coverage' is no rule; write one such as"),
        ("__import__('os') > 0", "no metric '__import__'"),
        ("coverage(brand); DROP TABLE counted < 1", "is no rule"),
        ("coverage(brand) < 0.8 or 1", "is no rule"),
        ("coverge(brand) < 0.8", "no metric 'coverge', did you mean 'coverage'?"),
        ("items(brand) < 3", "items is not asked of an attribute"),
        ("illegal(brand, sofa) > 0", "illegal is not asked of one category; use --category"),
        ("psi(brand) > 0.1", "is about drift: name the earlier moment with --against"),
    ],
)
def test_rules_that_are_none_are_refused(quality: Quality, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        failing(parse_rule(text), quality)
    assert said in str(caught.value)


def test_commands_can_be_pasted_whatever_an_id_is(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    for item_id in ("-rf", "x; rm -rf ~"):
        store.append("attributes", attributes_table([row(item_id, "merge", "sofa", value(item_id, ""))]))
    shown = {f["example"]: f["next"] for f in Quality(Snapshot(store)).lines("finding", level="wrong")}
    assert shown == {"-rf": "lore query -- -rf", "x; rm -rf ~": "lore query 'x; rm -rf ~'"}
