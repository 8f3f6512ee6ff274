"""Rows of ATTRIBUTES and a migration: which of them it means, and what it makes of one.

Most rows of a large store are not meant, and are told by column, without being looked into; of the others the names
and values are read first, and all of a row only where something changes in it. This module writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extractors.vlm_kept import carried
from jobs.extraction_rows import VERDICT
from jobs.migrate_changes import Tally
from jobs.standing import Hashes, hashes
from lore_mm.console import progress
from lore_mm.migration_checks import former_specs
from lore_mm.migration_file import CATEGORY, Migration
from lore_mm.migrations import Decision, Destination, decide, migrate
from lore_mm.rows import attribute_from_row, attribute_to_row
from stores.features import FeatureStore

__all__ = ["Survey", "is_open", "migrated_row", "survey"]

_READ_ROWS = 16_384
_COLUMNS = ("item_id", "extractor", "category", "attributes", "asked_with", "provenance")


class _Light(NamedTuple):
    """As much of a value as a decision needs."""

    name: str
    value: str | None
    number: float | None
    unit: str | None


@dataclass(frozen=True)
class Survey:
    """What a migration would do to a version of ATTRIBUTES. 16 bytes an item in memory.

    `items` are the sorted hashes of the items in which something changes. `n_later`: rows that were written since the
    migration was first applied, and are left alone; `n_lone`: rows of items without a verdict, which are left alone.
    """

    items: Hashes
    tally: Tally
    n_later: int = 0
    n_lone: int = 0


def survey(
    store: FeatureStore, version: int, migration: Migration, destination: Destination, before: datetime | None
) -> Survey:
    """Look through the newest rows at a version; of those made at `before` or later nothing is meant."""
    tally, later = Tally(migration), 0
    acting, verdicts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    with progress("migrate: looks through the store", None) as advance:
        for batch in store.batches("attributes", _COLUMNS, version, _READ_ROWS, latest=True):
            is_verdict = pc.equal(batch.column("extractor"), pa.scalar(VERDICT))
            verdicts.append(hashes(batch.filter(is_verdict), ["item_id"]))
            meant = _meant(batch, migration)
            if before is not None and meant.any():
                made_at: Any = pc.struct_field(batch.column("provenance"), "made_at")
                made_later = pc.fill_null(pc.greater_equal(made_at, pa.scalar(before, made_at.type)), False)
                late = meant & np.array(made_later, np.bool_)
                later, meant = later + int(late.sum()), meant & ~late
            some = batch.filter(pa.array(meant))
            acts = []
            for item_id, extractor, category, values, asked in _light_rows(some):
                decision = decide(values, category, migration, destination, asked)
                tally.add(item_id, extractor, values, decision)
                acts.append(decision.acts)
            acting.append(hashes(some.filter(pa.array(acts, pa.bool_())), ["item_id"]))
            advance(batch.num_rows)
    found = np.concatenate(acting)
    lone = ~np.isin(found, np.concatenate(verdicts))
    return Survey(np.unique(found[~lone]), tally, later, int(lone.sum()))


def is_open(row: Mapping[str, Any], migration: Migration, before: datetime | None) -> bool:
    """Whether a row is one that the migration may be applied to: not yet, and not too late."""
    made = row["provenance"] or {}
    at = made.get("made_at")
    return migration.mark not in (made.get("settings_sha") or "") and (before is None or at is None or at < before)


def migrated_row(
    row: Mapping[str, Any], migration: Migration, destination: Destination, tally: Tally
) -> dict[str, Any] | None:
    """The row after the migration, but for run and time; None where nothing changes in it.

    Values that nothing happens to are as they were, to the last field. What the row has cost stays with the row before.
    """
    found = row["attributes"] or []
    light = [_Light(value["name"], value["value"], value["number"], value["unit"]) for value in found]
    asked = {pair["name"]: pair["sha"] for pair in row["asked_with"] or ()}
    decision = decide(light, row["category"], migration, destination, asked)
    tally.add(row["item_id"], row["extractor"], light, decision)
    if not decision.acts:
        return None
    values = _looked_into(found, light, decision)
    done = migrate(values, row["category"], migration, destination, decision)
    as_it_was = {id(value): given for value, given in zip(values, found, strict=True)}
    return {
        **row,
        "category": done.category,
        "attributes": None
        if row["attributes"] is None
        else [as_it_was.get(id(value)) or attribute_to_row(value) for value in done.values],
        "usage": None,  # it was paid once
        "made_from": _of_kind(row["made_from"], decision),
        "asked_with": _asked_with(
            asked,
            row["category"],
            decision,
            destination,
            {value.name for value, fate in zip(light, decision.fates, strict=True) if fate.acts},
        ),
    }


def _looked_into(found: Sequence[Any], light: Sequence[_Light], decision: Decision) -> list[Any]:
    """The values in which something changes, or that something may come to; of the others no more than is known."""
    meant = {name for fate in decision.fates if fate.acts for name, _ in fate.results}
    return [
        attribute_from_row(given) if fate.acts or value.name in meant else value
        for given, value, fate in zip(found, light, decision.fates, strict=True)
    ]


def _of_kind(made_from: Sequence[Mapping[str, Any]] | None, decision: Decision) -> list[dict[str, Any]] | None:
    """What a row was made from, with the kind that it had worked under by its new name."""
    if made_from is None:
        return None
    return [
        {**one, "sha": decision.kinds[one["sha"]][0]}
        if one["name"] == CATEGORY and one["sha"] in decision.kinds
        else dict(one)
        for one in made_from
    ]


def _asked_with(
    asked: Mapping[str, str | None],
    category: str | None,
    decision: Decision,
    destination: Destination,
    changed: Collection[str],
) -> list[dict[str, str | None]] | None:
    """Which questions the answers are to: the same under new names, and none where an answer does not stand.

    A question that is the same but for names has the sha it would be asked with now, so that it is not asked again.
    `changed` are the attributes whose answers are not told as they were: those stand under the new question or not at
    all, so that nobody who asks the old one again is given them.
    """
    schema, found = destination.schema(decision.category), {}
    for name, sha in asked.items():
        new = decision.names.get(name, name)
        if new is None:
            continue
        if sha is not None and name != CATEGORY:
            step, now = decision.steps.get(name), schema.specs.get(new)
            before = [now] if now and new == name else []
            before += former_specs(now, step) if now and step else []
            shas = (
                carried(sha, (then, schema.thing, category), (now, schema.thing, decision.category))
                for then in before
                if now
            )
            carried_sha = next((one for one in shas if one is not None), None)
            if carried_sha is None and name in changed:
                continue
            sha = carried_sha or sha
        found[new] = sha
    return [{"name": name, "sha": sha} for name, sha in found.items()] or None


def _meant(batch: pa.RecordBatch, migration: Migration) -> NDArray[np.bool_]:
    """Which rows hold a name that the migration means, and were not migrated by it yet."""
    names, kinds = pa.array(list(migration.steps_of), pa.string()), pa.array(list(migration.categories), pa.string())
    meant = np.array(pc.is_in(batch.column("category"), kinds), np.bool_)
    for column, of_kinds in (("attributes", True), ("asked_with", False)):
        held: Any = batch.column(column)
        inside: Any = pc.list_flatten(held)
        parents: Any = pc.list_parent_indices(held)
        name: Any = pc.struct_field(inside, "name")
        hit: Any = pc.is_in(name, names)
        if of_kinds:
            value: Any = pc.struct_field(inside, "value")
            is_kind: Any = pc.and_(pc.equal(name, pa.scalar(CATEGORY)), pc.is_in(value, kinds))
            hit = pc.or_(hit, pc.fill_null(is_kind, False))
        meant[parents.filter(hit).to_numpy()] = True
    made_with: Any = pc.fill_null(pc.struct_field(batch.column("provenance"), "settings_sha"), "")
    return meant & ~np.array(pc.match_substring(made_with, migration.mark), np.bool_)


def _light_rows(batch: pa.RecordBatch) -> Iterator[tuple[str, str, str | None, list[_Light], list[str]]]:
    """Item, extractor, kind, values, and what was asked for, of each row."""
    held, asked = _lists(batch, "attributes", _Light._fields), _lists(batch, "asked_with", ("name",))
    columns = (batch.column(name).to_pylist() for name in ("item_id", "extractor", "category"))
    for item_id, extractor, category, values, names in zip(*columns, held, asked, strict=True):
        yield item_id, extractor, category, [_Light(*value) for value in values], [name for (name,) in names]


def _lists(batch: pa.RecordBatch, column: str, fields: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """Some fields of each entry of a list, row by row; a row without a list has none."""
    held: Any = batch.column(column)
    inside = pc.list_flatten(held)
    entries = zip(*(pc.struct_field(inside, name).to_pylist() for name in fields), strict=True)
    for n in pc.fill_null(pc.list_value_length(held), 0).to_pylist():
        yield [next(entries) for _ in range(n)]
