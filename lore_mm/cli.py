"""The `lore` command: names only. A command's module is imported when it is called, so that help is instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from lore_mm import __version__
from lore_mm.console import command_app, run

__all__ = ["COMMANDS", "main"]

# name → (module:function, help line); in the order in which one needs them
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("jobs.demo:main", "Run everything on the demo catalogue: start here."),
    "ingest": ("jobs.ingest:main", "Read a catalogue, a query log or labels into a store."),
    "extract": ("jobs.extract_items:main", "Extract item attributes from text and pictures."),
    "embed": ("jobs.embed_items:main", "Embed pictures and texts, and build the vector index."),
    "understand": ("extractors.queries:main", "Read a query into demands."),
    "understand-queries": ("jobs.understand_queries:main", "Read a store's whole query log into demands."),
    "judge": ("relevance.judge:main", "Judge how relevant items are to queries, and say why."),
    "judge-pairs": ("jobs.judge_pairs:main", "Judge many pairs into a store, by any judge."),
    "strata": ("jobs.strata:main", "Cut a query log into head, middle and tail, and price the ways to serve it."),
    "precompute": ("jobs.precompute:main", "Judge the head of the query log ahead of time."),
    "regrade": ("jobs.regrade:main", "Grade stored judgments by a changed rulebook, without a model."),
    "migrate": ("jobs.migrate:main", "Move stored attributes to a new version of their schema."),
    "rules": ("relevance.rules_show:main", "Show the rules by which paths are graded."),
    "plan": ("jobs.plan_command:app", "Show what a job would do, and why, before it runs."),
    "query": ("stores.query:main", "Fetch features by id, SQL, text or picture."),
    "online": ("jobs.build_online:main", "Put a snapshot where items and queries are found in microseconds."),
    "compact": ("jobs.compact:main", "Merge small files, delete old versions, shorten history."),
    "quality": ("jobs.quality:main", "Show how good a store is, and what drifted."),
    "serve": ("jobs.serve:main", "Serve judgments, search and features over HTTP."),
    "serve-model": ("lore_mm.models.vllm_serve:app", "Serve a model by the OpenAI-compatible API, with vLLM."),
    "evaluate": ("jobs.evaluate:app", "Measure a judge or extractors against labels, beside baselines."),
    "calibrate": ("jobs.calibrate:app", "Fit on labels how far extractors, or a judge, are to be believed."),
    "synthesize": ("relevance.synthesize:main", "Write chains to train a judge on, by the rules or a teacher."),
    "sft": ("relevance.sft:main", "Teach a model to judge by chains, supervised."),
    "rl": ("relevance.rl:main", "Let a taught model practise on pairs, and reward what can be checked."),
    "distil": ("relevance.distil:main", "Distil a judge into two small students, and measure them."),
    "check": ("jobs.check_labels:main", "Find impossible labels."),
    "schema": ("lore_mm.schema_show:main", "Show what is asked of a kind of thing."),
    "taxonomy": ("lore_mm.taxonomy:main", "Turn Shopify's product taxonomy into schemas and categories."),
    "report": ("jobs.report:main", "Write a self-contained HTML page of a store."),
    "status": ("jobs.status:main", "Show what ran in a store, how far running jobs are, and the counts."),
    "weights": ("lore_mm.models.weights:main", "List the models known by name, and fetch their weights."),
    "doctor": ("jobs.doctor:main", "Show what is installed, and how to get the rest."),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


def _listing() -> typer.Typer:
    """An app of empty commands: it prints the help page and refuses unknown names; it runs nothing."""
    app = typer.Typer(name="lore", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

    @app.callback()
    def lore(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
        ] = False,
    ) -> None:
        """Item understanding from pictures and text, and search relevance one can follow.

        The store that commands use unless --store names one: $LORE_STORE, else the nearest .lore/store at or above
        the working folder. Data goes to stdout (JSON lines in a pipe), talk to stderr.
        """

    for name, (_, line) in COMMANDS.items():
        app.command(name=name, help=line)(lambda: None)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the `lore` command with these arguments (the process's own unless given)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        name = arguments[0]
        module, function = COMMANDS[name][0].split(":")

        def app(**options: Any) -> None:  # the import is inside, where an interrupt is one line and not a traceback
            command_app(getattr(import_module(module), function), f"lore {name}")(**options)

        run(app, arguments[1:], f"lore {name}")
    else:
        run(_listing(), arguments, "lore")


if __name__ == "__main__":
    main()
