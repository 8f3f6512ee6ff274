"""Models as they are trained: opened by name, with an adapter or whole, saved with a manifest, asked while they learn.

A name is a folder, a hub repository or a name of the model table, as `hf:NAME` has it; or a folder with an adapter,
which is opened on the base its manifest names and trained on. Weights come from safetensors alone, and no checkpoint's
code is run.

Imported only where a model is trained: torch comes with it.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lore_mm import __version__
from lore_mm.errors import ConfigError, MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of, sha_of_file
from lore_mm.models.adapted import is_base
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
from lore_mm.models.hf import HfChat
from lore_mm.models.hub import offline_where_unreachable
from relevance.training.config import Lora

__all__ = [
    "GRAMMAR",
    "MANIFEST",
    "TrainingModel",
    "as_chat",
    "device_of",
    "model_sha",
    "open_model",
    "quiet",
    "read_manifest",
    "save_adapter",
]

GRAMMAR = 1  # version of relevance.chain, as manifests have it
MANIFEST = "manifest.json"
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class TrainingModel:
    """An opened model. `model` is a PeftModel, or the whole model where every weight moves.

    `processing_class` is what TRL wants: the processor of a model that sees (`is_vlm`), else the tokenizer. `base` and
    `base_sha` are what stands below an adapter, or the model itself; `sha` adds the adapter it began with.
    """

    name: str
    model: Any
    processing_class: Any
    tokenizer: Any
    is_vlm: bool
    base: str
    base_sha: str
    sha: str

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is trained, and not every weight."""
        return hasattr(self.model, "peft_config")


def device_of(wanted: str = "auto") -> str:
    """The device that is meant: auto is cuda where there is one, else mps, else cpu.

    Raises:
        ConfigError: no such device here.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(wanted.partition(":")[0]):
        here = ", ".join(name for name, is_there in there.items() if is_there)
        raise ConfigError(f"device {wanted!r} is not here; legal: auto, {here}")
    return wanted


def model_sha(name: str) -> str:
    """What tells a model to train from another: `TrainingModel.sha`, without opening it.

    Raises:
        ModelError: it is not there.
    """
    adapter = _adapter_in(name)
    base = str(read_manifest(adapter)["base"]) if adapter else name
    return _sha(checkpoint_sha(checkpoint_folder(base)), adapter)


def open_model(
    name: str,
    *,
    lora: Lora | None = None,
    full: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
    seed: int = 0,
    weights: bool = True,
) -> TrainingModel:
    """Open a model to train: with a new adapter, or the one it has, or whole.

    An adapter that is there keeps its own rank and targets, whatever `lora` says; with `full` it is merged into the
    weights. A new one starts from `seed`. The model stays on the CPU: the trainer moves it. Without `weights` there is
    no model, and what reads for it is opened alone.

    Raises:
        MissingExtraError: torch, transformers, trl, peft, datasets or accelerate is not installed.
        ModelError: the model or its base cannot be had, or is not the base that the adapter was trained on.
        ConfigError: no such device or dtype, or a target that the model does not have.
    """
    for module in ("torch", "transformers", "trl", "peft", "datasets", "accelerate"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "train")
    from lore_mm.models.torchvision_cpu import install

    install()
    adapter = _adapter_in(name)
    manifest = read_manifest(adapter) if adapter else {}
    base = str(manifest["base"]) if adapter else name
    folder = checkpoint_folder(base)
    base_sha = checkpoint_sha(folder)
    if adapter and manifest["base_sha"] and not is_base(base, Path(folder), manifest["base_sha"]):
        raise ModelError(
            f"{name}: was trained on {base} {manifest['base_sha'][:12]}, and {base} is {base_sha[:12]} here"
        )
    number = _number(dtype, device_of(device), full)
    with quiet(), offline_where_unreachable() as fault:
        try:
            config, processing_class, sees = _read(folder)
            tokenizer = processing_class.tokenizer if sees else processing_class
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            model = _load(folder, config, sees, number, attention) if weights else None
            if model is not None and adapter:
                model = _adapted(model, adapter, merge=full)
            elif model is not None and not full:
                model = _with_lora(model, lora or Lora(), seed)
        except (ModelError, MissingExtraError, ConfigError):
            raise
        except Exception as error:  # the loader and the hub's client raise whatever they meet
            said = " ".join(str(error).split())[:300]
            hub = f"; model hub: {fault}" if fault else ""
            raise ModelError(f"{name} cannot be opened for training ({type(error).__name__}: {said}{hub})") from None
    if not (getattr(processing_class, "chat_template", None) or tokenizer.chat_template):
        raise ModelError(f"{name} has no chat template: it was not made to answer")
    return TrainingModel(name, model, processing_class, tokenizer, sees, base, base_sha, _sha(base_sha, adapter))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of the model in it: at least `base` and `base_sha`, which is empty where it says nothing.

    Raises:
        ModelError: the folder's files cannot be read, or name no base.
    """
    try:
        if (folder / MANIFEST).is_file():
            found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return {"base_sha": ""} | found | {"base": found["base"]}
        settings = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
        return {"base": settings["base_model_name_or_path"], "base_sha": ""}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: does not say what it was trained on ({type(error).__name__}: {error})") from None


