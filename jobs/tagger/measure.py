"""How well a tagger reads labelled queries: spans found exactly, with intervals over queries. It knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.tagger.data import Example
from lore_mm.bootstrap import Draws, interval
from lore_mm.models.bio import Labels, greedy, spans, viterbi

__all__ = ["Decoded", "calibration_error", "decode", "measure", "span_f1"]

_RESAMPLES = 1000
_BINS = 10
Decoded = tuple[tuple[str, int, int], ...]  # the spans of a query: type, first word, behind the last
Scores = Sequence[NDArray[np.float32]]  # a query each: log-probabilities (words, labels)


def decode(scores: Scores, labels: Labels, *, by: str = "viterbi") -> list[Decoded]:
    """The spans of each query, by viterbi or greedy."""
    read = viterbi if by == "viterbi" else greedy
    return [tuple(spans(read(one[None], labels)[0].tolist(), labels)) for one in scores]


def span_f1(found: Sequence[Decoded], examples: Sequence[Example], labels: Labels) -> float:
    """Micro F1 of spans: same words and same type."""
    counts = _counts(found, _gold(examples, labels), None).sum(axis=0)
    return float(_f1(counts[None])[0])


def measure(scores: Scores, examples: Sequence[Example], labels: Labels) -> dict[str, Any]:
    """F1, precision and recall of spans with 95 % intervals over queries, overall and a type; words and queries wholly
    right; and how far confidences are from the shares that are right, by either mean of the words' probabilities.
    """
    gold, found = _gold(examples, labels), decode(scores, labels)
    draws = Draws([str(i) for i in range(len(examples))], _RESAMPLES, 0)
    right = [np.mean(viterbi(s[None], labels)[0] == np.array(e.labels)) for s, e in zip(scores, examples, strict=True)]
    sizes = [len(example.labels) for example in examples]
    return {
        "queries": len(examples),
        "spans": {**_figures(draws, _counts(found, gold, None))},
        "types": {kind: _figures(draws, _counts(found, gold, kind)) for kind in labels.types},
        "words_right": round(float(np.average(right, weights=sizes)), 4),
        "queries_right": round(float(np.mean([a == b for a, b in zip(found, gold, strict=True)])), 4),
        "f1_greedy": round(span_f1(decode(scores, labels, by="greedy"), examples, labels), 4),
        "calibration_error": {
            "geometric_mean": _confidence_error(scores, found, gold, labels, np.mean),
            "product": _confidence_error(scores, found, gold, labels, np.sum),
        },
    }


def calibration_error(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten bins of width 0.1 (Guo et al., On Calibration of Modern Neural Networks,
    2017); 0 where nothing was found.
    """
    if not len(confidences):
        return 0.0
    place = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float((confidences[place == b] - right[place == b]).sum())) for b in range(_BINS)]
    return sum(gaps) / len(confidences)


def _gold(examples: Sequence[Example], labels: Labels) -> list[Decoded]:
    return [tuple(spans(example.labels, labels)) for example in examples]


def _counts(found: Sequence[Decoded], gold: Sequence[Decoded], kind: str | None) -> NDArray[np.float64]:
    """(queries, 3): spans in both, found, labelled; of one type, or of all."""
    rows = []
    for one, two in zip(found, gold, strict=True):
        a = {span for span in one if kind in (None, span[0])}
        b = {span for span in two if kind in (None, span[0])}
        rows.append((len(a & b), len(a), len(b)))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 a row of sums; NaN where there is nothing to find and nothing found."""
    both = sums[:, 1] + sums[:, 2]
    made: NDArray[np.float64] = np.divide(2 * sums[:, 0], both, out=np.full(len(sums), np.nan), where=both > 0)
    return made


def _figures(draws: Draws, counts: NDArray[np.float64]) -> dict[str, Any]:
    sums = draws.sums(counts)
    f1 = _f1(sums)
    low, high = interval(f1[1:], 0.025)
    same, said, wanted = sums[0]
    return {
        "f1": _rounded(f1[0]),
        "interval": [_rounded(low), _rounded(high)],
        "precision": _rounded(same / said if said else np.nan),
        "recall": _rounded(same / wanted if wanted else np.nan),
        "n": int(wanted),
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _confidence_error(
    scores: Scores, found: Sequence[Decoded], gold: Sequence[Decoded], labels: Labels, mean: Any
) -> float:
    confidences, right = [], []
    for one, decoded, wanted in zip(scores, found, gold, strict=True):
        path = viterbi(one[None], labels)[0]
        chosen = one[np.arange(len(path)), path]
        for span in decoded:
            confidences.append(float(np.exp(mean(chosen[span[1] : span[2]]))))
            right.append(span in wanted)
    return round(calibration_error(np.array(confidences), np.array(right, dtype=np.bool_)), 4)
