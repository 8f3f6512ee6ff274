from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from jobs import quality as command
from jobs import quality_view
from lore_mm.console import command_app, run
from lore_mm.rows import attributes_table
from lore_mm.types import AttributeValue, Provenance
from stores.features import FeatureStore, open_store
from stores.quality import KINDS


def commit(store: FeatureStore, n: int, color: str, category: str = "sofa") -> None:
    values = [AttributeValue("color", "color", color), AttributeValue("brand", "brand", "[bold]Ikea[/bold]\x1b[31m")]
    row = {"category": category, "extractor": "merge", "status": "ok", "error": None, "provenance": Provenance()}
    store.append("attributes", attributes_table([row | {"item_id": f"i{i}", "attributes": values} for i in range(n)]))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Sixty red sofas, of which the first forty turned blue, and one chair that is rather grey."""
    store = open_store(tmp_path / "store", create=True)
    commit(store, 60, "red")
    commit(store, 40, "blue")
    row = {"category": "chair", "extractor": "merge", "status": "ok", "error": None, "provenance": Provenance()}
    grey = [AttributeValue("color", "color", "rather grey")]
    store.append("attributes", attributes_table([row | {"item_id": "c", "attributes": grey}]))
    return store


def call(store: FeatureStore, *arguments: str) -> int:
    try:
        run(command_app(command.main, "lore quality"), ["--store", store.uri, *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_pipe_gets_lines_with_their_kind(store: FeatureStore, capsys) -> None:
    assert call(store) == 0
    found = lines(capsys)
    assert found[0]["kind"] == "summary" and found[0]["items"] == 61
    assert {line["kind"] for line in found} == {"summary", "finding", "gap", "coverage", "values", "odd"}
    assert call(store, "--kind", "odd", "--attribute", "color", "--min-items", "500") == 0
    (odd,) = lines(capsys)
    assert (odd["value"], odd["why"], odd["category"]) == ("rather grey", "not a legal value", "chair")


def test_a_pipeline_is_stopped_by_what_drifted(store: FeatureStore, capsys) -> None:
    at = ["--against", "attributes@1", "--kind", "drift"]
    assert call(store, *at, "--fail-on", "coverage(brand) < 0.9", "--fail-on", "illegal(brand) > 0") == 0
    assert [d["flagged"] for d in lines(capsys) if d["attribute"] == "color"] == [["values"], ["values"]]
    assert call(store, *at, "--fail-on", "psi(color) > 25%", "--fail-on", "illegal > 0") == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("fails 'psi(color) > 25%': color: ")
    assert said[1:] == ["fails 'illegal > 0': color: not a legal value: 1"]


def test_as_of_an_earlier_moment(store: FeatureStore, capsys) -> None:
    assert call(store, "--as-of", "attributes@1", "--kind", "values", "--category", "sofa") == 0
    color = next(v for v in lines(capsys) if v["attribute"] == "color")
    assert color["top"] == [{"value": "red", "n": 60, "share": 1.0}]


def test_files_hold_every_line(store: FeatureStore, tmp_path: Path, capsys) -> None:
    file = tmp_path / "quality.parquet"
    assert call(store, "--against", "attributes@1", "--output", str(file)) == 0
    rows = parquet.read_table(file).to_pylist()
    assert {row["kind"] for row in rows} == set(KINDS) - {"number", "conflict", "failure"}  # of which there are none
    color = [
        row for row in rows if row["kind"] == "coverage" and row["category"] == "(all)" and row["attribute"] == "color"
    ]
    assert [(row["items"], row["stated"]) for row in color] == [(61, 61)]
    assert call(store, "--kind", "coverage", "--output", str(tmp_path / "c.csv")) == 0
    assert (tmp_path / "c.csv").read_text().splitlines()[0].startswith('"kind","category","attribute","items"')
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--kind", "drfit"], 2, "error: --kind drfit: no such kind, did you mean 'drift'? kinds: finding"),
        (["--fail-on", "coverage"], 2, "error: 'coverage' is no rule"),
        (["--fail-on", "drift > 0"], 2, "error: 'drift > 0' is about drift: name the earlier moment with --against"),
        (["--category", "soffa"], 2, "error: no category 'soffa', did you mean 'sofa'?"),
        (["--against", "attributes@99"], 1, "error: "),
        (["--output", "x.txt"], 2, "error: x.txt: the ending names no format"),
    ],
)
def test_what_is_wrong_is_one_line(store: FeatureStore, capsys, arguments: list[str], code: int, said: str) -> None:
    assert call(store, *arguments) == code
    words = capsys.readouterr().err
    assert words.startswith(said) and words.count("\n") == 1


def test_a_person_gets_the_worst_first(store: FeatureStore, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("stores.output.for_people", lambda json_wanted: not json_wanted)
    assert call(store, "--against", "attributes@1") == 0
    shown, talk = capsys.readouterr()
    assert "61 items with a verdict, in 2 categories; compared with 60 before" in shown
    stands_out, rest = shown.split("Attributes, least covered first")
    assert stands_out.index("not a legal value: “rather grey”") < stands_out.index("what is said moved: PSI")
    assert "lore query c" in stands_out and "new: blue" in stands_out
    assert "[bold]Ikea[/bold]" in rest and "\x1b" not in shown  # a seller's words are neither markup nor control
    assert "asked by the schema, but no item has a value: age, audience, bundle" in rest
    assert "What moved" in rest and "0 → 1" not in rest
    assert "--json or --output FILE.parquet" in talk


def test_an_empty_store_says_what_to_do(tmp_path: Path, monkeypatch, capsys) -> None:
    store = open_store(tmp_path / "store", create=True)
    row = {"category": "sofa", "extractor": "given", "attributes": [], "status": "ok", "error": None}
    store.append("attributes", attributes_table([row | {"item_id": "a", "provenance": Provenance()}]))
    quality_view.show(command_quality(store))
    shown, talk = capsys.readouterr()
    assert "Nothing stands out." in shown and "nothing has been merged yet: run `lore extract`" in talk


def command_quality(store: FeatureStore):
    from stores.quality import Quality
    from stores.snapshot import Snapshot

    return Quality(Snapshot(store))
