"""The reader of a student as it learns: a BERT body over query and title together, and a small map to the four levels.

It knows no schedules, no features and no files but those of the body.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.bert_body import by_depth, open_body
from lore_mm.models.pair_pieces import PairPieces

__all__ = ["PairModel", "Taught", "loss_of", "predict"]

_WIDTH = 128  # between the body and the levels
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Taught:
    """A pair in pieces, the levels' distribution that it should be told, and how much it counts."""

    pieces: PairPieces
    target: tuple[float, float, float, float]
    weight: float = 1.0


class PairModel(nn.Module):
    """Logits of L1 … L4 for pairs."""

    def __init__(self, body: Any, dropout: float = 0.1) -> None:
        super().__init__()
        self.body: Any = body
        for module in body.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        self.dropout = nn.Dropout(dropout)
        self.joined = nn.Linear(body.config.hidden_size, _WIDTH)
        self.out = nn.Linear(_WIDTH, 4)

    @classmethod
    def of_body(cls, folder: Path, dropout: float = 0.1) -> PairModel:
        """On the BERT of a folder (config.json, model.safetensors).

        Raises:
            ModelError: the folder holds no BERT.
        """
        return cls(open_body(folder), dropout)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """(n, 4)."""
        hidden = self.body(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state[:, 0]
        between = nn.functional.gelu(self.joined(self.dropout(hidden)))
        logits: Tensor = self.out(self.dropout(between))
        return logits

    def named_groups(self) -> Iterator[tuple[str, nn.Parameter, int | None]]:
        """Every parameter with its depth: layers above it in the body, None for what stands on the body."""
        return by_depth(self, self.body.config.num_hidden_layers)


def loss_of(model: PairModel, rows: Sequence[Taught], generator: torch.Generator) -> Tensor:
    """The weighted mean of the cross-entropy to the distributions."""
    device = next(model.parameters()).device
    logits = model(*(part.to(device) for part in _padded([row.pieces for row in rows])))
    target = torch.tensor([row.target for row in rows], device=device)
    weight = torch.tensor([row.weight for row in rows], device=device)
    entropy: Tensor = -(target * logits.log_softmax(-1)).sum(-1)
    mean: Tensor = (entropy * weight).sum() / weight.sum()
    return mean


def predict(model: PairModel, pieces: Sequence[PairPieces]) -> NDArray[np.float64]:
    """P(L1) … P(L4), (n, 4)."""
    made, device = np.zeros((len(pieces), 4)), next(model.parameters()).device
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i].ids))
    with torch.no_grad():
        for start in range(0, len(order), _AT_ONCE):
            places = order[start : start + _AT_ONCE]
            logits = model.eval()(*(part.to(device) for part in _padded([pieces[i] for i in places])))
            made[places] = logits.softmax(-1).cpu().numpy()
    return made


def _padded(pieces: Sequence[PairPieces]) -> tuple[Tensor, Tensor, Tensor]:
    """ids, types and mask, (n, the longest)."""
    longest = max(len(one.ids) for one in pieces)
    ids, types, mask = (np.zeros((len(pieces), longest), dtype=np.int64) for _ in range(3))
    for i, one in enumerate(pieces):
        ids[i, : len(one.ids)], types[i, : len(one.ids)], mask[i, : len(one.ids)] = one.ids, one.types, 1
    return torch.from_numpy(ids), torch.from_numpy(types), torch.from_numpy(mask)
