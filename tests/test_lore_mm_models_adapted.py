"""Run: pytest tests/test_lore_mm_models_adapted.py

A base and a LoRA on it as one checkpoint: the same answers as peft's, opened by folder and by name; another base, or
what is no plain LoRA, is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models import checkpoint as checkpoints
from lore_mm.models import open_chat
from lore_mm.models.adapted import is_base, manifest_of, merged, read_adapter
from lore_mm.models.chat import ChatRequest
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
from lore_mm.models.table import WeightsEntry, load_table
from lore_mm.models.weights import weights_sha
from tests.tiny_models import tiny_text, tiny_vlm

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
ASKED = [ChatRequest(("a red dress",), max_tokens=12), ChatRequest(("white mug", "350 ml"), max_tokens=12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_text(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LORE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


def trained(folder: Path, base: Path, model: Any, targets: Any = "all-linear", **said: Any) -> Any:
    """A random LoRA on a model, written as training writes it; the model with it."""
    import torch
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        settings = LoraConfig(
            r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
        )
        adapted = get_peft_model(model, settings)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    manifest = {"base": str(base), "base_sha": checkpoint_sha(str(base)), "order": "think_first"} | said
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return adapted


@pytest.fixture(scope="module")
def text_model(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from lore_mm.models.torchvision_cpu import install

    install()
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter") / "mine"
    return folder, trained(folder, base, AutoModelForCausalLM.from_pretrained(base))


def logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(ids).logits


@needs_peft
def test_it_answers_as_peft_does(base: Path, text_model: tuple[Path, Any], cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder, adapted = text_model
    made = merged(folder)
    assert made.parent == cache / "assembled" and made.name.startswith("mine-")
    ids = torch.arange(5, 25).reshape(2, 10)
    plain = logits(AutoModelForCausalLM.from_pretrained(base), ids)
    ours = logits(AutoModelForCausalLM.from_pretrained(made), ids)
    assert torch.allclose(ours, logits(adapted, ids), atol=1e-4) and not torch.allclose(ours, plain, atol=0.1)
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert merged(folder) == made and (made / "model.safetensors").stat().st_mtime_ns == before  # made once
    assert not list(made.parent.glob(".partial-*"))


@needs_peft
def test_it_opens_by_its_folder_and_by_its_name(
    text_model: tuple[Path, Any], base: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = text_model
    entry = WeightsEntry(
        kind="judge", address="chain:hf:mine", about="", good_for="", licence="", memory_mb=1, shipped=str(folder)
    )
    monkeypatch.setattr(checkpoints, "load_table", lambda: {"mine": entry})
    assert checkpoint_folder("mine") == checkpoint_folder(str(folder)) == str(merged(folder))
    replies = []
    for name in ("mine", str(folder), str(base)):
        chat = open_chat(f"hf:{name}", device="cpu")
        replies.append([reply.text for reply in chat.generate(ASKED)])
        chat.close()
    assert replies[0] == replies[1] != replies[2]
    gone = entry.model_copy(update={"shipped": "no-such-folder"})
    monkeypatch.setattr(checkpoints, "load_table", lambda: {"mine": gone})
    with pytest.raises(ModelError, match=r"mine: its weights are missing from .*no-such-folder: install lore-mm anew"):
        checkpoint_folder("mine")


@needs_peft
def test_a_model_that_sees_is_adapted_where_its_names_say(tmp_path: Path, cache: Path) -> None:
    """Files name the layers otherwise than the model does, and the tower has layers of the same names."""
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import AutoModelForImageTextToText

    base = tiny_vlm(tmp_path / "base")
    model = AutoModelForImageTextToText.from_pretrained(base)
    pattern = r".*language_model.*\.(q_proj|v_proj|down_proj)"
    adapted = trained(tmp_path / "sees", base, model, pattern)
    ids = torch.arange(10, 30).reshape(1, 20)
    ours = logits(AutoModelForImageTextToText.from_pretrained(merged(tmp_path / "sees")), ids)
    assert torch.allclose(ours, logits(adapted, ids), atol=1e-4)


@needs_peft
def test_another_base_is_refused(text_model: tuple[Path, Any], base: Path, tmp_path: Path, cache: Path) -> None:
    folder = Path(shutil.copytree(text_model[0], tmp_path / "other"))
    other = tiny_text(tmp_path / "seeded", seed=2)
    sha = checkpoint_sha(str(base))

    def says(**said: Any) -> Path:
        (folder / "manifest.json").write_text(json.dumps({"base": str(other), "base_sha": sha} | said))
        return folder

    with pytest.raises(ModelError, match=f"was trained on {other} {sha[:12]}, and {other} is .* here: another model"):
        merged(says())
    assert merged(says(base_sha="")).is_dir()  # it does not say
    with pytest.raises(ModelError, match="base and base_sha are texts, not 3 and"):
        merged(says(base=3))
    with pytest.raises(ModelError, match=r"its base .*mine is an adapter itself"):
        merged(says(base=str(text_model[0])))
    with pytest.raises(ModelError, match="no such folder"):
        merged(says(base=str(tmp_path / "nowhere")))
    (folder / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"an adapter, and no manifest.json beside it that names its base \(FileNotF"):
        checkpoint_folder(str(folder))


@needs_peft
def test_what_is_no_plain_lora_is_refused(text_model: tuple[Path, Any], tmp_path: Path, cache: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(text_model[0], tmp_path / "broken"))
    good = json.loads((folder / "adapter_config.json").read_text())
    for setting in ({"use_dora": True}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 3}}):
        (folder / "adapter_config.json").write_text(json.dumps(good | setting))
        with pytest.raises(ModelError, match=rf"broken: not a plain LoRA \({next(iter(setting))}\)"):
            merged(folder)
    for text in ("[]", "{", json.dumps(good | {"r": 0})):
        (folder / "adapter_config.json").write_text(text)
        with pytest.raises(ModelError, match="broken: holds no adapter that can be read"):
            merged(folder)
    (folder / "adapter_config.json").write_text(json.dumps(good))
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(key for key in tensors if "q_proj.lora_A" in key)
    for faulty, error in (
        ({"base_model.model.lm_head.weight": torch.ones(2, 2)}, "not a plain LoRA"),
        ({name: torch.ones(4, 7)}, "the adapter is for another model: .*q_proj.weight is 128 × 128, not 128 × 7"),
        ({key.replace("layers.0", "layers.9"): tensors[key].clone() for key in (name, name.replace("_A", "_B"))},
         "the adapter is for another model: there is no weight model.layers.9"),
    ):  # fmt: skip
        save_file(tensors | faulty, folder / "adapter_model.safetensors")
        with pytest.raises(ModelError, match=error):
            merged(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="holds no adapter that can be read"):
        read_adapter(folder)
    assert not list((cache / "assembled").glob(".partial-*"))


def test_a_base_is_known_by_its_checkpoint_or_its_pinned_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert is_base("smollm2-135m", tmp_path, weights_sha("smollm2-135m"))
    assert is_base("any", tmp_path, checkpoint_sha(str(tmp_path)))
    assert not is_base("smollm2-135m", tmp_path, sha_of("another")) and not is_base("any", tmp_path, "")


def test_what_a_folder_says_of_its_model(tmp_path: Path) -> None:
    assert manifest_of(f"hf:{tmp_path}") == manifest_of("openai:http://host:1/v1#m") == manifest_of("scripted:7") == {}
    (tmp_path / "manifest.json").write_text('{"order": "answer_first"}')
    assert manifest_of(f"vllm:{tmp_path}") == {"order": "answer_first"}
    (tmp_path / "manifest.json").write_text("[1]")
    assert manifest_of(f"hf:{tmp_path}") == {}


def test_the_shipped_judge_stands_in_the_table() -> None:
    entry = load_table()["lore-judge-tiny"]
    assert (entry.kind, entry.address, entry.needs) == ("judge", "chain:hf:lore-judge-tiny", ("smollm2-135m",))
    assert (entry.prompt, entry.licence, entry.shipped) == ("tiny", "Apache-2.0", "lore-judge-tiny")
