from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.models import DEFAULT_EMBEDDER, Embedder, open_embedder

needs_cpu_extra = pytest.mark.skipif(find_spec("open_clip") is None, reason="needs the extra cpu")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_cpu_extra
def test_the_shim_lets_torchvision_load_beside_a_cpu_torch() -> None:
    out = run_python(
        "from lore_mm.models.torchvision_cpu import install\n"
        "import torch; needed = install(); assert install() == needed\n"
        "assert not (needed and torch.version.cuda)\n"
        "import torchvision.transforms.v2 as t\n"
        "print(tuple(t.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape))\n"
        "import timm, open_clip\n"
        "from transformers import BertModel\n"
    )
    assert out == "(3, 4, 4)\n"


def test_the_shim_does_nothing_beside_a_cuda_torch() -> None:
    out = run_python(
        "import sys, types\n"
        "torch = types.ModuleType('torch'); torch.version = types.SimpleNamespace(cuda='13.0')\n"
        "sys.modules['torch'] = torch\n"
        "from lore_mm.models.torchvision_cpu import install\n"
        "print(install(), 'torchvision' in sys.modules)\n"
    )
    assert out == "False False\n"


def test_a_missing_extra_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lore-mm\[cpu\]'"):
        open_embedder(DEFAULT_EMBEDDER)


@needs_cpu_extra
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lore-clip-tinny", "no open_clip model 'lore-clip-tinny'"),
        ("ViT-B-33/openai", "did you mean 'ViT-B-32'"),
        ("ViT-B-32/opanai", "did you mean 'openai'.*legal: ViT-B-32/openai"),
        ("ViT-B-32", "legal: ViT-B-32/openai"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_legal_ones(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        open_embedder(f"open_clip:{name}")
    assert "\n" not in str(caught.value)


@needs_cpu_extra
def test_any_open_clip_model_opens_from_a_local_folder(tmp_path: Path) -> None:
    code = f"""
import json, torch
from pathlib import Path
from safetensors.torch import save_file
from lore_mm.models.torchvision_cpu import install
install()
import open_clip
config = {{"embed_dim": 16,
    "vision_cfg": {{"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}},
    "text_cfg": {{"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}}}
torch.manual_seed(0)
model = open_clip.CLIP(**config)
folder = Path({str(tmp_path)!r})
preprocess = {{"mean": [0.5] * 3, "std": [0.5] * 3}}
(folder / "open_clip_config.json").write_text(json.dumps({{"model_cfg": config, "preprocess_cfg": preprocess}}))
save_file(model.state_dict(), folder / "open_clip_model.safetensors")

import numpy as np
from PIL import Image
from lore_mm.models import open_embedder
embedder = open_embedder("open_clip:" + str(folder))
assert (embedder.width, embedder.sha) == (16, open_embedder("open_clip:" + str(folder)).sha)
assert abs(embedder.temperature - 0.07) < 1e-6  # open_clip's initial scale is 1 / 0.07
made = embedder.embed_texts(["a", "b", "a"]), embedder.embed_images([Image.new("RGB", (40, 30), "red")])
assert np.allclose(np.linalg.norm(made[0], axis=1), 1) and np.allclose(made[0][0], made[0][2], atol=1e-6)
with torch.inference_mode():
    bare = model.eval().encode_text(open_clip.get_tokenizer("local-dir:" + str(folder))(["b"]), normalize=True)
assert np.allclose(bare.numpy()[0], made[0][1], atol=1e-5)
assert made[1].shape == (1, 16)
print("ok")
"""
    assert run_python(code) == "ok\n"


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    if find_spec("open_clip") is None:
        pytest.skip("needs the extra cpu")
    yield open_embedder()


def drawn() -> list[Image.Image]:
    """Pictures without a meaning, of odd sizes and shapes."""
    pictures = [
        Image.new("RGB", size, color) for size, color in (((1, 1), "red"), ((3000, 2), "blue"), ((64, 200), "teal"))
    ]
    chance = np.random.default_rng(0)
    pictures += [Image.fromarray(chance.integers(0, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(8)]
    return pictures


@pytest.mark.weights
def test_rows_are_unit_and_do_not_depend_on_batch_or_order(embedder: Embedder) -> None:
    pictures = drawn()
    vectors = embedder.embed_images(pictures)
    assert vectors.shape == (len(pictures), embedder.width) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, embedder.embed_images(pictures))
    assert np.allclose(vectors[::-1], embedder.embed_images(pictures[::-1]), atol=1e-5)
    assert np.allclose(vectors[4], embedder.embed_images([pictures[4]])[0], atol=1e-5)


@pytest.mark.weights
def test_texts_of_every_kind(embedder: Embedder) -> None:
    texts = ["sofa", "", "x" * 1_000_000, "سجادة حمراء", "🎾 ball", "a\x00b", "\ud800", "a comfortable grey sofa " * 30]
    texts += [f"item {i}" for i in range(60)]
    vectors = embedder.embed_texts(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for place in (0, 2, 7, 40):  # whatever its batch and its neighbours' length
        assert np.allclose(vectors[place], embedder.embed_texts([texts[place]])[0], atol=1e-5)


@pytest.mark.weights
def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    assert embedder.embed_images([]).shape == embedder.embed_texts([]).shape == (0, embedder.width)


@pytest.mark.weights
def test_it_is_known_by_its_weights_and_carries_its_calibration(embedder: Embedder) -> None:
    from lore_mm.models.open_clip import OpenClipEmbedder

    assert embedder.name == DEFAULT_EMBEDDER and len(embedder.sha) == 64
    assert isinstance(embedder, OpenClipEmbedder)
    default = embedder.calibration["default"]
    assert 0 < default["threshold"] <= 1.01 and 0 < default["temperature"] <= 0.5
    assert 0 < embedder.calibration["category"]["threshold"] < 1 and 0 < embedder.temperature < 0.2


@pytest.mark.weights
def test_texts_keep_the_meaning_they_had(embedder: Embedder) -> None:
    shoe, sneaker, teapot = embedder.embed_texts(["running shoe", "sneakers for jogging", "a porcelain teapot"])
    assert shoe @ sneaker > 0.4 > shoe @ teapot


DEMO = Path(__file__).parents[1] / "examples" / "demo"


@pytest.mark.weights
def test_demo_photos_find_their_words(embedder: Embedder) -> None:
    words = {"tennis-ball": "tennis ball", "laptop": "laptop", "tripod": "tripod", "tent": "camping tent"}
    pictures = []
    for name in words:
        with Image.open(DEMO / "images" / f"{name}.jpg") as opened:
            pictures.append(opened.convert("RGB"))
    similarity = embedder.embed_images(pictures) @ embedder.embed_texts([*words.values(), "running shoe", "sofa"]).T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2, 3]
