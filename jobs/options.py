"""The options that commands share, said once, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AllowHosts",
    "AllowUrls",
    "Ask",
    "BatchRows",
    "CalibrationFile",
    "KnowledgeFolder",
    "KnowledgeFolders",
    "Limit",
    "MaybeBatchRows",
    "ModelOption",
    "NewRun",
    "Prompt",
    "QueryEngineAddress",
    "RetryFailed",
    "Sample",
    "StoreAddress",
    "TaxonomyFolder",
    "VlmAddress",
    "listed",
]

StoreAddress = Annotated[str | None, typer.Option("--store", help="The store; the default one unless given.")]
KnowledgeFolder = Annotated[Path | None, typer.Option("--knowledge", help="A folder of knowledge tables of your own.")]
KnowledgeFolders = Annotated[
    list[Path] | None, typer.Option("--knowledge", help="A folder of your own knowledge tables; may be repeated.")
]
BatchRows = Annotated[int, typer.Option("--batch-rows", min=1, help="Rows a commit: what a crash can cost.")]
MaybeBatchRows = Annotated[
    int | None,
    typer.Option(
        "--batch-rows", min=1, help="Rows a commit: what a crash can cost. 256, or 4096 without pictures, unless given."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N rows.")]
Sample = Annotated[int | None, typer.Option("--sample", min=1, help="Only N rows, chosen by lot, always the same.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Take those again that failed before.")]
NewRun = Annotated[bool, typer.Option("--new-run", help="Give an unfinished run up and start another.")]
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


def listed(names: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in names.split(",") if name.strip()]
