"""Labels of other scales → L1 … L4, by the table relevance.toml, which says why. It knows no file format."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from lore_mm.errors import ConfigError, InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.item_rows import number_of
from lore_mm.types import Grade

__all__ = ["Scale", "load_scales", "scale_named"]

_TABLE = Path(__file__).with_name("relevance.toml")


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of labels: named ones, or means from `lowest` to `highest` with the `cuts` at which L2, L3, L4 begin."""

    name: str
    why: str
    labels: Mapping[str, Grade]
    cuts: tuple[float, ...] = ()
    lowest: float = math.nan
    highest: float = math.nan

    @property
    def legal(self) -> str:
        """The legal labels, in words."""
        return f"numbers from {self.lowest:g} to {self.highest:g}" if self.cuts else ", ".join(self.labels)

    @property
    def sha(self) -> str:
        """Identifies what the scale does."""
        return sha_of([self.name, {k: int(v) for k, v in self.labels.items()}, list(self.cuts)])

    def grade(self, label: object, where: str) -> Grade:
        """The level of a label.

        Raises:
            InputError: the scale has no such label; it begins with `where` and names the legal ones.
        """
        number = number_of(label)
        if self.cuts:
            if number is not None and self.lowest <= number <= self.highest:
                return Grade(1 + sum(number >= cut for cut in self.cuts))
        else:
            whole = str(int(number)) if number is not None and math.isfinite(number) and number % 1 == 0 else None
            for name in (label.strip() if isinstance(label, str) else None, whole):
                if name is not None and name in self.labels:
                    return self.labels[name]
        hint = nearest(label[:60], self.labels) if isinstance(label, str) else ""
        raise InputError(f"{where}: {label!r:.60} is not a label of scale {self.name}{hint}; legal: {self.legal}")


@lru_cache(maxsize=1)
def load_scales() -> Mapping[str, Scale]:
    """The scales of relevance.toml by name.

    Raises:
        ConfigError: the table is broken.
    """
    scales: dict[str, Scale] = {}
    for name, entry in tomllib.loads(_TABLE.read_text(encoding="utf-8")).items():
        labels = {str(label): Grade[level] for label, level in entry.get("labels", {}).items()}
        cuts = tuple(float(cut) for cut in entry.get("cuts", ()))
        lowest, highest = entry.get("lowest", math.nan), entry.get("highest", math.nan)
        rising = list(cuts) == sorted(cuts) and len(cuts) == 3 and lowest <= cuts[0] and cuts[-1] <= highest
        if bool(labels) == bool(cuts) or (cuts and not rising) or not entry.get("why"):
            raise ConfigError(
                f"{_TABLE}, scale {name!r}: needs a sentence `why`, and either labels or three rising cuts"
            )
        scales[name] = Scale(name, entry["why"], MappingProxyType(labels), cuts, lowest, highest)
    return MappingProxyType(scales)


def scale_named(name: str) -> Scale:
    """The scale of a name.

    Raises:
        InputError: there is none.
    """
    scales = load_scales()
    if name not in scales:
        raise InputError(f"no label scale {name!r}{nearest(name, scales)}; legal: {', '.join(scales)}")
    return scales[name]
