"""The settings of a fit, and settings given as text. It knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from lore_mm.errors import InputError, nearest

__all__ = ["Schedule", "settings_of"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What every fit has; a checkpoint of other settings is refused, but for the minutes."""

    epochs: int = 6
    rate: float = 1e-4  # of the body, at its highest
    head_rate: float = 1e-3  # of what stands on the body
    batch: int = 32
    warm_up: float = 0.1  # share of the steps over which the rate rises; then it falls to nothing, linearly
    mean_of_weights: float = 0.995  # decay of the exponential mean over the steps; 0 takes the last weights
    weight_decay: float = 0.01
    layer_decay: float = 1.0  # factor of the rate from each layer to the one below
    freeze_embeddings: bool = False
    clip: float = 1.0  # longest gradient
    seed: int = 0
    minutes: float = 0.0  # at most, the schedule falls to nothing by then; 0: as long as the epochs take


Settings = TypeVar("Settings", bound=Schedule)


def settings_of(base: Settings, given: Sequence[str]) -> Settings:
    """The same with settings replaced: name=value each.

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
