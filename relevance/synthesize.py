"""`lore synthesize`: chains for labelled and made-up pairs, what judges are trained on.

By the rules' own paths, or by a teacher: any chat model, in three steps, held to the labels and the rulebook
(`relevance.training.teacher`). The rows are kept in a store by a job that goes on where it stopped. `main` alone opens
stores, sets and models; the parts are in `jobs.chain_pairs` and `jobs.synthesize_chains`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from relevance.by_rules import RulesJudge
from relevance.chain_prompt import ChainPrompt
from relevance.dossier import BUDGETS
from relevance.rules import Rulebook, load_rulebook
from relevance.training.making import RowMaker

if TYPE_CHECKING:
    from lore_mm.images import PicturePolicy
    from relevance.training.teacher import Teacher

__all__ = ["main"]

_Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Graded pairs, as `lore evaluate judge` takes them: demo, rair:PATH …; repeatable."),
]
_Catalogues = Annotated[
    list[str] | None,
    typer.Option(
        "--catalogue",
        help="Items to make pairs up over: demo, luma:PATH, chorus:PATH …, or a file or folder of items; repeatable.",
    ),
]
_MadeUp = Annotated[int, typer.Option("--made-up", min=1, help="With --catalogue: so many pairs.")]
_PerLabel = Annotated[
    int, typer.Option("--per-label", min=1, help="At most so many pairs of each level of a set, spread over queries.")
]
_Store = Annotated[
    str | None,
    typer.Option(
        "--store", help="Where rows are kept, and labels come from if nothing else is named; the default one."
    ),
]
_Split = Annotated[str | None, typer.Option("--split", help="Only queries of this split of the set, such as train.")]
_Scale = Annotated[str | None, typer.Option("--scale", help="How labels become levels: levels, 0-3, esci …")]
_Locale = Annotated[str | None, typer.Option("--locale", help="Of esci: us, es or jp.")]
_Extractors = Annotated[
    str | None, typer.Option("--extractors", help="Who reads the items of a set, between commas: given unless named.")
]
_Engine = Annotated[str, typer.Option("--engine", help="Who reads queries for the rules: knowledge, tagger, llm:CHAT.")]
_Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="Who writes chains: hf:NAME, vllm:NAME, openai:http://HOST:PORT/v1#MODEL; the rules unless given.",
    ),
]
_ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model-option", help="An option of the teacher's engine, such as max_model_len=8192; repeatable."),
]
_Samples = Annotated[int, typer.Option("--samples", min=1, help="Chains asked of the teacher for a pair.")]
_Temperature = Annotated[float, typer.Option("--temperature", min=0.0, max=2.0, help="Of the teacher's samples.")]
_Seed = Annotated[int, typer.Option("--seed", help="Of the teacher's samples and of what is made up.")]
_MaxReplyTokens = Annotated[
    int | None, typer.Option("--max-reply-tokens", min=1, help="The longest reply of a step; it follows the legs.")
]
_Pictures = Annotated[bool, typer.Option("--pictures", help="Show the teacher the items' pictures.")]
_Hint = Annotated[
    bool, typer.Option("--hint/--no-hint", help="Where all samples fail, ask once more with the label told.")
]
_Prompts = Annotated[
    Path | None,
    typer.Option("--prompts", help="A folder with your own understand.jinja, teach_evidence.jinja …"),
]
_Told = Annotated[
    str, typer.Option("--told", help=f"How much of a pair the model to be trained is told: {', '.join(BUDGETS)}.")
]
_Rules = Annotated[Path | None, typer.Option("--rules", help="This rulebook instead of the shipped one.")]
_Out = Annotated[Path | None, typer.Option("--out", help="Write the rows of this call to this .parquet file.")]
_Urls = Annotated[bool, typer.Option("--allow-urls", help="Fetch pictures by URL, from public hosts.")]


@dataclass(frozen=True)
class _Asking:
    """How a teacher is asked."""

    address: str
    options: Sequence[str]
    pictures: bool
    settings: Mapping[str, Any]


def _with_run_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every job takes, behind the command's own."""
    from jobs.options import with_run_options

    rows = "Pairs a commit, what a crash can cost: 1024, or 32 with a teacher, unless given."
    return with_run_options(batch_rows=rows)(function)


