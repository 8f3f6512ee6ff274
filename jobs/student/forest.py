"""The head of a student: trees over the path's features and what the reader makes of the pair.

Extremely randomised trees (Geurts, Ernst and Wehenkel 2006) vote on the level: with a few thousand judged pairs they
told held-out queries' levels better than a map learnt with the body. It knows no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lore_mm.errors import MissingExtraError

__all__ = ["LEAST", "LEVELS", "Growing", "grown", "joined", "levels_of", "tree_attributes"]

LEVELS = 4
LEAST = 1e-6  # of a probability, before its logarithm is taken


@dataclass(frozen=True, slots=True)
class Growing:
    """How the trees are grown."""

    trees: int = 80  # the most that leave the model below 25 MB
    least_pairs: int = 6  # of a leaf
    split_share: float = 0.3  # of the numbers that a split is chosen from
    tree_seed: int = 0


def joined(features: NDArray[Any], read: NDArray[Any]) -> NDArray[np.float32]:
    """What trees see: features (n, F), then the logarithms of the reader's P(L1) … P(L4); float32 (n, F + 4)."""
    logarithms = np.log(np.maximum(read, LEAST))
    seen: NDArray[np.float32] = np.concatenate([features, logarithms], axis=1).astype(np.float32)
    return seen


def grown(seen: NDArray[np.float32], levels: NDArray[np.int64], growing: Growing) -> Any:
    """Trees (scikit-learn's) grown on pairs, `seen` as `joined` gives it.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import ExtraTreesClassifier
    except ImportError:
        raise MissingExtraError("sklearn", "calibrate") from None
    trees = ExtraTreesClassifier(
        growing.trees,
        min_samples_leaf=growing.least_pairs,
        max_features=growing.split_share,
        random_state=growing.tree_seed,
    )
    return trees.fit(seen, levels)


def levels_of(trees: Any, seen: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(L1) … P(L4) of pairs, (n, 4); a level that was never seen has 0."""
    made = np.zeros((len(seen), LEVELS))
    made[:, np.asarray(trees.classes_, dtype=np.int64) - 1] = trees.predict_proba(seen)
    return made


def tree_attributes(trees: Any) -> dict[str, Any]:
    """The trees as the attributes of ONNX's TreeEnsembleRegressor: four sums of leaves, P(L1) … P(L4)."""
    columns = [int(level) - 1 for level in trees.classes_]
    made: dict[str, list[Any]] = {name: [] for name in _NODES + _LEAVES}
    for number, one in enumerate(trees.estimators_):
        tree = one.tree_
        for node in range(tree.node_count):
            leaf = tree.children_left[node] < 0
            made["nodes_treeids"].append(number)
            made["nodes_nodeids"].append(node)
            made["nodes_featureids"].append(0 if leaf else int(tree.feature[node]))
            made["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            made["nodes_values"].append(0.0 if leaf else _below(float(tree.threshold[node])))
            made["nodes_truenodeids"].append(0 if leaf else int(tree.children_left[node]))
            made["nodes_falsenodeids"].append(0 if leaf else int(tree.children_right[node]))
            if leaf:
                votes = tree.value[node][0]
                for column, vote in zip(columns, votes / votes.sum() / len(trees.estimators_), strict=True):
                    if vote > 0:
                        made["target_treeids"].append(number)
                        made["target_nodeids"].append(node)
                        made["target_ids"].append(column)
                        made["target_weights"].append(float(vote))
    return {**made, "n_targets": LEVELS, "aggregate_function": "SUM", "post_transform": "NONE"}


_NODES = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids",
          "nodes_falsenodeids")  # fmt: skip
_LEAVES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _below(threshold: float) -> float:
    """The largest float32 that is not above a threshold: float32 numbers fall on the same side of both."""
    near = np.float32(threshold)
    return float(near if near <= threshold else np.nextafter(near, np.float32(-np.inf)))
