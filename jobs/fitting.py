"""Fit a small model by a schedule: epochs of batches of like length, a mean of the weights over the steps, checkpoints.

An epoch's order and whatever chance a loss draws come from seed and epoch alone, so that a run that was killed goes on
from its last whole epoch as if it had not been. This module knows no data, no loss and no measure.
"""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jobs.schedule import Schedule
from lore_mm.console import progress, say
from lore_mm.errors import PlanError

__all__ = ["Learner", "fit"]

_POOL = 16  # batches drawn at once, to sort by length


class Learner(Protocol):
    """What is fitted: a torch module that names its parameters with their depth."""

    def named_groups(self) -> Iterator[tuple[str, nn.Parameter, int | None]]:
        """Every parameter with its depth: layers above it in the body, None for what stands on the body."""
        ...


Model = TypeVar("Model", bound=Any)  # a torch module that is a Learner
Row = TypeVar("Row")


def fit(
    model: Model,
    rows: Callable[[int], Sequence[Row]],
    loss: Callable[[Model, Sequence[Row], torch.Generator], Tensor],
    schedule: Schedule,
    folder: Path | None,
    *,
    length: Callable[[Row], int],
    label: str = "model",
    device: str = "cpu",
    look: Callable[[Model], float] | None = None,
    identity: str = "",
) -> tuple[Model, list[dict[str, float]]]:
    """Train `model`; the trained one (the mean over the steps), and a line an epoch: loss, look, seconds.

    `rows` gives the examples of an epoch by its number, always the same for the same number and always as many; `loss`
    is that of a batch of them, with a generator for its chances, on the model's device; `length` sorts them.
    `folder` keeps the checkpoint; with the same schedule and `identity` (of data and model) a run goes on from it; None
    keeps none. `look` is shown the model after every epoch.

    Raises:
        PlanError: the folder keeps a fit of another schedule or other data.
    """
    state = _State(model.to(device), schedule, folder, identity, math.ceil(len(rows(0)) / schedule.batch))
    state.resume()
    with progress(f"train {label}", schedule.epochs * state.per_epoch, lambda: f"loss {state.loss:.3f}") as advance:
        advance(state.step)
        while state.epoch < schedule.epochs and not state.out_of_time():
            began, total, steps = time.monotonic(), 0.0, 0
            generator = torch.Generator().manual_seed(schedule.seed * 1000 + state.epoch)
            torch.manual_seed(schedule.seed * 1000 + state.epoch)
            model.train()
            some = rows(state.epoch)
            for places in _batches([length(row) for row in some], schedule, state.epoch):
                value = state.learn(loss(model, [some[i] for i in places], generator), began)
                total, steps = total + value, steps + 1
                advance(1)
            state.seconds += time.monotonic() - began
            state.epoch += 1
            line = {"epoch": state.epoch, "loss": round(total / steps, 4), "seconds": round(state.seconds, 1)}
            if look is not None:
                line["measure"] = round(look(state.best()), 4)
            state.looks.append(line)
            say(f"{label}: " + ", ".join(f"{key} {value}" for key, value in line.items()))
            state.keep()
    return state.best(), state.looks


def _batches(lengths: Sequence[int], schedule: Schedule, epoch: int) -> Iterator[list[int]]:
    """All rows once, in random order, batches of like length."""
    chance = random.Random(f"{schedule.seed} {epoch}")
    order = list(range(len(lengths)))
    chance.shuffle(order)
    size, batches = schedule.batch, []
    for start in range(0, len(order), size * _POOL):
        chunk = sorted(order[start : start + size * _POOL], key=lambda i: lengths[i])
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    chance.shuffle(batches)
    yield from batches


