"""Shoe sizes across systems: EU, UK and US, for men, women and children, by the length of the foot.

The formulas and their sources are data: `shoe_sizes.toml`. A conversion is never exact: makers differ by half a size
either way. This module knows no items and no text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lore_mm.knowledge import Knowledge

__all__ = ["SYSTEMS", "ShoeSize", "convert", "foot_lengths", "has_shoe_sizes", "sizes_apart", "system_of", "wearer"]

SYSTEMS = ("EU", "UK", "US")
_ANEW = 7  # children's sizes from here on are of the first run, smaller ones of the second ("size 5" of a "kid")


class ShoeSize(NamedTuple):
    """A size, or a range of sizes where `high` is above `low`, in one of SYSTEMS; None: not said in which."""

    low: float
    high: float
    system: str | None = None


class _Scale(NamedTuple):
    step: float
    allowance: float
    zero: float
    lowest: float
    highest: float

    def foot(self, size: float) -> float:
        """The length in cm of the foot that a size is made for."""
        return (size + self.zero) * self.step - self.allowance

    def size(self, foot: float) -> float:
        """The size made for a foot of that length in cm, to the nearest half."""
        return round(2 * ((foot + self.allowance) / self.step - self.zero)) / 2

    def has(self, size: float) -> bool:
        return self.lowest <= size <= self.highest


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _scales() -> Mapping[tuple[str, str], _Scale]:
    table = _table()["scales"]
    return {(system, run): _Scale(**fields) for system, runs in table.items() for run, fields in runs.items()}


def has_shoe_sizes(category: str | None, knowledge: Knowledge) -> bool:
    """True for what is worn on the feet by shoe size."""
    if category is None or category not in knowledge.categories:
        return False
    if knowledge.department(category) in _table()["departments"]:
        return True
    return any(knowledge.is_a(category, kind) for kind in _table()["categories"])


def wearer(audiences: Iterable[str]) -> str | None:
    """Whose sizes an audience wears: men, women, children or small (the youngest); None where it does not say."""
    groups: Mapping[str, list[str]] = _table()["groups"]
    found = {group for audience in audiences for group, members in groups.items() if audience in members}
    if "small" in found:
        return "small"
    return found.pop() if len(found) == 1 else None


def system_of(size: float, system: str | None = None, group: str | None = None, beside: str | None = None) -> str:
    """The system of a size: as said; else EU for large numbers; else that of another size `beside` it, or the usual."""
    if system is not None:
        return system
    if size >= _table()["eu_from_children" if group in ("children", "small") else "eu_from"]:
        return "EU"
    return beside if beside in ("UK", "US") else str(_table()["plain"])


def foot_lengths(size: float, system: str | None, group: str | None = None) -> tuple[float, ...]:
    """The lengths of foot in cm that a size may mean: one a reading, the likelier first; empty where it is no size.

    Without a group, a US size has a men's and a women's reading.
    """
    scales = _readings(size, system_of(size, system, group), group)
    return tuple(scale.foot(size) for scale in scales if scale.has(size))


def convert(size: float, system: str | None, to: str, group: str | None = None) -> tuple[float, ...]:
    """A size in another system, to the nearest half: one a reading of it, the likelier first; empty if it is no size.

    `convert(9, "UK", "EU")` is (43.0,).
    """
    if system_of(size, system, group) == to:
        return (size,) if foot_lengths(size, to, group) else ()
    sizes = [
        there
        for foot in foot_lengths(size, system, group)
        for scale in _readings(None, to, group)
        if scale.has(there := scale.size(foot))
    ]
    return tuple(dict.fromkeys(sizes))


def sizes_apart(one: ShoeSize, other: ShoeSize, group: str | None = None) -> float | None:
    """How many EU sizes lie between two sizes of different systems, in their nearest readings; 0 where they meet.

    None where either is no size that exists.
    """
    ends = []
    for size, beside in ((one, other.system), (other, one.system)):
        system = system_of(size.low, size.system, group, beside)
        ends.append([foot_lengths(n, system, group) for n in (size.low, size.high)])
    (low, high), (low_there, high_there) = ends
    gaps = [
        max(c - b, a - d, 0.0)
        for a, b in zip(low, high, strict=False)
        for c, d in zip(low_there, high_there, strict=False)
    ]
    return min(gaps) / _scales()["EU", "all"].step if gaps else None


def _readings(size: float | None, system: str, group: str | None) -> list[_Scale]:
    """The scales that a size of a system may be of; `size` None where it is yet to be found."""
    scales = _scales()
    small = [scales[system, "small"]] if (system, "small") in scales else []
    runs = ("all", "women") if group == "women" else ("all", "men") if group else ("all", "men", "women")
    grown = [scales[system, run] for run in runs if (system, run) in scales]
    if group == "small" and small:
        return small
    if group == "children" and small:
        return [*small, *grown] if size is None else small if size >= _ANEW else grown
    return grown
