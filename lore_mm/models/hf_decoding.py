"""How the rows of one batch choose their tokens, each by its own request: constraint, temperature, seed, length.

A processor of logits for transformers' `generate`, which then takes the best: where a temperature is asked, the
logits of a row get Gumbel noise of that row's own generator, and the best of them is a sample (Gumbel 1954; Maddison
et al. 2014, arXiv 1411.0030). So a row's draw does not depend on its neighbours. Knows nothing of prompts or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lore_mm.models.chat import ChatRequest
from lore_mm.models.constrain import Constraint

if TYPE_CHECKING:
    import torch

__all__ = ["Decoding", "Said"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one row said: its tokens without the one that ends the turn, their log-probabilities if wanted."""

    ids: list[int]
    logprobs: list[float]
    generated: int  # tokens, the end of the turn included
    cut: bool  # its length was up before it ended its turn


class Decoding:
    """Callable as `generate` calls its processors: (ids (n, width), logits (n, vocabulary)) → logits.

    `limits[row]` is the number of tokens that the row may say; `matchers[row]` its constraint, or None.
    """

    def __init__(
        self,
        requests: Sequence[ChatRequest],
        limits: Sequence[int],
        matchers: Sequence[Any | None],
        ends: Sequence[int],
        vocabulary: int,
    ) -> None:
        self._limits, self._ends = list(limits), list(ends)
        self._constraint = Constraint(matchers, vocabulary, ends) if any(m is not None for m in matchers) else None
        self._draws = {
            row: (np.random.default_rng(request.seed), request.temperature)
            for row, request in enumerate(requests)
            if request.temperature > 0
        }
        self._watched = [row for row, request in enumerate(requests) if request.logprobs]
        self._places = {row: place for place, row in enumerate(self._watched)}
        self._steps = 0
        self._over: set[int] = set()  # rows that have ended their turn
        self._likely: torch.Tensor | None = None  # (watched, vocabulary), of the step under way
        self._logprobs: list[list[float]] = []  # by step, of the watched rows

    @property
    def idle(self) -> bool:
        """Whether plain greedy decoding up to one length does the same."""
        return not (self._constraint or self._draws or self._watched) and len(set(self._limits)) == 1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The logits of the next step; `scores` is changed in place."""
        if self._steps:
            self._take(input_ids[:, -1])
        if self._constraint is not None:
            scores.masked_fill_(_illegal(self._constraint.legal_bits(), scores), float("-inf"))
        if self._watched:
            self._likely = scores[self._watched].float().log_softmax(-1)
        for row, (generator, temperature) in self._draws.items():
            if row not in self._over:
                scores[row] = scores[row] / temperature + _noise(generator, scores)
        for row, limit in enumerate(self._limits):
            if self._steps >= limit:  # the others go on
                scores[row] = float("-inf")
                scores[row, self._ends[0]] = 0.0
        self._steps += 1
        return scores

    def _take(self, chosen: torch.Tensor) -> None:
        """Follow the tokens (n,) of the step that is over."""
        if self._likely is not None:
            found = self._likely.gather(1, chosen[self._watched, None])
            self._logprobs.append(found[:, 0].tolist())
        tokens = chosen.tolist()
        if self._constraint is not None:
            last = self._steps  # tokens said so far, this one included
            self._constraint.follow([t if last <= n else None for t, n in zip(tokens, self._limits, strict=True)])
        self._over.update(row for row, token in enumerate(tokens) if token in self._ends)

    def finish(self, said: torch.Tensor) -> list[Said]:
        """What the rows said, out of all tokens generated (n, steps)."""
        if self._steps:
            self._take(said[:, -1])
        rows = []
        for row, ids in enumerate(said.tolist()):
            end = next((i for i, token in enumerate(ids) if token in self._ends), len(ids))
            limit = self._limits[row]
            cut = end >= limit and not (self._constraint is not None and self._constraint.complete(row))
            kept = ids[: min(end, limit)]
            place = self._places.get(row)
            logprobs = [] if place is None else [step[place] for step in self._logprobs[: len(kept)]]
            rows.append(Said(kept, logprobs, min(end + 1, limit), cut))
        return rows

    def fault(self, row: int) -> str | None:
        """Why the constraint of a row broke down, if it did."""
        return self._constraint.fault(row) if self._constraint is not None else None


def _illegal(bits: np.ndarray[Any, Any], scores: torch.Tensor) -> torch.Tensor:
    """Bits int32 (n, words) → bool (n, vocabulary), True where a token may not stand."""
    import torch

    width = scores.shape[1]
    if scores.device.type == "cpu":
        flags = np.unpackbits(bits.view(np.uint8), axis=1, count=width, bitorder="little")
        return torch.from_numpy(flags == 0)
    packed = torch.from_numpy(bits).to(scores.device)  # a 32nd of what crosses over
    shifts = torch.arange(32, device=scores.device, dtype=torch.int32)
    return ((packed[:, :, None] >> shifts) & 1).flatten(1)[:, :width] == 0


def _noise(generator: np.random.Generator, scores: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.from_numpy(generator.gumbel(size=scores.shape[1])).to(scores.device, scores.dtype)
