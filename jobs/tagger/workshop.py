"""A whole training: fits on what a run shares, what teachers say, the files of the model and its figures."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.fitting import fit
from jobs.tagger.card import update_card
from jobs.tagger.data import Example, Material, read_unlabelled
from jobs.tagger.distil import LogProbabilities, mean_of, predict
from jobs.tagger.export import export
from jobs.tagger.learner import Encoded, Encoder, TaggerModel, collate, masked
from jobs.tagger.loss import loss_of
from jobs.tagger.measure import decode, measure, span_f1
from jobs.tagger.recipe import Recipe
from jobs.tagger.swap import Swapper
from lore_mm.console import say
from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models.bio import Labels
from lore_mm.models.query_tagger import QueryTagger, open_tagger

__all__ = ["Workshop"]

_MASK = 103  # BERT's [MASK]
_INVENTED = 0.5  # share of spans changed in queries that are made up for teachers


@dataclass(frozen=True)
class Workshop:
    """What every fit of a run shares: queries, the body's folder, its tokenizer, where checkpoints are kept."""

    material: Material
    body: Path
    encoder: Encoder
    checkpoint: Path
    device: str

    def made(
        self,
        out: Path,
        teachers: int,
        unlabelled: Sequence[Path],
        invented: int,
        recipes: tuple[Recipe, Recipe],
    ) -> dict[str, Any]:
        """Train, write the tagger and its card, measure; the figures. `recipes`: of every fit, and of a student."""
        before, material = time.monotonic(), self.material
        others = self._with_invented(read_unlabelled(unlabelled, [*material.train, *material.test]), invented)
        counts = len(material.train), len(others), len(material.test)
        say("{:,} queries to learn from, {:,} without labels, {:,} to test".format(*counts))
        if teachers:
            model, taught = self._student(others, teachers, recipes)
        else:
            model, taught = self._fit(self._labelled(recipes[0]), recipes[0], "tagger"), {}
        metrics = self._exported(model, out)
        metrics["training"] = {
            "recipe": asdict(recipes[0]),
            "teachers": teachers,
            "taught": taught,
            "student": asdict(recipes[1]) if teachers else None,
            "queries": counts[0],
            "unlabelled": counts[1],
            "seconds": round(time.monotonic() - before),
        }
        update_card(out / "README.md", metrics)
        return metrics

    def measured(self, out: Path) -> dict[str, Any]:
        """The figures of the tagger that is there; what only a training knows is kept from its metrics.json."""
        tagger, kept = open_tagger(out), out / "metrics.json"
        metrics = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        figures = measure(self._scores(tagger), self.material.test, self._labels())
        metrics |= {"measured_on": self.material.measured_on, "int8": figures}
        if "training" in metrics:
            update_card(out / "README.md", metrics)
        return metrics

    def _fit(
        self, rows: Callable[[int], Sequence[Encoded]], recipe: Recipe, label: str, extra: object = None
    ) -> TaggerModel:
        """One fit; where something is held out, F1 on it is told after every epoch."""
        seen = self.encoder.encode(self.material.test)
        texts = [[one.text, one.labels] for one in self.material.train]
        identity = sha_of([texts, self.material.names, self.body.name, extra])
        place = self.checkpoint / label.replace(" ", "-")
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        model = TaggerModel.of_body(self.body, len(self.material.names), hints=recipe.hints, dropout=recipe.dropout)
        look = None
        if self.material.measured_on == "held-out":
            look = lambda model: self._f1(predict(model, seen, device=self.device))  # noqa: E731

        def loss(model: TaggerModel, some: Sequence[Encoded], generator: torch.Generator) -> torch.Tensor:
            return loss_of(model, masked(collate(some, self.device), recipe.word_drop, _MASK, generator), recipe)

        return fit(
            model, rows, loss, recipe, place,
            length=lambda row: len(row.ids), label=label, device=self.device, look=look, identity=identity,
        )[0]  # fmt: skip

    def _labelled(self, recipe: Recipe) -> Callable[[int], Sequence[Encoded]]:
        """The labelled examples of each epoch, made up anew where the recipe says so."""
        fixed = self.encoder.encode(self.material.train)
        if not recipe.swap:
            return lambda epoch: fixed
        swapper = Swapper(self.material.train, self.material.names)

        @lru_cache(maxsize=1)
        def drawn(epoch: int) -> Sequence[Encoded]:
            return self.encoder.encode(swapper.swapped(recipe.swap, random.Random(f"{recipe.seed} {epoch}")))

        return drawn

    def _student(
        self, unlabelled: Sequence[Example], teachers: int, recipes: tuple[Recipe, Recipe]
    ) -> tuple[TaggerModel, dict[str, float]]:
        """A student of several teachers, and the F1 of each of them and of all together."""
        recipe, student = recipes
        train, test = self.encoder.encode(self.material.train), self.encoder.encode(self.material.test)
        rows = [*train, *self.encoder.encode(unlabelled)]
        said: list[LogProbabilities] = []
        tested: list[LogProbabilities] = []
        for number in range(teachers):
            own = replace(recipe, seed=recipe.seed + number)
            teacher = self._fit(self._labelled(own), own, f"teacher {number}")
            said.append(predict(teacher, rows, device=self.device))
            tested.append(predict(teacher, test, device=self.device))
            say(f"teacher {number} has read {len(rows):,} queries")
        figures = {f"teacher_{i}": round(self._f1(one), 4) for i, one in enumerate(tested)}
        figures["together"] = round(self._f1(mean_of(tested)), 4)
        say("F1 of spans: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
        taught = [row.taught(scores.astype(np.float16)) for row, scores in zip(rows, mean_of(said), strict=True)]
        extra = [asdict(recipe), teachers, [one.text for one in unlabelled]]
        return self._fit(lambda epoch: taught, student, "student", extra), figures

    def _with_invented(self, unlabelled: Sequence[Example], rounds: int) -> list[Example]:
        """The unlabelled queries, and labelled ones made up anew, each once; teachers are to say what they are."""
        material = self.material
        swapper, chance = Swapper(material.train, material.names), random.Random(0)
        made = [one for _ in range(rounds) for one in swapper.swapped(_INVENTED, chance)]
        known = {one.text for one in (*material.train, *material.test, *unlabelled)}
        fresh = {one.text: replace(one, labels=()) for one in made if one.text not in known}
        return [*unlabelled, *fresh.values()]

    def _exported(self, model: TaggerModel, out: Path) -> dict[str, Any]:
        """Write the model, measure float32 and int8 side by side; the figures."""
        test, labels = self.material.test, self._labels()
        names, tokenizer = self.material.names, self.encoder.tokenizer
        by_torch = predict(model.to("cpu"), self.encoder.encode(test))
        with tempfile.TemporaryDirectory() as scratch:
            export(model, tokenizer, names, Path(scratch), int8=False)
            whole = self._scores(open_tagger(Path(scratch)))
        export(model, tokenizer, names, out)
        scores = self._scores(open_tagger(out))
        figures = {"float32": measure(whole, test, labels), "int8": measure(scores, test, labels)}
        before, after = decode(whole, labels), decode(scores, labels)
        changed = sum(len(set(a) ^ set(b)) for a, b in zip(before, after, strict=True)) / 2
        lost = figures["float32"]["spans"]["f1"] - figures["int8"]["spans"]["f1"]
        return {
            "measured_on": self.material.measured_on,
            **figures,
            "quantisation": {
                "f1_lost": round(lost, 4),
                "spans_changed": round(changed / max(1, sum(map(len, before))), 4),
            },
            "parity": {"largest_difference": max(_apart(a, b) for a, b in zip(by_torch, whole, strict=True))},
            "bytes": (out / "model.onnx").stat().st_size,
        }

    def _scores(self, tagger: QueryTagger) -> LogProbabilities:
        """A tagger's log-probabilities of the test queries, a row a word of theirs.

        Raises:
            ModelError: it parts the words of a query in another way than the data do.
        """
        made = tagger.score([one.text for one in self.material.test])
        for one, scored in zip(self.material.test, made, strict=True):
            if tuple(scored.words) != one.words:
                raise ModelError(f"query {one.text!r}: its words are not parted by white space alone")
        return [scored.scores for scored in made]

    def _labels(self) -> Labels:
        return Labels(self.material.names)

    def _f1(self, scores: LogProbabilities) -> float:
        return span_f1(decode(scores, self._labels()), self.material.test, self._labels())


def _apart(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    return float(np.abs(one - two).max())
