"""ln P of listed answers to one request: the request is read once, the answers as many at a time as memory allows.

An answer's tokens are those the chat template writes behind the request, through the one that ends the turn. The
answers continue copies of one key-value cache. Where the answer is known to be one of those listed, the token that ends
the turn is left out. Knows nothing of decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lore_mm.models.chat import ChatRequest, among
from lore_mm.models.hf_checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

__all__ = ["likelihoods"]

_CACHED = 1 << 16  # tokens of the request, copied for each answer, at a time
_LOGITS = 1 << 26  # logits at a time: 256 MiB


def likelihoods(checkpoint: Checkpoint, request: ChatRequest) -> tuple[tuple[float, ...], int]:
    """Log-probabilities (natural) of the request's choices; tokens of the request. See `ChatReply.likelihoods`.

    Raises:
        ValueError: the request and its longest choice do not fit the model.
        Exception: whatever the processor says of a picture it refuses.
    """
    import torch

    tails, back = _tails(checkpoint, request)
    if request.among_choices:
        tails = [tail[:-1] if tail[-1] in checkpoint.special and len(tail) > 1 else tail for tail in tails]
    inputs = checkpoint.prepare([request])
    if back:
        width = inputs["input_ids"].shape[1]
        inputs = {k: v[:, :-back] if v.ndim == 2 and v.shape[1] == width else v for k, v in inputs.items()}
    read = int(inputs["input_ids"].shape[1])
    if read + max(map(len, tails)) > checkpoint.context:
        raise ValueError(checkpoint.too_long(read + max(map(len, tails))))
    with torch.inference_mode():
        # Qwen's families remember where the pictures of the last request stood, and would use it for one without.
        if hasattr(checkpoint.model.base_model, "rope_deltas"):
            checkpoint.model.base_model.rope_deltas = None
        first = checkpoint.model(**inputs, use_cache=True, logits_to_keep=1)
        scores = first.logits[0, -1].float().log_softmax(-1)
        found = [float(scores[tail[0]]) for tail in tails]
        # One spelling of an answer is often the beginning of another's: equal beginnings are not joined, only equal
        # lengths set side by side, so that nothing is padded much.
        order = sorted((i for i in range(len(tails)) if len(tails[i]) > 1), key=lambda i: len(tails[i]))
        while order:
            longest = len(tails[order[-1]]) - 1
            size = max(1, min(_CACHED // (read + longest), _LOGITS // (longest * checkpoint.vocabulary)))
            batch, order = order[-size:], order[:-size]
            sums = _continued(checkpoint, first.past_key_values, [tails[i] for i in batch])
            for i, value in zip(batch, sums, strict=True):
                found[i] += value
    return among(found) if request.among_choices else tuple(min(0.0, value) for value in found), read


def _continued(checkpoint: Checkpoint, prefix: Any, tails: Sequence[Sequence[int]]) -> list[float]:
    """The log-probability of each tail's tokens from its second on."""
    import torch

    cache = deepcopy(prefix)
    cache.batch_repeat_interleave(len(tails))
    width = max(map(len, tails)) - 1
    read = torch.full((len(tails), width), checkpoint.pad)
    wanted = torch.zeros((len(tails), width), dtype=torch.long)
    counted = torch.zeros((len(tails), width))
    for row, tail in enumerate(tails):  # padded on the right, which no token before it sees
        read[row, : len(tail) - 1] = torch.tensor(tail[:-1])
        wanted[row, : len(tail) - 1] = torch.tensor(tail[1:])
        counted[row, : len(tail) - 1] = 1
    device = checkpoint.device
    logits = checkpoint.model(input_ids=read.to(device), past_key_values=cache, use_cache=True).logits
    chosen = logits.gather(2, wanted.to(device)[:, :, None])[:, :, 0].float() - logits.float().logsumexp(-1)
    sums: torch.Tensor = (chosen * counted.to(device)).sum(1)
    return list(map(float, sums))


def _tails(checkpoint: Checkpoint, request: ChatRequest) -> tuple[list[list[int]], int]:
    """The tokens of each choice and its end of turn, and how many of the request's last tokens they begin with.

    They are what the template writes for the finished conversation; where a template changes the end of the request
    itself, that part belongs to every tail.
    """

    def tokens(text: str) -> list[int]:
        ids: list[int] = checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    asked = tokens(checkpoint.written(request))
    finished = [tokens(checkpoint.written(request, choice)) for choice in request.choices]
    start = min(_shared(asked, ids) for ids in finished)
    return [_through_end(ids[start:], checkpoint.special) for ids in finished], len(asked) - start


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _through_end(ids: list[int], special: frozenset[int]) -> list[int]:
    """The first special token ends the turn; templates write a line break, or the end of the text, after it."""
    end = next((i for i, token in enumerate(ids) if token in special), len(ids) - 1)
    return ids[: end + 1]
