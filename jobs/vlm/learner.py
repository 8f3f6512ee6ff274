"""lore-vlm-tiny as it learns: picture tokens through the connector, the words around them, loss on the reply alone.

The picture tower does not run here: its features come in. Connector and LoRA are the only weights that move. This
module knows nothing of data sets, schedules or files but the ones it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from jobs.vlm.instructions import Instruction
from lore_mm.errors import MissingExtraError
from lore_mm.models.vlm_tiny import PICTURE_TOKENS

__all__ = ["Example", "Learner"]

RANK, ALPHA = 16, 32
_PICTURE = "<fake_token_around_image><global-img>" + "<image>" * PICTURE_TOKENS + "<fake_token_around_image>"


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of question and reply; `start`: the reply's first; `features`: (picture tokens, 6144), or None."""

    ids: tuple[int, ...]
    start: int
    features: NDArray[np.float16] | None


class Learner:
    """The language model with a LoRA (Hu et al. 2021, arXiv 2106.09685) and the connector before it."""

    def __init__(self, model: Any, processor: Any, device: str = "cpu") -> None:
        try:
            from peft import LoraConfig, get_peft_model
        except ModuleNotFoundError:
            raise MissingExtraError("peft", "train") from None
        self.tokenizer, self.device = processor.tokenizer, device
        self.picture_id = model.config.image_token_id
        model.requires_grad_(False)
        self.connector: nn.Linear = model.model.connector.modality_projection.proj.to(device).requires_grad_(True)
        body = model.model.text_model.to(device)
        self.embeddings: Tensor = body.get_input_embeddings().weight
        settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
        self.body: Any = get_peft_model(body, settings)

    def encode(self, one: Instruction, features: NDArray[np.float16] | None) -> Example:
        """Exactly the tokens that the processor makes of such a turn, with the reply and its end."""
        picture = "" if features is None else _PICTURE
        question = f"<|im_start|>user\n{picture}{one.prompt}<|im_end|>\n<|im_start|>assistant\n"
        before = self.tokenizer(question, add_special_tokens=False)["input_ids"]
        reply = self.tokenizer(f"{one.reply}<|im_end|>", add_special_tokens=False)["input_ids"]
        return Example((*before, *reply), len(before), features)

    def logits(self, batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (k, vocabulary), right ids (k,), which example (k,)) at the places where the replies are made."""
        longest = max(len(one.ids) for one in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        replied = torch.zeros(len(batch), longest, dtype=torch.bool)
        for i, one in enumerate(batch):
            ids[i, : len(one.ids)] = torch.tensor(one.ids)
            replied[i, one.start - 1 : len(one.ids) - 1] = True  # the place before a token makes it
        ids, replied = ids.to(self.device), replied.to(self.device)
        inputs = self._inputs(ids, batch)
        # Padding stands at the end and attention looks back only: no mask is needed.
        hidden = self.body(inputs_embeds=inputs, use_cache=False).last_hidden_state
        which = replied.nonzero()[:, 0]
        right = ids.roll(-1, dims=1)[replied]
        return hidden[replied] @ self.embeddings.T, right, which

    def loss(self, batch: Sequence[Example]) -> Tensor:
        """Mean cross-entropy of the reply's tokens."""
        logits, right, _ = self.logits(batch)
        return cross_entropy(logits, right)

    def right_replies(self, examples: Sequence[Example], size: int = 16) -> NDArray[np.bool_]:
        """Whether greedy decoding, unconstrained, gives exactly the right reply, (n,)."""
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
        made = np.ones(len(examples), dtype=np.bool_)
        self.body.eval()
        with torch.inference_mode():
            for start in range(0, len(order), size):
                chunk = order[start : start + size]
                logits, right, which = self.logits([examples[i] for i in chunk])
                wrong = which[logits.argmax(dim=-1) != right]
                for place in set(wrong.tolist()):
                    made[chunk[place]] = False
        self.body.train()
        return made

    def choose(self, questions: Sequence[Example], replies: Sequence[str], size: int = 16) -> list[int]:
        """Which of the replies greedy decoding gives where it is held to them, one a question (of which only the part
        before the reply is read): what a constrained decoder does in use.
        """
        options = [self.tokenizer(f"{text}<|im_end|>", add_special_tokens=False)["input_ids"] for text in replies]
        by_length: dict[int, list[int]] = {}
        for i, one in enumerate(questions):
            by_length.setdefault(one.start, []).append(i)
        chosen = [0] * len(questions)
        self.body.eval()
        with torch.inference_mode():
            for places in by_length.values():  # of one length, so that nothing is padded
                for start in range(0, len(places), size):
                    chunk = places[start : start + size]
                    for place, option in zip(chunk, self._held([questions[i] for i in chunk], options), strict=True):
                        chosen[place] = option
        self.body.train()
        return chosen

    def _held(self, batch: Sequence[Example], options: Sequence[Sequence[int]]) -> list[int]:
        ids = torch.tensor([one.ids[: one.start] for one in batch], device=self.device)
        alive = [list(range(len(options))) for _ in batch]
        inputs, kept, step = self._inputs(ids, batch), None, 0
        while any(len(some) > 1 for some in alive):
            out = self.body(inputs_embeds=inputs, past_key_values=kept, use_cache=True)
            kept = out.past_key_values
            logits = out.last_hidden_state[:, -1] @ self.embeddings.T
            said = []
            for row, some in enumerate(alive):
                legal = sorted({options[i][step] for i in some if step < len(options[i])})
                best = legal[int(logits[row, legal].argmax())] if legal else 0
                alive[row] = [i for i in some if step < len(options[i]) and options[i][step] == best] or some[:1]
                said.append(best)
            inputs, step = self.embeddings[torch.tensor(said, device=self.device)][:, None], step + 1
        return [some[0] for some in alive]

    def _inputs(self, ids: Tensor, batch: Sequence[Example]) -> Tensor:
        """Input embeddings (n, length, width), with what the connector makes of the pictures in their places."""
        inputs = self.embeddings[ids]
        seen = [one.features for one in batch if one.features is not None]
        if not seen:
            return inputs
        rows = self.connector(torch.from_numpy(np.stack(seen)).to(self.device, torch.float32))
        return inputs.masked_scatter((ids == self.picture_id).unsqueeze(-1), rows.reshape(-1, rows.shape[-1]))

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """The weights that move, by name."""
        lora = [(name, p) for name, p in self.body.named_parameters() if p.requires_grad]
        return [("connector.weight", self.connector.weight), *lora]

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write connector.safetensors, adapter_model.safetensors and adapter_config.json."""
        from peft import get_peft_model_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        lora = get_peft_model_state_dict(self.body)
        files = {"connector": {"connector.weight": self.connector.weight.detach()}, "adapter_model": lora}
        for name, tensors in files.items():
            kept = {key: t.detach().to("cpu", dtype).contiguous() for key, t in tensors.items()}
            _write(folder / f"{name}.safetensors", kept)
        config = {"base_model_name_or_path": "smollm2-135m", "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
        config |= {"target_modules": sorted(_targets(lora)), "bias": "none", "task_type": None}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take up the weights that `save` wrote."""
        from peft import set_peft_model_state_dict

        with torch.no_grad():
            self.connector.weight.copy_(load_file(folder / "connector.safetensors")["connector.weight"])
        set_peft_model_state_dict(
            self.body, {k: v.float() for k, v in load_file(folder / "adapter_model.safetensors").items()}
        )


def _targets(lora: Any) -> set[str]:
    return {key.split(".lora_")[0].rsplit(".", 1)[-1] for key in lora}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    scratch = path.with_suffix(".partial")
    save_file(tensors, scratch, metadata={"format": "pt"})
    scratch.chmod(0o644)
    scratch.replace(path)
