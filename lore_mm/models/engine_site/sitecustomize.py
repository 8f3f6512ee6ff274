"""What every Python process of an engine does first: it stands on PYTHONPATH only in the environment of such processes.

Python imports a module of this name at start-up. This one sends what the process prints to the engine's log, lets the
process end with the one that started it, and makes CUDA builds of torchvision harmless beside a CPU build of torch, as
soon as one of the libraries that need it is imported and not before. A sitecustomize that stood here earlier is run,
too. It must not import `lore_mm`, which the process may not be able to find.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location

__all__ = ()

HERE = os.path.dirname(os.path.abspath(__file__))
SHIM = os.path.join(os.path.dirname(HERE), "torchvision_cpu.py")
NEED_SHIM = ("torchvision", "torchaudio", "torchcodec", "transformers", "timm")
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Shim:
    """The first import of a library that needs the shim installs it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in NEED_SHIM:
            sys.meta_path.remove(self)
            spec = spec_from_file_location("torchvision_cpu", SHIM)
            if spec and spec.loader:
                shim = module_from_spec(spec)
                spec.loader.exec_module(shim)
                shim.install()
        return None  # the next finder finds it


def _print_to_log(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(processName)s %(levelname)s %(message)s")
    if sys.warnoptions:  # -W is inherited; the owner's -W error is not meant for these processes
        warnings.resetwarnings()


def _end_with_parent(parent: int) -> None:
    """Nothing else ends an engine whose owner was killed: it waits for requests for ever."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before that
            sys.exit(1)


def _run_earlier() -> None:
    spec = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if os.path.abspath(entry) != HERE])
    if spec and spec.loader:
        spec.loader.exec_module(module_from_spec(spec))


sys.meta_path.insert(0, _Shim())
if "LORE_ENGINE_LOG" in os.environ:
    _print_to_log(os.environ["LORE_ENGINE_LOG"])
if os.environ.get("LORE_ENGINE_OWNER") not in (None, str(os.getpid())):  # a command may turn into an engine's server
    _end_with_parent(os.getppid())
_run_earlier()
