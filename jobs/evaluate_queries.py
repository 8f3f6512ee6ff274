"""Measure query understanding against labelled queries: `lore evaluate queries`.

Either on QueryNER's tags (spans), or on queries with gold demands (spans, demands, head, hard type, numbers, spelling):
engines and baselines on the same queries, with intervals over queries and paired differences. What is counted is told
in `jobs.query_matching`, the metrics in `jobs.query_metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.queries import DEFAULT_ENGINE, ENGINES, open_engine
from jobs.query_metrics import Measured, differences, measure
from jobs.query_scoring import QueryScore, score_demands, score_spans
from jobs.query_systems import (
    COMMONEST,
    ONE_THING,
    Run,
    commonest_tags,
    has_tags,
    one_thing,
    one_thing_tagged,
    open_tags,
    run_over,
)
from jobs.query_tables import example_rows, prediction_rows, query_tables, save_rows
from lore_mm.bootstrap import plain
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.datasets.query_sets import GoldQuery, read_gold
from lore_mm.datasets.queryner import TaggedQuery, read_queryner
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.text import fold
from lore_mm.types import Query

__all__ = ["QueryEvaluation", "evaluate_gold", "evaluate_tags", "main"]

FORMATS = ("queryner", "gold")
SHIPPED = Path("examples/queries/gold.jsonl")
_LABEL = "evaluate queries"


@dataclass(frozen=True, slots=True)
class QueryEvaluation:
    """What was measured: the scores and results of each system, its metrics, and notes. `engines` come first."""

    dataset: str
    split: str
    queries: Sequence[TaggedQuery | GoldQuery]
    engines: Sequence[str]
    runs: Mapping[str, Run[Any]]
    scores: Mapping[str, Sequence[QueryScore]]
    measured: Mapping[str, Measured]
    notes: Sequence[str]
    without_duplicates: Mapping[str, Any] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """n, metrics of the first engine, systems, differences, notes: as `--json` prints them."""
        head = self.measured[self.engines[0]]
        return {
            "dataset": self.dataset,
            "split": self.split,
            "system": self.engines[0],
            "n": head.n,
            "failed": head.failed,
            "metrics": plain(head.metrics),
            "systems": {name: self._system(name) for name in self.measured},
            "differences": {
                f"{one} - {other}": plain(differences(self.measured[one], self.measured[other]))
                for one, other in self.compared()
            },
            **({"without_duplicates": dict(self.without_duplicates)} if self.without_duplicates else {}),
            "notes": list(self.notes),
        }

    def compared(self) -> list[tuple[str, str]]:
        """Each engine with those after it, and the first with the baselines."""
        pairs = [(a, b) for i, a in enumerate(self.engines) for b in self.engines[i + 1 :]]
        return pairs + [(self.engines[0], name) for name in self.measured if name not in self.engines]

    def _system(self, name: str) -> dict[str, Any]:
        one, seconds = self.measured[name], self.runs[name].seconds
        timed = {"seconds": round(seconds, 3), "queries_per_second": round(one.n / seconds, 1)} if seconds else {}
        return {
            "n": one.n,
            "failed": one.failed,
            **timed,
            "metrics": plain(one.metrics),
            "parts": {
                family: {
                    part: {"true": found.true, "said": found.said, "metrics": plain(found.metrics)}
                    for part, found in parts.items()
                }
                for family, parts in one.parts.items()
            },
            **({"confusion": self.confusion[name]} if name in self.confusion else {}),
        }


def evaluate_tags(
    queries: Sequence[TaggedQuery],
    engines: Sequence[str],
    *,
    train: Sequence[TaggedQuery] = (),
    dataset: str = "queryner",
    split: str = "dev",
    knowledge: Knowledge | None = None,
    resamples: int = 1000,
) -> QueryEvaluation:
    """Engines and baselines on tagged queries; the baseline that knows words learns them from `train`.

    Raises:
        LoreError: an engine is unknown, dead or missing.
    """
    asked = [Query(query.query_id, query.text) for query in queries]
    runs: dict[str, Run[Any]] = {}
    for address in engines:
        with closing(open_tags(address, knowledge)) as reader:
            runs[address] = run_over(address, asked, reader.read, _LABEL)
    runs[ONE_THING] = one_thing_tagged(queries)
    if train:
        runs[COMMONEST] = commonest_tags(train, queries)
    scores = {
        name: [score_spans(q, r.spans, r.error) for q, r in zip(queries, one.results, strict=True)]
        for name, one in runs.items()
    }
    notes = ["a span is right where its type and both boundaries are; f1 is micro over spans, as seqeval by default"]
    if any(not has_tags(address) for address in engines):
        notes.append(
            "demands are scored as tags by a table (lore_mm/datasets/queryner.toml), which loses types that share a "
            "dimension: product numbers are never said; segmentation does not look at types"
        )
    if train:
        notes.append(f"{COMMONEST}: each word's commonest type in split train; a word never met there is a modifier")
    else:
        notes.append(f"no baseline {COMMONEST!r}: it learns from split train, which is measured here or not beside it")
    once = _without(queries, train, {name: scores[name] for name in engines}, resamples)
    if train:
        told = f"{len(queries) - once.get('n', len(queries))} queries also stand in split train, word for word"
        if once:
            told += "; span F1 without them: " + ", ".join(
                f"{name} {found['span_f1']['value']:.3f}" for name, found in once["systems"].items()
            )
        notes.append(told)
    return _evaluation(dataset, split, queries, engines, runs, scores, notes, resamples, without_duplicates=once)


def evaluate_gold(
    queries: Sequence[GoldQuery],
    engines: Sequence[str],
    *,
    dataset: str = "gold",
    split: str = "dev",
    knowledge: Knowledge | None = None,
    resamples: int = 1000,
) -> QueryEvaluation:
    """Engines, and a baseline that takes every query for one unknown thing, on queries with gold demands.

    Raises:
        LoreError: an engine is unknown, dead or missing.
    """
    asked = [Query(query.query_id, query.text) for query in queries]
    runs: dict[str, Run[Any]] = {}
    for address in engines:
        with closing(open_engine(address, knowledge)) as engine:
            runs[address] = run_over(address, asked, engine.understand, _LABEL)
    runs[ONE_THING] = one_thing(queries)
    scores = {
        name: [score_demands(q, u) for q, u in zip(queries, one.results, strict=True)] for name, one in runs.items()
    }
    notes = [
        "demand: dimension, value and polarity are right; located: dimension and polarity, on some of the same words",
        "span: dimension and both boundaries; segmentation: boundaries alone",
        f"{ONE_THING}: all words one unknown category, the commonest hard type and referent of these queries",
    ]
    confusion = {
        name: _confusion((q.hard_type, u.hard_type) for q, u in zip(queries, one.results, strict=True))
        for name, one in runs.items()
    }
    return _evaluation(dataset, split, queries, engines, runs, scores, notes, resamples, confusion=confusion)


def _evaluation(
    dataset: str,
    split: str,
    queries: Sequence[TaggedQuery | GoldQuery],
    engines: Sequence[str],
    runs: Mapping[str, Run[Any]],
    scores: Mapping[str, Sequence[QueryScore]],
    notes: list[str],
    resamples: int,
    **more: Any,
) -> QueryEvaluation:
    for name in engines:
        failed = Counter(score.error for score in scores[name] if score.error)
        if failed:
            told = "; ".join(f"{n} × {reason[:120]}" for reason, n in failed.most_common(3))
            notes.append(f"{name}: {failed.total()} queries failed and count as not answered: {told}")
        seconds = runs[name].seconds
        notes.append(f"{name}: {len(queries)} queries in {seconds:.2f} s, {len(queries) / max(seconds, 1e-9):,.0f}/s")
    measured = {name: measure(some, resamples=resamples) for name, some in scores.items()}
    return QueryEvaluation(dataset, split, queries, engines, runs, scores, measured, notes, **more)


def _without(
    queries: Sequence[TaggedQuery],
    train: Sequence[TaggedQuery],
    scores: Mapping[str, Sequence[QueryScore]],
    resamples: int,
) -> dict[str, Any]:
    """The engines on the queries that do not stand in `train`; empty where all do not."""
    known = {fold(query.text) for query in train}
    fresh = [i for i, query in enumerate(queries) if fold(query.text) not in known]
    if len(fresh) in (0, len(queries)):
        return {}
    found = {name: measure([some[i] for i in fresh], resamples=resamples) for name, some in scores.items()}
    spans = {
        name: {metric: e for metric, e in plain(one.metrics).items() if metric.startswith("span_")}
        for name, one in found.items()
    }
    return {"n": len(fresh), "systems": spans}


def _confusion(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """True hard type → said → how many."""
    counts: dict[str, dict[str, int]] = {}
    for true, said in pairs:
        row = counts.setdefault(true, {})
        row[said] = row.get(said, 0) + 1
    return counts


DatasetAddress = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="Labelled queries: queryner:PATH (a folder with train and dev, or one file), or gold:FILE, queries with "
        "demands; the hand-written ones of examples/queries where they lie in the working folder.",
    ),
]
EngineAddresses = Annotated[
    list[str] | None,
    typer.Option("--engine", help=f"{', '.join(ENGINES)}:CHAT, or a cascade with commas; may be repeated."),
]
Tables = Annotated[
    list[Path] | None, typer.Option("--knowledge", help="A folder of your own knowledge tables; may be repeated.")
]
Errors = Annotated[
    int, typer.Option("--errors", min=0, help="Show the N queries the first engine reads worst; not of split test.")
]
Save = Annotated[
    Path | None, typer.Option("--save", help="Write every prediction beside its truth to this .jsonl file.")
]


def main(
    dataset: DatasetAddress = "",
    engine: EngineAddresses = None,
    split: Annotated[str, typer.Option("--split", help="Which queries: dev, test or train.")] = "dev",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N queries.")] = None,
    knowledge: Tables = None,
    errors: Errors = 0,
    save: Save = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Measure query engines against labelled queries, beside baselines, with 95 % intervals over queries.

    Example: lore evaluate queries --dataset queryner:data/queryner --engine tagger --engine knowledge

    On QueryNER: precision, recall and F1 of spans (type and boundaries, as seqeval), and of their boundaries alone. On
    queries with gold demands also of demands (said and latent), head, hard type, referent, numbers and corrections.
    Queries that failed count as not answered, and are reported.
    """
    if save is not None and save.suffix != ".jsonl":
        raise InputError(f"--save {save}: legal: the name of a .jsonl file")
    if errors and split == "test":
        raise InputError("--errors: those of split test are not shown, so that nobody tunes on them; legal: dev, train")
    tables = load_knowledge(tuple(knowledge or ()))
    found = _evaluate(dataset, list(dict.fromkeys(engine or [DEFAULT_ENGINE])), split, limit, tables)
    if save is not None:
        rows = prediction_rows(found.queries, found.runs, found.scores)
        say(f"{save_rows(rows, save)} predictions beside their truth: {save}")
    first = found.engines[0]
    worst = example_rows(found.queries, found.runs[first], found.scores[first], errors)
    if not for_people(json):
        print_json(found.as_json() | ({"worst": worst} if errors else {}))
        return
    for table in query_tables(found.measured, found.confusion.get(first), worst):
        print_table(table)
    for note in found.notes:
        say(note)


