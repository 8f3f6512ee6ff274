"""A trainer that stops where the loss or a gradient is no number, and saves what it was reading.

TRL's SFTTrainer, and nothing else changed but where the loss is worked out: see `SftTrainer`. Imported only where a
model is trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer import utils as trl_utils
from trl.trainer.sft_trainer import SFTTrainer

from lore_mm.errors import ModelError
from relevance.training.rows import ChainRow

__all__ = ["SftTrainer", "answers_only"]


class SftTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer over the rows of `rows`, whose `lengths` are known; batches are of rows of like length.

    `bad` is where a batch is saved whose loss or gradient is no number.
    """

    rows: Sequence[ChainRow] = ()
    lengths: Sequence[int] = ()
    bad: Path = Path("nan-batch.json")

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """One forward and backward pass.

        Raises:
            ModelError: the loss is no number.
        """
        which = inputs.pop("row", None)
        ids = inputs["input_ids"].detach()
        starts = inputs.get("position_ids")
        with answers_only(ids.device):
            loss = super().training_step(model, inputs, *rest, **named)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}", ids, starts, which)
        self._last = ids, starts, which
        return loss

    def _get_train_sampler(self, *rest: Any, **named: Any) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(*rest, **named)
        # The trainer's own would read every row for it, pictures too.
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(together, lengths=list(self.lengths))

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            self._stop(f"the gradient's length is {float(norm)}", *self._last)
        return norm

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: TRL's would stand in every checkpoint and tell of its maker."""

    def _stop(self, what: str, ids: Any, starts: Any, which: Any) -> None:
        texts = [self._tokenizer.decode(one) for one in _sequences(ids, starts)]
        known = [self.rows[i] for i in which.tolist()] if which is not None else self._found(texts)
        batch = {
            "step": self.state.global_step + 1,
            "why": what,
            "rows": [{"query_id": row.query_id, "item_id": row.item_id, "set": row.set} for row in known],
            "texts": texts,
        }
        self.bad.write_text(json.dumps(batch, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        raise ModelError(
            f"step {batch['step']}: {what}; the batch is in {self.bad}. A lower learning_rate, a longer warmup or "
            "dtype float32 may help; the same command goes on from the last checkpoint"
        )

    def _found(self, texts: Sequence[str]) -> list[ChainRow]:
        """The rows of texts: those whose prompt stands in one."""
        return [row for row in self.rows if any(row.prompt in text and row.system in text for text in texts)]


def _sequences(ids: Any, starts: Any) -> Iterator[list[int]]:
    """The token ids of each text of a batch, those of a packed one apart."""
    if starts is None:
        yield from ids.tolist()
        return
    flat, begins = ids.flatten(), (starts.flatten() == 0).nonzero().flatten().tolist()
    for start, end in zip(begins, [*begins[1:], len(flat)], strict=True):
        yield flat[start:end].tolist()


@contextmanager
def answers_only(device: Any) -> Iterator[None]:
    """Within it TRL works out logits where an answer is learned, and nowhere else, on a CPU too.

    By itself it does so where Triton is, and elsewhere takes every position, for compilers to which every new shape
    is new work. Nothing is compiled here, and the head of a small model is a fourth of it.
    """
    if device.type != "cpu" or not hasattr(trl_utils, "_use_triton"):
        yield
        return
    before = trl_utils._use_triton
    trl_utils._use_triton = lambda _: True
    try:
        yield
    finally:
        trl_utils._use_triton = before
