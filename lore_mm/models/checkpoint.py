"""Names of transformers checkpoints to folders: what `hf:NAME` and `vllm:NAME` mean by NAME.

A folder on this machine; or a checkpoint of this project's own; or, as it stands, a repository of a model hub, which
transformers and vLLM fetch themselves. This module loads nothing.
"""

from __future__ import annotations

from pathlib import Path

from lore_mm.errors import ModelError

__all__ = ["LORE_VLM_TINY", "checkpoint_folder"]

LORE_VLM_TINY = "lore-vlm-tiny"


def checkpoint_folder(name: str) -> str:
    """The folder of a checkpoint, or the name of its hub repository.

    Raises:
        ModelError: it looks like a folder and is none, or the weights of an own checkpoint cannot be had.
    """
    if name == LORE_VLM_TINY:
        from lore_mm.models.vlm_tiny import assembled

        return str(assembled())
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: this folder holds no config.json, so it is no checkpoint of transformers")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder")
    return name
