"""The model that learns: a BERT body, what the tables say of each word added to its pieces, and one linear map.

A word's logits are the mean over its pieces. It knows no schedules and no files but those of the body.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.bert_body import by_depth, open_body
from jobs.tagger.data import Example
from lore_mm.knowledge import load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.models.query_words import HINTS, Reader, hints_of

__all__ = ["IGNORED", "Batch", "Encoded", "Encoder", "TaggerModel", "collate", "masked"]

IGNORED = -100  # the label of a word that is not there, or that nobody labelled
_FIRST_ORDINARY = 104  # ids below are BERT's special and unused ones


@dataclass(frozen=True)
class Encoded:
    """An example in numbers."""

    ids: NDArray[np.int64]
    words: NDArray[np.int64]  # of each piece, -1 for none
    hints: NDArray[np.float32] | None  # (words, 2 · HINTS)
    labels: tuple[int, ...]  # a label a word, IGNORED where there is none
    soft: NDArray[np.float16] | None

    def taught(self, soft: NDArray[np.float16]) -> Encoded:
        """The same with what teachers say of it."""
        return replace(self, soft=soft)


@dataclass(frozen=True)
class Batch:
    """Examples side by side, padded: ids and mask (n, pieces), pool (n, words, pieces), labels (n, words), hints
    (n, words, 2 · HINTS), soft (n, words, labels); `taught` (n, words) says which words teachers have read.
    """

    ids: Tensor
    mask: Tensor
    pool: Tensor
    labels: Tensor
    hints: Tensor | None
    soft: Tensor | None
    taught: Tensor


class Encoder:
    """Examples to numbers, as `lore_mm.models.query_tagger` reads texts."""

    def __init__(self, tokenizer: Path, *, hints: bool) -> None:
        self.tokenizer = tokenizer.read_bytes()
        self._reader = Reader(self.tokenizer, tokenizer)
        self._scanner = scanner_for(load_knowledge()) if hints else None

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """As many, in the same order."""
        texts = [[one.text[a:b] for a, b in one.words] for one in examples]
        made = []
        for one, pieces in zip(examples, self._reader.read(texts), strict=True):
            hints = None if self._scanner is None else hints_of(one.text, one.words, self._scanner)
            labels = one.labels or (IGNORED,) * len(one.words)
            made.append(Encoded(pieces.ids, pieces.words, hints, labels, one.soft))
        return made


class TaggerModel(nn.Module):
    """Logits of labels for words."""

    def __init__(self, body: Any, labels: int, *, hints: bool, dropout: float = 0.1) -> None:
        super().__init__()
        self.body: Any = body
        width = body.config.hidden_size
        for module in body.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        self.dropout = nn.Dropout(dropout)
        self.hints = nn.Linear(2 * len(HINTS), width, bias=False) if hints else None
        if self.hints is not None:
            nn.init.zeros_(self.hints.weight)
        self.out = nn.Linear(width, labels)

    @classmethod
    def of_body(cls, folder: Path, labels: int, *, hints: bool, dropout: float = 0.1) -> TaggerModel:
        """On the BERT of a folder (config.json, model.safetensors).

        Raises:
            ModelError: the folder holds no BERT.
        """
        return cls(open_body(folder), labels, hints=hints, dropout=dropout)

    def forward(self, batch: Batch) -> Tensor:
        """(n, words, labels)."""
        inputs = self.body.embeddings.word_embeddings(batch.ids)
        if self.hints is not None and batch.hints is not None:
            inputs = inputs + torch.bmm(batch.pool.transpose(1, 2).gt(0).float(), self.hints(batch.hints))
        hidden = self.body(inputs_embeds=inputs, attention_mask=batch.mask).last_hidden_state
        logits: Tensor = self.out(self.dropout(torch.bmm(batch.pool, hidden)))
        return logits

    def named_groups(self) -> Iterator[tuple[str, nn.Parameter, int | None]]:
        """Every parameter with its depth: layers above it in the body, None for what stands on the body."""
        return by_depth(self, self.body.config.num_hidden_layers)


def collate(rows: Sequence[Encoded], device: str = "cpu") -> Batch:
    """Examples side by side."""
    n, pieces, words = len(rows), max(len(r.ids) for r in rows), max(1, *(len(r.labels) for r in rows))
    ids, mask = np.zeros((n, pieces), dtype=np.int64), np.zeros((n, pieces), dtype=np.int64)
    pool = np.zeros((n, words, pieces), dtype=np.float32)
    labels = np.full((n, words), IGNORED, dtype=np.int64)
    hinted, taught = any(r.hints is not None for r in rows), np.zeros((n, words), dtype=np.bool_)
    width = next((r.soft.shape[1] for r in rows if r.soft is not None), 0)
    hints = np.zeros((n, words, 2 * len(HINTS)), dtype=np.float32)
    soft = np.zeros((n, words, width), dtype=np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)], mask[i, : len(row.ids)] = row.ids, 1
        places = np.flatnonzero(row.words >= 0)
        pool[i, row.words[places], places] = 1
        labels[i, : len(row.labels)] = row.labels
        if row.hints is not None:
            hints[i, : len(row.hints)] = row.hints
        if row.soft is not None:
            soft[i, : len(row.soft)], taught[i, : len(row.soft)] = row.soft, True
    pool /= np.maximum(pool.sum(axis=-1, keepdims=True), 1)
    put = [torch.from_numpy(array).to(device) for array in (ids, mask, pool, labels, hints, soft, taught)]
    return Batch(put[0], put[1], put[2], put[3], put[4] if hinted else None, put[5] if width else None, put[6])


def masked(batch: Batch, share: float, mask_id: int, generator: torch.Generator) -> Batch:
    """The batch with a share of its pieces hidden, and of its words' hints."""
    hidden = (torch.rand(batch.ids.shape, generator=generator) < share).to(batch.ids.device)
    ids = torch.where(hidden & (batch.ids >= _FIRST_ORDINARY), torch.full_like(batch.ids, mask_id), batch.ids)
    hints = batch.hints
    if hints is not None:
        kept = torch.rand(hints.shape[:2], generator=generator) > share
        hints = hints * kept[..., None].to(hints.device)
    return replace(batch, ids=ids, hints=hints)
