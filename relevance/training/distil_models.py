"""The two students and what they lose: a cross-encoder and a bi-encoder of sentence-transformers, with their heads.

The cross-encoder reads query and item together; from its first piece a small map tells the four levels, and beside them
the level of each dimension. All of it is modules of sentence-transformers, so that a folder opens anywhere.

The bi-encoder reads each text alone, so that items can be put into an index. Two things tell the levels of a pair:
its *cosine*, by an ordinal model (McCullagh, Regression models for ordinal data, 1980), P(level > k) = sigmoid(slope ·
cosine − cut k) with one slope above 0 and rising cuts, so that who has the higher cosine has the higher expected grade,
and a search in an index ranks as the student grades; and a *head* on [u, v, |u − v|] (Reimers & Gurevych,
Sentence-BERT, 2019), which may know better and cannot be searched by. The head of the dimensions stands beside it.

Needs sentence-transformers. This module knows no files but those of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from lore_mm.errors import ModelError
from relevance.training.distil_rows import TaughtPair, dimensions

__all__ = [
    "LEVELS",
    "BiLoss",
    "CrossLoss",
    "LostLoss",
    "PairHeads",
    "Weights",
    "bi_encoder",
    "cross_encoder",
    "target_of",
]

LEVELS = 4
_BETWEEN = 128  # width between the body and the levels
_LABEL, _FIRST = LEVELS, LEVELS + 1  # where in a target the label stands, and the first dimension
_NONE = -100  # what cross_entropy leaves out


class Weights:
    """How much each part of the loss counts: label, alpha (the teacher's probabilities), gamma (the dimensions)."""

    def __init__(self, label: float, alpha: float, gamma: float) -> None:
        self.label, self.alpha, self.gamma = label, alpha, gamma


def target_of(pair: TaughtPair) -> list[float]:
    """A pair's target as one row of numbers: P(L1) … P(L4), the label, the level of each dimension; 0 for none."""
    return [*pair.likely, float(pair.label), *map(float, pair.levels)]


def _body(folder: Path, max_length: int) -> Any:
    try:
        return Transformer(str(folder), max_seq_length=max_length, model_kwargs={"use_safetensors": True})
    except Exception as error:  # the loader raises whatever it meets in a folder
        said = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"{folder} cannot be opened as a body ({type(error).__name__}: {said})") from None


def cross_encoder(folder: Path, max_length: int, device: str) -> Any:
    """A CrossEncoder on the body of a folder: scores (n, 4), and `dimensions` (n, 4 · dimensions) beside them.

    Raises:
        ModelError: the folder holds no body.
    """
    body = _body(folder, max_length)
    width = body.get_embedding_dimension()
    told = len(dimensions()) * LEVELS
    modules = [
        body,
        Pooling(width, "cls"),
        Dense(width, _BETWEEN, activation_function=nn.GELU(), module_output_name="joined"),
        Dense(_BETWEEN, LEVELS, activation_function=None, module_input_name="joined", module_output_name="scores"),
        Dense(_BETWEEN, told, activation_function=None, module_input_name="joined", module_output_name="dimensions"),
    ]
    return CrossEncoder(modules=modules, device=device)


def bi_encoder(folder: Path, max_length: int, device: str) -> Any:
    """A SentenceTransformer on the body of a folder: the mean over a text's pieces, at length 1.

    Raises:
        ModelError: the folder holds no body.
    """
    body = _body(folder, max_length)
    return SentenceTransformer(
        modules=[body, Pooling(body.get_embedding_dimension(), "mean"), Normalize()], device=device
    )


class PairHeads(nn.Module):
    """What tells the levels of two vectors (n, width) of length 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.levels = nn.Linear(3 * width, LEVELS)
        self.dimensions = nn.Linear(3 * width, LEVELS * len(dimensions()))
        # of the ordinal model: cosines of such bodies lie about 0.2 to 0.9
        self.slope = nn.Parameter(torch.tensor(10.0))
        self.cut = nn.Parameter(torch.tensor(3.0))
        self.gaps = nn.Parameter(torch.tensor([1.0, 1.0]))

    def by_cosine(self, cosine: Tensor) -> Tensor:
        """Log-probabilities of L1 … L4, (n, 4), of cosines (n,)."""
        slope, cuts = self.ordinal()
        above = torch.sigmoid(slope * cosine[:, None] - cuts)  # P(level > 1 … 3), falling
        edges = torch.cat([torch.ones_like(above[:, :1]), above, torch.zeros_like(above[:, :1])], dim=1)
        return (edges[:, :-1] - edges[:, 1:]).clamp(min=1e-9).log()

    def ordinal(self) -> tuple[Tensor, Tensor]:
        """The slope and the three cuts of the ordinal model."""
        return softplus(self.slope), self.cut + torch.cat([self.cut.new_zeros(1), softplus(self.gaps).cumsum(0)])

    def by_head(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the levels (n, 4), and of the dimensions' (n, 4 · dimensions)."""
        both = torch.cat([u, v, (u - v).abs()], dim=1) * self.width**0.5  # entries of unit vectors are small
        return self.levels(both), self.dimensions(both)


