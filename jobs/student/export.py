"""A student as the files that lore_mm.models.cross_encoder opens, and its reader as it will run; no training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.onnx_bert import WEIGHT_LEVELS
from jobs.student.forest import LEVELS
from jobs.student.graph import reader_graph, student_graph
from jobs.student.learner import PairModel
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.models.cross_encoder import EncoderSettings
from lore_mm.models.onnx_files import alike, open_session
from lore_mm.models.pair_pieces import MOST_PIECES, PairPieces
from relevance.path_features import FEATURES, FEATURES_SHA

__all__ = ["NAME", "export", "told_by_reader"]

NAME, _VERSION = "lore-student-tiny", 1


def told_by_reader(model: PairModel, pieces: Sequence[PairPieces], *, int8: bool = True) -> NDArray[np.float64]:
    """P(L1) … P(L4) by the reader as an ONNX graph, (n, 4): what trees will see, rounding and all."""
    data = reader_graph(_tensors(model), **_shape(model), weight_levels=WEIGHT_LEVELS if int8 else None)
    session = open_session(data.SerializeToString(), Path("reader"), None)
    made = np.zeros((len(pieces), LEVELS))
    for places in alike([len(one.ids) for one in pieces]):
        ids, types = (np.stack([pieces[i][part] for i in places]) for part in range(2))
        made[places] = session.run(None, {"ids": ids, "types": types})[0]
    return made


def export(
    model: PairModel,
    trees: Any,
    thresholds: tuple[float, float, float],
    tokenizer: bytes,
    folder: Path,
    *,
    training_queries: Sequence[str],
    trained_on: Mapping[str, str],
) -> EncoderSettings:
    """Write model.onnx, tokenizer.json and config.json."""
    graph = student_graph(_tensors(model), trees, features=len(FEATURES), **_shape(model))
    data = graph.SerializeToString()
    settings = EncoderSettings(
        name=NAME,
        version=_VERSION,
        features=FEATURES,
        features_sha=FEATURES_SHA,
        thresholds=thresholds,
        model_sha256=sha_of_bytes(data),
        tokenizer_sha256=sha_of_bytes(tokenizer),
        training_queries=tuple(sorted(set(training_queries))),
        trained_on=dict(trained_on),
    )
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(settings.model_dump(mode="json"), indent=1) + "\n"
    for name, content in {"model.onnx": data, "tokenizer.json": tokenizer, "config.json": written.encode()}.items():
        scratch = folder / f"{name}.partial"
        scratch.write_bytes(content)
        scratch.replace(folder / name)
    return settings


def _tensors(model: PairModel) -> dict[str, NDArray[np.float32]]:
    return {key: value.detach().cpu().numpy().astype(np.float32) for key, value in model.state_dict().items()}


def _shape(model: PairModel) -> dict[str, Any]:
    config = model.body.config
    pieces = min(MOST_PIECES, config.max_position_embeddings)
    return {"heads": config.num_attention_heads, "epsilon": config.layer_norm_eps, "pieces": pieces}
