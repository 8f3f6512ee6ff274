"""TRL's GRPO, told which groups of completions to learn from; prompts are read once a group.

The trainer is TRL's: rollouts, rewards, advantages, loss and steps are its own. What differs:

* A group outside the window of difficulty (the share of its completions with the right level) has no advantages and no
  tokens in the loss, so that DAPO's normaliser counts those of the other groups alone: the step is that of a batch of
  the others. DAPO would sample more in their place (dynamic sampling); here the step is made of fewer.
* In one process, micro-batches are groups as far as the batch size allows, those without any advantage cost no
  forward pass, and the prompt of a group is read once: with its gradient, so that loss and gradient are TRL's to the
  last digits (tests/test_relevance_rl.py holds them against each other).

Imported only where a model is trained: torch and trl come with it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.models.cpu_decoding import distinct, remember
from relevance.training.guards import answers_only
from relevance.training.model import device_of
from relevance.training.rl_config import RlConfig
from relevance.training.rows import ChainRow
from relevance.training.sampling import complete

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a vLLM that it does not know, used or not
    from trl import GRPOTrainer
    from trl.models import unwrap_model_for_generation
    from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

__all__ = ["GroupTrainer", "use_vllm"]


def use_vllm(config: RlConfig) -> bool:
    """Whether vLLM writes the completions: where it is wanted, or left open and it and a GPU are there.

    Raises:
        MissingExtraError: it is wanted, and not installed.
    """
    there = find_spec("vllm") is not None
    if config.vllm == "yes" and not there:
        raise MissingExtraError("vllm", "vllm")
    return config.vllm == "yes" or (config.vllm == "auto" and there and device_of(config.device) == "cuda")


class GroupTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO on the groups whose share of right completions is inside `window`, both ends included.

    A completion is right where the reward named `right` is above 0. `share`: prompts are read once a group. `rows`
    are those that the data set counts; `bad` is where completions are saved whose loss or gradient is no number.
    """

    rows: Sequence[ChainRow] = ()
    bad: Path = Path("nan-batch.json")
    _buffered_inputs: Any

    def __init__(self, *args: Any, window: tuple[float, float], right: str, share: bool = True, **others: Any) -> None:
        super().__init__(*args, **others)
        self._window = window
        self._column = self.reward_func_names.index(right)
        self._alone = self.accelerator.num_processes == 1 and self.beta == 0 and not self._entropy_bonus_enabled
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        plain = all(type(one) is DynamicLayer for one in cache.layers)  # keys and values of every token
        self._share = share and plain and self._alone and not self._is_vlm and not self.args.gradient_checkpointing

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._log_completion_extra("row", [one["row"] for one in inputs])
        first = self.accelerator.process_index * len(prompts)
        self._right = rewards[first : first + len(prompts), self._column] > 0
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)
        if self.model.training:
            share = self._right.float().view(-1, self.num_generations).mean(dim=1)
            low, high = self._window
            inside = (share >= low) & (share <= high)
            kept = inside.repeat_interleave(self.num_generations)
            output["advantages"] = output["advantages"] * kept
            output["completion_mask"] = output["completion_mask"] * kept.unsqueeze(1)
            output["num_items_in_batch"] = self.accelerator.gather(output["completion_mask"].sum()).sum()
            told = {"in_window": inside, "all_right": share == 1, "all_wrong": share == 0, "right": share}
            for name, values in told.items():
                mean = self.accelerator.gather(values.float()).mean().item()
                self._metrics["train"][f"groups/{name}"].append(mean)
        return output

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but groups stay together: their loss is one sum over the step, in whatever order."""
        if not self._alone or not self.model.training:
            return super()._prepare_inputs(generation_batch)
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            batch = split_pixel_values_by_grid(self._generate_and_score_completions(generation_batch))
            parts = split_tensor_dict(batch, self.args.steps_per_generation)
            self._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in parts]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        if self._alone and self.model.training and not inputs["advantages"].any():
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        return super()._compute_loss(model, inputs)

    def training_step(self, *args: Any, **named: Any) -> Any:
        """One forward and backward pass.

        Raises:
            ModelError: the loss is no number.
        """
        loss = super().training_step(*args, **named)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}")
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            self._stop(f"the gradient's length is {float(norm)}")
        return norm

    def _stop(self, what: str) -> None:
        batch = {"step": self.state.global_step + 1, "why": what, "completions": self.written(every=1)}
        self.bad.write_text(json.dumps(batch, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        raise ModelError(
            f"step {batch['step']}: {what}; the batch is in {self.bad}. A lower learning_rate or dtype float32 may "
            "help; the same command goes on from the last checkpoint"
        )

    def written(self, every: int | None = None) -> list[dict[str, Any]]:
        """Of the last completions every so manyth, one a group unless told: pair, text, rewards and advantage."""
        logs, found = self._logs, []
        for place in range(0, len(logs["completion"]), every or self.num_generations):
            said, row = logs["completion"][place], self.rows[logs["extra"]["row"][place]]
            found.append(
                {
                    "query_id": row.query_id,
                    "item_id": row.item_id,
                    "label": row.label,
                    "text": said if isinstance(said, str) else said[-1]["content"],
                    "rewards": {name: round(values[place], 4) for name, values in logs["rewards"].items()},
                    "advantage": round(logs["advantages"][place], 4),
                }
            )
        return found

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: TRL's would stand in every checkpoint and tell of its maker."""

    # ------------------------------------------------------------------------------------------------- prompts, once

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, **others: Any
    ) -> Any:
        if not self._share or self.use_vllm or self.use_transformers_continuous_batching:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **others)
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs
        ) as model:
            pad = self._tokenizer.pad_token_id
            once = prompt_ids[::num_generations]
            written = complete(model, once, num_generations, pad, set(self.eos_token_ids), self.generation_config)
        return written, None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **pictures: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        with answers_only(input_ids.device):
            if self._share and not compute_aux_loss and input_ids.shape[1] - logits_to_keep > 1:
                size = batch_size or len(input_ids)
                parts = zip(torch.split(input_ids, size), torch.split(attention_mask, size), strict=True)
                scored = [self._scored(model, ids, mask, logits_to_keep) for ids, mask in parts]
                log_probs, entropies = (torch.cat(some) for some in zip(*scored, strict=True))
                return log_probs, entropies if compute_entropy else None, None
            plain = (model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss)
            found: tuple[Tensor, Tensor | None, Tensor | None]
            found = super()._get_per_token_logps_and_entropies(*plain, **pictures)
            return found

    def _scored(self, model: Any, ids: Tensor, mask: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of the last `kept` tokens, (n, kept).

        The last token of a prompt goes with the completion, whose first token it foretells.
        """
        columns = mask.any(dim=0).nonzero()
        first, end = int(columns.min()), int(columns.max()) + 1
        start = ids.shape[1] - kept
        before, rest = slice(first, start - 1), slice(start - 1, max(end, start + 1))
        rows, place = distinct(ids[:, before])
        with self.accelerator.autocast():
            cache = DynamicCache(config=model.config.get_text_config(decoder=True))
            remember(model, ids[rows, before], mask[rows, before], cache)
            cache.batch_select_indices(place)
            labels = ids[:, rest].masked_fill(mask[:, rest] == 0, -100)
            labels[:, 0] = -100
            told = model(
                input_ids=ids[:, rest],
                attention_mask=mask[:, first : rest.stop],
                past_key_values=cache,
                labels=labels,
                fused_lm_head=True,
            )
        short = kept - told.log_probs.shape[1]
        return torch.nn.functional.pad(told.log_probs, (0, short)), torch.nn.functional.pad(told.entropy, (0, short))
