"""`lore migrate`: a migration file over the stored attributes, so that they stand under the names of the new schema.

The newest row of every extractor, and the verdict, in which something changes is written anew: names, values and kinds
as the file says, the rest as it was, provenance `migration:<name>`. An item counts as its verdict does, as in
`jobs.extract_items`: one that had failed still has. The settings of the rows before are marked, so that no extraction
takes a migrated row for one of its own, and no migration is applied to a row twice; answers of a model stand where the
question is the same but for names (`jobs.migrate_rows`). It goes on where it stopped, and done twice it does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from extractors.calibrate import read_calibration
from jobs.carry import Carry
from jobs.extract_items import CALIBRATION
from jobs.extraction_rows import VERDICT
from jobs.migrate_changes import Tally, show_tally
from jobs.migrate_rows import Survey, is_open, migrated_row, survey
from jobs.options import SPENDING, KnowledgeFolders, StoreAddress, with_run_options
from jobs.plan import Counts, read_runs
from jobs.run_options import RunOptions
from jobs.spine import run_job
from jobs.standing import hashes
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, run, say
from lore_mm.errors import LoreError, StoreError
from lore_mm.knowledge import load_knowledge
from lore_mm.migration_checks import check_destination, is_repeatable, unknown_kinds
from lore_mm.migration_file import Migration, load_migration
from lore_mm.migrations import Destination
from lore_mm.schema import load_schemas
from lore_mm.tables import ATTRIBUTES, PROVENANCE
from stores.features import FeatureStore, open_store
from stores.streams import from_row

__all__ = ["MigrateAttributes", "Outcome", "main", "migrate_attributes"]

MAKER = "migration:"  # stands before the migration's name in the rows it made
_BATCH_ROWS = 4_096


class MigrateAttributes:
    """A migration over micro-batches of items (see `jobs.work.Work`)."""

    job = "migrate"
    table = "attributes"
    reads: tuple[str, ...] = ("attributes",)
    key: tuple[str, ...] = ("item_id",)
    verdict: Mapping[str, str] = {"extractor": VERDICT}

    def __init__(
        self, store: FeatureStore, migration: Migration, destination: Destination, before: datetime | None = None
    ) -> None:
        self.store, self.migration, self.destination, self.before = store, migration, destination, before
        self.tally = Tally(migration)
        self.settings: Mapping[str, Any] = {
            "migration": migration.sha,
            "schemas": destination.schemas.sha,
            "knowledge": destination.knowledge.sha,
            "before": before and before.isoformat(),
        }
        self.settings_sha = migration.sha
        self._seen: tuple[int, Survey] | None = None
        self._carry: Carry | None = None

    def look(self, version: int) -> Survey:
        """What it would do to a version of ATTRIBUTES; looked through once."""
        if self._seen is None or self._seen[0] != version:
            found = survey(self.store, version, self.migration, self.destination, self.before)
            self._seen = version, found
            self._carry = Carry(self.store, self.table, "item_id", ATTRIBUTES.names, version)
        return self._seen[1]

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The newest verdicts at this version of the items in which something changes."""
        return from_row(self._read(versions["attributes"], columns, rows), start)

    def _read(self, version: int, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        items = self.look(version).items
        wanted = list(columns or ATTRIBUTES.names)
        read = list(dict.fromkeys([*wanted, "item_id", "extractor"]))
        for batch in self.store.batches("attributes", read, version, rows, latest=True) if len(items) else ():
            verdicts = batch.filter(pc.equal(batch.column("extractor"), pa.scalar(VERDICT)))
            taken = np.isin(hashes(verdicts, ["item_id"]), items)
            yield verdicts.filter(pa.array(taken)).select(wanted)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """What each item was extracted from, as its verdict tells."""
        values: Any = pc.struct_field(rows.column("provenance"), "input_sha")
        return [value or "" for value in values.to_pylist()]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """All rows of each item."""
        assert self._carry is not None  # rows were read
        return self.input_shas(rows), self._carry.rows([str(one) for one in rows.column("item_id").to_pylist()])

    def process(self, rows: pa.Table, loaded: list[list[dict[str, Any]]]) -> pa.Table:
        """For each item the rows in which something changes, and its verdict, which comes last."""
        made: list[dict[str, Any]] = []
        for of_item in loaded:
            for row in sorted(of_item, key=lambda one: one["extractor"] == VERDICT):
                new = None
                if is_open(row, self.migration, self.before):
                    new = migrated_row(row, self.migration, self.destination, self.tally)
                if new is not None or row["extractor"] == VERDICT:
                    made.append({**(new or row), "provenance": self._provenance(row, self.migration.mark)})
        return pa.Table.from_pylist(made, schema=ATTRIBUTES)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Verdicts with their values as they were, and the reason."""
        why = f"{MAKER}{self.migration.name}: {error}"
        kept = [
            {**row, "status": "failed", "error": why, "provenance": self._provenance(row)} for row in rows.to_pylist()
        ]
        return pa.Table.from_pylist(kept, schema=ATTRIBUTES)

    def _provenance(self, row: Mapping[str, Any], mark: str = "") -> dict[str, Any]:
        """Who made it, by which settings; run, input and time are the spine's."""
        settings = (row["provenance"] or {}).get("settings_sha") or ""
        made = {"maker": MAKER + self.migration.name, "settings_sha": (settings or "unknown") + mark}
        return {field.name: made.get(field.name) for field in PROVENANCE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a migration. `seen`: all that it meant in the store as it stood; `done`: what this call has done."""

    counts: Counts
    seen: Survey
    done: Tally


def migrate_attributes(
    store: FeatureStore,
    migration: Migration,
    destination: Destination,
    *,
    dry_run: bool = False,
    **options: Unpack[RunOptions],
) -> Outcome:
    """Apply a migration to the stored attributes; with `dry_run` only see what would come of it, and write nothing.

    Raises:
        ConfigError: the schemas and kinds of the destination are not those that the migration leads to.
        StoreError: there are no attributes.
        PlanError: an unfinished run was of another migration, and `new_run` was not asked for.
    """
    version = store.version("attributes")
    if version is None:
        raise StoreError(f"no attributes in {store.uri} yet: lore extract")
    check_destination(migration, destination)
    if missing := unknown_kinds(migration, destination):
        say(f"migrate: {len(missing)} of its kinds are not in the knowledge tables, such as {missing[0]!r}: what would "
            "become one stays as it is")  # fmt: skip
    before = _first_applied(store, migration, bool(options.get("new_run")))
    if is_repeatable(migration, destination):
        before = None
    work = MigrateAttributes(store, migration, destination, before)
    if dry_run:
        seen = work.look(version)
        say(f"migrate: something would change in {len(seen.items):,} items; nothing was written")
        return Outcome(Counts(len(seen.items), len(seen.items)), seen, seen.tally)
    seen = work.look(version)
    options["batch_rows"] = options.get("batch_rows") or _BATCH_ROWS
    counts = run_job(store, work, **options)
    return Outcome(counts, seen, work.tally)


def _first_applied(store: FeatureStore, migration: Migration, new_run: bool) -> datetime | None:
    """When it was first applied here; a run that has not finished, and is gone on with, is not counted."""
    runs = read_runs(store, MigrateAttributes.job)
    if runs and runs[-1].finished_at is None and not new_run:
        runs.pop()
    return min((run.started_at for run in runs if run.plan.settings.get("migration") == migration.sha), default=None)


def _tell(store: FeatureStore, migration: Migration, seen: Survey) -> None:
    """What was left alone, and what else in the store speaks of the old names."""
    if seen.n_later:
        say(f"migrate: {seen.n_later:,} rows written since it was first applied are left as they are: some of its old "
            "names are names of the new schemas too, and nothing tells which are meant there")  # fmt: skip
    if seen.n_lone:
        say(f"migrate: {seen.n_lone:,} rows belong to items without a verdict and are left as they are: lore extract")
    own = store.folder / CALIBRATION if store.folder else None
    if own is None or not own.exists():
        return
    try:
        named = {entry.attribute for entry in read_calibration(own).entries} & migration.steps_of.keys()
    except LoreError:
        return
    if named:
        say(f"migrate: {CALIBRATION} was fitted for {', '.join(sorted(named))}: lore calibrate attributes, again")


@with_run_options(
    batch_rows="Items a commit: what a crash can cost. 4096 unless given.", without=(*SPENDING, "retry_failed")
)
def main(
    file: Annotated[Path, typer.Argument(help="The migration file; see docs/store.md.")],
    store: StoreAddress = None,
    schemas: Annotated[Path | None, typer.Option(help="The folder of the schemas that it leads to.")] = None,
    knowledge: KnowledgeFolders = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
    **options: Unpack[RunOptions],
) -> None:
    """Move stored attributes to a new version of their schema: rename, merge, split, drop, by a migration file.

    Prints what changed, step by step, and what stays because it cannot be decided. Nothing is guessed, no model is
    asked, and what is only renamed is not asked again by the next extraction.

    Example: lore migrate boats-2.toml --schemas new/schemas --knowledge new/knowledge --dry-run

    Then: lore extract --schemas new/schemas --knowledge new/knowledge --vlm MODEL
    """
    migration, opened = load_migration(file), open_store(store or default_store())
    destination = Destination(load_schemas((schemas,) if schemas else ()), load_knowledge(tuple(knowledge or ())))
    outcome = migrate_attributes(opened, migration, destination, dry_run=dry_run, **options)
    _tell(opened, migration, outcome.seen)
    shown = Tally(migration, outcome.done.done, outcome.seen.tally.kept)
    if for_people(json):
        show_tally(shown)
        return
    counts = asdict(outcome.counts)
    del counts["n_still_failed"]
    print_json({"migration": migration.name, "sha": migration.sha, "dry_run": dry_run, **counts, **shown.as_rows()})


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.migrate"))
