"""Probabilities that mean what they say: the grade of probabilities, fitting, files, and who is refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import ConfigError, InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Demand, Grade, Item, ItemFeatures, Query, Understanding
from relevance.calibration import (
    LevelCalibration,
    Quality,
    calibrated,
    fit_levels,
    quality,
    read_levels,
    write_levels,
)
from relevance.judge import open_judge
from relevance.levels import as_probabilities, grade_of, score_of

KNOWLEDGE = load_knowledge()
SOFA = Understanding(Query("q", "red sofa"), "red sofa", (Demand("category", "sofa", "sofa", role="head"),))
PAIR = (SOFA, ItemFeatures(Item("i", "Leather Sofa")))
distributions = st.lists(st.floats(0.001, 1), min_size=4, max_size=4).map(lambda w: tuple(x / sum(w) for x in w))


# -- from likelihoods to a grade ---------------------------------------------------------------------------------------


def test_the_softmax_of_likelihoods():
    logs = [math.log(p) for p in (0.1, 0.2, 0.3, 0.4)]
    assert as_probabilities(logs) == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert as_probabilities([x - 700 for x in logs]) == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert as_probabilities([-math.inf, -math.inf, -1, -1]) == (0, 0, 0.5, 0.5)
    assert score_of((0.1, 0.2, 0.3, 0.4)) == pytest.approx((0.2 + 0.6 + 1.2) / 3)


@pytest.mark.parametrize(
    "wrong", [(), (-1, -1, -1), (-1,) * 5, (-1, math.nan, -1, -1), (-1, math.inf, -1, -1), (-math.inf,) * 4]
)
def test_likelihoods_that_are_none(wrong):
    with pytest.raises(ValueError, match=r"likelihood|impossible"):
        as_probabilities(wrong)


@pytest.mark.parametrize(
    ("probabilities", "grade"),
    [
        ((1, 0, 0, 0), "L1"),
        ((0, 0, 0, 1), "L4"),
        ((0, 0.4, 0.3, 0.3), "L3"),  # the likeliest is L2, yet three of five say relevant
        ((0.4, 0.0, 0.3, 0.3), "L3"),
        ((0.3, 0.21, 0.0, 0.49), "L2"),
        ((0.25, 0.25, 0.25, 0.25), "L3"),  # one half is enough
        ((0.1, 0.2, 0.2, 0.5), "L4"),
    ],
)
def test_the_grade_is_the_median_level(probabilities, grade):
    assert str(grade_of(probabilities)) == grade


@given(distributions)
def test_no_level_is_nearer_on_average_than_the_grade(p):
    def distance(level):
        return sum(q * abs(level - other) for other, q in enumerate(p, 1))

    grade = grade_of(p)
    assert distance(grade) <= min(map(distance, (1, 2, 3, 4))) + 1e-9
    if abs(p[2] + p[3] - 0.5) > 1e-6:
        assert grade.relevant == (p[2] + p[3] > 0.5)


# -- fitting -----------------------------------------------------------------------------------------------------------


def drawn(n, scale, bias, seed=0):
    """Probabilities of a judge, and labels of which it would be a fair one after this scale and bias."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(4), size=n)
    logits = np.log(p) * scale + np.asarray(bias)
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [int(generator.choice(4, p=one)) + 1 for one in true]
    return p, labels, [f"q{i % 40}" for i in range(n)]


def test_fitting_finds_what_the_labels_were_drawn_by():
    p, labels, groups = drawn(6000, 0.5, (0.8, 0.0, 0.0, -0.8))
    fit = fit_levels(p, labels, groups)
    assert fit.scale == pytest.approx(0.5, abs=0.05)
    assert np.subtract(fit.bias, np.mean(fit.bias)) == pytest.approx((0.8, 0, 0, -0.8), abs=0.12)
    assert (fit.queries, fit.before.n, fit.after.n) == (40, 6000, 6000)
    assert fit.after.nll < fit.before.nll - 0.1
    assert fit.after.ece_2 < 0.03 < fit.before.ece_2
    assert fit.after.ece_4 < 0.03 < fit.before.ece_4


