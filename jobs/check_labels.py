"""Find impossible labels: the command `lore check`. What counts as impossible is in `relevance.check_labels`.

The labels are read row by row as they stand, so that one bad row does not hide the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.types import Query

if TYPE_CHECKING:
    from lore_mm.knowledge import Knowledge
    from lore_mm.types import ItemFeatures
    from relevance.check_labels import Fault, LabelRow
    from stores.snapshot import Snapshot

__all__ = ["main"]


def main(
    labels: Annotated[Path, typer.Option("--labels", help="The labels: query_id, item_id, grade, reason.")],
    queries: Annotated[
        Path | None, typer.Option("--queries", help="The queries: query_id, query. The store's if left out.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option("--items", help="The catalogue, a file or a folder. The store's if left out.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="The store's address; the default one if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, also on a terminal.")] = False,
) -> None:
    """Find impossible labels, each with its file, row and reason. Exit code 1 if there are any.

    Example: lore check --labels labels.jsonl --queries queries.jsonl --items items.jsonl

    Faults are: unknown queries and items, pairs graded twice, grades that are none, empty reasons, and relevant grades
    (L3, L4) on pairs that break a demand beyond doubt, such as a price far over the limit that the query states.
    Labels that are possible but probably wrong are ranked by `lore evaluate labels`.
    """
    from extractors.queries import understand
    from lore_mm.config import default_store
    from lore_mm.knowledge import load_knowledge
    from relevance.by_rules import RulesJudge
    from relevance.check_labels import check_labels
    from stores.snapshot import Snapshot

    knowledge = load_knowledge()
    rows = _read_labels(labels)
    snapshot = Snapshot(store or default_store()) if queries is None or items is None else None
    texts = _read_queries(queries, snapshot)
    features = _read_items(items, knowledge, snapshot, [row.item_id for row in rows])
    understood = {u.query.query_id: u for u in understand([Query(i, text) for i, text in texts.items()], knowledge)}
    faults = check_labels(rows, understood, features, RulesJudge(knowledge))
    _show(faults, for_people(json))
    if faults:
        say(f"{len(faults)} faults in {len(rows)} labels")
        raise typer.Exit(1)
    say(f"no faults in {len(rows)} labels")


def _read_labels(path: Path) -> list[LabelRow]:
    from lore_mm.records import open_records
    from relevance.check_labels import LabelRow

    def text(value: object) -> str:
        return "" if value is None else str(value).strip()

    records = open_records(path)
    return [
        LabelRow(
            str(path),
            f"{records.unit} {place}",
            *(text(values.get(name)) for name in ("query_id", "item_id", "grade", "reason")),
        )
        for place, values in records
    ]


def _read_queries(path: Path | None, snapshot: Snapshot | None) -> dict[str, str]:
    from lore_mm.catalogue import read_queries

    if path is None:
        assert snapshot is not None
        table = snapshot.sql("SELECT query_id, query FROM queries")
    else:
        table = read_queries(path)
    return {row["query_id"]: row["query"] for row in table.to_pylist()}


def _read_items(
    path: Path | None, knowledge: Knowledge, snapshot: Snapshot | None, wanted: Iterable[str]
) -> dict[str, ItemFeatures]:
    """The items of a catalogue with what their sellers say; or the wanted ones of a store, with all features."""
    from extractors.given import Given
    from extractors.protocol import ExtractorInput
    from lore_mm.catalogue import read_items
    from lore_mm.rows import item_from_row
    from lore_mm.schema import load_schemas
    from lore_mm.types import ItemFeatures

    if path is None:
        assert snapshot is not None
        ids = [i for i in dict.fromkeys(wanted) if i]
        return {i: f for i, f in zip(ids, snapshot.get(ids), strict=True) if f is not None}
    given = Given(knowledge, load_schemas())
    found: dict[str, ItemFeatures] = {}
    for table in read_items(path):
        items = [item_from_row(row) for row in table.to_pylist()]
        extractions = given.extract([ExtractorInput(item) for item in items])
        for item, extraction in zip(items, extractions, strict=True):
            found[item.item_id] = ItemFeatures(item, extraction.attributes)
    return found


def _show(faults: Sequence[Fault], people: bool) -> None:
    if not people:
        for fault in faults:
            print_json(asdict(fault))
    elif faults:
        from rich.table import Table
        from rich.text import Text

        table = Table("file", "row", "query", "item", "reason", box=None, pad_edge=False)
        for fault in faults:
            table.add_row(*(Text(x) for x in (fault.file, fault.place, fault.query_id, fault.item_id, fault.reason)))
        print_table(table)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.check_labels"))
