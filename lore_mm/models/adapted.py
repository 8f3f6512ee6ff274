"""A base and a LoRA trained on it, as one plain checkpoint in the cache that transformers and vLLM load by their own
means: W + (alpha / r) · B A (Hu et al. 2021, arXiv 2106.09685).

The trained part is a folder as peft writes it, adapter_config.json and adapter_model.safetensors, and beside them a
manifest.json that names the base and its sha: an adapter laid over another model would answer nonsense without a word
of complaint, and is refused. Tensors are added file by file, so that no model is built and no more than one file of
the base is held. This module knows nothing of how an adapter is trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of, sha_of_file
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
from lore_mm.models.hub import offline_where_unreachable
from lore_mm.models.smollm2 import kept
from lore_mm.models.table import load_table
from lore_mm.models.weights import weights_sha

__all__ = ["Adapter", "add_lora", "is_base", "manifest_of", "merged", "read_adapter"]

SETTINGS, WEIGHTS, MANIFEST = "adapter_config.json", "adapter_model.safetensors", "manifest.json"
_VERSION = 1  # of the merging below: part of the checkpoint's name
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
# Of a base, what is no tensor and is wanted: configuration, tokenizer, chat template.
_BESIDE = ("*.json", "*.jinja", "*.txt", "*.model")
_UNKNOWN = (
    "use_dora",
    "use_rslora",
    "fan_in_fan_out",
    "lora_bias",
    "alpha_pattern",
    "modules_to_save",
    "trainable_token_indices",
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained LoRA: its tensors as peft names them, and what B A is multiplied by."""

    scale: float
    tensors: Mapping[str, Any]

    def pairs(self) -> Iterator[tuple[str, Any, Any]]:
        """(name of the weight, A, B) of each adapted weight."""
        for key, down in self.tensors.items():
            stem = key.removesuffix(_DOWN)
            if stem != key:
                yield stem.removeprefix(_PREFIX) + ".weight", down, self.tensors[stem + _UP]


def merged(folder: Path, name: str = "") -> Path:
    """The folder of the whole checkpoint in the cache, made there first where it is not; `name` is the cache's for it.

    Raises:
        ModelError: the folder is not the trained part of a model, its base cannot be had, or is another one.
        MissingExtraError: torch or safetensors is not installed.
    """
    base, sha = _base_of(folder)
    below = Path(checkpoint_folder(base))
    if not below.is_dir():
        below = _fetched(base)
    if sha and not is_base(base, below, sha):
        raise ModelError(
            f"{folder}: was trained on {base} {sha[:12]}, and {base} is {checkpoint_sha(str(below))[:12]} here: "
            "another model, on which it would answer nonsense"
        )
    parts = [sha_of_file(folder / one) for one in (SETTINGS, WEIGHTS) if (folder / one).is_file()]
    key = sha_of([checkpoint_sha(str(below)), parts, _VERSION])[:12]
    return kept(name or folder.resolve().name, key, lambda made: _write(below, folder, made))


