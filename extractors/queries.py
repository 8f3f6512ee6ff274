"""Query understanding: engines by their addresses, and the command `lore understand`.

An address is `knowledge`, `tagger`, `llm:CHAT` (any address of `lore_mm.models.open_chat`), or several with commas
between: a cascade, in which the next is asked where the one before is not sure.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.query.cascade import Cascade
from extractors.query.engine import LONGEST, QueryEngine
from extractors.query.knowledge import KnowledgeEngine
from extractors.query.view import parse_table
from lore_mm.console import command_app, for_people, print_json, print_table, run
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.rows import demand_to_row
from lore_mm.types import Query, Understanding

__all__ = ["DEFAULT_ENGINE", "ENGINES", "LONGEST", "QueryEngine", "main", "open_engine", "understand"]

DEFAULT_ENGINE = "knowledge"
ENGINES = ("knowledge", "tagger", "llm")


def open_engine(address: str = DEFAULT_ENGINE, knowledge: Knowledge | None = None, **options: Any) -> QueryEngine:
    """The engine, or cascade of engines, of an address. `options` go to the chat model of `llm:`.

    In a cascade the model is also shown how the tables read the query.

    Raises:
        InputError: no such engine, one twice, or options where no model takes them.
        ModelError: the model of `llm:` cannot be had.
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
    opened: list[QueryEngine] = []
    try:
        for part in parts:
            opened.append(_open_one(part, tables, hint=len(parts) > 1, options=options))
        return opened[0] if len(opened) == 1 else Cascade(opened)
    except Exception:
        for engine in opened:
            engine.close()
        raise


_LEGAL = (
    "knowledge, tagger, llm:CHAT (llm:hf:NAME, llm:vllm:NAME, llm:openai:http://HOST:PORT/v1#MODEL), "
    "or several with commas between"
)


def _check_address(part: str, address: str) -> None:
    """Raise InputError unless the part of an address names an engine."""
    name, colon, model = part.partition(":")
    if name not in ENGINES or (name == "llm") != bool(model) or (name != "llm" and colon):
        hint = "" if name in ENGINES else nearest(name, ENGINES)
        raise InputError(f"no query engine {part or address!r}{hint}; legal: {_LEGAL}")


def _open_one(part: str, knowledge: Knowledge, hint: bool, options: Mapping[str, Any]) -> QueryEngine:
    """The engine of one part of an address; what it needs is imported here and not before."""
    if part == "knowledge":
        return KnowledgeEngine(knowledge)
    if part == "tagger":
        from extractors.query.tagger import TaggerEngine
        from lore_mm.models.query_tagger import open_tagger

        return TaggerEngine(open_tagger(), knowledge)
    from extractors.query.llm import open_llm

    return open_llm(part.removeprefix("llm:"), knowledge, hint=hint, options=options)


@lru_cache(maxsize=4)
def _knowledge_engine(knowledge: Knowledge) -> KnowledgeEngine:
    return KnowledgeEngine(knowledge)


def understand(queries: Sequence[Query], knowledge: Knowledge) -> list[Understanding]:
    """Understand queries by the knowledge tables: as many results, in the same order.

    An empty or overlong query is a failed row with a reason.
    """
    return _knowledge_engine(knowledge).understand(queries)


def _to_json(u: Understanding) -> dict[str, object]:
    return {
        "query": u.query.text,
        "normalized": u.normalized,
        "status": u.status,
        "error": u.error,
        "hard_type": u.hard_type,
        "corrections": [{"typed": a, "read": b} for a, b in u.corrections],
        "demands": [demand_to_row(d) for d in u.demands],
    }


def main(
    queries: Annotated[list[str], typer.Argument(help="Queries, each in quotes; - reads one a line from stdin.")],
    knowledge: Annotated[
        list[Path] | None, typer.Option("--knowledge", help="A folder of your own knowledge tables; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on a terminal too.")] = False,
) -> None:
    """Read queries into demands: what is asked for, on which dimension, and how strictly.

    Example: lore understand "red nike running shoes size 42 without laces"
    """
    tables = load_knowledge(tuple(knowledge or ()))
    texts: list[str] = []
    for query in queries:
        texts.extend(line.rstrip("\n") for line in sys.stdin) if query == "-" else texts.append(query)
    for n in range(0, len(texts), 1024):
        batch = [Query(str(n + i), text) for i, text in enumerate(texts[n : n + 1024])]
        for understanding in understand(batch, tables):
            if for_people(json):
                print_table(parse_table(understanding))
            else:
                print_json(_to_json(understanding))


if __name__ == "__main__":
    run(command_app(main, "python -m extractors.queries"))
