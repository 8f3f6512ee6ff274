"""Fit the two heads of lore-clip-tiny on tower features: a ridge regression first, a gentle contrastive polish after.

The ridge maps pictures to the mean of their captions in closed form, less what the class bridge says already. Among
its rows are the 1000 rows of the tower's own classifier, each a picture of its class as the tower sees it, with the
class's names as caption: they hold the map to the whole width of the world while the photos pull it towards a few
shelves. The polish then sets right and wrong captions apart, held near the ridge and, on the text side, near the
identity. This module knows nothing of where photos come from or how heads are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lore_mm.models.clip_tiny import ImageHead, TextHead

__all__ = ["Material", "Recipe", "class_bridge", "fit_heads"]

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a fit. The values were found on class splits of groceries; see the model card."""

    ridge: float = 1e-3  # against the squared length of a feature vector, 1, averaged over the rows
    classes: float = 1.0  # weight of the classifier's rows, all together, beside a set's
    class_length: float = 0.3  # of a classifier's row, beside a picture's 1
    steps: int = 400
    batch: int = 192
    rate: float = 3e-4
    text_rate: float = 1e-4
    temperature: float = 0.07
    anchor: float = 1.0  # pull of the image map to the ridge; ten times that of the text map to the identity
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Material:
    """The photos of one set to learn from. `weight` is the set's share beside others."""

    pictures: Features  # (n, views, 1280)
    captions: tuple[Features, ...]  # one a kind: (n, 384), length 1, before the text head
    words: tuple[Sequence[str], ...]  # one a kind: the captions themselves; equal words are the same thing
    labels: Sequence[str]  # classes count alike, however many photos they have
    weight: float = 1.0


def class_bridge(names: Sequence[Sequence[Features]], mean: Features) -> Tensor:
    """The 1000 class vectors, (1000, 384): each the mean direction of its names, less the mean text."""
    rows = np.stack([_unit(np.mean(np.stack(list(one)), axis=0)) for one in names])
    return torch.from_numpy(rows - mean)


def fit_heads(
    materials: Mapping[str, Material],
    class_vectors: Tensor,
    mean_text: Tensor,
    classifier: tuple[Tensor, Tensor],
    recipe: Recipe,
) -> tuple[ImageHead, TextHead]:
    """Fit both heads. The same materials, recipe and machine give the same heads.

    `class_vectors` (1000, 384) as `class_bridge` makes them, `mean_text` (384,), `classifier` weight and bias.
    """
    torch.manual_seed(recipe.seed)
    image, text = ImageHead(), TextHead()
    with torch.no_grad():
        image.classifier.weight.copy_(classifier[0])
        image.classifier.bias.copy_(classifier[1])
        image.class_vectors.copy_(class_vectors)
        text.linear.bias.copy_(-mean_text)
        batches = [_Set(one, image) for one in materials.values()]
        total = sum(one.weight for one in batches)
        image.mean.copy_(sum((one.mean_picture * one.weight for one in batches), torch.zeros(())) / total)
        for one in batches:
            one.centre(image)
        rows = normalize(classifier[0] - classifier[0].mean(dim=0), dim=-1) * recipe.class_length
        image.beyond.weight.copy_(_ridge(batches, rows, class_vectors, text, recipe).T)
    if recipe.steps:
        _polish(batches, rows, class_vectors + mean_text, image, text, recipe)
    return image.eval(), text.eval()


class _Set:
    """The tensors of one set, with the constant parts of the forward pass computed once."""

    def __init__(self, material: Material, image: ImageHead) -> None:
        self.weight = material.weight
        self.pictures = torch.from_numpy(material.pictures)  # (n, v, 1280)
        self.captions = torch.from_numpy(np.stack(material.captions))  # (k, n, 384)
        self.same = [torch.from_numpy(np.unique(words, return_inverse=True)[1]) for words in material.words]
        _, label, count = np.unique(material.labels, return_inverse=True, return_counts=True)
        share = 1.0 / count[label]
        self.share = torch.from_numpy((share / share.sum()).astype(np.float32))  # (n,)
        self.by_class = torch.stack([image.by_class(view) for view in self.pictures.unbind(1)], dim=1)  # (n, v, 384)
        self.mean_picture = (self.pictures.mean(dim=1) * self.share[:, None]).sum(dim=0)
        self.centred = self.pictures

    def centre(self, image: ImageHead) -> None:
        self.centred = image.centred(self.pictures)


def _ridge(batches: Sequence[_Set], rows: Tensor, class_vectors: Tensor, text: TextHead, recipe: Recipe) -> Tensor:
    """The linear map (1280, 384) of least squared error from centred features to what the bridge leaves to be said."""
    width = rows.shape[1]
    weight = recipe.classes / len(rows)
    gram = weight * rows.T @ rows + recipe.ridge * torch.eye(width)
    right = weight * rows.T @ normalize(class_vectors, dim=-1)
    for one in batches:
        wanted = normalize(normalize(text(one.captions), dim=-1).mean(dim=0), dim=-1)  # (n, 384)
        views = one.centred.shape[1]
        for view in range(views):
            weighted = one.centred[:, view] * (one.share * one.weight / views)[:, None]
            gram += weighted.T @ one.centred[:, view]
            right += weighted.T @ (wanted - one.by_class[:, view])
    solved: Tensor = torch.linalg.solve(gram.double(), right.double()).float()
    return solved


def _polish(
    batches: Sequence[_Set], rows: Tensor, class_texts: Tensor, image: ImageHead, text: TextHead, recipe: Recipe
) -> None:
    """Contrastive steps on both maps. Photos whose caption of the drawn kind reads the same are one another's match."""
    chance = torch.Generator().manual_seed(recipe.seed)
    start, identity = image.beyond.weight.detach().clone(), torch.eye(text.linear.weight.shape[0])
    groups = [
        {"params": [image.beyond.weight], "lr": recipe.rate},
        {"params": [text.linear.weight], "lr": recipe.text_rate},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    for _ in range(recipe.steps):
        loss = recipe.anchor * (image.beyond.weight - start).square().sum() / start.square().sum()
        loss = loss + 10 * recipe.anchor * (text.linear.weight - identity).square().sum() / len(identity)
        for one in batches:
            loss = loss + one.weight * _contrast(one, image, text, recipe, chance)
        drawn = torch.randint(len(rows), (recipe.batch,), generator=chance)
        names = normalize(text(class_texts), dim=-1)
        logits = normalize(image.beyond(rows[drawn]), dim=-1) @ names.T / recipe.temperature
        loss = loss + 0.3 * recipe.classes * cross_entropy(logits, drawn)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _contrast(one: _Set, image: ImageHead, text: TextHead, recipe: Recipe, chance: torch.Generator) -> Tensor:
    drawn = torch.multinomial(one.share, recipe.batch, replacement=True, generator=chance)
    view = torch.randint(one.centred.shape[1], (recipe.batch,), generator=chance)
    kind = int(torch.randint(len(one.captions), (1,), generator=chance))
    pictures = normalize(one.by_class[drawn, view] + image.beyond(one.centred[drawn, view]), dim=-1)
    texts = normalize(text(one.captions[kind, drawn]), dim=-1)
    logits = pictures @ texts.T / recipe.temperature
    match = (one.same[kind][drawn][:, None] == one.same[kind][drawn][None, :]).float()
    match = match / match.sum(dim=1, keepdim=True)  # symmetric before, and alike in both directions
    return -0.5 * ((match * logits.log_softmax(1)).sum(1).mean() + (match.T * logits.log_softmax(0)).sum(0).mean())


def _unit(vectors: Features) -> Features:
    made: Features = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return made
