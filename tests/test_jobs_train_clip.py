from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.clip.card import BEGIN, END, figure_rows, update_card
from jobs.clip.data import read_clothing, read_demo, read_grocery, read_luma
from jobs.clip.measure import (
    Question,
    calibrate,
    expected_calibration_error,
    hits,
    interval,
    mean_over_splits,
    ranks,
    share,
    softmax,
)
from jobs.train_clip import main
from lore_mm.errors import InputError

needs_cpu_extra = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra cpu")


def jpeg(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(file, "JPEG")
    return file.getvalue()


def write_grocery(folder: Path, classes: int = 18) -> None:
    for part, count in (("train", 2), ("val", 1)):
        rows = [
            {
                "photo": f"{part}/{i}_{j}.jpg",
                "fine": f"Fine-{i}",
                "coarse": "Apple" if i % 2 else "Milk",
                "image_bytes": jpeg((10 * i % 256, 100 + j, 90)),
            }
            for i in range(classes)
            for j in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet")
    items = [{"item_id": "Fine-1", "title": "Red Apple", "coarse_class": "Apple", "description": "Sweet and red."}]
    (folder / "items.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, items)), encoding="utf-8")


def write_luma(folder: Path, parents: int = 6) -> None:
    rows = []
    for i in range(parents):
        for color in ("Red", "Blue"):
            (folder / f"{i}{color}.jpg").write_bytes(jpeg((200 if color == "Red" else 0, 20 * i, 50)))
            rows.append(
                {
                    "item_id": f"P{i}-{color}",
                    "parent": f"P{i}",
                    "title": f"Jacket {i}",
                    "description": "Keeps &quot;dry&quot;.",
                    "category": "Men/Tops/Jackets",
                    "gender": "Men",
                    "attributes": {"color": [color], "material": ["Nylon&reg;", "Mesh"], "pattern": ["Solid"]},
                    "image": f"{i}{color}.jpg",
                }
            )
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def test_groceries_are_read_with_their_words_and_their_own_test(tmp_path: Path) -> None:
    write_grocery(tmp_path)
    photos = read_grocery(tmp_path, tmp_path)
    assert len(photos.photos) == 18 * 2 + 18 * 1
    apple = next(p for p in photos.photos if p.label == "Fine-1")
    assert apple.captions == ("red apple", "red apple", "a photo of red apple", "red apple. Sweet and red.")
    other = next(p for p in photos.photos if p.label == "Fine-2")
    assert other.captions[:3] == ("fine 2", "fine 2, milk", "a photo of fine 2, milk")
    assert photos.fixed_test == {f"val/{i}_0.jpg" for i in range(18)}
    assert photos.captions("name")[0] == photos.photos[0].captions[0]


def test_luma_is_read_with_its_attributes(tmp_path: Path) -> None:
    write_luma(tmp_path)
    first = read_luma(tmp_path).photos[0]
    assert first.group == "P0" and first.values["material"] == ("nylon®", "mesh")
    assert first.captions == (
        "Jacket 0",
        "red Jacket 0",
        "red jackets",
        "men jackets",
        "red solid nylon® mesh jackets",
        'Jacket 0. Keeps "dry".',
    )


def test_clothing_without_a_word_for_its_label_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"sender_id": "1", "label": "Hat", "kids": "True", "image_bytes": jpeg((1, 2, 3))},
        {"sender_id": "2", "label": "Not sure", "kids": "False", "image_bytes": jpeg((1, 2, 3))},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    (photo,) = read_clothing(tmp_path).photos
    assert photo.captions == ("hat", "cap", "a photo of hat", "kids' hat")


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.parquet does not exist"):
        (tmp_path / "items.jsonl").write_text("")
        read_grocery(tmp_path, tmp_path)
    pq.write_table(pa.table({"label": ["Hat"]}), tmp_path / "items.parquet")
    with pytest.raises(InputError, match="wanted columns: sender_id, label, kids, image_bytes"):
        read_clothing(tmp_path)
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "A"}')
    with pytest.raises(InputError, match="item 'a' has no image"):
        read_demo(tmp_path)
    with pytest.raises(InputError, match="nothing to train on"):
        main()


def test_hits_and_ranks() -> None:
    similarities = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.1], [0.1, 0.2, 0.3]])
    right = np.array([[True, False, False], [True, False, True], [True, False, False]])
    assert hits(similarities, right).tolist() == [True, False, False]
    assert ranks(similarities, right).tolist() == [0, 1, 2]


