"""Fit a student by the trainers of sentence-transformers: checkpoints, a log, and what stops a run.

A run that was killed goes on from its last whole checkpoint as if it had not been: the trainer's own checkpoint, the
heads that stand outside of the model, and a file that says of what run it is, written last. This module knows no
measure.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from lore_mm.console import progress, say
from lore_mm.errors import ModelError, PlanError
from relevance.training.distil_config import Fit
from relevance.training.distil_models import LostLoss, target_of
from relevance.training.distil_rows import TaughtPair

__all__ = ["HEADS", "Plan", "Run", "fit"]

HEADS = "heads.safetensors"
_MARK = "distil.json"  # in a checkpoint that is whole: the run it is of
_ORDINAL = 30  # times the rate of the heads: the five numbers of the ordinal model are larger than weights
_TRAINERS: Mapping[str, tuple[Any, Any]] = {
    "cross_encoder": (CrossEncoderTrainer, CrossEncoderTrainingArguments),
    "bi_encoder": (SentenceTransformerTrainer, SentenceTransformerTrainingArguments),
}
Plan = Mapping[str, str]  # what moves the weights → its sha


@dataclass(frozen=True)
class Run:
    """What a fit is told beside model, loss and rows. `folder` is where checkpoints and log are kept."""

    student: str
    fit: Fit
    plan: Plan
    folder: Path
    seed: int
    device: str
    log_every: int
    save_every: int

    @property
    def checkpoints(self) -> Path:
        """Where the trainer puts its checkpoints."""
        return self.folder / "checkpoints" / self.student

    @property
    def log(self) -> Path:
        """One JSON object a line: step, stage, name → value."""
        return self.folder / "log.jsonl"


def fit(model: Any, loss: nn.Module, pairs: Sequence[TaughtPair], run: Run, heads: nn.Module | None = None) -> None:
    """Train `model` (and `heads`, which `loss` holds) in place; a run that was killed goes on.

    Raises:
        PlanError: the checkpoints are of another run; it says what differs.
        ModelError: the loss is no number; the batch is kept beside the checkpoints.
    """
    trainer_of, arguments_of = _TRAINERS[run.student]
    rows = {"query": [p.query for p in pairs], "item": [p.item for p in pairs], "label": [target_of(p) for p in pairs]}
    last = _last(run)
    model.model_card_data.generate_widget_examples = False
    model.model_card_data.widget = [{"text": ""}]  # none is drawn from the rows
    trainer = trainer_of(
        model=model, args=arguments_of(**_arguments(run)), train_dataset=Dataset.from_dict(rows), loss=loss
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(trainer.model_card_callback_class)
    if last is not None:
        say(f"{run.student}: goes on behind step {_step(last)}")
        if heads is not None:
            heads.load_state_dict(load_file(last / HEADS))
    _forget(run, 0 if last is None else _step(last))
    total = _steps(len(pairs), run.fit)
    state = _Look(run, heads)
    with progress(f"distil {run.student}", total, state.note) as state.advance:
        state.advance(0 if last is None else _step(last))
        trainer.add_callback(state)
        try:
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        except LostLoss as lost:
            kept = run.checkpoints / "lost-batch.json"
            kept.parent.mkdir(parents=True, exist_ok=True)
            told = {"step": trainer.state.global_step, "loss": lost.parts, "pairs": lost.texts}
            kept.write_text(json.dumps(told, ensure_ascii=False, default=str, indent=1) + "\n", encoding="utf-8")
            raise ModelError(f"{run.student}, step {told['step']}: {lost}; its pairs: {kept}") from None


def _steps(rows: int, fit: Fit) -> int:
    return max(1, round(fit.epochs * -(-rows // fit.batch)))


def _arguments(run: Run) -> dict[str, Any]:
    rates = {r"^model\.[2-9]\.": run.fit.head_rate}  # modules on the body
    if run.student == "bi_encoder":
        rates = {r"^heads\.": run.fit.head_rate, r"^heads\.(slope|cut|gaps)$": _ORDINAL * run.fit.head_rate}
    return {
        "output_dir": str(run.checkpoints),
        "num_train_epochs": run.fit.epochs,
        "per_device_train_batch_size": run.fit.batch,
        "learning_rate": run.fit.learning_rate,
        "learning_rate_mapping": rates,
        "warmup_steps": run.fit.warmup,
        "weight_decay": run.fit.weight_decay,
        "save_strategy": "steps",
        "save_steps": run.save_every,
        "save_total_limit": 2,  # the newest may lack its mark
        "logging_steps": run.log_every,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": run.seed,
        "use_cpu": run.device == "cpu",
        "dataloader_pin_memory": run.device != "cpu",
    }


class _Look(TrainerCallback):
    """Writes the log, moves the bar, completes checkpoints."""

    def __init__(self, run: Run, heads: nn.Module | None) -> None:
        self.run, self.heads, self.loss = run, heads, ""
        self.advance: Any = None

    def note(self) -> str:
        return self.loss

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        told = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in told:
            self.loss = f"loss {told['loss']:.3f}"
        line = {"step": state.global_step, "stage": self.run.student, **told}
        with self.run.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        folder = self.run.checkpoints / f"checkpoint-{state.global_step}"
        if self.heads is not None:
            tensors = {name: one.detach().cpu().contiguous() for name, one in self.heads.state_dict().items()}
            save_file(tensors, folder / HEADS)
        (folder / _MARK).write_text(json.dumps(dict(self.run.plan)), encoding="utf-8")


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _last(run: Run) -> Path | None:
    """The newest whole checkpoint of this run; what a kill left half-made is removed.

    Raises:
        PlanError: it is of another run.
    """
    for folder in sorted(run.checkpoints.glob("checkpoint-*"), key=_step, reverse=True):
        try:
            found = json.loads((folder / _MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        if other := [name for name, sha in run.plan.items() if found.get(name) != sha]:
            raise PlanError(f"{folder} is of another run ({', '.join(other)} differ): name another --out, or remove it")
        return folder
    return None


def _forget(run: Run, step: int) -> None:
    """Take from the log what will be done again."""
    if not run.log.is_file():
        return
    lines = run.log.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not _again(line, run.student, step)]
    run.log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _again(line: str, student: str, step: int) -> bool:
    try:
        told = json.loads(line)
    except ValueError:  # a line cut by a kill
        return True
    return bool(told.get("stage") == student and told.get("step", 0) > step)
