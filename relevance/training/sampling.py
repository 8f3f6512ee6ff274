"""Several completions of each prompt, which is read once for all of them.

`transformers.generate` reads a prompt as often as it is to be answered. With short answers to long prompts that is most
of the work on a CPU; here the keys and values of a prompt are made once and handed to `generate` for every answer.

Imported only where a model is trained: torch comes with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lore_mm.models.cpu_decoding import RoomyCache, decoding_on_cpu

__all__ = ["complete", "padded", "remember"]


def padded(prompts: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Prompts of token ids, padded on the left, and their mask. Both (prompts, longest)."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    return ids, mask


def remember(model: Any, ids: Tensor, mask: Tensor, cache: DynamicCache, positions: Tensor | None = None) -> bool:
    """Put the keys and values of token ids (n, length) into an empty cache; gradients go through them.

    False where a layer keeps anything else than the keys and values of all tokens, so that they cannot be shared.
    """
    given = {} if positions is None else {"position_ids": positions}
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1, **given)
    return all(isinstance(one, DynamicLayer) and not one.is_sliding for one in cache.layers)


@torch.no_grad()
def complete(
    model: Any, prompts: Sequence[Sequence[int]], count: int, pad: int, ends: Collection[int], settings: Any
) -> list[list[int]]:
    """`count` completions of each prompt, side by side, each up to its first token of `ends`, which is kept.

    `settings` is a GenerationConfig.
    """
    ids, mask = padded(prompts, pad, model.device)
    given: dict[str, Any] = {"generation_config": settings}
    if ids.shape[1] > 1:
        cache = RoomyCache(model.config.get_text_config(decoder=True), settings.max_new_tokens)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        if remember(model, ids[:, :-1], mask[:, :-1], cache, positions[:, :-1]):
            cache.batch_repeat_interleave(count)
            given["past_key_values"] = cache
    ids, mask = ids.repeat_interleave(count, dim=0), mask.repeat_interleave(count, dim=0)
    with decoding_on_cpu(model):
        written = model.generate(input_ids=ids, attention_mask=mask, **given)[:, ids.shape[1] :].tolist()
    return [_ended(one, ends) for one in written]


def _ended(ids: list[int], ends: Collection[int]) -> list[int]:
    end = next((place for place, one in enumerate(ids) if one in ends), len(ids))
    return ids[: end + 1]
