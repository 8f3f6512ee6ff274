"""The queries with gold demands are what their README says. Run: pytest tests/test_examples_queries.py"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.schema import load_dimensions, load_hard_types

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "queries"
UNITS = tomllib.loads((ROOT / "lore_mm" / "schemas" / "units.toml").read_text(encoding="utf-8"))
KEYS = {"query_id", "query", "split", "hard_type", "referent", "normalized", "demands", "note"}
DEMAND_KEYS = {
    "dimension",
    "words",
    "start",
    "canonical",
    "op",
    "number",
    "number_high",
    "unit",
    "polarity",
    "strictness",
    "role",
    "latent",
}
# Dimensions whose demands are numbers, codes or sizes: their values have no names in the tables.
UNNAMED = {"spec", "price", "year"}
UNKNOWN_NAMES = 20  # makers and models that no table knows, and that must not be "corrected"
SPLITS = ("dev", "test")


def load(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return load(FOLDER / "gold.jsonl")


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    return load_knowledge()


def span(row: dict, demand: dict) -> tuple[int, int]:
    start = demand.get("start", row["query"].find(demand["words"]))
    return start, start + len(demand["words"])


def canonicals(demand: dict) -> list[str | None]:
    value = demand.get("canonical", [])
    return value if isinstance(value, list) else [value]


def conditions(row: dict) -> set[str]:
    """Dimensions of the hard, said, positive conditions beside the head, as the README counts them."""
    heads = {d["dimension"] for d in row["demands"] if d.get("role") == "head"}
    found = {
        "brand" if d["dimension"] == "model" else d["dimension"]
        for d in row["demands"]
        if not d.get("latent") and d.get("role") != "head" and "strictness" not in d and "polarity" not in d
    }
    return found - {"category"} - ({"brand"} if heads & {"brand", "model"} else set())


def test_rows_have_the_keys_of_the_readme(rows):
    assert [row["query_id"] for row in rows] == [f"g{n:03d}" for n in range(1, len(rows) + 1)]
    hard_types = set(load_hard_types())
    for row in rows:
        assert KEYS - {"normalized", "note"} <= set(row) <= KEYS, row["query_id"]
        assert row["hard_type"] in hard_types
        assert row["referent"] in ("precise", "generic", None)
        assert row["demands"]
        for demand in row["demands"]:
            assert {"dimension"} <= set(demand) <= DEMAND_KEYS, row["query_id"]
            assert demand["dimension"] in load_dimensions()
            assert demand.get("op", "at_most") in ("range", "at_least", "at_most", "share")  # eq is left out
            assert demand.get("polarity", -1) == -1
            assert demand.get("strictness", "soft") == "soft"
            assert demand.get("role", "head") == "head"
            assert demand.get("latent", True) is True


def test_queries_are_told_once_and_are_not_the_demo_shops(rows):
    queries = [" ".join(row["query"].lower().split()) for row in rows]
    assert len(queries) >= 200
    assert [query for query, n in Counter(queries).items() if n > 1] == []
    demo = {row["query"].lower() for row in load(ROOT / "examples" / "demo" / "queries.jsonl")}
    assert demo.isdisjoint(queries)


def test_words_stand_verbatim_and_apart(rows):
    for row in rows:
        spans = []
        for demand in row["demands"]:
            assert ("words" in demand) != bool(demand.get("latent")), row["query_id"]
            if "words" not in demand:
                assert "start" not in demand and ("canonical" in demand or "number" in demand)
                continue
            start, end = span(row, demand)
            assert row["query"][start:end] == demand["words"] == demand["words"].strip() != ""
            assert ("start" in demand) == (row["query"].count(demand["words"]) > 1), (row["query"], demand["words"])
            spans.append((start, end))
        for (_, end), (start, _) in pairwise(sorted(spans)):
            assert end <= start, row["query"]


def test_canonicals_are_names_of_the_tables(rows, knowledge):
    legal = defaultdict(set)
    for dimension, value in knowledge.terms:
        legal[dimension].add(value)
    legal["category"] |= set(knowledge.categories)
    legal["brand"] |= set(knowledge.brands)
    legal["store"] |= set(knowledge.brands)  # a shop that is a maker too
    legal["model"] |= set(knowledge.series)
    legal["color"] |= set(knowledge.colors)
    legal["material"] |= set(knowledge.materials)
    for row in rows:
        for demand in row["demands"]:
            dimension, values = demand["dimension"], canonicals(demand)
            assert "canonical" in demand or dimension in UNNAMED, (row["query"], demand)
            assert len(values) == len(set(values))
            for value in values:
                assert value is None or value in legal[dimension], (row["query"], dimension, value)


def test_numbers_are_in_base_units(rows):
    units = {kind["base"] for kind in UNITS.values() if kind["base"]} | set(UNITS["count"]["names"].values())
    by_dimension = {
        "bundle": {"pieces"},
        "audience": {"years"},
        "material": {"share"},
        "year": {None},
        "price": {None, "USD", "EUR", "GBP", "CNY"},
        "spec": units | {None, "EU", "UK", "US", "spf"},
    }
    for row in rows:
        for demand in row["demands"]:
            if "number" not in demand:
                assert {"op", "number_high", "unit"}.isdisjoint(demand), row["query"]
                continue
            assert demand["unit"] in by_dimension[demand["dimension"]], row["query"]
            assert ("number_high" in demand) == (demand.get("op") == "range")
            assert demand["number"] < demand.get("number_high", float("inf"))
            assert demand["unit"] != "share" or 0 < demand["number"] <= 1
            assert demand.get("op") != "share" or demand["unit"] == "share"


def test_splits_are_by_the_hash_of_the_id(rows):
    for row in rows:
        digest = hashlib.sha256(row["query_id"].encode()).hexdigest()
        assert row["split"] == ("test" if int(digest, 16) % 2 else "dev")
    sizes = Counter(row["split"] for row in rows)
    assert abs(sizes["dev"] - sizes["test"]) <= 0.1 * len(rows)


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_covers_everything(rows, split):
    part = [row for row in rows if row["split"] == split]
    demands = [demand for row in part for demand in row["demands"]]
    dimensions = Counter(demand["dimension"] for demand in demands)
    assert {name: n for name in load_dimensions() if (n := dimensions[name]) < 3} == {}
    assert set(load_hard_types()) == {row["hard_type"] for row in part}
    assert {d.get("op", "eq") for d in demands if "number" in d} == {"eq", "range", "at_least", "at_most", "share"}
    for flag in ("polarity", "strictness", "latent", "role"):
        assert {flag in demand for demand in demands} == {True, False}
    assert {row["referent"] for row in part} == {"precise", "generic", None}
    assert any(not row["query"].isascii() for row in part) and any("normalized" in row for row in part)


def test_the_whole_holds_what_was_asked_for(rows, knowledge):
    dimensions = Counter(demand["dimension"] for row in rows for demand in row["demands"])
    assert min(dimensions[name] for name in load_dimensions()) >= 6
    hard_types = Counter(row["hard_type"] for row in rows)
    assert min(hard_types[name] for name in load_hard_types()) >= 15
    assert sum("normalized" in row for row in rows) >= 25
    assert sum(bool(re.search("[一-鿿]", row["query"])) for row in rows) >= 6
    unknown = {
        d["words"]
        for row in rows
        for d in row["demands"]
        if d["dimension"] in ("brand", "model") and canonicals(d) == [None]
    }
    assert len(unknown) >= UNKNOWN_NAMES
    departments = {
        knowledge.department(value)
        for row in rows
        for d in row["demands"]
        if d["dimension"] == "category"
        for value in canonicals(d)
        if value is not None
    }
    wanted = "fashion footwear bags electronics home furniture beauty grocery sports toys tools garden jewellery media"
    assert set(wanted.split()) <= departments


def test_corrections_leave_all_but_the_slip(rows):
    for row in rows:
        if "normalized" in row:
            typed, put_right = row["query"].split(), row["normalized"].split()
            assert typed != put_right
            kept = len(set(typed) & set(put_right))
            assert kept >= len(typed) - 4, row["query"]


def test_hard_types_keep_to_their_order(rows):
    for row in rows:
        excluded = any("polarity" in demand for demand in row["demands"])
        if row["hard_type"] == "multi_attribute":
            assert len(conditions(row)) >= 2 and not excluded, row["query"]
        elif row["hard_type"] == "other":
            assert len(conditions(row)) <= 1 and not excluded, row["query"]
        elif row["hard_type"] == "solution_seeking":
            assert not [d for d in row["demands"] if d.get("role") == "head"] and not excluded
            assert any(d["dimension"] == "category" and d.get("latent") for d in row["demands"]), row["query"]


def test_heads_and_referents_go_together(rows):
    for row in rows:
        heads = [demand for demand in row["demands"] if demand.get("role") == "head"]
        assert bool(heads) == (row["referent"] is not None), row["query"]
        assert len(heads) <= (2 if row["hard_type"] == "entity_relation" else 1), row["query"]
        assert {h["dimension"] for h in heads} <= {"category", "brand", "model", "ip", "store", "component"}
        assert not any("polarity" in h or "strictness" in h or h.get("latent") for h in heads)


def test_the_readmes_counts_are_what_its_command_prints():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == printed


def test_the_examples_of_the_conventions_stand_in_the_queries(rows):
    readme = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    conventions = readme.split("## Conventions")[1].split("## How many")[0]
    said = {row["query"] for row in rows}
    keys = KEYS | DEMAND_KEYS | set(load_dimensions())
    quoted = {words.removeprefix("for ") for words in re.findall(r"`([^`]+)`", conventions)} - keys
    assert {words for words in quoted if not any(words in query for query in said)} == set()
