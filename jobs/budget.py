"""What a run may spend, what it will spend, and when it begins nothing more: tokens, prices, caps, an estimate.

A cap holds for a run as a whole: what earlier starts of it and other workers spent counts. Before a micro-batch begins
it is asked whether it fits under the cap by what rows took so far, those in work included; where it does not, the
worker stops. Only the first micro-batch of a run begins without anything being known: the probe. It is made in some
pieces one after the other, so that the estimate has a range, and its rows are kept like any others.

Prices are the user's: this project ships none. This module reads no store.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.run_options import RunOptions
from lore_mm.errors import InputError
from lore_mm.models.chat import NO_USAGE, Usage

__all__ = ["ANY_MODEL", "Budget", "Estimate", "Price", "Prices", "Spent", "budget_of", "read_prices", "total"]

Spent = Mapping[str, Usage]  # by the name of the model
ANY_MODEL = "*"  # in a file of prices: every model that is not named there
_MILLION = 1_000_000
_MOST_BYTES = 1 << 20  # of a file of prices
# Student's t, 97.5 %, by degrees of freedom: how far the mean of so few pieces may be from that of all
_T = {2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36}


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in whatever money the user counts."""

    prompt: float
    completion: float

    def cost(self, usage: Usage) -> float:
        """What tokens cost."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model. A model is named as `lore status` does (openai:URL#NAME), or by its name alone (NAME)."""

    by_model: Mapping[str, Price]

    def of(self, model: str) -> Price:
        """The price of a model.

        Raises:
            InputError: there is none.
        """
        for name in (model, model.rpartition("#")[2], model.partition(":")[2], ANY_MODEL):
            if name in self.by_model:
                return self.by_model[name]
        raise InputError(f'--price: none for {model}; name it, or give one for all others as ["{ANY_MODEL}"]')

    def cost(self, spent: Spent) -> float:
        """What all of it costs."""
        return sum(self.of(model).cost(usage) for model, usage in spent.items())


def read_prices(spec: str) -> Prices:
    """Prices from `prompt=0.15,completion=0.6`, for any model, or from a TOML file with a table for each model.

    Raises:
        InputError: neither; or a price that is no number of 0 and more.
    """
    if "=" in spec and not Path(spec).is_file():
        pairs = [part.partition("=")[::2] for part in spec.split(",") if part.strip()]
        return Prices({ANY_MODEL: _price({name.strip(): value.strip() for name, value in pairs}, f"--price {spec}")})
    try:
        data = Path(spec).expanduser().read_bytes()[:_MOST_BYTES]
        said = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        legal = "prompt=NUMBER,completion=NUMBER, what a million tokens cost, or a TOML file"
        raise InputError(f"--price {spec}: {error.strerror}; legal: {legal}") from None
    except ValueError as error:
        raise InputError(f"--price {spec}: {error}") from None
    if {"prompt", "completion"} & set(said):
        return Prices({ANY_MODEL: _price(said, f"--price {spec}")})
    if not said:
        raise InputError(f"--price {spec}: no prices in it")
    return Prices({model: _price(one, f"--price {spec}: {model}") for model, one in said.items()})


def _price(said: object, place: str) -> Price:
    if not isinstance(said, Mapping) or set(said) != {"prompt", "completion"}:
        raise InputError(f"{place}: exactly prompt and completion are wanted, what a million tokens of each cost")
    values = []
    for name in ("prompt", "completion"):
        try:
            value = math.nan if isinstance(said[name], bool) else float(said[name])
        except (TypeError, ValueError):
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{place}: {name} is {said[name]!r}; legal: a number of 0 and more")
        values.append(value)
    return Price(*values)


