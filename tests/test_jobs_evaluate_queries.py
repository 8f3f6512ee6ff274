"""Run: pytest tests/test_jobs_evaluate_queries.py

Spans and demands beside their truth, by hand and against scikit-learn; baselines; the command over small data sets.
"""

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

import jobs.evaluate_queries as command
import jobs.query_systems as systems
from extractors.query.engine import failed
from jobs.evaluate import app
from jobs.evaluate_queries import evaluate_gold, evaluate_tags
from jobs.query_matching import heads_match, match, match_latent, same_value
from jobs.query_metrics import differences, measure
from jobs.query_scoring import Share, Tally, score_demands, score_spans
from jobs.query_spans import apart, dimension_spans, tag_spans
from jobs.query_systems import COMMONEST, ONE_THING, Reading, commonest_tags, one_thing, one_thing_tagged
from jobs.query_tables import query_rows, query_tables
from lore_mm.console import print_table, run
from lore_mm.datasets.query_sets import GoldDemand, GoldQuery
from lore_mm.datasets.queryner import Span, TaggedQuery
from lore_mm.errors import ModelError
from lore_mm.models.query_tagger import Tag
from lore_mm.types import Demand, Query, Understanding

ROOT = Path(__file__).parent.parent
MEN = TaggedQuery(
    "1", ("red", "shoes", "for", "men"), ("B-color", "B-core_product_type", "B-department", "I-department")
)
NIKE = TaggedQuery("2", ("nike", "air", "max"), ("B-creator", "B-product_name", "I-product_name"))


def value(measured, metric):
    return measured.metrics[metric].value


def said(text, dimension, words, canonical=None, **more):
    start = text.index(words)
    return Demand(dimension, words, canonical, start=start, end=start + len(words), **more)


def meant(text, dimension, words, *canonical, **more):
    start = text.index(words)
    return GoldDemand(dimension, words, start, start + len(words), canonical or None, **more)


def gold(text, *demands, hard_type="other", referent="precise", normalized=None):
    return GoldQuery("g", text, "dev", hard_type, referent, normalized, demands)


def understood(text, *demands, normalized=None, **more):
    return Understanding(Query("g", text), normalized or text, demands, **more)


# -- spans -------------------------------------------------------------------------------------------------------------


def test_a_span_is_right_where_its_type_and_both_boundaries_are():
    # the colour is right, the thing has another type, the audience begins too late
    answer = [Span(0, 3, "color"), Span(4, 9, "modifier"), Span(14, 17, "department")]
    score = score_spans(MEN, answer)
    assert score.tallies["span"] == Tally(said=3, right=1, true=3, found=1)
    assert score.tallies["segmentation"] == Tally(3, 2, 3, 2)
    assert score.tallies["span/color"] == Tally(1, 1, 1, 1)
    assert score.tallies["span/core_product_type"] == Tally(0, 0, 1, 0)
    assert score.tallies["span/modifier"] == Tally(1, 0, 0, 0)
    assert score.shares == {"exact": Share(0, 1)}
    measured = measure([score], resamples=20)
    assert [value(measured, f"span_{m}") for m in ("precision", "recall", "f1")] == [1 / 3, 1 / 3, pytest.approx(1 / 3)]
    assert value(measured, "segmentation_f1") == pytest.approx(2 / 3)
    assert value(measured, "macro_span_f1") == 1 / 4  # colour 1; thing, modifier and audience 0
    assert measured.parts["span"]["color"].metrics["f1"].value == 1


def test_over_several_queries_counts_are_summed_up_before_they_are_divided():
    scores = [score_spans(MEN, MEN.spans), score_spans(NIKE, [Span(0, 12, "creator")])]
    measured = measure(scores, resamples=200)
    # 3 right of 4 said, 3 found of 5
    assert value(measured, "span_precision") == 3 / 4
    assert value(measured, "span_recall") == 3 / 5
    assert value(measured, "span_f1") == pytest.approx(2 * 3 / (4 + 5))
    assert value(measured, "exact_accuracy") == 1 / 2
    low, high = measured.metrics["span_f1"].low, measured.metrics["span_f1"].high
    assert (low, high) == (0, 1)  # a resample may be the one query only, or the other only


