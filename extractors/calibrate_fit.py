"""Fitting of a `Calibration`: curves by isotonic or logistic regression, thresholds with a guard against luck.

Curves are fitted on single values, thresholds on whole fields: a field is right where all its values are. Rows of one
group (colour variants of one product, photos of one scene) are no independent witnesses: together they count as one.
This module knows nothing of items, files or models, nor of how an answer was found to be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.calibrate import ANY, Calibration, CalibrationEntry
from lore_mm.errors import InputError, MissingExtraError

__all__ = ["JudgedField", "fit_calibration"]

# Isotonic regression overfits below about a thousand points; Platt's logistic curve does not (Niculescu-Mizil and
# Caruana, Predicting good probabilities with supervised learning, 2005, section 5).
ISOTONIC_FROM = 1000
FEWEST = 20  # values below which an attribute has no curve of its own
CANDIDATES = 10  # thresholds tried for a field
_GRID = np.linspace(0.0, 1.0, 41)  # confidences at which a logistic curve is written down
_INNERMOST = 1e-3  # a confidence of 0 or 1 has no logit
_DIGITS = 6

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JudgedField:
    """What an extractor said of one attribute of one labelled item: each value's own confidence, and if it was right.

    No values: it said nothing. `group`: rows of one group are not independent of one another.
    """

    extractor: str
    attribute: str
    group: str
    values: tuple[tuple[float, bool], ...] = ()


def fit_calibration(
    fields: Iterable[JudgedField], *, precision: float = 0.95, risk: float = 0.05, fitted_on: str = ""
) -> Calibration:
    """Curves and thresholds from judged fields.

    The threshold of (extractor, attribute) is the smallest of at most CANDIDATES at which the lower bound of the
    precision is `precision` or more: the one-sided bound of Clopper and Pearson (The use of confidence or fiducial
    limits, Biometrika 1934), each at `risk` over the number of candidates, so that the chance of settling an attribute
    at less than the target is at most `risk` however many were looked at (Bonferroni; Angelopoulos, Bates, Candès,
    Jordan and Lei, Learn then test, 2021, section 2.3). With the defaults a single candidate needs 59 independent
    fields without an error, ten of them 104. No threshold passes: the extractor never settles the attribute.

    Raises:
        InputError: precision or risk is not between 0 and 1.
        MissingExtraError: scikit-learn is not installed.
    """
    for name, share in (("precision", precision), ("risk", risk)):
        if not 0 < share < 1:
            raise InputError(f"{name} is {share:g}; legal: between 0 and 1, such as 0.95")
    by_extractor: dict[str, dict[str, list[JudgedField]]] = {}
    for field in fields:
        by_extractor.setdefault(field.extractor, {}).setdefault(field.attribute, []).append(field)
    entries: list[CalibrationEntry] = []
    for extractor, attributes in sorted(by_extractor.items()):
        for attribute, own in sorted(attributes.items()):
            if (entry := _fit_entry(extractor, attribute, own)) is not None:
                entries.append(_with_threshold(entry, own, precision, risk))
        everything = [field for own in attributes.values() for field in own]
        if (fallback := _fit_entry(extractor, ANY, everything)) is not None:
            entries.append(fallback)
    return Calibration(fitted_on=fitted_on, precision=precision, risk=risk, entries=tuple(entries))


def _fit_entry(extractor: str, attribute: str, fields: Sequence[JudgedField]) -> CalibrationEntry | None:
    """The curve over single values; None where there are too few."""
    values = [(c, right, (field.attribute, field.group)) for field in fields for c, right in field.values]
    if len(values) < FEWEST:
        return None
    own = np.array([c for c, _, _ in values])
    right = np.array([float(r) for _, r, _ in values])
    weights = _weights([group for _, _, group in values])
    isotonic = float(weights.sum()) >= ISOTONIC_FROM
    knots = (_isotonic if isotonic else _logistic)(own, right, weights)
    return CalibrationEntry(
        extractor=extractor,
        attribute=attribute,
        n=len(values),
        right=int(right.sum()),
        method="isotonic" if isotonic else "logistic",
        knots=tuple(knots),
    )


def _weights(groups: Sequence[object]) -> Floats:
    """One over the size of each row's group, (n,)."""
    sizes: dict[object, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    return np.array([1 / sizes[group] for group in groups])


def _isotonic(own: Floats, right: Floats, weights: Floats) -> list[tuple[float, float]]:
    """Centred isotonic regression (Oron and Flournoy, Centered isotonic regression, 2017).

    Each level stands at the mean of its confidences and rises linearly to the next, so that no two become one.
    """
    n = float(weights.sum())
    model = _sklearn("isotonic").IsotonicRegression(y_min=1 / (n + 2), y_max=(n + 1) / (n + 2))
    levels = model.fit_transform(own, right, sample_weight=weights)
    knots = []
    for level in np.unique(levels):
        at = levels == level
        knots.append((float(np.average(own[at], weights=weights[at])), float(level)))
    return _rounded(knots)


def _logistic(own: Floats, right: Floats, weights: Floats) -> list[tuple[float, float]]:
    """Platt's curve over the logit of the confidence, with his targets just inside of 0 and 1.

    Probabilistic outputs for support vector machines, 1999, section 2.2. A curve that would fall is level: such a
    confidence tells nothing.
    """
    n_right = float((weights * right).sum())
    n_wrong = float(weights.sum()) - n_right
    target = np.where(right > 0, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    x = _logit(own)
    centre = float(np.average(x, weights=weights))
    model = _sklearn("linear_model").LogisticRegression(C=10.0)
    # each row once as right and once as wrong, weighted by its target: soft targets, which the library does not take
    twice = np.concatenate([x - centre, x - centre])[:, None]
    outcome = np.repeat([1, 0], len(x))
    model.fit(twice, outcome, sample_weight=np.concatenate([weights * target, weights * (1 - target)]))
    if model.coef_[0, 0] <= 0 or np.ptp(x) == 0:
        return _rounded([(float(np.average(own, weights=weights)), float(np.average(target, weights=weights)))])
    rates = model.predict_proba((_logit(_GRID) - centre)[:, None])[:, 1]
    return _rounded(list(zip(_GRID.tolist(), rates.tolist(), strict=True)))


def _logit(confidence: Floats) -> Floats:
    inside = np.clip(confidence, _INNERMOST, 1 - _INNERMOST)
    return np.asarray(np.log(inside / (1 - inside)))


def _rounded(knots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """As they are written: thresholds are sought on the very curve that will be applied."""
    return list({round(x, _DIGITS): (round(x, _DIGITS), round(y, _DIGITS)) for x, y in knots}.values())


def _with_threshold(
    entry: CalibrationEntry, fields: Sequence[JudgedField], precision: float, risk: float
) -> CalibrationEntry:
    """The entry with the smallest threshold that passes, and what was measured there."""
    answered = [field for field in fields if field.values]
    own = np.array([min(c for c, _ in field.values) for field in answered])
    right = np.array([float(all(r for _, r in field.values)) for field in answered])
    weights = _weights([field.group for field in fields])
    labelled = float(weights.sum())
    weights = weights[[bool(field.values) for field in fields]]
    calibrated = np.array([entry.apply(c) for c in own.tolist()])
    candidates = _candidates(own)
    for level in dict.fromkeys(entry.apply(c) for c in candidates):  # ascending, as the curve is
        at = calibrated >= level
        n, n_right = float(weights[at].sum()), float((weights * right)[at].sum())
        low = _lowest(n_right, n, risk / len(candidates))
        if low >= precision:
            measured = {
                "threshold": level,
                "settled": int(at.sum()),
                "precision": round(min(n_right / n, 1.0), _DIGITS),
                "precision_low": round(low, _DIGITS),
                "coverage": round(min(n / labelled, 1.0), _DIGITS),
            }
            return entry.model_copy(update=measured)
    return entry


def _candidates(own: Floats) -> list[float]:
    """The extractor's own confidences that are tried, rising: chosen without a look at what was right."""
    distinct = np.unique(own)
    if len(distinct) > CANDIDATES:
        distinct = np.unique(np.quantile(own, np.arange(CANDIDATES) / CANDIDATES, method="lower"))
    return [float(c) for c in distinct]


def _lowest(right: float, n: float, risk: float) -> float:
    """The one-sided lower bound of Clopper and Pearson of a share: right of n, missed with a chance of `risk`."""
    if right <= 0:
        return 0.0
    stats = _module("scipy.stats")
    return float(stats.beta.ppf(risk, right, max(n - right, 0.0) + 1))


def _sklearn(part: str) -> Any:
    return _module(f"sklearn.{part}")


def _module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise MissingExtraError("sklearn", "calibrate") from None