class _State:
    """Model, mean of weights, optimiser and place in the schedule, and their checkpoint."""

    def __init__(self, model: Any, schedule: Schedule, folder: Path | None, identity: str, per_epoch: int) -> None:
        self.model, self.schedule, self.folder, self.identity = model, schedule, folder, identity
        self.per_epoch = per_epoch
        self.steps = max(1, schedule.epochs * per_epoch)
        self.step, self.epoch, self.seconds, self.loss = 0, 0, 0.0, math.nan
        self.looks: list[dict[str, float]] = []
        self.mean = copy.deepcopy(model).eval() if schedule.mean_of_weights else None
        self.named, groups = [], []
        for name, parameter, depth in model.named_groups():
            if schedule.freeze_embeddings and name.startswith("body.embeddings."):
                parameter.requires_grad_(False)
                continue
            rate = schedule.head_rate if depth is None else schedule.rate * schedule.layer_decay**depth
            decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
            groups.append({"params": [parameter], "lr": rate, "rate": rate, "weight_decay": decay})
            self.named.append((name, parameter))
        self.optimizer = torch.optim.AdamW(groups)

    def best(self) -> Any:
        """What the fit gives: the mean of the weights, or the weights."""
        return (self.mean or self.model).eval()

    def out_of_time(self) -> bool:
        return bool(self.schedule.minutes) and self.seconds >= 60 * self.schedule.minutes

    def learn(self, loss: Tensor, began: float) -> float:
        """One step down a loss; its value."""
        done = self.step / self.steps
        if self.schedule.minutes:
            done = max(done, (self.seconds + time.monotonic() - began) / (60 * self.schedule.minutes))
        warm = max(1, int(self.schedule.warm_up * self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (self.step + 1) / warm) * max(0.0, 1 - done)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for _, p in self.named], self.schedule.clip)
        self.optimizer.step()
        self.step += 1
        if self.mean is not None:
            # early on the mean follows closely, else it would keep the untrained weights
            pull = 1 - min(self.schedule.mean_of_weights, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                for kept, new in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                    kept.lerp_(new, pull)
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * value
        return value

    def keep(self) -> None:
        """Write the checkpoint beside the last one, then put it in its place."""
        if self.folder is None:
            return
        scratch = self.folder.with_name(self.folder.name + ".partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name, model in (("weights", self.model), ("mean", self.mean)):
            if model is not None:
                tensors = {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()}
                save_file(tensors, scratch / f"{name}.safetensors")
        moments: dict[str, Tensor] = {}
        for name, parameter in self.named:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{key}:{name}"] = value.detach().cpu().contiguous()
        save_file(moments, scratch / "optimizer.safetensors")
        (scratch / "state.json").write_text(json.dumps(self._told()), encoding="utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)
        scratch.rename(self.folder)

    def _told(self) -> dict[str, Any]:
        place = {"step": self.step, "epoch": self.epoch, "seconds": self.seconds, "loss": self.loss}
        return {"recipe": _plain(self.schedule), "identity": self.identity, **place, "looks": self.looks}

    def resume(self) -> bool:
        """Take up the checkpoint of the same schedule and data, if there is one."""
        if self.folder is None:
            return False
        for folder in (self.folder, self.folder.with_name(self.folder.name + ".partial")):
            try:
                state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            same = {**state["recipe"], "minutes": 0} == {**_plain(self.schedule), "minutes": 0}
            if not same or state["identity"] != self.identity:
                raise PlanError(f"{folder} keeps a fit of other settings: name another --checkpoint, or remove it")
            self.model.load_state_dict(load_file(folder / "weights.safetensors"))
            if self.mean is not None:
                self.mean.load_state_dict(load_file(folder / "mean.safetensors"))
            moments = load_file(folder / "optimizer.safetensors")
            for name, parameter in self.named:
                kept = {k.split(":", 1)[0]: v for k, v in moments.items() if k.split(":", 1)[1] == name}
                if kept:
                    self.optimizer.state[parameter] = {
                        key: value if key == "step" else value.to(parameter.device) for key, value in kept.items()
                    }
            self.step, self.epoch, self.seconds = state["step"], state["epoch"], state["seconds"]
            self.loss, self.looks = state["loss"], state["looks"]
            say(f"{folder.name}: goes on behind epoch {self.epoch}")
            return True
        return False


def _plain(schedule: Schedule) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(asdict(schedule)))
    return made
