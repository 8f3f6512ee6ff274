from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lore_mm.errors import ModelError
from lore_mm.models import Embedder, open_embedder


def picture(color: str, word: str | None = None) -> Image.Image:
    image = Image.new("RGB", (8, 8), color)
    if word:
        image.info["word"] = word
    return image


def test_it_is_an_embedder_by_address() -> None:
    embedder = open_embedder("scripted:7")
    assert isinstance(embedder, Embedder)
    assert embedder.name == "scripted:7"
    assert embedder.sha == open_embedder("scripted:7").sha != open_embedder("scripted:8").sha


@given(st.lists(st.text(), max_size=5), st.integers(-5, 5))
def test_rows_are_unit_repeatable_and_independent_of_their_batch(texts: list[str], seed: int) -> None:
    embedder = open_embedder(f"scripted:{seed}")
    vectors = embedder.embed_texts(texts)
    assert vectors.shape == (len(texts), embedder.width) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(embedder.embed_texts([text])[0], vector)


def test_a_picture_is_nearest_to_its_word() -> None:
    embedder = open_embedder("scripted:0")
    words = ["banana", "running shoe", "sofa", "tripod"]
    images = embedder.embed_images([picture("red", word) for word in words])
    similarity = images @ embedder.embed_texts(words).T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2, 3]
    # word + half a unit of something near orthogonal: cosine about 1 / sqrt(1 + 1/4)
    assert np.allclose(np.diag(similarity), 1 / np.sqrt(1.25), atol=0.15)


def test_pictures_differ_by_their_pixels_alone() -> None:
    embedder = open_embedder("scripted:0")
    red, blue, again = embedder.embed_images([picture("red"), picture("blue"), picture("red")])
    assert np.array_equal(red, again)
    assert abs(float(red @ blue)) < 0.6


def test_texts_that_share_words_are_nearer() -> None:
    embedder = open_embedder("scripted:0")
    shoe, other, far = embedder.embed_texts(["red running shoe", "Running shoe blue", "teapot"])
    assert shoe @ other > 0.4 > abs(shoe @ far)


@pytest.mark.parametrize("name", ["x", "1.5"])
def test_a_seed_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="whole number, as in scripted:0"):
        open_embedder(f"scripted:{name}")
