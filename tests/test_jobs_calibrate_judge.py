"""`lore calibrate judge`: a file fitted on graded pairs, what it changes, and whom it is refused for."""

import json
import math

import pytest

from lore_mm.cli import main as lore
from lore_mm.knowledge import load_knowledge
from relevance.calibration import read_levels
from relevance.judge import open_judge

KNOWLEDGE = load_knowledge()
THINGS = ("sofa", "lamp", "chair", "tent", "mug", "laptop")


@pytest.fixture
def data(tmp_path):
    """Six queries with four items each, of every level; and a judge that is far too sure, and too kind."""
    rows, rules = [], []
    for i, thing in enumerate(THINGS):
        for level in (1, 2, 3, 4):
            title = f"{thing} mark{i}x{level}"
            rows.append({"query": f"red {thing}", "item_id": f"{i}-{level}", "title": title, "grade": f"L{level}"})
            said = 4 if (i + level) % 2 else level  # right half of the time, at 97 %
            sure = ", ".join(f"L{k} = {0.97 if k == said else 0.01}" for k in (1, 2, 3, 4))
            rules.append(f'[[rules]]\nwords = ["mark{i}x{level}"]\nlikelihoods = {{ {sure} }}')
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "script.toml").write_text("\n".join(rules), encoding="utf-8")
    return tmp_path / "pairs.jsonl", f"direct:scripted:{tmp_path / 'script.toml'}"


def calibrate(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        lore(["calibrate", "judge", *map(str, arguments)])
    said = capsys.readouterr()
    return stop.value.code or 0, said.out, said.err


def test_what_is_fitted_is_written_and_used(data, tmp_path, capsys):
    pairs, address = data
    out = tmp_path / "fitted.json"
    code, printed, talk = calibrate(capsys, "--judge", address, "--dataset", pairs, "--out", out)
    assert code == 0 and str(out) in talk
    found, fitted = json.loads(printed), read_levels(out)
    assert (found["n"], found["queries"], found["judge"]) == (24, 6, address)
    assert (found["scale"], found["judge_sha"]) == (fitted.scale, open_judge(address, KNOWLEDGE).sha)
    right = sum((i + level) % 2 == 0 or level == 4 for i in range(6) for level in (1, 2, 3, 4))
    raw = -(right * math.log(0.97) + (24 - right) * math.log(0.01)) / 24
    assert found["before"]["nll"] == pytest.approx(raw, abs=1e-6)
    assert found["after"]["nll"] < raw and found["after"]["ece_4"] < found["before"]["ece_4"]
    judge = open_judge(address, KNOWLEDGE, calibration=out)
    assert judge.versions["calibration"] == fitted.sha
    assert calibrate(capsys, "--judge", address, "--dataset", pairs, "--out", tmp_path / "again.json")[0] == 0
    assert read_levels(tmp_path / "again.json") == fitted


def test_pairs_that_fail_are_told_and_left_out(data, tmp_path, capsys):
    pairs, address = data
    script = tmp_path / "script.toml"
    broken = '[[rules]]\nwords = ["mark0x1"]\nerror = "the server said 500"\n'
    script.write_text(broken + script.read_text(encoding="utf-8"), encoding="utf-8")
    code, printed, talk = calibrate(capsys, "--judge", address, "--dataset", pairs, "--out", tmp_path / "f.json")
    assert (code, json.loads(printed)["n"]) == (0, 23)
    assert "1 of 24 pairs have no probabilities" in talk


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--judge", "direkt:scripted:7"), "did you mean 'direct'"),
        (("--judge", "direct:scripted:7", "--model-option", "calibration=contextual"), "calibrated already"),
        (("--sample", "1"), "nothing to fit on"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(data, tmp_path, capsys, arguments, said):
    out = tmp_path / "f.json"
    code, printed, talk = calibrate(capsys, "--dataset", data[0], "--out", out, *arguments)
    assert (code, printed, out.exists()) == (2, "", False)
    assert said in talk and talk.startswith("error: ") and talk.count("\n") == 1


def test_a_judge_that_always_fails_says_why(data, tmp_path, capsys):
    (tmp_path / "script.toml").write_text('[default]\nerror = "no more money"\n', encoding="utf-8")
    code, _, talk = calibrate(capsys, "--judge", data[1], "--dataset", data[0], "--out", tmp_path / "f.json")
    assert code == 2 and "none of 24 pairs has probabilities to fit on: no more money" in talk
