"""jobs.train_tagger: data, swaps, one real small training to its end, resume, distillation, parity, card, errors."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.schedule import settings_of
from jobs.tagger.card import BEGIN, END, figure_rows, update_card
from jobs.tagger.data import Example, labels_of, read_material, read_unlabelled
from jobs.tagger.measure import calibration_error, decode, measure, span_f1
from jobs.tagger.recipe import Recipe
from jobs.tagger.swap import Swapper
from jobs.train_tagger import main
from lore_mm.console import command_app
from lore_mm.datasets.queryner import read_queryner
from lore_mm.errors import InputError, PlanError
from lore_mm.models.bio import Labels, spans
from lore_mm.models.query_tagger import open_tagger
from tests.tiny_tagger import WORDS, queryner, tiny_bert

needs_train = pytest.mark.skipif(
    any(find_spec(m) is None for m in ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")),
    reason="needs tagger and train",
)
QUICK = ["rate=3e-3", "head_rate=1e-2", "dropout=0", "word_drop=0", "mean_of_weights=0.8", "hints=false"]


# data


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return queryner(tmp_path_factory.mktemp("queryner"))


def test_a_tenth_is_held_out_by_its_text_and_never_trained_on(data):
    chosen, final = (read_material(f"queryner:{data}", choose=choose) for choose in (True, False))
    assert (chosen.measured_on, final.measured_on) == ("held-out", "dev")
    assert len(chosen.train) + len(chosen.test) == len(final.train) == 240 and len(final.test) == 40
    assert 0 < len(chosen.test) < 80
    assert not {e.text for e in chosen.test} & {e.text for e in chosen.train}
    assert chosen.names == final.names == labels_of(read_queryner(data, "train"))
    one = final.train[0]
    assert [one.text[a:b] for a, b in one.words] == one.text.split() and len(one.labels) == len(one.words)


@pytest.mark.parametrize("address", ["queryner:", "squad:x", "x"])
def test_other_data_are_refused(address):
    with pytest.raises(InputError, match="legal is queryner:PATH"):
        read_material(address, choose=False)


def test_unlabelled_queries_are_read_once_and_without_the_labelled(tmp_path, data):
    known = read_material(f"queryner:{data}", choose=False).train[:1]
    (tmp_path / "a.txt").write_text(f"blue zibble\n\n{known[0].text.upper()}\nBlue Zibble\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"query": " 跑鞋 x "}\n', encoding="utf-8")
    found = read_unlabelled([tmp_path / "a.txt", tmp_path / "b.jsonl"], known)
    assert [(e.text, len(e.words), e.labels) for e in found] == [("blue zibble", 2, ()), ("跑鞋 x", 3, ())]
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.jsonl, line 1: no text in 'query'"):
        read_unlabelled([tmp_path / "b.jsonl"], ())
    with pytest.raises(InputError, match=r"c\.txt: cannot be read"):
        read_unlabelled([tmp_path / "c.txt"], ())


def test_swapped_spans_are_others_of_their_type(data):
    material = read_material(f"queryner:{data}", choose=False)
    labels, swapper = Labels(material.names), Swapper(material.train, material.names)
    made = swapper.swapped(0.5, random.Random(1))
    assert made == swapper.swapped(0.5, random.Random(1)) and len(made) == len(material.train)
    changed = 0
    for old, new in zip(material.train, made, strict=True):
        assert [kind for kind, _, _ in spans(old.labels, labels)] == [kind for kind, _, _ in spans(new.labels, labels)]
        for kind, first, behind in spans(new.labels, labels):
            assert new.text[new.words[first][0] : new.words[behind - 1][1]] in WORDS[kind]
        changed += old.text != new.text
    assert 100 < changed < 240
    assert swapper.swapped(0.0, random.Random(1)) == list(material.train)


def test_settings_given_as_text():
    made = settings_of(Recipe(), ["rate=2e-4", "epochs=3", "freeze_embeddings=true"])
    assert made == replace(Recipe(), rate=2e-4, epochs=3, freeze_embeddings=True)
    with pytest.raises(InputError, match=r"no setting 'rat', did you mean 'rate'\?; legal: epochs, rate"):
        settings_of(Recipe(), ["rat=1"])
    with pytest.raises(InputError, match="setting hints='yes': legal is true or false"):
        settings_of(Recipe(), ["hints=yes"])
    with pytest.raises(InputError, match="setting epochs='x': legal is a number of type int"):
        settings_of(Recipe(), ["epochs=x"])


# measuring


def test_figures_of_known_predictions():
    names = ("O", "B-a", "I-a", "B-b", "I-b")
    examples = [Example("x y", ((0, 1), (2, 3)), (1, 2)), Example("z", ((0, 1),), (3,))]

    def sure(*path):
        scores = np.full((len(path), 5), np.log(0.05), dtype=np.float32)
        scores[np.arange(len(path)), list(path)] = np.log(0.8)
        return scores

    labels = Labels(names)
    made = measure([sure(1, 2), sure(1)], examples, labels)  # the first right, the second of another type
    assert (made["spans"]["f1"], made["spans"]["precision"], made["spans"]["n"]) == (0.5, 0.5, 2)
    assert (made["types"]["a"]["precision"], made["types"]["a"]["recall"]) == (0.5, 1.0)
    assert (made["types"]["b"]["precision"], made["types"]["b"]["recall"]) == (None, 0.0)
    assert (made["words_right"], made["queries_right"]) == (0.6667, 0.5)
    # both say 0.8 and half are right; the product says 0.64 and 0.8
    assert made["calibration_error"] == {"geometric_mean": 0.3, "product": 0.58}
    assert span_f1(decode([sure(1, 2), sure(3)], labels), examples, labels) == 1.0
    assert calibration_error(np.array([]), np.array([], dtype=np.bool_)) == 0.0


def test_the_card_keeps_what_was_written_by_hand(tmp_path):
    figures = {"f1": 0.5, "interval": [0.4, 0.6], "precision": 0.5, "recall": None, "n": 2}
    size = {
        "queries": 2, "spans": figures, "types": {"color": figures}, "words_right": 0.6, "queries_right": 0.5,
        "f1_greedy": 0.49, "calibration_error": {"geometric_mean": 0.1, "product": 0.2},
    }  # fmt: skip
    metrics = {
        "measured_on": "dev", "float32": size, "int8": size, "bytes": 23_000_000,
        "quantisation": {"f1_lost": -0.001, "spans_changed": 0.01}, "parity": {"largest_difference": 1e-6},
    }  # fmt: skip
    card = tmp_path / "README.md"
    card.write_text(f"# Mine\n\n{BEGIN}\nold\n{END}\n\nbelow\n", encoding="utf-8")
    update_card(card, metrics)
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# Mine") and text.endswith("below\n") and "old" not in text
    assert "| color | 0.500 | 0.400–0.600 | 0.500 | – | 2 |" in text and "23.0 MB" in text
    assert [row[0] for row in figure_rows(metrics)] == ["model in float32", "model as shipped, int8", "color"]


# training


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> Path:
    if find_spec("transformers") is None:
        pytest.skip("needs train")
    return tiny_bert(tmp_path_factory.mktemp("body"))


def run(*arguments):
    done = CliRunner().invoke(command_app(main, "lore"), [*map(str, arguments), "--json"])
    return done


def options(data, body, place, *more, settings=QUICK):
    sets = [part for one in settings for part in ("--set", one)]
    return (
        "--data",
        f"queryner:{data}",
        "--body",
        body,
        "--out",
        place / "out",
        "--checkpoint",
        place / "kept",
        *sets,
        *more,
    )


@pytest.fixture(scope="module")
def trained(data, body, tmp_path_factory):
    place = tmp_path_factory.mktemp("trained")
    done = run(*options(data, body, place, "--epochs", 6))
    assert done.exit_code == 0, done.output
    return place, json.loads(done.stdout)


@needs_train
def test_a_training_learns_and_ships_what_it_measured(trained, data, body):
    place, metrics = trained
    assert metrics["measured_on"] == "dev" and metrics["int8"]["spans"]["f1"] > 0.95
    assert metrics["parity"]["largest_difference"] < 1e-4
    assert abs(metrics["quantisation"]["f1_lost"]) < 0.05
    assert json.loads((place / "out" / "metrics.json").read_text()) == metrics
    assert f"{metrics['int8']['spans']['f1']:.3f}" in (place / "out" / "README.md").read_text()
    assert metrics["bytes"] == (place / "out" / "model.onnx").stat().st_size
    text = "dark green fisher price garden hose for men"
    tags = open_tagger(place / "out").tag([text])[0]
    assert [(t.type, text[t.start : t.end]) for t in tags] == [
        ("color", "dark green"),
        ("creator", "fisher price"),
        ("core_product_type", "garden hose"),
        ("department", "for men"),
    ]
    again = run(
        "--data", f"queryner:{data}", "--body", body, "--out", place / "out", "--set", "hints=false", "--evaluate"
    )
    assert json.loads(again.stdout)["int8"] == metrics["int8"]
    assert not list((place / "out").glob("*.pkl")) and not list((place / "kept").rglob("*.pt"))


@needs_train
def test_a_killed_training_goes_on_as_if_it_had_not_been(trained, data, body, tmp_path, monkeypatch):
    place, whole = trained
    import jobs.fitting as fit_module

    keep = fit_module._State.keep

    def killed(state):
        keep(state)
        if state.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit_module._State, "keep", killed)
    assert run(*options(data, body, tmp_path, "--epochs", 6)).exit_code != 0
    monkeypatch.undo()
    done = run(*options(data, body, tmp_path, "--epochs", 6))
    assert "goes on behind epoch 3" in done.stderr
    assert json.loads(done.stdout)["int8"] == whole["int8"]
    for name in ("config.json", "model.onnx", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (place / "out" / name).read_bytes()
    refused = run(*options(data, body, tmp_path, "--epochs", 7))
    assert refused.exit_code != 0 and isinstance(refused.exception, PlanError | SystemExit)
    assert "keeps a fit of other settings" in refused.output + str(refused.exception)


@needs_train
def test_a_student_learns_from_teachers_on_queries_without_labels(data, body, tmp_path):
    (tmp_path / "more.txt").write_text("red sony lamp\nblack fisher price lamp kids\n", encoding="utf-8")
    more = ("--epochs", 4, "--teachers", 2, "--unlabelled", tmp_path / "more.txt", "--invented", 1)
    done = run(*options(data, body, tmp_path, *more, "--student", "gold=0", "--student", "epochs=5", "--choose"))
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)
    assert set(metrics["training"]["taught"]) == {"teacher_0", "teacher_1", "together"}
    assert metrics["training"]["student"]["gold"] == 0 and metrics["training"]["student"]["epochs"] == 5
    assert metrics["training"]["unlabelled"] > 2 and metrics["measured_on"] == "held-out"
    assert metrics["int8"]["spans"]["f1"] > 0.9  # from the teachers' word alone
    assert "student: epoch 5" in done.stderr


@needs_train
def test_every_setting_of_the_recipe_is_heard(data, body, tmp_path):
    settings = [
        "rate=1e-3", "swap=0.5", "agreement=0.5", "smoothing=0.1", "layer_decay=0.8", "freeze_embeddings=true",
        "mean_of_weights=0", "minutes=5",
    ]  # fmt: skip
    done = run(*options(data, body, tmp_path, "--epochs", 1, "--limit", 40, settings=settings))
    assert done.exit_code == 0, done.output
    from safetensors.numpy import load_file

    kept, start = load_file(tmp_path / "kept" / "tagger" / "weights.safetensors"), load_file(body / "model.safetensors")
    key = "embeddings.word_embeddings.weight"
    assert np.array_equal(kept[f"body.{key}"], start[key])  # frozen
    moved = "encoder.layer.0.output.dense.weight"
    assert not np.array_equal(kept[f"body.{moved}"], start[moved])
    assert "hints.weight" in kept and not (tmp_path / "kept" / "tagger" / "mean.safetensors").exists()


@needs_train
def test_int8_is_close_to_float32_and_small(trained):
    place, _ = trained
    import onnx

    graph = onnx.load(place / "out" / "model.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert "MatMulInteger" in kinds and all(node.domain == "" for node in graph.node)
    whole = [onnx.numpy_helper.to_array(one) for one in graph.initializer]
    weights = [one for one in whole if one.dtype == np.int8 and one.ndim == 2]
    assert len(weights) == 1 + 2 * 4  # the table of pieces, and four maps a layer
    assert max(int(np.abs(one.astype(int)).max()) for one in weights[1:]) <= 63


def test_a_body_that_is_none_is_refused(data, tmp_path):
    if find_spec("transformers") is None:
        pytest.skip("needs train")
    done = run(*options(data, tmp_path / "nothing", tmp_path))
    assert done.exit_code != 0 and "no folder of a BERT" in done.output + str(done.exception)
