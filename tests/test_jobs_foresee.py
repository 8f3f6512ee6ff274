"""`lore plan`: what would run and why; that this then runs; and that telling it writes nothing."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from jobs.extract_items import ExtractItems, extract_items
from jobs.foresee import Forecast, Foreseen
from jobs.ingest import ingest_items
from lore_mm.cli import main
from stores.features import open_store
from tests.changing_shop import SCRIPT, SOFT, World, done  # noqa: F401


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def foreseen(world, store, **options) -> Forecast:
    """The forecast; every file of the store is what it was."""
    how = world.stock(store)

    def files():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in Path(store.uri).rglob("*")}

    before = files()
    with pytest.raises(Foreseen) as ended:
        extract_items(store, **how, foresee=True, **options)
    assert files() == before
    forecast = ended.value.forecast
    assert sum(forecast.rows.values()) == forecast.n
    for part in {part for part, _ in forecast.parts}:
        assert sum(n for (name, _), n in forecast.parts.items() if name == part) == forecast.made
    return forecast


def asked(forecast):
    return {(name, why): n for (name, why), n in forecast.questions.items()}


def test_what_is_foreseen_is_what_is_done(world, store, done):  # noqa: F811
    def runs_as_foreseen(forecast):
        """The requests and questions of the run are those that were told before."""
        assert done()["asked"] == []
        counts = world.extract(store)
        assert counts.n_ok + counts.n_failed == forecast.made
        went = done()["asked"]
        assert len(went) == forecast.requests
        told = Counter()
        for (name, _), n in forecast.questions.items():
            told[name] += n
        assert Counter(name for _, names in went for name in names) == told

    first = foreseen(world, store)
    assert first.rows == Counter({"new": 3})
    assert asked(first) == {("softness", "new"): 2, ("shine", "new"): 3}
    runs_as_foreseen(first)
    nothing = foreseen(world, store)
    assert (nothing.made, nothing.rows["unchanged"], nothing.requests) == (0, 3, 0)

    world.titles[0] = "Linen shirt"
    world.prices[1] = 7
    world.colors[2] = "red"
    some = foreseen(world, store)
    assert +some.rows == Counter({"text changed": 1, "price or store changed": 1, "pictures changed": 1})
    assert some.parts["palette", None] == 2
    assert some.parts["palette", "pictures changed"] == 1
    assert some.parts["given", None] == 1
    assert asked(some) == {
        ("softness", "text changed"): 1,
        ("shine", "text changed"): 1,
        ("softness", "pictures changed"): 1,
        ("shine", "pictures changed"): 1,
    }
    runs_as_foreseen(some)

    world.soft = SOFT.replace("How", "Just how")
    question = foreseen(world, store)
    assert +question.rows == Counter({"settings changed": 3})
    assert asked(question) == {("softness", "question changed"): 2}
    assert question.parts["vlm", None] == 1
    assert question.parts["given", None] == question.parts["palette", None] == 3
    runs_as_foreseen(question)

    world.script = SCRIPT.replace("matt", "glossy")
    assert asked(foreseen(world, store)) == {
        ("softness", "model, prompt or decoding changed"): 2,
        ("shine", "model, prompt or decoding changed"): 3,
    }


def test_an_unfinished_run_is_told(world, store, monkeypatch):
    world.vlm = False
    world.extract(store)
    world.titles = ["Linen shirt", "Red lamp", "Silk shirt"]

    process, calls = ExtractItems.process, []

    def once(self, rows, loaded):
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return process(self, rows, loaded)

    monkeypatch.setattr(ExtractItems, "process", once)
    with pytest.raises(KeyboardInterrupt):
        world.extract(store, batch_rows=1)
    monkeypatch.setattr(ExtractItems, "process", process)
    goes_on = foreseen(world, store, batch_rows=1)
    assert goes_on.run.startswith("goes on with extract_items-")
    assert +goes_on.rows == Counter({"unchanged": 1, "text changed": 2})
    assert goes_on.refused is None
    other = foreseen(world, store, batch_rows=2)
    assert "batch_rows 1 → 2" in other.refused
    assert "--new-run" in other.refused
    assert +other.rows == Counter({"unchanged": 1, "text changed": 2})
    assert foreseen(world, store, batch_rows=2, new_run=True).refused is None


def shop_of(folder):
    folder.mkdir()
    rows = [{"item_id": f"i{i}", "title": f"Red lamp {i}", "images": [f"{'a' if i else 'gone'}.png"]} for i in range(3)]
    Image.new("RGB", (32, 32), "red").save(folder / "a.png")
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def told(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    return [json.loads(line) for line in out.splitlines()]


def test_the_command_takes_the_command_line_of_the_job(tmp_path, capsys):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, shop_of(tmp_path / "shop"))
    before = store.snapshot()
    lines = told(capsys, "extract", "--store", store.uri, "--extractors", "given,palette", "--limit", "2")
    assert lines[0] == {
        "kind": "plan", "job": "extract_items", "store": store.uri, "run": "a new run", "refused": None,
        "rows": 2, "made": 2, "requests": 0,
    }  # fmt: skip
    assert {"kind": "rows", "why": "new", "n": 2} in lines
    assert {"kind": "part", "part": "palette", "made": True, "why": "new", "n": 2} in lines
    assert store.snapshot() == before
    extract_items(store, extractors=["given", "palette"], limit=2)
    again = told(capsys, "extract", "--store", store.uri, "--extractors", "given,palette", "--retry-failed")
    assert {(one["why"], one["n"]) for one in again if one["kind"] == "rows"} == {
        ("new", 1), ("failed before", 1), ("unchanged", 1),
    }  # fmt: skip
    parts = {(one["part"], one["why"]): one["n"] for one in again if one["kind"] == "part"}
    assert parts == {("given", None): 1, ("given", "new"): 1, ("palette", "failed before"): 1, ("palette", "new"): 1}
    embed = told(capsys, "embed", "--store", store.uri, "--embedder", "scripted:1")
    assert embed[0]["made"] == 3
    assert not (tmp_path / "store" / "vectors").exists()
    with pytest.raises(SystemExit) as wrong:
        main(["plan", "extract", str(tmp_path / "shop"), "--store", store.uri])
    assert wrong.value.code == 2
    assert "ingest the catalogue first" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plan", "extrat"])
    assert "cannot plan 'extrat', did you mean 'extract'" in capsys.readouterr().err


def test_a_models_weights_are_not_loaded(tmp_path, capsys, monkeypatch):
    import lore_mm.models.hf

    def load(*args):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(lore_mm.models.hf, "load", load)
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, shop_of(tmp_path / "shop"))
    lines = told(capsys, "extract", "--store", store.uri, "--extractors", "given", "--vlm", "hf:lore-vlm-tiny",
                 "--ask", "color,material")  # fmt: skip
    assert lines[0]["requests"] == 3
    assert {(one["attribute"], one["n"]) for one in lines if one["kind"] == "question"} == {
        ("color", 3),
        ("material", 3),
    }
