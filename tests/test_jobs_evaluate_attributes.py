"""Run: pytest tests/test_jobs_evaluate_attributes.py

Scoring, metrics (against arithmetic and scikit-learn), runs over small data sets, and the command.
"""

import json
import math
import warnings
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support

from extractors.calibrate import Calibration, CalibrationEntry, write_calibration
from extractors.given import Given
from extractors.palette import Palette
from extractors.protocol import Extraction
from extractors.zero_shot import ZeroShot
from jobs.attribute_baselines import majority_answers, majority_rows
from jobs.attribute_metrics import METRICS, differences, measure
from jobs.attribute_runs import run_extractors
from jobs.attribute_scoring import Answer, ScoredRow, answer_of, score
from jobs.attribute_tables import PREDICTIONS, attribute_rows, attribute_tables, save_predictions
from jobs.evaluate import app
from jobs.evaluate_attributes import evaluate_attributes, open_for
from lore_mm.attribute import AttributeSpec
from lore_mm.bootstrap import BINS
from lore_mm.console import print_table, run
from lore_mm.datasets import Dataset, Truth, open_dataset
from lore_mm.datasets.options import attribute_spec, schemas_of
from lore_mm.errors import InputError, ModelError
from lore_mm.knowledge import load_knowledge
from lore_mm.models import open_embedder
from lore_mm.types import AttributeValue, Evidence, Item

KNOWLEDGE = load_knowledge()
COLOR = AttributeSpec(name="color", dimension="color", ask="?", values={"Red": ("crimson",), "Blue": ("navy",)})
FABRIC = AttributeSpec(
    name="fabric", dimension="material", ask="?", multi=True, values={"Cotton": (), "Wool": (), "Silk": ()}
)
WIDTH = AttributeSpec(name="width", dimension="spec", ask="?", type="text")


def value(name, text, confidence=0.9, status="value", **more):
    return AttributeValue(name, name, text, status, confidence=confidence, **more)


def scored(spec, truth, *said, error=None, group="g"):
    return score("x", group, truth, spec, answer_of(spec, said, error))


# -- one answer --------------------------------------------------------------------------------------------------------


def test_values_become_the_schemas_words_the_surest_first_and_none_twice():
    said = [value("fabric", "wool", 0.4), value("fabric", "COTTON", 0.6), value("fabric", "Wool", 0.8)]
    answer = answer_of(FABRIC, said)
    assert (answer.values, answer.confidences, answer.error) == (("Wool", "Cotton"), (0.8, 0.6), None)
    assert answer_of(COLOR, [value("color", "navy", 0.4), value("color", "crimson", 0.5)]).values == ("Red",)


def test_of_one_value_the_largest_share_counts_and_shares_of_one_colour_are_added():
    said = [value("color", "crimson", 0.9, share=0.4), value("color", "navy", 0.5, share=0.3)]
    assert answer_of(COLOR, said).values == ("Red",)
    assert answer_of(COLOR, [*said, value("color", "Blue", 0.6, share=0.2)]) == Answer(
        ("Blue",), (0.6,), (None,), ((),)
    )
    assert answer_of(COLOR, [*said, value("color", "Blue", 0.6)]).values == ("Red",)  # a word has no share


def test_silence_failure_and_conflict():
    assert answer_of(COLOR, [value("color", None, 0.7, "not_stated")]) == Answer()
    assert answer_of(COLOR, [value("color", None, 0.0, "failed", error="half a JSON")]) == Answer(error="half a JSON")
    assert answer_of(COLOR, [], "no picture") == Answer(error="no picture")
    assert answer_of(COLOR, [value("color", None, 0.7, "not_stated")], "another field broke") == Answer()
    assert answer_of(COLOR, [value("color", "Red", 0.7, "conflict")], "a picture is broken").values == ("Red",)
    assert answer_of(COLOR, [value("color", "Red", 0.7, "conflict")], "a picture is broken").error is None


@pytest.mark.parametrize(
    ("truth", "said", "hits", "right", "exact"),
    [
        (("Cotton", "Wool"), ("Cotton", "Wool"), (True, True), True, True),
        (("Cotton", "Wool"), ("Cotton",), (True,), True, False),  # nothing false, but not all
        (("Cotton", "Wool"), ("Cotton", "Silk"), (True, False), False, False),
        (("Cotton",), (), (), False, False),
    ],
)
def test_of_a_set_exact_means_all_and_nothing_else(truth, said, hits, right, exact):
    row = scored(FABRIC, Truth("i", "fabric", truth), *(value("fabric", v) for v in said))
    assert (row.hits, row.right, row.exact) == (hits, right, exact)
    assert (row.wanted, row.found) == (len(truth), sum(hits))


