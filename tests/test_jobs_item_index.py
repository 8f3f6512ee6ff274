"""The index of items kept in step with its table: changes taken in or built anew; answers as of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import item_index
from jobs.item_index import build_item_index, parse_memory
from lore_mm.errors import InputError, StoreError
from lore_mm.tables import EMBEDDINGS
from stores import index_at, vector_build
from stores.features import FeatureStore, open_store
from stores.index_at import IndexAt, Lag
from stores.item_vectors import all_vectors, item_vectors
from stores.snapshot import Snapshot
from stores.vectors import open_index
from tests.vector_cases import KINDS, assert_same, cloud, exact, unit

WIDTH = 8
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Model:
    name: str = "m"
    sha: str = "sha"
    width: int = WIDTH


def rows_of(vectors: dict[str, tuple], model: str = "m", minute: int = 0) -> pa.Table:
    """Rows of EMBEDDINGS: item → (image, text), either may be None."""
    made = [
        {
            "item_id": item,
            "model": model,
            "image": image,
            "text": text,
            "status": "ok" if image is not None or text is not None else "failed",
            "error": None if image is not None or text is not None else "no picture",
            "provenance": {"maker": model, "made_at": NOON + timedelta(minutes=minute)},
        }
        for item, (image, text) in vectors.items()
    ]
    return pa.Table.from_pylist(made, schema=EMBEDDINGS)


def texts(n: int, seed: int = 0) -> dict[str, tuple]:
    return {f"item-{i}": (None, v) for i, v in enumerate(unit(cloud(n, WIDTH, seed)).astype(np.float32))}


def index_of(store: FeatureStore):
    return open_index(store.folder / "vectors" / "items")


def truth_at(store: FeatureStore, version: int) -> dict[str, np.ndarray]:
    """What a build from scratch would hold."""
    return {
        str(i): vector
        for ids, vectors, _ in all_vectors(store, version, "m", WIDTH)
        for i, vector in zip(ids.to_pylist(), vectors, strict=True)
    }


def assert_answers(search, truth: dict[str, np.ndarray], seed: int = 0) -> None:
    ids = sorted(truth)
    rows = np.array([truth[i] for i in ids]).reshape(-1, WIDTH)
    for query in cloud(3, WIDTH, seed):
        for k in (4, len(ids) + 3):
            (found,) = search(query, k)
            assert_same(found, exact(rows, ids, query, k))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = open_store(tmp_path / "store", create=True)
    store.append("embeddings", rows_of(texts(60)))
    build_item_index(store, Model())
    return store


def test_the_vector_of_an_item() -> None:
    x, y, z = np.eye(3, dtype=np.float32)
    nan = np.array([np.nan, 0, 1], np.float32)
    given_ = {
        "both": (x, y),
        "text": (None, z),
        "image": (x, None),
        "opposite": (x, -x),
        "none": (None, None),
        "broken": (nan, y),
        "worse": (nan, None),
        "wide": ([1.0, 0.0], None),
    }
    ids, vectors, bad = item_vectors(rows_of(given_), "m", 3)
    half = 2**-0.5
    assert ids.to_pylist() == ["both", "text", "image", "opposite", "broken"]
    np.testing.assert_allclose(vectors, [[half, half, 0], z, x, x, y], atol=1e-7)
    assert bad == 3
    assert item_vectors(rows_of(given_), "other", 3)[0].to_pylist() == []


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_updated_index_is_one_built_from_scratch(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    store = open_store(tmp_path_factory.mktemp("s") / "store", create=True)
    store.append("embeddings", rows_of(texts(100)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_build, "BLOCK_ROWS", 32)
        build_item_index(store, Model(), kind)  # type: ignore[arg-type]
        for step in range(1, data.draw(st.integers(2, 4))):
            drawn = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
            for commit in range(data.draw(st.integers(1, 2))):
                items = drawn.choice(130, data.draw(st.integers(1, 20)), replace=False).tolist()
                change = {}
                for item in items:
                    image, text = (v if drawn.random() < 0.6 else None for v in unit(drawn.normal(size=(2, WIDTH))))
                    change[f"item-{item}"] = (image, text)
                model = "m" if drawn.random() < 0.8 else "another"
                store.append("embeddings", rows_of(change, model, 2 * step + commit))
            assert build_item_index(store, Model(), kind)  # type: ignore[arg-type]
            version = store.version("embeddings")
            index, truth = index_of(store), truth_at(store, version)
            assert index.manifest["table_version"] == version
            assert index.manifest["kind"] == kind
            assert sorted(index.ids) == sorted(truth)
            np.testing.assert_allclose(index.vectors(sorted(truth)), [truth[i] for i in sorted(truth)], atol=1e-6)
            assert Snapshot(store).lag() is None
            if kind == "flat":
                assert_answers(index.search, truth, step)
            assert not build_item_index(store, Model(), kind)  # type: ignore[arg-type]


def test_it_says_what_it_did(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    rows = cloud(3, WIDTH, 5)
    change = {
        "item-3": (rows[0], None),
        "new": (None, rows[1]),
        "item-4": (None, None),
        "nan": (rows[2] * np.nan, None),
    }
    store.append("embeddings", rows_of({**change, "item-5": texts(60)["item-5"]}, minute=1))
    assert build_item_index(store, Model())
    assert capsys.readouterr().err.splitlines() == [
        "left out because of another width, NaN or infinity: the vectors of 1 rows",
        "index items: 1 added, 1 replaced, 1 removed; 60 items, flat, exact",
    ]


def test_only_what_was_touched_is_read(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append("embeddings", rows_of({"new": (None, cloud(1, WIDTH)[0])}, minute=1))
    monkeypatch.setattr(item_index, "all_vectors", lambda *_: pytest.fail("all rows were read"))
    monkeypatch.setattr(item_index, "build_from", lambda *_, **__: pytest.fail("built anew"))
    assert build_item_index(store, Model())
    assert "new" in index_of(store)


def built_anew(store: FeatureStore, monkeypatch: pytest.MonkeyPatch, model: Model | None = None, **how) -> bool:
    """Whether the index was built from all rows."""
    seen, real = [], item_index.build_from
    with monkeypatch.context() as patch:
        patch.setattr(item_index, "build_from", lambda *a, **k: seen.append(1) or real(*a, **k))
        assert build_item_index(store, model or Model(), **how)
    return bool(seen)


def test_when_it_is_built_anew(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_at(store, store.version("embeddings"))
    store.append("embeddings", rows_of(texts(14, 3), minute=1))  # 14 of 60
    assert not built_anew(store, monkeypatch)
    store.append("embeddings", rows_of(texts(16, 4), minute=2))
    assert built_anew(store, monkeypatch)
    store.append("embeddings", rows_of({"new": (None, cloud(1, WIDTH)[0])}, minute=3))
    with monkeypatch.context() as patch:  # a log that cannot tell
        patch.setattr(item_index, "touched_items", lambda *_: None)
        assert built_anew(store, monkeypatch)
    store.append("embeddings", rows_of(texts(60), "n"))
    assert built_anew(store, monkeypatch, Model("n"))
    assert built_anew(store, monkeypatch, Model("n", "other weights"))
    assert not built_anew(store, monkeypatch, Model("n", "other weights"), kind="hnsw")  # from the vectors it has
    assert index_of(store).manifest["kind"] == "hnsw"
    assert sorted(index_of(store).ids) == sorted(truth)
    manifest = index_of(store).path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("vector index 2", "vector index 1"))
    assert built_anew(store, monkeypatch, Model("n", "other weights"))
    file = index_of(store).path / "vectors-00000.f32"
    file.write_bytes(file.read_bytes()[:-4])
    assert built_anew(store, monkeypatch, Model("n", "other weights"))
    assert len(index_of(store)) == 60


def test_damage_is_found_and_said(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    file = index_of(store).path / "hashes.u64"
    file.write_bytes(b"x" * file.stat().st_size)
    assert build_item_index(store, Model())
    assert f"building the index anew: vector index {file} is damaged" in capsys.readouterr().err
    assert len(index_of(store)) == 60


def test_a_table_made_again_is_another(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.rmtree(store.folder / "embeddings")
    again = open_store(store.folder, create=True)
    again.append("embeddings", rows_of(texts(60, 9)))  # the same items, the same version
    with pytest.raises(StoreError, match="built from other embeddings, which were deleted and made anew"):
        Snapshot(again).search(vector=cloud(1, WIDTH)[0], k=1)
    assert built_anew(again, monkeypatch)
    assert_answers(lambda v, k: Snapshot(again).search(vector=v, k=k), truth_at(again, again.version("embeddings")))


# --- as of a snapshot ---


@pytest.mark.parametrize("touched", [True, False])
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_answers_are_the_snapshots_whatever_the_index_is_of(
    tmp_path_factory: pytest.TempPathFactory, touched: bool, data: st.DataObject
) -> None:
    store = open_store(tmp_path_factory.mktemp("s") / "store", create=True)
    built_at = data.draw(st.integers(0, 3))
    drawn = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    with pytest.MonkeyPatch.context() as patch:
        if not touched:
            patch.setattr(index_at, "touched_items", lambda *_: None)
        for step in range(4):
            items = drawn.choice(50, 20, replace=False).tolist()
            change = {f"item-{i}": (None, drawn.normal(size=WIDTH) if drawn.random() < 0.7 else None) for i in items}
            store.append("embeddings", rows_of(change, minute=step))
            if step == built_at:
                build_item_index(store, Model())
        index = index_of(store)
        held = dict(zip(index.ids, index.vectors(index.ids), strict=True))
        last = store.version("embeddings")
        first = last - 3
        for version in range(first, last + 1):
            truth = truth_at(store, version)
            snapshot = Snapshot(store, {"embeddings": version})
            assert_answers(lambda v, k, s=snapshot: s.search(vector=v, k=k), truth, version)
            some = sorted(truth)[::3]
            at = IndexAt(store, version, index, "items")
            (found,) = at.search(cloud(1, WIDTH)[0], 5, [*some, "unknown"])
            rows = np.array([truth[i] for i in some]).reshape(-1, WIDTH)
            assert_same(found, exact(rows, some, cloud(1, WIDTH)[0], 5))
            other = {i for i in truth.keys() & held.keys() if not np.allclose(truth[i], held[i], atol=1e-6)}
            told = (len(truth.keys() - held.keys()), len(other), len(held.keys() - truth.keys()))
            lag = snapshot.lag()
            assert told == ((lag.add, lag.replace, lag.delete) if lag else (0, 0, 0))


def test_lag_says_how_many_rows(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    built = store.version("embeddings")
    rows = cloud(3, WIDTH, 4)
    store.append("embeddings", rows_of({"new": (None, rows[0]), "item-1": (rows[1], None)}, minute=1))
    store.append("embeddings", rows_of({"item-2": (None, None), "item-9": (rows[2], None)}, minute=2))
    snapshot = Snapshot(store)
    assert snapshot.lag() == Lag("items", built, built + 2, 1, 2, 1)
    assert str(snapshot.lag()) == (
        f"the index items is of version {built} of the embeddings, the snapshot is of {built + 2}:"
        " 1 to add, 2 to replace, 1 to delete; answers are the snapshot's; `lore embed` brings it up to date"
    )
    before = Snapshot(store, {"embeddings": built})
    build_item_index(store, Model())
    assert str(Snapshot(store, {"embeddings": built}).lag()).endswith(
        "1 to add, 2 to replace, 1 to delete; answers are the snapshot's"
    )
    assert before.lag() is not None
    assert Snapshot(store).lag() is None
    store.append("embeddings", rows_of(texts(9), "another"))  # no row of this model
    assert Snapshot(store).lag() is None
    monkeypatch.setattr(index_at, "_MOST", 2)
    with pytest.raises(StoreError, match="differ in more than 2 rows; run `lore embed`, or search a snapshot nearer"):
        Snapshot(store, {"embeddings": built}).search(vector=rows[0], k=1)


def test_a_snapshot_without_embeddings_finds_nothing(store: FeatureStore) -> None:
    snapshot = Snapshot(store, {})
    assert snapshot.search(vector=cloud(1, WIDTH)[0], k=5) == [[]]
    assert "the snapshot has none: 0 to add, 0 to replace, 60 to delete" in str(snapshot.lag())


def test_sizes_of_memory() -> None:
    assert [parse_memory(t) for t in ("8GB", "500 mb", "2000000", "1.5T", "3k")] == [
        8 * 10**9, 500 * 10**6, 2_000_000, 1_500 * 10**9, 3_000,
    ]  # fmt: skip
    for bad in ("", "8X", "-1GB", "0", "GB", "nan"):
        with pytest.raises(InputError, match="no amount of memory: write one such as 8GB"):
            parse_memory(bad)


def test_the_command_refuses_an_unknown_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jobs import embed_items
    from lore_mm.console import command_app, run

    for flags, words in (
        (["--index-kind", "hnws"], "did you mean 'hnsw'"),
        (["--index-memory", "x"], "no amount of memory"),
    ):
        with pytest.raises(SystemExit) as done:
            run(command_app(embed_items.main, "lore embed"), ["--store", str(tmp_path), *flags])
        assert done.value.code == 2
        assert words in capsys.readouterr().err
