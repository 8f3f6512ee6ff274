"""Train connector and LoRA within a budget of minutes: the connector from its closed form, then both together.

Batches are drawn by step number and seed alone, so that a run that was killed goes on as if it had not been. What is
kept every few minutes is whole or not there. This module knows nothing of where subjects come from or how a model is
measured in the end.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from jobs.vlm.closed_form import Moments, connector_of, word_targets
from jobs.vlm.instructions import Instruction, compact_prompt, instruction, reply_of, word_instruction
from jobs.vlm.learner import Example, Learner
from jobs.vlm.subjects import Subject
from lore_mm.console import progress, say
from lore_mm.errors import PlanError

__all__ = ["STARTS", "Recipe", "Seen", "closed_form", "fit"]

STARTS = ("closed form", "random")  # of the connector, where no trained weights are gone on from
_KEEP_S = 120  # between checkpoints
_LOOK_S = 600  # between looks at the validation subjects
_LOOKS = 24  # validation subjects of a source


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a training run; a checkpoint of other settings is refused, but for the minutes."""

    minutes: float = 60.0  # more of them than a finished run had, and it goes on
    batch: int = 16
    pool: int = 8  # batches drawn at once, to sort by length
    connector_alone: float = 0.1  # share of the time before the LoRA moves too
    connector_rate: float = 4e-4
    lora_rate: float = 6e-4
    warm_up: int = 30  # steps
    decay: float = 0.01
    ridge: float = 0.01  # of the closed form; see jobs.vlm.closed_form
    words: float = 0.15  # share of made-up titles without a picture
    sources: tuple[tuple[str, float], ...] = (("clothing", 0.4), ("grocery", 0.4), ("luma", 0.2))
    start: str = "closed form"  # of the connector; "random", or the folder of trained weights to go on from
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """Subjects of one part with the features of their pictures, float16 (n, picture tokens, 6144)."""

    subjects: Sequence[Subject]
    features: NDArray[np.float16]

    def part(self, name: str) -> Seen:
        """Those of one part: train, validation or test."""
        places = [i for i, subject in enumerate(self.subjects) if subject.part == name]
        return Seen([self.subjects[i] for i in places], self.features[places])


def closed_form(learner: Learner, train: Seen, strength: float) -> None:
    """Set the connector by ridge regression to the words for what each picture shows."""
    embeddings = learner.embeddings.detach().cpu()
    targets = word_targets([s.shown for s in train.subjects], learner.tokenizer, embeddings)
    moments = Moments.empty(train.features.shape[-1], embeddings.shape[1])
    moments.add(train.features, targets)
    length = float((embeddings - embeddings.mean(dim=0)).norm(dim=1).mean())
    with torch.no_grad():
        learner.connector.weight.copy_(connector_of(moments, targets, strength, length))


def _start(learner: Learner, train: Seen, recipe: Recipe) -> None:
    if recipe.start == "closed form":
        closed_form(learner, train, recipe.ridge)
    elif recipe.start != "random":
        learner.load(Path(recipe.start))