def test_nothing_said_and_failed_queries_count_as_not_answered():
    silent = measure([score_spans(MEN, [])], resamples=5)
    assert math.isnan(value(silent, "span_precision")) and silent.failed == 0
    assert (value(silent, "span_recall"), value(silent, "span_f1")) == (0, 0)
    broken = measure([score_spans(MEN, [], "ValueError: x"), score_spans(NIKE, NIKE.spans)], resamples=5)
    assert (broken.n, broken.failed, value(broken, "span_recall")) == (2, 1, 2 / 5)
    untagged = TaggedQuery("3", ("hm",), ("O",))
    assert value(measure([score_spans(untagged, [])], resamples=5), "exact_accuracy") == 1
    assert value(measure([score_spans(untagged, [], "dead")], resamples=5), "exact_accuracy") == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from("OabAB"), min_size=4, max_size=4)] * 2), min_size=1, max_size=5))
def test_precision_recall_and_f1_are_those_of_scikit_learn(pairs):
    """Over all spans there could be, a column a type: said or not, true or not. Capitals begin a span."""
    types = {"a": "color", "b": "shape"}
    tokens = ("w",) * 4

    def tagged(marks):
        labels = ["O" if m == "O" else f"{'B' if m.isupper() else 'I'}-{types[m.lower()]}" for m in marks]
        return TaggedQuery("q", tokens, tuple(labels))

    scores, true, guessed = [], [], []
    for truth, guess in pairs:
        theirs, mine = tagged(truth), tagged(guess)
        scores.append(score_spans(theirs, mine.spans))
        for a in range(4):
            for b in range(a, 4):
                place = theirs.places[a][0], theirs.places[b][1]
                true.append([Span(*place, kind) in theirs.spans for kind in types.values()])
                guessed.append([Span(*place, kind) in mine.spans for kind in types.values()])
    measured = measure(scores, resamples=3)
    for average in ("micro", "macro"):
        p, r, f1, _ = precision_recall_fscore_support(
            np.array(true), np.array(guessed), average=average, zero_division=0
        )
        if average == "micro":
            found = [np.nan_to_num(value(measured, f"span_{m}")) for m in ("precision", "recall", "f1")]
            assert found == pytest.approx([p, r, f1])
        elif all(np.any(true, axis=0) | np.any(guessed, axis=0)):  # scikit-learn counts a type that occurs nowhere
            assert value(measured, "macro_span_f1") == pytest.approx(f1)


def test_queries_with_the_same_words_are_one_group():
    scores = [score_spans(MEN, MEN.spans), score_spans(MEN, [])]
    assert measure(scores, resamples=50).metrics["span_recall"].low == 0.5  # drawn together or not at all


def test_differences_are_paired():
    right = measure([score_spans(MEN, MEN.spans), score_spans(NIKE, NIKE.spans)], resamples=50)
    half = measure([score_spans(MEN, MEN.spans), score_spans(NIKE, [])], resamples=50)
    found = differences(right, half)
    assert found["span_recall"].value == 2 / 5
    assert differences(right, right)["span_f1"].low == differences(right, right)["span_f1"].high == 0


# -- demands as spans --------------------------------------------------------------------------------------------------


def test_demands_become_tags_on_whole_words():
    text = "nike running shoes for men without laces size 42"
    demands = [
        said(text, "category", "shoes"),
        said(text, "function", "running"),
        said(text, "brand", "nike"),
        said(text, "audience", "men"),
        said(text, "style_detail", "lace", polarity=-1),  # a part of a word, unwanted
        said(text, "spec", "42", number=42),
        Demand("category", "sneaker", "sneaker", latent=True),
    ]
    found = {text[s.start : s.end]: s.type for s in tag_spans(text, demands)}
    assert found == {
        "nike": "creator", "running": "modifier", "shoes": "core_product_type", "for men": "department",
        "without laces": "condition", "42": "UoM",
    }  # fmt: skip


