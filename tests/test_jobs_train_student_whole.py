"""Run: pytest tests/test_jobs_train_student_whole.py

The whole training of a student on a shop, queries and a BERT made here: files, figures, resuming, errors.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from jobs.train_student import main
from lore_mm.console import command_app
from lore_mm.models.cross_encoder import open_cross_encoder
from lore_mm.types import Item, ItemFeatures, Query
from tests.tiny_tagger import tiny_bert

for module in ("torch", "transformers", "onnx", "onnxruntime", "sklearn"):
    pytest.importorskip(module)

KINDS = {"laptop sleeve": "Targus Kensington", "hdmi cable": "Sandberg Belkin", "desk lamp": "Ikea Philips"}
TITLES = [
    (f"{kind.split()[-1]}-{maker}-{i}", f"{maker} {kind[0].upper()}X{i}0 {kind} {colour} {i} m", maker)
    for kind, makers in KINDS.items()
    for maker in makers.split()
    for i, colour in enumerate(("Black", "White", "Red", "Blue"))
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    rows = [
        {"id": str(i), "name": code, "title": title, "short_description": "", "supplier": maker, "attributes": "{}"}
        for i, (code, title, maker) in enumerate(TITLES)
    ]
    pl.DataFrame(rows).write_parquet(folder / "products.parquet")
    judgments = [
        {"query": kind, "docid": i, "rating": 3 if kind in title else 0}
        for kind in KINDS
        for i, (_, title, _) in enumerate(TITLES)
    ]
    more = [
        {"query": f"{q} black", "docid": j["docid"], "rating": j["rating"]}
        for q in KINDS
        for j in judgments
        if j["query"] == q
    ]
    pl.DataFrame(judgments + more).write_csv(folder / "judgments.csv")
    queries = ["red desk lamp", "nike shoes", "phone case black", "case for phone", "blue shoes", "lamp shade white"]
    tags = [
        "B-color B-core_product_type I-core_product_type",
        "B-creator B-core_product_type",
        "B-product_name B-core_product_type B-color",
        "B-core_product_type O B-product_name",
        "B-color B-core_product_type",
        "B-product_name B-core_product_type B-color",
    ]
    lines = [json.dumps({"tokens": q.split(), "labels": t.split()}) for q, t in zip(queries, tags, strict=True)]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run(shop: Path, place: Path, *more: str):
    body = place / "body"
    if not body.exists():
        tiny_bert(body)
    options = ["--catalogue", shop, "--queries", shop, "--judged", f"chorus:{shop}=Apache-2.0", "--out", place / "out"]
    options += ["--body", body, "--checkpoint", place / "kept", "--lessons", "200,60,60", "--trees", "8"]
    options += ["--embedder", "scripted:3", "--json", *more]
    return CliRunner().invoke(command_app(main, "train"), [str(one) for one in options])


def test_a_student_is_trained_measured_written_and_taken_up_again(shop: Path, tmp_path: Path) -> None:
    done = run(shop, tmp_path, "--plain")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    systems = metrics["measured"][0]["systems"]
    assert list(systems) == [
        "student", "reader alone", "plain cross-encoder", "rules", "bm25_title", "cosine:scripted:3",
    ]  # fmt: skip
    assert systems["student"]["metrics"]["auc"]["value"] > 0.95  # the path tells it all
    assert metrics["measured"][0]["queries"] == 6 and metrics["measured"][0]["set"] == "chorus"
    assert {"quadratic_kappa", "auc"} <= set(metrics["ablations"]["without the reader"])
    assert [row["pairs"] for row in metrics["trained_on"]] == [200, 60, 60, systems["student"]["n"]]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**chorus**, 6 queries" in card and str(tmp_path) not in card + done.stdout
    encoder = open_cross_encoder(tmp_path / "out")
    assert encoder.was_trained_on("Laptop  sleeve") and not encoder.was_trained_on("gazebo")
    before = (tmp_path / "out" / "model.onnx").read_bytes()
    again = run(shop, tmp_path)
    assert again.exit_code == 0 and "goes on behind epoch 1" in again.stderr
    assert (tmp_path / "out" / "model.onnx").read_bytes() == before
    _judges(tmp_path / "out")


def _judges(folder: Path) -> None:
    from extractors.queries import understand
    from lore_mm.knowledge import load_knowledge
    from relevance.judge import open_judge

    judge = open_judge(f"student:{folder}")
    asked = understand([Query("q", "hdmi cable")], load_knowledge())[0]
    good, bad = judge.judge([(asked, ItemFeatures(Item(t, t))) for t in ("Belkin HDMI cable 2 m", "Ikea desk lamp")])
    assert good.mode == "student" and good.score > bad.score and good.path is not None
    judge.close()


def test_what_is_not_legal_is_told(shop: Path, tmp_path: Path) -> None:
    wrong = run(shop, tmp_path, "--lessons", "1,2")
    assert wrong.exit_code != 0 and "legal are three counts" in wrong.output + str(wrong.exception)
    wrong = run(shop, tmp_path, "--judged", "demo")
    assert wrong.exit_code != 0 and "SET=LICENCE" in wrong.output + str(wrong.exception)
