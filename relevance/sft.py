"""`lore sft`: teach a model to judge by chains, supervised.

The config says everything (`relevance.training.config`); the work is `relevance.training.sft_run`'s.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import MissingExtraError
from relevance.training.config import SftConfig, load_config

__all__ = ["main"]


def main(
    config: Annotated[Path, typer.Option(help="A TOML file: relevance/training/configs has examples.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over the config, such as lora.r=8; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to, instead of the config's.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell rows, steps and tokens of every stage; open no weights, write nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train a language model, or one that sees, on chains that `lore synthesize` made.

    python -m relevance.sft --config sft.toml --set learning_rate=1e-4 --out OUT

    OUT gets the adapter (or the model) with manifest.json, one folder for each step of the curriculum, log.jsonl and
    metrics.json. A run that was killed goes on from its last checkpoint with the same command.
    """
    wanted = load_config(SftConfig, config, settings or [], str(out) if out else None)
    done = _done(wanted, dry_run)
    if dry_run:
        print_json(done)
        return
    if not done:  # of several processes the first one tells
        return
    say(f"wrote {wanted.out} after {done['seconds']:,.0f} s")
    if for_people(as_json):
        print_table(_view(done))
    else:
        print_json(done)


def _done(config: SftConfig, dry_run: bool) -> dict[str, Any]:
    for module in ("torch", "transformers", "trl", "peft", "datasets", "accelerate"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "train")
    from lore_mm.models.torchvision_cpu import install

    install()
    from relevance.training.sft_run import plan_sft, read_rows, run_sft

    return (plan_sft if dry_run else run_sft)(config, read_rows(config))


def _view(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    view = Table("step", "rows", "steps", "loss", "acc@4", "macro-F1", "pass@1", "pass@8", box=None)
    for depth, one in metrics["stages"].items():
        dev = one.get("dev", {})
        figures = [dev.get(name) for name in ("acc_4", "macro_f1", "pass_1", "pass_8")]
        cells = ["–" if value is None else f"{value:.3f}" for value in (one["loss"], *figures)]
        view.add_row(depth, f"{one['rows']:,}", f"{one['steps']:,}", *cells)
    return view


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.sft"))