def test_a_value_may_go_elsewhere_than_its_dimension():
    text = "small vintage christmas mug"
    demands = [said(text, "style_detail", "small", "small"), said(text, "special", "vintage", "vintage")]
    assert [s.type for s in tag_spans(text, demands)] == ["UoM", "condition"]
    assert [s.type for s in tag_spans(text, [said(text, "special", "christmas", "christmas")])] == ["occasion"]
    assert [s.type for s in tag_spans(text, [said(text, "special", "christmas")])] == ["modifier"]  # not linked


def test_a_word_is_taken_along_once_and_only_where_the_annotators_do():
    text = "case for iphone for men"
    demands = [said(text, "model", "iphone"), said(text, "special", "for"), said(text, "audience", "men")]
    assert [text[s.start : s.end] for s in tag_spans(text, demands)] == ["for", "iphone", "for men"]
    text = "toys for kids"
    demands = [said(text, "category", "toys for"), said(text, "audience", "kids")]
    assert [text[s.start : s.end] for s in tag_spans(text, demands)] == ["toys for", "kids"]


def test_spans_that_overlap_give_way_to_the_longer():
    spans = [Span(0, 3, "a"), Span(2, 9, "b"), Span(9, 12, "c"), Span(9, 12, "d")]
    assert apart(spans) == (Span(2, 9, "b"), Span(9, 12, "c"))
    assert apart([]) == ()


def test_spans_by_dimension_are_those_that_are_said():
    text = "red mug"
    found = dimension_spans([said(text, "color", "red"), said(text, "category", "mug"), Demand("brand", "x")])
    assert found == (Span(0, 3, "color"), Span(4, 7, "category"))


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=4))
def test_tags_never_overlap_and_stand_in_the_query(text, places):
    demands = [Demand("audience", "x", start=a, end=a + n) for a, n in places]
    spans = tag_spans(text, demands)
    assert all(text[s.start : s.end].strip() == text[s.start : s.end] != "" for s in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))


# -- one demand --------------------------------------------------------------------------------------------------------

Q = "red nike running shoes size 42 under 50 without laces"


@pytest.mark.parametrize(
    ("true", "found", "same"),
    [
        (meant(Q, "color", "red", "red"), said(Q, "color", "red", "red"), True),
        (meant(Q, "color", "red", "red", "crimson"), said(Q, "color", "red", "Crimson"), True),
        (meant(Q, "color", "red", "red"), said(Q, "style", "red", "red"), False),  # another dimension
        (meant(Q, "color", "red", "red"), said(Q, "color", "red", "blue"), False),
        (meant(Q, "color", "red", "red"), said(Q, "color", "red"), False),  # not linked
        (meant(Q, "color", "red", "red"), said(Q, "color", "red", "red", polarity=-1), False),
        (meant(Q, "style_detail", "laces", "lace-up", polarity=-1),
         said(Q, "style_detail", "without laces", "lace-up", polarity=-1), True),  # the words do not matter
        (meant(Q, "function", "running", None), said(Q, "function", "running"), True),
        (meant(Q, "function", "running", None), said(Q, "function", "running shoes"), False),  # other words
        (meant(Q, "function", "running", None), said(Q, "function", "running", "sport"), False),  # invented
        (meant(Q, "function", "running", "sport", None), said(Q, "function", "running", "sport"), True),
        (meant(Q, "function", "running", "sport", None), said(Q, "function", "running"), True),
        (meant(Q, "spec", "size 42", number=42.0), said(Q, "spec", "42", number=42.0, unit="EU"), True),
        (meant(Q, "spec", "size 42", number=42.0), said(Q, "spec", "42", number=42.1), True),  # within half a per cent
        (meant(Q, "spec", "size 42", number=42.0), said(Q, "spec", "42", number=43.0), False),
        (meant(Q, "spec", "size 42", number=42.0), said(Q, "spec", "42"), False),
        (meant(Q, "price", "under 50", number=20.0, number_high=50.0), said(Q, "price", "50", number=20.0), False),
        (meant(Q, "spec", "size 42"), said(Q, "spec", "42"), True),  # nothing judged: the same place
        (meant(Q, "spec", "size 42"), said(Q, "spec", "under"), False),
    ],
)  # fmt: skip
def test_the_same_value(true, found, same):
    assert same_value(true, found, Q) is same


