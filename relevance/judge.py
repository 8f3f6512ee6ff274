"""The door of the judge: `open_judge` by address, and the command `lore judge`.

What every judge keeps to stands in `relevance.protocol`. `main` alone opens a store and reads queries; a judge does not
know where its pairs come from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, StoreError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_CHAT
from lore_mm.models.table import load_table
from lore_mm.schema import load_schemas
from lore_mm.types import Item, ItemFeatures, Judgment, Query, Understanding
from relevance.by_rules import RulesJudge
from relevance.protocol import PairJudge, Pictures, failed_judgment
from relevance.requests import Request, read_requests
from relevance.rules import Rulebook, load_rulebook
from relevance.show import json_row, table, tree, versions_of
from relevance.what_if import what_if

if TYPE_CHECKING:
    from PIL.Image import Image

    from jobs.served_queries import QueryDesk
    from stores.snapshot import Snapshot

__all__ = ["DEFAULT_JUDGE", "MODES", "JudgeAddress", "RulesFile", "address_of", "main", "open_judge"]

DEFAULT_JUDGE = "rules"
# mode → its addresses as they are told; CHAT is an address of `lore_mm.models.open_chat`
MODES: Mapping[str, str] = MappingProxyType(
    {
        "rules": "rules, rules:RULEBOOK.toml",
        "student": "student, student:FOLDER",
        "direct": "direct:CHAT",
        "direct-vision": "direct-vision:CHAT",
        "reason": "reason:CHAT",
        "reason-vision": "reason-vision:CHAT",
        "chain": "chain:CHAT",
        "chain-vision": "chain-vision:CHAT",
        "route": "route:FILE",
    }
)
_BATCH = 512  # requests judged at once
_MOST_QUERIES = 100_000  # understandings kept at once


def open_judge(
    address: str = DEFAULT_JUDGE,
    knowledge: Knowledge | None = None,
    *,
    rules: Path | None = None,
    pictures: Pictures | None = None,
    calibration: str | Path | None = None,
    **options: Any,
) -> PairJudge:
    """The judge of an address; `MODES` lists them. `rules` is the rulebook, the shipped one unless given.

    `pictures` reads the pictures of items for the modes that look at them; `calibration` is a file that `lore calibrate
    judge` wrote for this very judge, or "contextual"; `options` are the mode's own and its model's.

    Raises:
        InputError: no such judge, or an option that it does not have.
        ConfigError: the rulebook is wrong.
        ModelError, MissingExtraError: its model cannot be had.
    """
    judge = _opened(address, knowledge, rules, pictures, options)
    if calibration is None:
        return judge
    from relevance.calibration import calibrated

    try:
        return calibrated(judge, calibration)
    except Exception:
        judge.close()
        raise


def address_of(model: str, judge: str = DEFAULT_JUDGE) -> str:
    """The address of a judge that the model table has under this name; `judge` is what was asked for beside it.

    Raises:
        InputError: there is none such, or another judge was asked for.
    """
    if judge != DEFAULT_JUDGE:
        raise InputError(f"two judges: --judge {judge} and --model {model}; name one")
    judges = {name: entry.address for name, entry in load_table().items() if entry.kind == "judge" and entry.address}
    if model not in judges:
        raise InputError(
            f"no judge {model!r} in the model table{nearest(model, judges)}; legal: {', '.join(judges)}. "
            f"For another model name its address: --judge chain:hf:{model}"
        )
    return judges[model]


def _opened(
    address: str, knowledge: Knowledge | None, rules: Path | None, pictures: Pictures | None, options: dict[str, Any]
) -> PairJudge:
    mode, colon, rest = address.partition(":")
    if mode not in MODES or (colon and not rest):
        raise InputError(f"no judge {address!r}{nearest(mode, MODES)}; legal: {', '.join(MODES.values())}")
    known = load_knowledge() if knowledge is None else knowledge
    if mode == "rules":
        if options:
            raise InputError(f"judge rules has no option {next(iter(options))!r}")
        if rest and rules is not None:
            raise InputError(f"two rulebooks: {rest} in the judge's address and {rules} beside it; name one")
        return RulesJudge(known, load_rulebook(Path(rest) if rest else rules), address)
    kind, _, eyes = mode.partition("-")
    if kind != "student" and not rest:
        if kind == "route":
            raise InputError("judge route needs the file of `lore calibrate route`: route:FILE")
        raise InputError(f"judge {mode} needs a model: {MODES[mode]}, such as {mode}:{DEFAULT_CHAT}")
    module, rulebook = import_module(f"relevance.by_{kind}"), load_rulebook(rules)
    judge: PairJudge
    if kind == "student":
        judge = module.open_student(address, Path(rest) if rest else None, known, rulebook, **options)
        return judge
    seen = pictures if eyes or kind == "route" else None
    judge = getattr(module, f"open_{kind}")(address, rest, known, rulebook, vision=bool(eyes), pictures=seen, **options)
    return judge


# -------------------------------------------------------------------------------------------------------- the command


JudgeAddress = Annotated[
    str,
    typer.Option(
        "--judge",
        help="Who judges: rules (or rules:RULEBOOK.toml), student (or student:FOLDER), direct:CHAT, reason:CHAT, "
        "chain:CHAT, or with the pictures direct-vision:CHAT, reason-vision:CHAT, chain-vision:CHAT; CHAT is hf:NAME, "
        "vllm:NAME or openai:http://HOST:PORT/v1#MODEL; route:FILE, a cheap judge before a dear one.",
    ),
]
_Model = Annotated[
    str | None,
    typer.Option("--model", help="A judge by its name in the model table, such as lore-judge-tiny; no --judge then."),
]
_ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model-option", help="An option of the judge or its model, such as max_model_len=4096; repeatable."),
]
RulesFile = Annotated[
    Path | None, typer.Option("--rules", help="Judge by this rulebook instead of the shipped one.", show_default=False)
]
_Pairs = Annotated[
    Path | None,
    typer.Option("--pairs", help="A .csv, .jsonl or .parquet file with columns query, item_id and perhaps query_id."),
]
_Top = Annotated[
    int | None, typer.Option("--top", min=1, help="Judge the query against the K items nearest to it in the store.")
]
_Items = Annotated[
    list[str] | None, typer.Option("--item", "-i", help="An item id of the store; may be given several times.")
]
_WhatIf = Annotated[
    Path | None,
    typer.Option("--what-if", help="Show beside each judgment what this rulebook would make of the same path."),
]
_Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Who reads queries that the store has not: knowledge, tagger, llm:CHAT, or several with commas. "
        "knowledge unless given; if given, what other engines have stored is read anew.",
        show_default=False,
    ),
]


def main(
    query: Annotated[str | None, typer.Option("--query", "-q", help="The query, as a shopper types it.")] = None,
    item: _Items = None,
    top: _Top = None,
    pairs: _Pairs = None,
    store: Annotated[
        str | None, typer.Option("--store", help="The store's address; the default one if left out.")
    ] = None,
    judge: JudgeAddress = DEFAULT_JUDGE,
    model: _Model = None,
    model_option: _ModelOption = None,
    rules: RulesFile = None,
    what_if: _WhatIf = None,
    engine: _Engine = None,
    explain: Annotated[bool, typer.Option("--explain", help="Draw the path of each judgment.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, also on a terminal.")] = False,
) -> None:
    """Judge how relevant items are to queries: a grade L1 to L4, and the path that led to it.

    One pair:          lore judge --query "black running shoes" --item freerun-running-shoe --explain

    The nearest items: lore judge --query "gift for a photographer" --top 10

    A file of pairs:   lore judge --pairs pairs.csv > judgments.jsonl

    Another judge:     lore judge --judge direct:hf:lore-vlm-tiny --query "red sofa" --top 3

    A trained judge:   lore judge --model lore-judge-tiny --query "red sofa" --top 3 --explain

    Another rulebook:  lore judge --query "red sofa" --top 10 --what-if my-rules.toml

    With nothing named, JSON lines are read from stdin: {"query": "red sofa", "item_id": "leather-sofa"}, or with
    the item itself: {"query": "red sofa", "item": {"item_id": "x1", "title": "Red velvet sofa", "price": 450}}.
    L4 satisfies the query, L3 is near, L2 breaks a demand, L1 is something else.

    Exit codes: 0 all were judged; 1 some pair was not, or the store or the model is not there; 2 the command or a file
    is wrong; 130 interrupted.
    """
    from jobs.open_extractors import model_options

    judge = judge if model is None else address_of(model, judge)
    requests = read_requests(query, item or [], top, pairs)
    other = None if what_if is None else load_rulebook(what_if)
    knowledge, failed = load_knowledge(), 0
    options = model_options(model_option or ())
    pictures = _open_pictures(store)
    with closing(open_judge(judge, knowledge, rules=rules, pictures=pictures, **options)) as judges:
        out = _Out(versions_of(judges), for_people(json), explain, other)
        with closing(_Desk(judges, knowledge, store, engine)) as desk:
            for batch in _batches(requests):
                judgments = desk.judge(batch)
                failed += sum(j.grade is None for j in judgments)
                out.show(judgments)
                if batch[0].streamed:
                    sys.stdout.flush()  # or who asks line by line through a pipe waits for ever
    if failed:
        say(f"{failed} of the pairs could not be judged; each one's error says why")
        raise typer.Exit(1)


def _open_query_desk(knowledge: Knowledge, engine: str | None) -> QueryDesk:
    """Who reads queries to demands."""
    from jobs.served_queries import QueryDesk

    return QueryDesk(knowledge, engine)


def _read_items(items: Sequence[Item], knowledge: Knowledge) -> list[ItemFeatures]:
    """Items that no store holds: what the seller's fields and text say of them."""
    if not items:
        return []
    from extractors.given import Given
    from extractors.protocol import ExtractorInput

    found = Given(knowledge, load_schemas()).extract([ExtractorInput(item) for item in items])
    return [ItemFeatures(item, extraction.attributes) for item, extraction in zip(items, found, strict=True)]