@_with_run_options
def main(
    dataset: _Datasets = None,
    catalogue: _Catalogues = None,
    made_up: _MadeUp = 10_000,
    per_label: _PerLabel = 1000,
    store: _Store = None,
    split: _Split = None,
    scale: _Scale = None,
    locale: _Locale = None,
    extractors: _Extractors = None,
    engine: _Engine = "knowledge",
    teacher: _Teacher = None,
    model_option: _ModelOption = None,
    samples: _Samples = 8,
    temperature: _Temperature = 0.7,
    seed: _Seed = 0,
    max_reply_tokens: _MaxReplyTokens = None,
    pictures: _Pictures = False,
    hint: _Hint = True,
    prompts: _Prompts = None,
    told: _Told = "full",
    rules: _Rules = None,
    out: _Out = None,
    allow_urls: _Urls = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
    **options: Any,
) -> None:
    """Write chains for labelled pairs and for pairs made up over catalogues, to train a judge on.

    Without a teacher: lore synthesize --catalogue demo --dataset demo --told tiny --out chains.parquet

    With one:          lore synthesize --dataset rair:data/rair --teacher vllm:Qwen/Qwen3-8B --out chains.parquet

    Interrupted, the same command goes on where it stopped; unchanged pairs are not asked about again.
    """
    if told not in BUDGETS:
        raise InputError(f"--told {told!r}{nearest(told, BUDGETS)}; legal: {', '.join(BUDGETS)}")
    asking = None
    if teacher is not None:
        settings: dict[str, Any] = {"samples": samples, "temperature": temperature, "seed": seed}
        settings |= {"max_tokens": max_reply_tokens, "hints": hint, "prompts": prompts}
        asking = _Asking(teacher, model_option or (), pictures, settings)
    wanted = {"made_up": made_up, "per_label": per_label, "split": split, "scale": scale, "locale": locale}
    named = {"datasets": dataset or (), "catalogues": catalogue or (), "extractors": extractors, "seed": seed}
    book = load_rulebook(rules)
    _show(
        _made(
            store, {**wanted, **named, "allow_urls": allow_urls}, engine, asking, book, told, {**options, "out": out}
        ),
        as_json,
    )


def _made(
    store: str | None,
    wanted: dict[str, Any],
    engine: str,
    asking: _Asking | None,
    rulebook: Rulebook,
    told: str,
    job: Mapping[str, Any],
) -> Mapping[str, Any]:
    """What was made, as `--json` prints it."""
    from jobs.chain_pairs import Sources
    from jobs.judge_material import GIVEN
    from jobs.options import listed
    from jobs.synthesize_chains import check_out, synthesize_chains
    from lore_mm.config import default_store
    from lore_mm.images import PicturePolicy
    from stores.features import open_store

    check_out(job["out"])
    names = wanted.pop("extractors")
    policy = PicturePolicy(allow_urls=wanted.pop("allow_urls"))
    sources = Sources(**wanted, extractors=listed(names) if names else GIVEN, policy=policy)
    opened = open_store(store or default_store(), create=bool(sources.datasets or sources.catalogues))
    knowledge = load_knowledge()
    judge = RulesJudge(knowledge, rulebook)
    maker = RowMaker(ChainPrompt(knowledge, rulebook, BUDGETS[told]))
    roots: dict[tuple[str, tuple[str, ...]], str | None] = {}
    # before the pairs are read, which takes a while
    writer = None if asking is None else _open_teacher(asking, knowledge, rulebook, policy, roots)
    try:
        pairs = sources.read(opened, knowledge, judge, engine)
        items = [(pair.features.item, pair.picture_root) for pair in pairs]
        roots |= {(item.item_id, item.images): root for item, root in items if item.images}
        return synthesize_chains(opened, pairs, judge, maker, writer, **job).summary
    finally:
        if writer is not None:
            writer.chat.close()


def _open_teacher(
    asking: _Asking,
    knowledge: Knowledge,
    rulebook: Rulebook,
    policy: PicturePolicy,
    roots: Mapping[tuple[str, tuple[str, ...]], str | None],
) -> Teacher:
    """The teacher; `roots` (item_id and pictures → folder) is looked into when pictures are asked for."""
    from jobs.judge_pictures import PictureReader
    from jobs.open_extractors import model_options
    from jobs.synthesize_chains import open_teacher

    reader = PictureReader(lambda item: roots.get((item.item_id, item.images)), policy) if asking.pictures else None
    options = model_options(asking.options)
    return open_teacher(asking.address, knowledge, rulebook, options=options, pictures=reader, **asking.settings)


def _show(summary: Mapping[str, Any], as_json: bool) -> None:
    if not for_people(as_json):
        print_json(summary)
        return
    from rich.table import Table

    table = Table("chains", summary["teacher"], box=None)
    for name in ("asked", "kept", "hinted", "without_chain"):
        table.add_row(name.replace("_", " "), f"{summary[name]:,}")
    for name, part in (("kept of", "labels"), ("split", "splits"), ("samples", "samples"), ("tokens", "tokens")):
        for which, number in summary[part].items():
            table.add_row(f"{name} {which}", f"{number:,}")
    for name, value in summary["mean_length"].items():
        table.add_row(f"{name} a chain", "–" if value is None else f"{value:,.1f}")
    for reason, number in summary["failed"].items():
        table.add_row(f"failed: {reason}"[:100], f"{number:,}")
    print_table(table)
    say(
        f"wrote {summary['out']}" if summary["out"] else "the rows are in the store; --out FILE.parquet writes them out"
    )


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.synthesize"))
