"""jobs.ship_judge and relevance.training.curves: a trained judge's folder, its card, its learning curves."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.ship_judge import card, main
from lore_mm.console import command_app
from lore_mm.errors import InputError
from lore_mm.models.weights import weights_sha
from relevance.training.curves import draw, points
from relevance.training.rows import chains_table
from tests.chain_rows import ROWS

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "safetensors", "altair")), reason="needs the extra train"
)
FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}
MEASURED = {
    "queries": {
        "n": 8,
        "queries": 4,
        "labels": [2, 2, 2, 2],
        "samples": 8,
        "models": {
            "sft": {"address": "a", "sha": "s", "metrics": {"pass_1": FIGURE, "tokens": FIGURE | {"value": 70}}},
            "rl": {
                "address": "b",
                "sha": "t",
                "metrics": {"pass_1": FIGURE},
                "minus_the_one_before": {"pass_1": FIGURE},
            },
        },
    }
}
INTERVALS = {"pass_1": [0.4, 0.6], "tokens": [30, 50]}
LINES = [
    {"step": 1, "stage": "knowledge", "loss": 3.0, "tokens": 100},
    {"step": 2, "stage": "knowledge", "loss": 1.0, "tokens": 200},
    {"step": 2, "stage": "knowledge", "pass_1": 0.5, "tokens": 40.0, "intervals": INTERVALS},
    {"step": 1, "stage": "rl", "reward": 0.7, "rewards/level": float("nan"), "rewards/format": 0.9},
]  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """The folders of two runs and their rows."""
    import torch
    from safetensors.torch import save_file

    for name, lines in (("sft", LINES[:3]), ("rl", LINES[3:])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "run.json").write_text(json.dumps({"learning_rate": 0.1, "rows_sha": "x", "rows": ["/home/me/rows"]}))
        stages = {"rules": {"steps": 7, "rows": 1234, "seconds": 99.5}}
        told = {"base": "smollm2-135m", "stages": stages, "steps": 5, "seconds": 12, "rows": {"kept": 6}}
        (folder / "metrics.json").write_text(json.dumps(told))
    save_file({"a": torch.full((3,), 1.001)}, tmp_path / "rl" / "adapter_model.safetensors")
    (tmp_path / "rl" / "adapter_config.json").write_text('{"r": 16}')
    (tmp_path / "rl" / "manifest.json").write_text(
        '{"base": "smollm2-135m", "base_sha": "of a checkpoint", "settings": {"lr": 1, "model": "/home/me/sft"}}'
    )
    rows = [replace(row, set="shop", split=split) for row in ROWS for split in ("train", "queries")]
    pq.write_table(chains_table([*rows, replace(ROWS[0], set="shop", rules="")]), tmp_path / "rows.parquet")
    return tmp_path


def ship(folder, *more):
    args = ["--sft", folder / "sft", "--rl", folder / "rl", "--rows", folder / "rows.parquet"]
    args += ["--out", folder / "out", "--licence", "shop=MIT", *more]
    return CliRunner().invoke(command_app(main, "ship"), list(map(str, args)), catch_exceptions=False)


def test_the_folder_has_weights_in_16_bits_manifest_curves_and_card(runs):
    from safetensors.torch import load_file

    (runs / "measured.json").write_text(json.dumps(MEASURED))
    done = ship(runs, "--measured", runs / "measured.json")
    assert done.exit_code == 0, done.output
    out = runs / "out"
    [weights] = load_file(out / "adapter_model.safetensors").values()
    assert str(weights.dtype) == "torch.bfloat16"
    manifest = json.loads((out / "manifest.json").read_text())
    sha = weights_sha("smollm2-135m")
    assert manifest == {"base": "smollm2-135m", "base_sha": sha, "budget": "tiny", "settings": {"lr": 1}}
    assert (out / "curves.svg").read_text().startswith("<svg")
    text = (out / "README.md").read_text()
    assert "| shop | train | 5 | 4 | 1 |" in text  # one of them without a chain
    assert "| sft | 0.500 [0.400, 0.600] | – |" in text
    assert "| rl | +0.500 [+0.400, +0.600] | – |" in text
    assert "| sft rules | 7 | 1,234 | 100 |" in text
    assert "learning_rate 0.1" in text
    assert "rows_sha" not in text
    assert not any("/home/me" in path.read_text() for path in out.glob("*.[jm][sd]*"))  # .json, .md


def test_without_figures_the_card_says_so(runs):
    assert ship(runs).exit_code == 0
    metrics = json.loads((runs / "out" / "metrics.json").read_text())
    assert "Not measured yet." in card(metrics)


def test_a_run_without_an_adapter_is_refused(runs):
    (runs / "rl" / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no adapter_model.safetensors; `lore rl` writes one"):
        ship(runs)


def test_points_count_steps_on_over_stages_and_leave_out_what_is_none():
    found = list(points(LINES))
    told = [(one["figure"], one["stage"], one["step"], one["value"], one["low"]) for one in found]
    assert told == [
        ("loss", "knowledge", 1, 3.0, None),
        ("loss", "knowledge", 2, 1.0, None),
        ("dev: pass@1", "knowledge", 2, 0.5, 0.4),
        ("dev: tokens", "knowledge", 2, 40.0, 30),
        ("reward", "rl", 3, 0.7, None),
        ("reward: format", "rl", 3, 0.9, None),
    ]
    assert found[1]["smooth"] == pytest.approx(3.0 - 0.25 * 2.0)


def test_what_cannot_be_drawn_is_told(tmp_path):
    log = tmp_path / "log.jsonl"
    with pytest.raises(InputError, match=r"legal: the name of a \.svg or \.png file"):
        draw(log, tmp_path / "curves.pdf")
    with pytest.raises(InputError, match=r"log\.jsonl"):
        draw(log, tmp_path / "curves.svg")
    log.write_text('{"step": 1, "stage": "x", "other": 1}\n')
    with pytest.raises(InputError, match="has no figure to draw"):
        draw(log, tmp_path / "curves.svg")