def _evaluate(
    address: str, engines: Sequence[str], split: str, limit: int | None, knowledge: Knowledge
) -> QueryEvaluation:
    kind, path = _address(address)
    if kind == "gold":
        gold = read_gold(path, split)[:limit]
        return evaluate_gold(gold, engines, dataset=f"gold:{path}", split=split, knowledge=knowledge)
    queries = read_queryner(path, split)[:limit]
    train = read_queryner(path, "train") if path.is_dir() and split != "train" else []
    return evaluate_tags(
        queries, engines, train=train, dataset=f"queryner:{path}", split=split, knowledge=knowledge
    )  # fmt: skip


def _address(address: str) -> tuple[str, Path]:
    """The format and the path of an address.

    Raises:
        InputError: an unknown format, or no address outside a checkout.
    """
    if not address:
        if not SHIPPED.is_file():
            raise InputError(f"--dataset: name one: queryner:PATH or gold:FILE ({SHIPPED} is not here)")
        return "gold", SHIPPED
    kind, colon, path = address.partition(":")
    if colon and kind in FORMATS and path:
        return kind, Path(path)
    if colon and not Path(address).exists():
        raise InputError(f"no queries {address!r}{nearest(kind, FORMATS)}; legal: queryner:PATH, gold:FILE, or a file")
    if Path(address).is_dir():
        raise InputError(f"{address}: a folder; legal: queryner:{address}, or the file of gold queries")
    return "gold", Path(address)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_queries"))