def test_any_of_equally_good_values_is_enough_and_a_wrong_one_beside_it_is_still_wrong():
    truth = Truth("i", "fabric", ("Cotton", "Wool"), any_of=True)
    one = scored(FABRIC, truth, value("fabric", "Wool"))
    assert one.exact and (one.wanted, one.found) == (1, 1)
    both = scored(FABRIC, truth, value("fabric", "Wool"), value("fabric", "Silk"))
    assert not both.right and both.found == 1 and sorted(both.hits) == [False, True]


@pytest.mark.parametrize("status", ["not_stated", "not_applicable"])
def test_where_there_is_nothing_to_say_silence_is_right_and_failure_is_not_silence(status):
    truth = Truth("i", "color", (), status)
    assert scored(COLOR, truth).exact
    assert scored(COLOR, truth, value("color", None, 0.2, "not_applicable")).exact
    assert not scored(COLOR, truth, value("color", "Red")).right
    failed = scored(COLOR, truth, error="out of memory")
    assert failed.failed and not failed.right and not failed.exact


@pytest.mark.parametrize(
    ("said", "number", "quote", "true", "same"),
    [
        ("61", 61.0, None, "61.0", True),
        ('24"', 60.96, '24" wide', "61.0", True),  # normalised to centimetres, within 1 %
        ('24"', 60.96, None, '24"', True),
        ("24 in", 60.96, None, '24"', True),
        ('24"', 60.96, None, '30"', False),
        ("11-WV5013-G", None, None, "11WV5013G", True),  # a code without its dashes
        ("lemon yellow", None, "Canary Yellow", "canary yellow", True),  # the words it was read from
        ("lemon yellow", None, "Canary Yellow", "yellow", False),
        ("-", None, None, "", False),
    ],
)
def test_free_text_is_the_same_by_words_code_number_or_quantity(said, number, quote, true, same):
    evidence = (Evidence("title", quote),) if quote else ()
    row = scored(
        WIDTH, Truth("i", "width", (true,), any_of=True), value("width", said, number=number, evidence=evidence)
    )
    assert row.right is same


def test_a_legal_value_is_not_the_same_by_a_quote():
    said = value("color", "Blue", evidence=(Evidence("title", "Red"),))
    assert not scored(COLOR, Truth("i", "color", ("Red",)), said).right
    assert scored(COLOR, Truth("i", "color", ("crimson",)), value("color", "Red")).right  # truth in other words


# -- metrics -----------------------------------------------------------------------------------------------------------


def row(attribute, group, values, confidences, hits, wanted, *, silent=False, error=None):
    """A scored row as `score` makes them, from its parts; silent: the truth is silence."""
    found = min(sum(hits), wanted)
    right = not values and error is None if silent else bool(hits) and all(hits)
    truth = Truth("i", attribute, (), "not_stated") if silent else Truth("i", attribute, ("?",) * wanted)
    exact = right and found == wanted
    return ScoredRow(
        "x", attribute, "i", group, truth, values, confidences, hits, wanted, found, right, exact, error
    )  # fmt: skip


ROWS = [
    row("color", "a", ("Red",), (0.9,), (True,), 1),
    row("color", "a", ("Red",), (0.8,), (False,), 1),
    row("color", "b", (), (), (), 1),
    row("color", "b", (), (), (), 1, error="broken"),
    row("fabric", "a", ("Wool", "Silk"), (0.7, 0.6), (True, False), 3),
    row("fabric", "b", (), (), (), 0, silent=True),
    row("fabric", "b", ("Silk",), (0.95,), (False,), 0, silent=True),
]


def values_of(rows, part, **options):
    return {name: e.value for name, e in measure(rows, resamples=10, **options)[part].metrics.items()}