def test_share_and_intervals() -> None:
    values = np.array([True, True, False, False])
    figure = share(values, ["a", "b", "c", "d"], 0.25)
    assert figure["value"] == 2 / 4 and figure["n"] == 4
    # Four groups of one: the mean of four draws from {1, 1, 0, 0}; its 95 % range is the whole of [0, 1].
    assert figure["interval"] == [0.0, 1.0]
    assert interval([1, 1, 1], ["a", "a", "b"]) == (1.0, 1.0)
    # One group cannot vary, whatever is in it.
    assert interval([1, 0, 0, 0], ["a"] * 4) == (0.25, 0.25)
    figure = mean_over_splits([0.4, 0.6], 0.1)
    assert (figure["value"], figure["lowest"], figure["highest"]) == (0.5, 0.4, 0.6)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_sums_to_one_and_keeps_the_order(rows: list[list[float]]) -> None:
    logits = np.asarray(rows)
    made = softmax(logits)
    assert np.allclose(made.sum(axis=1), 1)
    assert (made[np.arange(len(rows)), logits.argmax(axis=1)] == made.max(axis=1)).all()


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.9, 0.9, 0.6, 0.6])
    hit = np.array([True, True, True, False])
    # Two bins: |0.9 - 1| and |0.6 - 0.5|, each with half of the answers.
    assert expected_calibration_error(confidence, hit, bins=2) == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)


def test_calibrate_finds_the_temperature_that_made_the_answers() -> None:
    chance = np.random.default_rng(0)
    similarities = chance.normal(0, 0.1, (4000, 5))
    drawn = [chance.choice(5, p=row) for row in softmax(similarities / 0.08)]
    right = np.eye(5, dtype=bool)[drawn]
    figures = calibrate([Question("x", similarities, right, tuple(str(i) for i in range(4000)))], precision=0.75)
    assert figures["temperature"] == pytest.approx(0.08, rel=0.1)
    assert figures["calibration_error"] < 0.05
    assert figures["precision"] == pytest.approx(0.75, abs=0.06)


def test_a_guesser_is_not_asked() -> None:
    chance = np.random.default_rng(0)
    right = np.eye(5, dtype=bool)[chance.integers(5, size=400)]
    figures = calibrate([Question("x", chance.normal(0, 0.1, (400, 5)), right, tuple(map(str, range(400))))])
    assert figures["threshold"] == 1.01 and figures["answered"] == 0 and "precision" not in figures


