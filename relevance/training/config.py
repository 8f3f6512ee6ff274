"""The settings of a training run: a TOML file, and settings of the command line over it.

`TrainingConfig` is what every run has, `SftConfig` adds what supervised training needs. A key that is not known is
refused with the nearest that is. Paths in a file are taken from the folder where the command runs. This module knows
no model.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lore_mm.errors import ConfigError, nearest
from lore_mm.fingerprint import sha_of
from relevance.chain import Depth, Order

__all__ = ["Dev", "Lora", "SftConfig", "Step", "TrainingConfig", "load_config", "moving", "settings_sha"]

Schedule = Literal["constant", "linear", "cosine"]
# What may change between a killed run and the one that goes on: it moves no weight.
_IDLE = ("out", "log_every", "save_every", "keep", "dev", "device")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str | Mapping) else value


class Lora(_Part):
    """A low-rank adapter (Hu et al. 2021, arXiv 2106.09685): W + (alpha / r) · B A.

    `targets`: all-linear (every linear map of the language model but the head), or names of modules.
    """

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)  # of what goes into A; it costs time on every map
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class Dev(_Part):
    """What is measured while training: `rows` of the split dev, `samples` of each at `temperature`, and one greedy.

    Every `every` steps, and at the end of every stage; `every` 0: at the ends alone; `rows` 0: never.
    """

    rows: int = Field(default=64, ge=0)
    samples: int = Field(default=8, ge=1)
    every: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=384, ge=1)  # of a reply
    resamples: int = Field(default=200, ge=0)  # of the bootstrap behind the intervals
    batch: int = Field(default=32, ge=1)  # replies written at once


class TrainingConfig(_Part):
    """What supervised and reinforcement training share.

    `model`: a folder, a hub repository, a name of the model table, or a folder with an adapter to go on from.
    `rows`: Parquet files or folders of them. `out`: where everything is written. `full`: every weight moves, there is
    no adapter. `batch` rows times `accumulation` make one step on each device. `warmup`: share of the steps.
    `strict`: a row that cannot be used ends the run; else it is left out, counted and told.
    """

    model: str = Field(min_length=1)
    rows: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(min_length=1)
    out: str = ""
    lora: Lora = Lora()
    full: bool = False
    order: Order = "think_first"
    cite: bool = False  # chains name the rules they follow
    max_length: int = Field(default=1024, ge=8)  # tokens of prompt and answer together
    batch: int = Field(default=8, ge=1)
    accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)  # longest gradient
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: float32 on a CPU, bfloat16 elsewhere
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool | None = None  # None: on a GPU
    pictures: bool = True  # a model that sees is shown the rows' pictures
    picture_side: int = Field(default=512, ge=16)  # longer side, in pixels
    strict: bool = False
    log_every: int = Field(default=10, ge=1)
    save_every: int = Field(default=200, ge=1)  # steps between checkpoints
    keep: int = Field(default=1, ge=1)  # checkpoints
    dev: Dev = Dev()

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and raw.get("full") and "lora" in raw:
            raise ValueError("full = true moves every weight and lora trains an adapter: give one of them")
        return raw


class Step(_Part):
    """One stage of the curriculum: the rows' chains at a depth.

    `epochs` are passes over the rows, of which there are at most `rows` (0: all); `max_steps` ends the stage earlier
    (0: it does not).
    """

    depth: Depth
    epochs: float = Field(default=1.0, gt=0)
    rows: int = Field(default=0, ge=0)
    max_steps: int = Field(default=0, ge=0)
    learning_rate: float | None = Field(default=None, gt=0)  # another than the run's


def _steps(value: object) -> object:
    listed = _listed(value)
    return [{"depth": one} if isinstance(one, str) else one for one in listed] if isinstance(listed, list) else listed


class SftConfig(TrainingConfig):
    """Supervised training: a curriculum of stages over the same model, each kept by the name of its depth.

    `packing` puts several rows into one sequence of max_length; it pays with flash attention, and not without.
    """

    steps: Annotated[tuple[Step, ...], BeforeValidator(_steps)] = (
        Step(depth="knowledge"),
        Step(depth="multimodal"),
        Step(depth="rules"),
    )
    packing: bool = False

    @model_validator(mode="after")
    def _legal(self) -> SftConfig:
        depths = [step.depth for step in self.steps]
        if not depths or len(set(depths)) < len(depths):
            raise ValueError(f"steps are {', '.join(depths) or 'none'}: every step stands once, and there is one")
        return self


Config = TypeVar("Config", bound=TrainingConfig)


def load_config(kind: type[Config], path: Path | str, settings: Sequence[str] = (), out: str | None = None) -> Config:
    """The config of a TOML file; `settings` are KEY=VALUE over it, KEY as in `lora.r`, VALUE as in TOML or a bare word.

    Raises:
        ConfigError: the file is not there or no TOML; or naming the key, what is wrong and what is legal.
    """
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    for one in settings:
        _put(raw, one)
    if out is not None:
        raw["out"] = out
    try:
        config = kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_fault(kind, error)}") from None
    if not config.out:
        raise ConfigError(f'{path}: nothing says where to write: out = "FOLDER", or --out FOLDER')
    return config


def settings_sha(config: TrainingConfig) -> str:
    """Identifies what moves the weights: a checkpoint of another one is not gone on from."""
    return sha_of(moving(config))


def moving(config: TrainingConfig) -> dict[str, Any]:
    """The settings that move weights, as JSON has them."""
    return config.model_dump(mode="json", exclude=set(_IDLE))


def _put(raw: dict[str, Any], setting: str) -> None:
    """Put KEY=VALUE into the nested table `raw`."""
    key, sign, text = setting.partition("=")
    *above, last = (part.strip() for part in key.split("."))
    if not sign or not last:
        raise ConfigError(f"--set {setting!r}: legal is KEY=VALUE, such as lora.r=8")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word
    table = raw
    for part in above:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {setting!r}: {part} is no table")
        table = inner
    table[last] = value


def _fault(kind: type[BaseModel], error: ValidationError) -> str:
    """The first fault in words: the key, what is wrong, and what is near or legal."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        legal = _keys(kind, place[:-1])
        return f"no setting {where!r}{nearest(place[-1], legal)}; legal: {', '.join(legal)}"
    if first["type"] == "missing":
        return f"{where} is missing"
    said = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "value_error" else f", not {first['input']!r}"[:80]
    return f"{where}: {said}{given}" if where else said


def _keys(kind: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The keys that are legal at a place of a config."""
    here: type[BaseModel] = kind
    for part in place:
        if part.isdigit():
            continue
        field = here.model_fields.get(part)
        inner = [one for one in _types(field.annotation if field else None) if issubclass(one, BaseModel)]
        here = inner[0] if inner else here
    return list(here.model_fields)


def _types(annotation: Any) -> list[type]:
    """The classes an annotation mentions."""
    found = [annotation] if isinstance(annotation, type) else []
    return found + [one for part in get_args(annotation) for one in _types(part)]
