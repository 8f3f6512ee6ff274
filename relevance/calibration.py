"""A judge's probabilities made to mean what they say: without labels by what it says of nothing, or fitted on labels.

Both are one map of log-probabilities, softmax(ln p · scale + bias), a number for the temperature (scale is 1 / T) and
one for each level: *vector scaling* with one temperature (Guo et al., On calibration of modern neural networks, 2017).
Contextual calibration (Zhao et al., Calibrate before use, 2021) is the case of scale 1 and bias −ln p of a pair that
says nothing, of which a fair judge would call every level equally likely. Fitting minimises the negative log-likelihood
of labels, with a ridge of one pair's weight that keeps levels nobody was given from running away.

A calibration holds for the judge it was made with and is refused for any other. Where the grade is the model's own
(`direct`, `student`) it is taken anew from the calibrated probabilities; where it is the rulebook's (`rules`, `reason`)
it stays, and only probabilities and score change. This module knows no model, no data set and no way to open them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lore_mm.bootstrap import Draws
from lore_mm.errors import ConfigError, InputError
from lore_mm.fingerprint import sha_of
from lore_mm.types import Judgment
from relevance.baselines import folds_of
from relevance.levels import LEVELS, Probabilities, as_probabilities, broken, grade_of, score_of
from relevance.protocol import Pair, PairJudge
from relevance.scoring import calibration_errors

__all__ = [
    "CONTEXTUAL",
    "Calibrated",
    "Fit",
    "LevelCalibration",
    "Quality",
    "calibrated",
    "contextual",
    "fit_levels",
    "quality",
    "read_levels",
    "write_levels",
]

CONTEXTUAL = "contextual"  # in the place of a file: by what the judge says of nothing
FOLDS = 5
_LEAST = 1e-6  # a probability counts as at least this: its logarithm is finite
_RIDGE = 1.0  # of the distance from doing nothing, in pairs
_STEPS, _ENOUGH = 100, 1e-9  # Newton's
Floats = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Quality(BaseModel):
    """How far probabilities may be believed, over `n` pairs: the mean negative log-likelihood (natural) of the labels,
    and the expected calibration errors of `relevance.scoring`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(ge=0)
    nll: Finite
    ece_2: Finite
    ece_4: Finite


class LevelCalibration(BaseModel):
    """softmax(ln p · scale + bias), for one judge; what it was fitted on, for a reader.

    `before` and `after` are on the labels: after, each query by what was fitted on the others, in folds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    kind: Literal["contextual", "fitted"]
    judge: str
    judge_sha: str
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # 1 / temperature
    bias: tuple[Finite, Finite, Finite, Finite]
    dataset: str = ""
    dataset_sha: str = ""
    queries: int = 0
    before: Quality | None = None
    after: Quality | None = None

    @cached_property
    def sha(self) -> str:
        """Identifies what it does."""
        return sha_of([self.judge_sha, self.scale, list(self.bias)])

    def apply(self, probabilities: Sequence[float]) -> Probabilities:
        """The calibrated probabilities."""
        logits = _logs([probabilities])[0] * self.scale + np.asarray(self.bias)
        return as_probabilities(logits.tolist())


class Fit(BaseModel):
    """What fitting gives: the map, and how good it is on queries that it was not fitted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float
    bias: tuple[float, float, float, float]
    queries: int
    before: Quality
    after: Quality


def fit_levels(probabilities: ArrayLike, truth: Sequence[int], groups: Sequence[str], folds: int = FOLDS) -> Fit:
    """Fit on probabilities (n, 4) with their true levels 1–4; `groups` are the queries, for the folds.

    Raises:
        InputError: fewer than two queries, or none of the pairs has a label that differs from the others'.
        ValueError: lengths or shapes differ.
    """
    p, t = np.asarray(probabilities, dtype=float), np.asarray(truth, dtype=np.int64)
    if p.shape != (len(t), len(LEVELS)) or len(groups) != len(t):
        raise ValueError(f"probabilities {p.shape}, {len(t)} labels and {len(groups)} groups do not go together")
    queries = len(set(groups))
    if queries < 2 or len(np.unique(t)) < 2:
        raise InputError(f"{len(t)} pairs of {queries} queries with {len(np.unique(t))} levels: nothing to fit on")
    fold, logs, held = folds_of(groups, folds), _logs(p), np.zeros_like(p)
    for number in np.unique(fold):
        rest = fold != number
        scale, bias = _newton(logs[rest], t[rest])
        held[~rest] = _softmax(logs[~rest] * scale + bias)
    scale, bias = _newton(logs, t)
    a, b, c, d = (float(one) for one in bias)
    return Fit(
        scale=scale, bias=(a, b, c, d), queries=queries, before=quality(p, t, groups), after=quality(held, t, groups)
    )


def quality(probabilities: ArrayLike, truth: Sequence[int] | NDArray[np.int64], groups: Sequence[str]) -> Quality:
    """How far probabilities (n, 4) of these true levels may be believed."""
    p, t = np.asarray(probabilities, dtype=float), np.asarray(truth, dtype=np.int64)
    errors = calibration_errors(t, p, np.arange(len(t)), Draws(list(groups), 0, 0))
    nll = -np.log(np.clip(p[np.arange(len(t)), t - 1], _LEAST, 1.0)).mean()
    return Quality(n=len(t), nll=float(nll), **{name: float(values[0]) for name, values in errors.items()})