def total(spent: Spent) -> Usage:
    """All models together."""
    return sum(spent.values(), NO_USAGE)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What rows will take by what the first ones took: the mean of a row, and its bounds (95 %), None where unknown."""

    rows: int  # that were looked at
    mean: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, pieces: Sequence[tuple[int, float]]) -> Estimate:
        """From pieces (rows, what they took), of nearly equal size."""
        rows = sum(n for n, _ in pieces)
        mean = sum(took for _, took in pieces) / rows
        free = len(pieces) - 1
        if free not in _T:
            return cls(rows, mean)
        spread = math.sqrt(sum((took / n - mean) ** 2 for n, took in pieces) / free)
        off = _T[free] * spread / math.sqrt(len(pieces))
        return cls(rows, mean, max(0.0, mean - off), mean + off)


@dataclass(frozen=True, slots=True)
class _Cap:
    option: str
    most: float
    count: Callable[[Spent], float]
    show: Callable[[float], str]


def _tokens(spent: Spent) -> float:
    used = total(spent)
    return used.prompt_tokens + used.completion_tokens


def _show_tokens(n: float) -> str:
    return f"{n:,.0f} tokens"


def _show_cost(n: float) -> str:
    return f"{n:,.2f}" if n >= 1 or not n else f"{n:.3g}"


@dataclass
class Budget:
    """Caps and prices, and what is known of a run's spending. Not thread-safe: one thread asks it."""

    caps: Sequence[_Cap] = ()
    prices: Prices | None = None
    per_row: dict[str, float] = field(default_factory=dict)  # what is counted → what a row takes

    def check(self, job: str, spent: Spent | None) -> None:
        """See that what is asked for can be done; `spent` names the models, None where a job knows of none.

        Raises:
            InputError: there is nothing to cap, or a model has no price.
        """
        if self.caps and not spent:
            names = " and ".join(cap.option for cap in self.caps)
            raise InputError(f"{job} asks no model as it is set up: {names} would cap nothing")
        if self.prices and spent:
            self.prices.cost(spent)

    def cost(self, spent: Spent) -> float | None:
        """What it costs; None where no price is known."""
        return None if self.prices is None else self.prices.cost(spent)

    @property
    def counts(self) -> dict[str, Callable[[Spent], float]]:
        """What is counted: tokens, and cost where there are prices."""
        found: dict[str, Callable[[Spent], float]] = {"tokens": _tokens}
        return found if self.prices is None else {**found, "cost": self.prices.cost}

    def learn(self, spent: Spent, made: int, at_work: int) -> None:
        """What a row takes: `made` are done, `at_work` half counted; what was known is kept within what is possible."""
        if not made:
            return
        for name, count in self.counts.items():
            least, most = count(spent) / (made + at_work), count(spent) / made
            self.per_row[name] = min(max(self.per_row.get(name, least), least), most)

    def may_begin(self, spent: Spent, rows: int, at_work: int) -> bool | None:
        """Whether so many rows may begin beside those at work: yes, no, or None: not before something has ended."""
        for cap in self.caps:
            each = self.per_row.get("cost" if cap.option == "--max-cost" else "tokens")
            if cap.count(spent) >= cap.most:
                return None if at_work else False
            if each is None:
                if at_work:
                    return None
            elif cap.count(spent) + each * (rows + at_work) > cap.most:
                return None if at_work else False
        return True

    def reached(self, spent: Spent, rows: int) -> str:
        """Why a worker stopped before so many rows."""
        parts = []
        for cap in self.caps:
            used = cap.count(spent)
            each = self.per_row.get("cost" if cap.option == "--max-cost" else "tokens", 0.0)
            if used >= cap.most or used + each * rows > cap.most:
                part = f"{cap.show(used)} are spent, {cap.option} is {cap.show(cap.most)}"
                if used < cap.most:
                    part += f", and the next {rows:,} rows would take some {cap.show(each * rows)}"
                parts.append(part)
        return "; ".join(parts)

    def forecast(self, pieces: Sequence[tuple[int, Spent]], spent: Spent, left: int) -> str:
        """One line: what a row took, and what the rows left will take, with a range; where a cap will stop it."""
        tokens = Estimate.of([(n, _tokens(took)) for n, took in pieces])
        digits = 0 if tokens.mean >= 100 else 1
        line = f"{tokens.mean:,.{digits}f} tokens a row by the first {tokens.rows:,}; {left:,} left would take "
        line += _ranged(tokens, left, _show_tokens)
        if self.prices is not None:
            costs = Estimate.of([(n, self.prices.cost(took)) for n, took in pieces])
            line += f" and cost {_ranged(costs, left, _show_cost)}"
        for cap in self.caps:
            each = Estimate.of([(n, cap.count(took)) for n, took in pieces])
            need = cap.count(spent) + (each.mean if each.low is None else each.low) * left
            if need > cap.most and each.mean:
                rows = max(0, int((cap.most - cap.count(spent)) / each.mean))
                line += f"; {cap.option} stops it after some {rows:,} of them"
        return line


def _ranged(one: Estimate, left: int, show: Callable[[float], str]) -> str:
    line = f"some {show(one.mean * left)}"
    if one.low is not None and one.high is not None:
        line += f" ({show(one.low * left).removesuffix(' tokens')} to {show(one.high * left).removesuffix(' tokens')})"
    return line


def budget_of(options: RunOptions) -> Budget:
    """The budget that run options ask for.

    Raises:
        InputError: a cap that is not above 0, a cap on cost without prices, prices that are none.
    """
    spec = options.get("price")
    prices = None if spec is None else read_prices(spec)
    caps = []
    if (tokens := options.get("max_tokens")) is not None:
        if tokens <= 0:
            raise InputError(f"--max-tokens is {tokens}; legal: above 0")
        caps.append(_Cap("--max-tokens", tokens, _tokens, _show_tokens))
    if (cost := options.get("max_cost")) is not None:
        if not (math.isfinite(cost) and cost > 0):
            raise InputError(f"--max-cost is {cost:g}; legal: above 0")
        if prices is None:
            raise InputError("--max-cost needs --price: what a million tokens cost, prompt=NUMBER,completion=NUMBER")
        caps.append(_Cap("--max-cost", cost, prices.cost, _show_cost))
    return Budget(caps, prices)
