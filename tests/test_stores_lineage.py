from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from lore_mm.console import command_app
from lore_mm.errors import LoreError
from lore_mm.tables import RUNS
from lore_mm.types import AttributeValue, Evidence
from stores.features import FeatureStore, open_store
from stores.lineage import LINEAGE, lineage_of
from stores.query import main
from stores.snapshot import Snapshot
from tests.changing_shop import World
from tests.stored_past import at, found, put, put_items, shirt, value

CONTENT = {"words": "w1", "record": "r1", "pictures": "p1"}
VLM = {"sha": "s9", "model": "vllm:Qwen", "model_sha": "m1", "prompt": "full.jinja", "prompt_sha": "p1"} | {
    "schema_sha": "sc1",
    "knowledge_sha": "k1",
    "decoding": {"temperature": 0},
}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path / "store", create=True)


def ran(store: FeatureStore, run_id: str, minutes: float, job: str = "extract_items", **known: object) -> None:
    rows = [
        dict.fromkeys(RUNS.names)
        | {"run_id": run_id, "job": job, "event": event, "settings": json.dumps(known), "at": at(minutes + later)}
        for event, later in (("finished", 5), ("started", 0))
    ]
    store.append("runs", pa.Table.from_pylist(rows, schema=RUNS))


def lines(store: FeatureStore, attribute: str) -> list[dict]:
    rows = lineage_of(store, store.snapshot(), "shirt", attribute)
    assert rows.schema == LINEAGE
    return rows.to_pylist()


