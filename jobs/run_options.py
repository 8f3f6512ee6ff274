"""How a run goes about its work: what every job takes beside its own settings. See `jobs.options` for the command line.

None of it but what is to be done (`limit`, `sample`, `retry_failed`, `batch_rows`) is part of a plan: a run may be
resumed with another cap, price or place to run.
"""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["RunOn", "RunOptions"]

RunOn = Literal["local", "ray"]


class RunOptions(TypedDict, total=False):
    """What may be said of any run; what is not said, or None, is as `jobs.spine.run_job` has it.

    batch_rows: rows a commit, 1 and more; the job's own number unless given.
    limit, sample: only the first rows, or a fixed choice by lot, 1 and more.
    retry_failed: take those again that failed before.
    new_run: give an unfinished run up and start another.
    patience: seconds without a commit after which what a worker on another machine left is taken over.
    max_tokens, max_cost: stop where a run has spent so much (`jobs.budget`); above 0.
    price: what a million tokens cost: `prompt=0.15,completion=0.6`, or a TOML file by model.
    metrics_port: serve figures for Prometheus while it runs, `PORT` or `HOST:PORT`.
    run_on, ray_address, workers: where, and by how many.
    foresee: tell what would run in the place of running it, by raising `jobs.foresee.Foreseen`.
    """

    batch_rows: int | None
    limit: int | None
    sample: int | None
    retry_failed: bool
    new_run: bool
    patience: float | None
    max_tokens: int | None
    max_cost: float | None
    price: str | None
    metrics_port: str | None
    run_on: RunOn
    ray_address: str | None
    workers: int | None
    foresee: bool
