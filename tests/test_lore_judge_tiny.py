"""lore-judge-tiny, the trained judge that is shipped: it opens by its name, writes chains and grades by them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lore_mm.models
from lore_mm.console import command_app
from relevance.judge import main

pytestmark = pytest.mark.weights
LINES = [
    {"query": "black hoodie", "item": {"item_id": "a", "title": "Hero Hoodie", "attributes": {"color": "Black"}}},
    {"query": "black hoodie", "item": {"item_id": "b", "title": "Hero Hoodie", "attributes": {"color": "Red"}}},
    {"query": "black hoodie", "item": {"item_id": "c", "title": "Canon EF 50mm camera lens"}},
]


@pytest.fixture(scope="module")
def judged():
    pytest.importorskip("torch")
    app = command_app(main, "lore judge")
    done = CliRunner().invoke(app, ["--model", "lore-judge-tiny"], input="".join(json.dumps(x) + "\n" for x in LINES))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_pair_gets_a_judgment_with_its_chain(judged):
    assert [one["item_id"] for one in judged] == ["a", "b", "c"]
    assert {one["mode"] for one in judged} == {"chain"}
    good = [one for one in judged if one["status"] == "ok"]
    assert len(good) >= 2  # a small model: now and then a reply is no chain, which is said and not graded
    for one in good:
        assert one["legs"]
        assert one["legs"][0]["demand"]["dimension"] == "category"
        assert sum(one["probabilities"]) == pytest.approx(1)


def test_the_right_thing_is_graded_above_another(judged):
    grades = {one["item_id"]: one["grade"] for one in judged}
    assert grades["a"] == "L4"
    assert grades["c"] in ("L1", "L2")


def test_the_folder_is_small_and_carries_its_card():
    folder = Path(lore_mm.models.__file__).parent / "lore-judge-tiny"
    assert (folder / "adapter_model.safetensors").stat().st_size < 25e6
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["base"], manifest["budget"], manifest["trained_as"]) == ("smollm2-135m", "tiny", "rl")
    card = (folder / "README.md").read_text()
    measured = json.loads((folder / "metrics.json").read_text())["measured"]
    assert set(measured) >= {"queries", "categories"}
    for part in measured.values():
        for name, one in part["models"].items():
            assert f"| {name} | {one['metrics']['pass_1']['value']:.3f} [" in card