def test_metrics_by_arithmetic():
    color, fabric = values_of(ROWS, "color"), values_of(ROWS, "fabric")
    assert color["accuracy"] == 1 / 4 and color["any_match"] == 1 / 4
    assert color["precision"] == 1 / 2 and color["recall"] == 1 / 4
    assert color["f1"] == pytest.approx(2 * (1 / 2) * (1 / 4) / (1 / 2 + 1 / 4))
    assert color["brier"] == pytest.approx((0.1**2 + 0.8**2) / 2)
    assert color["ece"] == pytest.approx((0.1 + 0.8) / 2)  # 0.9 and 0.8 fall into bins of their own
    assert fabric["accuracy"] == 1 / 3 and fabric["any_match"] == 2 / 3  # one of three fabrics is a match
    assert fabric["precision"] == 1 / 3 and fabric["recall"] == 1 / 3
    micro, macro = values_of(ROWS, "micro"), values_of(ROWS, "macro")
    assert micro["accuracy"] == 2 / 7 and macro["accuracy"] == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert micro["precision"] == 2 / 5 and micro["recall"] == 2 / 7
    counted = measure(ROWS, resamples=1)["micro"]
    assert (counted.n, counted.answered, counted.failed) == (7, 4, 1)


def test_coverage_takes_the_surest_rows_while_the_precision_lasts():
    sure = [0.99, 0.9, 0.8, 0.7, 0.6]
    right = [True, True, False, True, True]
    rows = [row("color", str(i), ("Red",), (c,), (r,), 1) for i, (c, r) in enumerate(zip(sure, right, strict=True))]
    rows += [row("color", "5", (), (), (), 1)] * 5
    assert values_of(rows, "micro", coverage_at=0.95)["coverage"] == 2 / 10
    assert values_of(rows, "micro", coverage_at=0.8)["coverage"] == 5 / 10  # 4 of 5 in the end, though not in between
    assert values_of(rows, "micro", coverage_at=0.9)["coverage"] == 2 / 10
    tied = [row("color", "a", ("Red",), (0.5,), (r,), 1) for r in (True, False)]
    assert values_of(tied, "micro")["coverage"] == 0  # nothing tells the right one from the wrong one