def test_matching_finds_as_many_pairs_as_there_are():
    text = "red or crimson mug"
    true = [meant(text, "color", "red", "red", "crimson"), meant(text, "color", "crimson", "red")]
    found = [said(text, "color", "red", "red"), said(text, "color", "crimson", "crimson")]
    # the first would keep what only the second can have, were it served first come first served
    assert match(true, found, lambda g, d: same_value(g, d, text)) == [(0, 1), (1, 0)]
    assert match(true, found[:1], lambda g, d: same_value(g, d, text)) == [(0, 0)]
    assert match([], found, lambda g, d: True) == match(true, [], lambda g, d: True) == []


def test_latent_demands_may_fulfil_one_together():
    true = [GoldDemand("category", canonical=("mug", "flask"), latent=True)]
    found = [Demand("category", "", name, latent=True) for name in ("flask", "cup", "mug")]
    assert match_latent(true, found) == [(0, 0), (0, 2)]


def test_heads():
    text = "iphone 15 vs galaxy s24"
    first, second = (meant(text, "model", words, words, role="head") for words in ("iphone 15", "galaxy s24"))
    query = gold(text, first, second)
    assert heads_match(query, said(text, "model", "galaxy s24", "galaxy s24"))
    assert not heads_match(query, said(text, "model", "galaxy s24", "galaxy s23"))
    assert not heads_match(query, None)
    assert heads_match(gold(text), None)
    assert heads_match(gold(text), Demand("category", "phone", "smartphone", latent=True))
    assert not heads_match(gold(text), said(text, "model", "iphone 15"))


# -- one understanding -------------------------------------------------------------------------------------------------


def test_an_understanding_is_counted():
    query = gold(
        Q,
        meant(Q, "category", "running shoes", "running_shoe", role="head"),
        meant(Q, "color", "red", "red"),
        meant(Q, "brand", "nike", "Nike"),
        meant(Q, "price", "under 50", op="at_most", number=50.0, unit_judged=True),
        meant(Q, "spec", "size 42", number=42.0, unit="EU", unit_judged=True),
        hard_type="multi_attribute",
    )
    found = understood(
        Q,
        said(Q, "category", "running shoes", "running_shoe", role="head"),
        said(Q, "color", "red", "red", strictness="soft"),
        said(Q, "brand", "nike", "Puma"),  # located, but another maker
        said(Q, "price", "under 50", number=50.0),  # another operator
        said(Q, "special", "without laces"),  # not meant
        hard_type="multi_attribute",
        referent="generic",
    )
    score = score_demands(query, found)
    t = score.tallies
    assert t["demand"] == Tally(said=5, right=3, true=5, found=3)
    assert t["located"] == Tally(5, 4, 5, 4)
    assert t["span"] == Tally(5, 4, 5, 4)
    assert t["demand/brand"] == Tally(1, 0, 1, 0) and t["demand/special"] == Tally(1, 0, 0, 0)
    assert t["latent"] == t["correction"] == Tally(0, 0, 0, 0)
    assert score.shares == {
        "head": Share(1, 1), "hard_type": Share(1, 1), "referent": Share(0, 1),
        "strictness": Share(2, 3),  # of the three that are right
        "operator": Share(0, 2), "number": Share(1, 2), "unit": Share(1, 2),  # the size was not found
        "unchanged": Share(1, 1), "exact": Share(0, 1),
    }  # fmt: skip
    measured = measure([score], resamples=5)
    assert value(measured, "demand_f1") == pytest.approx(3 / 5)
    assert value(measured, "macro_demand_f1") == pytest.approx(3 / 6)  # category, color, price of six dimensions
    assert value(measured, "operator_accuracy") == 0 and value(measured, "unchanged_share") == 1
    assert math.isnan(value(measured, "latent_f1")) and math.isnan(value(measured, "correction_f1"))


