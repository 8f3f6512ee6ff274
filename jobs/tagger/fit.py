"""Train one tagger by a recipe: epochs of batches of like length, a mean of the weights over the steps, checkpoints.

An epoch's order, masks and dropout are drawn from seed and epoch alone, so that a run that was killed goes on from its
last whole epoch as if it had not been. This module knows nothing of files of queries, nor of how a tagger is measured.
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
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from jobs.tagger.learner import IGNORED, Batch, Encoded, TaggerModel, collate, masked
from jobs.tagger.recipe import Recipe
from lore_mm.console import progress, say
from lore_mm.errors import PlanError

__all__ = ["fit", "loss_of"]

_POOL = 16  # batches drawn at once, to sort by length


def fit(
    model: TaggerModel,
    rows: Callable[[int], Sequence[Encoded]],
    recipe: Recipe,
    folder: Path,
    *,
    label: str = "tagger",
    mask_id: int = 103,
    device: str = "cpu",
    look: Callable[[TaggerModel], float] | None = None,
    identity: str = "",
) -> tuple[TaggerModel, list[dict[str, float]]]:
    """Train `model`; the trained one (the mean over the steps), and a line an epoch: loss, look, seconds.

    `rows` gives the examples of an epoch by its number, always the same for the same number and always as many.
    `folder` keeps the checkpoint; with the same recipe and `identity` (of data and model) a run goes on from it.
    `look` is shown the model after every epoch.

    Raises:
        PlanError: the folder keeps a fit of another recipe or other data.
    """
    state = _State(model.to(device), recipe, folder, identity, math.ceil(len(rows(0)) / recipe.batch))
    state.resume()
    with progress(f"train {label}", recipe.epochs * state.per_epoch, lambda: f"loss {state.loss:.3f}") as advance:
        advance(state.step)
        while state.epoch < recipe.epochs and not state.out_of_time():
            began, total, steps = time.monotonic(), 0.0, 0
            generator = torch.Generator().manual_seed(recipe.seed * 1000 + state.epoch)
            torch.manual_seed(recipe.seed * 1000 + state.epoch)
            model.train()
            some = rows(state.epoch)
            for places in _batches(some, recipe, state.epoch):
                batch = masked(collate([some[i] for i in places], device), recipe.word_drop, mask_id, generator)
                total, steps = total + state.learn(batch, began), steps + 1
                advance(1)
            state.seconds += time.monotonic() - began
            state.epoch += 1
            line = {"epoch": state.epoch, "loss": round(total / steps, 4), "seconds": round(state.seconds, 1)}
            if look is not None:
                line["f1"] = round(look(state.best()), 4)
            state.looks.append(line)
            say(f"{label}: " + ", ".join(f"{key} {value}" for key, value in line.items()))
            state.keep()
    return state.best(), state.looks


def loss_of(model: TaggerModel, batch: Batch, recipe: Recipe) -> Tensor:
    """The mean over words of cross-entropy to the labels and divergence from the teachers."""
    logits = model(batch)
    loss = _to_targets(logits, batch, recipe)
    if recipe.agreement:
        again = model(batch)
        there = batch.labels != IGNORED
        one, two = logits[there].log_softmax(-1), again[there].log_softmax(-1)
        apart = kl_div(one, two, log_target=True, reduction="batchmean")
        apart = apart + kl_div(two, one, log_target=True, reduction="batchmean")
        loss = 0.5 * (loss + _to_targets(again, batch, recipe)) + 0.5 * recipe.agreement * apart
    return loss


def _to_targets(logits: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    labelled, taught = batch.labels != IGNORED, batch.taught
    hard = cross_entropy(
        logits.flatten(0, 1),
        batch.labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=recipe.smoothing,
        reduction="none",
    ).view_as(batch.labels)
    words = (labelled | taught).sum().clamp(min=1)
    if batch.soft is None:
        return hard.sum() / words
    warmth = recipe.temperature
    target = (batch.soft / warmth).log_softmax(-1)
    soft = kl_div((logits / warmth).log_softmax(-1), target, log_target=True, reduction="none").sum(-1) * warmth**2
    weight = torch.where(taught, recipe.gold, 1.0)
    soft_weight = torch.where(labelled, 1 - recipe.gold, 1.0) * taught
    return (weight * labelled * hard + soft_weight * soft).sum() / words


def _batches(rows: Sequence[Encoded], recipe: Recipe, epoch: int) -> Iterator[list[int]]:
    """All rows once, in random order, batches of like length."""
    chance = random.Random(f"{recipe.seed} {epoch}")
    order = list(range(len(rows)))
    chance.shuffle(order)
    size, batches = recipe.batch, []
    for start in range(0, len(order), size * _POOL):
        chunk = sorted(order[start : start + size * _POOL], key=lambda i: len(rows[i].ids))
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    chance.shuffle(batches)
    yield from batches


class _State:
    """Model, mean of weights, optimiser and place in the schedule, and their checkpoint."""

    def __init__(self, model: TaggerModel, recipe: Recipe, folder: Path, identity: str, per_epoch: int) -> None:
        self.model, self.recipe, self.folder, self.identity = model, recipe, folder, identity
        self.per_epoch = per_epoch
        self.steps = max(1, recipe.epochs * per_epoch)
        self.step, self.epoch, self.seconds, self.loss = 0, 0, 0.0, math.nan
        self.looks: list[dict[str, float]] = []
        self.mean = copy.deepcopy(model).eval() if recipe.mean_of_weights else None
        self.named, groups = [], []
        for name, parameter, depth in model.named_groups():
            if recipe.freeze_embeddings and name.startswith("body.embeddings."):
                parameter.requires_grad_(False)
                continue
            rate = recipe.head_rate if depth is None else recipe.rate * recipe.layer_decay**depth
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.append({"params": [parameter], "lr": rate, "rate": rate, "weight_decay": decay})
            self.named.append((name, parameter))
        self.optimizer = torch.optim.AdamW(groups)

    def best(self) -> TaggerModel:
        """What the fit gives: the mean of the weights, or the weights."""
        return (self.mean or self.model).eval()

    def out_of_time(self) -> bool:
        return bool(self.recipe.minutes) and self.seconds >= 60 * self.recipe.minutes

    def learn(self, batch: Batch, began: float) -> float:
        """One step; the loss."""
        done = self.step / self.steps
        if self.recipe.minutes:
            done = max(done, (self.seconds + time.monotonic() - began) / (60 * self.recipe.minutes))
        warm = max(1, int(self.recipe.warm_up * self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (self.step + 1) / warm) * max(0.0, 1 - done)
        loss = loss_of(self.model, batch, self.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for _, p in self.named], self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        if self.mean is not None:
            # early on the mean follows closely, else it would keep the untrained weights
            pull = 1 - min(self.recipe.mean_of_weights, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                for kept, new in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                    kept.lerp_(new, pull)
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * value
        return value

    def keep(self) -> None:
        """Write the checkpoint beside the last one, then put it in its place."""
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
        return {"recipe": _plain(self.recipe), "identity": self.identity, **place, "looks": self.looks}

    def resume(self) -> bool:
        """Take up the checkpoint of the same recipe and data, if there is one."""
        for folder in (self.folder, self.folder.with_name(self.folder.name + ".partial")):
            try:
                state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            same = {**state["recipe"], "minutes": 0} == {**_plain(self.recipe), "minutes": 0}
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


def _plain(recipe: Recipe) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return made
