"""SmolLM2-135M-Instruct out of its 4-bit file: model, tokenizer, and a plain checkpoint of them in the cache.

The checkpoint is float32 safetensors, which transformers, peft and vLLM load by their own means: a body to train on.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lore_mm.config import cache_folder
from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models.weights import get_weights, weights_sha

__all__ = ["NAME", "PAD", "assembled", "kept", "quiet", "read_smollm2"]

NAME = "smollm2-135m"
PAD = 0  # <|endoftext|>
_VERSION = 1  # of what is written below: part of the checkpoint's name
_AS_IT_IS: Mapping[int, str] = MappingProxyType({})

# ChatML as SmolLM2 was taught, but without the system's turn that it makes up where none is given.
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def assembled() -> Path:
    """The folder of the checkpoint, made first where it is not there yet: 540 MB, some ten seconds.

    Raises:
        ModelError: the pinned weights cannot be had.
        MissingExtraError: torch, transformers or gguf is not installed.
    """

    def write(folder: Path) -> None:
        for module in ("torch", "transformers", "gguf"):
            if find_spec(module) is None:
                raise MissingExtraError(module, "hf")
        from lore_mm.models.torchvision_cpu import install

        install()
        model, tokenizer = read_smollm2(get_weights(NAME))
        tokenizer.chat_template = _CHAT_TEMPLATE
        model.config.update({"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2})
        model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=PAD, do_sample=False)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return kept(NAME, sha_of([weights_sha(NAME), _VERSION])[:12], write)


def kept(name: str, key: str, write: Callable[[Path], None]) -> Path:
    """The cache's folder of a checkpoint that is put together here; `write` fills it where it is not there yet.

    It appears whole, by one rename, or not at all; `key` tells one content from another.

    Raises:
        ModelError: the cache cannot be written.
        MissingExtraError: transformers is not installed.
    """
    place = cache_folder() / "assembled" / f"{name}-{key}"
    if (place / "config.json").is_file():
        return place
    if find_spec("transformers") is None:
        raise MissingExtraError("transformers", "hf")
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
    try:
        with quiet():
            write(made)
        made.chmod(0o755)
        made.rename(place)
    except OSError:
        if not (place / "config.json").is_file():  # else another process was first, with the same content
            raise ModelError(f"cannot write {place}: is the cache folder writable?") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return place


def read_smollm2(folder: Path, renamed: Mapping[int, str] = _AS_IT_IS) -> tuple[Any, Any]:
    """The language model in float32 and its tokenizer without a chat template; `renamed` gives tokens other names."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerFast

    file = next(folder.glob("*.gguf")).name
    with quiet():
        read = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    raw = json.loads(read.backend_tokenizer.to_str())
    for token in raw["added_tokens"]:
        if new := renamed.get(token["id"]):
            del raw["model"]["vocab"][token["content"]]
            token["content"] = new
            raw["model"]["vocab"][new] = token["id"]
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    # The file's own form loses that SmolLM2 was trained with every digit apart.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<|endoftext|>", model_max_length=8192, padding_side="left", **names
    )
    return model, made


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars that transformers draws while it loads and saves."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
