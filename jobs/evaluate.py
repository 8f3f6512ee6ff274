"""`lore evaluate WHAT`: the measurements there are, each with options and help of its own."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from jobs import (
    evaluate_attacks,
    evaluate_attributes,
    evaluate_chains,
    evaluate_judge,
    evaluate_labels,
    evaluate_queries,
)
from lore_mm.console import run
from lore_mm.errors import InputError, nearest

__all__ = ["app"]


class _Whats(TyperGroup):
    """The measurements by name; an unknown one is a user's mistake, told in one line."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            legal = self.list_commands(ctx)
            raise InputError(f"cannot measure {cmd_name!r}{nearest(cmd_name, legal)}; legal: {', '.join(legal)}")
        return found


app = typer.Typer(
    cls=_Whats,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    subcommand_metavar="WHAT [OPTIONS]",
)
app.command("judge")(evaluate_judge.main)
app.command("attributes")(evaluate_attributes.main)
app.command("queries")(evaluate_queries.main)
app.command("attacks")(evaluate_attacks.main)
app.command("labels")(evaluate_labels.main)
app.command("chains")(evaluate_chains.main)


@app.callback()
def evaluate() -> None:
    """Measure against labels, beside baselines, with 95 % intervals.

    Example: lore evaluate judge --split test

    Example: lore evaluate attributes --dataset labelled.jsonl --extractors given,zero_shot

    Example: lore evaluate queries --dataset queryner:data/queryner --engine tagger --engine knowledge

    Example: lore evaluate attacks --judge rules

    Example: lore evaluate labels --dataset chorus:data/chorus

    Example: lore evaluate chains --rows chains.parquet --model judge=hf:lore-judge-tiny

    With --json, and in a pipe, each prints one object: n, metrics (name → value, low, high), and what it compares with.
    """


if __name__ == "__main__":
    run(app, name="python -m jobs.evaluate")
