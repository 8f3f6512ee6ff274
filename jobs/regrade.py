"""`lore regrade`: stored judgments graded by another rulebook, from their paths, without a model.

It takes every judgment whose grade is what a rulebook made of its path (`relevance.regrade.GRADED_BY_RULES`) and was
not made by this one, and writes it anew under the same keys: grade, probabilities, score, levels, rules, failed
dimensions. The row then carries the very settings of the judge that has this rulebook, so that `jobs.judge_pairs` with
it does not judge again what has not changed otherwise. Grades that are a model's own are left alone, and counted. It
goes on where it stopped, and done twice it does nothing. This module does not know what rules say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Unpack

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import typer

from jobs.options import SPENDING, StoreAddress, with_run_options
from jobs.plan import Counts
from jobs.regrade_changes import REGRADED, Changes, show_changes
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, run, say
from lore_mm.errors import StoreError
from lore_mm.tables import JUDGMENTS, PROVENANCE
from relevance.protocol import sha_with_rulebook
from relevance.regrade import GRADED_BY_RULES, regrade
from relevance.rules import Rulebook, load_rulebook
from stores.features import FeatureStore, open_store
from stores.streams import from_row

__all__ = ["Outcome", "RegradeJudgments", "main", "regrade_judgments"]

_BATCH_ROWS = 16_384


class RegradeJudgments:
    """A rulebook over micro-batches of stored judgments (see `jobs.work.Work`)."""

    job = "regrade"
    table = "judgments"
    reads: tuple[str, ...] = ("judgments",)
    key: tuple[str, ...] = ("query_id", "item_id", "mode")
    verdict: Mapping[str, str] = {}

    def __init__(self, store: FeatureStore, rulebook: Rulebook) -> None:
        self.store, self.rulebook, self.changes = store, rulebook, Changes()
        self.settings: Mapping[str, Any] = {"rulebook": rulebook.sha}
        self.settings_sha = rulebook.sha

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The newest judgments at this version that are to be graded again."""
        return from_row(self._read(versions, columns, rows), start)

    def _read(self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        wanted = list(columns or JUDGMENTS.names)
        read = list(dict.fromkeys([*wanted, "mode", "status", "provenance"]))
        for batch in self.store.batches("judgments", read, versions["judgments"], rows, latest=True):
            kinds: list[Any] = [batch.column("mode").to_pylist(), batch.column("status").to_pylist()]
            kinds.append(_part(batch, "settings_sha"))
            taken = [self.why_not(*kind) is None for kind in zip(*kinds, strict=True)]
            yield batch.filter(pa.array(taken, pa.bool_())).select(wanted)

    def why_not(self, mode: str | None, status: str | None, settings_sha: str) -> str | None:
        """Why a judgment is left as it is; None where it is to be graded again."""
        if mode not in GRADED_BY_RULES:
            return f"mode {mode}: the grade is the model's own, not the rulebook's"
        if status != "ok":
            return "it could not be judged and has no path"
        if settings_sha == sha_with_rulebook(settings_sha, self.rulebook.sha):
            return "graded by this rulebook already"
        return None

    def left_alone(self) -> dict[str, int]:
        """Reason → how many of the newest judgments are not graded again."""
        sha = pl.col("provenance").struct.field("settings_sha").fill_null("")
        found: dict[str, int] = {}
        for *kind, n in self.store.latest("judgments").group_by("mode", "status", sha).len().collect().iter_rows():
            if (reason := self.why_not(*kind)) is not None:
                found[reason] = found.get(reason, 0) + int(n)
        return dict(sorted(found.items()))

    def input_shas(self, rows: pa.Table) -> list[str]:
        """What each path was made from, as its row tells."""
        return _part(rows, "input_sha")

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The rows are all that is needed."""
        return self.input_shas(rows), [None] * rows.num_rows

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """The same judgments graded by the rulebook; one that it cannot grade has no grade, and the reason."""
        result = regrade(rows, self.rulebook)
        made = self._stamped(result.rows, result.refused)
        self.changes.add(rows, made)
        return made

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Judgments without a grade, with the reason."""
        columns: dict[str, Any] = {
            "grade": None,
            "probabilities": None,
            "score": None,
            "failed_dimensions": [],
            "rule_ids": [],
        }
        blank = pa.Table.from_pylist([{**row, **columns} for row in rows.to_pylist()], rows.schema)
        return self._stamped(blank, dict.fromkeys(range(rows.num_rows), error))

    def _stamped(self, rows: pa.Table, errors: Mapping[int, str]) -> pa.Table:
        """Status and error, and a provenance that says what the row is: run, input and time are the spine's."""
        n = rows.num_rows
        makers = [REGRADED + maker.removeprefix(REGRADED) for maker in _part(rows, "maker")]
        shas = [sha_with_rulebook(sha, self.rulebook.sha) for sha in _part(rows, "settings_sha")]
        known: dict[str, Any] = {"maker": pa.array(makers, pa.string()), "settings_sha": pa.array(shas, pa.string())}
        parts = [known.get(field.name, pa.nulls(n, field.type)) for field in PROVENANCE]
        columns: dict[str, Any] = {
            "status": pa.array(["failed" if i in errors else "ok" for i in range(n)], pa.string()),
            "error": pa.array([errors.get(i) for i in range(n)], pa.string()),
            "provenance": pa.StructArray.from_arrays(parts, fields=list(PROVENANCE)),
        }
        for name, column in columns.items():
            rows = rows.set_column(rows.schema.get_field_index(name), JUDGMENTS.field(name), column)
        return rows


def _part(rows: pa.Table | pa.RecordBatch, name: str) -> list[str]:
    """A text of the provenance; empty where there is none."""
    values: Any = pc.struct_field(rows.column("provenance"), name)
    return [value or "" for value in values.to_pylist()]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a regrade. `left_alone`: reason → judgments that were not graded again."""

    counts: Counts
    left_alone: Mapping[str, int]
    changes: Changes


def regrade_judgments(
    store: FeatureStore, rulebook: Rulebook, *, dry_run: bool = False, **options: Unpack[RunOptions]
) -> Outcome:
    """Grade the stored judgments by a rulebook; with `dry_run` only see what would come of it, and write nothing.

    Raises:
        StoreError: there are no judgments.
        PlanError: an unfinished regrade was by another rulebook, and `new_run` was not asked for.
    """
    version = store.version("judgments")
    if version is None:
        raise StoreError(f"no judgments in {store.uri} yet: lore judge-pairs --top 20")
    work = RegradeJudgments(store, rulebook)
    left_alone = work.left_alone()
    batch_rows = options["batch_rows"] = options.get("batch_rows") or _BATCH_ROWS
    if not dry_run:
        counts = run_job(store, work, **options)
        return Outcome(counts, left_alone, work.changes)
    n_failed = n = 0
    for batch in work.read({"judgments": version}, None, batch_rows):
        made = work.process(pa.Table.from_batches([batch]), [])
        n, n_failed = n + made.num_rows, n_failed + made.column("error").drop_null().length()
    say(f"regrade: {n - n_failed} would be graded, {n_failed} could not; nothing was written")
    return Outcome(Counts(n, n - n_failed, n_failed), left_alone, work.changes)


@with_run_options(
    batch_rows="Rows a commit; 16384 unless given.", without=(*SPENDING, "limit", "sample", "retry_failed")
)
def main(
    rules: Annotated[Path | None, typer.Option("--rules", help="The rulebook; the shipped one unless given.")] = None,
    store: StoreAddress = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
    **options: Unpack[RunOptions],
) -> None:
    """Grade the judgments of a store by a changed rulebook, from their stored paths, without a model.

    Prints what changed: grades from and to, the rules that did it, and examples. Judgments of modes whose grade is the
    model's own (direct, student) are left alone, and counted.

    Example: lore regrade --rules my-rules.toml --dry-run
    """
    rulebook = load_rulebook(rules)
    outcome = regrade_judgments(open_store(store or default_store()), rulebook, dry_run=dry_run, **options)
    for reason, n in outcome.left_alone.items():
        say(f"regrade: {n} left as they are: {reason}")
    if for_people(json):
        show_changes(outcome.changes)
        return
    counts = asdict(outcome.counts)
    del counts["n_still_failed"]
    ruled = {"rulebook": rulebook.sha, "rulebook_version": rulebook.version, "dry_run": dry_run}
    print_json({**ruled, **counts, "left_alone": outcome.left_alone, **outcome.changes.as_row()})


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.regrade"))
