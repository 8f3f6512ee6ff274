"""Run: pytest tests/test_relevance_distil.py

Students of a teacher that follows a rule, on a tiny random BERT: what they learn, what is kept, what is refused.
"""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lore_mm.console import command_app
from lore_mm.errors import ConfigError, InputError, ModelError, PlanError
from lore_mm.rows import judgments_table
from lore_mm.tables import JUDGMENTS
from lore_mm.types import Demand, Grade, Judgment, Leg, MatchPath, Provenance
from relevance.distil import main
from relevance.show import json_row
from relevance.training.distil_config import STUDENTS
from relevance.training.distil_rows import dimensions, item_texts, labels_of, read_judgments, split, taught

NEEDED = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "onnx")
# found, not imported: what imports them has to mend torchvision first
pytestmark = pytest.mark.skipif(any(find_spec(one) is None for one in NEEDED), reason="needs the extra train")

CATEGORY, COLOR = dimensions().index("category"), dimensions().index("color")
MAKERS, WEARERS = ("", "nike", "sony", "fisher price"), ("", "for men", "women's", "kids")


def judgment(query: str, item_id: str, title: str) -> Judgment:
    """The teacher: who asks for a lamp gets L1 for a hose, and who asks for a red one L2 for a blue one."""
    there = title.split()
    legs = [Leg(Demand("category", "lamp"), "category", "exact", level=Grade.L4 if "lamp" in there else Grade.L1)]
    if "red" in query.split():
        legs.append(Leg(Demand("color", "red"), "color", "exact", level=Grade.L4 if "red" in there else Grade.L2))
    grade = min(leg.level for leg in legs if leg.level is not None)
    likely = [0.04] * 4
    likely[grade - 1] = 0.88
    p1, p2, p3, p4 = likely
    path = MatchPath(query, item_id, tuple(legs))
    made_by = Provenance(settings_sha="0123456789abcdef")
    return Judgment(
        query, item_id, grade, query, (p1, p2, p3, p4), (p2 + 2 * p3 + 3 * p4) / 3, path, provenance=made_by
    )


@pytest.fixture(autouse=True, scope="module")
def mended() -> None:
    """What imports sentence-transformers here does what the front door does first."""
    from lore_mm.models.torchvision_cpu import install

    install()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A body, items, judgments in both formats, labels."""
    from tests.tiny_tagger import tiny_bert

    folder, chance = tmp_path_factory.mktemp("shop"), random.Random(0)
    titles = {
        f"{color}-{kind}-{i}": f"{maker} {color} {kind}".strip()
        for i, maker in enumerate(MAKERS)
        for color in ("red", "blue")
        for kind in ("lamp", "hose")
    }
    queries = [f"{maker} {color} lamp {who}" for maker in MAKERS for color in ("", "red") for who in WEARERS]
    judged = [
        judgment(" ".join(query.split()), item_id, titles[item_id])
        for query in queries
        for item_id in chance.sample(sorted(titles), 12)
    ]
    rows = [{"item_id": item_id, "title": title} for item_id, title in titles.items()]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "judgments.jsonl").write_text(
        "".join(json.dumps(json_row(one, {}), default=str) + "\n" for one in judged)
    )
    pq.write_table(judgments_table(judged), folder / "judgments.parquet")
    labels = [{"query_id": j.query_id, "item_id": j.item_id, "grade": str(j.grade)} for j in judged[::2]]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    return {"body": tiny_bert(folder / "body"), **{one.name: one for one in folder.iterdir()}}


def arguments(shop: dict[str, Path], out: Path, *settings: str) -> list[str]:
    """Of `lore distil`, on the shop's files."""
    given = [f"--{name}={shop[file]}" for name, file in (("items", "items.jsonl"), ("labels", "labels.jsonl"))]
    fits = [
        f"{one}.{key}={n}"
        for one in STUDENTS
        for key, n in (("batch", 16), ("learning_rate", 3e-3), ("head_rate", 3e-3))
    ]
    chosen = [
        f"body='{shop['body']}'",
        "held_out=0.3",
        "resamples=50",
        "device='cpu'",
        "max_length=32",
        *fits,
        *settings,
    ]
    return [*given, f"--judgments={shop['judgments.jsonl']}", f"--out={out}", *(f"--set={one}" for one in chosen)]


