"""What the small ONNX models of this package share: files that are those their settings name, sessions, batches.

It knows no model: `query_tagger` and `cross_encoder` do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of_bytes

__all__ = ["alike", "checked_bytes", "first_fault", "open_session", "open_tokenizer", "read_bytes"]

# Pieces run together: what lies between the maps then stays in a core's own cache; more at once takes longer a text.
_PIECES = 512


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None


def checked_bytes(path: Path, sha256: str) -> bytes:
    """The file's bytes; those that are checked are those that are opened.

    Raises:
        ModelError: it cannot be read, or is another file than the one with that hex sha-256.
    """
    data = read_bytes(path)
    if sha_of_bytes(data) != sha256:
        raise ModelError(f"{path} is not the file that config.json names (its sha256 differs)")
    return data


def open_session(model: bytes, path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU. `threads`: of one batch; OMP_NUM_THREADS unless given, else 1.

    Raises:
        ModelError: the bytes are no model.
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "onnxruntime", "tagger") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads or _environment_threads(), 1
    options.log_severity_level = 3  # errors
    # A thread that spins while it waits takes the core from whoever has work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common root of their own
        raise ModelError(f"{path} cannot be opened ({first_fault(error)})") from None


def open_tokenizer(data: bytes, path: Path) -> Any:
    """A tokenizer of the library tokenizers, that neither pads nor reads names of special pieces in a text as such.

    Raises:
        ModelError: the bytes are no tokenizer.
        MissingExtraError: tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tokenizers", "tagger") from None
    try:
        made: Any = Tokenizer.from_buffer(data)
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(f"{path} is no tokenizer ({first_fault(error)})") from None
    made.no_padding()
    made.encode_special_tokens = True  # "[SEP]" in a title is five characters
    return made


def _environment_threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else 1


def first_fault(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
    return str(error).splitlines()[0]


def alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The places of texts of one length, a batch at a time, so that none is padded; those of length 0 are left out."""
    by_length: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        by_length.setdefault(length, []).append(i)
    by_length.pop(0, None)
    for length, places in by_length.items():
        size = max(1, _PIECES // length)
        for first in range(0, len(places), size):
            yield places[first : first + size]
