"""What a training run tells while it goes: log.jsonl, a bar, figures of rows that are not learned from.

A line of log.jsonl is one JSON object: `step` and `stage`, and each figure under its name; figures that were measured
have their interval under `intervals`. Of a run that was killed, lines behind the checkpoint it goes on from are
dropped, so that no step stands twice.

Imported only where a model is trained: transformers comes with it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lore_mm.bootstrap import Estimate
from lore_mm.console import progress, say
from relevance.training.config import Dev
from relevance.training.metrics import measure
from relevance.training.model import TrainingModel, as_chat
from relevance.training.rows import ChainRow

__all__ = ["Log", "Telling", "measured"]

_NAMES = {  # the trainer's name → ours
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "epoch": "epoch",
    "mean_token_accuracy": "token_accuracy",
    "entropy": "entropy",
}


class Log:
    """The file log.jsonl."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, step: int, stage: str, values: Mapping[str, Any]) -> None:
        """Add a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "stage": stage, **values}) + "\n")

    def forget(self, stage: str, after: int, stages: Sequence[str] = ()) -> tuple[float, float]:
        """Drop what a killed run wrote of a stage behind step `after`, of stages not in `stages`, and half a line.

        Gives the seconds and the tokens that the stage had taken by then.
        """
        if not self.path.is_file():
            return 0.0, 0.0
        kept, taken = [], (0.0, 0.0)
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said["stage"] in stages or (said["stage"] == stage and said["step"] <= after):
                kept.append(line + "\n")
                if said["stage"] == stage and "seconds" in said:
                    taken = said["seconds"], said["tokens"]
        self.path.write_text("".join(kept), encoding="utf-8")
        return taken


class Telling(TrainerCallback):
    """Writes the log, moves the bar, and measures every so many steps. `seconds` and `tokens` are those of training."""

    def __init__(
        self,
        log: Log,
        stage: str,
        stack: ExitStack,
        dev: Callable[[], dict[str, Any]],
        every: int,
        taken: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._log, self._stage, self._stack, self._dev, self._every = log, stage, stack, dev, every
        self._advance: Callable[[int], None] = lambda _: None
        self._note = ""
        self._began = self._counted = 0.0
        self.seconds, self.tokens = taken
        self.loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the bar, from where the run goes on."""
        if state.is_world_process_zero:
            bar = progress(f"sft {self._stage}", state.max_steps, lambda: self._note)
            self._advance = self._stack.enter_context(bar)
            self._advance(state.global_step)
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Write what the trainer says of its last steps, with the tokens a second."""
        logs = logs or {}
        if "loss" not in logs or not state.is_world_process_zero:
            return
        now = time.monotonic()
        took, self._began = now - self._began, now
        counted = float(logs.get("num_tokens", 0.0))  # by this process
        read, self._counted = counted - self._counted, counted
        self.seconds, self.tokens, self.loss = self.seconds + took, self.tokens + read, logs["loss"]
        values = {ours: logs[theirs] for theirs, ours in _NAMES.items() if theirs in logs}
        values |= {"tokens": self.tokens, "tokens_per_s": round(read / took, 1), "seconds": round(self.seconds, 2)}
        self._log.write(state.global_step, self._stage, values)
        self._note = f"loss {logs['loss']:.3f}, {read / took:,.0f} tokens/s"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar, and measure where it is time."""
        self._advance(1)
        due = self._every and state.global_step % self._every == 0 and state.global_step < state.max_steps
        if due and state.is_world_process_zero:
            before = time.monotonic()
            self._log.write(state.global_step, self._stage, self._dev())
            self._began += time.monotonic() - before

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove the pickle that the trainer puts into a checkpoint, and never reads."""
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "training_args.bin").unlink(missing_ok=True)


def measured(trained: TrainingModel, rows: Sequence[ChainRow], dev: Dev, seed: int, stage: str) -> dict[str, Any]:
    """The figures of the model on rows that it does not learn from: name → value, and their `intervals`."""
    before = time.monotonic()
    with as_chat(trained, dev.batch) as chat:
        found = measure(
            chat,
            rows,
            samples=dev.samples,
            temperature=dev.temperature,
            max_tokens=dev.max_tokens,
            seed=seed,
            resamples=dev.resamples,
        )
    figures: Mapping[str, Estimate] = found.metrics
    told = ", ".join(
        f"{name} {figures[name].value:.3f}" for name in ("acc_4", "macro_f1", "pass_1", "pass_8") if name in figures
    )
    say(f"{stage}: {told} on {found.rows:,} rows of dev, {time.monotonic() - before:.0f} s")
    return {
        **{name: _number(one.value) for name, one in figures.items()},
        "intervals": {name: [_number(one.low), _number(one.high)] for name, one in figures.items()},
        "dev_rows": found.rows,
    }


def _number(value: float) -> float | None:
    """JSON has no word for what is not defined."""
    return round(value, 6) if math.isfinite(value) else None
