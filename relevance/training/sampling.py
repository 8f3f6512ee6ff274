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

__all__ = ["complete", "padded", "remembered"]


def padded(prompts: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Prompts of token ids, padded on the left, and their mask. Both (prompts, longest)."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    return ids, mask


def remembered(model: Any, ids: Tensor, mask: Tensor, positions: Tensor | None = None) -> DynamicCache | None:
    """The keys and values of token ids (n, length); gradients go through them.

    None where a layer keeps anything else than the keys and values of all tokens, so that they cannot be shared.
    """
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    given = {} if positions is None else {"position_ids": positions}
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1, **given)
    return cache if all(type(layer) is DynamicLayer for layer in cache.layers) else None


@torch.no_grad()
def complete(
    model: Any, prompts: Sequence[Sequence[int]], count: int, pad: int, ends: Collection[int], settings: Any
) -> list[list[int]]:
    """`count` completions of each prompt, side by side, each up to its first token of `ends`, which is kept.

    `settings` is a GenerationConfig.
    """
    ids, mask = padded(prompts, pad, model.device)
    cache = None
    if count > 1 and ids.shape[1] > 1:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = remembered(model, ids[:, :-1], mask[:, :-1], positions[:, :-1])
    ids, mask = ids.repeat_interleave(count, dim=0), mask.repeat_interleave(count, dim=0)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "generation_config": settings}
    if cache is not None:
        cache.batch_repeat_interleave(count)
        given["past_key_values"] = cache
    written = model.generate(**given)[:, ids.shape[1] :].tolist()
    return [_ended(one, ends) for one in written]


def _ended(ids: list[int], ends: Collection[int]) -> list[int]:
    end = next((place for place, one in enumerate(ids) if one in ends), len(ids))
    return ids[: end + 1]
