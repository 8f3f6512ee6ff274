"""lore_mm.models.query_tagger: words, pieces, decoding, the exported model and hostile texts."""

from __future__ import annotations

import json
import shutil
import threading
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.knowledge import load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.models.bio import Labels, greedy, spans, viterbi
from lore_mm.models.query_tagger import FOLDER, QueryTagger, Tag, open_tagger
from lore_mm.models.query_words import HINTS, MOST_WORDS, hints_of, split_words, trimmed

NAMES = ("O", "B-a", "I-a", "B-b", "I-b")
needs_train = pytest.mark.skipif(
    any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")),
    reason="needs tagger and train",
)
shipped = pytest.mark.skipif(
    not (FOLDER / "model.onnx").is_file() or find_spec("onnxruntime") is None, reason="needs tagger and its weights"
)


# words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("red nike shoes", ["red", "nike", "shoes"]),
        ("  a\tb\n", ["a", "b"]),
        ("set of 4, 1/2 inch", ["set", "of", "4,", "1/2", "inch"]),
        ("跑鞋 nike", ["跑", "鞋", "nike"]),
        ("コットン100% shirt", ["コ", "ッ", "ト", "ン", "100%", "shirt"]),
        ("漢\u0301字", ["漢\u0301", "字"]),
        ("crème brûlée", ["crème", "brûlée"]),
        ("👩\u200d👧 doll", ["👩\u200d👧", "doll"]),
        ("", []),
        ("\u3000 \u00a0", []),
    ],
)
def test_words_stand_between_white_space_or_alone(text, words):
    assert [text[a:b] for a, b in split_words(text)] == words


def test_no_more_words_are_read_than_the_model_takes():
    found = split_words("word " * 500)
    assert len(found) == MOST_WORDS and found[-1] == (315, 319)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("shoes,", "shoes"),
        ("(blue)", "blue"),
        ("“gift”!", "gift"),
        ("a.m.", "a.m."),
        ("lamp.", "lamp"),
        ("l.o.l.,", "l.o.l."),
        ("...", "..."),
        ("100%", "100%"),
        ("100 % ,", "100 %"),
    ],
)
def test_punctuation_around_a_span_is_not_of_it(text, left):
    start, end = trimmed(text, 0, len(text))
    assert text[start:end].strip() == left