def message(call) -> str:
    with pytest.raises(LoreError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_value_down_to_model_prompt_and_input(store: FeatureStore) -> None:
    ran(
        store,
        "r9",
        8,
        command="lore extract --vlm vllm:Qwen",
        made_with={"given": {"sha": "s1"}, "vlm": VLM, "merge": {}},
    )
    seen = Evidence("image:0", region=(0.1, 0.2, 0.3, 0.4), value="maroon", extractor="vlm", confidence=0.8)
    maroon = AttributeValue("color", "color", "maroon", confidence=0.8, extractor="vlm", evidence=(seen,))
    usage = {"calls": 2, "prompt_tokens": 900, "completion_tokens": 30, "asked": ["color"], "settled": []}
    put_items(store, 0, shirt(attributes={"color": ("red",)}))
    put(
        store,
        found("shirt", "given", 9, value("color", "red", 0.5), made_from=CONTENT, run="r9"),
        found(
            *("shirt", "vlm", 9, maroon),
            made_from=CONTENT,
            run="r9",
            settings="s9",
            input_sha="in9",
            usage=usage,
            asked_with={"color": "q1"},
        ),
        found("shirt", "palette", 9, error="no picture", made_from=CONTENT, run="r9"),
        found("shirt", "ocr", 9, value("color", None, status="not_stated"), made_from=CONTENT, run="r9"),
        found(
            "shirt",
            "merge",
            9,
            AttributeValue("color", "color", "Maroon", evidence=(seen,)),
            made_from=CONTENT,
            run="r9",
        ),
    )
    verdict, given, vlm, palette, ocr, seller = lines(store, "color")
    assert [(one["extractor"], one["role"]) for one in (verdict, given, vlm, palette, ocr, seller)] == [
        ("merge", "verdict"),
        ("given", "differs"),
        ("vlm", "agrees"),
        ("palette", "failed"),
        ("ocr", "silent"),
        ("seller", "seller"),
    ]
    assert {name: vlm[name] for name in LINEAGE.names if vlm[name] is not None} == {
        "item_id": "shirt",
        "attribute": "color",
        "extractor": "vlm",
        "role": "agrees",
        "value": "maroon",
        "status": "value",
        "confidence": 0.8,
        "evidence": [
            dict.fromkeys(("quote", "start", "end"))
            | {
                "source": "image:0",
                "region": [0.1, 0.2, 0.3, 0.4],
                "value": "maroon",
                "extractor": "vlm",
                "confidence": 0.8,
            }
        ],
        "made_at": at(9),
        "maker": "vlm",
        "run_id": "r9",
        "job": "extract_items",
        "started_at": at(8),
        "command": "lore extract --vlm vllm:Qwen",
        "model": "vllm:Qwen",
        "model_sha": "m1",
        "prompt": "full.jinja",
        "prompt_sha": "p1",
        "schema_sha": "sc1",
        "knowledge_sha": "k1",
        "decoding": '{"temperature": 0}',
        "settings_sha": "s9",
        "question_sha": "q1",
        "input_sha": "in9",
        "made_from": [{"name": n, "sha": s} for n, s in CONTENT.items()],
        "calls": 2,
        "prompt_tokens": 900,
        "completion_tokens": 30,
        "unknown": [],
    }
    assert (given["value"], given["model"], given["unknown"]) == ("red", None, [])
    assert given["evidence"][0]["quote"] == "red"
    assert (palette["error"], palette["status"]) == ("no picture", "failed")
    assert palette["unknown"] == [
        *("model", "model_sha", "prompt", "prompt_sha", "schema_sha", "knowledge_sha", "calibration_sha", "decoding")
    ]
    assert (seller["attribute"], seller["value"], seller["run_id"]) == ("given.color", "red", "r1")
    assert seller["unknown"] == ["job", "started_at", "command"]  # the run is not in RUNS


def test_what_rows_of_an_earlier_version_do_not_tell_is_unknown(store: FeatureStore) -> None:
    ran(store, "r1", 0, settings={"extractors": {"vlm": "s1"}})
    put(store, found("shirt", "vlm", 1, value("fit", "slim"), input_sha=None))
    [line] = lines(store, "fit")
    assert line["unknown"] == [
        *("input_sha", "command", "model", "model_sha", "prompt", "prompt_sha", "schema_sha", "knowledge_sha"),
        *("calibration_sha", "decoding", "question_sha", "calls", "prompt_tokens", "completion_tokens", "made_from"),
    ]
    assert (line["job"], line["started_at"]) == ("extract_items", at(0))


def test_since_when_it_stands(store: FeatureStore) -> None:
    for minutes, said, run in (
        (0, "wide", "a"),
        (1, "slim", "b"),
        (2, "wide", "c"),
        (3, "wide", "d"),
        (4, "wide", "e"),
    ):
        put(store, found("shirt", "merge", minutes, value("fit", said), run=run))
    put_items(store, 5, shirt(brand="Tuva"), run="f")
    put_items(store, 6, shirt(brand="Tuva"), run="g")
    [line] = lines(store, "fit")
    assert (line["made_at"], line["run_id"], line["since"], line["since_run_id"]) == (at(4), "e", at(2), "c")
    [line] = lines(store, "brand")
    assert (line["role"], line["value"], line["run_id"], line["since_run_id"]) == ("seller", "Tuva", "g", "f")
    put(store, found("shirt", "merge", 7, value("fit", "tight")))
    assert lines(store, "fit")[0]["since"] is None


def test_through_a_migration(store: FeatureStore) -> None:
    put(store, found("shirt", "vlm", 0, value("colour", "bordo"), value("fit", "slim"), run="r1"))
    put(
        store,
        found("shirt", "vlm", 1, value("color", "maroon"), value("fit", "slim"), maker="migration:2026", run="r2"),
    )
    now, before = lines(store, "color")
    assert (now["role"], now["value"], now["maker"], now["run_id"]) == ("found", "maroon", "migration:2026", "r2")
    assert [before[name] for name in ("attribute", "role", "value", "maker", "run_id", "made_at")] == [
        *("colour", "migrated from", "bordo", "vlm", "r1", at(0))
    ]
    assert "model" not in now["unknown"] and "model" in before["unknown"]
    assert [(one["attribute"], one["role"]) for one in lines(store, "fit")] == [
        ("fit", "found"),
        ("fit", "migrated from"),
    ]


def test_what_is_not_there(store: FeatureStore) -> None:
    put(store, found("shirt", "given", 0, value("color", "red")))
    put_items(store, 0, shirt())
    snapshot = Snapshot(store)
    assert (
        message(lambda: snapshot.lineage("shirts", "color")) == "no item 'shirts' in the store, did you mean 'shirt'?"
    )
    assert message(lambda: snapshot.history("\udcff")) == "no item '\\udcff' in the store"
    assert message(lambda: snapshot.lineage("shirt", "colr")) == (
        "nobody says anything of 'colr' of item 'shirt', did you mean 'color'? there are: color, title"
    )


def test_a_real_run_tells_what_its_model_was(tmp_path: Path) -> None:
    """A shop extracted by a scripted model, its answer changed: the whole way from the job to the command line."""
    world, store = World(tmp_path), open_store(tmp_path / "store", create=True)
    world.extract(store)
    world.script = world.script.replace("firm", "soft")
    world.extract(store)
    snapshot = Snapshot(store)
    verdict, vlm = snapshot.lineage("i0", "softness").to_pylist()
    assert [(one["extractor"], one["role"], one["value"]) for one in (verdict, vlm)] == [
        ("merge", "verdict", "soft"),
        ("vlm", "agrees", "soft"),
    ]
    assert vlm["unknown"] == verdict["unknown"] == []
    assert (vlm["model"], vlm["prompt"]) == (f"scripted:{tmp_path / 'script.toml'}", "full.jinja")
    assert all(len(vlm[name]) == 64 for name in ("model_sha", "prompt_sha", "schema_sha", "knowledge_sha"))
    assert len(vlm["question_sha"]) >= 16
    assert vlm["job"] == "extract_items" and vlm["calls"] > 0 and vlm["evidence"]
    history = snapshot.history("i0", "softness").to_pylist()
    assert [(one["extractor"], one["value"], one["why"], one["changed"]) for one in history] == [
        ("vlm", "firm", "first seen", []),
        ("merge", "firm", "first seen", []),
        ("vlm", "soft", "settings changed", ["settings"]),
        ("merge", "soft", "source changed", ["vlm"]),
    ]

    def asked(*arguments: str) -> str:
        done = CliRunner().invoke(command_app(main, "query"), [*arguments, "--store", store.uri])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert [json.loads(line)["value"] for line in asked("i0", "--history", "softness").splitlines()] == [
        *("firm", "firm", "soft", "soft")
    ]
    assert (
        json.loads(asked("i0", "--lineage", "softness", "--as-of", "attributes@1").splitlines()[0])["value"] == "firm"
    )
    since = [json.loads(line) for line in asked("--since", "attributes@1").splitlines()]
    assert sorted((one["item_id"], one["attribute"], one["old"], one["new"]) for one in since) == [
        ("i0", "softness", "firm", "soft"),
        ("i2", "softness", "firm", "soft"),
    ]
    assert asked("--since", "attributes@1", "--as-of", "attributes@1") == ""
    assert len(asked("--since", "attributes@0", "--limit", "1").splitlines()) == 1
    assert asked("--since", "attributes@1", "--format", "csv").count("\n") == 3
    shown = asked("--since", "attributes@1", "--format", "table")
    assert "settings changed" in shown or "source changed" in shown
    assert "firm" in asked("i0", "--history", "all", "--format", "table")
    assert "scripted:" in asked("i0", "--lineage", "softness", "--format", "table")
    then = json.loads(asked("i0", "--as-of", "attributes@1"))
    assert {a["name"]: a["value"] for a in then["attributes"]}["softness"] == "firm"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--history", "color"],
        ["a", "b", "--lineage", "color"],
        ["a", "--history", "color", "--lineage", "color"],
        ["a", "--since", "items@1"],
        ["--sql", "SELECT 1", "--history", "color"],
    ],
)
def test_questions_that_are_none(store: FeatureStore, arguments: list[str]) -> None:
    put_items(store, 0, shirt())
    done = CliRunner().invoke(command_app(main, "query"), [*arguments, "--store", store.uri])
    assert isinstance(done.exception, LoreError)
