"""`hf:NAME`: answers from transformers, in this process: no server, any machine.

Requests of one call, and of calls in other threads, are answered in batches of similar length, padded on the left. A
batch that breaks (out of memory, a picture the processor refuses) is halved until the bad request stands alone.

Seeds: each row draws by a generator of its own, so a sampled reply does not depend on what else was in the batch, but
for the last bits of the logits, which can differ with the shape of a batch where two tokens are all but equal.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Sequence
from typing import Any

from lore_mm.errors import ConfigError, ModelError
from lore_mm.models.chat import Chat, ChatReply, ChatRequest, Token, Usage
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
from lore_mm.models.constrain import Grammars
from lore_mm.models.hf_checkpoint import Checkpoint, load
from lore_mm.models.hf_decoding import Decoding, Said
from lore_mm.models.hf_likelihoods import likelihoods
from lore_mm.models.pieces import pieces_of, text_of
from lore_mm.models.shared_batches import SharedBatches

__all__ = ["HfChat", "open_chat"]

_BATCH = {"cpu": 8, "cuda": 32, "mps": 8}  # requests answered at once
_PICTURE = 2000  # characters that a picture counts for where requests of similar length are sought


def open_chat(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    max_model_len: int | None = None,
    threads: int | None = None,
) -> Chat:
    """Open a checkpoint in transformers: a folder, a name of the model table or a hub repository.

    `device` is auto (cuda, else mps, else cpu), or one of these; `dtype` auto is float32 on a CPU and bfloat16
    elsewhere; `batch_size` the requests answered at once; `max_model_len` shortens the model's own context, in tokens;
    `threads` are torch's, for the whole process.

    Raises:
        MissingExtraError: torch, transformers or llguidance is not installed.
        ModelError: the checkpoint cannot be had.
        ConfigError: an option has no legal value.
    """
    for option, value in (("batch_size", batch_size), ("max_model_len", max_model_len), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} is {value}; it must be at least 1")
    folder = checkpoint_folder(name)
    checkpoint = load(folder, device, dtype)
    if max_model_len is not None:
        checkpoint.context = min(checkpoint.context, max_model_len)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return HfChat(f"hf:{name}", checkpoint_sha(folder), checkpoint, batch_size)


class HfChat:
    """A chat model in transformers. See `lore_mm.models.chat.Chat` for what it promises."""

    def __init__(self, name: str, sha: str, checkpoint: Checkpoint, batch_size: int | None = None) -> None:
        self.name, self.sha = name, sha
        self._checkpoint: Checkpoint | None = checkpoint
        self._grammars = Grammars(checkpoint.tokenizer, checkpoint.vocabulary, checkpoint.ends)
        size = batch_size or _BATCH.get(checkpoint.device.partition(":")[0], 8)
        self._batches = SharedBatches(self._answer, size, _group, _length)

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """One reply a request, in the same order; several threads may call it at once.

        Raises:
            ModelError: it is closed, or the accelerator has failed.
        """
        if self._checkpoint is None:
            raise ModelError(f"{self.name}: closed")
        return self._batches(requests)

    def close(self) -> None:
        """Free the model's memory; calling it twice is harmless."""
        if self._checkpoint is None:
            return
        on_gpu = self._checkpoint.device.startswith("cuda")
        self._checkpoint = None
        gc.collect()
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    def _answer(self, requests: list[ChatRequest]) -> list[ChatReply]:
        """One batch of one group."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise ModelError(f"{self.name}: closed while it was answering")
        replies: list[ChatReply | None] = [self._refused(checkpoint, request) for request in requests]
        left = [i for i, reply in enumerate(replies) if reply is None]
        for i, reply in zip(left, self._halving(checkpoint, [requests[i] for i in left]), strict=True):
            replies[i] = reply
        return [reply for reply in replies if reply is not None]

    def _refused(self, checkpoint: Checkpoint, request: ChatRequest) -> ChatReply | None:
        error = checkpoint.refusal(request)
        if request.json_schema is not None:
            if request.choices:
                error = "a request has choices or a json_schema, not both"
            try:
                self._grammars.matcher(request.json_schema)
            except ConfigError as wrong:
                error = str(wrong)
        return None if error is None else _failed(error)

    def _halving(self, checkpoint: Checkpoint, requests: list[ChatRequest]) -> list[ChatReply]:
        if not requests:
            return []
        try:
            if requests[0].choices:
                return [_compared(checkpoint, request) for request in requests]
            return self._generated(checkpoint, requests)
        except Exception as error:
            reason = self._reason(error)
        if len(requests) == 1:
            return [_failed(reason)]
        middle = len(requests) // 2
        return [*self._halving(checkpoint, requests[:middle]), *self._halving(checkpoint, requests[middle:])]

    def _reason(self, error: Exception) -> str:
        """What is wrong with a request that broke its batch; frees what the batch held.

        Raises:
            ModelError: nothing is wrong with it, the accelerator is dead.
        """
        import torch

        said = " ".join(str(error).split())[:300]
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return f"out of memory: {said}"
        if isinstance(error, torch.AcceleratorError):
            raise ModelError(f"{self.name}: the accelerator failed: {said}") from error
        return f"refused by transformers: {type(error).__name__}: {said}"

    def _generated(self, checkpoint: Checkpoint, requests: list[ChatRequest]) -> list[ChatReply]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        inputs = checkpoint.prepare(requests)
        lengths: list[int] = inputs["attention_mask"].sum(1).tolist()
        if any(length >= checkpoint.context for length in lengths):
            return self._without_too_long(checkpoint, requests, lengths)
        limits = [max(1, min(r.max_tokens, checkpoint.context - n)) for r, n in zip(requests, lengths, strict=True)]
        matchers = [None if r.json_schema is None else self._grammars.matcher(r.json_schema) for r in requests]
        decoding = Decoding(requests, limits, matchers, checkpoint.ends, checkpoint.vocabulary)
        settings = GenerationConfig(
            max_new_tokens=max(limits),
            do_sample=False,
            eos_token_id=list(checkpoint.ends),
            pad_token_id=checkpoint.pad,
        )
        processors = LogitsProcessorList([] if decoding.idle else [decoding])
        given = {"generation_config": settings, "logits_processor": processors}
        with torch.inference_mode():
            if checkpoint.processor is None and checkpoint.device == "cpu":
                from lore_mm.models.cpu_decoding import generate

                ids = generate(checkpoint.model, inputs["input_ids"], inputs["attention_mask"], max(limits), **given)
            else:
                ids = checkpoint.model.generate(**inputs, **given)
        rows = decoding.finish(ids[:, inputs["input_ids"].shape[1] :])
        return [
            _reply(checkpoint, request, said, length, decoding.fault(row))
            for row, (request, said, length) in enumerate(zip(requests, rows, lengths, strict=True))
        ]

    def _without_too_long(
        self, checkpoint: Checkpoint, requests: list[ChatRequest], lengths: list[int]
    ) -> list[ChatReply]:
        fitting = [r for r, length in zip(requests, lengths, strict=True) if length < checkpoint.context]
        answered = iter(self._halving(checkpoint, fitting))
        return [
            next(answered) if length < checkpoint.context else _failed(checkpoint.too_long(length))
            for length in lengths
        ]


def _group(request: ChatRequest) -> Hashable:
    """Requests that may share a batch: processors want as many pictures in each row."""
    return bool(request.choices), len(request.pictures)


def _length(request: ChatRequest) -> int:
    return len(request.system) + sum(len(part) if isinstance(part, str) else _PICTURE for part in request.parts)


def _failed(error: str, text: str = "", usage: Usage | None = None) -> ChatReply:
    return ChatReply(text, "error", usage=usage or Usage(1), error=error)


def _compared(checkpoint: Checkpoint, request: ChatRequest) -> ChatReply:
    try:
        found, read = likelihoods(checkpoint, request)
    except ValueError as error:
        return _failed(str(error))
    return ChatReply(likelihoods=found, usage=Usage(1, read, 0))


def _reply(checkpoint: Checkpoint, request: ChatRequest, said: Said, read: int, fault: str | None) -> ChatReply:
    """One row of a batch as a reply; `read` are the tokens of its request."""
    tokenizer: Any = checkpoint.tokenizer
    spoken = [i for i, token in enumerate(said.ids) if token not in checkpoint.special]
    ids = [said.ids[i] for i in spoken]
    text = text_of(tokenizer, ids)
    usage = Usage(1, read, said.generated)
    if fault:
        return _failed(f"the JSON Schema could not be followed: {fault}", text, usage)
    tokens: tuple[Token, ...] = ()
    if request.logprobs:
        texts = pieces_of(tokenizer, ids)
        tokens = tuple(Token(piece, said.logprobs[i]) for piece, i in zip(texts, spoken, strict=True))
    cut = said.cut and request.json_schema is not None
    return ChatReply(
        text,
        "length" if said.cut else "stop",
        tokens,
        usage=usage,
        error=f"reply cut at {len(said.ids)} tokens, before its JSON was complete" if cut else None,
    )
