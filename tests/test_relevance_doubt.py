"""Run: pytest tests/test_relevance_doubt.py

Pooled probabilities that never saw the label they doubt, votes beside them, and margins, by hand and on made-up errors.
"""

import numpy as np
import pytest

from lore_mm.errors import InputError
from relevance.baselines import folds_of
from relevance.doubt import answers_as_features, likely_levels, margins, with_votes


def test_margins_by_hand():
    likely = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1]])
    assert margins(likely, [1, 4]).tolist() == pytest.approx([0.1 - 0.7, 0.5 - 0.1])
    assert likely[0, 0] == 0.7  # as it was


def test_votes_are_counted_as_a_prior_of_one_rater():
    likely = np.array([[0.4, 0.2, 0.2, 0.2]] * 2)
    found = with_votes(likely, [[0, 0, 1, 2], [0, 0, 0, 0]])
    assert found[0].tolist() == pytest.approx([0.4 / 4, 0.2 / 4, 1.2 / 4, 2.2 / 4])
    assert found[1].tolist() == likely[1].tolist() and found.sum(axis=1) == pytest.approx([1, 1])


def test_answers_are_numbers_and_what_is_missing_is_none():
    found = answers_as_features([4, 0], [0.9, float("nan")], [[0.0, 0.0, 0.1, 0.9], None])
    assert found.shape == (2, 10)
    assert found[0, :2].tolist() == pytest.approx([0.9, 0.81]) and found[0, 2] == pytest.approx(np.log(0.01))
    assert found[0, 6:].tolist() == [0, 0, 0, 1] and np.isnan(found[1, :6]).all() and found[1, 6:].tolist() == [0] * 4
    assert answers_as_features([1], [0.5]).shape == (1, 2)


def made(n=400, seed=0):
    lot = np.random.default_rng(seed)
    truth = lot.integers(1, 5, n)
    scores = (truth - 1) / 3 + lot.normal(0, 0.12, n)
    return truth, answers_as_features(truth, scores), [f"q{i // 8}" for i in range(n)]


def test_labels_that_were_spoilt_come_first():
    truth, features, groups = made()
    lot = np.random.default_rng(1)
    spoilt = lot.random(len(truth)) < 0.1
    labels = np.where(spoilt, truth % 4 + 1, truth)
    doubts = margins(likely_levels(features, labels.tolist(), groups), labels.tolist())
    order = np.argsort(-doubts)
    assert spoilt[order[: spoilt.sum()]].mean() > 0.7  # a tenth by chance


def test_no_label_of_a_query_is_seen_by_what_doubts_it():
    truth, features, groups = made()
    fold = folds_of(groups)
    turned = np.where(fold == 0, 5 - truth, truth)  # all labels of one fold turned round
    one, other = (likely_levels(features, labels.tolist(), groups) for labels in (truth, turned))
    assert np.allclose(one[fold == 0], other[fold == 0])
    assert not np.allclose(one[fold == 1], other[fold == 1])
    assert one.sum(axis=1) == pytest.approx(np.ones(len(truth)))


def test_missing_answers_count_as_mean_ones():
    truth, features, groups = made(80)
    features[:40] = np.nan
    found = likely_levels(features, truth.tolist(), groups)
    assert np.isfinite(found).all()


def test_folds_keep_queries_together():
    fold = folds_of(["a", "b", "a", "c", "b"], folds=5)
    assert fold[0] == fold[2] and fold[1] == fold[4] and len(set(fold)) == 3


def test_too_few_labels_are_refused():
    with pytest.raises(InputError, match="2 labels of 1 queries: too few"):
        likely_levels(np.zeros((2, 1)), [1, 4], ["a", "a"])
