"""Run: pytest tests/test_lore_mm_sentence.py

Text embedders by mean pooling: the shipped MiniLM against its definition, and what is refused.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.models import Embedder, open_embedder

needs_cpu_extra = pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra cpu")
NAME = "sentence:all-minilm-l6-v2"


@pytest.fixture(scope="module")
def minilm():
    return open_embedder(NAME)


@pytest.mark.weights
@needs_cpu_extra
def test_texts_that_mean_the_same_are_near(minilm):
    assert isinstance(minilm, Embedder) and minilm.width == 384 and len(minilm.sha) == 64
    sofa, couch, lamp = minilm.embed_texts(["red sofa", "a couch in red", "desk lamp"])
    assert sofa.dtype == np.float32 and float(sofa @ couch) > 0.7 > 0.4 > float(sofa @ lamp)
    assert np.linalg.norm(sofa) == pytest.approx(1, abs=1e-5)


@pytest.mark.weights
@needs_cpu_extra
def test_a_vector_is_the_mean_of_the_tokens_whatever_stands_beside_it(minilm):
    import torch

    alone = minilm.embed_texts(["usb c cable"])[0]
    texts = ["usb c cable", "x", "a very long title " * 40, "", "\ud800 lone surrogate"]
    beside = minilm.embed_texts(texts)
    assert np.allclose(alone, beside[0], atol=1e-5) and beside.shape == (5, 384) and np.isfinite(beside).all()
    with torch.inference_mode():
        read = minilm._tokenizer(["usb c cable"], return_tensors="pt")
        tokens = minilm._model(**read).last_hidden_state[0].numpy()
    mean = tokens.mean(axis=0)
    assert np.allclose(alone, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.weights
@needs_cpu_extra
def test_it_reads_no_pictures(minilm):
    assert minilm.embed_images([]).shape == (0, 384) and minilm.embed_texts([]).shape == (0, 384)
    with pytest.raises(ModelError, match="reads texts only"):
        minilm.embed_images([Image.new("RGB", (8, 8))])


def test_an_unknown_name_is_one_line_with_the_legal_ones(tmp_path):
    with pytest.raises(ModelError, match=r"did you mean 'all-minilm-l6-v2'\?; legal: all-minilm-l6-v2"):
        open_embedder("sentence:all-minilm-l6-v3")
    with pytest.raises(ModelError, match=r"the folder holds no model\.safetensors"):
        open_embedder(f"sentence:{tmp_path}")


@needs_cpu_extra
def test_a_folder_that_is_no_model_is_told_in_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be opened") as caught:
        open_embedder(f"sentence:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_missing_extra_names_the_pip_command(monkeypatch, tmp_path):
    import sys

    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lore-mm\[cpu\]'"):
        open_embedder(f"sentence:{tmp_path}")
