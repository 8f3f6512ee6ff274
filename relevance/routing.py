"""Who answers for which pair: a routing as `lore calibrate route` fits it and the judge `route:FILE` keeps to it.

For each stratum of the traffic it says how sure the cheap judge must be to answer alone, and what was measured. It
holds for the two judges it was fitted with, and is refused for others. This module fits nothing and opens no judge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of
from lore_mm.types import Judgment

__all__ = ["AGREE", "Measured", "Routing", "StratumRoute", "differ", "how_sure", "read_routing", "write_routing"]

Agree = Literal["grade", "side"]
AGREE: Mapping[str, str] = {"grade": "the same level", "side": "both relevant (L3, L4) or both not"}
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Measured(BaseModel):
    """What a routing came to on queries it was not fitted on, in folds: shares in [0, 1], with a 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    served: Share
    agreement: Share
    low: Share
    high: Share


class StratumRoute(BaseModel):
    """One stratum: its threshold, and on what it rests.

    Attributes:
        least: how often a query of it is asked at least; 0 takes in those that no log has.
        sure: the cheap judge answers alone where its likeliest level has at least this probability; None: never.
        queries, pairs: how many it was fitted on; `served`, `agreement` are shares of them.
        p_value: of "it agrees less often than the target".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    least: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    sure: Share | None
    queries: int = Field(ge=0)
    pairs: int = Field(ge=0)
    served: Share
    agreement: Share | None
    p_value: Share
    held_out: Measured | None = None


class Routing(BaseModel):
    """A routing between a cheap judge and a dear one; `strata` from the most frequent queries down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    cheap: str
    cheap_sha: str
    dear: str
    dear_sha: str
    dear_options: dict[str, Any] = Field(default_factory=dict)
    agree: Agree
    target: Share
    confidence: Share
    hard_types: tuple[str, ...] = ()  # queries of these go to the dear judge, however sure the cheap one is
    strata: tuple[StratumRoute, ...] = Field(min_length=1)
    fitted_on: str = ""

    @cached_property
    def sha(self) -> str:
        """Identifies what it does."""
        does = [(s.least, s.sure) for s in self.strata]
        return sha_of([self.cheap_sha, self.dear_sha, sorted(self.hard_types), does])

    def stratum(self, asked: float | None) -> StratumRoute:
        """The stratum of a query that is asked so often; of one that no log has, the last."""
        return next((s for s in self.strata if asked is not None and asked >= s.least), self.strata[-1])


def how_sure(judgment: Judgment) -> float:
    """How sure a judge is of its grade: the probability of the likeliest level; NaN where it gave no grade."""
    if judgment.grade is None or judgment.probabilities is None:
        return math.nan
    return max(judgment.probabilities)


def differ(one: int, other: int, agree: str) -> bool:
    """Whether two levels, 1–4, are not the same answer."""
    return one != other if agree == "grade" else (one >= 3) != (other >= 3)


def read_routing(path: Path) -> Routing:
    """Read what `write_routing` wrote.

    Raises:
        ConfigError: it is not there or is no such file; the text names the key and the fault.
    """
    try:
        routing = Routing.model_validate_json(path.read_bytes(), strict=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(x) for x in fault["loc"])
        what = f"{place}: {fault['msg']}" if place else str(fault["msg"])
        raise ConfigError(f"{path}: {what}; `lore calibrate route` makes such a file") from None
    least = [s.least for s in routing.strata]
    if least != sorted(least, reverse=True):
        raise ConfigError(f"{path}: strata: legal: from the most frequent queries down, least {least} does not fall")
    return routing


def write_routing(routing: Routing, path: Path) -> None:
    """Write it as JSON, in place of what was there at one stroke."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(routing.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
