from __future__ import annotations

import pytest

from jobs.student.card import card, write_card
from lore_mm.models.cross_encoder import EncoderSettings
from relevance.path_features import FEATURES, FEATURES_SHA


def _figure(value: float | None, spread: float = 0.01) -> dict[str, float | None]:
    return {
        "value": value,
        "low": None if value is None else value - spread,
        "high": None if value is None else value + spread,
    }


SETTINGS = EncoderSettings(
    name="tiny",
    version=1,
    features=FEATURES,
    features_sha=FEATURES_SHA,
    thresholds=(0.2, 0.5, 0.75),
    temperature=1.5,
    model_sha256="0",
    tokenizer_sha256="0",
    training_queries=("a", "b"),
)
METRICS = {
    "name": "tiny",
    "bytes": 23_400_000,
    "body": {"name": "a small BERT", "layers": 6, "width": 384, "licence": "Apache-2.0"},
    "trained_on": [{"set": "Shop A", "used_as": "labels", "licence": "MIT", "pairs": 1234, "queries": None}],
    "measured": [
        {
            "set": "Shop A",
            "how": "each query by a model that has not seen it",
            "queries": 81,
            "systems": {
                "student": {
                    "n": 2278,
                    "missing": 0,
                    "metrics": {"quadratic_kappa": _figure(0.7771), "auc": _figure(None)},
                },
                "rules": {
                    "n": 2278,
                    "missing": 0,
                    "metrics": {"quadratic_kappa": _figure(0.5)},
                    "difference": {"quadratic_kappa": {"value": 0.277, "low": 0.2, "high": 0.35, "p": 0.001}},
                },
            },
            "people": {"quadratic_kappa": _figure(0.77)},
        }
    ],
    "confusion": [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]],
    "ablations": {"features": {"quadratic_kappa": _figure(0.7)}},
    "calibration": {"ece_4": 0.0312},
    "parity": {"largest_difference": 2e-6},
    "quantisation": {"grades_changed": 0.0123},
    "speed": {"pairs_per_s_batch_100": 412.0},
    "training": {"epochs": 3, "rate": 2e-5, "loss": "ordinal"},
}


def test_every_number_is_of_the_metrics_or_the_settings():
    text = card(METRICS, SETTINGS)
    for part in (
        "# Model card: tiny\n",
        "23.4 MB",
        "6 layers, 384 wide, begun from a small BERT (Apache-2.0)",
        f"{len(FEATURES)} features",
        "at 0.200, 0.500, 0.750 (L2, L3, L4)",
        "| Shop A | labels | – | 1,234 | MIT |",
        "of the 2 labelled queries",
        "**Shop A**, 81 queries: each query by a model that has not seen it.",
        "| student | 2278 | – | – | – | 0.777 (0.767 to 0.787) | – | – |",
        "| student minus rules | – | – | – | +0.277 (+0.200 to +0.350) | – | – |",
        "kappa² 0.770 (0.760 to 0.780).",
        "| true L2 | 5 | 6 | 7 | 8 |",
        "| features | – | – | – | 0.700 (0.690 to 0.710) | – | – |",
        "- What int8 costs: 0.0123 of the grades",
        "differ by 2.0e-06 at most",
        "- Calibration, ece 4: 0.0312.",
        "- Speed, pairs per s batch 100: 412.",
        "| epochs | 3 |",
        "| rate | 2e-05 |",
        "| loss | ordinal |",
    ):
        assert part in text, part


def test_what_was_not_measured_is_left_out(tmp_path):
    least = {key: METRICS[key] for key in ("name", "bytes", "body", "trained_on")} | {"measured": []}
    plain = SETTINGS.model_copy(update={"thresholds": None})
    write_card(tmp_path, least, plain)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "The grade is the likeliest level." in text and text.endswith("## Figures\n")
    assert "int8 costs" not in text and "How it was trained" not in text
    with pytest.raises(KeyError, match="measured"):
        card({key: METRICS[key] for key in ("name", "bytes", "body", "trained_on")}, plain)
