"""lore_mm.models.cross_encoder: pieces of pairs, the graph against torch, batches, damaged files and hostile texts."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.models.cross_encoder import open_cross_encoder, query_mark
from lore_mm.models.pair_pieces import MOST_PIECES, MOST_QUERY_PIECES, PairReader
from tests.tiny_student import tiny_student

pytestmark = pytest.mark.skipif(
    any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")),
    reason="needs tagger and train",
)
NAMES = ("one", "two", "three")
TEXTS = [
    ("red shoes", "red nike shoes; kids"),
    ("lamp", "garden hose, 10 m"),
    ("", "phone case for iphone"),
    ("跑鞋", ""),
    ("red shoes", "black fisher price lamp, for men; women's"),
    ("lamp", "red nike shoes; kids"),
    ("\ud83d", "x\x00y"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("student")
    folder, module = tiny_student(
        place, NAMES, trained_on={"demo": "MIT"}, training_queries=(query_mark("Red  Shoes"),)
    )
    return SimpleNamespace(folder=folder, module=module)


@pytest.fixture(scope="module")
def encoder(made):
    return open_cross_encoder(made.folder)


def _features(n: int, seed: int = 0):
    return np.random.default_rng(seed).normal(0.5, 2.0, (n, len(NAMES))).astype(np.float32)


def _by_torch(module, reader, texts, features):
    import torch

    rows = []
    for (ids, types), numbers in zip(reader.read(texts), features, strict=True):
        with torch.inference_mode():
            parts = [torch.from_numpy(part)[None] for part in (ids, types, numbers)]
            rows.append(module(*parts)[0].log_softmax(-1).numpy())
    return np.stack(rows)


# pieces


@pytest.fixture(scope="module")
def reader(made):
    path = made.folder / "tokenizer.json"
    return PairReader(path.read_bytes(), path)


def test_a_pair_is_the_query_then_the_item(reader):
    from tokenizers import Tokenizer

    known = Tokenizer.from_buffer(reader._tokenizer.to_str().encode())
    one = reader.read([("red lamp", "black shoes")])[0]
    assert [known.id_to_token(i) for i in one.ids] == ["[CLS]", "red", "lamp", "[SEP]", "black", "shoes", "[SEP]"]
    assert one.types.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_the_item_is_cut_and_never_the_query(reader):
    long = reader.read([("lamp " * 30, "shoes " * 500), ("lamp " * 500, "shoes"), ("lamp " * 500, "shoes " * 500)])
    assert [len(one.ids) for one in long] == [MOST_PIECES, MOST_QUERY_PIECES + 4, MOST_PIECES]
    assert [int((one.types == 0).sum()) for one in long] == [32, MOST_QUERY_PIECES + 2, MOST_QUERY_PIECES + 2]
    assert all(one.ids[-1] == reader.read([("", "")])[0].ids[-1] for one in long)


def test_names_of_special_pieces_in_a_text_are_characters(reader):
    plain = reader.read([("", "[SEP] [CLS] [MASK] [PAD]")])[0]
    special = reader.read([("", "")])[0].ids
    assert not set(special.tolist()) & set(plain.ids[2:-1].tolist()) and len(plain.ids) > 12


# the graph


def test_in_float32_the_graph_is_the_torch_module(tmp_path, made, reader):
    folder, module = tiny_student(tmp_path, NAMES, int8=False)
    features = _features(len(TEXTS))
    features[0] = 1e6  # cut at five scales from the mean
    scored = open_cross_encoder(folder).score(TEXTS, features)
    wanted = _by_torch(module, reader, TEXTS, features)
    assert np.abs(scored - wanted).max() < 1e-4
    assert np.ptp(wanted, axis=0).min() > 0.3  # it says something, though it knows nothing


def test_in_int8_it_is_close(made, encoder, reader):
    features = _features(len(TEXTS))
    scored = encoder.score(TEXTS, features)
    assert np.abs(np.exp(scored) - np.exp(_by_torch(made.module, reader, TEXTS, features))).max() < 0.05


def test_features_are_heard(encoder):
    texts = [("red shoes", "lamp")]
    first = encoder.score(texts, np.zeros((1, 3), dtype=np.float32))
    assert np.abs(first - encoder.score(texts, np.ones((1, 3), dtype=np.float32))).max() > 0.01


# batches


def test_a_pairs_result_does_not_depend_on_the_pairs_beside_it(encoder):
    texts = TEXTS * 12
    features = _features(len(texts))
    alone = np.concatenate([encoder.score([t], f[None]) for t, f in zip(texts, features, strict=True)])
    assert np.array_equal(encoder.score(texts, features), alone)
    assert np.array_equal(encoder.score(texts[::-1], features[::-1]), alone[::-1])
    assert np.allclose(np.exp(alone).sum(axis=1), 1, atol=1e-6) and alone.dtype == np.float32
    assert encoder.score([], np.zeros((0, 3), dtype=np.float32)).shape == (0, 4)


def test_temperature_divides_logits(tmp_path, made, encoder):
    place = tmp_path / "warm"
    shutil.copytree(made.folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"temperature": 2.0}))
    warm = open_cross_encoder(place)
    features = _features(len(TEXTS))
    cold, mild = encoder.score(TEXTS, features), warm.score(TEXTS, features)
    assert np.allclose(np.diff(mild, axis=1), np.diff(cold, axis=1) / 2, atol=1e-5)
    assert warm.sha != encoder.sha


def test_features_of_another_shape_or_no_numbers_are_refused(encoder):
    with pytest.raises(ValueError, match=r"features are \(1, 2\), not \(1, 3\)"):
        encoder.score([("a", "b")], np.zeros((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="no finite numbers"):
        encoder.score([("a", "b")], np.array([[0, np.nan, 0]], dtype=np.float32))


ODD = "red 跑 👩\u200d👧 \u0301 \ud800 \udfff ﬁ \u200b \x00 , İ ß a\u0308 [SEP] [CLS]".split(" ")
hostile = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*ODD, " "]), max_size=20).map("".join),
    st.text(alphabet="ab \t\u3000", min_size=100, max_size=900),
)


@given(st.lists(st.tuples(hostile, hostile), max_size=4))
@settings(max_examples=60, deadline=None)
def test_hostile_texts_get_probabilities(encoder, texts):
    scored = encoder.score(texts, np.full((len(texts), 3), 1e30, dtype=np.float32))
    assert scored.shape == (len(texts), 4) and np.isfinite(scored).all()


def test_a_huge_text_is_read_at_its_beginning(encoder):
    zero = np.zeros((1, 3), dtype=np.float32)
    assert np.array_equal(
        encoder.score([("red", "lamp " * 1_000_000)], zero), encoder.score([("red", "lamp " * 500)], zero)
    )


def test_queries_it_was_trained_on_are_known_by_a_mark(encoder):
    assert encoder.was_trained_on("red shoes") and not encoder.was_trained_on("red shoe")
    assert query_mark("Café ") == query_mark("cafe") and len(query_mark("")) == 12


# files


def test_damaged_and_foreign_files_are_refused_in_one_line(made, tmp_path):
    place: Path = tmp_path / "student"
    shutil.copytree(made.folder, place)
    config = json.loads((place / "config.json").read_text())

    def fault() -> str:
        with pytest.raises(ModelError) as caught:
            open_cross_encoder(place)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    model = (place / "model.onnx").read_bytes()
    (place / "model.onnx").write_bytes(model[:-1] + b"!")
    assert fault() == f"{place}/model.onnx is not the file that config.json names (its sha256 differs)"
    (place / "model.onnx").unlink()
    assert "model.onnx cannot be read: No such file" in fault()
    (place / "model.onnx").write_bytes(model)
    for key, value, message in [
        ("features", ["one", "two"], "('features', 3)] and gives [('logits', 4)]; config.json wants"),
        ("thresholds", [0.5, 0.4, 0.9], "thresholds rise"),
        ("thresholds", [0.5, 0.6, 1.9], "thresholds.2:"),
        ("temperature", 0, "temperature:"),
        ("version", None, "version:"),
        ("surprise", 1, "surprise:"),
        ("tokenizer_sha256", "0", "tokenizer.json is not the file"),
    ]:
        (place / "config.json").write_text(json.dumps(config | {key: value}))
        assert message in fault()
    (place / "config.json").write_text("{")
    assert "config.json is not a cross-encoder's: the file: Invalid JSON" in fault()
    for name, key in (("model.onnx", "model_sha256"), ("tokenizer.json", "tokenizer_sha256")):
        kept = (place / name).read_bytes()
        (place / name).write_bytes(b"{}")
        (place / "config.json").write_text(json.dumps(config | {key: sha_of_bytes(b"{}")}))
        assert name in fault()
        (place / name).write_bytes(kept)
    (place / "config.json").write_text(json.dumps(config))
    assert open_cross_encoder(place).sha == open_cross_encoder(made.folder).sha


def test_a_tokenizer_of_more_pieces_than_the_model_has_is_refused(made, tmp_path):
    place = tmp_path / "student"
    shutil.copytree(made.folder, place)
    known = json.loads((place / "tokenizer.json").read_text())
    known["model"]["vocab"]["zzz"] = len(known["model"]["vocab"])
    tokenizer = json.dumps(known).encode()
    (place / "tokenizer.json").write_bytes(tokenizer)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"tokenizer_sha256": sha_of_bytes(tokenizer)}))
    with pytest.raises(ModelError, match="tiny failed"):
        open_cross_encoder(place)
    del known["model"]["vocab"]["zzz"], known["model"]["vocab"]["[SEP]"]
    known["post_processor"] = None
    tokenizer = json.dumps(known).encode()
    (place / "tokenizer.json").write_bytes(tokenizer)
    (place / "config.json").write_text(json.dumps(config | {"tokenizer_sha256": sha_of_bytes(tokenizer)}))
    with pytest.raises(ModelError, match=r"knows no \[CLS\] or no \[SEP\]"):
        open_cross_encoder(place)


def test_a_model_that_died_is_told(made):
    dead = open_cross_encoder(made.folder)
    dead.close()
    with pytest.raises(ModelError, match="tiny failed"):
        dead.score([("a", "b")], np.zeros((1, 3), dtype=np.float32))


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers"])
def test_a_missing_library_is_named_with_its_extra(made, monkeypatch, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{module}.*pip install 'lore-mm\[tagger\]'"):
        open_cross_encoder(made.folder)
