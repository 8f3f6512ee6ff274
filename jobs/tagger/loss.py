"""What a tagger learns from: labels of words, and what teachers say of them. It knows no schedule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from jobs.tagger.learner import IGNORED, Batch, TaggerModel
from jobs.tagger.recipe import Recipe

__all__ = ["loss_of"]


def loss_of(model: TaggerModel, batch: Batch, recipe: Recipe) -> Tensor:
    """The mean over words of cross-entropy to the labels and divergence from the teachers."""
    logits = model(batch)
    loss = _to_targets(logits, batch, recipe)
    if recipe.agreement:
        again = model(batch)
        there = batch.labels != IGNORED
        one, two = logits[there].log_softmax(-1), again[there].log_softmax(-1)
        apart = kl_div(one, two, log_target=True, reduction="batchmean")
        apart = apart + kl_div(two, one, log_target=True, reduction="batchmean")
        loss = 0.5 * (loss + _to_targets(again, batch, recipe)) + 0.5 * recipe.agreement * apart
    return loss


def _to_targets(logits: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    labelled, taught = batch.labels != IGNORED, batch.taught
    hard = cross_entropy(
        logits.flatten(0, 1),
        batch.labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=recipe.smoothing,
        reduction="none",
    ).view_as(batch.labels)
    words = (labelled | taught).sum().clamp(min=1)
    if batch.soft is None:
        return hard.sum() / words
    warmth = recipe.temperature
    target = (batch.soft / warmth).log_softmax(-1)
    soft = kl_div((logits / warmth).log_softmax(-1), target, log_target=True, reduction="none").sum(-1) * warmth**2
    weight = torch.where(taught, recipe.gold, 1.0)
    soft_weight = torch.where(labelled, 1 - recipe.gold, 1.0) * taught
    return (weight * labelled * hard + soft_weight * soft).sum() / words
