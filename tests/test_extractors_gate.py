"""What settles a field: a fitted threshold, or without one only what the seller states; calibrated confidences."""

import pytest
from PIL import Image

from extractors.calibrate import Calibration, CalibrationEntry
from extractors.cascade import extract_all
from extractors.gate import Gate
from extractors.merge import Merger
from extractors.protocol import Extraction, ExtractorInput, PackLine
from lore_mm.knowledge import Knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item

MERGER = Merger(Knowledge(), load_schemas())


def value(name, said, confidence=0.9, source="given.Color", status="value"):
    evidence = (Evidence(source, said, 0, len(said), value=said),)
    return AttributeValue(name, name, said, status=status, confidence=confidence, evidence=evidence)


def found(*values, extractor="given"):
    return {extractor: Extraction(tuple(values))}


def entry(extractor, attribute, threshold, knots=((0.0, 0.0), (1.0, 1.0))):
    return CalibrationEntry(
        extractor=extractor, attribute=attribute, n=100, right=90, method="logistic", knots=knots, threshold=threshold
    )


def test_without_a_calibration_only_a_sellers_own_field_settles():
    gate = Gate()
    assert gate.settled(found(value("color", "red"), value("material", "wool", source="title"))) == {"color"}
    assert gate.settled(found(value("color", "red"), extractor="zero_shot")) == frozenset()
    assert gate.settled(found(value("color", "red", confidence=0.84))) == frozenset()
    assert gate.settled(found(value("color", "red", status="conflict"))) == frozenset()
    # the field says one thing, the title another
    assert gate.settled(found(value("color", "red"), value("color", "blue", source="title"))) == frozenset()


def test_thresholds_are_on_calibrated_confidences():
    calibration = Calibration(entries=(entry("palette", "color", 0.8, ((0.0, 0.0), (0.5, 0.9), (1.0, 1.0))),))
    gate = Gate(calibration)

    def settled(*confidences):
        values = [value("color", f"c{i}", c, "image:0") for i, c in enumerate(confidences)]
        return gate.settled({"palette": gate.calibrated("palette", Extraction(tuple(values)))})

    assert settled(0.5) == {"color"}  # 0.9 calibrated
    assert settled(0.5, 0.45) == {"color"}  # 0.9, 0.9 · 0.45 / 0.5 = 0.81
    assert settled(0.5, 0.44) == frozenset()  # 0.792: one of them is not sure enough
    assert gate.settled(found(value("color", "red", 1.0))) == frozenset()  # nothing was fitted for given


def test_two_that_are_sure_of_different_things_settle_nothing():
    gate = Gate(Calibration(entries=(entry("given", "color", 0.5), entry("palette", "color", 0.5))))
    red, blue = value("color", "red"), value("color", "blue")
    assert gate.settled(found(red) | found(red, blue, extractor="palette")) == {"color"}
    assert gate.settled(found(red) | found(blue, extractor="palette")) == frozenset()


def test_the_sha_is_of_rule_and_calibration():
    one = Calibration(entries=(entry("given", "color", 0.5),))
    other = Calibration(entries=(entry("given", "color", 0.6),))
    assert len({Gate().sha, Gate(one).sha, Gate(other).sha}) == 3
    assert Gate(one).sha == Gate(Calibration(fitted_on="elsewhere", entries=one.entries)).sha


class Said:
    needs_pictures, sha = False, "0"

    def __init__(self, name, extraction):
        self.name, self.extraction, self.seen = name, extraction, []

    def extract(self, inputs):
        self.seen += inputs
        return [self.extraction for _ in inputs]


def test_a_later_extractor_is_told_what_is_settled_and_what_is_on_the_pack():
    line = PackLine("500 ml", 0, (0.0, 0.0, 1.0, 0.1))
    given = Said("given", Extraction((value("color", "red"), value("brand", "Ikea", source="title"))))
    ocr, vlm = Said("ocr", Extraction(pack=(line,))), Said("vlm", Extraction())
    extract_all([ExtractorInput(Item("a", "A"))], [given, ocr, vlm], MERGER)
    assert [one.settled for one in (*given.seen, *ocr.seen, *vlm.seen)] == [set(), {"color"}, {"color"}]
    assert [one.pack for one in (*ocr.seen, *vlm.seen)] == [(), (line,)]


def test_extractions_keep_their_own_confidences_and_the_verdict_has_calibrated_ones():
    gate = Gate(Calibration(entries=(entry("given", "*", None, ((0.0, 0.2), (1.0, 0.6))),)))
    given = Said("given", Extraction((value("brand", "Ikea", confidence=0.5, source="title"),)))
    (result,) = extract_all([ExtractorInput(Item("a", "A"))], [given], MERGER, gate)
    assert result["given"].attributes[0].confidence == 0.5
    assert result["merge"].attributes[0].confidence == pytest.approx(0.2 + 0.5 * 0.4)


def test_what_the_caller_holds_for_settled_stays_so():
    vlm = Said("vlm", Extraction())
    one = ExtractorInput(Item("a", "A"), pictures=(Image.new("RGB", (2, 2)),), settled=frozenset({"brand"}))
    extract_all([one], [Said("given", Extraction((value("color", "red"),))), vlm], MERGER)
    assert vlm.seen[0].settled == {"brand", "color"}