def test_a_perfect_understanding_is_exact():
    query = gold(Q, meant(Q, "color", "red", "red"), referent=None)
    score = score_demands(query, understood(Q, said(Q, "color", "red", "red")))
    assert score.shares["exact"] == Share(1, 1) and score.shares["referent"] == Share(1, 1) and score.missed == 0


def test_latent_demands_are_told_apart():
    implied = GoldDemand("category", canonical=("flask",), latent=True)
    perhaps = GoldDemand("category", canonical=(None, "mug"), latent=True)
    latent = [Demand("category", "", name, latent=True) for name in ("flask", "cup")]
    assert score_demands(gold(Q, implied), understood(Q, *latent)).tallies["latent"] == Tally(2, 1, 1, 1)
    assert score_demands(gold(Q, implied), understood(Q)).tallies["latent"] == Tally(0, 0, 1, 0)
    assert score_demands(gold(Q, perhaps), understood(Q)).tallies["latent"] == Tally(0, 0, 0, 0)  # none is right too
    # the maker that a model implies is not judged
    brand = Demand("brand", "", "Nike", latent=True)
    model = meant(Q, "model", "nike", "Nike")
    assert score_demands(gold(Q, model), understood(Q, brand)).tallies["latent"] == Tally(0, 0, 0, 0)
    assert score_demands(gold(Q), understood(Q, brand)).tallies["latent"] == Tally(1, 0, 0, 0)


def test_an_alternative_counts_for_a_head_and_costs_nothing():
    text = "tablet or laptop"
    tablet = said(text, "category", "tablet", "tablet", alternatives=("laptop", "phone"))
    both = [meant(text, "category", name, name, role="head") for name in ("tablet", "laptop")]
    assert score_demands(gold(text, *both), understood(text, tablet)).tallies["demand"] == Tally(2, 2, 2, 2)
    assert score_demands(gold(text, both[0]), understood(text, tablet)).tallies["demand"] == Tally(1, 1, 1, 1)


@pytest.mark.parametrize(
    ("typed", "right", "read", "correction", "unchanged"),
    [
        ("runing shos", "running shoes", "Running  shoes", Tally(1, 1, 1, 1), Share(0, 0)),
        ("runing shos", "running shoes", "running shos", Tally(1, 0, 1, 0), Share(0, 0)),  # half is not right
        ("runing shos", "running shoes", "runing shos", Tally(0, 0, 1, 0), Share(0, 0)),
        ("nuphy air75", None, "nuphy air75", Tally(0, 0, 0, 0), Share(1, 1)),
        ("nuphy air75", None, "murphy air75", Tally(1, 0, 0, 0), Share(0, 1)),
        ("Nuphy  AIR75", None, "nuphy air75", Tally(0, 0, 0, 0), Share(1, 1)),  # case and spaces are no spelling
    ],
)
def test_corrections(typed, right, read, correction, unchanged):
    score = score_demands(gold(typed, normalized=right), understood(typed, normalized=read))
    assert (score.tallies["correction"], score.shares["unchanged"]) == (correction, unchanged)


def test_a_failed_understanding_has_nothing_right():
    query = gold(Q, meant(Q, "color", "red", "red"), referent=None)
    score = score_demands(query, failed(Query("g", Q), "RuntimeError: broken", "x"))
    assert score.error == "RuntimeError: broken"
    assert {name: share.right for name, share in score.shares.items()} == dict.fromkeys(score.shares, 0)
    assert score.tallies["demand"] == Tally(0, 0, 1, 0)


# -- baselines ---------------------------------------------------------------------------------------------------------


