"""Query understanding: engines by their addresses, and the command `lore understand`.

An address is `knowledge`, `tagger`, `tagger:FOLDER` (one of your own training), `llm:CHAT` (any address of
`lore_mm.models.open_chat`), or several with commas between: a cascade, in which the next is asked where the one before
is not sure.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extractors.query.cascade import Cascade
from extractors.query.engine import LONGEST, QueryEngine
from extractors.query.knowledge import KnowledgeEngine
from extractors.query.links import Linker
from extractors.query.relinked import Relinked
from extractors.query.view import ParseView, as_json
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.shopify import read_taxonomy
from lore_mm.types import Query, Understanding

if TYPE_CHECKING:
    from jobs.served_queries import QueryDesk, Reading

__all__ = ["DEFAULT_ENGINE", "ENGINES", "LONGEST", "QueryEngine", "main", "open_engine", "understand"]

DEFAULT_ENGINE = "knowledge"
ENGINES = ("knowledge", "tagger", "llm")
_AT_ONCE = 1024  # queries read at once by the command


def open_engine(
    address: str = DEFAULT_ENGINE,
    knowledge: Knowledge | None = None,
    *,
    taxonomy: Path | None = None,
    **options: Any,
) -> QueryEngine:
    """The engine, or cascade of engines, of an address. `options` go to the chat model of `llm:`.

    In a cascade the model is also shown how the tables read the query. `taxonomy` is a folder with a copy of Shopify's
    taxonomy: words that no table knows are linked to it.

    Raises:
        InputError: no such engine, one twice, options where no model takes them, or no taxonomy in its folder.
        ModelError: the model of `llm:` cannot be had, or the tagger's folder holds none.
        MissingExtraError: the engine needs an extra that is not installed; the message has the command.
    """
    tables = knowledge or load_knowledge()
    parts = [part.strip() for part in address.split(",")]
    for part in parts:
        _check_address(part, address)
    if len(set(parts)) < len(parts):
        raise InputError(f"the query engines {address!r}: each only once")
    if options and not any(part.startswith("llm:") for part in parts):
        raise InputError(f"the query engine {address!r} takes no options; llm:CHAT does")
    linker = None if taxonomy is None else Linker(tables, taxonomy=read_taxonomy(taxonomy))
    opened: list[QueryEngine] = []
    try:
        for part in parts:
            opened.append(_open_one(part, tables, hint=len(parts) > 1, options=options))
        engine = opened[0] if len(opened) == 1 else Cascade(opened)
        return engine if linker is None else Relinked(engine, linker)
    except Exception:
        for engine in opened:
            engine.close()
        raise


_LEGAL = (
    "knowledge, tagger, tagger:FOLDER, llm:CHAT (llm:hf:NAME, llm:vllm:NAME, llm:openai:http://HOST:PORT/v1#MODEL), "
    "or several with commas between"
)


def _check_address(part: str, address: str) -> None:
    """Raise InputError unless the part of an address names an engine."""
    name, colon, rest = part.partition(":")
    legal = {"knowledge": not colon, "tagger": bool(rest) or not colon, "llm": bool(rest)}
    if not legal.get(name):
        hint = "" if name in ENGINES else nearest(name, ENGINES)
        raise InputError(f"no query engine {part or address!r}{hint}; legal: {_LEGAL}")


def _open_one(part: str, knowledge: Knowledge, hint: bool, options: Mapping[str, Any]) -> QueryEngine:
    """The engine of one part of an address; what it needs is imported here and not before."""
    if part == "knowledge":
        return KnowledgeEngine(knowledge)
    kind, _, rest = part.partition(":")
    if kind == "tagger":
        from extractors.query.tagger import TaggerEngine
        from lore_mm.models.query_tagger import open_tagger

        return TaggerEngine(open_tagger(Path(rest) if rest else None, knowledge=knowledge), knowledge)
    from extractors.query.llm import open_llm

    return open_llm(rest, knowledge, hint=hint, options=options)


@lru_cache(maxsize=4)
def _knowledge_engine(knowledge: Knowledge) -> KnowledgeEngine:
    return KnowledgeEngine(knowledge)


def understand(queries: Sequence[Query], knowledge: Knowledge) -> list[Understanding]:
    """Understand queries by the knowledge tables: as many results, in the same order.

    An empty or overlong query is a failed row with a reason.
    """
    return _knowledge_engine(knowledge).understand(queries)


# -------------------------------------------------------------------------------------------------------- the command


def main(
    queries: Annotated[
        list[str], typer.Argument(metavar="QUERY …", help="Queries, each in quotes; - reads one a line from stdin.")
    ],
    engine: Annotated[
        str | None,
        typer.Option(
            help="Who reads: knowledge, tagger (or tagger:FOLDER), llm:CHAT, or several with commas, the next asked "
            "where the one before is not sure. knowledge unless given.",
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Serve what is understood in this store, and read only the rest.")
    ] = None,
    model_option: Annotated[
        list[str] | None,
        typer.Option("--model-option", help="An option of the model's engine, such as max_model_len=4096; repeatable."),
    ] = None,
    knowledge: Annotated[
        list[Path] | None, typer.Option("--knowledge", help="A folder of your own knowledge tables; may be repeated.")
    ] = None,
    taxonomy: Annotated[
        Path | None,
        typer.Option(help="A folder with a copy of Shopify's taxonomy: words that no table knows are linked to it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on a terminal too.")] = False,
) -> None:
    """Read queries into demands: what is asked for, on which dimension, and how strictly.

      lore understand "red nike running shoes size 42 without laces"

      lore understand "how do i keep my coffee hot" --engine knowledge,tagger

      lore understand "red sofa" --store .lore/store

      cut -f1 queries.tsv | lore understand - --engine llm:openai:http://localhost:8000/v1#MODEL > demands.jsonl

    With --store, a query that is stored there is served, whatever its case and spaces; with --engine too, only if that
    engine has read it, as it is now. docs/queries.md explains every field. Exit code 1 if a query was not understood.
    """
    from jobs.open_extractors import model_options

    options = model_options(model_option or ()) | ({"taxonomy": taxonomy} if taxonomy else {})
    desk = _open_desk(engine, store, load_knowledge(tuple(knowledge or ())), options)
    people, n_failed = for_people(json), 0
    try:
        for batch in _batches(_texts(queries)):
            for reading in desk.read(batch):
                n_failed += reading.understanding.status != "ok"
                if people:
                    print_table(ParseView(reading.understanding, reading.said))
                else:
                    print_json(_row(reading))
    finally:
        desk.close()
    if n_failed:
        say(f"{n_failed} of the queries could not be understood; each one's error says why")
        raise typer.Exit(1)


def _open_desk(engine: str | None, store: str | None, tables: Knowledge, options: Mapping[str, Any]) -> QueryDesk:
    """Who reads queries: the engine, and before it the store, where one is named."""
    from jobs.served_queries import QueryDesk

    if store is None:
        return QueryDesk(tables, engine, options=options)
    from stores.features import open_store
    from stores.snapshot import Snapshot

    snapshot = Snapshot(open_store(store))
    if "demands" not in snapshot.versions:
        say(f"no query is understood in {snapshot.store.uri} yet: lore understand-queries --store {store}")
    return QueryDesk(tables, engine, snapshot, options)


def _row(reading: Reading) -> object:
    made_at = None if reading.stored is None else reading.stored.made_at
    return as_json(reading.understanding, reading.stored is not None, reading.provenance, made_at, reading.version)


def _texts(queries: Sequence[str]) -> Iterator[str]:
    for query in queries:
        if query != "-":
            yield query
            continue
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text make a query like any other
        yield from (line.rstrip("\r\n") for line in sys.stdin)


def _batches(texts: Iterator[str]) -> Iterator[list[Query]]:
    n = 0
    while batch := [Query(str(n + i), text) for i, text in enumerate(islice(texts, _AT_ONCE))]:
        yield batch
        n += len(batch)


if __name__ == "__main__":
    run(command_app(main, "python -m extractors.queries"))
