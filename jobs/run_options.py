"""How a run goes about its work: what every job takes beside its own settings."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["RunOptions"]


class RunOptions(TypedDict, total=False):
    """What may be said of any run; `jobs.spine.run_job` tells what each means."""

    batch_rows: int | None
    limit: int | None
    sample: int | None
    retry_failed: bool
    new_run: bool
    patience: float
