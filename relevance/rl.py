"""`lore rl`: let a model that writes chains practise on pairs, and reward what can be checked.

The config says everything (`relevance.training.rl_config`); the work is `relevance.training.rl_run`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError
from relevance.training.config import load_config
from relevance.training.rl_config import RlConfig, Weights

if TYPE_CHECKING:
    from relevance.training.probes import Probed

__all__ = ["main"]

_MODULES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
_MOST, _SLACK = 192, 32  # of probes, where no config says


def main(
    config: Annotated[Path | None, typer.Option(help="A TOML file: relevance/training/configs has examples.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over the config, such as weights.length=0.2; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to, instead of the config's.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read config and rows, and tell what would be done; open no model.")
    ] = False,
    probe: Annotated[
        Path | None,
        typer.Option(metavar="ROWS", help="Tell what hacks of the rewards would get on these rows; train nothing."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train a model that supervised training made, by its own answers to pairs and their rewards.

    python -m relevance.rl --config rl.toml --set model=SFT --out OUT

    OUT gets the adapter (or the model) with manifest.json, log.jsonl with every reward apart, samples.jsonl with what
    was written, and metrics.json. A run that was killed goes on from its last checkpoint with the same command.
    """
    if probe is not None:
        _told(_probed(probe, config, settings or []), as_json)
        return
    if config is None:
        raise InputError("--config names no file; or give --probe ROWS")
    wanted = load_config(RlConfig, config, settings or [], str(out) if out else None)
    if dry_run:
        print_json(_plan(wanted))
        return
    metrics = _trained(wanted)
    if not metrics:  # of several processes the first one tells
        return
    say(f"wrote {wanted.out} after {metrics['seconds']:,.0f} s")
    if for_people(as_json):
        print_table(_view(metrics))
    else:
        print_json(metrics)


def _plan(config: RlConfig) -> dict[str, Any]:
    """What would be done."""
    from collections import Counter

    from relevance.training.rows import read_chains

    rows = [row for path in config.rows for row in read_chains(path)]
    train = [row for row in rows if row.split == "train" and row.status == "ok"]
    return {
        "config": config.model_dump(mode="json"),
        "splits": dict(Counter(row.split for row in rows)),
        "labels": dict(sorted(Counter(row.label for row in train).items())),
        "rows": len(train),
        "pairs_a_step": config.pairs,
        "completions": config.steps * config.pairs * config.generations,
    }


def _probed(rows: Path, path: Path | None, settings: list[str]) -> list[Probed]:
    """What probes get, by the weights and lengths of the config if there is one."""
    from relevance.training.probes import probe
    from relevance.training.rewards import Limits
    from relevance.training.rows import read_chains

    if path is None:
        return probe(read_chains(rows), Weights().model_dump(), Limits(_MOST, _SLACK))
    config = load_config(RlConfig, path, settings, ".")
    limits = Limits(config.max_completion, config.slack)
    return probe(read_chains(rows), config.weights.model_dump(), limits, config.order)


def _told(found: list[Probed], as_json: bool) -> None:
    from rich.table import Table

    from relevance.training.rewards import REWARDS

    if not for_people(as_json):
        print_json({one.name: {"total": round(one.total, 4), **one.rewards} for one in found})
        return
    view = Table("what is written", "reward", *REWARDS, box=None)
    for one in found:
        view.add_row(one.name, f"{one.total:.3f}", *(f"{one.rewards[name]:.2f}" for name in REWARDS))
    print_table(view)


def _trained(config: RlConfig) -> dict[str, Any]:
    from importlib.util import find_spec

    from lore_mm.errors import MissingExtraError

    for module in _MODULES:
        if find_spec(module) is None:
            raise MissingExtraError(module, "train")
    from lore_mm.models.torchvision_cpu import install

    install()
    from relevance.training.rl_run import run_rl
    from relevance.training.sft_run import read_rows

    return run_rl(config, read_rows(config))


def _view(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    view = Table("steps", "rows", "acc@4", "macro-F1", "pass@1", "pass@8", "tokens", box=None)
    dev = metrics["dev"]
    figures = [dev.get(name) for name in ("acc_4", "macro_f1", "pass_1", "pass_8", "tokens")]
    cells = ["–" if value is None else f"{value:.3f}" for value in figures]
    view.add_row(f"{metrics['steps']:,}", f"{metrics['rows']['kept']:,}", *cells)
    return view


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.rl"))
