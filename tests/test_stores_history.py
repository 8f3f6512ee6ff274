from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from lore_mm.errors import LoreError
from stores.features import FeatureStore, open_store
from stores.history import history_of
from tests.stored_past import at, found, put, put_items, shirt, value

CONTENT = {"words": "w1", "record": "r1", "pictures": "p1"}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path / "store", create=True)


def told(store: FeatureStore, attribute: str | None = None, *columns: str, **options: bool) -> list[tuple[object, ...]]:
    rows = history_of(store, store.snapshot(), "shirt", attribute, **options).to_pylist()
    return [tuple(row[name] for name in columns or ("extractor", "value", "why")) for row in rows]


def message(call) -> str:
    with pytest.raises(LoreError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_items_own_fields(store: FeatureStore) -> None:
    put_items(store, 0, shirt(price=10.0, currency="EUR", attributes={"color": ("red", "white")}), input_sha="a")
    put_items(store, 5, shirt(price=12.5, currency="EUR", attributes={"color": ("red", "white")}), input_sha="b")
    put_items(store, 9, shirt("", price=12.5), input_sha="c", error="title is empty")
    put_items(store, 11, shirt(price=12.5), input_sha="d", run="r4")
    assert told(store, "price", "extractor", "at", "value", "number", "why", "times", "last_at") == [
        ("seller", at(0), "10", 10.0, "first seen", 1, at(0)),
        ("seller", at(5), "12.5", 12.5, "item changed", 3, at(11)),
    ]
    assert told(store, "color", "attribute", "value", "status", "at") == [
        ("given.color", "red", "value", at(0)),
        ("given.color", "white", "value", at(0)),
        ("given.color", None, "absent", at(9)),
    ]
    assert told(store, "title", "value", "error", "run_id") == [
        ("Red shirt", None, "r1"),
        (None, "title is empty", "r1"),
        ("Red shirt", None, "r4"),
    ]
    assert told(store, "fault", "status", "error") == [("failed", "title is empty"), ("absent", None)]
    assert {name for (name,) in told(store, None, "attribute")} == {
        "title",
        "price",
        "currency",
        "given.color",
        "fault",
    }


def test_every_reason(store: FeatureStore) -> None:
    def row(minutes: int, said: str, **more: object) -> None:
        put(store, found("shirt", "vlm", minutes, value("color", said), **more))

    row(0, "red", made_from=CONTENT)
    row(1, "blue", made_from=CONTENT | {"pictures": "p2"}, input_sha="in2")
    row(2, "green", made_from=CONTENT | {"pictures": "p2"}, input_sha="in2", settings="s2")
    row(3, "grey", made_from=CONTENT | {"pictures": "p2", "pack": "k"}, input_sha="in2", settings="s2")
    row(4, "black", made_from=CONTENT | {"pictures": "p2", "pack": "k2"}, input_sha="in2", settings="s2")
    row(5, "white", made_from=CONTENT | {"pictures": "p2", "pack": "k2"}, input_sha="in2", settings="s2")
    row(6, "off-white", maker="migration 3", input_sha="in2", settings="s2")
    row(7, "cream", input_sha="in2", settings="s2")
    row(8, "beige", input_sha="in3", settings="s2")
    put(store, found("shirt", "human", 9, value("color", "ivory")))
    assert told(store, "color", "value", "why", "changed") == [
        ("red", "first seen", []),
        ("blue", "item changed", ["pictures"]),
        ("green", "settings changed", ["settings"]),
        ("grey", "run again", []),  # what it read of the pack was not told before: no change that anybody knows of
        ("black", "source changed", ["pack"]),
        ("white", "run again", []),
        ("off-white", "migrated", []),
        ("cream", "run again", []),
        ("beige", "item changed", ["input"]),
        ("ivory", "corrected by a person", []),
    ]


def test_a_verdict_names_the_source_that_changed_it(store: FeatureStore) -> None:
    given, verdict = value("color", "red"), value("color", "red", extractor="merge")
    put(
        store,
        found("shirt", "given", 0, given),
        found("shirt", "palette", 0, value("color", "red", 0.4)),
        found("shirt", "merge", 0, verdict, made_from=CONTENT, settings="all1"),
    )
    put(  # another palette; what was given stands, and is not written again
        store,
        found("shirt", "palette", 10, value("color", "maroon", 0.8), settings="s2", run="r2"),
        found(
            "shirt",
            "merge",
            10,
            value("color", "maroon", extractor="merge"),
            made_from=CONTENT,
            settings="all2",
            run="r2",
        ),
    )
    put(  # only the weights of the verdict
        store,
        found("shirt", "merge", 20, value("color", "red", extractor="merge"), made_from=CONTENT, settings="all3"),
    )
    assert told(store, "color", "extractor", "value", "why", "changed", "run_id") == [
        ("given", "red", "first seen", [], "r1"),
        ("palette", "red", "first seen", [], "r1"),
        ("merge", "red", "first seen", [], "r1"),
        ("palette", "maroon", "settings changed", ["settings"], "r2"),
        ("merge", "maroon", "source changed", ["palette"], "r2"),
        ("merge", "red", "settings changed", ["settings"], "r1"),
    ]


def test_a_source_that_is_only_less_sure_is_one_that_changed(store: FeatureStore) -> None:
    put(
        store,
        found("shirt", "given", 0, value("fit", "slim", 0.6)),
        found("shirt", "merge", 0, value("fit", "slim", 0.6)),
    )
    put(
        store,
        found("shirt", "given", 1, value("fit", "slim", 0.2)),
        found("shirt", "merge", 1, value("fit", "wide", 0.5)),
    )
    assert told(store, "fit", "extractor", "value", "why", "changed", "times")[1:] == [
        ("merge", "slim", "first seen", [], 1),
        ("merge", "wide", "source changed", ["given"], 1),
    ]
    assert told(store, "fit", "extractor", "times")[0] == ("given", 2)  # the same value


def test_failed_and_recovered(store: FeatureStore) -> None:
    put(store, found("shirt", "vlm", 0, error="no answer"), found("shirt", "merge", 0, error="vlm: no answer"))
    put(store, found("shirt", "vlm", 1, error="no answer"), found("shirt", "merge", 1, error="vlm: no answer"))
    put(store, found("shirt", "vlm", 2, value("fit", "slim")), found("shirt", "merge", 2, value("fit", "slim")))
    put(store, found("shirt", "vlm", 3), found("shirt", "merge", 3))
    assert told(store, "fit", "extractor", "at", "value", "status", "why", "times", "error") == [
        ("vlm", at(0), None, "failed", "first seen", 2, "no answer"),
        ("merge", at(0), None, "failed", "first seen", 2, "vlm: no answer"),
        ("vlm", at(2), "slim", "value", "run again", 1, None),
        ("merge", at(2), "slim", "value", "source changed", 1, None),
        ("vlm", at(3), None, "absent", "run again", 1, None),
        ("merge", at(3), None, "absent", "source changed", 1, None),
    ]
    assert len(told(store, "fit", fold=False)) == 8


def test_order_is_of_making_not_of_committing_and_compaction_changes_nothing(store: FeatureStore) -> None:
    put(store, found("shirt", "given", 10, value("fit", "late")))
    put(store, found("shirt", "given", None, value("fit", "undated")))
    put(store, found("shirt", "given", 5, value("fit", "early")), found("hat", "given", 5, value("fit", "wide")))
    before = told(store, "fit", "value", "at")
    assert before == [("undated", None), ("early", at(5)), ("late", at(10))]
    assert store.folder is not None
    DeltaTable(str(store.folder / "attributes")).optimize.compact()
    put(store, found("shirt", "given", 12, value("fit", "last")))
    assert told(store, "fit", "value", "at") == [*before, ("last", at(12))]


def test_at_an_earlier_version_the_rest_is_not_known(store: FeatureStore) -> None:
    put(store, found("shirt", "given", 0, value("fit", "slim")))
    then = store.snapshot()
    put(store, found("shirt", "given", 1, value("fit", "wide")))
    assert history_of(store, then, "shirt", "fit")["value"].to_pylist() == ["slim"]
    assert history_of(store, then, "shirt")["value"].to_pylist() == ["slim"]


def test_what_is_not_there(store: FeatureStore) -> None:
    put(store, found("shirt", "given", 0, value("color", "red"), value("fit", "slim")))
    assert history_of(store, store.snapshot(), "hat").num_rows == 0
    assert message(lambda: history_of(store, store.snapshot(), "shirt", "colour")) == (
        "nobody ever spoke of 'colour' of item 'shirt', did you mean 'color'? there are: color, fit"
    )
