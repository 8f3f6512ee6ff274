"""The options that every job takes read the same in every command, and reach the run as they were given."""

import json
import subprocess
import sys
from importlib import import_module
from typing import Unpack

import pytest
from typer.testing import CliRunner

from jobs.options import SPENDING, with_run_options
from jobs.run_options import RunOptions
from lore_mm.cli import COMMANDS
from lore_mm.console import command_app, progress

JOBS = ("extract", "embed", "understand-queries", "judge-pairs", "synthesize", "regrade")
EVERYWHERE = ("--batch-rows", "--new-run", "--patience", "--metrics-port", "--run-on", "--ray-address", "--workers")


def app_of(name):
    module, function = COMMANDS[name][0].split(":")
    return command_app(getattr(import_module(module), function), f"lore {name}")


@pytest.mark.parametrize("name", JOBS)
def test_a_job_takes_them(name):
    shown = CliRunner().invoke(app_of(name), ["--help"], env={"COLUMNS": "200"}).stdout
    wanted = set(EVERYWHERE)
    if name != "regrade":
        wanted |= {"--limit", "--sample", "--retry-failed"}
    if name not in ("regrade", "embed"):
        wanted |= {f"--{option.replace('_', '-')}" for option in SPENDING}
    assert not {option for option in wanted if f" {option} " not in shown and f" {option}," not in shown}
    assert ("--run-on, --engine" in shown) == (name in ("extract", "embed", "regrade"))


def command(seen, **settings):
    @with_run_options(**settings)
    def main(shop: str, **options: Unpack[RunOptions]) -> None:
        """Example: main shop"""
        seen.append((shop, options))

    return command_app(main, "main")


def test_what_is_given_is_handed_over_and_nothing_else():
    seen = []
    app = command(seen)
    line = "shop --sample 3 --max-cost 1.5 --price prompt=1,completion=2 --engine ray --workers 2 --new-run"
    assert CliRunner().invoke(app, line.split()).exit_code == 0
    assert CliRunner().invoke(app, ["shop"]).exit_code == 0
    plain = {"retry_failed": False, "new_run": False, "run_on": "local"}
    spending = {"max_cost": 1.5, "price": "prompt=1,completion=2"}
    assert seen == [
        ("shop", {**plain, **spending, "sample": 3, "run_on": "ray", "workers": 2, "new_run": True}),
        ("shop", plain),
    ]


@pytest.mark.parametrize(
    "line",
    ["--sample 0", "--limit -1", "--batch-rows 0", "--patience 0", "--run-on mars", "--workers 0", "--max-cost x"],
)
def test_nonsense_is_refused(line):
    seen = []
    assert CliRunner().invoke(command(seen), ["shop", *line.split()]).exit_code == 2
    assert seen == []


def test_what_a_job_has_no_use_for_can_be_left_out():
    shown = CliRunner().invoke(command([], without=SPENDING, batch_rows="Pairs a commit."), ["--help"]).stdout
    assert "--max-tokens" not in shown and "Pairs a commit." in shown


def test_progress_in_a_pipe_tells_counts_rate_and_time_left():
    code = (
        "import time\nfrom lore_mm.console import progress\nnow = [0.0]\ntime.monotonic = lambda: now[0]\n"
        "with progress('extract', 100, lambda: '3 calls', lambda: {'ok': 29, 'failed': 1}) as advance:\n"
        "    for seconds, rows in ((4, 10), (8, 20), (19, 10)):\n        now[0] += seconds\n        advance(rows)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = [json.loads(line) for line in done.stderr.splitlines()]
    assert first == {
        "job": "extract", "done": 30, "total": 100, "rows_per_s": 2.5, "eta_s": 28.0, "ok": 29, "failed": 1,
        "note": "3 calls",
    }  # fmt: skip
    assert (second["done"], second["rows_per_s"], second["eta_s"]) == (40, 0.526, 114.0)


def test_progress_without_a_total_has_no_time_left(capsys, monkeypatch):
    monkeypatch.setattr("lore_mm.console.time.monotonic", iter([0.0, 20.0, 20.0]).__next__)
    with progress("work", None) as advance:
        advance(10)
    assert json.loads(capsys.readouterr().err) == {"job": "work", "done": 10, "total": None, "rows_per_s": 0.5}
