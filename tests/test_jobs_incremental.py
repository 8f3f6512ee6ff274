"""What is made again of an item that changed, and what is not; and that the outcome is that of a run from scratch."""

import shutil

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.calibrate import Calibration, CalibrationEntry
from extractors.reuse import content_of
from extractors.vlm import Vlm
from extractors.zero_shot import ZeroShot
from jobs.asked import asked_in
from jobs.plan import Counts
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import Item
from stores.features import open_store
from tests.changing_shop import ASK, COLORS, SCRIPT, SHINE, SOFT, World, done, rows_of  # noqa: F401


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def did(asked=(), looked=0, decoded=0):
    return {"asked": sorted(asked), "looked": looked, "decoded": decoded}


BOTH = ("softness", "shine")
ALL = [("Cotton shirt", BOTH), ("Desk lamp", ("shine",)), ("Wool shirt", BOTH)]


def test_each_change_makes_again_what_depends_on_it(world, store, done):  # noqa: F811
    assert world.extract(store) == Counts(3, 3, 0, 0)
    assert done() == did(ALL, 3, 3)
    assert world.extract(store) == Counts(3, 0, 0, 3)
    assert done() == did()
    assert store.count("attributes") == 3 * 4

    world.titles[0] = "Linen shirt"  # text: nobody looks at colours again, but the model reads the title
    assert world.extract(store) == Counts(3, 1, 0, 2)
    assert done() == did([("Linen shirt", BOTH)], 0, 1)
    assert store.count("attributes") == 3 * 4 + 3

    world.prices[1] = 20  # a price is no word of the title: a model is not shown it
    assert world.extract(store) == Counts(3, 1, 0, 2)
    assert done() == did()
    assert store.count("attributes") == 3 * 4 + 3 + 2  # given, merge

    world.colors[2] = "red"
    assert world.extract(store) == Counts(3, 1, 0, 2)
    assert done() == did([("Wool shirt", BOTH)], 1, 1)
    assert store.count("attributes") == 3 * 4 + 3 + 2 + 3

    world.same_as_from_scratch(store)


def test_a_change_to_one_attribute_asks_for_it_alone(world, store, done):  # noqa: F811
    world.extract(store)
    done()
    calls = asked_in(store).usage.calls
    world.soft = SOFT.replace("How soft", "How very soft")
    assert world.extract(store) == Counts(3, 3, 0, 0)
    assert done() == did([("Cotton shirt", ("softness",)), ("Wool shirt", ("softness",))], 0, 3)
    asked = asked_in(store)
    assert (asked.usage.calls - calls, asked.fields) == (2, 5 + 2)  # each as it was paid for, none twice
    vlm = store.scan("attributes").filter(pl.col("extractor") == "vlm").collect()
    assert vlm["item_id"].to_list() == ["i0", "i1", "i2", "i0", "i2"]  # the lamp's row stands
    world.same_as_from_scratch(store)
    done()

    world.shine = SHINE.replace('"glossy"', '"glossy", "pearly"')  # other values
    world.extract(store)
    assert done()["asked"] == [(title, ("shine",)) for title in ("Cotton shirt", "Desk lamp", "Wool shirt")]

    world.ask = ("softness", "shine", "pattern")  # one more
    world.extract(store)
    assert done()["asked"] == [(title, ("pattern",)) for title in ("Cotton shirt", "Desk lamp", "Wool shirt")]
    world.ask = ("shine",)  # less: nothing is asked, and its values are gone
    world.extract(store)
    assert done()["asked"] == []
    world.same_as_from_scratch(store)


def test_another_model_or_prompt_asks_for_all(world, store, done):  # noqa: F811
    world.extract(store)
    done()
    world.script = SCRIPT.replace("matt", "glossy")
    world.extract(store)
    assert done() == did(ALL, 0, 3)
    world.prompt = "compact"
    world.extract(store)
    assert done()["asked"] == ALL
    world.same_as_from_scratch(store)


