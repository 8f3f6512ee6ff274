"""The finer points of hf: what the contract over all backends does not see. Values are checked against bare torch."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lore_mm.errors import ConfigError, MissingExtraError, ModelError
from lore_mm.models import ChatRequest, open_chat
from lore_mm.models import hf_checkpoint as loading
from lore_mm.models.hf import HfChat
from lore_mm.models.hf_checkpoint import Checkpoint
from lore_mm.models.pieces import pieces_of, text_of

torch = pytest.importorskip("torch", reason="needs the extra hf")

CHOICES = ("red", "blue", "dark blue", "weiß", "")


def picture(seed: int, width: int = 70, height: int = 84) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def chat(tiny_vlm_folder: Path) -> Iterator[HfChat]:
    chat = open_chat(f"hf:{tiny_vlm_folder}", batch_size=4)
    yield chat
    chat.close()


@pytest.fixture(scope="module")
def checkpoint(chat: HfChat) -> Checkpoint:
    assert chat._checkpoint is not None
    return chat._checkpoint


@pytest.fixture(scope="module")
def text_folder(tiny_vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that reads no pictures, with the same tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_vlm_folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("text")
    with loading._quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def brute_force(checkpoint: Checkpoint, request: ChatRequest, choice: str, end: str = "<|im_end|>") -> float:
    """ln P of the choice and the end of its turn: one forward pass over the whole, no cache."""
    inputs = checkpoint.prepare([request])
    tail = checkpoint.tokenizer(f"{choice}{end}", add_special_tokens=False)["input_ids"]
    start = inputs["input_ids"].shape[1]
    ids = torch.cat([inputs["input_ids"], torch.tensor([tail])], dim=1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "mm_token_type_ids" in inputs:
        padding = torch.zeros((1, len(tail)), dtype=inputs["mm_token_type_ids"].dtype)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], padding], dim=1)
    if hasattr(checkpoint.model.base_model, "rope_deltas"):
        checkpoint.model.base_model.rope_deltas = None
    with torch.inference_mode():
        scores = checkpoint.model(**inputs, use_cache=False).logits[0].double().log_softmax(-1)
    return sum(float(scores[start + i - 1, token]) for i, token in enumerate(tail))


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_likelihoods_are_those_of_brute_force(chat: HfChat, checkpoint: Checkpoint, pictures: int) -> None:
    parts = (*(picture(i, 60 + 30 * i) for i in range(pictures)), "Which color?")
    request = ChatRequest(parts, system="Be short.", choices=CHOICES)
    chat.generate([ChatRequest((picture(9, 200, 90), "Another, whose places must be forgotten."), choices=("a",))])
    (reply,) = chat.generate([request])
    assert reply.likelihoods == pytest.approx([brute_force(checkpoint, request, c) for c in CHOICES], abs=1e-4)


@pytest.mark.parametrize("pictures", [0, 1])
@pytest.mark.parametrize("choices", [("L1", "L2", "L3", "L4"), CHOICES[:3], ("one",)])
def test_which_of_the_choices_it_is(chat: HfChat, checkpoint: Checkpoint, pictures: int, choices: tuple[str]) -> None:
    parts = (*(picture(i, 60 + 30 * i) for i in range(pictures)), "Which level?")
    request = ChatRequest(parts, system="Be short.", choices=choices, among_choices=True)
    (reply,) = chat.generate([request])
    expected = [math.exp(brute_force(checkpoint, request, choice, end="")) for choice in choices]
    assert [math.exp(x) for x in reply.likelihoods] == pytest.approx([x / sum(expected) for x in expected], abs=1e-4)


def test_a_thousand_choices_are_each_what_they_are_alone(chat: HfChat) -> None:
    choices = tuple(f"{word} {i}" for i in range(250) for word in ("category", "kind of", "a", "weiß"))
    (together,) = chat.generate([ChatRequest((picture(1), "What is it?"), choices=choices)])
    for i in (0, 1, 499, 998, 999):
        (alone,) = chat.generate([ChatRequest((picture(1), "What is it?"), choices=(choices[i],))])
        assert together.likelihoods[i] == pytest.approx(alone.likelihoods[0], abs=1e-4)


def test_a_text_checkpoint_reads_text_and_refuses_pictures(text_folder: Path) -> None:
    chat = open_chat(f"hf:{text_folder}")
    request = ChatRequest(("Which color?", "Say it."), choices=CHOICES)
    seen, compared, said = chat.generate(
        [
            ChatRequest((picture(1), "What?")),
            request,
            ChatRequest(("Which color?",), json_schema={"enum": ["red", "blue"]}, max_tokens=9),
        ]
    )
    assert seen.error == "this model reads no pictures"
    assert said.text in ('"red"', '"blue"')
    expected = [brute_force(chat._checkpoint, request, choice) for choice in CHOICES]
    assert compared.likelihoods == pytest.approx(expected, abs=1e-4)
    chat.close()


def test_log_probabilities_are_among_legal_tokens(chat: HfChat, checkpoint: Checkpoint) -> None:
    request = ChatRequest((picture(3), "How many?"), json_schema={"enum": [1, 2, 3]}, logprobs=True, max_tokens=4)
    (reply,) = chat.generate([request])
    digits = [checkpoint.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "123"]
    with torch.inference_mode():
        checkpoint.model.base_model.rope_deltas = None
        logits = checkpoint.model(**checkpoint.prepare([request])).logits[0, -1, digits].double()
    assert reply.text == "123"[int(logits.argmax())]
    assert [token.text for token in reply.tokens] == [reply.text]
    assert reply.tokens[0].logprob == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-4)
    assert reply.usage.completion_tokens == 2  # the digit and the end of the turn


def test_a_sample_follows_the_probabilities_at_its_temperature(chat: HfChat, checkpoint: Checkpoint) -> None:
    request = ChatRequest(("How many?",), json_schema={"enum": [1, 2, 3]}, max_tokens=2)
    digits = [checkpoint.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "123"]
    with torch.inference_mode():
        checkpoint.model.base_model.rope_deltas = None
        logits = checkpoint.model(**checkpoint.prepare([request])).logits[0, -1, digits].double()
    expected = (logits / 2).softmax(-1).tolist()
    asked = [ChatRequest(request.parts, json_schema=request.json_schema, temperature=2, seed=i) for i in range(300)]
    texts = [reply.text for reply in chat.generate(asked)]
    for digit, share in zip("123", expected, strict=True):  # four standard errors
        assert abs(texts.count(digit) / 300 - share) < 4 * math.sqrt(share * (1 - share) / 300)


def test_a_sampled_reply_does_not_depend_on_the_batch(chat: HfChat, tiny_vlm_folder: Path) -> None:
    asked = [
        ChatRequest((picture(i), f"Item {i} {'so ' * i}"), temperature=1.0, seed=i, max_tokens=6 + i) for i in range(9)
    ]
    one_by_one = open_chat(f"hf:{tiny_vlm_folder}", batch_size=1)
    assert [r.text for r in chat.generate(asked)] == [r.text for r in one_by_one.generate(asked[::-1])][::-1]
    one_by_one.close()


def test_settings_of_the_checkpoint_do_not_leak_in(chat: HfChat, tiny_vlm_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stray"
    shutil.copytree(tiny_vlm_folder, folder)
    said = json.loads((folder / "generation_config.json").read_text())
    said |= {"do_sample": True, "temperature": 5.0, "top_p": 0.3, "repetition_penalty": 9.0, "max_length": 20}
    (folder / "generation_config.json").write_text(json.dumps(said))
    asked = [ChatRequest((picture(i), "What?"), max_tokens=30) for i in range(3)]
    stray = open_chat(f"hf:{folder}")
    assert stray.sha != chat.sha
    assert [reply.text for reply in stray.generate(asked)] == [reply.text for reply in chat.generate(asked)]
    stray.close()


def test_lengths_are_the_rows_own(chat: HfChat) -> None:
    asked = [ChatRequest((f"Say much, {n}",), max_tokens=n, logprobs=True) for n in (1, 9, 3, 5)]
    alone = [chat.generate([request])[0] for request in asked]
    for reply, single, n in zip(chat.generate(asked), alone, (1, 9, 3, 5), strict=True):
        assert reply.usage.completion_tokens == n
        assert (reply.text, reply.finish) == (single.text, "length")
        assert [t.logprob for t in reply.tokens] == pytest.approx([t.logprob for t in single.tokens], abs=1e-4)


def test_the_context_is_told_and_kept(tiny_vlm_folder: Path) -> None:
    chat = open_chat(f"hf:{tiny_vlm_folder}", max_model_len=64)
    words = ChatRequest(("a b c d e " * 40,), max_tokens=4)
    pictures = ChatRequest((*(picture(i, 300, 300) for i in range(5)), "What?"), max_tokens=4)
    compared = ChatRequest(("Which?",), choices=("yes", "a " * 60))
    room = ChatRequest(("Say much.",), max_tokens=500)
    long, seen, tail, cut, good = chat.generate([words, pictures, compared, room, ChatRequest(("Hm",), max_tokens=2)])
    for reply in (long, seen, tail):
        assert "tokens, and this model reads 64" in str(reply.error)
    assert int(str(seen.error).split()[3]) > 5 * 9  # tokens of the pictures
    assert cut.error is None
    assert cut.finish == "length"
    assert cut.usage.prompt_tokens + cut.usage.completion_tokens == 64
    assert good.error is None
    chat.close()


def test_a_broken_batch_is_halved(chat: HfChat, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ChatRequest((f"Item {i}",), max_tokens=3) for i in range(8)]
    expected = [reply.text for reply in chat.generate(asked)]
    sizes, plain = [], checkpoint.model.generate
    bad = checkpoint.tokenizer("Item 5", add_special_tokens=False)["input_ids"]

    def generate(**inputs: Any) -> Any:
        rows = inputs["input_ids"].tolist()
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        if any(bad == row[i : i + len(bad)] for row in rows for i in range(len(row))):
            raise RuntimeError("this one is bad")
        return plain(**inputs)

    monkeypatch.setattr(checkpoint.model, "generate", generate)
    replies = chat.generate(asked)
    assert max(sizes) == 4
    assert replies[5].error == "refused by transformers: RuntimeError: this one is bad"
    assert [r.text for i, r in enumerate(replies) if i != 5] == [t for i, t in enumerate(expected) if i != 5]
    assert [r.error for i, r in enumerate(replies) if i != 5] == [None] * 7


def test_a_dead_accelerator_raises(chat: HfChat, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(**inputs: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(checkpoint.model, "generate", generate)
    with pytest.raises(ModelError, match="the accelerator failed: CUDA error"):
        chat.generate([ChatRequest(("Hm",))])
    monkeypatch.undo()
    assert chat.generate([ChatRequest(("Hm",), max_tokens=2)])[0].error is None


def test_a_text_that_would_pass_for_a_picture_is_refused(chat: HfChat) -> None:
    bad, good = chat.generate(
        [ChatRequest(("a <|image_pad|> mug",)), ChatRequest((picture(1), "a mug"), max_tokens=2)],
    )
    assert "'<|image_pad|>', which this model takes for a picture" in str(bad.error)
    assert good.error is None


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(7, 399), max_size=40))
def test_token_texts_joined_are_the_text(checkpoint: Checkpoint, ids: list[int]) -> None:
    pieces = pieces_of(checkpoint.tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text_of(checkpoint.tokenizer, ids)
    assert not text_of(checkpoint.tokenizer, ids).endswith("\ufffd")


def test_a_letter_of_several_tokens_belongs_to_the_last(checkpoint: Checkpoint) -> None:
    ids = checkpoint.tokenizer("ж綿!", add_special_tokens=False)["input_ids"]
    assert len(ids) > 3
    pieces = pieces_of(checkpoint.tokenizer, ids)
    assert [piece for piece in pieces if piece] == ["ж", "綿", "!"]
    assert text_of(checkpoint.tokenizer, ids[:-2]) == "ж"


def test_only_safetensors_and_never_foreign_code(tiny_vlm_folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_vlm_folder, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        open_chat(f"hf:{pickled}")
    foreign = tmp_path / "foreign"
    shutil.copytree(tiny_vlm_folder, foreign)
    config = json.loads((foreign / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "evil.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(ModelError, match="cannot be opened"):
        open_chat(f"hf:{foreign}")


def test_a_checkpoint_without_a_chat_template_is_refused(text_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(text_folder, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        open_chat(f"hf:{folder}")


def test_mistakes_are_one_line(tiny_vlm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        open_chat("hf:./nowhere")
    with pytest.raises(ConfigError, match="legal: auto, cpu, cuda, mps"):
        open_chat(f"hf:{tiny_vlm_folder}", device="tpu")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        open_chat(f"hf:{tiny_vlm_folder}", batch_size=0)
    monkeypatch.setattr(loading, "find_spec", lambda module: None if module == "llguidance" else object())
    with pytest.raises(MissingExtraError, match=r"pip install 'lore-mm\[hf\]'"):
        open_chat(f"hf:{tiny_vlm_folder}")


def test_a_closed_chat_says_so(tiny_vlm_folder: Path) -> None:
    chat = open_chat(f"hf:{tiny_vlm_folder}")
    chat.close()
    chat.close()
    with pytest.raises(ModelError, match="closed"):
        chat.generate([ChatRequest(("Hm",))])


def test_a_normal_run_says_nothing(tiny_vlm_folder: Path) -> None:
    """No progress bars, no warnings: also of a picture that is all but a line."""
    code = (
        "import sys\nfrom PIL import Image\nfrom lore_mm.models import ChatRequest, open_chat\n"
        "chat = open_chat('hf:' + sys.argv[1])\n"
        "chat.generate([ChatRequest((Image.new('RGB', (3, 90)), 'What?'), json_schema={'type': 'boolean'}),\n"
        "               ChatRequest(('What?',), choices=('a', 'b')), ChatRequest(('x',), temperature=1.0)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_vlm_folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
