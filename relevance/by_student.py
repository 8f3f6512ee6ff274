"""Mode `student`: a small cross-encoder over the query, the item's text, and what the path of `rules` says as numbers.

The rules walk the path first; the model reads it beside the texts and says how likely each level is. Its grade may
differ from what the rulebook makes of the path: the path is attached as explanation, with the rulebook's levels on its
legs. What has no path (a query that was not understood or demands nothing) gets no grade either: the model never
learnt such pairs, and nothing would say why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lore_mm.errors import InputError, ModelError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models.cross_encoder import CrossEncoder, open_cross_encoder
from lore_mm.types import Grade, Judgment, Provenance
from relevance.by_rules import RulesJudge
from relevance.pair_text import item_text, query_text
from relevance.path_features import FEATURES, FEATURES_SHA, features_of_pairs
from relevance.protocol import Pair, failed_judgment
from relevance.rules import Rulebook

__all__ = ["StudentJudge", "open_student"]

_MODE = "student"
_OPTIONS = ("threads",)


class StudentJudge:
    """Judges pairs by a cross-encoder on the rules' paths (see `relevance.protocol.PairJudge`).

    Raises:
        ModelError: the model was trained on other features than these.
    """

    mode = _MODE

    def __init__(self, encoder: CrossEncoder, rules: RulesJudge, name: str = _MODE) -> None:
        settings = encoder.settings
        if settings.features != FEATURES or settings.features_sha != FEATURES_SHA:
            raise ModelError(
                f"{encoder.name} was trained on other features ({settings.features_sha[:12]}) than this version gives "
                f"({FEATURES_SHA[:12]}): train it anew"
            )
        self.name = name
        self.encoder, self.rules = encoder, rules
        self.sha = sha_of([_MODE, encoder.sha, rules.sha, FEATURES_SHA])
        self.versions: Mapping[str, str] = {**rules.versions, "model": encoder.sha, "features": FEATURES_SHA}

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in order; what the rules cannot judge fails for their reason.

        Raises:
            ModelError: the model failed.
        """
        walked = self.rules.judge(pairs)
        made = [self._failed(pair, one.error or "no path") for pair, one in zip(pairs, walked, strict=True)]
        ready = [i for i, one in enumerate(walked) if one.grade is not None]
        told = self._told([pairs[i] for i in ready], [walked[i] for i in ready])
        for i, likely in zip(ready, told, strict=True):
            if isinstance(likely, str):
                made[i] = self._failed(pairs[i], likely)
            else:
                made[i] = self._graded(pairs[i], walked[i], likely)
        return made

    def _told(self, pairs: Sequence[Pair], walked: Sequence[Judgment]) -> list[NDArray[np.float64] | str]:
        """The probabilities of each pair, or why there are none; one pair must not end a batch."""
        try:
            return list(self.probabilities(pairs, walked))
        except ModelError:
            raise
        except Exception as error:
            if len(pairs) == 1:
                return [f"{type(error).__name__}: {error}"]
        return [self._told([pair], [one])[0] for pair, one in zip(pairs, walked, strict=True)]

    def probabilities(self, pairs: Sequence[Pair], walked: Sequence[Judgment]) -> NDArray[np.float64]:
        """P(L1) … P(L4) of each pair, (n, 4), rows summing to 1. `walked` are the rules' judgments of these pairs."""
        lines: dict[int, str] = {}
        for _, features in pairs:
            if id(features) not in lines:
                lines[id(features)] = item_text(features)
        texts = [(query_text(understanding), lines[id(features)]) for understanding, features in pairs]
        likely = np.exp(self.encoder.score(texts, features_of_pairs(pairs, walked)).astype(np.float64))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))

    def was_trained_on(self, query: str) -> bool:
        """True where labels of this query were among what the model learnt from."""
        return self.encoder.was_trained_on(query)

    def close(self) -> None:
        """Free the model."""
        self.encoder.close()
        self.rules.close()

    def _graded(self, pair: Pair, walked: Judgment, likely: NDArray[np.float64]) -> Judgment:
        p1, p2, p3, p4 = likely.tolist()
        score = (p2 + 2 * p3 + 3 * p4) / 3  # the expected grade, scaled to [0, 1]
        grade = self._grade(likely, score)
        return replace(
            walked,
            grade=grade,
            probabilities=(p1, p2, p3, p4),
            score=score,
            failed_dimensions=() if grade.relevant else walked.failed_dimensions,
            mode=_MODE,
            provenance=self._provenance(pair),
        )

    def _grade(self, likely: NDArray[np.float64], score: float) -> Grade:
        cuts = self.encoder.settings.thresholds
        if cuts is None:
            return Grade(1 + int(likely.argmax()))
        return Grade(1 + sum(score >= cut for cut in cuts))

    def _failed(self, pair: Pair, error: str) -> Judgment:
        return failed_judgment(pair[0].query, pair[1].item.item_id, error, self._provenance(pair), _MODE)

    def _provenance(self, pair: Pair) -> Provenance:
        return Provenance(maker=f"judge:{_MODE}", input_sha=pair[1].input_sha, settings_sha=self.sha)


def open_student(
    address: str = _MODE,
    folder: Path | None = None,
    knowledge: Knowledge | None = None,
    rulebook: Rulebook | None = None,
    **options: Any,
) -> StudentJudge:
    """The student of a folder, the shipped one unless given. `threads`: see `open_cross_encoder`.

    Raises:
        InputError: an option that it does not have.
        ModelError: its files are missing, damaged, or trained on other features.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """
    for name in options:
        if name not in _OPTIONS:
            raise InputError(f"judge {_MODE} has no option {name!r}{nearest(name, _OPTIONS)}")
    if knowledge is None:
        from lore_mm.knowledge import load_knowledge

        knowledge = load_knowledge()
    encoder = open_cross_encoder(folder, threads=options.get("threads"))
    return StudentJudge(encoder, RulesJudge(knowledge, rulebook), address)
