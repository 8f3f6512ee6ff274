"""`lore calibrate`: what is fitted on one split and measured on the other; the cascade beside asking for everything."""

import json

import pytest

from extractors.calibrate import read_calibration
from jobs import fit_thresholds
from jobs.calibrate_tables import calibration_tables
from jobs.fit_thresholds import fit, held_out
from jobs.open_extractors import VlmChoice, open_extractors
from lore_mm.console import command_app, run
from lore_mm.datasets import open_dataset
from lore_mm.errors import ConfigError, InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas

KNOWN, SHAPES = load_knowledge(), load_schemas()
N = 700  # a fifth of them is held out


def labelled(folder, n=N):
    """Shirts whose seller states the colour, always rightly, and whose title names a material that is wrong in half."""
    rows = []
    for i in range(n):
        color, material = ("red", "blue", "green")[i % 3], ("cotton", "wool")[i % 2]
        rows.append(
            {
                "item_id": f"i{i}",
                "title": f"Shirt of cotton, number {i}",
                "attributes": {"Color": [color]},
                "truth": {"color": [color], "material": [material], "pattern": "not_stated"},
            }
        )
    path = folder / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return fit_thresholds._parted(open_dataset(str(labelled(tmp_path_factory.mktemp("data"))), KNOWN))


def opened(script=None):
    choice = VlmChoice(f"scripted:{script}", prompt="compact") if script else None
    return open_extractors(["given", *(["vlm"] if script else [])], "", KNOWN, SHAPES, choice)


def test_what_is_always_right_settles_and_what_is_not_does_not(dataset):
    calibration = fit(dataset.in_split("train"), opened(), knowledge=KNOWN, schemas=SHAPES)
    entries = {(e.extractor, e.attribute): e for e in calibration.entries}
    color, material = entries["given", "color"], entries["given", "material"]
    n = len(dataset.in_split("train").items)
    assert (color.n, color.right, color.settled, color.coverage) == (n, n, n, 1.0)
    assert color.threshold is not None
    assert color.precision_low == pytest.approx(0.05 ** (1 / n), abs=1e-6)
    assert material.threshold is None
    assert material.right / material.n == pytest.approx(0.5, abs=0.05)
    assert calibration.apply("given", "material", 0.9) == pytest.approx(0.5, abs=0.1)

    found = held_out(dataset.in_split("test"), opened(), calibration, knowledge=KNOWN, schemas=SHAPES, resamples=50)
    items = len(dataset.in_split("test").items)
    assert (found.n, found.n_settled, found.saved_fields) == (3 * items, items, items)
    assert found.settled_precision.value == 1.0
    assert found.settled_share.value == pytest.approx(1 / 3)
    assert found.as_json()["metrics"]["settled_precision"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_the_cascade_beside_asking_the_model_for_everything(dataset, tmp_path):
    """The model takes every shirt for a pink one of wool: where it is spared, it cannot be wrong."""
    script = tmp_path / "script.toml"
    script.write_text('[default]\nanswer = {color = ["pink"], material = ["wool"], pattern = "not_stated"}')
    train, test = dataset.in_split("train").first(120), dataset.in_split("test").first(60)
    calibration = fit(train, opened(script), knowledge=KNOWN, schemas=SHAPES)
    found = held_out(test, opened(script), calibration, knowledge=KNOWN, schemas=SHAPES, resamples=50)
    cascade, everything = found.asked["cascade"], found.asked["all asked"]
    assert everything.fields - cascade.fields == found.saved_fields == found.n_settled == 60
    assert everything.usage.completion_tokens > cascade.usage.completion_tokens
    assert found.settled_precision.value == 1.0
    assert found.vlm_on_settled.value == 0.0
    assert found.systems["vlm"].metrics["accuracy"].value < found.systems["cascade"].metrics["accuracy"].value
    said = found.as_json()
    assert said["saved"] == {"calls": everything.usage.calls - cascade.usage.calls, "fields": 60}
    assert said["asked"]["cascade"]["fields"] == cascade.fields
    assert {"cascade_accuracy", "all_asked_accuracy", "vlm_accuracy", "difference_accuracy"} <= said["metrics"].keys()
    assert len(calibration_tables(calibration, found)) == 3


def command(*arguments):
    run(command_app(fit_thresholds.main, "lore calibrate"), list(arguments))


def test_the_command_writes_the_file_and_prints_what_it_is_worth(tmp_path, capsys):
    path, out = labelled(tmp_path, 400), tmp_path / "c.json"
    with pytest.raises(SystemExit) as stop:
        command("--dataset", str(path), "--extractors", "given", "--out", str(out), "--precision", "0.9")
    assert stop.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["metrics"]["settled_precision"]["value"] == 1.0
    assert said["file"] == str(out)
    calibration = read_calibration(out)
    assert calibration.precision == 0.9
    assert calibration.threshold("given", "color") is not None
    assert [e["attribute"] for e in said["entries"]] == [e.attribute for e in calibration.entries]


def test_nonsense_is_one_line(tmp_path, dataset):
    with pytest.raises(InputError, match="no labelled rows"):
        fit(dataset.first(0), opened(), knowledge=KNOWN)
    with pytest.raises(ConfigError, match="no schema has an attribute"):
        open_extractors(["vlm"], "", KNOWN, SHAPES, VlmChoice("scripted:1", ask=("colour",)))
