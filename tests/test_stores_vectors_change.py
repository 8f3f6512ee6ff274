"""A changed index equals one built from scratch, whatever the change; a writer that dies leaves the one before."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError
from stores import vector_build, vector_recall
from stores.vector_build import build_index, update_index
from stores.vector_kinds import Kind
from stores.vector_rows import Rows
from stores.vectors import open_index
from tests.vector_cases import KINDS, MANIFEST, assert_same, cloud, exact, names, unit

WIDTH = 8


def truth_of(index, content: dict[str, np.ndarray], seed: int) -> None:
    """An index holds just these ids and vectors, and answers for them."""
    ids = sorted(content)
    assert sorted(index.ids) == ids
    assert len(index) == len(ids)
    if not ids:
        assert index.search(cloud(1, WIDTH), 3) == [[]]
        return
    rows = np.array([content[i] for i in ids])
    np.testing.assert_allclose(index.vectors(ids), unit(rows), atol=1e-6)
    query = cloud(1, WIDTH, seed)[0]
    for k, allowed in ((5, ids), (len(ids), None), (3, ids[::3])):
        assert_same(index.search(query, k, allowed_ids=allowed)[0], exact(rows, ids, query, k, allowed))
    (found,) = index.search(query, 5)
    assert len(found) == min(5, len(ids))
    if index.manifest["kind"] == "flat":
        assert_same(found, exact(rows, ids, query, 5))


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_any_changes_give_what_a_build_gives(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("change") / "v"
    drawn = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_build, "BLOCK_ROWS", 32)
        content = dict(zip(names(100), cloud(100, WIDTH, 1), strict=True))
        index = build_index(list(content), np.array(list(content.values())), folder, manifest=MANIFEST, kind=kind)
        for step in range(data.draw(st.integers(1, 4))):
            pool = names(160)
            put = drawn.choice(pool, data.draw(st.integers(0, 30)), replace=False).tolist()
            gone = drawn.choice(pool, data.draw(st.integers(0, 60)), replace=False).tolist()
            given_ = {i: content[i] if i in content and drawn.random() < 0.3 else drawn.normal(size=WIDTH) for i in put}
            batches = [(put[:7], [given_[i] for i in put[:7]]), (put[7:], [given_[i] for i in put[7:]])]
            other = {i for i in put if i not in content or not np.array_equal(content[i], given_[i])}
            removed = {i for i in gone if i in content and i not in given_}
            done = update_index(index, batches, [*gone, *put], manifest={"step": step}, kind=kind)
            assert done.removed == len(removed)
            assert (done.added, done.replaced) == (len(other - content.keys()), len(other & content.keys()))
            content = {i: v for i, v in content.items() if i not in removed} | given_
            index = done.index
            assert index.manifest["step"] == step
            assert index.manifest["recall_at_10"] >= 0.8
            truth_of(index, content, step)
        again = open_index(folder, verify=True)
        truth_of(again, content, 99)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_change_shares_what_stays(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_build, "BLOCK_ROWS", 64)
    stored = cloud(300, WIDTH)
    index = build_index(names(300), stored, tmp_path / "v", manifest=MANIFEST, kind=kind)
    if kind != "flat":
        monkeypatch.setattr("stores.vector_kinds.make", lambda *_: pytest.fail("built anew"))
    done = update_index(index, [(["item-3", "new"], cloud(2, WIDTH, 9))], ["item-5"], manifest={}, kind=kind)
    same = {p.name for p in done.index.path.glob("*-0*") if (index.path / p.name).samefile(p)} if kind != "flat" else ()
    if kind != "flat":
        assert same == {
            f"{what}-{n:05}.{end}" for what, end in (("vectors", "f32"), ("ids", "arrow")) for n in range(4)
        }
        assert done.index.manifest["rows"] == 302
    assert done.index.manifest["n"] == 300
    assert index.ids == names(300)  # the reader of the one before keeps it
    assert_same(index.search(stored[5], 1)[0], [("item-5", 1.0)])


def test_much_that_is_gone_is_built_anew(tmp_path: Path) -> None:
    for kind in ("hnsw", "ivfpq"):
        index = build_index(names(400), cloud(400, WIDTH), tmp_path / kind, manifest=MANIFEST, kind=kind)
        done = update_index(index, [], names(99), manifest={}, kind=kind)
        assert (done.index.manifest["rows"], len(done.index)) == (400, 301)
        done = update_index(done.index, [], names(102), manifest={}, kind=kind)
        assert (done.index.manifest["rows"], len(done.index)) == (298, 298)
        assert done.index.ids == names(400)[102:]


def test_a_kind_that_is_due_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = build_index(names(300), cloud(300, WIDTH), tmp_path / "v", manifest=MANIFEST)
    for kind in ("hnsw", "ivfpq", "flat", "ivfpq"):
        index = update_index(index, [], [], manifest={}, kind=kind).index
        assert (index.manifest["kind"], index.ids) == (kind, names(300))
    made = index.manifest["trained_n"]
    more = [(f"more-{i}", v) for i, v in enumerate(cloud(301, WIDTH, 5))]
    index = update_index(index, [([i for i, _ in more], [v for _, v in more])], [], manifest={}, kind="ivfpq").index
    assert (made, index.manifest["trained_n"]) == (300, 601)  # outgrown what it was trained for


def test_an_index_emptied_and_filled_again(tmp_path: Path) -> None:
    for kind in KINDS:
        index = build_index(names(20), cloud(20, WIDTH), tmp_path / kind, manifest=MANIFEST, kind=kind)
        index = update_index(index, [], names(20), manifest={}, kind=kind).index
        assert (len(index), index.search(cloud(1, WIDTH), 5)) == (0, [[]])
        index = update_index(index, [(names(3), cloud(3, WIDTH))], [], manifest={}, kind=kind).index
        assert index.ids == names(3)


def test_faults_in_a_change_leave_the_index(tmp_path: Path) -> None:
    index = build_index(names(20), cloud(20, WIDTH), tmp_path / "v", manifest=MANIFEST)
    before = sorted(p.name for p in (tmp_path / "v").iterdir())
    bad = cloud(2, WIDTH)
    bad[1, 3] = np.nan
    for put, words in (
        ((["a", "item-4"], bad), r"vector in row 1 \(id 'item-4'\) holds NaN or infinity"),
        ((["a", "a"], cloud(2, WIDTH)), "id 'a' comes twice"),
        ((["item-4", "item-4"], cloud(2, WIDTH)), "id 'item-4' comes twice"),
        ((["a"], cloud(2, WIDTH)), "1 ids for 2 vectors"),
        ((["a", "b"], cloud(2, WIDTH + 1)), "the index takes"),
        (([None, "b"], cloud(2, WIDTH)), "is null"),
    ):
        with pytest.raises(InputError, match=words):
            update_index(index, [put], [], manifest={})
        assert sorted(p.name for p in (tmp_path / "v").iterdir()) == before


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 60))
def test_a_sample_is_kept_up_to_date(seed: int, gone: int, came: int) -> None:
    drawn = np.random.default_rng(seed)
    stored = unit(cloud(300, WIDTH, seed)).astype(np.float32)
    first = 300 - came
    sample = vector_recall.draw(Rows([stored[:first]], 512, WIDTH), np.ones(first, np.bool_))
    live = np.ones(300, np.bool_)
    live[drawn.choice(300, gone, replace=False)] = False
    kept = vector_recall.renewed(sample, Rows([stored], 512, WIDTH), live, first)
    if kept is None:
        assert gone
        return
    similarity = np.where(live[None], kept.queries @ stored.T, -np.inf)
    similarity[np.arange(len(kept)), kept.own] = -np.inf
    least, there = kept.goal()
    np.testing.assert_array_equal(there, 10)
    np.testing.assert_allclose(least, -np.sort(-similarity, axis=1)[:, 9], atol=1e-6)


def test_a_reader_keeps_its_index_while_others_are_built(tmp_path: Path) -> None:
    first = build_index(["old"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    for i in range(4):
        build_index([f"new-{i}"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    assert first.search([1, 0], 1) == [[("old", 1.0)]]
    assert open_index(tmp_path / "v").search([1, 0], 1) == [[("new-3", 1.0)]]
    assert len([p for p in (tmp_path / "v").iterdir() if p.is_dir()]) == 2  # the current one and the one before


@pytest.mark.parametrize("step", ["write_manifest", "settle", "publish", "rename", "replace"])
def test_sigkill_while_building_leaves_the_old_index(tmp_path: Path, step: str) -> None:
    build_index(["old"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    program = f"""
