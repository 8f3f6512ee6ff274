"""`lore migrate`: the example of docs/store.md over a store that a model has filled, what the next extraction asks,
resuming, doing it twice, sampling, and what is printed.
"""

import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from extractors.calibrate import Calibration, CalibrationEntry, write_calibration
from jobs import migrate as job
from jobs.asked import asked_in
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items
from jobs.migrate import migrate_attributes
from jobs.open_extractors import VlmChoice
from jobs.plan import Counts, read_runs
from lore_mm.console import command_app, run
from lore_mm.errors import ConfigError, PlanError, StoreError
from lore_mm.knowledge import load_knowledge
from lore_mm.migration_file import Migration, load_migration
from lore_mm.migrations import Destination
from lore_mm.rows import attributes_table
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Provenance
from stores.features import open_store

STORE_PAGE = Path(__file__).parent.parent / "docs" / "store.md"
KINDS = {
    "old": {"dinghy": "", "yacht": ""},
    "new": {"small_boat": "dinghy", "sea_yacht": "", "lake_yacht": ""},
}
SAID = {"hull": "keel", "rig": "bermuda sloop", "berth": "double berth in a cabin", "charm": "yes"}
LATER = {"hull_shape": "flat", "cabin": "single cabin", "bed": "single"}  # what it says to other questions


