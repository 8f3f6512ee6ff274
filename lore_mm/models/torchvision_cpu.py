"""Make CUDA builds of torchvision and its sisters harmless beside a CPU build of torch.

Why: package indexes carry torchvision for Linux as a CUDA build only. Its compiled operators need CUDA's libraries;
beside torch+cpu they are skipped in silence, and then `import torchvision` itself dies, because it describes the
operator `torchvision::nms` that nobody declared. timm and open_clip import torchvision, and transformers does where
it is installed, so all three die with it. The pure-Python part, which is all that they use (transforms), needs no
operator: declaring the two names before torchvision loads is enough for it to load. Calling one of them still fails,
plainly.

torchaudio and torchcodec, which vLLM brings along, are CUDA builds there too and die with an OSError that neither
transformers nor vLLM expects. Nothing here needs sound or video, so one that cannot be loaded is made to look as if it
were not installed, which both know how to live with.

`install()` changes nothing where torch has CUDA, where torchvision is absent, or where its operators are there
already; call it before importing timm, open_clip or transformers. It knows nothing of any of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["install"]

# As torchvision's C++ sources declare them.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: Any = None  # torch forgets the operators when their library is collected


def install() -> bool:
    """Declare torchvision's operators where its own build cannot; True where that was needed (and at later calls).

    Idempotent; the package is imported once here, so that a failure shows at this line and not inside another library.
    """
    global _library
    if _library is not None:
        return True
    import torch

    if torch.version.cuda is not None:
        return False
    for name in ("torchaudio", "torchcodec"):
        _hide_unless_loadable(name)
    if find_spec("torchvision") is None or _declared(torch):
        return False
    _load_own_operators(torch)
    if _declared(torch):  # a CPU build of torchvision
        return False
    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        _library.define(schema)
    import torchvision  # noqa: F401

    return True


def _declared(torch: Any) -> bool:
    return hasattr(torch.ops.torchvision, "nms")


def _hide_unless_loadable(name: str) -> None:
    if name in sys.modules or find_spec(name) is None:
        return
    try:
        import_module(name)
    except (ImportError, OSError, RuntimeError):
        for loaded in [one for one in sys.modules if one.startswith(f"{name}.")]:
            del sys.modules[loaded]
        sys.modules[name] = None  # type: ignore[assignment]  # import raises ModuleNotFoundError, find_spec gives None
        if utils := sys.modules.get("transformers.utils.import_utils"):  # it remembers what it saw when it was imported
            asked = getattr(utils, f"is_{name}_available", None)
            if asked is not None and hasattr(asked, "cache_clear"):
                asked.cache_clear()


def _load_own_operators(torch: Any) -> None:
    """Try the compiled library as torchvision itself would, without importing torchvision."""
    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for library in Path(folder).glob("_C.*"):
            try:
                torch.ops.load_library(str(library))
            except OSError:  # CUDA's libraries are not there: the case this module is for
                continue