def _logs(probabilities: ArrayLike) -> Floats:
    result: Floats = np.log(np.clip(np.asarray(probabilities, dtype=float), _LEAST, 1.0))
    return result


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = weights / weights.sum(axis=1, keepdims=True)
    return result


def _newton(logs: Floats, truth: NDArray[np.int64]) -> tuple[float, Floats]:
    """The scale and the biases of the least penalised loss, which is convex in them.

    A scale below 0 would turn the judge's order round: then it is 0, and the biases alone are fitted.
    """
    scale, bias = _descend(logs, truth, np.array([1.0, 0, 0, 0, 0]))
    return (scale, bias) if scale >= 0 else (0.0, _descend(np.zeros_like(logs), truth, np.zeros(5))[1])


def _descend(logs: Floats, truth: NDArray[np.int64], start: Floats) -> tuple[float, Floats]:
    features = np.concatenate([logs[:, :, None], np.broadcast_to(np.eye(4), (len(logs), 4, 4))], axis=2)  # (n, 4, 5)
    target = np.eye(4)[truth - 1]

    def loss(at: Floats) -> float:
        logits = features @ at
        total = np.logaddexp.reduce(logits, axis=1) - (logits * target).sum(axis=1)
        return float(total.sum() + _RIDGE / 2 * ((at - start) ** 2).sum())

    at, now = start.copy(), loss(start)
    for _ in range(_STEPS):
        p = _softmax(features @ at)
        slope = np.einsum("nk,nkj->j", p - target, features) + _RIDGE * (at - start)
        centred = features - np.einsum("nk,nkj->nj", p, features)[:, None, :]
        curve = np.einsum("nk,nki,nkj->ij", p, centred, centred) + _RIDGE * np.eye(5)
        step, size = np.linalg.solve(curve, slope), 1.0
        while loss(at - size * step) > now and size > 1e-6:
            size /= 2
        at = at - size * step
        before, now = now, loss(at)
        if before - now < _ENOUGH:
            break
    return float(at[0]), at[1:]


@runtime_checkable
class _SaysOfNothing(Protocol):
    def content_free(self) -> Probabilities: ...


def contextual(judge: PairJudge) -> LevelCalibration:
    """By what a judge says of pairs that say nothing.

    Raises:
        InputError: it is of a mode that cannot be asked so.
        ModelError: its model is dead, or tells no likelihoods.
    """
    if not isinstance(judge, _SaysOfNothing):
        raise InputError(f"calibration {CONTEXTUAL!r} is for direct:CHAT; judge {judge.name} needs a fitted one")
    a, b, c, d = (-math.log(max(one, _LEAST)) for one in judge.content_free())
    return LevelCalibration(kind="contextual", judge=judge.name, judge_sha=judge.sha, scale=1.0, bias=(a, b, c, d))


def read_levels(path: Path) -> LevelCalibration:
    """Read what `write_levels` wrote.

    Raises:
        ConfigError: it is not there or is no such file; the text names the key and the fault.
    """
    try:
        return LevelCalibration.model_validate_json(path.read_bytes(), strict=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(x) for x in fault["loc"])
        what = f"{place}: {fault['msg']}" if place else str(fault["msg"])
        raise ConfigError(f"{path}: {what}; `lore calibrate judge` makes such a file") from None


def write_levels(calibration: LevelCalibration, path: Path) -> None:
    """Write it as JSON, in place of what was there at one stroke."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(calibration.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


class Calibrated:
    """A judge with its calibration over it (see `relevance.protocol.PairJudge`)."""

    def __init__(self, inner: PairJudge, calibration: LevelCalibration) -> None:
        if calibration.judge_sha != inner.sha:
            raise ConfigError(
                f"the calibration was fitted for judge {calibration.judge} {calibration.judge_sha[:12]}, and this is "
                f"{inner.name} {inner.sha[:12]}: its model, prompt, rules or tables are other ones; fit it anew"
            )
        self.inner, self.calibration = inner, calibration
        self.name, self.mode = inner.name, inner.mode
        self.sha = sha_of([inner.sha, calibration.sha])
        self.versions: Mapping[str, str] = {**inner.versions, "calibration": calibration.sha}
        self._graded = inner.mode.partition("-")[0] in ("direct", "student")  # by its probabilities

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """As the judge does, with calibrated probabilities.

        Raises:
            ModelError: the model behind it is dead and did not come back.
        """
        return [self._one(judgment) for judgment in self.inner.judge(pairs)]

    def close(self) -> None:
        """Close the judge; calling it twice is harmless."""
        self.inner.close()

    def _one(self, judgment: Judgment) -> Judgment:
        provenance = replace(judgment.provenance, settings_sha=self.sha)
        if judgment.probabilities is None or judgment.grade is None:
            return replace(judgment, provenance=provenance)
        probabilities = self.calibration.apply(judgment.probabilities)
        changed = replace(judgment, probabilities=probabilities, score=score_of(probabilities), provenance=provenance)
        if not self._graded:
            return changed
        grade = grade_of(probabilities)
        return replace(changed, grade=grade, failed_dimensions=broken(judgment.path, grade))


def calibrated(judge: PairJudge, calibration: str | Path) -> PairJudge:
    """A judge with the calibration of a file over it, or `contextual`.

    Raises:
        ConfigError: there is no such file, or it was fitted for another judge.
        InputError: the judge cannot be calibrated so.
        ModelError: its model is dead.
    """
    return Calibrated(judge, contextual(judge) if str(calibration) == CONTEXTUAL else read_levels(Path(calibration)))
