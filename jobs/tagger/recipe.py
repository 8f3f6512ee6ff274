"""The settings of a tagger's training, and settings given as text. It knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from lore_mm.errors import InputError, nearest

__all__ = ["Recipe", "recipe_of"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of one fit; a checkpoint of other settings is refused, but for the minutes."""

    epochs: int = 6
    rate: float = 1e-4  # of the body, at its highest
    head_rate: float = 1e-3  # of what stands on the body
    batch: int = 32
    warm_up: float = 0.1  # share of the steps over which the rate rises; then it falls to nothing, linearly
    dropout: float = 0.2
    word_drop: float = 0.1  # share of pieces masked, and of words' hints hidden
    mean_of_weights: float = 0.995  # decay of the exponential mean over the steps; 0 takes the last weights
    swap: float = 0.0  # share of labelled spans changed for others of their type, anew each epoch; not beside teachers
    smoothing: float = 0.0  # of labels
    agreement: float = 0.0  # weight of the divergence between two passes' dropouts (R-Drop, Liang et al. 2021)
    weight_decay: float = 0.01
    layer_decay: float = 1.0  # factor of the rate from each layer to the one below
    freeze_embeddings: bool = False
    hints: bool = True  # the model is told what the knowledge tables know of each word
    gold: float = 0.3  # weight of the labels where teachers have read the query too
    temperature: float = 1.0  # of teachers and student in distillation
    clip: float = 1.0  # longest gradient
    seed: int = 0
    minutes: float = 0.0  # at most, the schedule falls to nothing by then; 0: as long as the epochs take


def recipe_of(base: Recipe, given: Sequence[str]) -> Recipe:
    """The recipe with settings replaced: name=value each.

    Raises:
        InputError: no such setting, or a value of another kind.
    """
    kinds = {field.name: type(getattr(base, field.name)) for field in fields(base)}
    made: dict[str, Any] = {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in kinds:
            raise InputError(f"no setting {name!r}{nearest(name, kinds)}; legal: {', '.join(kinds)}")
        try:
            made[name] = {"true": True, "false": False}[value] if kinds[name] is bool else kinds[name](value)
        except (ValueError, KeyError):
            wanted = "true or false" if kinds[name] is bool else f"a number of type {kinds[name].__name__}"
            raise InputError(f"setting {name}={value!r}: legal is {wanted}") from None
    return replace(base, **made)