def test_a_fair_judge_is_left_as_it_is():
    p, labels, groups = drawn(4000, 1.0, (0, 0, 0, 0))
    fit = fit_levels(p, labels, groups)
    assert fit.scale == pytest.approx(1, abs=0.06)
    assert fit.bias == pytest.approx((0, 0, 0, 0), abs=0.08)


def test_a_judge_that_is_wrong_way_round_is_not_turned_round():
    p, labels, groups = drawn(2000, -1.0, (0, 0, 0, 0))
    fit = fit_levels(p, labels, groups)
    assert fit.scale == 0
    shares = np.bincount(labels, minlength=5)[1:] / len(labels)
    assert np.exp(fit.bias) / np.exp(fit.bias).sum() == pytest.approx(shares, abs=0.01)


def test_a_level_that_nobody_was_given_does_not_run_away():
    p, labels, groups = drawn(500, 1.0, (0, 0, 0, 0))
    fit = fit_levels(p, [2 if one == 1 else one for one in labels], groups)
    assert all(abs(one) < 10 for one in fit.bias)


def test_certainties_of_0_and_1_can_be_fitted():
    p = [(1, 0, 0, 0), (0, 0, 0, 1)] * 40
    fit = fit_levels(p, [1, 4, 1, 4, 1, 4, 4, 4] * 10, [f"q{i // 8}" for i in range(80)])
    assert 0 < fit.scale < 1
    assert math.isfinite(fit.after.nll) and fit.after.nll < fit.before.nll


def test_nothing_to_fit_on():
    with pytest.raises(InputError, match="nothing to fit on"):
        fit_levels([(0.25,) * 4] * 3, [1, 2, 3], ["q"] * 3)
    with pytest.raises(InputError, match="nothing to fit on"):
        fit_levels([(0.25,) * 4] * 2, [1, 1], ["a", "b"])
    with pytest.raises(ValueError, match="do not go together"):
        fit_levels([(0.25,) * 4], [1, 2], ["a", "b"])


def test_quality_by_hand():
    found = quality([(0.1, 0.1, 0.4, 0.4), (0.7, 0.1, 0.1, 0.1)], [4, 1], ["a", "b"])
    assert found.nll == pytest.approx(-(math.log(0.4) + math.log(0.7)) / 2)
    assert found.ece_2 == pytest.approx((0.2 + 0.2) / 2)  # 0.8 of a relevant one, 0.2 of an irrelevant one
    assert found.ece_4 == pytest.approx((0.4 + 0.3) / 2)  # L3 at 0.4 is wrong, L1 at 0.7 is right


