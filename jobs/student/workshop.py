"""A whole training of a student: lessons, the reader, judged sets, trees, the files and their figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.fitting import fit
from jobs.schedule import Schedule
from jobs.student.export import NAME, export, told_by_reader
from jobs.student.forest import Growing, grown, joined, levels_of
from jobs.student.from_catalogue import CatalogueLessons
from jobs.student.from_queries import query_lessons
from jobs.student.from_tables import table_lessons
from jobs.student.kinds import read_products
from jobs.student.learner import PairModel, Taught, loss_of, predict
from jobs.student.lessons import TARGETS, WEIGHTS, Lesson
from jobs.student.material import Judged
from jobs.student.validate import FOLDS, across_sets, grades_of, held_out, measured, thresholds_of
from lore_mm.console import say
from lore_mm.datasets.queryner import read_queryner
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models.pair_pieces import PairReader
from relevance.pair_text import one_line

__all__ = ["PLAIN", "READER", "Workshop", "made_lessons"]

READER = Schedule(epochs=1, rate=1e-4, batch=48, mean_of_weights=0.99, freeze_embeddings=True)
# What a cross-encoder without features, lessons or rules is given on the same judgments.
PLAIN = Schedule(epochs=3, rate=5e-5, batch=32, mean_of_weights=0.0)
_HARD = {level: tuple(float(level == k) for k in range(1, 5)) for level in range(1, 5)}


def made_lessons(
    catalogue: Path, queries: Path, knowledge: Knowledge, counts: tuple[int, int, int], seed: int
) -> list[Lesson]:
    """Lessons of a catalogue's folder, of tagged queries (their train split) and of the tables, so many of each."""
    say("reading the catalogue's kinds")
    products = read_products(catalogue)
    told = sum(one.kind is not None for one in products)
    say(f"{len(products):,} products, {told:,} of a kind that is told")
    made = CatalogueLessons(products, knowledge).made(counts[0], seed)
    made += query_lessons(read_queryner(queries, "train"), counts[1], seed)
    return made + table_lessons(knowledge, counts[2], seed)


@dataclass(frozen=True)
class Workshop:
    """What the steps of a training share."""

    body: Path
    reader: PairReader
    tokenizer: bytes
    checkpoint: Path
    device: str

    def taught(self, lessons: Sequence[Lesson], schedule: Schedule, label: str = "reader") -> PairModel:
        """A reader that learnt from lessons; a run that was killed goes on."""
        pieces = self.reader.read([(one_line(one.query), one_line(one.title)) for one in lessons])
        rows = [Taught(p, TARGETS[one.standing], WEIGHTS[one.standing]) for p, one in zip(pieces, lessons, strict=True)]
        identity = sha_of([[one.query, one.title, one.standing] for one in lessons])
        return self._fit(rows, schedule, label, self.checkpoint / label, identity)

    def read(self, model: PairModel, one: Judged, *, int8: bool = True) -> NDArray[np.float64]:
        """What a reader tells of a set's pairs, as it will run."""
        return told_by_reader(model, self.reader.read(one.texts), int8=int8)

    def plain(self, one: Judged) -> NDArray[np.float64]:
        """P(L1) … P(L4) of each pair by a cross-encoder fitted to the judgments of the other folds' queries alone."""
        pieces = self.reader.read(one.texts)
        rows = [Taught(p, _HARD[int(level)]) for p, level in zip(pieces, one.levels, strict=True)]  # type: ignore[arg-type]

        def made(learn: NDArray[np.bool_], tell: NDArray[np.bool_]) -> NDArray[np.float64]:
            model = self._fit([row for row, here in zip(rows, learn, strict=True) if here], PLAIN, "plain", None, "")
            return predict(model, [p for p, here in zip(pieces, tell, strict=True) if here])

        return held_out(one.queries, made)

    def made(
        self,
        model: PairModel,
        sets: Sequence[Judged],
        licences: dict[str, str],
        growing: Growing,
        out: Path,
        embedder: str,
        *,
        plain: bool,
    ) -> dict[str, Any]:
        """Measure, grow the trees on all judged pairs, write the files; the figures."""
        before = time.monotonic()
        read = [self.read(model, one) for one in sets]
        others = {"plain cross-encoder": [self.plain(one) for one in sets]} if plain else {}
        tables, ablations, student = measured(sets, read, growing, others, embedder)
        levels = np.concatenate([one.levels for one in sets])
        seen = np.concatenate([joined(one.features, told) for one, told in zip(sets, read, strict=True)])
        trees, cuts = grown(seen, levels, growing), thresholds_of(student, levels)
        marks = [mark for one in sets for mark in one.queries]
        settings = export(model, trees, cuts, self.tokenizer, out, training_queries=marks, trained_on=licences)
        exact = np.concatenate([self.read(model, one, int8=False) for one in sets])
        unrounded = joined(np.concatenate([one.features for one in sets]), exact)
        changed = grades_of(levels_of(trees, seen), cuts) != grades_of(levels_of(trees, unrounded), cuts)
        return {
            "name": NAME,
            "bytes": (out / "model.onnx").stat().st_size,
            "measured": [*tables, *across_sets(sets, read, growing)],
            "confusion": tables[0]["systems"]["student"]["confusion"],
            "ablations": ablations,
            "quantisation": {"grades_changed": float(changed.mean())},
            "thresholds": list(settings.thresholds or ()),
            "training": {
                "folds": FOLDS,
                **asdict(growing),
                "plain_epochs": PLAIN.epochs if plain else None,
                "plain_rate": PLAIN.rate if plain else None,
                "seconds_of_trees_and_measuring": round(time.monotonic() - before),
            },
        }

    def _fit(
        self, rows: Sequence[Taught], schedule: Schedule, label: str, keep: Path | None, identity: str
    ) -> PairModel:
        torch.manual_seed(schedule.seed)
        model = PairModel.of_body(self.body)
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
        fitted, _ = fit(
            model,
            lambda epoch: rows,
            loss_of,
            schedule,
            keep,
            length=lambda row: len(row.pieces.ids),
            label=label,
            device=self.device,
            identity=identity,
        )
        made: PairModel = fitted.to("cpu")
        return made
