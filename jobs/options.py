"""The options that commands share, said once, so that they read and mean the same everywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.run_options import RunOn, RunOptions

__all__ = [
    "SPENDING",
    "AllowHosts",
    "AllowUrls",
    "Ask",
    "CalibrationFile",
    "KnowledgeFolder",
    "KnowledgeFolders",
    "ModelOption",
    "Prompt",
    "QueryEngineAddress",
    "StoreAddress",
    "TaxonomyFolder",
    "VlmAddress",
    "listed",
    "with_run_options",
]

StoreAddress = Annotated[str | None, typer.Option("--store", help="The store; the default one unless given.")]
KnowledgeFolder = Annotated[Path | None, typer.Option("--knowledge", help="A folder of knowledge tables of your own.")]
KnowledgeFolders = Annotated[
    list[Path] | None, typer.Option("--knowledge", help="A folder of your own knowledge tables; may be repeated.")
]
AllowUrls = Annotated[bool, typer.Option("--allow-urls", help="Fetch pictures by URL, from public hosts.")]
AllowHosts = Annotated[
    list[str] | None, typer.Option("--allow-host", help="A private host pictures may come from; repeatable.")
]
VlmAddress = Annotated[
    str | None,
    typer.Option(
        "--vlm",
        help="Ask this vision-language model for the rest: hf:NAME, vllm:NAME, openai:http://HOST:PORT/v1#MODEL.",
    ),
]
QueryEngineAddress = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Who reads queries: knowledge, tagger (or tagger:FOLDER), llm:CHAT (hf:NAME, vllm:NAME, "
        "openai:http://HOST:PORT/v1#MODEL),"
        " or several with commas, the next asked where the one before is not sure.",
    ),
]
TaxonomyFolder = Annotated[
    Path | None,
    typer.Option("--taxonomy", help="A folder with a copy of Shopify's taxonomy, to link what no table knows."),
]
Ask = Annotated[str | None, typer.Option("--ask", help="Ask the model for these attributes only, between commas.")]
Prompt = Annotated[
    str | None, typer.Option("--prompt", help="full, compact, or a template file; the model's own unless given.")
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model-option", help="An option of the model's engine, such as max_model_len=4096; repeatable."),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration", help="What `lore calibrate attributes` wrote; the store's calibration.json unless given."
    ),
]


SPENDING = ("max_tokens", "max_cost", "price")  # run options of jobs that ask a model

_BATCH_ROWS = "Rows a commit: what a crash can cost. The job's own number unless given."
# name → annotation and default; in the order in which --help shows them
_RUN_OPTIONS: dict[str, tuple[Any, Any]] = {
    "limit": (Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N rows.")], None),
    "sample": (
        Annotated[int | None, typer.Option("--sample", min=1, help="Only N rows, chosen by lot, always the same.")],
        None,
    ),
    "retry_failed": (
        Annotated[bool, typer.Option("--retry-failed", help="Take those again that failed before.")],
        False,
    ),
    "new_run": (
        Annotated[bool, typer.Option("--new-run", help="Give an unfinished run up and start another.")],
        False,
    ),
    "max_tokens": (
        Annotated[
            int | None,
            typer.Option("--max-tokens", help="Stop where the run has spent so many tokens, prompts and replies."),
        ],
        None,
    ),
    "max_cost": (
        Annotated[
            float | None,
            typer.Option("--max-cost", help="Stop where the run has cost so much; --price says what does."),
        ],
        None,
    ),
    "price": (
        Annotated[
            str | None,
            typer.Option(
                "--price",
                metavar="SPEC",
                help="What a million tokens cost: prompt=0.15,completion=0.6, or a TOML file of such by model.",
            ),
        ],
        None,
    ),
    "patience": (
        Annotated[
            float | None,
            typer.Option(
                "--patience",
                min=1,
                help="Seconds that nothing may move in what a worker on another machine left before it is taken over; "
                "300 unless given.",
            ),
        ],
        None,
    ),
    "metrics_port": (
        Annotated[
            str | None,
            typer.Option(
                "--metrics-port",
                metavar="[HOST:]PORT",
                help="Serve figures for Prometheus while it runs, on this machine alone unless a host is named.",
            ),
        ],
        None,
    ),
    "run_on": (Annotated[RunOn, typer.Option("--run-on", help="Where it runs.")], "local"),
    "ray_address": (
        Annotated[
            str | None,
            typer.Option("--ray-address", help="The Ray cluster, such as auto; one on this machine unless given."),
        ],
        None,
    ),
    "workers": (
        Annotated[int | None, typer.Option("--workers", min=1, help="With Ray: engines at work at once.")],
        None,
    ),
}


def with_run_options(
    *, batch_rows: str = _BATCH_ROWS, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that takes `**options: Unpack[RunOptions]`: typer sees each of them as an option.

    They come behind the command's own. `batch_rows` is the help of --batch-rows; `without` leaves some out, for a job
    in which they would mean nothing. --run-on can be called --engine too, where the command has no other option of that
    name. What was not given is not handed over.
    """
    rows = Annotated[int | None, typer.Option("--batch-rows", min=1, help=batch_rows)]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        offered = {"batch_rows": (rows, None), **_RUN_OPTIONS}
        if "engine" not in signature.parameters:
            offered["run_on"] = (Annotated[RunOn, typer.Option("--run-on", "--engine", help="Where it runs.")], "local")
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in offered.items()
            if name not in without
        ]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            names = RunOptions.__annotations__
            function(**{name: value for name, value in given.items() if name not in names or value is not None})

        command.__dict__["__signature__"] = signature.replace(parameters=[*own, *shared])
        command.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return command

    return decorate


def listed(names: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in names.split(",") if name.strip()]