def _open_snapshot(address: str | None = None) -> Snapshot:
    """One consistent view of a store; of the default one unless an address is given."""
    from lore_mm.config import default_store
    from stores.features import open_store
    from stores.snapshot import Snapshot

    return Snapshot(open_store(address or default_store()))


def _open_pictures(address: str | None) -> Pictures:
    """Who reads the pictures of a store's items; the store is opened when the first one is asked for."""
    readers: list[Pictures] = []

    def read(item: Item) -> Sequence[Image]:
        if not item.images:
            return ()
        if not readers:
            from jobs.judge_pictures import StorePictures
            from lore_mm.config import default_store
            from stores.features import FeatureStore

            readers.append(StorePictures(FeatureStore(address or default_store())))
        return readers[0](item)

    return read


class _Desk:
    """Turns requests into pairs: reads queries, fetches items from the store when one is first needed.

    Where a store is named, or open because items come from it, queries that it holds are not read again.
    """

    def __init__(self, judge: PairJudge, knowledge: Knowledge, address: str | None, engine: str | None = None) -> None:
        self._judge, self._knowledge = judge, knowledge
        self._address = address
        self._queries = _open_query_desk(knowledge, engine)
        self._snapshot: Snapshot | None = None
        self._looked = False  # for stored queries in the store that is named
        self._understood: dict[str, Understanding] = {}

    def judge(self, requests: Sequence[Request]) -> list[Judgment]:
        """One judgment a request; a request for the nearest items gives as many as there are."""
        requests = [one for request in requests for one in self._nearest(request)]
        features = self._fetch([r.item_id for r in requests if r.item is None and not r.error])
        inline = [r.item for r in requests if r.item is not None]
        given = {id(i): f for i, f in zip(inline, _read_items(inline, self._knowledge), strict=True)}
        self._understand([r.query for r in requests if not r.error])
        ready: list[tuple[Understanding, ItemFeatures]] = []
        done: list[Judgment | None] = []
        for request in requests:
            query = Query(request.query_id, request.query)
            known = features.get(request.item_id) if request.item is None else given.get(id(request.item))
            if request.error or known is None:
                error = request.error or self._open().missing([request.item_id])[request.item_id]
                done.append(failed_judgment(query, request.item_id, error, mode=self._judge.mode))
            else:
                done.append(None)
                ready.append((self._as(query), known))
        judged = iter(self._judge.judge(ready))
        return [one or next(judged) for one in done]

    def _as(self, query: Query) -> Understanding:
        known = self._understood[query.text]
        return known if known.query == query else replace(known, query=query)

    def _understand(self, texts: Iterable[str]) -> None:
        new = [t for t in dict.fromkeys(texts) if t not in self._understood]
        if len(self._understood) > _MOST_QUERIES:
            self._understood.clear()
        if new and self._snapshot is None and self._address is not None and not self._looked:
            self._looked = True
            with suppress(StoreError):  # who needs an item from it will hear of it
                self._open()
        self._queries.snapshot = self._snapshot
        read = self._queries.read([Query("", text) for text in new])
        self._understood.update((text, one.understanding) for text, one in zip(new, read, strict=True))

    def close(self) -> None:
        """Close what reads queries."""
        self._queries.close()

    def _open(self) -> Snapshot:
        if self._snapshot is None:
            self._snapshot = _open_snapshot(self._address)
        return self._snapshot

    def _fetch(self, ids: Sequence[str]) -> dict[str, ItemFeatures]:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        return {f.item.item_id: f for f in self._open().get(wanted) if f is not None}

    def _nearest(self, request: Request) -> list[Request]:
        if request.top is None:
            return [request]
        from lore_mm.models import open_embedder

        hits = self._open().search(text=request.query, k=request.top, embedder=open_embedder())[0]
        return [replace(request, item_id=hit[0], top=None) for hit in hits]


def _batches(requests: Iterator[Request]) -> Iterator[list[Request]]:
    batch: list[Request] = []
    for request in requests:
        batch.append(request)
        if len(batch) >= (1 if request.streamed else _BATCH):
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Out:
    """How judgments are printed: JSON lines, a table, or with `explain` trees; beside them what `other` makes of it."""

    versions: Mapping[str, str]
    people: bool
    explain: bool
    other: Rulebook | None

    def show(self, judgments: Sequence[Judgment]) -> None:
        others = None if self.other is None else [what_if(judgment, self.other) for judgment in judgments]
        if self.people and not self.explain:
            print_table(table(judgments, others))
            return
        asked = others is not None
        for judgment, other in zip(judgments, others or [None] * len(judgments), strict=True):
            if self.people:
                print_table(tree(judgment, other, asked))
            else:
                print_json(json_row(judgment, self.versions, explain=self.explain, other=other, asked=asked))


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.judge"))
