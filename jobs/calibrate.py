"""`lore calibrate WHAT`: what is fitted on labels, each with options and help of its own."""

from __future__ import annotations

import typer

from jobs import calibrate_judge, calibrate_route, fit_thresholds
from lore_mm.console import run

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    subcommand_metavar="WHAT [OPTIONS]",
)
app.command("attributes")(fit_thresholds.main)
app.command("judge")(calibrate_judge.main)
app.command("route")(calibrate_route.main)


@app.callback()
def calibrate() -> None:
    """Fit on labels how far extractors, or a judge's probabilities, are to be believed; and when a cheap judge will do.

    Example: lore calibrate attributes --dataset luma:data/luma --precision 0.95

    Example: lore calibrate judge --judge direct:hf:lore-vlm-tiny --dataset demo --split dev --out direct.json

    Example: lore calibrate route --cheap student --dear reason:vllm:MODEL --target 0.95 --out route.json
    """


if __name__ == "__main__":
    run(app, name="python -m jobs.calibrate")