def test_an_added_extractor_runs_alone(world, store, done):  # noqa: F811
    world.extractors, world.vlm = ("given",), False
    world.extract(store)
    assert done() == did()
    world.extractors = ("given", "palette")
    world.extract(store)
    assert done() == did((), 3, 3)
    assert store.count("attributes") == 3 * 2 + 3 * 2  # palette and merge
    world.vlm = True  # pictures are decoded larger for it: the palette looks at other pixels
    world.extract(store)
    assert done() == did(ALL, 3, 3)
    world.vlm = False
    world.extract(store)
    world.extractors = ("given",)
    world.extract(store)
    assert done()["asked"] == []
    world.same_as_from_scratch(store)


def calibration(threshold, extractor="given"):
    entry = CalibrationEntry(
        extractor=extractor, attribute="color", n=9, right=9, method="logistic", knots=((0.1, 0.5), (1.0, 0.99)),
        threshold=threshold,
    )  # fmt: skip
    return Calibration(entries=(entry,))


def test_calibrating_again_asks_for_nothing_but_what_is_no_longer_settled(world, store, done):  # noqa: F811
    world.titles[0], world.ask = "Red shirt", ("color", "shine")
    world.script = '[default]\nanswer = {color=["red"], shine="matt"}'
    world.calibration = calibration(0.5)
    world.extract(store)
    assert ("Red shirt", ("shine",)) in done()["asked"]
    world.calibration = calibration(0.51)
    assert world.extract(store) == Counts(3, 3, 0, 0)
    assert done() == did()  # not one picture was opened
    settled = asked_in(store).settled
    world.calibration = calibration(None)
    world.extract(store)
    assert done() == did([("Red shirt", ("color",))], 0, 1)
    assert asked_in(store).settled == settled == 1
    world.calibration = calibration(0.5)
    world.extract(store)
    assert done()["asked"] == []
    world.same_as_from_scratch(store)


def test_what_failed_is_asked_again_only_where_that_is_wanted_or_it_changed(world, store, done):  # noqa: F811
    world.script = '[[rules]]\nwords = ["softness"]\nerror = "too busy"\n' + SCRIPT
    world.soft, world.shine = SOFT.replace("How soft", "Softness: how soft"), SHINE
    world.extract(store, batch_rows=2)
    done()
    vlm = {r["item_id"]: r for r in rows_of(store, ["vlm"])}
    assert {i: r["status"] for i, r in vlm.items()} == {"i0": "failed", "i1": "ok", "i2": "failed"}
    assert world.extract(store) == Counts(3, 0, 0, 3, n_still_failed=2)
    world.prices[0] = 50
    world.extract(store)
    assert done()["asked"] == []  # of the item something changed, which no question is about
    world.same_as_from_scratch(store)
    done()
    world.extract(store, retry_failed=True)
    assert done() == did([("Cotton shirt", BOTH), ("Wool shirt", BOTH)], 0, 2)
    world.ask = ("shine",)  # this question is what it was, and so is its failure
    world.extract(store)
    assert done()["asked"] == []


def test_a_store_of_before_is_made_once_and_then_stands(world, store, done):  # noqa: F811
    """Rows without what they were made from: nothing of them is taken over."""
    from deltalake import write_deltalake

    world.extract(store)
    done()
    older = [
        f for f in store.scan("attributes").collect_schema().names() if f not in ("made_from", "asked_with", "pack")
    ]
    rows = store.scan("attributes").select(older).collect().to_arrow()
    shutil.rmtree(store.folder / "attributes")
    write_deltalake(f"{store.uri}/attributes", rows)
    again = open_store(store.uri)
    world.prices[0] = 9
    world.extract(again)
    assert done() == did(ALL[:1], 1, 1)
    world.prices[0] = 10
    world.extract(again)
    assert done() == did()


class _Silent:
    name = sha = "silent"


def test_a_question_is_known_by_all_that_makes_it_up():
    knowledge, schemas = load_knowledge(), load_schemas()
    spec = schemas.for_category("dress", knowledge).specs["neckline"]

    def signed(spec=spec, thing="garment", category="dress", **settings):
        return Vlm(_Silent(), schemas, knowledge, **settings).signer.sign((spec,), thing, category)

    same = [
        signed(),
        signed(fields=["fit"]),
        signed(spec.model_copy(update={"prompts": ("{value}",), "visual": False})),
    ]
    assert len(set(same)) == 1
    others = [
        signed(decoding={"dtype": "'float16'"}),
        signed(max_pictures=1),
        signed(fields_per_request=3),
        signed(prompt="compact"),
        signed(thing="dress"),
        signed(category="shirt"),
        signed(spec.model_copy(update={"ask": "Which?"})),
        signed(spec.model_copy(update={"values": {**spec.values, "odd": ()}})),
        signed(spec.model_copy(update={"multi": True})),
    ]
    assert len({*others, same[0]}) == len(others) + 1