import os, signal, sys
from pathlib import Path
from stores import vector_build
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
step = {step!r}
if step == "rename": Path.rename = die
elif step == "replace": os.replace = die
else: setattr(vector_build, step, die)
vector_build.build_index(["new"], [[1.0, 0.0]], {str(tmp_path / "v")!r}, manifest={{}})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    assert open_index(tmp_path / "v").search([1, 0], 2) == [[("old", 1.0)]]
    build_index(["newest"], [[1.0, 0.0]], tmp_path / "v", manifest=MANIFEST)
    assert open_index(tmp_path / "v").search([1, 0], 2) == [[("newest", 1.0)]]


_CHANGING = """
import sys
import numpy as np
from stores import vector_build
from stores.vectors import open_index
vector_build.BLOCK_ROWS = 64
folder = sys.argv[1]
print("ready", flush=True)
while True:
    index = open_index(folder)
    n = index.manifest["step"] + 1
    rows = np.random.default_rng(n).normal(size=(5, 8))
    put = [(["counter", *(f"item-{(4 * n + i) % 300}" for i in range(4))], rows)]
    vector_build.update_index(index, put, [f"item-{(4 * n + 50) % 300}"], manifest={"step": n}, kind=sys.argv[2])
    print(n, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_at_any_instant_of_a_change(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process changes the index again and again and is killed by chance: what stands is whole, and goes on."""
    monkeypatch.setattr(vector_build, "BLOCK_ROWS", 64)
    folder = tmp_path / "v"
    build_index(["counter", *names(300)], cloud(301, WIDTH), folder, manifest={"step": 0}, kind=kind)
    drawn, before = random.Random(7), 0
    for _ in range(8):
        command = [sys.executable, "-c", _CHANGING, str(folder), kind]
        with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for _ in range(drawn.randrange(3)):
                assert process.stdout.readline()
            time.sleep(drawn.uniform(0, 0.1))
            os.kill(process.pid, signal.SIGKILL)
        index = open_index(folder, verify=True)
        n = index.manifest["step"]
        assert n >= before
        if n:
            rows = unit(np.random.default_rng(n).normal(size=(5, WIDTH)))
            np.testing.assert_allclose(index.vectors(["counter"])[0], rows[0], atol=1e-6)
            assert index.search(rows[0], 1)[0][0][0] == "counter"
        before = n
    assert before > 0
    last = update_index(index, [(["last"], cloud(1, WIDTH))], [], manifest={}, kind=kind).index
    assert "last" in last


def test_drafts_of_dead_builds_are_cleared_a_day_later(tmp_path: Path) -> None:
    old, young = tmp_path / "v" / "tmp-old", tmp_path / "v" / "tmp-young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (0, 0))
    build_index(["a"], [[1.0]], tmp_path / "v", manifest=MANIFEST)
    assert (old.exists(), young.exists()) == (False, True)
