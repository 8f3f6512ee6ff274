"""A BERT of 0.02 M random weights with a WordPiece tokenizer of its own, in the layout of all-MiniLM-L6-v2, and a few
queries in QueryNER's format to train it on.
"""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

__all__ = ["WORDS", "queryner", "tiny_bert"]

WORDS = {
    "color": ["red", "blue", "dark green", "black"],
    "creator": ["nike", "sony", "fisher price"],
    "core_product_type": ["shoes", "phone case", "lamp", "garden hose"],
    "department": ["for men", "women's", "kids"],
}


def tiny_bert(folder: Path, seed: int = 0) -> Path:
    """Write config.json, model.safetensors and tokenizer.json."""
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += [f"##{c}" for c in string.ascii_lowercase + string.digits] + ["漢", "字", "é", "ß"]
    pieces += sorted({word for spans in WORDS.values() for span in spans for word in span.split() if word.isalpha()})
    tokenizer = Tokenizer(
        models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", pieces.index("[CLS]")), ("[SEP]", pieces.index("[SEP]"))]
    )
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128, layer_norm_eps=1e-12,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def queryner(folder: Path, train: int = 240, dev: int = 40, seed: int = 0) -> Path:
    """Write train.jsonl and dev.jsonl: a colour, a maker, a thing and a wearer, each or not, in this order."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("dev", dev)):
        lines = []
        for _ in range(count):
            tokens: list[str] = []
            labels: list[str] = []
            for kind, share in (("color", 0.5), ("creator", 0.5), ("core_product_type", 1.0), ("department", 0.5)):
                if chance.random() < share:
                    words = chance.choice(WORDS[kind]).split()
                    tokens += words
                    labels += [f"B-{kind}"] + [f"I-{kind}"] * (len(words) - 1)
            lines.append(json.dumps({"tokens": tokens, "labels": labels}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