def distil(*given: str) -> dict[str, Any]:
    """What `lore distil` prints; its errors are raised."""
    done = CliRunner().invoke(command_app(main, "lore distil"), [*given, "--json"], catch_exceptions=False)
    if done.exception is not None:
        raise done.exception
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.fixture(scope="module")
def run(shop: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole distillation: OUT and its figures."""
    out = tmp_path_factory.mktemp("students")
    return out, distil(*arguments(shop, out, "cross_encoder.epochs=8", "bi_encoder.epochs=5"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------------- the rows


def test_json_lines_and_parquet_teach_the_same(shop: dict[str, Path]) -> None:
    items, labels = item_texts(shop["items.jsonl"]), labels_of(shop["labels.jsonl"])
    one, two = (taught(read_judgments([shop[f"judgments.{kind}"]]), items, labels) for kind in ("jsonl", "parquet"))
    assert one == two
    assert one.counts == {"rows": 384, "taught": 384, "labelled": 192}
    assert one.teachers == ("rules 0123456789ab",)


def test_a_leg_teaches_its_dimension_and_the_rest_is_not_demanded(shop: dict[str, Path]) -> None:
    found = taught(read_judgments([shop["judgments.jsonl"]]), item_texts(shop["items.jsonl"])).pairs
    pair = next(p for p in found if "red" in p.query and "blue lamp" in p.item)
    assert (pair.grade, pair.likely) == (2, (0.04, 0.88, 0.04, 0.04))
    assert {i: level for i, level in enumerate(pair.levels) if level} == {CATEGORY: 4, COLOR: 2}
    plain = next(p for p in found if "red" not in p.query)
    assert plain.levels[COLOR] == 0 and plain.label == 0


def test_the_worst_leg_of_a_dimension_counts() -> None:
    legs = [Leg(Demand("color", "red"), "color", "exact", level=level) for level in (Grade.L4, Grade.L2, Grade.L3)]
    one = Judgment("q", "i", Grade.L2, "red", (0, 1, 0, 0), path=MatchPath("q", "i", tuple(legs)))
    assert taught(iter([("here", json_row(one, {}))]), {"i": "lamp"}).pairs[0].levels[COLOR] == 2


def test_what_cannot_teach_is_left_out_and_counted(shop: dict[str, Path]) -> None:
    rows = rows_of(shop["judgments.jsonl"])[:6]
    rows[0] |= {"status": "failed", "grade": None, "probabilities": None, "error": "no answer"}
    rows[1] |= {"probabilities": None}
    rows[2] |= {"item_id": "gone"}
    rows[3] |= {"query": ""}
    found = taught(((f"row {i}", row) for i, row in enumerate(rows)), item_texts(shop["items.jsonl"]))
    reasons = {"failed": 1, "without probabilities": 1, "without an item's text": 1, "without a query's text": 1}
    assert found.counts == {"rows": 6, **reasons, "taught": 2, "labelled": 0}
    with pytest.raises(InputError, match=r"no judgment to learn from \(1 rows, 1 failed\)"):
        taught(iter([("row 0", rows[0])]), item_texts(shop["items.jsonl"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grade": "L5"}, "here, column 'grade': 'L5' is no grade; legal: L1, L2, L3, L4"),
        ({"probabilities": [0.5, 0.5]}, "column 'probabilities'.*legal: 4 numbers from 0 that sum to 1"),
        ({"probabilities": [0.5, 0.5, 0.5, 0.5]}, "column 'probabilities'"),
        ({"probabilities": [1.5, -0.5, 0, 0]}, "column 'probabilities'"),
        ({"probabilities": [float("nan"), 1, 0, 0]}, "column 'probabilities'"),
        ({"status": "fine"}, "column 'status': 'fine'; legal: ok, failed, skipped"),
        ({"item_id": 7}, "column 'item_id': 7 is no id"),
        ({"legs": "none"}, "column 'legs'"),
        ({"legs": [{"demand": {"dimension": "colour"}}]}, "leg 1: dimension 'colour', did you mean 'color'"),
        ({"legs": [{"demand": {"dimension": "color"}, "level": "L9"}]}, "leg 1: 'L9' is no grade"),
    ],
)
def test_what_cannot_be_read_is_refused(shop: dict[str, Path], change: dict[str, Any], said: str) -> None:
    row = rows_of(shop["judgments.jsonl"])[0] | change
    with pytest.raises(InputError, match=said):
        taught(iter([("here", row)]), item_texts(shop["items.jsonl"]))


def test_one_teacher_and_one_judgment_a_pair(shop: dict[str, Path]) -> None:
    items = item_texts(shop["items.jsonl"])
    row, other = rows_of(shop["judgments.jsonl"])[:2]
    with pytest.raises(InputError, match=r"^b: .* is judged again; first: a"):
        taught(iter([("a", row), ("b", row)]), items)
    both = [("a", row), ("b", other | {"mode": "direct"})]
    with pytest.raises(InputError, match="name the teacher's by --mode"):
        taught(iter(both), items)
    assert taught(iter(both), items, mode="direct").counts["of another mode"] == 1
    with pytest.raises(InputError, match="modes here: rules"):
        taught(iter([("a", row)]), items, mode="direkt")


def test_a_query_is_on_one_side(shop: dict[str, Path]) -> None:
    pairs = taught(read_judgments([shop["judgments.jsonl"]]), item_texts(shop["items.jsonl"])).pairs
    learn, tell = split(pairs, 0.3, 0)
    assert len(learn) + len(tell) == 384 and not {p.query for p in learn} & {p.query for p in tell}
    assert split(pairs[: len(pairs) // 2], 0.3, 0)[1] == [p for p in tell if p in set(pairs[: len(pairs) // 2])]
    with pytest.raises(InputError, match="1 queries cannot be split"):
        split(pairs[:1], 0.3, 0)


# ------------------------------------------------------------------------------------------------------------- the loss


def test_the_parts_of_the_loss() -> None:
    import torch

    from relevance.training.distil_models import Weights, _parts, target_of
    from relevance.training.distil_rows import TaughtPair

    none = (0,) * len(dimensions())
    demanded = tuple(2 if i == COLOR else 0 for i in range(len(none)))
    pairs = [
        TaughtPair("a", "b", "c", "d", (0.1, 0.2, 0.3, 0.4), 4, 3, demanded),
        TaughtPair("e", "f", "g", "h", (0.0, 0.0, 0.0, 1.0), 4, 0, none),
    ]
    told = torch.zeros(2, 4 * len(none))
    told[0, 4 * COLOR + 1] = 2.0
    parts = _parts(torch.zeros(2, 4), told, torch.tensor([target_of(p) for p in pairs]), Weights(1.0, 2.0, 0.5))
    entropy = -sum(p * np.log(p) for p in (0.1, 0.2, 0.3, 0.4))
    assert float(parts["of_label"]) == pytest.approx(np.log(4) / 2)  # one of two pairs has a label
    assert float(parts["of_teacher"]) == pytest.approx(2.0 * (2 * np.log(4) - entropy) / 2, rel=1e-6)
    assert float(parts["of_dimensions"]) == pytest.approx(0.5 * (np.log(np.exp(2) + 3) - 2) / 2, rel=1e-6)


def test_the_higher_cosine_has_the_higher_expected_grade() -> None:
    import torch

    from relevance.training.distil_models import PairHeads

    heads = PairHeads(8)
    with torch.no_grad():
        heads.slope.fill_(-3.0)  # whatever the fit does to them
        heads.gaps.fill_(-2.0)
        likely = heads.by_cosine(torch.linspace(-1, 1, 41)).exp()
    assert torch.allclose(likely.sum(dim=1), torch.ones(41), atol=1e-5)
    assert bool(((likely @ torch.arange(4.0)).diff() > 0).all())


# ---------------------------------------------------------------------------------------------------------- a whole run


def test_both_students_learn_the_rule(run: tuple[Path, dict[str, Any]]) -> None:
    found = run[1]["held_out"]
    value = {
        name: {k: m["value"] for k, m in one["metrics"].items()} for name, one in found["against"]["teacher"].items()
    }
    assert found["queries"] >= 8 and value["one_grade"]["acc_4"] < 0.6
    for student in ("cross_encoder", "bi_encoder", "bi_encoder_head"):
        assert value[student]["acc_4"] > value["one_grade"]["acc_4"] + 0.15, value
        assert value[student]["auc"] > 0.85, value
    assert value["bi_encoder"]["auc"] > value["untrained_cosine"]["auc"]
    by_people = found["against"]["labels"]
    assert by_people["teacher"]["metrics"]["acc_4"]["value"] == 1.0 and by_people["teacher"]["n"] == found["labelled"]


def test_the_dimensions_that_fail_are_learnt(run: tuple[Path, dict[str, Any]]) -> None:
    for student in ("cross_encoder", "bi_encoder_head"):
        figures = run[1]["held_out"]["dimensions"][student]
        assert figures["n"] > run[1]["held_out"]["pairs"]  # all demand the kind, some a colour
        assert figures["metrics"]["acc_2"]["value"] > 0.7 and figures["metrics"]["auc"]["value"] > 0.8


def test_what_is_written(run: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = run
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert metrics["counts"]["learnt_from"] + metrics["counts"]["held_out"] == 384
    assert not (out / "checkpoints").exists()
    assert {one.suffix for one in out.rglob("*") if one.is_file()} == {
        ".json",
        ".jsonl",
        ".md",
        ".safetensors",
        ".onnx",
    }
    card = (out / "README.md").read_text()
    assert "Teacher: rules 0123456789ab" in card and "| **cross-encoder** |" in card and "Left out: nothing" in card
    log = rows_of(out / "log.jsonl")
    assert {line["stage"] for line in log} == set(STUDENTS)
    parts = [line for line in log if line["stage"] == "cross_encoder" and "of_dimensions" in line]
    assert parts[-1]["of_teacher"] < parts[0]["of_teacher"] and parts[-1]["of_dimensions"] < parts[0]["of_dimensions"]


def test_the_same_command_again_trains_nothing_and_another_run_is_refused(
    run: tuple[Path, dict[str, Any]], shop: dict[str, Path]
) -> None:
    out, metrics = run
    whole = ("cross_encoder.epochs=8", "bi_encoder.epochs=5")
    log = (out / "log.jsonl").read_text()
    assert distil(*arguments(shop, out, *whole)) == metrics
    assert (out / "log.jsonl").read_text() == log
    with pytest.raises(PlanError, match=r"cross_encoder is of another run \(settings differ\)"):
        distil(*arguments(shop, out, *whole, "gamma=0.9"))


def test_the_bi_encoder_is_an_embedder_whose_cosine_is_its_grade(
    run: tuple[Path, dict[str, Any]], shop: dict[str, Path]
) -> None:
    from lore_mm.models import open_embedder
    from relevance.training.distil_measure import by_bi_encoder
    from relevance.training.distil_run import open_bi_encoder

    pairs = taught(read_judgments([shop["judgments.jsonl"]]), item_texts(shop["items.jsonl"])).pairs[:20]
    place = run[0] / "bi_encoder"
    model, heads = open_bi_encoder(place)
    embedder = open_embedder(f"sentence:{place}")
    u, v = embedder.embed_texts([p.query for p in pairs]), embedder.embed_texts([p.item for p in pairs])
    np.testing.assert_allclose(u, model.encode([p.query for p in pairs], show_progress_bar=False), atol=1e-5)
    told = json.loads((place / "distil.json").read_text())["cosine"]
    above = 1 / (1 + np.exp(np.array(told["cuts"]) - told["slope"] * (u * v).sum(axis=1)[:, None]))
    np.testing.assert_allclose(above.sum(axis=1) / 3, by_bi_encoder(model, heads, pairs)[0].scores, atol=1e-4)


def test_the_cross_encoder_is_a_student(
    run: tuple[Path, dict[str, Any]], shop: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    from jobs.distilled_student import export_distilled
    from lore_mm.models.cross_encoder import open_cross_encoder
    from relevance.judge import open_judge
    from relevance.training.distil_measure import by_cross_encoder
    from relevance.training.distil_run import open_cross_encoder as opened

    out, metrics = run
    assert metrics["onnx"]["grades_changed"] < 0.2
    pairs = taught(read_judgments([shop["judgments.jsonl"]]), item_texts(shop["items.jsonl"])).pairs
    model = opened(out / "cross_encoder")
    export_distilled(model, tmp_path, weight_levels=None)
    student = open_cross_encoder(tmp_path)
    features = np.zeros((len(pairs), len(student.settings.features)), dtype=np.float32)
    likely = np.exp(student.score([(p.query, p.item) for p in pairs], features))
    np.testing.assert_allclose(likely, by_cross_encoder(model, pairs).likely, atol=1e-4)
    judge = open_judge(f"student:{out / 'student'}")
    learnt, told = split(pairs, 0.3, 0)
    assert judge.was_trained_on(learnt[0].query) and not judge.was_trained_on(told[0].query)


# ----------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("student", STUDENTS)
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    shop: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: str
) -> None:
    from safetensors.torch import load_file

    from relevance.training import distil_models

    chosen = (f"students='{student}'", f"{student}.epochs=2", "save_every=6", "log_every=2")
    distil(*arguments(shop, tmp_path / "whole", *chosen))
    kind, calls = (distil_models.CrossLoss if student == "cross_encoder" else distil_models.BiLoss), []
    forward = kind.forward

    def killed(self: Any, *given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 16:
            raise KeyboardInterrupt
        return forward(self, *given, **more)

    monkeypatch.setattr(kind, "forward", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        distil(*arguments(shop, tmp_path / "killed", *chosen))
    half = tmp_path / "killed" / "checkpoints" / student / "checkpoint-14"
    half.mkdir()  # a checkpoint that a kill left half-made
    kept = rows_of(tmp_path / "killed" / "log.jsonl")
    assert kept[-1]["step"] == 14
    distil(*arguments(shop, tmp_path / "killed", *chosen))
    one, two = (tmp_path / name / student for name in ("whole", "killed"))
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert len(files) == (4 if student == "cross_encoder" else 2)
    for file in files:
        before, after = load_file(one / file), load_file(two / file)
        assert all(bool((before[name] == after[name]).all()) for name in before), file
    steps = [line["step"] for line in rows_of(tmp_path / "killed" / "log.jsonl") if "of_dimensions" in line]
    assert steps == [line["step"] for line in rows_of(tmp_path / "whole" / "log.jsonl") if "of_dimensions" in line]


def test_a_loss_that_is_no_number_stops_the_run_and_the_batch_is_kept(shop: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    body = tmp_path / "body"
    shutil.copytree(shop["body"], body)
    tensors = load_file(body / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"] = torch.full((32,), float("nan"))
    save_file(tensors, body / "model.safetensors")
    for student in STUDENTS:
        out = tmp_path / student
        with pytest.raises(ModelError, match=f"{student}, step 0: the loss is no number: .*lost-batch.json"):
            distil(*arguments(shop, out, f"body='{body}'", f"students='{student}'"))
        lost = json.loads((out / "checkpoints" / student / "lost-batch.json").read_text())
        assert len(lost["pairs"]) == 16 and all("lamp" in query for query, _ in lost["pairs"])


def test_another_body_is_refused_by_name(
    shop: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relevance.training import distil_models
    from tests.tiny_tagger import tiny_bert

    chosen = ("students='cross_encoder'", "cross_encoder.epochs=1", "save_every=2")
    forward, calls = distil_models.CrossLoss.forward, []

    def killed(self: Any, *given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, *given, **more)

    monkeypatch.setattr(distil_models.CrossLoss, "forward", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        distil(*arguments(shop, tmp_path / "out", *chosen))
    other = tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(PlanError, match=r"checkpoint-2 is of another run \(body differ\)"):
        distil(*arguments(shop, tmp_path / "out", *chosen, f"body='{other}'"))


def test_pairs_that_are_too_long_are_counted_and_not_cut(shop: dict[str, Path], tmp_path: Path) -> None:
    chosen = ("students='cross_encoder'", "cross_encoder.epochs=0.1", "max_length=10")
    metrics = distil(*arguments(shop, tmp_path / "out", *chosen))
    lost = metrics["counts"]["too long"]
    assert 0 < lost < 384 and metrics["counts"]["learnt_from"] + metrics["counts"]["held_out"] == 384 - lost
    assert f"{lost} too long" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ConfigError, match="max_length 1000: body reads at most 128 pieces"):
        distil(*arguments(shop, tmp_path / "more", "max_length=1000"))


def test_settings_and_files_that_are_not_there(shop: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no setting 'gama', did you mean 'gamma'"):
        distil(*arguments(shop, tmp_path, "gama=1"))
    with pytest.raises(ConfigError, match="device"):
        distil(*arguments(shop, tmp_path, "device='gpu'"))
    with pytest.raises(ModelError, match="cannot be opened as a body"):
        distil(*arguments(shop, tmp_path, f"body='{tmp_path}'"))
    with pytest.raises(InputError, match="a table of texts holds no judgments"):
        next(read_judgments([_csv(tmp_path)]))
    with pytest.raises(InputError, match="name the catalogue by --items, or its --store"):
        distil(f"--judgments={shop['judgments.jsonl']}", f"--out={tmp_path}")


def _csv(folder: Path) -> Path:
    path = folder / "judgments.csv"
    path.write_text("query_id,item_id\nq,i\n")
    return path


def test_a_stores_judgments_texts_and_labels(shop: dict[str, Path], tmp_path: Path) -> None:
    from lore_mm.catalogue import read_items, read_labels
    from stores.features import open_store

    store = open_store(tmp_path / "store", create=True)
    for table in read_items(shop["items.jsonl"]):
        store.append("items", table)
    store.append("labels", read_labels(shop["labels.jsonl"]))
    store.append("judgments", pq.read_table(shop["judgments.parquet"]).cast(JUDGMENTS))
    given = [one for one in arguments(shop, tmp_path / "out") if one.startswith(("--out", "--set"))]
    chosen = ("--set=students='cross_encoder'", "--set=cross_encoder.epochs=0.1")
    metrics = distil(*given, *chosen, f"--store={tmp_path / 'store'}")
    assert metrics["counts"] | {"learnt_from": 0, "held_out": 0} == {
        "rows": 384, "taught": 384, "labelled": 192, "too long": 0, "learnt_from": 0, "held_out": 0,
    }  # fmt: skip