def save_adapter(
    trained: TrainingModel, folder: Path, said: Mapping[str, Any] | None = None, *, weights: bool = True
) -> None:
    """Write the adapter, or the whole model where every weight moved, and the manifest beside it.

    `said` is put into the manifest: what the chains looked like, the prompt, the settings. Without `weights` those that
    a trainer has gathered into the folder are taken as they lie there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        if weights and trained.has_adapter:
            trained.model.save_pretrained(folder, save_embedding_layers=False)
        elif weights:
            trained.model.save_pretrained(folder)
            trained.processing_class.save_pretrained(folder)
    if trained.has_adapter:
        settings = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = trained.base  # not where the base lies on this machine
        (folder / _ADAPTER).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    for name in ("README.md", "training_args.bin"):  # peft's, with nothing filled in; the trainer's, a pickle
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # written through a file that is the writer's alone
    manifest = {
        "kind": "adapter" if trained.has_adapter else "model",
        "base": trained.base,
        "base_sha": trained.base_sha,
        "grammar": GRAMMAR,
        "lore_mm": __version__,
        **(said or {}),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def as_chat(trained: TrainingModel, batch: int = 32) -> Iterator[HfChat]:
    """The model as a chat for as long as the block lasts, to be measured; then it learns on as if nothing had been.

    `batch` replies are written at once.
    """
    from transformers import GenerationConfig

    from lore_mm.models.hf_checkpoint import Checkpoint

    if find_spec("llguidance") is None:
        raise MissingExtraError("llguidance", "hf")
    base = trained.model.get_base_model() if trained.has_adapter else trained.model
    before, training = base.generation_config, base.training
    # A checkpoint pads on the left and reads any length: its tokenizer must not be the trainer's.
    processing_class = copy.deepcopy(trained.processing_class)
    tokenizer = processing_class.tokenizer if trained.is_vlm else processing_class
    processor = processing_class if trained.is_vlm else None
    device = str(next(base.parameters()).device)
    chat = HfChat("training", trained.sha, Checkpoint(trained.model, tokenizer, processor, device), batch)
    try:
        with quiet():
            yield chat
    finally:
        chat.close()
        base.generation_config = before
        if trained.has_adapter:
            trained.model.generation_config = GenerationConfig.from_dict(before.to_dict())
        trained.model.train(training)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and warnings of transformers, trl and datasets, and without word to their makers."""
    import datasets
    from huggingface_hub import constants
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    ours, told = datasets.are_progress_bars_disabled(), constants.HF_HUB_DISABLE_TELEMETRY
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = told
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
        if not ours:
            datasets.enable_progress_bars()


def _number(dtype: str, device: str, full: bool) -> Any:
    """The type of the weights: what does not move may be short, what moves is float32 unless it is told otherwise."""
    import torch

    if dtype == "auto":
        dtype = "float32" if full or not device.startswith("cuda") else "bfloat16"
    return getattr(torch, dtype)


def _read(folder: str) -> tuple[Any, Any, bool]:
    """Configuration, tokenizer or processor, and whether the model sees."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    ours = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **ours)
    sees = type(config) in AutoModelForImageTextToText._model_mapping
    return config, (AutoProcessor if sees else AutoTokenizer).from_pretrained(folder, **ours), sees


def _load(folder: str, config: Any, sees: bool, number: Any, attention: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_pretrained(
        folder,
        config=config,
        dtype=number,
        attn_implementation=attention,
        use_safetensors=True,
        trust_remote_code=False,
    )


def _with_lora(model: Any, lora: Lora, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"lora.targets: {' '.join(str(error).split())[:300]}") from None


def _targets(model: Any, lora: Lora) -> str | list[str]:
    """The modules that are adapted, for peft: names, or a pattern of those inside the language model."""
    from torch import nn

    if lora.targets != "all-linear":
        return list(lora.targets)
    decoder = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is decoder)
    names = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    if not hasattr(model.config, "vision_config"):
        return sorted(names)
    return f"{re.escape(place)}\\..*\\.({'|'.join(sorted(names))})"


def _adapted(model: Any, adapter: Path, merge: bool) -> Any:
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter}: holds no adapter_model.safetensors")
    try:
        opened = PeftModel.from_pretrained(model, str(adapter), is_trainable=not merge)
    except (RuntimeError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(f"{adapter}: its adapter does not fit the model below it ({said})") from None
    return opened.merge_and_unload().requires_grad_(True) if merge else opened


def _adapter_in(name: str) -> Path | None:
    place = Path(name).expanduser()
    return place if (place / _ADAPTER).is_file() else None


def _sha(base_sha: str, adapter: Path | None) -> str:
    """Of a base, or of a base with an adapter."""
    files = ("adapter_model.safetensors", _ADAPTER)
    return sha_of([base_sha, *(sha_of_file(adapter / name) for name in files)]) if adapter else base_sha
