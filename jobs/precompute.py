"""`lore precompute`: the head of the query log judged ahead of time, so that most requests are answered from the store.

A few queries make most of the traffic. Each of them is judged with its nearest items into JUDGMENTS, as
`lore judge-pairs` does: resumable, and judged again only where the query's demands, the item, its attributes or the
judge have changed. This module picks the head; all else is that job's.
"""

from __future__ import annotations

from typing import Annotated, Unpack

import typer

from jobs.judge_pairs import judge_pairs
from jobs.open_extractors import model_options
from jobs.options import KnowledgeFolder, ModelOption, StoreAddress, with_run_options
from jobs.run_options import RunOptions
from lore_mm.config import default_store
from lore_mm.console import command_app, run
from lore_mm.models import DEFAULT_EMBEDDER
from relevance.judge import DEFAULT_JUDGE, JudgeAddress, RulesFile
from stores.features import open_store

__all__ = ["main"]


@with_run_options(batch_rows="Rows a commit: what a crash can cost. It follows the judge.")
def main(
    traffic: Annotated[
        float, typer.Option(help="The share of all requests that the judged queries make, above 0 and at most 1.")
    ] = 0.5,
    top: Annotated[int, typer.Option(min=1, help="How many items of each query: those nearest to its text.")] = 20,
    store: StoreAddress = None,
    embedder: Annotated[str, typer.Option(help="The model that finds the items, by address.")] = DEFAULT_EMBEDDER,
    judge: JudgeAddress = DEFAULT_JUDGE,
    model_option: ModelOption = None,
    knowledge: KnowledgeFolder = None,
    rules: RulesFile = None,
    **options: Unpack[RunOptions],
) -> None:
    """Judge the most frequent queries of the log with their nearest items, into the store.

    Unchanged pairs are skipped; interrupted, the same command goes on where it stopped.

    Example: lore precompute --traffic 0.8 --top 50

    Example: lore precompute --judge reason:openai:http://localhost:8000/v1#MODEL --max-tokens 5000000
    """
    judge_pairs(
        open_store(store or default_store()),
        top=top,
        traffic=traffic,
        embedder=embedder,
        judge=judge,
        options=model_options(model_option or ()),
        knowledge=[knowledge] if knowledge else [],
        rules=rules,
        **options,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.precompute"))
