"""A checkpoint of transformers, loaded: model, tokenizer, processor, and requests as what the model reads.

Only safetensors, never code out of a checkpoint. What a checkpoint's generation_config.json says of sampling is put
aside: a request says how it is to be answered. This module knows nothing of decoding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from PIL.Image import Image

from lore_mm.errors import ConfigError, MissingExtraError, ModelError
from lore_mm.models.chat import ChatRequest
from lore_mm.models.hub import offline_where_unreachable

__all__ = ["Checkpoint", "load"]

_DTYPES = ("auto", "float32", "bfloat16", "float16")
_DEVICES = ("auto", "cpu", "cuda", "mps")


class Checkpoint:
    """What a loaded checkpoint is: `model`, `tokenizer`, `processor` (None if it reads no pictures), `device`,
    `context` (tokens a request and its reply may have together), `vocabulary` (logits), `ends` (tokens that end a
    turn), `pad`.
    """

    def __init__(self, model: Any, tokenizer: Any, processor: Any | None, device: str) -> None:
        from transformers import GenerationConfig

        self.model, self.tokenizer, self.processor, self.device = model.to(device).eval(), tokenizer, processor, device
        text = model.config.get_text_config()
        self.context = int(getattr(text, "max_position_embeddings", 0) or 4096)
        self.vocabulary = int(text.vocab_size)
        found = model.generation_config.eos_token_id
        found = tokenizer.eos_token_id if found is None else found
        if found is None:
            raise ModelError("the checkpoint names no token that ends a turn (eos_token_id)")
        self.ends: tuple[int, ...] = tuple(found) if isinstance(found, list | tuple) else (int(found),)
        self.pad = int(self.ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        self.special = frozenset(tokenizer.all_special_ids)
        model.generation_config = GenerationConfig()
        tokenizer.padding_side = "left"
        tokenizer.model_max_length = 10**9  # lengths are checked here, and told as errors
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = self.pad
        template = getattr(processor, "chat_template", None) or tokenizer.chat_template
        if not template:
            raise ModelError("the checkpoint has no chat template: it was not made to answer")
        self._template = template if isinstance(template, str) else None  # several by name: the tokenizer's default
        # Written in a text, one of these would be taken for a picture, and the pictures of a batch be misplaced.
        names = ("image_token", "video_token", "audio_token", "fake_image_token", "global_image_token", "boi_token")
        marks = {str(getattr(owner, name, "") or "") for owner in (processor, tokenizer) for name in names}
        self._marks = tuple(sorted(marks - {""})) if processor is not None else ()

    def refusal(self, request: ChatRequest) -> str | None:
        """Why a request cannot be read, as far as that shows before it is prepared."""
        if request.pictures and self.processor is None:
            return "this model reads no pictures"
        texts = [request.system, *(part for part in request.parts if not isinstance(part, Image))]
        for mark in self._marks:
            if any(mark in text for text in texts):
                return f"the text holds {mark!r}, which this model takes for a picture"
        if sum(map(len, texts)) > self.context:  # else it fits whatever a token is
            tokens = sum(len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
            if tokens >= self.context:
                return self.too_long(tokens)
        return None

    def too_long(self, tokens: int) -> str:
        """The error of a request with this many tokens."""
        return f"the request has {tokens} tokens, and this model reads {self.context}, those of its reply included"

    def prepare(self, requests: Sequence[ChatRequest]) -> dict[str, Any]:
        """Tensors on the device, rows padded on the left: input_ids and attention_mask (n, width), and pictures.

        Raises:
            Exception: whatever the processor says of a picture it refuses.
        """
        texts = [self.written(request) for request in requests]
        settings = {"padding": True, "return_tensors": "pt", "add_special_tokens": False}
        if self.processor is None:
            inputs = self.tokenizer(texts, **settings)
            inputs.pop("token_type_ids", None)
        else:
            pictures = [list(request.pictures) for request in requests]
            with _quiet():  # of a picture a few pixels high it asks which way up it is, and guesses right
                inputs = self.processor(text=texts, images=pictures if any(pictures) else None, **settings)
        dtype = self.model.dtype
        return {
            name: tensor.to(self.device, dtype) if tensor.is_floating_point() else tensor.to(self.device)
            for name, tensor in inputs.items()
        }

    def written(self, request: ChatRequest, answer: str | None = None) -> str:
        """The conversation by the checkpoint's chat template, up to where the model speaks, or with its answer."""
        messages: list[dict[str, Any]] = []
        if request.system:
            messages.append({"role": "system", "content": self._content([request.system])})
        messages.append({"role": "user", "content": self._content(request.parts)})
        if answer is not None:
            messages.append({"role": "assistant", "content": self._content([answer])})
        # A processor's own method would render the same template, and warn of settings that it adds itself.
        text: str = self.tokenizer.apply_chat_template(
            messages, chat_template=self._template, tokenize=False, add_generation_prompt=answer is None
        )
        return text

    def _content(self, parts: Sequence[str | Image]) -> Any:
        if self.processor is None:
            return "\n".join(part for part in parts if isinstance(part, str))
        return [{"type": "image"} if isinstance(part, Image) else {"type": "text", "text": part} for part in parts]


def load(folder: str, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    """Load a folder or a hub repository.

    Raises:
        MissingExtraError: torch, transformers or llguidance is not installed.
        ModelError: the checkpoint cannot be had or is none that transformers can load without running its code.
        ConfigError: no such device or dtype.
    """
    for module in ("torch", "transformers", "safetensors", "llguidance"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "hf")
    if dtype not in _DTYPES or device.partition(":")[0] not in _DEVICES:
        raise ConfigError(
            f"device {device!r}, dtype {dtype!r}; legal: {', '.join(_DEVICES)}, cuda:N; {', '.join(_DTYPES)}"
        )
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    with offline_where_unreachable() as fault, _quiet():
        try:
            return Checkpoint(*_load_parts(folder, getattr(torch, dtype)), device)
        except (ModelError, MissingExtraError):
            raise
        except Exception as error:  # the loader and the hub's client raise whatever they meet
            said = " ".join(str(error).split())[:300]
            hub = f"; model hub: {fault}" if fault else ""
            raise ModelError(f"hf:{folder} cannot be opened ({type(error).__name__}: {said}{hub})") from None


def _load_parts(folder: str, dtype: Any) -> tuple[Any, Any, Any | None]:
    """Model, tokenizer and, where the model reads pictures, processor."""
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
    )

    ours = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **ours)
    sees = type(config) in AutoModelForImageTextToText._model_mapping
    family = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = family.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True, **ours)
    if not sees:
        return model, AutoTokenizer.from_pretrained(folder, **ours), None
    processor = AutoProcessor.from_pretrained(folder, **ours)
    return model, processor.tokenizer, processor


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading says nothing: no progress bars, no warnings; errors are raised."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