@pytest.fixture
def docs(tmp_path):
    """The files of the example, as the page has them, with the tree of kinds before and after."""
    for path, body in re.findall(r"```toml\n# (\S+)\n(.*?)```", STORE_PAGE.read_text(encoding="utf-8"), re.DOTALL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(body, encoding="utf-8")
    for when, kinds in KINDS.items():
        (tmp_path / when / "knowledge").mkdir()
        entries = [
            f'[{kind}]\nname = "{kind.replace("_", " ")}"\nterms = {[word] if word else []}\ndepartment = "boats"\n'
            for kind, word in kinds.items()
        ]
        (tmp_path / when / "knowledge" / "categories.toml").write_text("\n".join(entries))
    return tmp_path


def folders(docs, when):
    return {"schemas": [docs / when / "schemas"], "knowledge": [docs / when / "knowledge"]}


def destination(docs, when="new"):
    return Destination(
        *(load((docs / when / part,)) for load, part in ((load_schemas, "schemas"), (load_knowledge, "knowledge")))
    )


def model(docs, *names):
    """The scripted model, always with the same script: another would be another model."""
    words = ", ".join(f'{name} = "{value}"' for name, value in (SAID | LATER).items())
    (docs / "script.toml").write_text(f"[default]\nanswer = {{ {words} }}\n")
    return VlmChoice(f"scripted:{docs / 'script.toml'}", ask=names)


def filled(docs, kinds):
    """A store of items that the scripted model was asked about with the old schema."""
    rows = [{"item_id": f"i{n}", "title": f"Thing {n}", "category": kind} for n, kind in enumerate(kinds)]
    (docs / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = open_store(docs / "store", create=True)
    ingest_items(store, docs / "items.jsonl")
    counts = extract_items(store, extractors=["given"], vlm=model(docs, *SAID), **folders(docs, "old"))
    assert counts == Counts(len(rows), len(rows), 0, 0)
    return store


def rows_of(store, extractor):
    rows = store.latest("attributes").filter(pl.col("extractor") == extractor).collect().to_dicts()
    return {row["item_id"]: row for row in rows}


def said(row, *names):
    return {v["name"]: v["value"] for v in row["attributes"] if v["name"] in names or (not names and v["value"])}


def the_file(docs, **more):
    return load_migration(docs / "boats-2.toml")


def test_the_example_of_the_page(docs):
    store = filled(docs, ["dinghy", "yacht", "dinghy"])
    before = {name: rows_of(store, name) for name in ("given", "vlm", "merge")}
    spent = asked_in(store).usage
    assert said(before["vlm"]["i0"], *SAID) == SAID
    outcome = migrate_attributes(store, the_file(docs), destination(docs))
    assert outcome.counts == Counts(3, 3, 0, 0)
    [last] = [one for one in read_runs(store, "migrate")]
    for name in ("vlm", "merge"):
        for item_id, row in rows_of(store, name).items():
            old = before[name][item_id]
            new = {"hull_shape": "keel", "rig": "sloop", "bed": "double", "cabin": "double cabin"}
            assert said(row, *SAID, *new) == new
            kind = {"dinghy": "small_boat", "yacht": "sea_yacht"}[old["category"]]
            assert row["category"] == kind
            assert row["provenance"]["maker"] == "migration:boats-2"
            assert row["provenance"]["run_id"] == last.plan.run_id
            assert row["provenance"]["input_sha"] == old["provenance"]["input_sha"]
            assert row["provenance"]["made_at"] > old["provenance"]["made_at"]
            then = {v["name"]: v for v in old["attributes"]}
            for value in row["attributes"]:
                source = then[
                    {"hull_shape": "hull", "bed": "berth", "cabin": "berth"}.get(value["name"], value["name"])
                ]
                kept = ("confidence", "extractor", "status", "error", "share", "number", "unit")
                assert [value[k] for k in kept] == [source[k] for k in kept]
                assert [(e["source"], e["confidence"]) for e in value["evidence"]] == [
                    (e["source"], e["confidence"]) for e in source["evidence"]
                ]
                if value["name"] not in (*SAID, *new, "category"):
                    assert value == source
    assert rows_of(store, "given")["i1"] == before["given"]["i1"]  # it said no hull: its kind stays, and is reported
    assert rows_of(store, "given")["i0"]["category"] == "small_boat"
    assert said(rows_of(store, "merge")["i1"], "category") == {"category": "sea_yacht"}
    # what it has cost was paid once
    assert asked_in(store).usage == spent
    steps = {one["step"]: (one["items"], one["rows"], one["values"]) for one in outcome.done.as_rows()["steps"]}
    assert steps == {
        "hull → hull_shape": (3, 6, 6),
        "rig: bermuda sloop → sloop": (3, 6, 6),
        "berth: double berth in a cabin → bed double, cabin double cabin": (3, 6, 6),
        "berth: single berth → bed single": (0, 0, 0),
        "charm: dropped": (3, 6, 6),
        "draught: added, not asked yet": (0, 0, 0),
        "kind dinghy → small_boat": (2, 6, 4),
        "kind yacht → sea_yacht, lake_yacht, by hull": (1, 2, 1),
    }
    [kept] = outcome.seen.tally.as_rows()["kept"]
    assert (kept["why"], kept["rows"], kept["examples"][0]["item_id"]) == ("hull says nothing", 1, "i1")


def test_the_model_is_asked_only_for_what_is_really_new(docs):
    store = filled(docs, ["dinghy", "dinghy"])
    migrate_attributes(store, the_file(docs), destination(docs))
    ask = model(docs, "hull_shape", "rig", "cabin", "bed", "draught")
    counts = extract_items(store, extractors=["given"], vlm=ask, **folders(docs, "new"))
    assert counts == Counts(2, 2, 0, 0)
    row = rows_of(store, "vlm")["i0"]
    assert sorted(row["usage"]["asked"]) == ["bed", "cabin", "draught", "rig"]
    assert said(row, "hull_shape") == {"hull_shape": "keel"}
    assert said(rows_of(store, "merge")["i0"], "hull_shape") == {"hull_shape": "keel"}
    assert said(row, "rig", "bed") == {"rig": "sloop", "bed": "single"}


def test_what_is_only_renamed_costs_nothing(docs):
    """The schema differs by names alone: an attribute's, a value's, a kind's. No call is made."""
    store = filled(docs, ["dinghy", "dinghy"])
    text = (docs / "old/schemas/boats.toml").read_text()
    text = text.replace("[hull", "[hull_shape").replace("keel = [", '"long keel" = ["keel", ').replace("= 1", "= 2")
    (docs / "new/schemas/boats.toml").write_text(text)
    load_schemas.cache_clear()
    file = Migration.model_validate(
        {
            "name": "names",
            "attribute": [{"name": "hull", "to": "hull_shape", "values": {"keel": "long keel"}}],
            "categories": {"dinghy": "small_boat"},
        }
    )
    assert migrate_attributes(store, file, destination(docs)).counts == Counts(2, 2, 0, 0)
    calls = asked_in(store).usage.calls
    ask = model(docs, *(name if name != "hull" else "hull_shape" for name in SAID))
    counts = extract_items(store, extractors=["given"], vlm=ask, **folders(docs, "new"))
    assert counts == Counts(2, 2, 0, 0)
    assert asked_in(store).usage.calls == calls
    assert said(rows_of(store, "merge")["i0"], "hull_shape", "rig") == {
        "hull_shape": "long keel",
        "rig": "bermuda sloop",
    }
    assert rows_of(store, "vlm")["i0"]["provenance"]["maker"] == "migration:names"  # it stands as it was migrated


def test_the_old_schema_takes_no_migrated_row_for_its_own(docs):
    store = filled(docs, ["dinghy"])
    migrate_attributes(store, the_file(docs), destination(docs))
    counts = extract_items(store, extractors=["given"], vlm=model(docs, *SAID), **folders(docs, "old"))
    assert counts == Counts(1, 1, 0, 0)
    assert said(rows_of(store, "merge")["i0"], *SAID) == SAID


def test_done_twice_it_does_nothing(docs):
    store = filled(docs, ["dinghy", "yacht"])
    migrate_attributes(store, the_file(docs), destination(docs))
    stands = store.version("attributes"), store.version("runs")
    again = migrate_attributes(store, the_file(docs), destination(docs))
    assert (again.counts, store.version("attributes"), store.version("runs")) == (Counts(), *stands)


def test_a_dry_run_tells_the_same_and_writes_nothing(docs):
    store = filled(docs, ["dinghy", "yacht", "dinghy"])
    before = store.snapshot()
    dry = migrate_attributes(store, the_file(docs), destination(docs), dry_run=True)
    assert store.snapshot() == before
    wet = migrate_attributes(store, the_file(docs), destination(docs))
    assert dry.counts == wet.counts
    assert dry.done.as_rows()["steps"] == wet.done.as_rows()["steps"]
    assert dry.seen.tally.as_rows()["kept"] == wet.seen.tally.as_rows()["kept"]


def test_a_sample_first_and_then_the_rest(docs):
    store = filled(docs, ["dinghy"] * 5)
    assert migrate_attributes(store, the_file(docs), destination(docs), sample=2).counts == Counts(2, 2, 0, 0)
    found = [said(row, "hull", "hull_shape") for row in rows_of(store, "merge").values()]
    assert sorted(map(list, found)) == [["hull"]] * 3 + [["hull_shape"]] * 2
    assert migrate_attributes(store, the_file(docs), destination(docs)).counts == Counts(3, 3, 0, 0)
    assert {tuple(said(row, "hull", "hull_shape")) for row in rows_of(store, "merge").values()} == {("hull_shape",)}


def test_it_goes_on_where_it_stopped(docs, monkeypatch):
    store = filled(docs, ["dinghy"] * 5)
    whole = store.count("attributes")
    append, seen = store.append, []

    def failing(table, rows, transaction=None, **options):
        if table == "attributes":
            seen.append(rows.num_rows)
            if len(seen) == 2:
                raise StoreError("the disk is full")
        return append(table, rows, transaction, **options)

    monkeypatch.setattr(store, "append", failing)
    with pytest.raises(StoreError, match="the disk is full"):
        migrate_attributes(store, the_file(docs), destination(docs), batch_rows=2)
    monkeypatch.undo()
    assert store.count("attributes") == whole + 6
    other = Migration.model_validate({"name": "other", "attribute": [{"name": "hull", "to": "hull_shape"}]})
    with pytest.raises(PlanError, match="migration"):
        migrate_attributes(store, other, destination(docs), batch_rows=2)
    assert migrate_attributes(store, the_file(docs), destination(docs), batch_rows=2).counts == Counts()
    assert store.count("attributes") == whole + 15
    [one] = read_runs(store, "migrate")
    assert (one.resumed, one.counts) == (1, Counts(5, 5, 0, 0))


def test_killed_in_the_middle_it_ends_as_if_it_had_not_been(docs):
    store = by_hand(docs, *((f"i{n}", "merge", "ok", {"hull": "keel", "rig": "sloop"}) for n in range(60)))
    command = [sys.executable, "-m", "jobs.migrate", str(docs / "boats-2.toml"), "--store", store.uri]
    command += ["--schemas", str(docs / "new/schemas"), "--knowledge", str(docs / "new/knowledge"), "--batch-rows", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = Path(store.uri) / "attributes" / "_delta_log"
    while len(list(log.glob("*.json"))) < 5 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert 60 < open_store(store.uri).count("attributes") < 120
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "migrate: 60 in = 60 ok + 0 failed + 0 skipped" in done.stderr
    assert open_store(store.uri).count("attributes") == 120
    assert {tuple(said(row).items()) for row in rows_of(store, "merge").values()} == {
        (("hull_shape", "keel"), ("rig", "sloop"))
    }


# ------------------------------------------------------------------------------------------------ rows made by hand


def by_hand(tmp_path, *rows):
    """A store with these verdicts: item → name → value; and one with a status of its own."""
    store = open_store(tmp_path / "hand", create=True)
    store.append(
        "attributes",
        attributes_table(
            {
                "item_id": item_id,
                "extractor": extractor,
                "attributes": [AttributeValue(name, "style", value) for name, value in values.items()],
                "category": None,
                "status": status,
                "error": None if status == "ok" else "no picture",
                "provenance": Provenance("run 1", extractor, f"input {item_id}", "made"),
            }
            for item_id, extractor, status, values in rows
        ),
    )
    return store


def swap(**more):
    steps = [{"name": "rig", "to": "hull_shape"}, {"name": "hull_shape", "to": "rig"}]
    return Migration.model_validate({"name": "swap", "attribute": steps} | more)


def test_a_swap_is_not_swapped_back(docs):
    store = by_hand(docs, ("a", "merge", "ok", {"rig": "1", "hull_shape": "2"}), ("b", "merge", "ok", {"charm": "x"}))
    migrate_attributes(store, swap(), destination(docs))
    assert said(rows_of(store, "merge")["a"]) == {"hull_shape": "1", "rig": "2"}
    assert migrate_attributes(store, swap(), destination(docs)).counts == Counts()
    # written since, by the new schema: nothing tells, so it is left alone
    later = by_hand(docs, ("b", "merge", "ok", {"rig": "9"}))
    outcome = migrate_attributes(later, swap(), destination(docs))
    assert (outcome.counts, outcome.seen.n_later) == (Counts(), 1)
    # another migration over it is another thing
    back = Migration.model_validate({"name": "back", "attribute": [*swap().attribute, {"name": "charm", "drop": True}]})
    assert migrate_attributes(store, back, destination(docs)).counts == Counts(2, 2, 0, 0)
    assert said(rows_of(store, "merge")["a"]) == {"rig": "1", "hull_shape": "2"}


def test_rows_that_failed_or_were_skipped_move_too(docs):
    store = by_hand(
        docs,
        ("a", "zero_shot", "skipped", {"hull": "keel"}),
        ("a", "merge", "failed", {"hull": "keel"}),
        ("b", "given", "ok", {"charm": "x"}),
        ("b", "merge", "ok", {"rig": "sloop"}),
        ("c", "given", "ok", {"hull": "fin"}),
    )
    outcome = migrate_attributes(store, the_file(docs), destination(docs))
    assert outcome.counts == Counts(2, 1, 1, 0)
    assert outcome.seen.n_lone == 1
    found = {(row["item_id"], row["extractor"]): row for row in store.latest("attributes").collect().to_dicts()}
    assert {key: (row["status"], row["error"], said(row)) for key, row in found.items()} == {
        ("a", "zero_shot"): ("skipped", "no picture", {"hull_shape": "keel"}),
        ("a", "merge"): ("failed", "no picture", {"hull_shape": "keel"}),
        ("b", "given"): ("ok", None, {}),
        ("b", "merge"): ("ok", None, {"rig": "sloop"}),
        ("c", "given"): ("ok", None, {"hull": "fin"}),
    }


def test_the_last_value_of_a_row_may_be_dropped(docs):
    store = by_hand(docs, ("a", "merge", "ok", {"charm": "yes"}))
    assert migrate_attributes(store, the_file(docs), destination(docs)).counts == Counts(1, 1, 0, 0)
    assert rows_of(store, "merge")["a"]["attributes"] == []


def test_a_row_that_cannot_be_migrated_is_kept_and_says_so(docs, monkeypatch):
    store = by_hand(docs, *((i, "merge", "ok", {"hull": "keel"}) for i in "abc"))

    def breaking(row, *more):
        if row["item_id"] == "b":
            raise ArithmeticError("a strange row")
        return true(row, *more)

    true = job.migrated_row
    monkeypatch.setattr(job, "migrated_row", breaking)
    assert migrate_attributes(store, the_file(docs), destination(docs)).counts == Counts(3, 2, 1, 0)
    row = rows_of(store, "merge")["b"]
    assert (row["status"], said(row)) == ("failed", {"hull": "keel"})
    assert row["error"] == "migration:boats-2: ArithmeticError: a strange row"
    monkeypatch.undo()
    assert migrate_attributes(store, the_file(docs), destination(docs)).counts.n_in == 1  # taken again


def test_a_clock_set_back(docs):
    """Rows from the future are newer than the run: they are migrated once, and nothing is lost."""
    store = by_hand(docs, ("a", "merge", "ok", {"rig": "1", "hull_shape": "2"}))
    ahead = datetime.now(UTC) + timedelta(days=2)
    table = store.latest("attributes").with_columns(
        pl.col("provenance").struct.with_fields(pl.lit(ahead).cast(pl.Datetime("us", "UTC")).alias("made_at"))
    )
    store.append("attributes", table.collect().to_arrow().cast(attributes_table([]).schema))
    assert migrate_attributes(store, swap(), destination(docs)).counts == Counts(1, 1, 0, 0)
    assert said(rows_of(store, "merge")["a"]) == {"hull_shape": "1", "rig": "2"}
    assert migrate_attributes(store, swap(), destination(docs)).counts == Counts()


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command(docs, capsys):
    store = filled(docs, ["dinghy", "yacht"])
    entry = {"n": 1, "right": 1, "method": "logistic", "knots": ((0.5, 0.5),)}
    write_calibration(
        Calibration(entries=(CalibrationEntry(extractor="vlm", attribute="hull", **entry),)),
        docs / "store" / "calibration.json",
    )
    new = ["--schemas", str(docs / "new/schemas"), "--knowledge", str(docs / "new/knowledge")]

    def command(*arguments):
        with pytest.raises(SystemExit) as done:
            run(command_app(job.main, "migrate"), [*map(str, arguments), "--store", store.uri])
        out = capsys.readouterr()
        return done.value.code, out.out, out.err

    code, out, err = command(docs / "boats-2.toml", *new, "--dry-run")
    assert code == 0 and "something would change in 2 items; nothing was written" in err
    row = json.loads(out)
    assert (row["migration"], row["dry_run"], row["n_in"]) == ("boats-2", True, 2)
    assert next(one["step"] for one in row["steps"]) == "hull → hull_shape"
    code, out, err = command(docs / "boats-2.toml", *new)
    assert code == 0 and "migrate: 2 in = 2 ok + 0 failed + 0 skipped" in err
    assert "calibration.json was fitted for hull: lore calibrate attributes, again" in err
    assert json.loads(out)["kept"][0]["why"] == "hull says nothing"
    code, out, err = command(docs / "boats-2.toml")
    assert (code, out) == (2, "") and err.startswith("error: migration boats-2: department: no schema 'boats'")
    code, out, err = command("none.toml")
    assert (code, out, err) == (2, "", "error: migration none.toml: No such file or directory\n")


def test_tables_for_people(docs, capsys, monkeypatch):
    store = filled(docs, ["dinghy", "yacht"])
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(job, "for_people", lambda json: True)
    arguments = ["--schemas", docs / "new/schemas", "--knowledge", docs / "new/knowledge", "--store", store.uri]
    with pytest.raises(SystemExit):
        run(command_app(job.main, "migrate"), [str(docs / "boats-2.toml"), "--dry-run", *map(str, arguments)])
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["hull → hull_shape", "2", "4", "4", "i0, i1"] in lines
    assert ["2 of 8 steps met nothing"] in lines
    assert ["kind yacht → sea_yacht, lake_yacht, by hull", "hull says nothing", "0", "1", "1", "i1"] in lines


def test_refusals(docs):
    store = open_store(docs / "store", create=True)
    (docs / "items.jsonl").write_text('{"item_id": "a", "title": "x"}\n')
    ingest_items(store, docs / "items.jsonl")
    with pytest.raises(StoreError, match=r"no attributes in .* yet: lore extract"):
        migrate_attributes(store, the_file(docs), destination(docs))
    hand = by_hand(docs, ("a", "merge", "ok", {"hull": "keel"}))
    with pytest.raises(ConfigError, match="leads to version 2 of 'boats', and the schemas have 1"):
        migrate_attributes(hand, the_file(docs), destination(docs, "old"))
    assert hand.count("attributes") == 1
