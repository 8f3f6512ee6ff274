"""Vector indexes of each kind: what exact search gives, filters that cost nothing, bad input, damage."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError, StoreError
from lore_mm.fingerprint import sha_of
from stores import vector_build, vector_files, vector_ids, vector_kinds, vector_rows
from stores.vector_build import build_from, build_index
from stores.vector_kinds import Kind, choose_kind, code_bytes
from stores.vectors import open_index
from tests.vector_cases import KINDS, MANIFEST, assert_same, cloud, exact, names, unit


def version_of(folder: Path) -> Path:
    return folder / (folder / "current").read_text().strip()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_what_exact_search_gives(tmp_path: Path, kind: Kind) -> None:
    stored, queries = cloud(1_500), cloud(20, seed=1) * 7.5  # length is no matter
    index = build_index(names(1_500), stored, tmp_path / "v", manifest=MANIFEST, kind=kind)
    found = index.search(queries, 10)
    wanted = [exact(stored, names(1_500), q, 10) for q in queries]
    if kind == "flat":
        for f, w in zip(found, wanted, strict=True):
            assert_same(f, w)
    hits = sum(len({i for i, _ in f} & {i for i, _ in w}) for f, w in zip(found, wanted, strict=True))
    assert hits / (20 * 10) >= 0.9
    assert index.manifest["recall_at_10"] >= 0.95
    assert set(index.manifest["search"]) == {"flat": set(), "hnsw": {"ef"}, "ivfpq": {"nprobe", "rerank"}}[kind]
    truth = dict(zip(names(1_500), unit(stored), strict=True))
    for query, row in zip(unit(queries), found, strict=True):
        assert [s for _, s in row] == sorted((s for _, s in row), reverse=True)
        for name, similarity in row:  # what is returned is the similarity of the vectors, not of their codes
            assert similarity == pytest.approx(truth[name] @ query, abs=1e-5)


@pytest.fixture(scope="module", params=KINDS)
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """10,000 vectors in several blocks; a filter of one in ten thousand leaves one."""
    stored = cloud(10_000, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_build, "BLOCK_ROWS", 4_096)
        folder = tmp_path_factory.mktemp(request.param)
        yield build_index(names(10_000), stored, folder / "v", manifest=MANIFEST, kind=request.param), stored


@settings(deadline=None, max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize("selectivity", [0.5, 0.01, 0.0001])
@pytest.mark.parametrize("gather", [20_000, 0])
def test_filters_never_cost_results(large, selectivity: float, gather: int, data: st.DataObject) -> None:
    index, stored = large
    seed, k = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 40))
    chosen = np.random.default_rng(seed)
    if data.draw(st.booleans()):  # far from the query, all in one corner: where a graph loses its way
        query = stored[chosen.integers(len(stored))]
        allowed = set(np.array(names(10_000))[np.argsort(stored @ query)[: int(10_000 * selectivity)]].tolist())
    else:
        query = cloud(1, 8, seed)[0]
        allowed = set(chosen.choice(names(10_000), int(10_000 * selectivity), replace=False).tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_rows, "GATHER_UP_TO", gather)
        (found,) = index.search(query, k, allowed_ids=[*allowed, "unknown"])
        assert index.search([query] * 3, k, allowed_ids=["unknown"]) == [[]] * 3
    wanted = exact(stored, names(10_000), query, k, allowed)
    assert len({name for name, _ in found}) == len(found) == len(wanted) == min(k, len(allowed))
    assert {name for name, _ in found} <= allowed
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
    if gather or index.manifest["kind"] == "flat" or k * 20 > len(allowed):
        assert [s for _, s in found] == pytest.approx([s for _, s in wanted], abs=1e-5)
    else:  # near, but none is better than the best
        assert max(s for _, s in found) <= wanted[0][1] + 1e-5


def test_hnsw_that_loses_its_way_under_a_filter_still_returns_k(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_rows, "GATHER_UP_TO", 0)
    stored = cloud(2_000, 8)
    index = build_index(names(2_000), stored, tmp_path / "v", manifest=MANIFEST, kind="hnsw")
    monkeypatch.setattr(
        vector_kinds, "near", lambda _, __, ___, queries, k, *____: (np.full((1, k), -1.0), np.full((1, k), -1))
    )
    far = [name for name, _ in exact(stored, names(2_000), stored[0], 2_000)[-600:]]
    (found,) = index.search(stored[0], 20, allowed_ids=far)
    assert_same(found, exact(stored, names(2_000), stored[0], 20, set(far)))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_flat_search_equals_numpy_for_any_size(
    tmp_path_factory: pytest.TempPathFactory, n: int, k: int, seed: int
) -> None:
    stored, query = cloud(n, 5, seed), cloud(1, 5, seed + 1)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_build, "BLOCK_ROWS", 8)
        index = build_index(names(n), stored, tmp_path_factory.mktemp("flat") / "v", manifest=MANIFEST)
    assert_same(index.search(query, k)[0], exact(stored, names(n), query, k))
    allowed = names(n)[::2]
    assert_same(index.search(query, k, allowed_ids=allowed)[0], exact(stored, names(n), query, k, allowed))


def test_ties_come_in_the_order_of_adding(tmp_path: Path) -> None:
    index = build_index(["b", "a", "c"], [[1, 0], [2, 0], [0, 1]], tmp_path / "v", manifest=MANIFEST)
    assert index.search([3, 0], 3) == [[("b", 1.0), ("a", 1.0), ("c", 0.0)]]


@pytest.mark.parametrize("kind", KINDS)
def test_many_equal_vectors(tmp_path: Path, kind: Kind) -> None:
    """A shop of one picture: all of them are the nearest."""
    index = build_index(names(2_000), np.ones((2_000, 8)), tmp_path / "v", manifest=MANIFEST, kind=kind)
    (found,) = index.search(np.ones(8), 10)
    assert len({i for i, _ in found}) == 10
    assert [s for _, s in found] == pytest.approx([1.0] * 10)
    assert index.manifest["recall_at_10"] == 1.0


def test_kind_follows_size_and_budget() -> None:
    assert choose_kind(49_999, 256) == "flat"
    need = 100_000 * (4 * 256 + 2 * 4 * 32 + 8)  # vectors and links of 32 neighbours, both ways
    assert choose_kind(100_000, 256, memory_budget_bytes=need) == "hnsw"
    assert choose_kind(100_000, 256, memory_budget_bytes=need - 1) == "ivfpq"
    assert choose_kind(5_000_000, 256, memory_budget_bytes=10**15) == "ivfpq"


@pytest.mark.parametrize(
    ("n", "width", "budget", "code"),
    [
        (10**7, 512, 10**12, 128),
        (5 * 10**7, 512, 5 * 10**7 * 72, 64),
        (5 * 10**7, 512, 5 * 10**7 * 72 - 1, 32),
        (10**7, 512, 1, 8),  # nothing fits: the least that tells rows apart
        (10**7, 64, 10**12, 16),
        (10**7, 6, 10**12, 6),
        (10**7, 509, 10**12, 509),  # a prime: a byte for each number
        (10**7, 1, 10**12, 1),
    ],
)
def test_a_code_divides_the_width_and_fits_the_budget(n: int, width: int, budget: int, code: int) -> None:
    assert code_bytes(n, width, budget) == code


def test_an_index_that_cannot_reach_the_goal_says_what_it_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_kinds, "widths", lambda *_: [{"nprobe": 1, "rerank": 1}])
    index = build_index(names(3_000), cloud(3_000, 32), tmp_path / "v", manifest=MANIFEST, kind="ivfpq")
    assert 0 < index.manifest["recall_at_10"] < 0.5


def test_the_recall_is_what_searches_find(tmp_path: Path) -> None:
    """Measured again from outside, on the stored vectors themselves, each asked for its nearest others."""
    stored = cloud(4_000, 24)
    index = build_index(names(4_000), stored, tmp_path / "v", manifest=MANIFEST, kind="ivfpq")
    similarity = unit(stored) @ unit(stored).T
    np.fill_diagonal(similarity, -2)
    hits = []
    for row, found in enumerate(index.search(stored[:300], 11)):
        truth = {f"item-{i}" for i in np.argsort(-similarity[row])[:10]}
        hits.append(len(truth & {i for i, _ in found}) / 10)
    assert np.mean(hits) == pytest.approx(index.manifest["recall_at_10"], abs=0.05)
    assert index.manifest["recall_at_10"] >= 0.95


def test_vectors_may_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_build, "BLOCK_ROWS", 64)
    stored = cloud(300)
    cuts = [0, 1, 63, 64, 200, 200, 300]
    batches = [(names(300)[a:b], stored[a:b]) for a, b in pairwise(cuts)]
    index = build_from(batches, tmp_path / "v", width=16, manifest=MANIFEST)
    assert index.ids == names(300)
    np.testing.assert_allclose(index.vectors(names(300)), unit(stored), atol=1e-6)
    assert len(list(version_of(tmp_path / "v").glob("vectors-*.f32"))) == 5


def test_manifest_says_what_it_is(tmp_path: Path) -> None:
    index = build_index(names(3), cloud(3), tmp_path / "v", manifest=MANIFEST)
    on_disk = json.loads((version_of(tmp_path / "v") / "manifest.json").read_text())
    assert on_disk.pop("sha256") == sha_of(index.manifest)
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


def test_wrong_width_repeated_ids_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    index = build_index(names(3), cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pytest.raises(InputError, match=r"shape \(1, 15\), the index takes \(n, 16\)"):
        index.search(cloud(1, 15), 1)
    with pytest.raises(InputError, match=r"shape \(1, 1, 16\)"):
        index.search(cloud(1)[None], 1)
    with pytest.raises(InputError, match="a query must be 16 numbers"):
        index.search(["red"], 1)
    with pytest.raises(InputError, match="id 'a' comes twice, the second time in row 2"):
        build_index(["a", "b", "a"], cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pytest.raises(InputError, match="2 ids for 3 vectors"):
        build_index(["a", "b"], cloud(3), tmp_path / "v", manifest=MANIFEST)
    for k in (0, -3, 1.5, None):
        with pytest.raises(InputError, match=f"k is {k}, must be at least 1"):
            index.search(cloud(1), k)  # type: ignore[arg-type]
    assert len(open_index(tmp_path / "v")) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_k_may_be_larger_than_the_index(tmp_path: Path, kind: Kind) -> None:
    for n in (1, 700):
        stored = cloud(n)
        index = build_index(names(n), stored, tmp_path / str(n), manifest=MANIFEST, kind=kind)
        assert_same(index.search(stored[0], 10**18)[0], exact(stored, names(n), stored[0], n))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_index_finds_nothing(tmp_path: Path, kind: Kind) -> None:
    index = build_index([], np.zeros((0, 16), np.float32), tmp_path / "v", manifest=MANIFEST, kind=kind)
    assert len(index) == 0
    assert index.search(cloud(2), 5) == [[], []]
    assert index.search(cloud(2), 5, allowed_ids=["a"]) == [[], []]
    assert index.search(np.zeros((0, 16)), 5) == []
    assert (index.ids, "a" in index) == ([], False)


@settings(deadline=None, max_examples=30)
@example(["?", "\ufffd"], [])  # what an id that no table can hold must not be taken for
@given(st.lists(st.text(max_size=6), unique=True, max_size=60), st.lists(st.text(max_size=6), max_size=20))
def test_ids_are_found_by_any_text(tmp_path_factory: pytest.TempPathFactory, ids: list[str], others: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_build, "BLOCK_ROWS", 8)
        folder = tmp_path_factory.mktemp("ids") / "v"
        index = build_index(ids, cloud(len(ids), 3), folder, manifest=MANIFEST)
    asked = [*others, *ids]
    found = index.places(vector_ids.as_ids(asked))
    assert found.tolist() == [ids.index(i) if i in ids else -1 for i in asked]
    assert index.ids == ids
    assert "\udcff" not in index
    with pytest.raises(InputError, match="an id is null, or no text"):
        build_index(["\udcff"], cloud(1, 3), folder.with_name("other"), manifest=MANIFEST)
    with pytest.raises(InputError, match="ids are texts"):
        index.search(cloud(1, 3), 1, allowed_ids=[1, 2])  # type: ignore[list-item]


def test_ids_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_ids, "_hashes", lambda ids: np.full(len(ids), 7, np.uint64))
    index = build_index(names(20), cloud(20), tmp_path / "v", manifest=MANIFEST)
    assert index.places(pa.array(["item-19", "item-3", "nothing", "item-0"])).tolist() == [19, 3, -1, 0]


def test_another_hash_than_the_builders_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(names(20), cloud(20), tmp_path / "v", manifest=MANIFEST)
    real = vector_ids._hashes
    monkeypatch.setattr(vector_ids, "_hashes", lambda ids: real(ids) ^ np.uint64(12345))
    index = open_index(tmp_path / "v")
    assert index.places(pa.array(["item-19", "nothing", "item-0"])).tolist() == [19, -1, 0]


def refused(folder: Path, verify: bool = False, **wanted: str) -> str:
    with pytest.raises(StoreError) as caught:
        open_index(folder, verify=verify, **wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_damaged_files_are_refused(tmp_path: Path, kind: Kind) -> None:
    folder = tmp_path / "v"
    assert refused(folder) == f"no vector index at {folder}: make one with `lore embed`"
    build_index(names(300), cloud(300), folder, manifest=MANIFEST, kind=kind)
    version = version_of(folder)
    files = sorted(p.name for p in version.iterdir() if p.name not in ("manifest.json", "checked.json"))
    assert len(files) == (5 if kind == "flat" else 7)
    for name in files:
        whole = (version / name).read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for bad in (b"", whole[:-1], bytes(flipped), whole + b"x"):
            (version / name).write_bytes(bad)
            assert f"{name} is damaged; build it again with `lore embed`" in refused(folder)
        (version / name).unlink()
        assert f"{name} is missing" in refused(folder)
        (version / name).write_bytes(whole)
    assert len(open_index(folder)) == 300


def test_damage_that_keeps_size_and_time_is_found_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    build_index(names(300), cloud(300), folder, manifest=MANIFEST)
    file = version_of(folder) / "vectors-00000.f32"
    times = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"\x00")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(open_index(folder)) == 300
    assert "vectors-00000.f32 is damaged" in refused(folder, verify=True)


def test_whole_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "v"
    build_index(names(300), cloud(300), folder, manifest=MANIFEST)
    read: list[str] = []
    sha_of_file = vector_files.sha_of_file
    monkeypatch.setattr(vector_files, "sha_of_file", lambda file: read.append(file.name) or sha_of_file(file))
    open_index(folder)
    assert read == []
    version = version_of(folder)
    (version / "ids-00000.arrow").write_bytes((version / "ids-00000.arrow").read_bytes())  # as a copy would
    open_index(folder)
    assert read == ["ids-00000.arrow"]
    open_index(folder)
    assert read == ["ids-00000.arrow"]
    for receipt in ("", "[]", '{"live.bits": 3}'):
        (version / "checked.json").write_text(receipt)
        assert len(open_index(folder)) == 300
    open_index(folder, verify=True)
    assert len(read) == 1 + 3 * 5 + 5


def test_foreign_indexes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    build_index(names(50), cloud(50), folder, manifest=MANIFEST)
    assert "model 'scripted:0', not 'open_clip:x'" in refused(folder, model="open_clip:x")
    assert "model_sha 'abc', not 'def'" in refused(folder, model="scripted:0", model_sha="def")
    assert len(open_index(folder, model="scripted:0", model_sha="abc")) == 50
    manifest = version_of(folder) / "manifest.json"
    text = manifest.read_text()
    told = json.loads(text)
    for bad, words in (
        ("", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "is not the manifest of a vector index"),
        (text.replace("cosine similarity", "l2"), "is not the manifest of a vector index"),
        (text.replace("index 2", "index 1"), "of another version of lore-mm; `lore embed` builds it anew"),
        (text.replace('"n": 50', '"n": 51'), "is damaged"),
        (json.dumps({**told, "sha256": None}), "is damaged"),
    ):
        manifest.write_text(bad)
        assert words in refused(folder)
    del told["sha256"]
    for key, value in (("width", 8), ("rows", 40), ("n", 49)):
        other = {**told, key: value}
        manifest.write_text(json.dumps({**other, "sha256": sha_of(other)}))
        assert "cannot be read: its files do not belong together" in refused(folder)
    manifest.write_text(text)
    assert len(open_index(folder)) == 50
    for pointer in ("../../etc", "", "v-2"):
        (folder / "current").write_text(pointer)
        assert "does not name a version" in refused(folder)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_files_that_faiss_or_arrow_cannot_read_are_refused(tmp_path: Path, kind: Kind) -> None:
    folder = tmp_path / "v"
    build_index(names(50), cloud(50), folder, manifest=MANIFEST, kind=kind)
    version = version_of(folder)
    manifest = json.loads((version / "manifest.json").read_text())
    del manifest["sha256"]
    for name in ("index.faiss", "ids-00000.arrow"):
        whole = (version / name).read_bytes()
        (version / name).write_bytes(b"not what it says")
        bad = {"bytes": 16, "sha256": vector_files.sha_of_file(version / name)}
        changed = manifest | {"files": manifest["files"] | {name: bad}}
        (version / "manifest.json").write_text(json.dumps({**changed, "sha256": sha_of(changed)}))
        assert "cannot be read" in refused(folder)
        (version / name).write_bytes(whole)


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the vector index"):
        build_index(["a"], [[1.0]], tmp_path / "file" / "v", manifest=MANIFEST)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_by_id(tmp_path: Path, kind: Kind) -> None:
    stored = cloud(60)
    index = build_index(names(60), stored, tmp_path / kind, manifest=MANIFEST, kind=kind)
    np.testing.assert_allclose(index.vectors(["item-7", "item-2"]), unit(stored)[[7, 2]], atol=1e-6)
    with pytest.raises(InputError, match="no vector for 'nothing'"):
        index.vectors(["item-1", "nothing"])
    assert ("item-7" in index, "nothing" in index) == (True, False)


@pytest.mark.gpu
def test_gpu_search_equals_cpu_search(tmp_path: Path) -> None:
    faiss = vector_files.load_faiss()
    if not getattr(faiss, "get_num_gpus", int)():
        pytest.skip("FAISS sees no GPU")
    stored, queries = cloud(5_000, 32), cloud(20, 32, seed=1)
    index = build_index(names(5_000), stored, tmp_path / "v", manifest=MANIFEST, kind="ivfpq")
    found = index.search(queries, 10)
    assert index._gpu is not None
    hits = [
        len({i for i, _ in row} & {i for i, _ in exact(stored, names(5_000), query, 10)}) / 10
        for query, row in zip(queries, found, strict=True)
    ]
    assert np.mean(hits) >= 0.9


def test_a_gpu_is_asked_and_what_it_refuses_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a double of the three functions of FAISS that a GPU comes in by."""
    faiss, sent = vector_files.load_faiss(), []

    def to_gpu(_: object, device: int, index: object) -> object:
        sent.append(device)
        return faiss.clone_index(index)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", faiss.clone_index, raising=False)
    stored = cloud(1_000)
    index = build_index(names(1_000), stored, tmp_path / "v", manifest=MANIFEST, kind="ivfpq")
    wanted = index.search(stored[:5], 3)
    assert index.search(stored[:5], 3) == wanted
    assert sent == [0, 0]  # to build, and once to search

    def refuses(*_: object) -> None:
        raise RuntimeError("Error: 'bytes <= available'")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refuses)
    assert open_index(tmp_path / "v").search(stored[:5], 3) == wanted
    build_index(names(1_000), stored, tmp_path / "w", manifest=MANIFEST, kind="ivfpq")


def test_ids_file_is_plain_arrow(tmp_path: Path) -> None:
    build_index(["é", "日本", "a b"], cloud(3), tmp_path / "v", manifest=MANIFEST)
    with pa.memory_map(str(version_of(tmp_path / "v") / "ids-00000.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().column("item_id").to_pylist() == ["é", "日本", "a b"]
