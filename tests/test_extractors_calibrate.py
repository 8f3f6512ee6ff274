"""Calibrations: what they do to a confidence, the file, the fit beside scikit-learn, and the guard against luck."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from extractors import calibrate_fit
from extractors.calibrate import Calibration, CalibrationEntry, read_calibration, write_calibration
from extractors.calibrate_fit import JudgedField, fit_calibration
from extractors.protocol import Extraction
from lore_mm.errors import ConfigError, InputError, MissingExtraError
from lore_mm.types import AttributeValue, Evidence


def fields(n, n_right, confidence=0.9, extractor="given", attribute="color", start=0):
    return [JudgedField(extractor, attribute, f"g{start + i}", ((confidence, i < n_right),)) for i in range(n)]


def by_name(calibration):
    return {(e.extractor, e.attribute): e for e in calibration.entries}


CALIBRATION = Calibration(
    fitted_on="ten shirts",
    entries=(
        CalibrationEntry(
            extractor="given", attribute="color", n=10, right=9, method="isotonic",
            knots=((0.2, 0.1), (0.6, 0.5), (0.8, 0.9)), threshold=0.7, settled=4, precision=1.0, precision_low=0.96,
            coverage=0.4,
        ),
        CalibrationEntry(extractor="given", attribute="*", n=30, right=15, method="logistic", knots=((0.5, 0.5),)),
    ),
)  # fmt: skip


def test_between_knots_it_interpolates_and_beyond_them_it_is_level():
    found = [CALIBRATION.apply("given", "color", c) for c in (0.0, 0.2, 0.3, 0.6, 0.7, 0.8, 1.0)]
    assert found == pytest.approx([0.1, 0.1, 0.2, 0.5, 0.7, 0.9, 0.9])
    assert CALIBRATION.apply("given", "size", 0.99) == 0.5  # the extractor's entry for any
    assert CALIBRATION.apply("palette", "color", 0.42) == 0.42  # nothing is known
    assert CALIBRATION.threshold("given", "color") == 0.7
    assert CALIBRATION.threshold("given", "size") is None
    assert CALIBRATION.threshold("palette", "color") is None


def test_evidence_keeps_what_was_said():
    said = AttributeValue("color", "color", "red", confidence=0.6, evidence=(Evidence("title", confidence=0.6),))
    made = CALIBRATION.calibrated("given", Extraction((said,), "shirt"))
    assert (made.attributes[0].confidence, made.attributes[0].evidence[0].confidence, made.category) == (
        0.5,
        0.6,
        "shirt",
    )


def test_the_file_is_read_as_it_was_written_and_an_entry_is_a_line(tmp_path):
    path = tmp_path / "calibration.json"
    write_calibration(CALIBRATION, path)
    assert read_calibration(path) == CALIBRATION
    assert read_calibration(path).sha == CALIBRATION.sha
    lines = path.read_text().splitlines()
    assert json.loads(lines[6].strip().rstrip(","))["attribute"] == "color"
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body.update(version=2), "version: Input should be 1"),
        (lambda body: body["entries"][0].update(knots=[[0.5, 0.9], [0.6, 0.1]]), "knots must rise"),
        (lambda body: body["entries"][0].update(knots=[[0.5, 1.9]]), "entries.0.knots.0.1: Input should be less than"),
        (lambda body: body["entries"].append(body["entries"][0]), "two entries for given on color"),
        (lambda body: body["entries"][1].update(threshold=0.5), "settles nothing"),
        (lambda body: body.update(colour=1), "colour: Extra inputs"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line(tmp_path, change, said):
    body = CALIBRATION.model_dump(mode="json")
    change(body)
    path = tmp_path / "c.json"
    path.write_text(json.dumps(body))
    with pytest.raises(ConfigError) as error:
        read_calibration(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_calibration(tmp_path / "none.json")
    (tmp_path / "bytes").write_bytes(b"\xff\x00{")
    with pytest.raises(ConfigError, match="lore calibrate"):
        read_calibration(tmp_path / "bytes")


# ------------------------------------------------------------------------------------------------------------- the fit


def test_many_rows_give_a_rising_curve_near_the_truth():
    """Right with the square of the confidence, for which no logistic curve over the logit stands in exactly."""
    lots = np.random.default_rng(3)
    said = lots.uniform(0, 1, 4000)
    judged = [
        JudgedField("vlm", "color", f"g{i}", ((float(c), bool(lots.uniform() < c * c)),)) for i, c in enumerate(said)
    ]
    entry = by_name(fit_calibration(judged))["vlm", "color"]
    assert (entry.method, entry.n) == ("isotonic", 4000)
    for c in (0.2, 0.4, 0.6, 0.8, 0.95):
        assert entry.apply(c) == pytest.approx(c * c, abs=0.08)
    inside = [entry.apply(c) for c in np.linspace(entry.knots[0][0], entry.knots[-1][0], 200)]
    assert all(a < b for a, b in pairwise(inside))  # no two confidences become one


def test_few_rows_give_a_logistic_curve():
    """Overconfident: at 0.9 right in 6 of 10, at 0.5 in 2 of 10."""
    judged = fields(40, 24, 0.9) + fields(40, 8, 0.5, start=40)
    entry = by_name(fit_calibration(judged))["given", "color"]
    assert entry.method == "logistic"
    assert entry.apply(0.9) == pytest.approx(0.6, abs=0.04)
    assert entry.apply(0.5) == pytest.approx(0.2, abs=0.04)
    assert entry.apply(0.9) > entry.apply(0.7) > entry.apply(0.5)


def test_confidence_that_misleads_tells_only_how_often_it_is_right():
    judged = fields(40, 8, 0.9) + fields(40, 32, 0.5, start=40)
    entry = by_name(fit_calibration(judged))["given", "color"]
    assert entry.apply(0.1) == entry.apply(0.99) == pytest.approx(0.5, abs=0.01)


def test_never_wrong_is_not_certain():
    entry = by_name(fit_calibration(fields(60, 60, 0.9)))["given", "color"]
    assert entry.apply(0.9) == pytest.approx(61 / 62, abs=1e-6)  # Platt's target: (n + 1) / (n + 2)


def test_an_attribute_with_few_rows_falls_back_on_the_extractors_own():
    judged = fields(19, 19) + fields(30, 15, attribute="size")
    found = by_name(fit_calibration(judged))
    assert set(found) == {("given", "size"), ("given", "*")}
    assert found["given", "*"].n == 49
    assert found["given", "*"].threshold is None


# ----------------------------------------------------------------------------------------------------------- the guard


def test_ten_lucky_rows_settle_nothing():
    assert by_name(fit_calibration(fields(30, 30)))["given", "color"].threshold is None
    assert by_name(fit_calibration(fields(58, 58)))["given", "color"].threshold is None
    entry = by_name(fit_calibration(fields(59, 59)))["given", "color"]  # 0.95 ** 59 < 0.05 < 0.95 ** 58
    assert entry.threshold is not None
    assert (entry.settled, entry.precision, entry.coverage) == (59, 1.0, 1.0)
    assert entry.precision_low == pytest.approx(0.05 ** (1 / 59), abs=1e-6)


@given(n=st.integers(60, 300), wrong=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_the_bound_is_scipys_own(n, wrong):
    entry = by_name(fit_calibration(fields(n, n - wrong), precision=0.9))["given", "color"]
    low = binomtest(n - wrong, n, alternative="greater").proportion_ci(0.95, "exact").low
    assert (entry.threshold is not None) == (low >= 0.9)
    if entry.threshold is not None:
        assert entry.precision_low == pytest.approx(low, abs=1e-6)


def test_the_smallest_threshold_that_passes_is_taken_and_the_chance_is_shared_among_those_tried():
    judged = fields(200, 200, 0.95) + fields(200, 199, 0.8, start=200) + fields(100, 60, 0.6, start=400)
    silent = [JudgedField("given", "color", f"s{i}") for i in range(100)]
    entry = by_name(fit_calibration(judged + silent))["given", "color"]
    assert entry.threshold == entry.apply(0.8)
    assert (entry.settled, entry.precision, entry.coverage) == (400, 399 / 400, pytest.approx(400 / 600, abs=1e-6))
    low = binomtest(399, 400, alternative="greater").proportion_ci(1 - 0.05 / 3, "exact").low
    assert entry.precision_low == pytest.approx(low, abs=1e-6)


def test_colour_variants_of_one_product_are_one_witness():
    judged = [JudgedField("given", "color", f"g{i % 30}", ((0.9, True),)) for i in range(300)]
    assert by_name(fit_calibration(judged))["given", "color"].threshold is None  # thirty products, not 300 rows
    alone = [JudgedField("given", "color", f"g{i}", ((0.9, True),)) for i in range(300)]
    assert by_name(fit_calibration(alone))["given", "color"].threshold is not None


def test_a_field_is_right_where_all_its_values_are():
    judged = [JudgedField("palette", "color", f"g{i}", ((0.9, True), (0.7, i % 2 == 0))) for i in range(200)]
    assert by_name(fit_calibration(judged))["palette", "color"].threshold is None


def test_seldom_does_luck_settle_what_is_below_the_target():
    """Right in 94 of 100 with a target of 95: in 200 fits at most some 5 % may settle it."""
    lots = np.random.default_rng(11)
    passed = 0
    for _ in range(200):
        said, right = lots.uniform(0.5, 1, 150), lots.uniform(size=150) < 0.94
        judged = [
            JudgedField("given", "color", f"g{i}", ((c, r),))
            for i, (c, r) in enumerate(zip(said.tolist(), right.tolist(), strict=True))
        ]
        passed += by_name(fit_calibration(judged))["given", "color"].threshold is not None
    assert passed <= 14


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="precision is 1; legal"):
        fit_calibration([], precision=1.0)
    assert fit_calibration([]).entries == ()


def test_without_scikit_learn_the_message_names_the_way(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"lore-mm\[calibrate\]"):
        calibrate_fit._module("sklearn.isotonic")