def manifest_of(address: str) -> dict[str, Any]:
    """What the folder behind an address (hf:FOLDER, vllm:lore-judge-tiny …) says of how its model was made.

    Empty where there is no such folder, or it says nothing that can be read.
    """
    name = address.partition(":")[2]
    entry = load_table().get(name)
    folder = Path(__file__).parent / entry.shipped if entry is not None and entry.shipped else Path(name).expanduser()
    try:
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def is_base(name: str, folder: Path, sha: str) -> bool:
    """Whether a sha, as a manifest has it, is that of this base: of its checkpoint, or of its pinned weights.

    A checkpoint put together here is not the same to the byte under every version of transformers; its weights are.
    """
    entry = load_table().get(name)
    pinned = weights_sha(name) if entry is not None and (entry.files or entry.shipped) else ""
    return bool(sha) and sha in (pinned, checkpoint_sha(str(folder)))


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder.

    Raises:
        ModelError: it cannot be read, or is of a kind that cannot be added to plain weights.
        MissingExtraError: torch or safetensors is not installed.
    """
    for module in ("torch", "safetensors"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "hf")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        strange = [one for one in _UNKNOWN if settings.get(one)]
        scale = float(settings["lora_alpha"]) / int(settings["r"])
    except (OSError, KeyError, ValueError, TypeError, ZeroDivisionError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{folder}: holds no adapter that can be read ({type(error).__name__}: {error})") from None
    strange += [key for key in tensors if not key.endswith((_DOWN, _UP))][:1]
    strange += [k for k in tensors if k.endswith(_DOWN) and k.removesuffix(_DOWN) + _UP not in tensors][:1]
    if strange:
        raise ModelError(f"{folder}: not a plain LoRA ({strange[0]}), which is all that can be merged here")
    return Adapter(scale, tensors)


def add_lora(weights: Mapping[str, Any], adapter: Adapter) -> None:
    """Add an adapter to weights of the same names, in place.

    Raises:
        ModelError: it adapts a weight that is not there, or one of another shape.
    """
    import torch

    with torch.no_grad():
        for name, down, up in adapter.pairs():
            if name not in weights:
                raise ModelError(f"the adapter is for another model: there is no weight {name}")
            weights[name].copy_(_added(name, weights[name], adapter.scale, down, up))


def _added(name: str, weight: Any, scale: float, down: Any, up: Any) -> Any:
    """The sum, worked out in float32 and as short as the weight is."""
    if weight.ndim != 2 or weight.shape != (up.shape[0], down.shape[-1]):
        shape = " × ".join(map(str, weight.shape))
        raise ModelError(f"the adapter is for another model: {name} is {shape}, not {up.shape[0]} × {down.shape[-1]}")
    import torch

    return torch.add(weight.float(), up.float() @ down.float(), alpha=scale).to(weight.dtype)


def _base_of(folder: Path) -> tuple[str, str]:
    """The name and the sha of the base; the latter is empty where nothing tells it."""
    place = folder / MANIFEST
    try:
        said = json.loads(place.read_text(encoding="utf-8"))
        base, sha = said["base"], said.get("base_sha", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{folder}: an adapter, and no {MANIFEST} beside it that names its base ({type(error).__name__}: {error})"
        ) from None
    if not isinstance(base, str) or not base or not isinstance(sha, str):
        raise ModelError(f"{place}: base and base_sha are texts, not {base!r} and {sha!r}")
    if (Path(base).expanduser() / SETTINGS).is_file():
        raise ModelError(f"{place}: its base {base} is an adapter itself; merge that one first")
    return base, sha


def _fetched(repository: str) -> Path:
    """A hub repository's folder in the hub client's own cache."""
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", "hf")
    from huggingface_hub import snapshot_download

    with offline_where_unreachable() as fault:
        try:
            return Path(snapshot_download(repository, allow_patterns=["*.safetensors", *_BESIDE]))
        except Exception as error:  # the client's errors have no common root of their own
            said = " ".join(str(error).split())[:300]
            raise ModelError(f"the base {repository} cannot be had ({fault or said})") from None


def _write(base: Path, folder: Path, made: Path) -> None:
    """The base's files with the adapter added."""
    adapter = read_adapter(folder)
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file

    files = sorted(base.glob("*.safetensors"))
    try:
        names: dict[str, Path] = {}
        for file in files:
            with safe_open(file, "pt") as opened:
                names |= dict.fromkeys(opened.keys(), file)
        todo = {_place(name, names): (down, up) for name, down, up in adapter.pairs()}
        for file in files:
            tensors = load_file(file)
            for name in tensors.keys() & todo.keys():
                tensors[name] = _added(name, tensors[name], adapter.scale, *todo[name]).contiguous()
            save_file(tensors, made / file.name, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be merged into {base} ({type(error).__name__}: {error})") from None
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    for pattern in _BESIDE:
        for one in base.glob(pattern):
            if one.is_file():
                shutil.copyfile(one, made / one.name)


def _place(name: str, names: Mapping[str, Path]) -> str:
    """The base's name of an adapted weight: files may leave out or add parts before the layers that the model has."""
    part = name
    while part and not part[0].isdigit():
        if part in names:
            return part
        found = [one for one in names if one.endswith(f".{part}")]
        if found:
            if len(found) == 1:
                return found[0]
            break
        part = part.partition(".")[2]
    raise ModelError(f"the adapter is for another model: there is no weight {name}")
