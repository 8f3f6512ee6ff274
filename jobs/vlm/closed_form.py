"""A connector in closed form: ridge regression from picture features to the words for what they show.

Each of a picture's tokens is asked for the mean input embedding of its label's words, so that a language model that
reads words finds words where the picture stands. The deviations are then stretched to the length that words have, for
regression shrinks them. It knows nothing of prompts or training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Moments", "connector_of", "word_targets"]

_WEIGHTS = {"category": 1.0, "variety": 0.6, "color": 0.6, "audience": 0.4, "brand": 0.4}
_OTHERS = 0.25
_SILENT = ("not_stated", "not_applicable")


@dataclass(slots=True)
class Moments:
    """Sums over rows of features x and targets y: Σ x xᵀ, Σ x yᵀ, Σ x, and the number of pictures."""

    square: Tensor
    cross: Tensor
    total: Tensor
    count: int = 0

    @classmethod
    def empty(cls, features: int, width: int) -> Moments:
        """Nothing summed yet."""
        return cls(torch.zeros(features, features), torch.zeros(features, width), torch.zeros(features))

    def add(self, features: NDArray[np.float16], targets: Tensor) -> None:
        """Add pictures: features (n, tokens, f), targets (n, width)."""
        for start in range(0, len(features), 128):
            rows = torch.from_numpy(features[start : start + 128].astype(np.float32))
            n, tokens, f = rows.shape
            flat = rows.reshape(-1, f)
            self.square.addmm_(flat.T, flat)
            self.cross.addmm_(rows.sum(dim=1).T, targets[start : start + 128])
            self.total += flat.sum(dim=0)
            self.count += n * tokens


def word_targets(answers: Iterable[Mapping[str, Any]], tokenizer: Any, embeddings: Tensor) -> Tensor:
    """For each picture the weighted mean embedding of the words of what it shows, (n, width)."""
    known: dict[str, Tensor] = {}
    rows = []
    for one in answers:
        total, weight = torch.zeros(embeddings.shape[1]), 0.0
        for name, value in one.items():
            for word in value if isinstance(value, tuple) else (value,):
                if word in _SILENT:
                    continue
                if word not in known:
                    ids = tokenizer(" " + word.replace("_", " "), add_special_tokens=False)["input_ids"]
                    known[word] = embeddings[ids].mean(dim=0).cpu()
                share = _WEIGHTS.get(name, _OTHERS)
                total, weight = total + share * known[word], weight + share
        rows.append(total / max(weight, 1e-6))
    return torch.stack(rows)


def connector_of(moments: Moments, targets: Tensor, strength: float, length: float) -> Tensor:
    """The connector's weight (width, features).

    `strength` is the ridge, in shares of the mean square of a feature; `targets` are all pictures' (for their mean);
    `length` is the length that the deviation of a token from the mean should have on average.
    """
    mean = targets.mean(dim=0)
    f = moments.square.shape[0]
    ridge = strength * moments.square.diagonal().mean()
    factor = torch.linalg.cholesky(moments.square + ridge * torch.eye(f))
    deviations = torch.cholesky_solve(moments.cross - moments.total[:, None] * mean[None, :], factor)  # (f, width)
    constant = torch.cholesky_solve(moments.total[:, None], factor)[:, 0]  # what makes 1 of every row
    energy = ((moments.square @ deviations) * deviations).sum() / moments.count  # mean square length of a deviation
    made: Tensor = (torch.outer(constant, mean) + deviations * (length / energy.sqrt().clamp_min(1e-9))).T
    return made.contiguous()