def test_a_card_keeps_its_words_and_gets_new_figures(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    figure = {"value": 0.5, "interval": [0.25, 0.75], "chance": 1 / 16, "n": 4}
    metrics = {"split": 0, "grocery": {"held_out_classes": ["Kiwi"], "of_them_named_in_imagenet": [], "unseen": figure}}
    metrics["calibration"] = {"color": {"temperature": 0.05, "threshold": 1.01, "n": 7.0}}
    assert list(figure_rows(metrics)) == [("grocery unseen", "0.500", "0.250–0.750", "0.062", "4")]
    card.write_text(f"# Card\n\nbefore\n\n{BEGIN}\nstale\n{END}\n\nafter\n")
    update_card(card, metrics)
    once = card.read_text()
    assert once.startswith("# Card\n\nbefore\n") and once.endswith("\n\nafter\n") and "stale" not in once
    assert "| grocery unseen | 0.500 | 0.250–0.750 | 0.062 | 4 |" in once
    assert "| color | 0.050 | 1.010 | – | – | – | – | 7 |" in once and "Kiwi." in once
    update_card(card, metrics)
    assert card.read_text() == once
    update_card(tmp_path / "new.md", metrics)
    update_card(tmp_path / "new.md", metrics)
    assert (tmp_path / "new.md").read_text().count(BEGIN) == 1


def material(classes: int, photos: int, seed: int) -> tuple[Any, Any]:
    """Classes with pictures around a direction and a caption each; and the pictures' directions."""
    from jobs.clip.fit import Material

    chance = np.random.default_rng(seed)
    world = np.random.default_rng(99).normal(size=(384, 1280)).astype(np.float32)  # the true map, the same for all
    texts = chance.normal(size=(classes, 384)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    labels = np.repeat(np.arange(classes), photos)
    pictures = texts[labels] @ world + chance.normal(0, 0.3, (len(labels), 1280)).astype(np.float32)
    words = [f"class {i}" for i in labels]
    return Material(pictures[:, None].astype(np.float32), (texts[labels],), (words,), words), texts


@needs_cpu_extra
def test_a_fit_learns_the_map_and_carries_it_to_new_classes() -> None:
    import torch

    from jobs.clip.fit import Recipe, fit_heads

    known, _ = material(300, 3, seed=0)
    new, texts = material(30, 2, seed=1)
    chance = torch.Generator().manual_seed(0)
    classifier = 0.01 * torch.randn((1000, 1280), generator=chance), torch.zeros(1000)
    arguments = ({"known": known}, torch.zeros(1000, 384), torch.zeros(384), classifier)

    def right_share(recipe: Recipe) -> float:
        image, text = fit_heads(*arguments, recipe)
        with torch.inference_mode():
            pictures, names = image(torch.from_numpy(new.pictures[:, 0])), text(torch.from_numpy(texts))
        names = torch.nn.functional.normalize(names, dim=-1)
        return float(np.mean((pictures @ names.T).argmax(1).numpy() == np.repeat(np.arange(30), 2)))

    recipe = Recipe(steps=5, batch=64, classes=0.01)
    assert right_share(recipe) > 0.9  # chance: 1 / 30
    one, two = (fit_heads(*arguments, recipe)[0].beyond.weight for _ in range(2))
    assert torch.equal(one, two)


@needs_cpu_extra
@pytest.mark.weights
def test_train_and_evaluate_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file

    from jobs.clip.features import Towers

    few = [("tench", "Tinca tinca"), ("running shoe",), ("banana",), ("sofa", "couch")]  # 3,000 texts take a minute
    monkeypatch.setattr(Towers, "class_names", lambda self: few * 250)

    write_grocery(tmp_path)
    (tmp_path / "luma").mkdir()
    write_luma(tmp_path / "luma")
    (tmp_path / "features").mkdir()
    where = {
        "grocery": tmp_path,
        "luma": tmp_path / "luma",
        "demo": tmp_path / "luma",
        "features": tmp_path / "features",
    }
    main(**where, out=tmp_path / "out", splits=1, steps=2)
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(metrics["grocery"]["held_out_classes"]) == 16
    assert metrics["grocery"]["unseen_by_name"]["n"] == 16 * 3
    assert metrics["grocery"]["seen_by_name"]["n"] == 2 * 1  # the two classes left, one validation photo each
    assert metrics["grocery"]["unseen_by_name"]["chance"] == 1 / 16
    assert metrics["luma"]["title_to_parent"]["recall_at_1"]["n"] == 2  # a fifth of six parents, in two colours
    assert metrics["over_splits"]["unseen_by_name"]["value"] == metrics["grocery"]["unseen_by_name"]["value"]
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["temperature"] == metrics["calibration"]["all"]["temperature"]
    heads = load_file(tmp_path / "out" / "heads.safetensors")
    assert heads["image.class_vectors"].shape == (1000, 384) and heads["image.beyond.weight"].shape == (384, 1280)

    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "features").iterdir()}
    assert kept and not any(name.endswith(".partial") for name in kept)
    main(**where, out=tmp_path / "again", splits=0, steps=2)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "features").iterdir()} == kept  # nothing was made anew
    again = load_file(tmp_path / "again" / "heads.safetensors")
    assert all(np.array_equal(heads[key], again[key]) for key in heads)
    capsys.readouterr()
    main(**where, out=tmp_path / "none", splits=0, evaluate=True)
    assert "grocery" in json.loads(capsys.readouterr().out) and not (tmp_path / "none").exists()