@settings(max_examples=50)
@given(distributions, st.floats(0, 3), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_what_is_calibrated_is_a_distribution(p, scale, bias):
    calibration = LevelCalibration(kind="fitted", judge="x", judge_sha="y", scale=scale, bias=tuple(bias))
    assert sum(calibration.apply(p)) == pytest.approx(1)
    same = LevelCalibration(kind="fitted", judge="x", judge_sha="y", scale=1.0, bias=(0, 0, 0, 0))
    assert same.apply(p) == pytest.approx(p, abs=1e-6)


# -- on a judge --------------------------------------------------------------------------------------------------------


def script(tmp_path, **rules):
    lines = []
    for words, likelihoods in rules.items():
        named = ", ".join(f"{level} = {p}" for level, p in likelihoods.items())
        lines.append(f'[[rules]]\nwords = ["{words}"]\nlikelihoods = {{ {named} }}\n')
    file = tmp_path / "script.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return f"direct:scripted:{file}"


SURE = {"L1": 0.1, "L2": 0.2, "L3": 0.3, "L4": 0.4}


def test_what_is_said_of_nothing_is_taken_off(tmp_path):
    address = script(tmp_path, leather=SURE, quality={"L1": 0.4, "L2": 0.3, "L3": 0.2, "L4": 0.1})
    plain = open_judge(address, KNOWLEDGE)
    judge = open_judge(address, KNOWLEDGE, calibration="contextual")
    (before,), (after,) = plain.judge([PAIR]), judge.judge([PAIR])
    assert before.probabilities == pytest.approx((0.1, 0.2, 0.3, 0.4))
    # nothing: no rule of the script fits a pair of N/A, so each level is equally likely and nothing changes
    assert after.probabilities == pytest.approx(before.probabilities)
    assert judge.sha != plain.sha and judge.versions["calibration"]
    assert after.provenance.settings_sha == judge.sha


def test_contextual_divides_by_what_is_said_of_nothing(tmp_path):
    file = tmp_path / "s.toml"
    body = '[[rules]]\nwords = ["leather"]\nlikelihoods = {L1 = 0.1, L2 = 0.2, L3 = 0.3, L4 = 0.4}\n'
    file.write_text(body + "[default]\nlikelihoods = {L1 = 0.1, L2 = 0.2, L3 = 0.3, L4 = 0.4}\n", encoding="utf-8")
    (judged,) = open_judge(f"direct:scripted:{file}", KNOWLEDGE, calibration="contextual").judge([PAIR])
    assert judged.probabilities == pytest.approx((0.25,) * 4)


def test_a_file_holds_for_the_judge_it_was_fitted_for(tmp_path):
    address = script(tmp_path, leather=SURE)
    judge = open_judge(address, KNOWLEDGE)
    bias = tuple(-math.log(p) for p in (0.1, 0.2, 0.3, 0.8))
    some = Quality(n=4, nll=1.0, ece_2=0.1, ece_4=0.2)
    made = LevelCalibration(
        kind="fitted", judge=address, judge_sha=judge.sha, scale=1, bias=bias, dataset="d", queries=2, before=some
    )
    path = tmp_path / "deep" / "levels.json"
    write_levels(made, path)
    assert read_levels(path) == made
    (judged,) = open_judge(address, KNOWLEDGE, calibration=path).judge([PAIR])
    assert judged.probabilities == pytest.approx((2 / 7, 2 / 7, 2 / 7, 1 / 7))
    assert (judged.grade, judged.mode) == (Grade.L2, "direct")
    assert judged.score == pytest.approx((2 + 4 + 3) / 21)
    with pytest.raises(ConfigError, match=r"fitted for judge direct:scripted.*and this is rules"):
        open_judge("rules", KNOWLEDGE, calibration=path)
    with pytest.raises(ConfigError, match="fit it anew"):
        open_judge(address, KNOWLEDGE, calibration=path, hint=True)


def test_the_rules_keep_their_grade():
    judge = open_judge("rules", KNOWLEDGE)
    (before,) = judge.judge([PAIR])
    bias = LevelCalibration(kind="fitted", judge="rules", judge_sha=judge.sha, scale=0.0, bias=(5, 0, 0, 0))
    from relevance.calibration import Calibrated

    (after,) = Calibrated(judge, bias).judge([PAIR])
    assert (before.grade, after.grade) == (Grade.L4, Grade.L4)
    assert after.probabilities == pytest.approx([math.exp(5) / (math.exp(5) + 3)] + [1 / (math.exp(5) + 3)] * 3)
    assert after.path == before.path
    with pytest.raises(InputError, match="contextual"):
        calibrated(judge, "contextual")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "JSON"),
        ("{}", "kind"),
        (json.dumps({"kind": "fitted", "judge": "j", "judge_sha": "s", "scale": -1, "bias": [0, 0, 0, 0]}), "scale"),
        (json.dumps({"kind": "fitted", "judge": "j", "judge_sha": "s", "scale": 1, "bias": [0, 0, 0]}), "bias"),
        ('{"kind": "fitted", "judge": "j", "judge_sha": "s", "scale": 1, "bias": [0, 0, 0, NaN]}', "bias|finite"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, body, said):
    file = tmp_path / "levels.json"
    file.write_text(body, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        open_judge("rules", KNOWLEDGE, calibration=file)
    assert "\n" not in str(caught.value) and "lore calibrate judge" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        open_judge("rules", KNOWLEDGE, calibration=tmp_path / "none.json")


def test_a_failed_pair_stays_failed(tmp_path):
    address = script(tmp_path, leather=SURE)
    judge = open_judge(address, KNOWLEDGE, calibration="contextual")
    nothing = Understanding(Query("q", "?"), "", status="failed", error="empty query")
    (judged,) = judge.judge([(nothing, PAIR[1])])
    assert (judged.grade, judged.status, judged.probabilities) == (None, "failed", None)
    judge.close()
    judge.close()
