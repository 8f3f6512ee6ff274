"""Identity by content: the sha-256 of values, files and tables of settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

__all__ = ["sha_of", "sha_of_bytes", "sha_of_file"]


def sha_of(value: object) -> str:
    """Hex sha-256 of a JSON-able value; equal values have equal shas whatever the order of their keys.

    Raises:
        TypeError: the value holds something JSON has no word for.
        ValueError: a number is NaN or infinite, which has no canonical form.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return sha_of_bytes(text.encode("utf-8", "surrogatepass"))


def sha_of_bytes(data: bytes) -> str:
    """Hex sha-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha_of_file(path: Path) -> str:
    """Hex sha-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