def test_hints_say_where_a_term_begins_and_goes_on():
    text = "red running shoes zzz"
    made = hints_of(text, split_words(text), scanner_for(load_knowledge()))
    begins = [{HINTS[i // 2] for i in np.flatnonzero(row) if i % 2 == 0} for row in made]
    goes_on = [{HINTS[i // 2] for i in np.flatnonzero(row) if i % 2 == 1} for row in made]
    assert "color" in begins[0] and "category" in begins[1] and "category" in goes_on[2]
    assert not begins[3] and not goes_on[3] and not goes_on[0]
    assert made.shape == (4, 2 * len(HINTS)) and set(np.unique(made)) <= {0.0, 1.0}


# decoding


def is_legal(path, names=NAMES):
    before = "O"
    for label in path:
        name = names[label]
        if name.startswith("I-") and before[2:] != name[2:]:
            return False
        before = name
    return True


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_viterbi_finds_the_best_of_all_legal_sequences(seed, words):
    scores = np.random.default_rng(seed).normal(size=(2, words, 5)).astype(np.float32)
    labels = Labels(NAMES)
    made = viterbi(scores, labels)
    for row, path in zip(scores, made, strict=True):
        legal = [p for p in product(range(5), repeat=words) if is_legal(p)]
        best = max(legal, key=lambda p: sum(row[w, label] for w, label in enumerate(p)))
        assert tuple(path) == best
    assert all(is_legal(path) for path in greedy(scores, labels))


def test_greedy_takes_the_best_legal_label_of_each_word_and_viterbi_of_all():
    labels = Labels(NAMES)
    # O is a little better than B-a at first; then I-a is much better than all else
    scores = np.array([[[1.0, 0.9, 5, 0, 0], [0, 0, 9, 0, 0]]], dtype=np.float32)
    assert [NAMES[i] for i in viterbi(scores, labels)[0]] == ["B-a", "I-a"]
    assert [NAMES[i] for i in greedy(scores, labels)[0]] == ["O", "O"]


def test_spans_of_labels():
    labels = Labels(NAMES)
    assert spans([1, 2, 1, 0, 3, 4, 4], labels) == [("a", 0, 2), ("a", 2, 3), ("b", 4, 7)]
    assert spans([2, 4, 0], labels) == [("a", 0, 1), ("b", 1, 2)]  # stray ones begin a span
    assert spans([], labels) == []


@pytest.mark.parametrize("names", [("B-a", "I-a"), ("O", "B-a"), ("O", "B-a", "I-b"), ("O", "O", "B-a", "I-a")])
def test_other_sets_of_labels_are_refused(names):
    with pytest.raises(ValueError, match="labels are O"):
        Labels(names)


# the model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An untrained tagger of every type, exported by the command's own parts; it reads hints."""
    if any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")):
        pytest.skip("needs tagger and train")
    import torch

    from jobs.tagger.export import export
    from jobs.tagger.learner import TaggerModel
    from tests.tiny_tagger import tiny_bert

    body = tiny_bert(tmp_path_factory.mktemp("body"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = TaggerModel.of_body(body, len(NAMES), hints=True)
        torch.nn.init.normal_(model.hints.weight, std=0.5)
        torch.nn.init.normal_(model.out.weight, std=1.0)
    made = tmp_path_factory.mktemp("tagger")
    export(model, (body / "tokenizer.json").read_bytes(), NAMES, made)
    return made


@pytest.fixture(scope="module")
def tagger(folder) -> QueryTagger:
    return open_tagger(folder)


TEXTS = ["red nike shoes", "a", "", "phone case, for iphone 13 (blue)!", "跑鞋 nike", "shoes shoes shoes", "\ud83d red"]


@needs_train
def test_a_texts_tags_do_not_depend_on_the_texts_beside_it(tagger):
    alone = [tagger.tag([text])[0] for text in TEXTS]
    assert tagger.tag(TEXTS) == alone
    assert tagger.tag(TEXTS[::-1]) == alone[::-1]
    assert sum(map(len, alone)) > 3  # it says something, though it knows nothing
    assert tagger.tag([]) == [] and tagger.tag([""]) == [()]


@needs_train
def test_the_tables_are_heard(folder):
    with_tables, text = open_tagger(folder), ["red nike shoes"]
    assert not np.allclose(with_tables.score(text)[0].scores, _without_hints(with_tables, text))


def _without_hints(tagger, text):
    scanner, tagger._scanner = tagger._scanner, scanner_for(load_knowledge())
    tagger._hints = lambda text, words, pieces: np.zeros((len(pieces.ids), 2 * len(HINTS)), dtype=np.float32)
    try:
        return tagger.score(text)[0].scores
    finally:
        tagger._scanner = scanner
        del tagger._hints


@needs_train
def test_confidence_is_the_product_of_the_words_probabilities(tagger):
    text = "red nike shoes lamp"
    scored = tagger.score([text])[0]
    assert np.allclose(np.exp(scored.scores).sum(axis=1), 1, atol=1e-5)
    path = viterbi(scored.scores[None], tagger.labels)[0]
    for tag in tagger.tag([text])[0]:
        places = [i for i, (a, b) in enumerate(scored.words) if tag.start <= a and b <= tag.end]
        likely = np.prod([np.exp(scored.scores[i, path[i]]) for i in places])
        assert tag.confidence == pytest.approx(likely, abs=1e-5) and 0 < tag.confidence <= 1


ODD = "red 跑 👩\u200d👧 \u0301 \ud800 \udfff ﬁ \u200b \x00 , İ ß a\u0308".split(" ")
hostile = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*ODD, " "]), max_size=20).map("".join),
    st.text(alphabet="ab \t\u3000", min_size=100, max_size=900),
)


@needs_train
@given(st.lists(hostile, max_size=4))
@settings(max_examples=80, deadline=None)
def test_tags_of_hostile_texts_lie_inside_and_apart(tagger, texts):
    found = tagger.tag(texts)
    assert len(found) == len(texts)
    for text, tags in zip(texts, found, strict=True):
        last = 0
        for tag in tags:
            assert isinstance(tag, Tag) and tag.type in ("a", "b")
            assert last <= tag.start < tag.end <= len(text)
            assert text[tag.start : tag.end].strip() == text[tag.start : tag.end]
            assert 0 < tag.confidence <= 1
            last = tag.end


@needs_train
def test_a_long_text_is_read_at_its_beginning(tagger):
    tags = tagger.tag(["red shoes " * 10_000, "x" * 1_000_000, "a.b." * 5_000])
    assert all(tag.end <= 640 for tag in tags[0]) and tags[0]
    assert all(tag.end <= 1_000_000 for tag in tags[1])


@needs_train
def test_several_threads_may_tag_at_once(tagger):
    expected = tagger.tag(TEXTS)
    found: list[list[tuple[Tag, ...]]] = []
    threads = [threading.Thread(target=lambda: found.extend(tagger.tag(TEXTS) for _ in range(5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and all(one == expected for one in found)


@needs_train
def test_damaged_and_foreign_files_are_refused_in_one_line(folder, tmp_path):
    place = tmp_path / "tagger"
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())

    def fault():
        with pytest.raises(ModelError) as caught:
            open_tagger(place)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    model = (place / "model.onnx").read_bytes()
    (place / "model.onnx").write_bytes(model[:-1] + b"!")
    assert fault() == f"{place}/model.onnx is not the file that config.json names (its sha256 differs)"
    (place / "model.onnx").unlink()
    assert "model.onnx cannot be read: No such file" in fault()
    (place / "model.onnx").write_bytes(model)
    for key, value, message in [
        ("labels", ["O", "B-a"], "labels are O"),
        ("labels", ["O", "B-a", "I-a"], "reads ['ids', 'hints'] and scores 5 labels"),
        ("hints", [], "reads ['ids', 'hints'] and scores 5 labels"),
        ("hints", ["taste"], "hints that this version does not give: taste"),
        ("version", None, "version:"),
        ("tokenizer_sha256", "0", "tokenizer.json is not the file"),
    ]:
        (place / "config.json").write_text(json.dumps(config | {key: value}))
        assert message in fault()
    (place / "config.json").write_text("{")
    assert "config.json is not a tagger's: the file: Invalid JSON" in fault()
    from lore_mm.fingerprint import sha_of_bytes

    for name, key in (("model.onnx", "model_sha256"), ("tokenizer.json", "tokenizer_sha256")):
        kept = (place / name).read_bytes()
        (place / name).write_bytes(b"{}")
        (place / "config.json").write_text(json.dumps(config | {key: sha_of_bytes(b"{}")}))
        assert name in fault()
        (place / name).write_bytes(kept)
    (place / "config.json").write_text(json.dumps(config))
    assert open_tagger(place).sha == open_tagger(folder).sha


@needs_train
@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers"])
def test_a_missing_library_is_named_with_its_extra(folder, monkeypatch, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{module}.*pip install 'lore-mm\[tagger\]'"):
        open_tagger(folder)


# the shipped one


@shipped
def test_the_shipped_tagger_reads_plain_queries():
    tagger = open_tagger()
    assert len(tagger.labels.types) == 17 and (FOLDER / "model.onnx").stat().st_size <= 25_000_000
    text = "red nike running shoes for women"
    said = {text[t.start : t.end]: t.type for t in tagger.tag([text])[0]}
    assert said["red"] == "color" and said["nike"] == "creator" and said["for women"] == "department"
    assert any(kind == "core_product_type" and words.endswith("shoes") for words, kind in said.items())