def test_what_is_not_defined_is_not_a_number_and_does_not_enter_the_mean():
    silent = [row("size", "a", (), (), (), 1)]
    assert math.isnan(values_of(silent, "size")["precision"]) and values_of(silent, "size")["f1"] == 0
    assert values_of([*ROWS, *silent], "macro")["precision"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    nothing = values_of([row("size", "a", (), (), (), 0, silent=True)], "size")
    assert nothing["accuracy"] == 1 and math.isnan(nothing["recall"]) and math.isnan(nothing["f1"])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_precision_recall_f1_and_brier_agree_with_scikit_learn(data):
    """Random answers over three labels, sets and silences among them, as multi-label indicator matrices."""
    n = data.draw(st.integers(1, 12))
    labels = list(FABRIC.values)
    some = st.lists(st.sampled_from(labels), unique=True, max_size=3)
    true = [data.draw(some) for _ in range(n)]
    said = [data.draw(some) for _ in range(n)]
    sure = [[data.draw(st.floats(0, 1)) for _ in one] for one in said]
    rows = [
        scored(FABRIC, Truth("i", "fabric", tuple(t), "value" if t else "not_stated"),
               *(value("fabric", v, c) for v, c in zip(s, confidences, strict=True)))
        for t, s, confidences in zip(true, said, sure, strict=True)
    ]  # fmt: skip
    found = values_of(rows, "fabric")
    grid = [[[label in one for label in labels] for one in column] for column in (true, said)]
    precision, recall, f1, _ = precision_recall_fscore_support(*map(np.array, grid), average="micro", zero_division=0)
    wanted, answered = any(true), any(said)
    assert found["precision"] == pytest.approx(precision) if answered else math.isnan(found["precision"])
    assert found["recall"] == pytest.approx(recall) if wanted else math.isnan(found["recall"])
    assert found["f1"] == pytest.approx(f1) if wanted or answered else math.isnan(found["f1"])
    assert found["accuracy"] == sum(set(t) == set(s) for t, s in zip(true, said, strict=True)) / n
    hits = [v in t for t, s in zip(true, said, strict=True) for v in s]
    flat = [c for one in sure for c in one]
    if hits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of samples of one class
            assert found["brier"] == pytest.approx(brier_score_loss(hits, flat, pos_label=True))
        assert found["ece"] == pytest.approx(slow_ece(flat, hits))
    assert found["coverage"] == pytest.approx(slow_coverage(rows, 0.95))


def slow_ece(sure, hits):
    total = 0.0
    for b in range(BINS):
        here = [i for i, c in enumerate(sure) if (b / BINS < c <= (b + 1) / BINS) or (b == 0 and c == 0)]
        total += abs(sum(sure[i] - hits[i] for i in here))
    return total / len(sure)


def slow_coverage(rows, target):
    best = 0
    for threshold in {r.confidence for r in rows if r.values}:
        taken = [r for r in rows if r.values and r.confidence >= threshold]
        if sum(r.right for r in taken) >= target * len(taken):
            best = max(best, len(taken))
    return best / len(rows)


def test_intervals_draw_whole_groups():
    """Two groups of opposite answers: a resample is all right, half right or all wrong; single rows would seem sure."""
    rows = [row("color", g, ("Red",), (0.9,), (g == "a",), 1) for g in "ab" for _ in range(50)]
    accuracy = measure(rows, resamples=400)["micro"].metrics["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high) == (0.5, 0.0, 1.0)
    alone = [row("color", str(i), ("Red",), (0.9,), (i % 2 == 0,), 1) for i in range(100)]
    accuracy = measure(alone, resamples=400)["micro"].metrics["accuracy"]
    assert 0.38 < accuracy.low < 0.45 and 0.55 < accuracy.high < 0.62  # ± 1.96 · √(¼ / 100) = ± 0.098


def test_resampled_metrics_are_those_of_the_resampled_rows():
    """Every fast path equals the metrics of the rows drawn, written out."""
    rows = [r for r in ROWS if r.attribute == "fabric"]
    from lore_mm.bootstrap import Draws

    weights = Draws([r.group for r in rows], 30, 0).weights
    fast = measure(rows, resamples=30)["fabric"].resampled
    for draw, times in enumerate(weights):
        drawn = [r for r in rows for _ in range(int(times["ab".index(r.group)]))]
        slow = values_of(drawn, "fabric")
        for name in METRICS:
            assert fast[name][draw] == pytest.approx(slow[name], nan_ok=True), name


def test_differences_are_paired():
    better = [row("color", str(i), ("Red",), (0.9,), (i % 3 > 0,), 1) for i in range(60)]
    worse = [row("color", str(i), ("Red",), (0.9,), (i % 3 > 1,), 1) for i in range(60)]
    found = differences(measure(better)["micro"], measure(worse)["micro"])["accuracy"]
    assert found.value == pytest.approx(1 / 3) and 0 < found.low < 1 / 3 < found.high < 0.5
    same = differences(measure(better)["micro"], measure(better)["micro"])["accuracy"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


# -- runs over a data set ----------------------------------------------------------------------------------------------

SHADES = {"red": "#cc2222", "blue": "#2244cc"}
COLORS = {"a": "red", "b": "red", "c": "blue", "d": "blue", "e": "red", "f": "blue"}


@dataclass
class Looks:
    """An extractor that names the colour of the middle of the first picture, and keeps what it was given."""

    name: str = "vlm"
    needs_pictures: bool = True
    sha: str = "looks"
    seen: list = field(default_factory=list)

    def extract(self, inputs):
        self.seen += inputs
        return [self._one(one) for one in inputs]

    def _one(self, one):
        if one.item.item_id == "f":
            raise ValueError("a fault")
        if not one.pictures or one.pictures[0] is None:
            return Extraction((value("color", "red", 0.5, extractor=self.name),))  # it guesses
        red, _, blue = one.pictures[0].getpixel((8, 8))
        return Extraction((value("color", "red" if red > blue else "blue", 0.8, extractor=self.name),))


@pytest.fixture
def dataset(tmp_path):
    for item_id, color in COLORS.items():
        Image.new("RGB", (16, 16), SHADES[color]).save(tmp_path / f"{item_id}.png")
    items = tuple(Item(i, f"thing no{i} in {c}", images=(f"{i}.png",)) for i, c in COLORS.items())
    specs = [
        attribute_spec("color", "color", ["Red", "Blue"], KNOWLEDGE, visual=True),
        attribute_spec("pattern", "pattern", ["Solid", "Striped"], KNOWLEDGE, visual=True),
    ]
    truth = tuple(Truth(i, "color", (c.capitalize(),)) for i, c in COLORS.items())
    return Dataset(
        "small", items, (*truth, Truth("a", "pattern", (), "not_stated")), schemas_of("small", "1", specs),
        splits=dict.fromkeys(COLORS, "test"), groups={"a": "ab", "b": "ab"}, picture_root=tmp_path,
    )  # fmt: skip


def test_each_truth_is_scored_once_an_extractor_and_what_breaks_is_failed(dataset):
    rows = list(run_extractors(dataset, [Looks()], knowledge=KNOWLEDGE, batch=4))
    assert [(r.item_id, r.attribute) for r in rows] == [(t.item_id, t.attribute) for t in sorted_by_item(dataset)]
    by_item = {r.item_id: r for r in rows if r.attribute == "color"}
    assert {i: r.values for i, r in by_item.items()} == {
        "a": ("Red",), "b": ("Red",), "c": ("Blue",), "d": ("Blue",), "e": ("Red",), "f": (),
    }  # fmt: skip
    assert by_item["f"].error == "ValueError: a fault" and not by_item["f"].right
    assert all(by_item[i].exact for i in "abcde")
    assert [r.group for r in rows if r.attribute == "color"] == ["ab", "ab", "c", "d", "e", "f"]
    assert next(r for r in rows if r.attribute == "pattern").exact  # silence about what is not stated


def sorted_by_item(dataset):
    return [t for item in dataset.items for t in dataset.truth if t.item_id == item.item_id]


def test_only_attributes_with_truth_are_asked(dataset):
    looks = Looks()
    list(run_extractors(dataset, [looks, Given(KNOWLEDGE, dataset.schemas)], knowledge=KNOWLEDGE))
    settled = {one.item.item_id: one.settled for one in looks.seen}
    assert settled["a"] == frozenset() and settled["b"] == frozenset({"pattern"})


def test_the_verdict_over_several_is_scored_as_merge(dataset):
    extractors = [Given(KNOWLEDGE, dataset.schemas), Looks()]
    rows = list(run_extractors(dataset, extractors, knowledge=KNOWLEDGE))
    names = {r.extractor for r in rows}
    assert names == {"given", "vlm", "merge"} and len(rows) == 3 * len(dataset.truth)
    merged = {r.item_id: r for r in rows if r.extractor == "merge" and r.attribute == "color"}
    assert merged["f"].values == ("Blue",) and merged["f"].exact  # what the title told stands although vlm failed
    assert merged["a"].confidence == pytest.approx(0.972)  # title and picture agree: 1 - (1 - 0.86) · (1 - 0.8)


def test_under_other_schemas_an_attribute_has_another_name_and_the_answer_counts_for_what_it_means(tmp_path):
    from lore_mm.schema import load_schemas

    specs = [
        attribute_spec("category", "category", ["Hoodies & Sweatshirts", "Bags"], KNOWLEDGE),
        attribute_spec("gender", "gender", ["Men", "Women"], KNOWLEDGE),
        attribute_spec("sheen", "sheen", ["Matte", "Shiny"], KNOWLEDGE),
    ]
    truth = (Truth("a", "category", ("Hoodies & Sweatshirts",)), Truth("a", "gender", ("Women",)),
             Truth("a", "sheen", ("Matte",)))  # fmt: skip
    items = (Item("a", "Women's hoodie"),)
    dataset = Dataset("x", items, truth, schemas_of("x", "1", specs), {"a": "test"}, {})
    shipped, seen = load_schemas(), Looks()
    extractors = [*open_for(dataset, ["given"], KNOWLEDGE, schemas=shipped), seen]
    rows = list(run_extractors(dataset, extractors, knowledge=KNOWLEDGE, schemas=shipped))
    assert [r.values for r in rows if r.extractor == "given"] == [("Hoodies & Sweatshirts",), ("Women",), ()]
    assert [r.exact for r in rows if r.extractor == "given"] == [True, True, False]
    assert "audience" not in seen.seen[0].settled and "category" not in seen.seen[0].settled
    assert {"color", "material", "sleeve_length"} <= seen.seen[0].settled


def test_pictures_withheld_and_shuffled_are_what_the_model_sees(dataset):
    looks = Looks()
    rows = list(run_extractors(dataset, [looks], knowledge=KNOWLEDGE, pictures="none"))
    assert all(one.pictures == () for one in looks.seen)
    assert [r.exact for r in rows if r.attribute == "color"] == [True, True, False, False, True, False]
    rows = list(run_extractors(dataset, [Looks()], knowledge=KNOWLEDGE, pictures="shuffled"))
    # half the items on, and on from there while the group is the item's own: d e f, and of d e f: a b c
    assert [r.values for r in rows if r.attribute == "color"] == [
        ("Blue",),
        ("Red",),
        ("Blue",),
        ("Red",),
        ("Red",),
        (),
    ]


def test_shuffled_pictures_are_of_another_group(dataset):
    from jobs.attribute_runs import _shuffled

    for item, shown in zip(dataset.items, _shuffled(dataset), strict=True):
        assert dataset.group(item.item_id) != dataset.group(shown.item_id)
    one = dataset.first(1)
    assert _shuffled(one) == one.items


def test_a_picture_that_cannot_be_read_is_told(dataset):
    (dataset.picture_root / "a.png").write_bytes(b"no picture")
    rows = list(run_extractors(dataset, [Palette(KNOWLEDGE)], knowledge=KNOWLEDGE))
    broken = next(r for r in rows if (r.item_id, r.attribute) == ("a", "color"))
    assert broken.failed and "not a picture" in broken.error and not broken.exact
    assert [r.exact for r in rows if r.attribute == "color"] == [False, True, True, True, True, True]


def test_confidences_are_as_calibrated(dataset):
    entry = CalibrationEntry(
        extractor="vlm", attribute="color", n=10, right=5, method="isotonic", knots=((0.0, 0.0), (1.0, 0.5))
    )
    rows = list(run_extractors(dataset, [Looks()], knowledge=KNOWLEDGE, calibration=Calibration(entries=(entry,))))
    assert rows[0].confidences == (0.4,)


# -- baselines, reports ------------------------------------------------------------------------------------------------


def test_the_majority_is_that_of_the_training_rows():
    truth = [
        *(Truth(str(i), "color", (c,)) for i, c in enumerate(("Red", "Blue", "Blue"))),
        *(Truth(str(i), "fabric", v) for i, v in enumerate([("Wool", "Silk"), ("Silk", "Wool"), ("Wool",)])),
        *(Truth(str(i), "width", (), "not_stated") for i in range(2)), Truth("2", "width", ("1", "2"), any_of=True),
    ]  # fmt: skip
    found = majority_answers(truth)
    assert found["color"] == Answer(("Blue",), (2 / 3,), (None,), ((),))
    assert found["fabric"].values == ("Silk", "Wool") and found["fabric"].confidences == (2 / 3, 2 / 3)
    assert found["width"] == Answer()  # mostly there is nothing to say


def test_majority_rows_are_silent_where_training_has_no_truth(dataset):
    train = Dataset("t", (), (Truth("z", "color", ("Blue",)),), dataset.schemas, {}, {})
    rows = {(r.item_id, r.attribute): r for r in majority_rows(train, dataset)}
    assert rows["c", "color"].exact and not rows["a", "color"].exact
    assert rows["a", "pattern"].values == () and rows["a", "pattern"].exact


def test_an_evaluation_compares_systems_on_the_same_rows(dataset):
    train = Dataset("t", (), (Truth("z", "color", ("Blue",)),), dataset.schemas, {}, {})
    extractors = [Given(KNOWLEDGE, dataset.schemas), Looks()]
    found = evaluate_attributes(dataset, extractors, train=train, controls=True, knowledge=KNOWLEDGE, resamples=50)
    told = json.loads(json.dumps(found.as_json()))
    assert list(told["systems"]) == ["given", "vlm", "merge", "vlm text only", "vlm shuffled", "majority"]
    assert {s["n"] for s in told["systems"].values()} == {told["n"]} == {7}
    accuracy = {name: s["attributes"]["color"]["metrics"]["accuracy"]["value"] for name, s in told["systems"].items()}
    assert accuracy["given"] == accuracy["merge"] == 1
    assert accuracy["vlm"] == pytest.approx(5 / 6, abs=1e-6)
    assert accuracy["vlm text only"] == 0.5 and accuracy["majority"] == 0.5
    assert accuracy["vlm shuffled"] == 0.5  # b, c and e get a picture of their own colour
    assert told["system"] == "merge" and told["metrics"]["accuracy"] == told["systems"]["merge"]["micro"]["accuracy"]
    assert told["metrics"]["macro_f1"] == told["systems"]["merge"]["macro"]["f1"]
    assert told["differences"]["merge - majority"]["accuracy"]["value"] == pytest.approx(1 - 4 / 7, abs=1e-6)
    assert told["differences"]["vlm - vlm text only"]["accuracy"]["value"] == pytest.approx(2 / 7, abs=1e-6)
    assert told["systems"]["vlm"]["failed"] == 1 and told["groups"] == 5
    assert "vlm: 1 rows failed and count as not answered: 1 × ValueError: a fault" in told["notes"]


def test_what_was_printed_is_read_again_as_rows(dataset):
    found = evaluate_attributes(dataset, [Given(KNOWLEDGE, dataset.schemas)], knowledge=KNOWLEDGE, resamples=20)
    (row,) = attribute_rows(json.loads(json.dumps(found.as_json())))
    assert (row[""], row["rows"], row["answered"], row["failed"]) == ("given", 7, 6, 0)
    assert row["accuracy"] == row["F1"] == "1.00 [1.00, 1.00]" and row["ECE"].startswith("0.14 [")  # it was 0.86 sure


def test_a_dead_engine_ends_the_evaluation(dataset):
    class Dead(Looks):
        def extract(self, inputs):
            raise ModelError("out of memory")

    with pytest.raises(ModelError, match="out of memory"):
        evaluate_attributes(dataset, [Dead()], knowledge=KNOWLEDGE)


def test_tables_fit_a_terminal_and_predictions_keep_the_truth_beside(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    found = evaluate_attributes(dataset, [Given(KNOWLEDGE, dataset.schemas), Looks()], controls=True, resamples=20)
    for table in attribute_tables(found.measured):
        print_table(table)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100 and "…" not in shown
    assert "0.86" in shown and "F1 by attribute" in shown  # vlm: 6 of 7 rows
    save_predictions(found.rows, tmp_path / "new" / "answers.parquet")
    table = pq.read_table(tmp_path / "new" / "answers.parquet")
    assert table.schema.equals(PREDICTIONS) and table.num_rows == 5 * 7
    kept = {(r["system"], r["item_id"], r["attribute"]): r for r in table.to_pylist()}
    assert kept["vlm", "f", "color"] | {"group": 0, "any_of": 0, "right": 0} == {
        "system": "vlm", "item_id": "f", "group": 0, "attribute": "color", "truth": ["Blue"], "truth_status": "value",
        "any_of": 0, "said": [], "confidences": [], "right": 0, "exact": False, "error": "ValueError: a fault",
    }  # fmt: skip


# -- the extractors themselves -----------------------------------------------------------------------------------------


def test_zero_shot_answers_every_visual_attribute_however_unsure(dataset):
    from dataclasses import replace

    asked = replace(dataset, truth=tuple(Truth(i, "pattern", ("Solid",)) for i in COLORS))
    (zero_shot,) = open_for(asked, ["zero_shot"], KNOWLEDGE, embedder="scripted:3")
    rows = list(run_extractors(asked, [zero_shot], knowledge=KNOWLEDGE))
    assert all(r.values and r.values[0] in ("Solid", "Striped") for r in rows)
    carded = ZeroShot(open_embedder("scripted:3"), asked.schemas, KNOWLEDGE)  # by the card some may stay silent
    assert carded.calibration != zero_shot.calibration


def test_vlm_is_asked_only_for_the_labelled_attribute_among_its_options(dataset, tmp_path):
    script = tmp_path / "script.toml"
    blue = "".join(f'[[rules]]\nwords = ["no{i}"]\nanswer = {{ color = "Blue" }}\n' for i in "cdf")
    script.write_text(f'{blue}[default]\nanswer = {{ color = "Red" }}\n')
    (vlm,) = open_for(dataset, ["vlm"], KNOWLEDGE, model=f"scripted:{script}")
    one = dataset.only(["color"])
    rows = list(run_extractors(one, [vlm], knowledge=KNOWLEDGE))
    assert [r.values for r in rows] == [("Red",), ("Red",), ("Blue",), ("Blue",), ("Red",), ("Blue",)]
    assert all(r.exact and 0 < r.confidence <= 1 for r in rows)


def test_extractors_are_opened_in_the_order_they_run():
    dataset = Dataset("x", (), (), schemas_of("x", "1", []), {}, {})
    assert [e.name for e in open_for(dataset, ["palette", "given"], KNOWLEDGE)] == ["given", "palette"]
    with pytest.raises(InputError, match="no extractor 'giben', did you mean 'given'"):
        open_for(dataset, ["giben"], KNOWLEDGE)
    with pytest.raises(InputError, match="vlm needs a model: --model"):
        open_for(dataset, ["vlm"], KNOWLEDGE)
    with pytest.raises(InputError, match="no extractors named"):
        open_for(dataset, [], KNOWLEDGE)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path):
    rows = [
        {"item_id": i, "title": f"Dress in {c}", "images": [f"{i}.png"], "split": "test" if i in "abc" else "train",
         "truth": {"color": c, "material": "not_stated"}}
        for i, c in COLORS.items()
    ]  # fmt: skip
    for i, c in COLORS.items():
        Image.new("RGB", (16, 16), SHADES[c]).save(tmp_path / f"{i}.png")
    (tmp_path / "labelled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "labelled.jsonl"


def command(capsys, *arguments):
    try:
        run(app, ["attributes", *map(str, arguments)], "lore evaluate")
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    out, talk = capsys.readouterr()
    return code, out, talk


def test_the_command_prints_one_json_object(labelled, capsys, tmp_path):
    saved = tmp_path / "answers.parquet"
    code, out, talk = command(
        capsys, "--dataset", labelled, "--extractors", "given,palette", "--json", "--save", saved, "--limit", 2
    )
    assert code == 0, talk
    told = json.loads(out)
    assert (told["items"], told["n"], told["split"], told["system"]) == (2, 4, "test", "merge")
    assert told["metrics"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert list(told["systems"]) == ["given", "palette", "merge", "majority"]
    # of train, two of three are blue, and nothing is stated of the material: silence is right
    assert told["systems"]["majority"]["attributes"]["color"]["metrics"]["accuracy"]["value"] == 0
    assert told["systems"]["majority"]["attributes"]["material"]["metrics"]["accuracy"]["value"] == 1
    assert pq.read_table(saved).num_rows == 16 and "16 answers beside their truth" in talk


def test_the_command_measures_what_is_asked_for(labelled, capsys, tmp_path):
    write_calibration(Calibration(entries=(CalibrationEntry(
        extractor="given", attribute="*", n=10, right=5, method="isotonic", knots=((0.0, 0.0), (1.0, 0.0))
    ),)), tmp_path / "calibration.json")  # fmt: skip
    code, out, _ = command(
        capsys, "--dataset", labelled, "--extractors", "given", "--attributes", "color", "--split", "all",
        "--calibration", tmp_path / "calibration.json",
    )  # fmt: skip
    told = json.loads(out)
    assert code == 0 and (told["items"], told["n"]) == (6, 6) and list(told["systems"]) == ["given"]
    assert told["metrics"]["ece"]["value"] == 1  # all right, and the calibration says: never
    assert any("no majority baseline" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--split", "tset"], "no split 'tset', did you mean 'test'?; legal: train, test, all"),
        (["--save", "answers.csv"], "--save answers.csv: legal: the name of a .parquet file"),
        (["--attributes", "colour"], "has no attribute 'colour', did you mean 'color'"),
        (["--calibration", "none.json"], "none.json: No such file or directory"),
        (["--extractors", "given,vlm"], "vlm needs a model: --model hf:lore-vlm-tiny, or another address"),
    ],
)
def test_mistakes_are_one_line(labelled, capsys, arguments, fault):
    code, out, talk = command(capsys, "--dataset", labelled, *arguments)
    assert code != 0 and out == "" and talk.startswith("error: ") and fault in talk and talk.count("\n") == 1


def test_own_labels_of_a_file_that_is_not_there(capsys, tmp_path):
    code, _, talk = command(capsys, "--dataset", tmp_path / "none.jsonl")
    assert (code, talk) == (2, f"error: {tmp_path / 'none.jsonl'}: no such file\n")


def test_an_opened_data_set_is_what_the_command_measures(labelled):
    assert {r.attribute for r in open_dataset(str(labelled)).truth} == {"color", "material"}


def test_help_of_each_measurement(capsys):
    for arguments, words in (
        ([], ["judge", "attributes", "lore evaluate judge --split test"]),
        (["judge"], ["--rules", "--labels"]),
        (["attributes"], ["--dataset", "--coverage-at", "luma:FOLDER", "Example: lore evaluate attributes"]),
    ):
        with pytest.raises(SystemExit) as stop:
            run(app, [*arguments, "--help"], "lore evaluate")
        assert not stop.value.code
        out = " ".join(capsys.readouterr().out.split())
        assert all(word in out for word in words), out