def _parts(levels: Tensor, told: Tensor, target: Tensor, weights: Weights) -> dict[str, Tensor]:
    """The parts of the loss, each a mean over the pairs of a batch.

    Args:
        levels: log-probabilities of L1 … L4 up to a constant, (n, 4).
        told: logits of the dimensions' levels, (n, 4 · dimensions).
        target: rows of `target_of`, (n, 5 + dimensions).
        weights: of the parts.
    """
    n = len(target)
    log_student = levels.log_softmax(-1)
    likely = target[:, :LEVELS]
    label = target[:, _LABEL].long() - 1
    of_dimensions = target[:, _FIRST:].long() - 1
    divergence = (torch.xlogy(likely, likely) - likely * log_student).sum()
    by_label = cross_entropy(log_student, torch.where(label < 0, _NONE, label), ignore_index=_NONE, reduction="sum")
    by_dimension = cross_entropy(
        told.reshape(-1, LEVELS),
        torch.where(of_dimensions < 0, _NONE, of_dimensions).reshape(-1),
        ignore_index=_NONE,
        reduction="sum",
    )
    return {
        "of_label": weights.label * by_label / n,
        "of_teacher": weights.alpha * divergence / n,
        "of_dimensions": weights.gamma * by_dimension / n,
    }


class LostLoss(ModelError):
    """A loss that is no number; `texts` are the pairs of the batch."""

    def __init__(self, parts: Mapping[str, float], texts: Sequence[tuple[str, ...]]) -> None:
        super().__init__("the loss is no number: " + ", ".join(f"{name} {value}" for name, value in parts.items()))
        self.parts, self.texts = dict(parts), list(texts)


def _finite(parts: dict[str, Tensor], texts: Callable[[], Sequence[tuple[str, ...]]]) -> dict[str, Tensor]:
    if torch.isfinite(torch.stack(list(parts.values())).sum()):
        return parts
    raise LostLoss({name: value.item() for name, value in parts.items()}, texts())


class CrossLoss(nn.Module):
    """The loss of a cross-encoder, as CrossEncoderTrainer calls it."""

    def __init__(self, model: Any, weights: Weights) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, inputs: Sequence[Sequence[str]], labels: Any, prompt: Any = None, task: Any = None) -> Any:
        """The parts by name."""
        texts = list(zip(*inputs, strict=True))
        device = self.model.device
        read = {name: one.to(device) if isinstance(one, Tensor) else one for name, one in self._read(texts).items()}
        target = torch.stack(list(labels)).to(device)
        made = self.model(read)
        return _finite(_parts(made["scores"], made["dimensions"], target, self.weights), lambda: texts)

    def _read(self, texts: Sequence[tuple[str, ...]]) -> dict[str, Any]:
        return dict(self.model.preprocess([list(text) for text in texts]))


class BiLoss(nn.Module):
    """The loss of a bi-encoder and its heads, as SentenceTransformerTrainer calls it: cosine and head learn alike."""

    def __init__(self, model: Any, heads: PairHeads, weights: Weights) -> None:
        super().__init__()
        self.model, self.heads, self.weights = model, heads, weights

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Any:
        """The parts by name; label and teacher are lost by the cosine and by the head, each in full."""
        read = list(sentence_features)
        u, v = (self.model(dict(features))["sentence_embedding"] for features in read)
        levels, told = self.heads.by_head(u, v)
        by_head = _parts(levels, told, labels, self.weights)
        by_cosine = _parts(self.heads.by_cosine((u * v).sum(dim=1)), told, labels, self.weights)
        parts = {"of_dimensions": by_head["of_dimensions"]}
        for name in ("of_label", "of_teacher"):
            parts |= {f"{name}_by_head": by_head[name], f"{name}_by_cosine": by_cosine[name]}
        return _finite(parts, lambda: list(zip(*map(self._texts, read), strict=True)))

    def _texts(self, features: Mapping[str, Tensor]) -> list[str]:
        found: list[str] = self.model.tokenizer.batch_decode(features["input_ids"], skip_special_tokens=True)
        return found
