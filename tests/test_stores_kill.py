"""SIGKILL at any line of what writes to a store: nothing lost, nothing twice, and the next call does the rest. A full
disk, a store that may only be read or goes away: one line, and nothing lost either."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lore_mm.errors import StoreError
from stores.compact import compact
from stores.features import open_store
from stores.rewrite import Target, Upkeep
from stores.vacuum import vacuum

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("killed_upkeep", Path(__file__).with_name("killed_upkeep.py"))
killed_upkeep = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killed_upkeep)
ACTIONS, labels = killed_upkeep.ACTIONS, killed_upkeep.labels


@pytest.fixture(scope="module")
def doer():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.killed_upkeep"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def do(action, folder, n=0):
        process.stdin.write(json.dumps([action, str(folder), n]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    with process:  # which closes what it is told through, and waits
        yield do


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Small files, replaced rows, versions that need files no longer named, and a file of a writer that died."""
    folder = tmp_path_factory.mktemp("template") / "store"
    store = open_store(folder, create=True)
    for i in range(4):
        store.append("labels", labels(f"q{i % 3}", f"L{i + 1}", 3))
    compact(store, "labels")
    for i in range(6):
        store.append("labels", labels(f"q{i % 4}", f"L{i % 4 + 1}", i % 3 + 1), ("app", 0) if not i else None)
    dead = folder / "labels" / "part-0-dead.parquet"
    dead.write_bytes(b"half")
    os.utime(dead, (time.time() - 2 * 86_400,) * 2)
    return folder


def rows_of(folder):
    return open_store(folder).scan("labels").collect()


def files_of(folder):
    return {path.name for path in Path(folder, "labels").glob("*.parquet")}


def killed_and_done(doer, template, tmp_path, action, n):
    """Kill an action before its nth line, look, do it again and look."""
    folder, whole = tmp_path / f"killed-{n}", tmp_path / "whole"
    shutil.copytree(template, folder)
    if not whole.exists():
        shutil.copytree(template, whole)
        ACTIONS[action](open_store(whole))
    before, after = rows_of(template), rows_of(whole)
    assert doer(action, folder, n) == -1
    store = open_store(folder)
    rows = rows_of(folder)
    if action == "drop":  # file by file
        assert after.height <= rows.height <= before.height
        assert rows.join(before, on=before.columns, how="anti", nulls_equal=True).height == 0
        assert store.latest("labels").collect().equals(open_store(whole).latest("labels").collect())
    else:
        assert rows.equals(before) or rows.equals(after)
    ACTIONS[action](store)
    assert rows_of(folder).equals(after)
    assert store.append("labels", labels("new", "L2", 5), ("app", 1)) is None or action != "append"
    store.append("labels", labels("q", "L1", 1))
    compact(store, "labels")
    newest = store.latest("labels").collect()
    assert newest.height == open_store(whole).latest("labels").collect().height + (1 if action == "append" else 6)
    vacuum(store, "labels", 0)
    assert store.latest("labels").collect().equals(newest)
    left = files_of(folder) - {Path(file).name for file in store.files("labels")}
    for name in left:  # of the one that was killed: they go when they are a day old
        os.utime(folder / "labels" / name, (time.time() - 2 * 86_400,) * 2)
    assert len(left) <= 1
    vacuum(store, "labels", 0)
    assert files_of(folder) == {Path(file).name for file in store.files("labels")}


@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_a_few_lines(doer, template, tmp_path, action):
    shutil.copytree(template, tmp_path / "counted")
    lines = doer(action, tmp_path / "counted")
    drawn = random.Random(action)
    for part in range(3):
        killed_and_done(doer, template, tmp_path, action, drawn.randint(lines * part // 3 + 1, lines * (part + 1) // 3))


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_many_lines(doer, template, tmp_path, action):
    shutil.copytree(template, tmp_path / "counted")
    lines = doer(action, tmp_path / "counted")
    for n in sorted(random.Random(action).sample(range(1, lines), min(40, lines - 1))):
        killed_and_done(doer, template, tmp_path, action, n)


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def store(template, tmp_path):
    shutil.copytree(template, tmp_path / "store")
    return open_store(tmp_path / "store")


def refuses(store, action, said):
    """One line, and the rows are what they were."""
    before = rows_of(store.uri)
    with pytest.raises(StoreError, match=said) as caught:
        ACTIONS[action](store)
    assert "\n" not in str(caught.value)
    assert rows_of(store.uri).equals(before)


@pytest.mark.parametrize("action", ["append", "compact", "drop"])
def test_a_full_disk(store, template, action):
    """No file may grow beyond a few bytes, as where a quota is used up; then there is room again."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.killed_upkeep import ACTIONS, open_store
from lore_mm.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store({store.uri!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    ACTIONS[{action!r}](store)
except StoreError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"cannot {'append to' if action == 'append' else 'compact'} labels in")
    assert said.count("\n") == 1
    assert rows_of(store.uri).equals(rows_of(template))
    assert files_of(store.uri) == files_of(template)
    ACTIONS[action](store)


@pytest.mark.parametrize("action", ["append", "compact", "drop"])
def test_a_store_that_may_only_be_read(store, monkeypatch, action):
    monkeypatch.setattr("stores.address.os.access", lambda path, mode: False)
    refuses(store, action, "labels in .*no permission to write there")


@pytest.mark.parametrize("action", ["append", "compact", "drop", "vacuum"])
def test_a_store_that_is_gone_is_not_made_again(store, action):
    shutil.rmtree(store.uri)
    with pytest.raises(StoreError):
        ACTIONS[action](store)
    assert not Path(store.uri).exists()


@pytest.mark.parametrize("harm", ["deleted", "made anew", "set back"])
def test_a_table_that_changes_between_the_file_and_its_commit(store, harm, monkeypatch):
    upkeep, write = Upkeep(store, "labels"), Upkeep._write
    folder = Path(store.uri, "labels")

    def and_then(*arguments):
        written = write(*arguments)
        if harm == "set back":
            sorted((folder / "_delta_log").glob("*.json"))[-1].unlink()
            return written
        shutil.rmtree(folder)
        if harm == "made anew":
            open_store(store.uri, create=True).append("labels", labels("other", "L1", 1))
        return written

    monkeypatch.setattr(Upkeep, "_write", and_then)
    with pytest.raises(StoreError, match="cannot compact labels in"):
        upkeep.replace(upkeep.groups, Target())
    if harm == "deleted":
        assert not folder.exists()
    elif harm == "made anew":
        assert rows_of(store.uri).height == 1
