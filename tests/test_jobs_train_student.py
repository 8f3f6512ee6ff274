"""Run: pytest tests/test_jobs_train_student.py

What students learn from and how they vote: lessons of small sources, kinds read off titles, trees as ONNX.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jobs.student.forest import Growing, grown, joined, levels_of
from jobs.student.from_catalogue import CatalogueLessons
from jobs.student.from_queries import query_lessons
from jobs.student.from_tables import table_lessons
from jobs.student.kinds import Product, words_of
from jobs.student.lessons import TARGETS, WEIGHTS, Lesson
from lore_mm.datasets.queryner import TaggedQuery
from lore_mm.knowledge import Category, Knowledge

pytest.importorskip("sklearn")

PRINTERS = [Product(f"Epson P{i} inkjet printer Black", "Epson", "inkjet printer") for i in range(6)]
CABLES = [Product(f"Sandberg {i} m printer cable for Epson", "Sandberg", "printer cable") for i in range(6)]
PHONES = [Product(f"Apple iFone {i} 64 GB Black", "Apple", "smartphone") for i in range(5)]
CASES = [Product(f"Targus case for Apple iFone {i}", "Targus", "mobile phone case") for i in range(5)]
SHOP = [*PRINTERS, *CABLES, *PHONES, *CASES]


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    return CatalogueLessons(SHOP, Knowledge()).made(3000, seed=1)


def standings(lessons: list[Lesson], query: str, kind: str) -> set[str]:
    titles = {one.title for one in SHOP if one.kind == kind}
    return {one.standing for one in lessons if one.query == query and one.title in titles}


def test_targets_are_distributions() -> None:
    assert all(sum(target) == pytest.approx(1) for target in TARGETS.values())
    assert set(WEIGHTS) == set(TARGETS) and all(0 < weight <= 1 for weight in WEIGHTS.values())
    expected = {name: float(np.dot(target, range(4))) for name, target in TARGETS.items()}
    order = sorted(expected, key=lambda name: expected[name])
    assert order == ["other", "sibling", "part", "named", "near", "same"]


def test_a_title_that_has_the_words_and_is_another_thing_is_another_thing(lessons: list[Lesson]) -> None:
    assert standings(lessons, "inkjet printer", "inkjet printer") <= {"same", "named"}
    assert "other" in standings(lessons, "printer", "printer cable")
    assert "same" not in standings(lessons, "printer", "printer cable")
    assert standings(lessons, "epson", "printer cable") == {"other"}  # made for it, by another maker
    assert "same" in standings(lessons, "epson", "inkjet printer")


def test_a_line_is_its_makers_thing_and_not_what_is_made_for_it(lessons: list[Lesson]) -> None:
    assert standings(lessons, "ifone", "smartphone") == {"same"}
    assert standings(lessons, "ifone", "mobile phone case") == {"other"}


def test_the_same_seed_makes_the_same_lessons() -> None:
    shop = CatalogueLessons(SHOP, Knowledge())
    assert shop.made(200, seed=3) == CatalogueLessons(SHOP, Knowledge()).made(200, seed=3)
    assert shop.made(200, seed=3) != shop.made(200, seed=4)


def test_tagged_queries_are_titles_of_what_they_ask_for() -> None:
    rows = [
        ("eminem iphone 6 case", "B-content B-product_name I-product_name B-core_product_type"),
        ("leather case black", "B-material B-core_product_type B-color"),
        ("red shoes nike", "B-color B-core_product_type B-creator"),
    ]
    queries = [TaggedQuery(str(i), tuple(t.split()), tuple(tags.split())) for i, (t, tags) in enumerate(rows)]
    made = {(one.query, one.title): one.standing for one in query_lessons(queries, 600)}
    assert made["case", "eminem iphone 6 case"] == "same"
    assert made["iphone 6", "eminem iphone 6 case"] == "other"
    assert made["black case", "leather case black"] == "same"
    assert made["black case", "eminem iphone 6 case"] == "near"
    assert made["shoes", "red shoes nike"] == "same"


def test_tables_tell_names_kinds_below_and_what_goes_with_them() -> None:
    tables = Knowledge(
        categories=[
            Category(id="sofa", name="sofa", terms=("couch",)),
            Category(id="corner_sofa", name="corner sofa", parent="sofa"),
            Category(id="cushion", name="cushion", accessory_of=("sofa",)),
        ]
    )
    made = Counter((one.query, one.standing, _kind(one.title)) for one in table_lessons(tables, 400))
    assert made["couch", "same", "corner sofa"] and made["sofa", "same", "couch"]
    assert made["cushion", "other", "sofa"] + made["cushion", "other", "couch"]
    assert not made["sofa", "same", "cushion"] and not made["corner sofa", "same", "sofa"]


def _kind(title: str) -> str:
    return next(name for name in ("corner sofa", "cushion", "couch", "sofa") if name in title)


def test_words_of_kinds() -> None:
    assert words_of("Notebook cases/Bags") == ("notebook", "case", "bag")


def test_trees_in_onnx_are_the_trees(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnxruntime
    from onnx import TensorProto, helper

    from jobs.onnx_bert import Graph, finished
    from jobs.student.forest import tree_attributes

    chance = np.random.default_rng(0)
    features, read = chance.random((500, 3)).astype(np.float32), chance.dirichlet(np.ones(4), 500)
    seen = joined(features, read)
    assert seen.shape == (500, 7) and np.allclose(np.exp(seen[:, 3:]), read, atol=1e-5)
    levels = 1 + 2 * (features[:, 0] > 0.5).astype(int) + (read[:, 3] > 0.3)
    trees = grown(seen, levels, Growing(trees=9, least_pairs=4))
    graph = Graph()
    graph.op("TreeEnsembleRegressor", "seen", out="levels", domain="ai.onnx.ml", **tree_attributes(trees))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", w]) for n, w in (("seen", 7), ("levels", 4))]
    session = onnxruntime.InferenceSession(
        finished(graph, "trees", ends[:1], ends[1:], "ai.onnx.ml").SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    told = session.run(None, {"seen": seen})[0]
    assert np.abs(told - levels_of(trees, seen)).max() < 1e-6
    assert (told.argmax(axis=1) + 1 == levels).mean() > 0.9


def test_a_level_that_nobody_saw_is_never_told() -> None:
    seen = np.random.default_rng(1).random((60, 2)).astype(np.float32)
    trees = grown(seen, np.where(seen[:, 0] > 0.5, 4, 1), Growing(trees=5))
    told = levels_of(trees, seen)
    assert np.allclose(told[:, 1:3], 0) and np.allclose(told.sum(axis=1), 1)
