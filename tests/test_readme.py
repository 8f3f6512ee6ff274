"""pytest tests/test_readme.py: what README.md tells a newcomer to type works, and what it shows is what comes out.

Every block of commands runs in the order it stands in, in one folder, as a person would; `make demo` stands for
`lore demo`, which is what it runs once the environment is made.
"""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
JUDGING = (ROOT / "docs" / "judging.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
SAMPLES = re.findall(r"^```\n\$ (lore .*?)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like a checkout after `make setup`, with a catalogue of one's own in it."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "examples" / "demo", folder / "my-catalogue")
    return folder


def newcomer(folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"cwd": folder, "env": {**os.environ, "PATH": path, "HOME": str(folder), "COLUMNS": "100"}}


def run(script, folder):
    script = script.replace("make demo", "lore demo")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, **newcomer(folder)
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


def on_a_terminal(command, folder):
    """What a command prints where stdout is a terminal of 100 columns, without its colours."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", command], stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **newcomer(folder)
    ) as process:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 65536):
                text += piece
        except OSError:  # Linux ends a terminal whose other side is closed so
            pass
        os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text.decode()).replace("\r\n", "\n")


def run_blocks(blocks, folder):
    for language, block in blocks:
        if language == "bash":
            run(block, folder)
        else:
            (folder / "block.py").write_text(block, encoding="utf-8")
            run("python block.py", folder)


def test_the_quickstart_and_every_other_block_run_top_to_bottom(place):
    assert [language for language, _ in BLOCKS].count("bash") >= 5
    run_blocks(BLOCKS, place)
    assert (place / "report.html").stat().st_size > 100_000
    assert (place / "my-report.html").stat().st_size > 100_000


@pytest.mark.parametrize("name", ["lore judge", "lore understand"])
def test_a_sample_is_what_the_command_prints(place, name):
    [(command, shown)] = [(command, shown) for command, shown in SAMPLES if command.startswith(name)]
    printed = on_a_terminal(command, place)
    assert [line.rstrip() for line in printed.rstrip().splitlines()] == [line.rstrip() for line in shown.splitlines()]


def test_the_figures_are_those_of_the_evaluation(place):
    """To 0.03: libraries of other versions may turn the odd pair."""
    from jobs.judge_tables import METRIC_NAMES

    [titles] = re.findall(r"^\|  \| pairs \| missing \| (.*) \|$", README, re.MULTILINE)
    rows = dict(re.findall(r"^\| (judge \(rules\)|[a-z][a-z0-9 ]+) \| \d+ \| \d+ \| (.*) \|$", README, re.MULTILINE))
    measured = json.loads(run("lore evaluate judge --split test --store .lore/store --json", place))
    systems = {"judge (rules)": measured, **{k.replace("_", " "): v for k, v in measured["baselines"].items()}}
    assert rows.keys() == systems.keys() and titles.split(" | ") == list(METRIC_NAMES.values())
    for name, cells in rows.items():
        printed = [float(cell.split()[0]) for cell in cells.split(" | ")]
        values = [systems[name]["metrics"][metric]["value"] for metric in METRIC_NAMES]
        assert printed == pytest.approx(values, abs=0.03), name


def test_what_the_page_about_judging_types_works(place):
    if not (place / ".lore").exists():
        run("make demo", place)
    run_blocks(BLOCK.findall(JUDGING), place)
