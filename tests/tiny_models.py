"""Checkpoints of transformers that are real in everything but what they know: Qwen2.5-VL, 0.6 M random parameters,
and Qwen3, which reads no pictures, with as many.

Loads in transformers and in vLLM (head_dim 32, float32), reads several pictures a request, and speaks ChatML with a
byte-level BPE tokenizer of its own. Deterministic: two builds are the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["CONTEXT", "tiny_text", "tiny_vlm"]

CONTEXT = 2048  # tokens a request and its reply may have together
SMALLEST, LARGEST = 4, 16  # tokens a picture, each of 28 × 28 pixels
# Of the random weights. As transformers would draw them (0.02), every token is about as likely as any other, whatever
# was asked; so the reply follows text and picture, and greedy decoding does not hang on the last bit of a float.
_SPREAD = 0.1

_SPECIAL = (
    "<|pad|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
_CORPUS = [
    '{"color": "blue", "material": ["cotton", "wool"], "pattern": "not_stated", "size": 42}',
    "What is the color of the item? Answer as JSON. The title says: ceramic mug, white, 350 ml, dishwasher safe.",
    "Title: red summer dress with floral print for women. Text: made of cotton and linen, machine wash.",
    "system user assistant You read pictures and answer in JSON: not_stated, not_applicable, true, false, null.",
    "weiß größe schön naïve café crème déjà vu コットン 綿 100% хлопок 42,5 см — “quoted” … €19.99",
]
_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""


def tiny_vlm(folder: Path, seed: int = 0) -> Path:
    """Write the checkpoint into `folder` (made if need be) and return it."""
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _tokenizer()
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "vocab_size": len(tokenizer),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|pad|>"),
            "bos_token_id": None,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4},
            "initializer_range": _SPREAD,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 14,
            "fullatt_block_indexes": [1],
            "window_size": 112,
            "initializer_range": _SPREAD,
        },
        tie_word_embeddings=False,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        eos_token_id=token("<|im_end|>"),
        pad_token_id=token("<|pad|>"),
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    pixels = {"shortest_edge": 28 * 28 * SMALLEST, "longest_edge": 28 * 28 * LARGEST}
    pictures = Qwen2VLImageProcessor(patch_size=14, temporal_patch_size=2, merge_size=2, size=pixels)
    processor = Qwen2_5_VLProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=_TEMPLATE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tiny_text(folder: Path, seed: int = 0) -> Path:
    """Write a language model into `folder` (made if need be) and return it."""
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer()
    token = tokenizer.convert_tokens_to_ids
    config = Qwen3Config(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        vocab_size=len(tokenizer),
        eos_token_id=token("<|im_end|>"),
        pad_token_id=token("<|pad|>"),
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=_SPREAD,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    """Byte-level BPE: every text has tokens, letters beyond ASCII several each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=[one for one in _SPECIAL if one not in ("<|im_end|>", "<|pad|>")],
        chat_template=_TEMPLATE,
        model_max_length=CONTEXT,
    )
