"""`lore plan JOB …`: what a job would do with the same command line, and why; nothing is written, no model is asked.

A job's own command is called, told to foresee in the place of running. Where only an open model can say what it is (a
server, an embedder), it is opened; weights of a model that would be asked are not loaded.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from jobs import embed_items, extract_items, judge_pairs, precompute, understand_queries
from jobs.foresee import Forecast, Foreseen
from lore_mm.console import for_people, print_json, print_table, run
from lore_mm.errors import InputError, nearest

__all__ = ["app"]

_WHERE = ("run_on", "ray_address", "workers", "metrics_port")  # where it runs makes no difference here


class _Jobs(TyperGroup):
    """The jobs by name; an unknown one is a user's mistake, told in one line."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            legal = self.list_commands(ctx)
            raise InputError(f"cannot plan {cmd_name!r}{nearest(cmd_name, legal)}; legal: {', '.join(legal)}")
        return found


def _planned(main: Callable[..., None]) -> Callable[..., None]:
    """The command of a job, with all its options, told to foresee."""
    signature = inspect.signature(main, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    flag = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]
    json = inspect.Parameter("json", kind, annotation=flag, default=False)

    @functools.wraps(main)
    def command(json: bool = False, **given: Any) -> None:
        try:
            main(**{name: value for name, value in given.items() if name not in _WHERE}, foresee=True)
        except Foreseen as ended:
            _show(ended.forecast, json)

    command.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), json])
    command.__annotations__ = {p.name: p.annotation for p in (*signature.parameters.values(), json)}
    return command


app = typer.Typer(
    cls=_Jobs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    subcommand_metavar="JOB [OPTIONS]",
)
app.command("extract")(_planned(extract_items.main))
app.command("embed")(_planned(embed_items.main))
app.command("understand-queries")(_planned(understand_queries.main))
app.command("judge-pairs")(_planned(judge_pairs.main))
app.command("precompute")(_planned(precompute.main))


@app.callback()
def plan() -> None:
    """Show what a job would do, and why, before it runs; with the same command line behind its name.

    Example: lore plan extract --vlm vllm:Qwen/Qwen3-VL-4B-Instruct --ask color,material

    Example: lore plan embed --store .lore/store
    """


def _show(forecast: Forecast, json: bool) -> None:
    rows = sorted(forecast.rows.items(), key=lambda pair: -pair[1])
    parts = sorted(forecast.parts.items(), key=lambda pair: (pair[0][0], pair[0][1] or ""))
    questions = sorted(forecast.questions.items())
    if not for_people(json):
        head = {"job": forecast.job, "store": forecast.store, "run": forecast.run, "refused": forecast.refused}
        print_json({"kind": "plan", **head, "rows": forecast.n, "made": forecast.made, "requests": forecast.requests})
        for why, n in rows:
            print_json({"kind": "rows", "why": why, "n": n})
        for (part, reason), n in parts:
            print_json({"kind": "part", "part": part, "made": reason is not None, "why": reason, "n": n})
        for (attribute, reason), n in questions:
            print_json({"kind": "question", "attribute": attribute, "why": reason, "n": n})
        return
    print_table(Text(f"{forecast.job} on {forecast.store}: {forecast.run}; {forecast.made} of {forecast.n} rows"))
    if forecast.refused:
        print_table(Text(f"it would be refused: {forecast.refused}"))
    _table("rows", ("why", "rows"), rows)
    _table("of those rows", ("part", "", "rows"), [(p, f"made: {w}" if w else "stands", n) for (p, w), n in parts])
    _table("asked of the model", ("attribute", "why", "items"), [(a, w, n) for (a, w), n in questions])
    if forecast.requests:
        print_table(Text(f"about {forecast.requests:,} requests"))


def _table(title: str, columns: tuple[str, ...], rows: list[Any]) -> None:
    if not rows:
        return
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else cell) for cell in row))
    print_table(table)


if __name__ == "__main__":
    run(app, name="python -m jobs.plan_command")
