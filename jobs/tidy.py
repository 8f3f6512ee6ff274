"""What is done about small files when a job ends, and which versions of a store unfinished runs still read.

A job commits every micro-batch, and each commit leaves a file. Where they have become many they are merged once the
work is done, so that the next to open the table does not read thousands. It never fails the job.
"""

from __future__ import annotations

from jobs.plan import Run, read_runs
from jobs.workers import is_gone
from lore_mm.console import say
from lore_mm.errors import LoreError
from stores.compact import compact, foreseen
from stores.features import FeatureStore

__all__ = ["tidy", "unfinished_runs"]

_MANY = 1_000  # small files


def tidy(store: FeatureStore, *tables: str) -> None:
    """Merge the small files of these tables where they are many; what goes wrong is said, and left as it was."""
    for table in tables:
        try:
            would = foreseen(store, table)
            if would.files_before - would.files >= _MANY:
                done = compact(store, table)
                say(f"{table}: {done.files_before:,} files merged into {done.files:,}")
        except (LoreError, OSError) as error:
            say(f"{table} keeps its small files ({error}); lore compact merges them")


def unfinished_runs(store: FeatureStore) -> list[Run]:
    """The runs that may still go on, and so read the versions that they pinned.

    Of the runs of one job over one table that is the newest, until it has finished; of those that ran beside others,
    and are never resumed, each of which not every worker is known to have ended.
    """
    newest = {run.plan.place: run for run in read_runs(store) if run.plan.number}
    beside = [run for run in read_runs(store) if not run.plan.number and not all(map(is_gone, run.workers))]
    return [run for run in (*newest.values(), *beside) if run.finished_at is None]