def test_the_baselines():
    queries = [TaggedQuery("3", ("Nike", "red", "thing"), ("O", "O", "O"))]
    assert one_thing_tagged(queries).results == [Reading((Span(0, 14, "core_product_type"),))]
    assert commonest_tags([MEN, NIKE], queries).results == [
        Reading((Span(0, 4, "creator"), Span(5, 8, "color"), Span(9, 14, "modifier")))
    ]
    # neighbours of one type are one span; a word that is mostly outside is outside
    odd = [TaggedQuery("4", ("for", "air"), ("O", "O")), TaggedQuery("5", ("for",), ("O",))]
    queries = [TaggedQuery("6", ("air", "max", "for", "men"), ("O",) * 4)]
    [reading] = commonest_tags([MEN, NIKE, NIKE, *odd], queries).results
    assert reading.spans == (Span(0, 7, "product_name"), Span(12, 15, "department"))
    asked = [gold("a b", hard_type="question"), gold("c", hard_type="question"), gold("d")]
    [first, *_] = one_thing(asked).results
    assert (first.hard_type, first.referent, first.demands[0].start, first.demands[0].end) == (
        "question",
        "precise",
        0,
        3,
    )


# -- the whole ---------------------------------------------------------------------------------------------------------


class Fake:
    """An engine that takes the first word for the maker, and breaks on others."""

    def __init__(self, name="fake"):
        self.name, self.sha, self.closed = name, "0", 0

    def understand(self, queries):
        return [self._one(query) for query in queries]

    def _one(self, query):
        word = query.text.split()[0]
        if word == "red":
            return failed(query, "ValueError: red", self.name)
        demand = Demand("brand", word, "Nike", role="head", start=0, end=len(word))
        return Understanding(query, query.text, (demand,), engine=self.name)

    def close(self):
        self.closed += 1


@pytest.fixture
def fake(monkeypatch):
    opened = []
    real = systems.open_engine

    def open_engine(address, knowledge=None):
        if not address.startswith("fake"):
            return real(address, knowledge)
        opened.append(Fake(address))
        return opened[-1]

    monkeypatch.setattr(systems, "open_engine", open_engine)
    monkeypatch.setattr(command, "open_engine", open_engine)
    return opened


