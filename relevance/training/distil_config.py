"""The settings of a distillation: what is learnt from, how both students are fitted, what is measured.

This module knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["CONFIG", "STUDENTS", "DistilConfig", "Fit", "Student", "moving"]

Student = Literal["cross_encoder", "bi_encoder"]
STUDENTS: tuple[Student, ...] = ("cross_encoder", "bi_encoder")
CONFIG = Path(__file__).parent / "configs" / "distil.toml"
# What may change between a killed run and the one that goes on: it moves no weight. Body and rows are told by content.
_IDLE = {
    "body",
    "out",
    "students",
    "judgments",
    "items",
    "labels",
    "mode",
    "log_every",
    "save_every",
    "resamples",
    "device",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Fit(_Part):
    """How one student is fitted. `head_rate` is the learning rate of what stands on the body, `warmup` a share."""

    epochs: float = Field(default=3.0, gt=0)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    head_rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)


class DistilConfig(_Part):
    """What `lore distil` does.

    `judgments`: files of a teacher's judgments (.parquet, .jsonl); none: those of the store. `items`: the catalogue
    with their texts; `labels`: people's grades, where there are any. `mode`: the teacher among the modes that judged.

    The loss of a pair is `label` · CE(label) + `alpha` · KL(teacher ‖ student) + `gamma` · Σ CE(level) over the
    dimensions that its query demands.
    """

    body: str = Field(default="all-minilm-l6-v2", min_length=1)  # a name of the model table, or a folder
    out: str = ""
    judgments: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    items: str | None = None
    labels: str | None = None
    mode: str | None = None
    students: Annotated[tuple[Student, ...], BeforeValidator(_listed)] = Field(default=STUDENTS, min_length=1)
    label: float = Field(default=1.0, ge=0)
    alpha: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=0.3, ge=0)
    max_length: int = Field(default=128, ge=8)  # word pieces of a pair; a longer one is left out and counted
    held_out: float = Field(default=0.2, gt=0, lt=1)  # share of the queries that are measured on and not learnt from
    cross_encoder: Fit = Fit()
    bi_encoder: Fit = Fit()
    seed: int = Field(default=0, ge=0)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    log_every: int = Field(default=10, ge=1)  # steps
    save_every: int = Field(default=200, ge=1)  # steps between checkpoints
    resamples: int = Field(default=1000, ge=0)  # of the bootstrap behind the intervals


def moving(config: DistilConfig, student: Student) -> Mapping[str, Any]:
    """The settings that move the weights of a student, as JSON has them."""
    others = {other for other in STUDENTS if other != student}
    return config.model_dump(mode="json", exclude=_IDLE | others)
