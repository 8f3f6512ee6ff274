"""Run: pytest tests/test_lore_mm_shoe_sizes.py

Shoe sizes across systems: the formulas, whose sizes are meant, and what is no size.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.knowledge import load_knowledge
from lore_mm.shoe_sizes import (
    SYSTEMS,
    ShoeSize,
    convert,
    foot_lengths,
    has_shoe_sizes,
    sizes_apart,
    system_of,
    wearer,
)

BARLEYCORN = 2.54 / 3  # cm
TOES = 2 * BARLEYCORN


def test_a_foot_has_the_length_that_the_formulas_say():
    assert foot_lengths(42, "EU") == (pytest.approx(42 / 1.5 - 1.5),)
    assert foot_lengths(9, "UK") == (pytest.approx((25 + 9) * BARLEYCORN - TOES),)
    assert foot_lengths(9, "US", "men") == (pytest.approx((24 + 9) * BARLEYCORN - TOES),)
    assert foot_lengths(9, "US", "women") == (pytest.approx((22.5 + 9) * BARLEYCORN - TOES),)
    assert foot_lengths(10, "UK", "small") == (pytest.approx((12 + 10) * BARLEYCORN - TOES),)
    assert foot_lengths(13, "UK", "small")[0] == pytest.approx(25 * BARLEYCORN - TOES)  # where adults' 0 would be


@pytest.mark.parametrize(
    "size, system, to, group, expected",
    [
        # what shops' tables say, to a half: the formulas agree
        (9, "UK", "EU", None, (43,)),
        (6, "UK", "EU", "women", (39,)),
        (9, "UK", "US", "men", (10,)),
        (42, "EU", "US", "men", (9.5,)),
        (42, "EU", "UK", None, (8.5,)),
        (38, "EU", "US", "women", (7.5,)),
        (9.5, "US", "EU", "men", (42.5,)),
        (9.5, "US", "EU", "women", (40.5,)),
        (9.5, "US", "EU", None, (42.5, 40.5)),  # nobody said whose: men's, and women's
        (12, "US", "UK", "men", (11,)),
        (42, "EU", "EU", None, (42,)),
        # children: the numbers run to 13, then begin anew
        (10, "UK", "EU", "small", (27.5,)),
        (10, "UK", "EU", "children", (27.5,)),
        (5, "US", "EU", "children", (36.5,)),
        (5, "US", "EU", "small", (21,)),
        (13, "US", "EU", "children", (31,)),
        (28, "EU", "UK", "children", (10.5,)),
        (34, "EU", "UK", "children", (2,)),
        # a plain number
        (42, None, "US", "men", (9.5,)),
        (9.5, None, "EU", "women", (40.5,)),
        (22, None, "UK", "small", (5.5,)),
        # no sizes
        (99, "US", "EU", None, ()),
        (60, None, "UK", None, ()),
        (0.5, "UK", "EU", None, ()),
    ],
)
def test_conversions(size, system, to, group, expected):
    assert convert(size, system, to, group) == expected


def test_the_wearer_is_whoever_all_audiences_agree_on():
    assert wearer(["men"]) == "men"
    assert wearer(["women", "runners"]) == "women"
    assert wearer(["boys", "girls"]) == "children"
    assert wearer(["kids", "toddlers"]) == "small"
    assert wearer(["men", "women"]) is None
    assert wearer(["unisex"]) is None
    assert wearer([]) is None


def test_a_plain_number_is_of_the_system_beside_it_or_eu_where_it_is_large():
    assert system_of(42) == "EU"
    assert system_of(9) == "US"
    assert system_of(9, beside="UK") == "UK"
    assert system_of(9, beside="EU") == "US"
    assert system_of(9, "UK", beside="US") == "UK"
    assert (system_of(16), system_of(16, group="men"), system_of(16, group="children")) == ("US", "US", "EU")


def test_what_has_shoe_sizes():
    knowledge = load_knowledge()
    for kind in ("running_shoe", "sandal", "football_boot", "ski_boot"):
        assert has_shoe_sizes(kind, knowledge), kind
    for kind in ("dress", "ring", "laptop", "shoe_rack", "no such kind", None):
        assert not has_shoe_sizes(kind, knowledge), kind


@pytest.mark.parametrize(
    "one, other, group, low, high",
    [
        (ShoeSize(9, 9, "UK"), ShoeSize(43, 43, "EU"), None, 0, 0.25),
        (ShoeSize(9, 9, "UK"), ShoeSize(42, 42), None, 0.5, 1),  # a plain 42 is EU
        (ShoeSize(9, 9, "UK"), ShoeSize(40, 40, "EU"), None, 2.5, 3.5),
        (ShoeSize(8, 10, "US"), ShoeSize(43, 43, "EU"), "men", 0, 0.25),
        (ShoeSize(40, 44, "EU"), ShoeSize(8, 8, "UK"), None, 0, 0),
        (ShoeSize(9, 9, "US"), ShoeSize(40, 40, "EU"), "women", 0, 0.5),
        (ShoeSize(9, 9, "US"), ShoeSize(40, 40, "EU"), "men", 1.5, 2.5),
    ],
)
def test_how_far_sizes_are_apart(one, other, group, low, high):
    assert low <= sizes_apart(one, other, group) <= high
    assert sizes_apart(one, other, group) == pytest.approx(sizes_apart(other, one, group))


def test_what_is_no_size_is_not_compared():
    assert sizes_apart(ShoeSize(99, 99, "UK"), ShoeSize(43, 43, "EU")) is None


@given(st.sampled_from(SYSTEMS), st.sampled_from(SYSTEMS), st.sampled_from(["men", "women"]), st.integers(0, 120))
def test_there_and_back_is_the_same_size_to_a_half(system, to, group, halves):
    size = halves / 2
    for there in convert(size, system, to, group):
        back = convert(there, to, system, group)
        assert not back or abs(back[0] - size) <= 0.5
