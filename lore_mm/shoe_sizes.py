"""Shoe sizes across systems: EU, UK and US, for men, women and children, by the length of the foot.

The formulas and their sources are data: `shoe_sizes.toml`. A conversion is never exact: makers differ by half a size
either way, so two sizes of different systems are near, not equal. This module knows no items and no text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["SYSTEMS", "Scale", "convert", "foot_lengths", "wearer"]

SYSTEMS = ("EU", "UK", "US")


class Scale(NamedTuple):
    """One system's sizes for one group: size = (foot length + allowance) / step - zero, in cm."""

    step: float
    allowance: float
    zero: float
    lowest: float
    highest: float

    def foot(self, size: float) -> float:
        """The length of the foot that a size is made for, in cm."""
        return (size + self.zero) * self.step - self.allowance

    def size(self, foot: float) -> float:
        """The size made for a foot of that length in cm, to the nearest half."""
        return round(2 * ((foot + self.allowance) / self.step - self.zero)) / 2


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _scales() -> Mapping[tuple[str, str], Scale]:
    return {
        (system, group): Scale(**fields)
        for system, groups in _table()["scales"].items()
        for group, fields in groups.items()
    }


def wearer(audiences: Iterable[str]) -> str | None:
    """Whose sizes an audience wears: men, women, children or small (the youngest); None where it does not say."""
    groups: Mapping[str, list[str]] = _table()["groups"]
    found = {group for audience in audiences for group, members in groups.items() if audience in members}
    if "small" in found:
        return "small"
    return found.pop() if len(found) == 1 else None


def foot_lengths(size: float, system: str | None, group: str | None = None) -> tuple[float, ...]:
    """The lengths of foot in cm that a size may mean: one a reading, the likelier first; empty where it is no size.

    `system` None: a plain number, read as the table says. Without a group, US sizes have a men's and a women's reading.
    """
    if system is None:
        system = "EU" if size >= _table()["eu_from"] else _table()["plain"]
    feet = (scale.foot(size) for scale in _readings(size, system, group) if scale.lowest <= size <= scale.highest)
    return tuple(dict.fromkeys(feet))


def convert(size: float, system: str | None, to: str, group: str | None = None) -> tuple[float, ...]:
    """A size in another system, to the nearest half: one a reading of it, the likelier first; empty if it is no size.

    `convert(9, "UK", "EU")` is (43.0,).
    """
    found = []
    for foot in foot_lengths(size, system, group):
        sizes = [s for scale in _readings(None, to, group) if scale.lowest <= (s := scale.size(foot)) <= scale.highest]
        found.extend(sizes)
    return tuple(dict.fromkeys(found))


def _readings(size: float | None, system: str, group: str | None) -> list[Scale]:
    """The scales that a size of a system may be of; `size` None where it is not known yet."""
    scales = _scales()
    if (system, "all") in scales and (system, "small") not in scales:
        return [scales[system, "all"]]
    grown = [scales[system, g] for g in ("all", group or "men", "men") if (system, g) in scales][:1]
    if group is None and (system, "women") in scales:
        grown.append(scales[system, "women"])
    small = [scales[system, "small"]] if (system, "small") in scales else []
    if group == "small":
        return small
    if group == "children":  # from 1 on the count begins anew: a 5 is a big child's, a 10 a small one's
        return small + grown if size is None else small if size >= 7 else grown
    return grown
