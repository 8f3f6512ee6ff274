from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError, StoreError
from stores import vector_files, vectors
from stores.vectors import VectorIndex, build_index, choose_kind, open_index

MANIFEST = {"model": "scripted:0", "model_sha": "abc", "table_version": 3}


def cloud(n: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def names(n: int) -> list[str]:
    return [f"item-{i}" for i in range(n)]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)


def exact(stored: np.ndarray, ids: list[str], query: np.ndarray, k: int, allowed: set[str] | None = None):
    """The slow way, in double precision: every allowed row compared."""
    keep = [i for i, name in enumerate(ids) if allowed is None or name in allowed]
    similarity = unit(stored)[keep] @ unit(query[None])[0]
    order = np.argsort(-similarity, kind="stable")[:k]
    return [(ids[keep[i]], similarity[i]) for i in order]


def assert_same(found: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> None:
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert [s for _, s in found] == pytest.approx([s for _, s in wanted], abs=1e-5)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_every_kind_gives_what_exact_search_gives(tmp_path: Path, kind: vectors.Kind) -> None:
    stored, queries = cloud(600), cloud(20, seed=1) * 7.5  # length is no matter
    index = build_index(names(600), stored, tmp_path / "v", manifest=MANIFEST, kind=kind)
    found = index.search(queries, 10)
    wanted = [exact(stored, names(600), q, 10) for q in queries]
    if kind == "flat":
        for f, w in zip(found, wanted, strict=True):
            assert_same(f, w)
    hits = sum(len({i for i, _ in f} & {i for i, _ in w}) for f, w in zip(found, wanted, strict=True))
    assert hits / (20 * 10) >= 0.95
    assert index.manifest["recall_at_10"] >= 0.95
    truth = dict(zip(names(600), unit(stored), strict=True))
    for query, row in zip(unit(queries), found, strict=True):
        assert [s for _, s in row] == sorted((s for _, s in row), reverse=True)
        for name, similarity in row:  # what is returned is the similarity, whatever the kind
            assert similarity == pytest.approx(truth[name] @ query, abs=1e-5)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("selectivity", [0.5, 0.01, 0.0001])
@pytest.mark.parametrize("gather", [20_000, 0])
def test_filters_never_cost_results(
    tmp_path: Path, kind: vectors.Kind, selectivity: float, gather: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 10_000 if kind != "hnsw" else 2_000
    monkeypatch.setattr(vectors, "_GATHER_UP_TO", gather)
    stored, queries = cloud(n, 8), cloud(5, 8, seed=1)
    index = build_index(names(n), stored, tmp_path / "v", manifest=MANIFEST, kind=kind)
    allowed = set(np.random.default_rng(2).choice(names(n), max(1, int(n * selectivity)), replace=False).tolist())
    found = index.search(queries, 10, allowed_ids=[*allowed, "unknown"])
    for query, row in zip(queries, found, strict=True):
        assert len(row) == min(10, len(allowed))
        assert {name for name, _ in row} <= allowed
        if kind == "flat" or len(allowed) <= gather:
            assert_same(row, exact(stored, names(n), query, 10, allowed))
    assert index.search(queries, 3, allowed_ids=[]) == [[]] * 5
    assert index.search(queries, 3, allowed_ids=["unknown"]) == [[]] * 5


def test_hnsw_that_loses_its_way_under_a_filter_still_returns_k(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_GATHER_UP_TO", 0)
    stored = cloud(2_000, 8)
    index = build_index(names(2_000), stored, tmp_path / "v", manifest=MANIFEST, kind="hnsw")
    index.manifest["search"] = 1
    far = [name for name, _ in exact(stored, names(2_000), stored[0], 2_000)[-30:]]
    (found,) = index.search(stored[0], 20, allowed_ids=far)
    assert_same(found, exact(stored, names(2_000), stored[0], 20, set(far)))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_flat_search_equals_numpy_for_any_size(n: int, k: int, seed: int) -> None:
    stored, query = cloud(n, 5, seed), cloud(1, 5, seed + 1)[0]
    index = VectorIndex._made(names(n), unit(stored).astype(np.float32), "flat", MANIFEST)
    assert_same(index.search(query, k)[0], exact(stored, names(n), query, k))


def test_ties_come_in_the_order_of_adding(tmp_path: Path) -> None:
    index = build_index(["b", "a", "c"], [[1, 0], [2, 0], [0, 1]], tmp_path / "v", manifest=MANIFEST)
    assert index.search([3, 0], 3) == [[("b", 1.0), ("a", 1.0), ("c", 0.0)]]


def test_kind_follows_size_and_budget() -> None:
    assert choose_kind(49_999, 256) == "flat"
    need = 100_000 * (4 * 256 + 2 * 4 * 32)  # vectors and links of 32 neighbours, both ways
    assert choose_kind(100_000, 256, memory_budget_bytes=need) == "hnsw"
    assert choose_kind(100_000, 256, memory_budget_bytes=need - 1) == "ivf"
    assert choose_kind(5_000_000, 256, memory_budget_bytes=10**15) == "ivf"


def test_manifest_says_what_it_is(tmp_path: Path) -> None:
    index = build_index(names(3), cloud(3), tmp_path / "v", manifest=MANIFEST)
    version = (tmp_path / "v" / "current").read_text().strip()
    on_disk = json.loads((tmp_path / "v" / version / "manifest.json").read_text())
    assert on_disk == index.manifest
    wanted = MANIFEST | {"metric": "cosine similarity", "width": 16, "n": 3, "kind": "flat", "recall_at_10": 1.0}
    assert {key: on_disk[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([np.nan] * 16, "vector in row 1 (id 'item-1') holds NaN or infinity"),
        ([np.inf] + [0.0] * 15, "vector in row 1 (id 'item-1') holds NaN or infinity"),
        ([0.0] * 16, "vector in row 1 (id 'item-1') is all zeros"),
    ],
)
def test_vectors_without_direction_are_refused_by_row(tmp_path: Path, row: list[float], words: str) -> None:
    stored = cloud(3)
    stored[1] = row
    with pytest.raises(InputError) as caught:
        build_index(names(3), stored, tmp_path / "v", manifest=MANIFEST)
    assert str(caught.value) == words
    assert not (tmp_path / "v").exists()
    index = build_index(names(3), cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pytest.raises(InputError, match="vector in row 1 "):
        index.search(stored, 1)
    with pytest.raises(InputError, match="vector in row 1 "):
        index.add(["x", "item-1", "z"], stored)
    assert len(index) == 3


def test_wrong_width_repeated_ids_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    index = build_index(names(3), cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pytest.raises(InputError, match=r"shape \(1, 15\), the index takes \(n, 16\)"):
        index.search(cloud(1, 15), 1)
    with pytest.raises(InputError, match="id 'a' comes twice, the second time in row 2"):
        build_index(["a", "b", "a"], cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pytest.raises(InputError, match="2 ids for 3 vectors"):
        build_index(["a", "b"], cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pytest.raises(InputError, match="k is 0"):
        index.search(cloud(1), 0)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    index = build_index([], np.zeros((0, 16), np.float32), tmp_path / "v", manifest=MANIFEST)
    assert len(index) == 0
    assert index.search(cloud(2), 5) == [[], []]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_add_replace_remove_save(tmp_path: Path, kind: vectors.Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "choose_kind", lambda n, width, budget=None: kind)
    stored, extra = cloud(400, 8), cloud(3, 8, seed=9)
    index = build_index(names(400), stored, tmp_path / "v", manifest=MANIFEST, kind=kind)
    index.add(["new", "item-5", "newer"], extra)
    assert index.remove(["item-7", "unknown"]) == 1
    ids = [n for n in names(400) if n not in ("item-5", "item-7")] + ["new", "item-5", "newer"]
    rows = np.concatenate([np.delete(stored, [5, 7], axis=0), extra])
    saved = index.save(tmp_path / "v", table_version=4)
    for each in (index, saved, open_index(tmp_path / "v")):
        assert each.ids == ids
        assert len(each) == 401
        for query in (extra[1], stored[5], stored[7]):
            (found,) = each.search(query, 401, allowed_ids=ids)
            assert_same(found, exact(rows, ids, query, 401))
        assert each.search(extra[1], 1)[0][0][0] == "item-5"
        assert "item-7" not in {name for name, _ in each.search(stored[7], 50)[0]}
    assert saved.manifest["table_version"] == 4
    assert saved.manifest["n"] == 401
    saved.remove(ids[:200])  # half of it: built anew
    rebuilt = saved.save(tmp_path / "v")
    assert rebuilt._ids == ids[200:]
    assert_same(rebuilt.search(rows[300], 1)[0], [(ids[300], 1.0)])


def test_a_reader_keeps_its_index_while_others_are_built(tmp_path: Path) -> None:
    first = build_index(["old"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    for i in range(4):
        build_index([f"new-{i}"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    assert first.search([1, 0], 1) == [[("old", 1.0)]]
    assert open_index(tmp_path / "v").search([1, 0], 1) == [[("new-3", 1.0)]]
    assert len([p for p in (tmp_path / "v").iterdir() if p.is_dir()]) == 2  # the current one and the one before


@pytest.mark.parametrize("step", ["write_version", "settle", "publish", "rename", "replace"])
def test_sigkill_while_building_leaves_the_old_index(tmp_path: Path, step: str) -> None:
    build_index(["old"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    program = f"""
import os, signal, sys
from pathlib import Path
from stores import vectors, vector_files
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
step = {step!r}
if step == "rename": Path.rename = die
elif step == "replace": os.replace = die
else: setattr(vectors, step, die)
vectors.build_index(["new"], [[1.0, 0.0]], {str(tmp_path / "v")!r}, manifest={{}})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    assert open_index(tmp_path / "v").search([1, 0], 2) == [[("old", 1.0)]]
    build_index(["newest"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    assert open_index(tmp_path / "v").search([1, 0], 2) == [[("newest", 1.0)]]


def test_drafts_of_dead_builds_are_cleared_a_day_later(tmp_path: Path) -> None:
    old, young = tmp_path / "v" / "tmp-old", tmp_path / "v" / "tmp-young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (0, 0))
    build_index(["a"], [[1.0]], tmp_path / "v", manifest=MANIFEST)
    assert (old.exists(), young.exists()) == (False, True)


def refused(folder: Path, **wanted: str) -> str:
    with pytest.raises(StoreError) as caught:
        open_index(folder, **wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_damaged_and_foreign_indexes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert refused(folder) == f"no vector index at {folder}: make one with `lore embed`"
    build_index(names(50), cloud(50), folder, manifest=MANIFEST)
    assert "model 'scripted:0', not 'open_clip:x'" in refused(folder, model="open_clip:x")
    assert "model_sha 'abc', not 'def'" in refused(folder, model="scripted:0", model_sha="def")
    assert len(open_index(folder, model="scripted:0", model_sha="abc")) == 50
    version = folder / (folder / "current").read_text().strip()
    for name in ("index.faiss", "ids.arrow"):
        whole = (version / name).read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for bad in (b"", whole[:-1], bytes(flipped)):
            (version / name).write_bytes(bad)
            assert f"{name} is damaged" in refused(folder)
        (version / name).unlink()
        assert f"{name} is missing" in refused(folder)
        (version / name).write_bytes(whole)
    manifest = (version / "manifest.json").read_text()
    for bad_text in (
        "",
        "[]",
        "{}",
        manifest.replace("cosine similarity", "l2"),
        manifest.replace("index 1", "index 2"),
    ):
        (version / "manifest.json").write_text(bad_text)
        assert "is not the manifest of a vector index of this version" in refused(folder)
    (version / "manifest.json").write_text(manifest.replace('"width": 16', '"width": 17'))
    assert "do not belong together" in refused(folder)
    (version / "manifest.json").write_text(manifest)
    assert len(open_index(folder)) == 50
    for pointer in ("../../etc", "", "v-2"):
        (folder / "current").write_text(pointer)
        assert "does not name a version" in refused(folder)


def test_files_that_faiss_or_arrow_cannot_read_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    build_index(names(5), cloud(5), folder, manifest=MANIFEST)
    version = folder / (folder / "current").read_text().strip()
    manifest = json.loads((version / "manifest.json").read_text())
    for name in ("index.faiss", "ids.arrow"):
        whole = (version / name).read_bytes()
        (version / name).write_bytes(b"not what it says")
        bad = {"bytes": 16, "sha256": vector_files.sha_of_file(version / name)}
        changed = manifest | {"files": manifest["files"] | {name: bad}}
        (version / "manifest.json").write_text(json.dumps(changed))
        assert "cannot be read" in refused(folder)
        (version / name).write_bytes(whole)


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the vector index"):
        build_index(["a"], [[1.0]], tmp_path / "file" / "v", manifest=MANIFEST)


def test_vectors_by_id(tmp_path: Path) -> None:
    stored = cloud(60)
    for kind in ("flat", "hnsw", "ivf"):
        index = build_index(names(60), stored, tmp_path / kind, manifest=MANIFEST, kind=kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(index.vectors(["item-7", "item-2"]), unit(stored)[[7, 2]], atol=1e-6)
        with pytest.raises(InputError, match="no vector for 'nothing'"):
            index.vectors(["nothing"])
        assert ("item-7" in index, "nothing" in index) == (True, False)


@pytest.mark.gpu
def test_gpu_search_equals_cpu_search(tmp_path: Path) -> None:
    faiss = vector_files.load_faiss()
    if not faiss.get_num_gpus():
        pytest.skip("FAISS sees no GPU")
    stored, queries = cloud(5_000, 32), cloud(20, 32, seed=1)
    index = build_index(names(5_000), stored, tmp_path / "v", manifest=MANIFEST)
    assert index._gpu() is not None
    for query, row in zip(queries, index.search(queries, 10), strict=True):
        assert_same(row, exact(stored, names(5_000), query, 10))


def test_ids_file_is_plain_arrow(tmp_path: Path) -> None:
    build_index(["é", "日本", "a b"], cloud(3), tmp_path / "v", manifest=MANIFEST)
    version = tmp_path / "v" / (tmp_path / "v" / "current").read_text().strip()
    with pa.memory_map(str(version / "ids.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().column("item_id").to_pylist() == ["é", "日本", "a b"]
