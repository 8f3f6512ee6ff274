"""Run: pytest tests/test_lore_mm_liquids.py

Units to base units, and ounces by what is measured.
"""

import pytest

from extractors.given import Given
from extractors.protocol import ExtractorInput
from lore_mm.knowledge import load_knowledge
from lore_mm.liquids import _kinds as kinds
from lore_mm.liquids import in_ounces, is_liquid, read_fluid
from lore_mm.types import Item
from lore_mm.values import find_quantities

KNOWLEDGE = load_knowledge()

INCH, FOOT, YARD = 2.54, 12 * 2.54, 36 * 2.54
OUNCE, POUND = 453.59237 / 16, 453.59237
US_GALLON = 231 * 2.54**3  # cubic inches
FLUID_OUNCE = US_GALLON / 128
UK_PINT = 568.26125


@pytest.mark.parametrize(
    "text, kind, number, unit",
    [
        ("12 inch", "length", 12 * INCH, "cm"),
        ('27" frame', "length", 27 * INCH, "cm"),
        ("1/2 inch", "length", INCH / 2, "cm"),
        ("2 1/2 inches", "length", 2.5 * INCH, "cm"),
        ("6 ft", "length", 6 * FOOT, "cm"),
        ("6 feet", "length", 6 * FOOT, "cm"),
        ("1 yard", "length", YARD, "cm"),
        ("5 yds", "length", 5 * YARD, "cm"),
        ("100 mm", "length", 10, "cm"),
        ("2.5 m", "length", 250, "cm"),
        ("10 metres", "length", 1000, "cm"),
        ("2 km", "length", 200_000, "cm"),
        ("10 lbs", "mass", 10 * POUND, "g"),
        ("1 pound", "mass", POUND, "g"),
        ("2.5 kg", "mass", 2500, "g"),
        ("500g", "mass", 500, "g"),
        ("8 oz", "mass", 8 * OUNCE, "g"),
        ("16 ounces", "mass", 16 * OUNCE, "g"),
        ("1 tonne", "mass", 1_000_000, "g"),
        ("3.4 fl oz", "volume", 3.4 * FLUID_OUNCE, "ml"),
        ("3.4 fl. oz", "volume", 3.4 * FLUID_OUNCE, "ml"),
        ("12 fluid ounces", "volume", 12 * FLUID_OUNCE, "ml"),
        ("1 fl ounce", "volume", FLUID_OUNCE, "ml"),
        ("1 pint", "volume", UK_PINT, "ml"),
        ("2 uk pints", "volume", 2 * UK_PINT, "ml"),
        ("1 imperial pint", "volume", UK_PINT, "ml"),
        ("1 us pint", "volume", US_GALLON / 8, "ml"),
        ("1 quart", "volume", US_GALLON / 4, "ml"),
        ("5 gallon", "volume", 5 * US_GALLON, "ml"),
        ("1 us gallon", "volume", US_GALLON, "ml"),
        ("1 imperial gallon", "volume", 8 * UK_PINT, "ml"),
        ("750ml", "volume", 750, "ml"),
        ("70 cl", "volume", 700, "ml"),
        ("1.5 litres", "volume", 1500, "ml"),
        ("50 sq ft", "area", 50 * (FOOT / 100) ** 2, "m2"),
        ("2 tb", "storage", 2000, "GB"),
        ("512 mb", "storage", 0.512, "GB"),
        ("1.5 kw", "power", 1500, "W"),
        ("2 hp", "power", 2 * 745.7, "W"),
        ("2 ah", "charge", 2000, "mAh"),
        ("90 minutes", "duration", 1.5, "hour"),
        ("2.4 ghz", "frequency", 2.4e9, "Hz"),
    ],
)
def test_units_in_base_units(text, kind, number, unit):
    [q] = find_quantities(text)
    assert (q.kind, q.unit) == (kind, unit)
    assert q.number == pytest.approx(number, rel=1e-6)


def test_a_us_size_is_no_volume():
    [q] = find_quantities("us 9 women")
    assert (q.kind, q.number, q.unit) == ("shoe_size", 9, "US")


@pytest.mark.parametrize("kind", ["perfume", "shampoo", "wine", "water_bottle", "milk", "juice"])
def test_liquids_and_what_holds_them(kind):
    assert is_liquid(kind, KNOWLEDGE)


@pytest.mark.parametrize("kind", ["coffee", "tea", "candle", "fabric", "steak", "makeup", None])
def test_what_is_weighed(kind):
    assert not is_liquid(kind, KNOWLEDGE)


def test_every_kind_of_the_table_exists():
    assert kinds() <= set(KNOWLEDGE.categories)


def test_ounces_of_a_liquid_are_fluid():
    [bare] = find_quantities("3.4 oz")
    fluid = read_fluid(bare)
    assert (fluid.kind, fluid.unit, fluid.text) == ("volume", "ml", "3.4 oz")
    assert fluid.number == pytest.approx(3.4 * FLUID_OUNCE)
    [between] = find_quantities("8-12 oz")
    assert read_fluid(between).number_high == pytest.approx(12 * FLUID_OUNCE)
    [grams] = find_quantities("100 g")
    assert read_fluid(grams) == grams


@pytest.mark.parametrize(
    "words, expected", [("3.4 oz", True), ("12oz.", True), ("8 Ounces", True), ("100 g", False), ("dozen", False)]
)
def test_words_in_ounces(words, expected):
    assert in_ounces(words) is expected


@pytest.mark.parametrize(
    "title, name, number, unit",
    [
        ("Eau de parfum perfume 3.4 oz", "volume", 3.4 * FLUID_OUNCE, "ml"),
        ("Ground coffee 12 oz", "weight", 12 * OUNCE, "g"),
    ],
)
def test_items_are_read_alike(title, name, number, unit):
    [reply] = Given(KNOWLEDGE).extract([ExtractorInput(Item("i", title), ())])
    attributes = getattr(reply, "attributes", reply)
    [found] = [a for a in attributes if a.name in ("volume", "weight")]
    assert (found.name, found.number, found.unit) == (name, pytest.approx(number), unit)
