"""Clouds of vectors, and exact search the slow way, for the tests of vector indexes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

MANIFEST = {"model": "scripted:0", "model_sha": "abc", "table_version": 3}
KINDS = ("flat", "hnsw", "ivfpq")


def cloud(n: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def names(n: int) -> list[str]:
    return [f"item-{i}" for i in range(n)]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)


def exact(stored: np.ndarray, ids: list[str], query: np.ndarray, k: int, allowed: Collection[str] | None = None):
    """The slow way, in double precision: every allowed row compared."""
    keep = [i for i, name in enumerate(ids) if allowed is None or name in allowed]
    similarity = unit(stored)[keep] @ unit(query[None])[0]
    order = np.argsort(-similarity, kind="stable")[:k]
    return [(ids[keep[i]], similarity[i]) for i in order]


def assert_same(found: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> None:
    """The same answers; where two rows are as similar to within float32, either may come first."""
    assert [s for _, s in found] == pytest.approx([s for _, s in wanted], abs=1e-5)
    assert len({name for name, _ in found}) == len(found)
    truth = dict(wanted)
    for name, similarity in found:
        assert truth.get(name, wanted[-1][1]) == pytest.approx(similarity, abs=1e-6)
