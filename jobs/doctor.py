"""`lore doctor`: what is installed, which accelerators and weights are there, what is missing, and the way to get it.

It looks and reports; it changes nothing and needs no network.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from jobs.options import StoreAddress
from lore_mm import __version__
from lore_mm.config import cache_folder, default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run, say

__all__ = ["Finding", "diagnose", "main"]

# extra → what it is for, and the modules that show that it is there
_EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cpu": ("embedded embedder and vector search", ("torch", "torchvision", "open_clip", "transformers", "faiss")),
    "hf": ("chat models in transformers", ("torch", "transformers", "accelerate", "llguidance")),
    "vllm": ("chat models in vLLM", ("vllm",)),
    "calibrate": ("fitting of calibrations", ("sklearn",)),
    "faiss-gpu": ("vector search on a GPU (instead of faiss-cpu)", ("faiss",)),
    "train": ("SFT, RL and distillation", ("trl", "peft", "datasets", "sentence_transformers", "altair")),
    "plots": ("drawn curves", ("altair", "vl_convert")),
    "ray": ("jobs on a cluster", ("ray",)),
    "metrics": ("figures of running jobs for Prometheus", ("prometheus_client",)),
    "serve": ("the HTTP service", ("fastapi", "uvicorn", "prometheus_client", "openai")),
    "dev": ("tests, types and lint", ("pytest", "hypothesis", "mypy", "playwright")),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis. `fix` is the command that gets what is missing."""

    part: str
    name: str
    state: Literal["ok", "missing", "absent"]  # absent: optional, and not there
    detail: str
    fix: str = ""


def diagnose(store: str | None = None) -> list[Finding]:
    """Look at the interpreter, the base packages, the extras, accelerators, weights and the store."""
    return [*_interpreter(), *_base(), *_extras(), *_accelerators(), *_weights(), _browser(), _store(store)]


def _interpreter() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return [
        Finding(
            "python", "python", "ok" if good else "missing", version, "" if good else "install Python 3.11 or later"
        ),
        Finding("python", "lore-mm", "ok", __version__),
    ]


def _base() -> list[Finding]:
    """The packages of the base install, as this distribution's own metadata lists them."""
    try:
        required = metadata.requires("lore-mm") or []
    except metadata.PackageNotFoundError:
        return [Finding("base", "lore-mm", "missing", "not installed as a package", "pip install -e .")]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    found = []
    for name in names:
        try:
            found.append(Finding("base", name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding("base", name, "missing", "not installed", f"pip install {name}"))
    return found


def _extras() -> list[Finding]:
    found = []
    for extra, (purpose, modules) in _EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if extra == "faiss-gpu" and not missing and _version("faiss-gpu") is None:
            missing = ["faiss-gpu"]
        if not missing:
            found.append(Finding("extra", extra, "ok", purpose))
            continue
        state: Literal["missing", "absent"] = "missing" if extra == "cpu" else "absent"
        detail = f"{purpose}; not there: {', '.join(missing)}"
        found.append(Finding("extra", extra, state, detail, f"pip install 'lore-mm[{extra}]'"))
    return found


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _accelerators() -> list[Finding]:
    found = []
    if find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            for i in range(torch.cuda.device_count()):
                p = torch.cuda.get_device_properties(i)
                found.append(Finding("accelerator", f"cuda:{i}", "ok", f"{p.name}, {p.total_memory / 2**30:.0f} GiB"))
        else:
            found.append(Finding("accelerator", "cuda", "absent", f"torch {torch.__version__} sees no GPU"))
    if not any(f.state == "ok" for f in found) and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
        if listed.returncode == 0 and listed.stdout.strip():
            detail = f"{listed.stdout.splitlines()[0]}, but torch cannot use it"
            found.append(Finding("accelerator", "nvidia", "absent", detail, "install a CUDA build of torch"))
    return found or [Finding("accelerator", "cuda", "absent", "torch is not installed")]


def _weights() -> list[Finding]:
    """The weights of the embedded default, tower by tower; open_clip keeps those of its own names itself."""
    from lore_mm.models.weights import find_weights, load_table

    found = []
    for name, entry in load_table().items():
        if entry.open_clip:
            continue
        folder = find_weights(name)
        state: Literal["ok", "missing"] = "ok" if folder else "missing"
        detail = f"{entry.good_for}; in {folder}" if folder else f"not in {cache_folder()}"
        found.append(Finding("weights", name, state, detail, "" if folder else f"lore weights get {name}"))
    return found


def _browser() -> Finding:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return Finding("browser", name, "ok", path)
    return Finding("browser", "chromium", "absent", "only needed to test the pages", "install Chromium")


def _store(address: str | None) -> Finding:
    from lore_mm.errors import StoreError
    from stores.features import open_store

    where = address or default_store()
    try:
        tables = open_store(where).tables()
    except StoreError as error:
        return Finding("store", where, "absent", str(error), "lore demo")
    return Finding("store", where, "ok", f"tables: {', '.join(tables) or 'none yet'}")


def main(
    store: StoreAddress = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines, one a finding.")] = False,
) -> None:
    """Show what is installed, what is missing, and the command that gets it.

    Exit code 0 when everything the embedded default needs is there, 1 otherwise.

    Example: lore doctor
    """
    findings = diagnose(store)
    if for_people(json):
        table = Table("", "part", "name", "what, and how to get it", box=None, pad_edge=False)
        marks = {"ok": "[green]✓[/]", "missing": "[red]✗[/]", "absent": "[dim]–[/]"}
        for f in findings:
            table.add_row(marks[f.state], f.part, escape(f.name), escape(f.detail))
            if f.fix:
                table.add_row("", "", "", f"[bold]{escape(f.fix)}[/]")
        print_table(table)
    else:
        for f in findings:
            print_json(asdict(f))
    missing = [f for f in findings if f.state == "missing"]
    for f in missing:
        say(f"missing: {f.name}: {f.fix}")
    if missing:
        raise typer.Exit(1)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.doctor"))