def test_what_is_content_of_an_item():
    item = Item("a", "Mug", price=1.0, images=("a.png",))
    base = content_of(item, ["x"])
    assert content_of(Item("b", "Mug", price=1.0), ["x"]) == base
    changed = {
        "words": [
            Item("a", "Cup", price=1.0),
            Item("a", "Mug", "Blue", price=1.0),
            Item("a", "Mug", brand="B", price=1.0),
        ],
        "record": [
            Item("a", "Mug", price=2.0),
            Item("a", "Mug", price=1.0, store="S"),
            Item("a", "Mug", price=float("nan")),
        ],
    }
    for part, items in changed.items():
        for other in items:
            assert {name for name, sha in content_of(other, ["x"]).items() if sha != base[name]} == {part}
    assert {name for name, sha in content_of(item, ["y"]).items() if sha != base[name]} == {"pictures"}


CHANGES = {
    "titles": st.lists(
        st.sampled_from(["Cotton shirt", "Red shirt", "Desk lamp", "Wool chair"]), min_size=3, max_size=3
    ),
    "prices": st.lists(st.sampled_from([1, 5]), min_size=3, max_size=3),
    "colors": st.lists(st.sampled_from(list(COLORS)), min_size=3, max_size=3),
    "soft": st.sampled_from(
        [SOFT, SOFT.replace("soft is", "soft, then, is"), SOFT.replace('"firm"', '"firm", "hard"')]
    ),
    "shine": st.sampled_from([SHINE, SHINE.replace("Does", "How much does")]),
    "script": st.sampled_from([SCRIPT, SCRIPT.replace("matt", "glossy")]),
    "ask": st.sampled_from([ASK, ("shine",), ("softness", "shine", "color")]),
    "extractors": st.sampled_from([("given",), ("given", "palette"), ("palette",)]),
    "calibration": st.sampled_from([None, calibration(0.5), calibration(None), calibration(0.4, "palette")]),
    "prompt": st.sampled_from(["full", "compact"]),
    "vlm": st.booleans(),
}
STEP = st.one_of(*(st.tuples(st.just(name), values) for name, values in CHANGES.items()))


def changed_again_and_again(folder, steps):
    world, store = World(folder), open_store(folder / "store", create=True)
    world.extract(store)
    for name, value in steps:
        setattr(world, name, list(value) if name in ("titles", "prices", "colors") else value)
        world.extract(store)
    world.same_as_from_scratch(store)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEP, min_size=2, max_size=4))
def test_any_changes_one_after_the_other_end_as_from_scratch(tmp_path_factory, steps):
    changed_again_and_again(tmp_path_factory.mktemp("world"), steps)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEP, min_size=2, max_size=8))
def test_many_changes_one_after_the_other_end_as_from_scratch(tmp_path_factory, steps):
    changed_again_and_again(tmp_path_factory.mktemp("world"), steps)


def test_the_shipped_embedder_looks_only_at_what_changed(world, store, monkeypatch):
    seen = []
    extract = ZeroShot.extract
    monkeypatch.setattr(ZeroShot, "extract", lambda self, some: seen.append(len(some)) or extract(self, some))
    world.extractors, world.vlm = ("given", "palette", "zero_shot"), False
    world.extract(store)
    world.titles[0] = "Linen shirt"
    world.extract(store)
    assert seen == [3]
    world.colors[1] = "red"
    world.extract(store)
    assert seen == [3, 1]
    world.soft = SOFT.replace("How", "Just how")  # no model is asked: nothing reads a question
    assert world.extract(store) == Counts(3, 0, 0, 3)
    world.soft = SOFT + "visual = true\n"
    assert world.extract(store) == Counts(3, 3, 0, 0)
    assert seen == [3, 1, 3]
    world.same_as_from_scratch(store)
