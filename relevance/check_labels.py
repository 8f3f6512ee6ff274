"""Find impossible labels: ids nobody knows, pairs graded twice, grades outside the scale, and relevant pairs that break
the rulebook beyond doubt. The command `lore check`.

It reads the files line by line itself, so that one bad row does not hide the next. A label is doubted only for what is
certain on the face of it (a stated price over a stated limit, a brand field that names another maker, a kind of thing
that has nothing to do with the one asked for): whatever needs a picture or judgment is the annotator's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.types import Grade, ItemFeatures, Judgment, Leg, Query

__all__ = ["Fault", "check_labels", "main"]

SURE = 0.8  # a leg at least this sure may doubt a label
# (dimension, relation) pairs that can be seen without opinion, where the evidence is a seller's field or the title
_CERTAIN = frozenset(
    (
        ("category", "unrelated"),
        ("category", "main_of_accessory"),
        ("brand", "brand_other"),
        ("brand", "brand_other_trade"),
        ("price", "deviates"),
        ("model", "other_model"),
    )
)
_PRICE_SLACK = 0.1  # a price this far over its limit may still be called near


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: in which file, in which row (as the file counts), and what."""

    file: str
    row: str
    query_id: str
    item_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Row:
    place: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        value = self.values.get(name)
        return "" if value is None else str(value).strip()


def _read(path: Path) -> list[_Row]:
    from lore_mm.records import open_records

    records = open_records(path)
    return [_Row(f"{records.unit} {place}", values) for place, values in records]


def check_labels(
    labels: Path, queries: Mapping[str, str], items: Mapping[str, ItemFeatures], knowledge: Knowledge
) -> list[Fault]:
    """All faults of a file of labels, in the order of its rows.

    `queries` maps query_id to text, `items` item_id to what is known of the item.
    """
    rows = _read(labels)
    faults: list[tuple[int, Fault]] = []
    first: dict[tuple[str, str], tuple[_Row, str]] = {}
    sound: list[tuple[int, _Row]] = []
    for i, row in enumerate(rows):
        reasons = [*_form(row, queries, items), *_twins(row, first)]
        faults += [(i, _fault(labels, row, reason)) for reason in reasons]
        if row.text("grade") in ("L3", "L4") and row.text("query_id") in queries and row.text("item_id") in items:
            sound.append((i, row))
    faults += [(i, _fault(labels, row, reason)) for i, row, reason in _broken(sound, queries, items, knowledge)]
    return [fault for _, fault in sorted(faults, key=lambda pair: pair[0])]


def _fault(path: Path, row: _Row, reason: str) -> Fault:
    return Fault(str(path), row.place, row.text("query_id"), row.text("item_id"), reason)


def _form(row: _Row, queries: Mapping[str, str], items: Mapping[str, ItemFeatures]) -> Iterator[str]:
    """What is wrong with one row by itself."""
    query_id, item_id, grade = (row.text(name) for name in ("query_id", "item_id", "grade"))
    if query_id not in queries:
        yield f"unknown query_id {query_id!r}{nearest(query_id, queries)}"
    if item_id not in items:
        yield f"unknown item_id {item_id!r}{nearest(item_id, items)}"
    if grade not in Grade.__members__:
        yield f"grade {grade!r} is not one of {', '.join(Grade.__members__)}"
    if not row.text("reason"):
        yield "the reason is empty"


def _twins(row: _Row, first: dict[tuple[str, str], tuple[_Row, str]]) -> Iterator[str]:
    """Whether the pair was graded before, and how."""
    key = (row.text("query_id"), row.text("item_id"))
    if key not in first:
        first[key] = (row, row.text("grade"))
        return
    earlier, grade = first[key]
    if grade == row.text("grade"):
        yield f"the pair is there twice: also in {earlier.place}"
    else:
        yield f"the pair is graded {row.text('grade')} here and {grade} in {earlier.place}"