def test_tags_are_evaluated_beside_baselines(fake):
    found = evaluate_tags([MEN, NIKE], ["fake", "fake2"], train=[MEN], resamples=20)
    assert [engine.closed for engine in fake] == [1, 1]
    result = found.as_json()
    assert result["system"] == "fake" and (result["n"], result["failed"]) == (2, 1)
    assert result["metrics"]["span_f1"]["value"] == pytest.approx(2 * 1 / (1 + 5), abs=1e-6)
    assert result["metrics"]["span_precision"]["value"] == 1
    assert list(result["systems"]) == ["fake", "fake2", ONE_THING, COMMONEST]
    assert result["systems"]["fake"]["parts"]["span"]["creator"]["true"] == 1
    assert {"seconds", "queries_per_second"} <= set(result["systems"]["fake"])
    assert "seconds" not in result["systems"][ONE_THING]
    assert list(result["differences"]) == ["fake - fake2", f"fake - {ONE_THING}", f"fake - {COMMONEST}"]
    assert result["differences"]["fake - fake2"]["span_f1"] == {"value": 0, "low": 0, "high": 0}
    # what also stands in train is told, and left out once more
    told = "1 queries also stand in split train, word for word; span F1 without them: fake 0.667, fake2 0.667"
    assert told in result["notes"]
    assert result["without_duplicates"]["n"] == 1
    assert result["without_duplicates"]["systems"]["fake"]["span_f1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert any("fake: 1 queries failed and count as not answered: 1 × ValueError: red" in n for n in result["notes"])
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(("address", "place"), [("tagger", None), ("tagger:mine", Path("mine"))])
def test_the_tagger_is_scored_on_its_own_tags(monkeypatch, address, place):
    class Tagger:
        closed = False

        def __init__(self, folder, knowledge):
            assert folder == place

        def tag(self, texts):
            return [(Tag("creator", 0, 4, 0.9), Tag("product_name", 5, 12, 0.8)) for _ in texts]

        def close(self):
            Tagger.closed = True

    monkeypatch.setattr("lore_mm.models.query_tagger.open_tagger", Tagger)
    found = evaluate_tags([NIKE], [address], resamples=5)
    assert value(found.measured[address], "span_f1") == 1 and Tagger.closed
    assert COMMONEST not in found.measured and any("no baseline" in note for note in found.notes)
    assert not any("scored as tags" in note for note in found.notes)


def test_gold_is_evaluated(fake):
    queries = [
        gold("nike shoes", meant("nike shoes", "brand", "nike", "Nike", role="head")),
        gold("red shoes", meant("red shoes", "color", "red", "red"), hard_type="question"),
    ]
    result = evaluate_gold(queries, ["fake"], resamples=20).as_json()
    assert result["metrics"]["demand_precision"]["value"] == 1
    assert result["metrics"]["demand_recall"]["value"] == 0.5
    assert result["metrics"]["head_accuracy"]["value"] == 0.5
    assert result["metrics"]["span_f1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert result["systems"]["fake"]["confusion"] == {"other": {"other": 1}, "question": {"other": 1}}
    assert result["systems"]["fake"]["failed"] == 1
    json.dumps(result, allow_nan=False)


def test_a_dead_engine_is_closed_and_told(fake, monkeypatch):
    monkeypatch.setattr(Fake, "understand", lambda self, queries: (_ for _ in ()).throw(ModelError("dead")))
    with pytest.raises(ModelError, match="dead"):
        evaluate_tags([MEN], ["fake"])
    assert fake[0].closed == 1


def test_tables_can_be_printed_whatever_is_in_a_query(capsys, fake):
    odd = TaggedQuery("9", ("[red]", "\x1b[31mx"), ("B-color", "B-core_product_type"))
    found = evaluate_tags([odd, NIKE], ["fake"], train=[NIKE], resamples=5)
    worst = command.example_rows(found.queries, found.runs["fake"], found.scores["fake"], 2)
    for table in query_tables(found.measured, None, worst):
        print_table(table)
    shown = capsys.readouterr().out
    assert "[red]" in shown and "\x1b[31m" not in shown and "span F1" in shown
    gold_found = evaluate_gold([gold("nike", meant("nike", "brand", "nike", "Nike"))], ["fake"], resamples=5)
    for table in query_tables(gold_found.measured, gold_found.confusion["fake"]):
        print_table(table)
    shown = capsys.readouterr().out
    assert "demand F1" in shown and "hard types said by fake" in shown
    rows = {row[""]: row for row in query_rows(gold_found.as_json())}
    assert rows["demand F1"]["fake"] == "1.000 [1.000, 1.000]"
    assert rows["latent F1"]["fake"] == "–"


# -- the command -------------------------------------------------------------------------------------------------------


def lines(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.fixture
def queryner(tmp_path):
    folder = tmp_path / "queryner"
    folder.mkdir()
    rows = [{"tokens": q.tokens, "labels": q.labels} for q in (MEN, NIKE)]
    lines(folder / "train.jsonl", rows[:1])
    lines(folder / "dev.jsonl", rows)
    lines(folder / "test.jsonl", rows[1:])
    return folder


GOLD = [
    {"query_id": f"g{n}", "query": text, "split": split, "hard_type": "other", "referent": "precise",
     "demands": [{"dimension": "category", "words": "shoes", "canonical": "shoe", "role": "head"},
                 {"dimension": "color", "words": color, "canonical": color}]}
    for n, (text, color, split) in enumerate(
        [("red shoes", "red", "dev"), ("blue shoes", "blue", "dev"), ("green shoes", "green", "test")]
    )
]  # fmt: skip


def evaluated(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run(app, ["queries", *map(str, arguments)], name="evaluate")
    told = capsys.readouterr()
    return stop.value.code or 0, told.out, told.err


def test_the_command_on_queryner(capsys, queryner, tmp_path):
    saved = tmp_path / "out" / "said.jsonl"
    code, out, _ = evaluated(
        capsys, "--dataset", f"queryner:{queryner}", "--engine", "knowledge", "--errors", 1, "--save", saved, "--json"
    )
    assert code == 0
    result = json.loads(out)
    assert set(result) == {
        "dataset", "split", "system", "n", "failed", "metrics", "systems", "differences", "without_duplicates", "notes",
        "worst",
    }  # fmt: skip
    assert (
        result["n"] == 2 and result["split"] == "dev" and set(result["metrics"]["span_f1"]) == {"value", "low", "high"}
    )
    assert {"span_precision", "span_recall", "macro_span_f1", "segmentation_f1"} <= set(result["metrics"])
    # "red", "shoes", "for men" are in the tables
    assert result["systems"]["knowledge"]["parts"]["span"]["department"]["metrics"]["f1"]["value"] == 1
    rows = [json.loads(line) for line in saved.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 6 and {row["system"] for row in rows} == {"knowledge", ONE_THING, COMMONEST}
    [men] = [row for row in rows if row["system"] == "knowledge" and row["query"] == "red shoes for men"]
    assert men["true"][2] == {"type": "department", "words": "for men", "start": 10, "end": 17}
    assert men["said"] == men["true"] and men["exact"] is True and men["missed"] == 0
    assert not list(saved.parent.glob("*.new"))


def test_the_command_on_gold(capsys, tmp_path, monkeypatch):
    file = lines(tmp_path / "gold.jsonl", GOLD)
    code, out, _ = evaluated(capsys, "--dataset", f"gold:{file}", "--save", tmp_path / "said.jsonl", "--json")
    result = json.loads(out)
    assert code == 0 and result["n"] == 2
    assert result["metrics"]["demand_f1"]["value"] == result["metrics"]["head_accuracy"]["value"] == 1
    said_rows = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines()]
    assert said_rows[0]["said"][0]["dimension"] == "category" and said_rows[0]["hard_type"]["true"] == "other"
    # a bare path is a gold file, and so is that of a checkout
    code, out, _ = evaluated(capsys, "--dataset", file, "--split", "test", "--json")
    assert code == 0 and json.loads(out)["n"] == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples" / "queries").mkdir(parents=True)
    file.rename(tmp_path / command.SHIPPED)
    code, out, _ = evaluated(capsys, "--limit", 1)
    assert code == 0 and json.loads(out)["n"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "querynr:x"], "no queries 'querynr:x', did you mean 'queryner'?; legal: queryner:PATH"),
        (["--dataset", "gold:nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--dataset", "queryner:{folder}", "--split", "dve"], "split 'dve', did you mean 'dev'?; legal: train, dev"),
        (["--dataset", "{folder}"], "a folder; legal: queryner:"),
        (["--dataset", "queryner:{folder}", "--engine", "knowlege"], "no query engine 'knowlege'"),
        (["--dataset", "queryner:{folder}", "--split", "test", "--errors", "3"], "those of split test are not shown"),
        (["--dataset", "queryner:{folder}", "--save", "x.csv"], "--save x.csv: legal: the name of a .jsonl file"),
        ([], "--dataset: name one: queryner:PATH or gold:FILE"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(capsys, queryner, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = evaluated(capsys, *(a.format(folder=queryner) for a in arguments))
    assert code == 2 and out == "" and err.count("\n") == 1
    assert said in err


def test_the_baselines_are_not_taught_by_what_they_are_measured_on(capsys, queryner):
    for dataset, split in ((f"queryner:{queryner}", "train"), (f"queryner:{queryner / 'dev.jsonl'}", "dev")):
        _, out, _ = evaluated(capsys, "--dataset", dataset, "--split", split, "--json")
        assert list(json.loads(out)["systems"]) == ["knowledge", ONE_THING]


def test_as_a_module(queryner):
    call = [sys.executable, "-m", "jobs.evaluate", "queries", "--dataset", f"queryner:{queryner}"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout)["metrics"]["span_recall"]["value"] > 0.5
    done = subprocess.run([*call[:3], "querys"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "did you mean 'queries'?" in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "jobs.evaluate_queries", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and "Example: lore evaluate queries" in done.stdout


def test_undefined_metrics_are_told_without_a_warning():
    measured = measure([score_spans(TaggedQuery("1", ("x",), ("O",)), [])], resamples=3)  # warnings are errors here
    assert np.isnan(measured.metrics["span_f1"].value) and "macro_span_f1" not in measured.metrics
