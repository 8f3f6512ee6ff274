"""The settings of reinforcement learning: those of every run (`relevance.training.config`), and its own.

`batch` completions times `accumulation` make one step on each device: `generations` of each pair, so many pairs as
that allows. This module knows no model.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relevance.training.config import Schedule, TrainingConfig
from relevance.training.rewards import REWARDS

__all__ = ["RlConfig", "Weights"]


class Weights(BaseModel):
    """What each reward counts in the sum (`relevance.training.rewards`). `format` is a gate already."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: float = Field(default=0.0, ge=0)
    level: float = Field(default=0.6, ge=0)
    side: float = Field(default=0.2, ge=0)
    legs: float = Field(default=0.2, ge=0)
    grounded: float = Field(default=0.1, ge=0)
    length: float = Field(default=0.1, ge=0)
    overlong: float = Field(default=0.5, ge=0)

    def listed(self) -> list[float]:
        """In the order of REWARDS."""
        return [getattr(self, name) for name in REWARDS]


class RlConfig(TrainingConfig):
    """GRPO (Shao et al. 2024) with the loss and the clipping of DAPO (Yu et al. 2025, arXiv 2503.14476), no KL.

    A group whose share of right answers is outside of `window` teaches nothing. `prefilter` samples of every row, asked
    of the model before it learns, keep the rows that it gets right sometimes and not always (0: all are kept).
    `balance`: each step has as many pairs of every label. A completion has at most `max_completion` tokens, the last
    `slack` of which cost; one that is cut off teaches nothing with `mask_truncated`. `iterations` over the same
    completions; `share_prompts`: a pair's prompt is read once for all of its completions, which is the same and
    cheaper (one process, text only). `vllm`: auto is where it is installed and there is a GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=200, ge=1)
    generations: int = Field(default=8, ge=2)
    accumulation: int = Field(default=8, ge=1)
    iterations: int = Field(default=1, ge=1)
    max_completion: int = Field(default=192, ge=8)
    slack: int = Field(default=32, ge=0)
    mask_truncated: bool = True
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    epsilon_high: float = Field(default=0.28, gt=0)
    beta: float = Field(default=0.0, ge=0)
    scale_rewards: Literal["group", "batch", "none"] = "group"
    window: tuple[float, float] = (0.01, 0.9)
    prefilter: int = Field(default=0, ge=0)
    balance: bool = True
    weights: Weights = Weights()
    share_prompts: bool = True
    vllm: Literal["auto", "yes", "no"] = "auto"
    vllm_memory: float = Field(default=0.3, gt=0, lt=1)  # share of the GPU's
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Schedule = "constant"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    log_every: int = Field(default=1, ge=1)
    save_every: int = Field(default=50, ge=1)

    @property
    def pairs(self) -> int:
        """Pairs a step on each device."""
        return self.batch * self.accumulation // self.generations

    @model_validator(mode="after")
    def _legal(self) -> RlConfig:
        if self.batch * self.accumulation % self.generations:
            raise ValueError(
                f"batch {self.batch} x accumulation {self.accumulation} completions are no whole number of groups of "
                f"{self.generations}"
            )
        low, high = self.window
        if not 0 <= low <= high <= 1:
            raise ValueError(f"window {low} to {high}: legal are two shares in [0, 1], the lower first")
        if self.slack > self.max_completion:
            raise ValueError(f"slack {self.slack} is more than max_completion {self.max_completion}")
        if self.max_completion >= self.max_length:
            raise ValueError(f"max_completion {self.max_completion} leaves no room for a prompt in {self.max_length}")
        if not any(self.weights.listed()):
            raise ValueError("weights are all 0: there is nothing to learn")
        return self
