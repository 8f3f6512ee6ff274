"""Token by token on a CPU: what was said before is not copied for every new token, and equal prompts are read once.

With queries in groups that share keys and values, and rows padded to one length, transformers repeats keys and values
for every query before it attends, and puts them together anew for every token. For one new token neither is needed:
the queries of a group are as well taken for several positions of one head, and a cache with room is written in place.
64 rows of 400 tokens through the 30 layers of SmolLM2-135M take a seventh of the time of a core; logits differ by the
last digits of a float. Several answers to one prompt have its keys and values in common.

Imported only where a model runs: torch and transformers come with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["distinct", "generate", "remember"]

_NAME = "sdpa_of_groups"


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **others: Any
) -> tuple[Tensor, None]:
    """Attention (batch, 1, heads, size) of one new token, whose query is (batch, heads, 1, size).

    A mask is boolean, (batch, 1, 1, keys). Of several tokens as transformers has it.
    """
    batch, heads, length, size = query.shape
    plain = attention_mask is None or attention_mask.shape[1] == 1
    if length > 1 or not plain or others.get("position_bias") is not None:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **others)
        return found
    groups = query.view(batch, key.shape[1], heads // key.shape[1], size)
    scale = others.get("scaling")
    told = torch.nn.functional.scaled_dot_product_attention(groups, key, value, attn_mask=attention_mask, scale=scale)
    return told.reshape(batch, 1, heads, told.shape[-1]), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


class _RoomyLayer(DynamicLayer):
    """A layer of a cache that grows in place: `room` tokens are made room for whenever there is none."""

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room
        self._held: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add the newest keys and values (batch, heads, new, size); gives all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        held = self._held
        if held is None or held[0].shape[-2] < end or len(held[0]) != len(key_states):
            held = self._with_room(key_states, self.keys), self._with_room(value_states, self.values)
        for one, new in zip(held, (key_states, value_states), strict=True):
            one[:, :, start:end] = new
        self._held = held
        self.keys, self.values = (one[:, :, :end] for one in held)
        return self.keys, self.values

    def _with_room(self, new: Tensor, old: Tensor | None) -> Tensor:
        length = 0 if old is None or not old.numel() else old.shape[-2]
        made = new.new_empty(*new.shape[:2], length + new.shape[-2] + self._room, new.shape[-1])
        if old is not None and length:
            made[:, :, :length] = old
        return made


def generate(model: Any, ids: Tensor, mask: Tensor, room: int, **given: Any) -> Any:
    """What `model.generate(**given)` gives for prompts (n, length), padded on the left; `room` tokens may be new.

    For text models, on any device. Layers that keep anything else than keys and values have it done in the plain way.
    """
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if ids.shape[1] > 1 and all(type(one) is DynamicLayer for one in cache.layers):
        cache.layers = [_RoomyLayer(room) for _ in cache.layers]
        rows, place = distinct(ids)
        before = ids[rows, :-1], mask[rows, :-1]
        remember(model, *before, cache, (mask[rows].cumsum(-1) - 1).clamp(min=0)[:, :-1])
        cache.batch_select_indices(place)
        given["past_key_values"] = cache
    with _by_groups(model):
        return model.generate(input_ids=ids, attention_mask=mask, **given)


def remember(model: Any, ids: Tensor, mask: Tensor, cache: DynamicCache, positions: Tensor | None = None) -> None:
    """Put the keys and values of token ids (n, length) into an empty cache; gradients go through them."""
    given = {} if positions is None else {"position_ids": positions}
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1, **given)


def distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (m) that differ from each other, and which of them each row is (n)."""
    found, place = torch.unique(ids, dim=0, return_inverse=True)
    every = torch.arange(len(ids), device=ids.device)
    return every.new_zeros(len(found)).scatter_(0, place, every), place


@contextmanager
def _by_groups(model: Any) -> Iterator[None]:
    """Within it a model on a CPU attends by groups; any other, and one that attends in a way of its own, as before."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    before = base.config._attn_implementation
    if base.device.type != "cpu" or before != "sdpa":
        yield
        return
    base.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        base.set_attn_implementation(before)
