import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.cielab import ciede2000, lab_of_hex, srgb_to_lab

# L*a*b* of sRGB primaries under D65, as published by Bruce Lindbloom's calculator (rounded to 0.01)
KNOWN = {
    "#ffffff": (100.0, 0.0, 0.0),
    "#000000": (0.0, 0.0, 0.0),
    "#ff0000": (53.24, 80.09, 67.20),
    "#00ff00": (87.73, -86.18, 83.18),
    "#0000ff": (32.30, 79.19, -107.86),
    "#808080": (53.59, 0.0, 0.0),
}

# Sharma, Wu and Dalal 2005, table 1: pairs with their CIEDE2000 difference
PAIRS = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, -1.1848, -84.8006), (50, 0, -82.7485), 1.0000),
    ((50, -0.9009, -85.5211), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, -1, 2), (50, 0, 0), 2.3669),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0009), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0010), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0012), 7.2195),
    ((50, -0.0010, 2.4900), (50, 0.0009, -2.4900), 4.8045),
    ((50, -0.0010, 2.4900), (50, 0.0011, -2.4900), 4.7461),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((50, 2.5, 0), (50, 3.1736, 0.5854), 1.0000),
    ((50, 2.5, 0), (50, 3.2972, 0), 1.0000),
    ((50, 2.5, 0), (50, 1.8634, 0.5757), 1.0000),
    ((50, 2.5, 0), (50, 3.2592, 0.3350), 1.0000),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((61.2901, 3.7196, -5.3901), (61.4292, 2.2480, -4.9620), 1.8731),
    ((35.0831, -44.1164, 3.7933), (35.0232, -40.0716, 1.5901), 1.8645),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((36.4612, 47.8580, 18.3852), (36.2715, 50.5065, 21.2231), 1.4146),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("code", "lab"), KNOWN.items())
def test_lab_of_known_colours(code, lab):
    assert lab_of_hex(code) == pytest.approx(lab, abs=0.05)


def test_bytes_and_floats_give_the_same_lab():
    rgb = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    assert np.allclose(srgb_to_lab(rgb), srgb_to_lab(rgb.astype(np.float64)))


@pytest.mark.parametrize("code", ["red", "#12345", "#gggggg"])
def test_what_is_no_hex_colour_is_refused(code):
    with pytest.raises(ValueError):
        lab_of_hex(code)


@pytest.mark.parametrize(("one", "other", "expected"), PAIRS)
def test_ciede2000_agrees_with_the_published_pairs(one, other, expected):
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


def test_a_parametric_factor_divides_its_own_difference():
    grey, lighter = np.array([50.0, 0, 0]), np.array([60.0, 0, 0])
    assert ciede2000(grey, lighter, k_l=2.0) == pytest.approx(ciede2000(grey, lighter) / 2)
    assert ciede2000(grey, lighter, k_c=2.0) == pytest.approx(ciede2000(grey, lighter))


_channel = st.integers(0, 255)
_color = st.tuples(_channel, _channel, _channel)


@given(_color, _color)
def test_a_difference_is_symmetric_and_zero_only_for_equals(one, other):
    a, b = srgb_to_lab(np.array(one, dtype=np.uint8)), srgb_to_lab(np.array(other, dtype=np.uint8))
    assert ciede2000(a, b) == pytest.approx(ciede2000(b, a), abs=1e-9)
    assert (ciede2000(a, b) < 1e-9) == (one == other)
