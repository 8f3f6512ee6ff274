"""Photos with their tower features, and what is held out of a fit: the material of every fit and measurement.

What is held out, always: the validation photos of the groceries' source, a fifth of Luma's parents and a fifth of the
clothing's senders, drawn by a fixed seed, and the whole of a demo catalogue; and, by the number of the split, 16
classes of groceries. This module knows nothing of metrics.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.clip.data import PhotoSet
from jobs.clip.features import VIEWS, Towers
from jobs.clip.fit import Material, Recipe, class_bridge, fit_heads
from lore_mm.models.clip_tiny import ImageHead, TextHead

__all__ = ["HELD_OUT_CLASSES", "SET_WEIGHTS", "Features", "Mask", "Workshop", "held_out", "unit"]

Features = NDArray[np.float32]
Mask = NDArray[np.bool_]
HELD_OUT_CLASSES = 16
SET_WEIGHTS = {"grocery": 1.0, "luma": 0.3, "clothing": 0.5}
_MANY = 4000  # photos: a set as large gets one view a photo


def held_out(photos: PhotoSet, split: int, classes: int = HELD_OUT_CLASSES) -> tuple[Mask, Mask]:
    """Which photos are held out of training: (by class, by group), disjoint.

    Classes are drawn from groceries only, by the split's number; groups (the source's own test where it has one, else a
    fifth) are the same in every split.
    """
    labels = sorted({p.label for p in photos.photos})
    drawn: set[str] = set()
    if photos.name == "grocery":
        drawn = {labels[i] for i in np.random.default_rng(split).permutation(len(labels))[:classes]}
    groups = sorted({p.group for p in photos.photos})
    fixed = photos.fixed_test or {
        groups[i] for i in np.random.default_rng(0).permutation(len(groups))[: len(groups) // 5]
    }
    by_class = np.asarray([p.label in drawn for p in photos.photos], dtype=np.bool_)
    by_group = np.asarray([p.group in fixed for p in photos.photos], dtype=np.bool_)
    return by_class, by_group & ~by_class


class Workshop:
    """The sets with their tower features: what fits and measurements draw on."""

    def __init__(self, sets: Sequence[PhotoSet], towers: Towers) -> None:
        self.sets = {one.name: one for one in sets}
        self.towers = towers
        self.pictures = {
            one.name: towers.pictures(
                one.name,
                [p.picture for p in one.photos],
                VIEWS if one.name != "demo" and len(one.photos) < _MANY else VIEWS[:1],
            )
            for one in sets
        }
        self.captions = {one.name: tuple(unit(towers.texts(one.captions(kind))) for kind in one.kinds) for one in sets}
        self.class_names = towers.class_names()
        forms = [_forms(names) for names in self.class_names]
        flat = unit(towers.texts([text for one in forms for text in one]))
        bounds = np.cumsum([0, *map(len, forms)])
        self.class_texts = [list(flat[a:b]) for a, b in itertools.pairwise(bounds)]
        self.mean_text: Features = np.mean([unit(np.mean(one, axis=0)) for one in self.class_texts], axis=0)

    def fit(self, split: int, recipe: Recipe) -> tuple[ImageHead, TextHead]:
        """Fit heads on all that this split leaves to train on."""
        materials = {}
        for name, one in self.sets.items():
            if name == "demo":
                continue
            by_class, by_group = held_out(one, split)
            keep = np.flatnonzero(~by_class & ~by_group)
            materials[name] = Material(
                self.pictures[name][keep],
                tuple(rows[keep] for rows in self.captions[name]),
                tuple([one.captions(kind)[i] for i in keep] for kind in one.kinds),
                [one.photos[i].label for i in keep],
                SET_WEIGHTS.get(name, 1.0),
            )
        bridge = class_bridge(self.class_texts, self.mean_text)
        return fit_heads(materials, bridge, torch.from_numpy(self.mean_text), self.towers.classifier(), recipe)


def _forms(names: Sequence[str]) -> list[str]:
    """The wordings of a class: the first name, all of them, and the first in a phrase."""
    return [names[0], ", ".join(names), f"a photo of {names[0]}"]


def unit(vectors: Any) -> Features:
    """Rows of length 1."""
    made: Features = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return made
