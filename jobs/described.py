"""What made a row, in words for who traces it: the model, and the shas of prompt, schema, knowledge and the whole.

A row has the sha of its maker's settings alone, which tells that something changed and not what. This module knows no
job and no maker by name.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["described"]


def described(maker: object) -> dict[str, Any]:
    """What an extractor, or another maker of rows, is made of, as far as it has such parts; JSON-able.

    sha · model, model_sha · prompt, prompt_sha · schema_sha · knowledge_sha · calibration_sha · decoding.
    """
    model = next(
        (one for name in ("chat", "embedder", "engine") if (one := getattr(maker, name, None)) is not None), None
    )
    prompt = getattr(getattr(maker, "asker", None), "prompt", None)
    found: dict[str, Any] = {
        "sha": getattr(maker, "sha", None),
        "model": getattr(model, "name", None),
        "model_sha": getattr(model, "sha", None),
        "prompt": prompt.path.name if prompt is not None else None,
        "prompt_sha": getattr(prompt, "sha", None),
        "decoding": getattr(maker, "decoding", None),
    }
    for name in ("schemas", "knowledge", "calibration"):
        found[f"{name.removesuffix('s')}_sha"] = getattr(getattr(maker, name, None), "sha", None)
    told: dict[str, Any] = json.loads(json.dumps({k: v for k, v in found.items() if v is not None}, default=str))
    return told
