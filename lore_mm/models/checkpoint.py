"""Names of transformers checkpoints to folders: what `hf:NAME` and `vllm:NAME` mean by NAME.

A folder on this machine, with a checkpoint or with an adapter and a manifest that names its base; or a checkpoint of
this project's own; or a name of the model table; or, as it stands, a repository of a model hub, which transformers and
vLLM fetch themselves. This module loads nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models.table import load_table

__all__ = ["LORE_VLM_TINY", "checkpoint_folder", "checkpoint_sha"]

LORE_VLM_TINY = "lore-vlm-tiny"
SMOLLM2 = "smollm2-135m"
_PIECE, _PIECES = 1 << 20, 256  # bytes a piece; a file of up to 256 MiB is read whole


def checkpoint_folder(name: str) -> str:
    """The folder of a checkpoint, or the name of its hub repository.

    Raises:
        ModelError: it looks like a folder and is none, the weights of an own checkpoint cannot be had, or an adapter is
            none or has another base.
    """
    if name == LORE_VLM_TINY:
        from lore_mm.models.vlm_tiny import assembled

        return str(assembled())
    if name == SMOLLM2:
        from lore_mm.models.smollm2 import assembled as assembled_smollm2

        return str(assembled_smollm2())
    entry = load_table().get(name)
    if entry is not None and entry.vllm and entry.address:
        return entry.address.partition(":")[2]
    path = Path(name).expanduser()
    if entry is not None and entry.kind == "judge" and entry.shipped:
        path = Path(__file__).parent / entry.shipped
    if (path / "adapter_config.json").is_file():
        from lore_mm.models.adapted import merged

        return str(merged(path, path.name))
    if entry is not None and entry.kind == "judge":
        raise ModelError(f"{name}: its weights are missing from {path}: install lore-mm anew")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: this folder holds no config.json, so it is no checkpoint of transformers")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder")
    return name


def checkpoint_sha(folder: str) -> str:
    """What tells one checkpoint from another: names, sizes and content of its files, whoever loads it.

    Of a large file, pieces at equal distances are read: the whole would take minutes. A hub repository is known by its
    name alone.
    """
    if not Path(folder).is_dir():
        return sha_of(folder)
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".safetensors", ".json", ".jinja"))
    return sha_of([[path.name, path.stat().st_size, _sha_of_pieces(path)] for path in files])


def _sha_of_pieces(path: Path) -> str:
    size, digest = path.stat().st_size, hashlib.sha256()
    step = max(_PIECE, size // _PIECES)
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
