"""Several completions of each prompt, which is read once for all of them (`lore_mm.models.cpu_decoding`).

Imported only where a model is trained: torch comes with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from lore_mm.models.cpu_decoding import generate

__all__ = ["complete", "padded"]


def padded(prompts: Sequence[Sequence[int]], pad: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Prompts of token ids, padded on the left, and their mask. Both (prompts, longest)."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    return ids, mask


@torch.no_grad()
def complete(
    model: Any, prompts: Sequence[Sequence[int]], count: int, pad: int, ends: Collection[int], settings: Any
) -> list[list[int]]:
    """`count` completions of each prompt, side by side, each up to its first token of `ends`, which is kept.

    `settings` is a GenerationConfig.
    """
    ids, mask = (one.repeat_interleave(count, dim=0) for one in padded(prompts, pad, model.device))
    written = generate(model, ids, mask, settings.max_new_tokens, generation_config=settings)
    return [_ended(one, ends) for one in written[:, ids.shape[1] :].tolist()]


def _ended(ids: list[int], ends: Collection[int]) -> list[int]:
    end = next((place for place, one in enumerate(ids) if one in ends), len(ids))
    return ids[: end + 1]