def _broken(
    rows: Sequence[tuple[int, _Row]],
    queries: Mapping[str, str],
    items: Mapping[str, ItemFeatures],
    knowledge: Knowledge,
) -> Iterator[tuple[int, _Row, str]]:
    """Relevant labels on pairs that break a demand beyond doubt."""
    from relevance.judge import Judge, understand_queries

    ids = dict.fromkeys(row.text("query_id") for _, row in rows)
    read = understand_queries([Query(i, queries[i]) for i in ids], knowledge)
    understood = dict(zip(ids, read, strict=True))
    pairs = [(understood[row.text("query_id")], items[row.text("item_id")]) for _, row in rows]
    for (i, row), judgment in zip(rows, Judge(knowledge).judge(pairs), strict=True):
        for leg in _certain(judgment):
            yield (
                i,
                row,
                f"graded {row.text('grade')}, but {leg.demand.dimension} is broken ({leg.rule_id}): {leg.reason}",
            )


def _certain(judgment: Judgment) -> list[Leg]:
    legs = judgment.path.legs if judgment.path else ()
    return [leg for leg in legs if _is_certain(leg)]


def _is_certain(leg: Leg) -> bool:
    demand = leg.demand
    if (
        leg.level is None
        or leg.level > Grade.L2
        or leg.confidence < SURE
        or demand.strictness == "soft"
        or demand.latent
    ):
        return False
    if (demand.dimension, leg.relation) not in _CERTAIN or demand.polarity < 0:
        return False
    if demand.dimension == "price" and (leg.deviation or 0.0) <= _PRICE_SLACK:
        return False
    if demand.dimension == "brand":
        return any(e.source == "given.brand" for e in leg.evidence)
    return demand.dimension == "price" or any(e.source == "title" for e in leg.evidence)


def _read_queries(path: Path) -> dict[str, str]:
    from lore_mm.catalogue import read_queries

    return {row["query_id"]: row["query"] for row in read_queries(path).to_pylist()}


def _read_items(path: Path, knowledge: Knowledge) -> dict[str, ItemFeatures]:
    """The items of a catalogue with what their sellers say of them."""
    from lore_mm import catalogue
    from lore_mm.rows import item_from_row
    from relevance.judge import read_items

    found: dict[str, ItemFeatures] = {}
    for table in catalogue.read_items(path):
        items = [item_from_row(row) for row in table.to_pylist()]
        found |= {f.item.item_id: f for f in read_items(items, knowledge)}
    return found


def _from_store(address: str | None, labels: Path) -> tuple[dict[str, str], dict[str, ItemFeatures]]:
    from relevance.judge import open_snapshot

    snapshot = open_snapshot(address)
    queries = {row["query_id"]: row["query"] for row in snapshot.sql("SELECT query_id, query FROM queries").to_pylist()}
    wanted = list(dict.fromkeys(row.text("item_id") for row in _read(labels)))
    return queries, {i: f for i, f in zip(wanted, snapshot.get(wanted), strict=True) if f is not None}


def main(
    labels: Annotated[Path, typer.Option("--labels", help="The labels: query_id, item_id, grade, reason.")],
    queries: Annotated[Path | None, typer.Option("--queries", help="The queries: query_id, query.")] = None,
    items: Annotated[Path | None, typer.Option("--items", help="The catalogue: a file or a folder.")] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Queries and items of this store; the default one if no files are given."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, also on a terminal.")] = False,
) -> None:
    """Find impossible labels, each with its file, row and reason. Exit code 1 if there are any.

    Example: lore check --labels labels.jsonl --queries queries.jsonl --items items.jsonl

    Faults are: unknown queries and items, pairs graded twice, grades that are none, empty reasons, and relevant grades
    (L3, L4) on pairs that break a demand beyond doubt, such as a price far over the limit that the query states.
    """
    knowledge = load_knowledge()
    if queries is None or items is None:
        known_queries, known_items = _from_store(store, labels)
    if queries is not None:
        known_queries = _read_queries(queries)
    if items is not None:
        known_items = _read_items(items, knowledge)
    faults = check_labels(labels, known_queries, known_items, knowledge)
    _show(faults, for_people(json))
    if faults:
        say(f"{len(faults)} faults")
        raise typer.Exit(1)
    say("no faults")


def _show(faults: Sequence[Fault], people: bool) -> None:
    if not people:
        for fault in faults:
            print_json(asdict(fault))
    elif faults:
        from rich.table import Table
        from rich.text import Text

        table = Table("file", "row", "query", "item", "reason", box=None, pad_edge=False)
        for fault in faults:
            table.add_row(*(Text(x) for x in (fault.file, fault.row, fault.query_id, fault.item_id, fault.reason)))
        print_table(table)


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.check_labels"))
