"""What a run of reinforcement learning tells while it goes: rewards, groups, lengths, and some of what was written.

Imported only where a model is trained: transformers comes with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lore_mm.console import progress
from relevance.training.log import Log

__all__ = ["Rollouts"]

_STAGE = "rl"
_NAMES = {  # the trainer's name → ours; rewards/NAME/mean and groups/NAME are taken as they come
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "reward": "reward",
    "reward_std": "reward_std",
    "step_time": "step_seconds",
    "completions/mean_length": "tokens_mean",
    "completions/max_length": "tokens_max",
    "completions/clipped_ratio": "cut_off",
    "clip_ratio/low_mean": "clipped_low",
    "clip_ratio/high_mean": "clipped_high",
    "sampling/sampling_logp_difference/mean": "sampler_difference",
}
_TAKEN = ("rewards/", "groups/")


class Rollouts(TrainerCallback):
    """Writes the log and a completion of every group, moves the bar, and measures every so many steps.

    `seconds` are those of training.
    """

    def __init__(
        self,
        log: Log,
        samples: Path,
        trainer: Any,
        stack: ExitStack,
        dev: Callable[[], dict[str, Any]],
        every: int,
    ) -> None:
        self._log, self._samples, self._trainer, self._stack = log, samples, trainer, stack
        self._dev, self._every = dev, every
        self._advance: Callable[[int], None] = lambda _: None
        self._note, self._began, self.seconds = "", 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the bar, from where the run goes on."""
        if state.is_world_process_zero:
            self._advance = self._stack.enter_context(progress("rl", state.max_steps, lambda: self._note))
            self._advance(state.global_step)
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Write what the trainer says of its last steps, and what the model wrote in the last."""
        logs = logs or {}
        if "reward" not in logs or not state.is_world_process_zero:
            return
        values = {ours: logs[theirs] for theirs, ours in _NAMES.items() if theirs in logs}
        values |= {name.removesuffix("/mean"): one for name, one in logs.items() if name.startswith(_TAKEN)}
        values = {name: float(one) for name, one in values.items() if not name.endswith("/std")}
        now = time.monotonic()
        self.seconds, self._began = self.seconds + now - self._began, now
        self._log.write(state.global_step, _STAGE, values)
        right, length = values.get("groups/right", 0.0), values.get("tokens_mean", 0.0)
        self._note = f"reward {values['reward']:.3f}, right {right:.2f}, {length:.0f} tokens"
        written = self._trainer.written()
        with self._samples.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"step": state.global_step, **one}, ensure_ascii=False) + "\n" for one in written
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar, and measure where it is time."""
        self._advance(1)
        due = self._every and state.global_step % self._every == 0 and state.global_step < state.max_steps
        if due and state.is_world_process_zero:
            before = time.monotonic()
            self._log.write(state.global_step, _STAGE, self._dev())
            self._began += time.monotonic() - before