def fit(learner: Learner, seen: Seen, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train until the recipe's minutes are used up; what came of it: steps, examples, seconds, validation looks.

    `folder` holds the checkpoint; a run with the same recipe goes on from it.
    """
    train, validation = seen.part("train"), seen.part("validation")
    draw = _Draw(train, recipe)
    looks = _looks(learner, validation)
    state = _State(learner, recipe, folder)
    if not state.resume():
        _start(learner, train, recipe)
        say(f"starts from: {recipe.start}; right replies {_look(learner, looks)}")
    budget = recipe.minutes * 60
    with progress("train lore-vlm-tiny", int(budget), lambda: f"step {state.step} loss {state.loss:.3f}") as advance:
        advance(int(state.seconds))
        kept = looked = state.seconds
        pool: list[list[Example]] = []
        while state.seconds < budget:
            began = time.monotonic()
            if not pool:
                pool = [[learner.encode(one, f) for one, f in rows] for rows in draw.batches(state.step)]
                pool = _by_length(pool, state.step)
            before = int(state.seconds)
            state.learn(pool.pop(), state.seconds / budget)
            state.seconds += time.monotonic() - began
            advance(int(state.seconds) - before)
            if state.seconds - kept > _KEEP_S:
                kept = state.seconds
                state.keep()
            if state.seconds - looked > _LOOK_S:
                looked = state.seconds
                state.looks.append({"step": state.step, "seconds": round(state.seconds), **_look(learner, looks)})
                say(f"step {state.step}, loss {state.loss:.3f}: right replies {state.looks[-1]}")
    state.looks.append({"step": state.step, "seconds": round(state.seconds), **_look(learner, looks)})
    state.keep()
    return {
        "steps": state.step,
        "examples": state.step * recipe.batch,
        "seconds": round(state.seconds),
        "looks": state.looks,
    }


class _State:
    """Optimiser, step and time, and their checkpoint."""

    def __init__(self, learner: Learner, recipe: Recipe, folder: Path) -> None:
        self.learner, self.recipe, self.folder = learner, recipe, folder
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        self.looks: list[dict[str, Any]] = []
        self.named = learner.trained()
        connector, lora = (
            [p for n, p in self.named if n == "connector.weight"],
            [p for n, p in self.named if n != "connector.weight"],
        )
        self.optimizer = torch.optim.AdamW(
            [{"params": connector, "rate": recipe.connector_rate}, {"params": lora, "rate": recipe.lora_rate}],
            lr=recipe.lora_rate,
            weight_decay=recipe.decay,
        )

    def learn(self, batch: Sequence[Example], done: float) -> None:
        """One step; `done`: the share of the budget that is used up."""
        alone = self.recipe.start in STARTS and done < self.recipe.connector_alone
        for name, parameter in self.named:
            if name != "connector.weight":
                parameter.requires_grad_(not alone)
        slope = min(1.0, (self.step + 1) / self.recipe.warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * max(slope, 0.02)
        loss = self.learner.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for _, p in self.named if p.grad is not None], 1.0)
        self.optimizer.step()
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * value
        self.step += 1

    def keep(self) -> None:
        """Write the checkpoint beside the last one, then put it in its place."""
        scratch = self.folder.with_name(self.folder.name + ".partial")
        shutil.rmtree(scratch, ignore_errors=True)
        self.learner.save(scratch, torch.float32)
        moments: dict[str, torch.Tensor] = {}
        for name, parameter in self.named:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{key}:{name}"] = value.detach().cpu().contiguous()
        save_file(moments, scratch / "optimizer.safetensors")
        state = {"recipe": _plain(self.recipe), "step": self.step, "seconds": self.seconds, "loss": self.loss}
        (scratch / "state.json").write_text(json.dumps(state | {"looks": self.looks}), encoding="utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)
        scratch.rename(self.folder)

    def resume(self) -> bool:
        """Take up the checkpoint of the same recipe, if there is one.

        Raises:
            PlanError: the place holds a training with other settings.
        """
        for folder in (self.folder, self.folder.with_name(self.folder.name + ".partial")):
            try:
                state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if {**state["recipe"], "minutes": self.recipe.minutes} != _plain(self.recipe):
                raise PlanError(
                    f"{folder} keeps a training with other settings: name another --checkpoint, or remove it"
                )
            self.learner.load(folder)
            moments = load_file(folder / "optimizer.safetensors")
            for name, parameter in self.named:
                kept = {k.split(":", 1)[0]: v for k, v in moments.items() if k.split(":", 1)[1] == name}
                if kept:
                    self.optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in kept.items()}
            self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
            self.looks = state["looks"]
            say(f"goes on at step {self.step}, after {self.seconds / 60:.1f} minutes")
            return True
        return False


class _Draw:
    """Which question comes at which step: sources by share, their classes by the root of their size."""

    def __init__(self, train: Seen, recipe: Recipe) -> None:
        self.recipe, self.train = recipe, train
        self.places: dict[str, dict[str, list[int]]] = {}
        for i, subject in enumerate(train.subjects):
            self.places.setdefault(subject.source, {}).setdefault(subject.label, []).append(i)
        self.shares = [(name, share) for name, share in recipe.sources if name in self.places]

    def batches(self, step: int) -> list[list[tuple[Instruction, NDArray[np.float16] | None]]]:
        """`pool` batches of questions with the features of their pictures."""
        chance = random.Random(f"{self.recipe.seed} {step}")
        return [[self._one(chance) for _ in range(self.recipe.batch)] for _ in range(self.recipe.pool)]

    def _one(self, chance: random.Random) -> tuple[Instruction, NDArray[np.float16] | None]:
        if chance.random() < self.recipe.words:
            return word_instruction(chance), None
        names, shares = zip(*self.shares, strict=True)
        classes = self.places[chance.choices(names, shares)[0]]
        label = chance.choices(list(classes), [math.sqrt(len(c)) for c in classes.values()])[0]
        place = chance.choice(classes[label])
        one = instruction(self.train.subjects[place], chance)
        return one, self.train.features[place] if one.pictured else None


def _by_length(pool: list[list[Example]], step: int) -> list[list[Example]]:
    """The same examples in batches of like length, in random order."""
    size = len(pool[0])
    rows = sorted((one for batch in pool for one in batch), key=lambda one: len(one.ids))
    made = [rows[i : i + size] for i in range(0, len(rows), size)]
    random.Random(step).shuffle(made)
    return made


def _looks(learner: Learner, validation: Seen) -> Mapping[str, list[Example]]:
    """Per source, questions for the category by the picture alone."""
    made: dict[str, list[Example]] = {}
    order = np.random.default_rng(0).permutation(len(validation.subjects))
    for i in order:
        subject = validation.subjects[i]
        rows = made.setdefault(subject.source, [])
        if len(rows) < _LOOKS:
            reply = reply_of({"category": subject.shown["category"]})
            rows.append(learner.encode(Instruction(True, compact_prompt(["category"]), reply), validation.features[i]))
    return made


def _look(learner: Learner, looks: Mapping[str, list[Example]]) -> dict[str, float]:
    return {source: round(float(learner.right_replies(rows).mean()), 3) for source, rows in looks.items()}


def _plain(recipe: Recipe) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return made
