import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from extractors.foreground import find_foreground, thumbnail
from extractors.palette import Palette
from extractors.protocol import ExtractorInput
from lore_mm.cielab import ciede2000, lab_of_hex
from lore_mm.knowledge import Category, Color, Knowledge
from lore_mm.types import Item

HEX = {
    "red": "#c8202a",
    "orange": "#f58220",
    "yellow": "#f7d117",
    "green": "#1e8b3c",
    "blue": "#1f5fc4",
    "purple": "#6a2c91",
    "pink": "#f29ab8",
    "brown": "#6b4226",
    "white": "#ffffff",
    "gray": "#808080",
    "black": "#121212",
}
KNOWLEDGE = Knowledge(
    categories=[Category(id="shirt", name="shirt", department="fashion")],
    colors=[
        *(Color(name=name, family=name, hex=code) for name, code in HEX.items()),
        Color(name="navy", family="blue", hex="#1c2541"),
    ],
)
PALETTE = Palette(KNOWLEDGE)


def draw(size, background, *boxes):
    """A picture with boxes (colour, x0, y0, x1, y1) in pixels, upper ends exclusive."""
    image = Image.new("RGB", size, HEX.get(background, background))
    for color, x0, y0, x1, y1 in boxes:
        ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=HEX.get(color, color))
    return image


def one(*pictures, errors=(), category=None):
    (result,) = PALETTE.extract([ExtractorInput(Item("a", "thing"), category, pictures, errors)])
    return result


def shares(extraction):
    return {a.value: a.share for a in extraction.attributes}


def test_one_colour_on_a_white_background_with_its_box():
    result = one(draw((90, 90), "white", ("red", 18, 27, 63, 72)))
    (red,) = result.attributes
    assert (red.name, red.dimension, red.value, red.status, red.extractor) == (
        "color",
        "color",
        "red",
        "value",
        "palette",
    )
    assert red.share == pytest.approx(1.0)
    (evidence,) = red.evidence
    assert evidence.source == "image:0"
    assert evidence.value == "red"
    assert evidence.region == pytest.approx((18 / 90, 27 / 90, 63 / 90, 72 / 90), abs=0.02)


def test_shares_are_areas_of_the_foreground():
    picture = draw(
        (400, 300), "white", ("blue", 40, 30, 340, 180), ("yellow", 40, 180, 340, 230), ("black", 40, 230, 140, 260)
    )
    areas = {"blue": 300 * 150, "yellow": 300 * 50, "black": 100 * 30}
    kept = {name: area / sum(areas.values()) for name, area in areas.items()}
    del kept["black"]  # 3000 / 63000 is under 5 %
    assert shares(one(picture)) == pytest.approx({k: v / sum(kept.values()) for k, v in kept.items()}, abs=0.02)


def test_a_coloured_studio_background_and_a_gradient_are_cut_away():
    assert shares(one(draw((120, 120), "purple", ("orange", 30, 40, 90, 80)))) == pytest.approx({"orange": 1.0})
    ramp = np.linspace(150, 235, 200)[:, None, None] * np.ones((200, 160, 3))
    picture = Image.fromarray(ramp.astype(np.uint8))
    picture.paste(HEX["red"], (40, 60, 120, 150))
    assert shares(one(picture)) == pytest.approx({"red": 1.0})


def test_background_enclosed_by_the_product_belongs_to_it():
    ring = draw((100, 100), "white", ("blue", 20, 20, 80, 80), ("white", 40, 40, 60, 60))
    assert shares(one(ring)) == pytest.approx({"blue": 1 - 400 / 3600, "white": 400 / 3600}, abs=0.02)


def test_a_coloured_background_is_cut_out_of_holes_and_so_is_its_shadow():
    ring = draw((100, 100), "purple", ("yellow", 20, 20, 80, 80), ("purple", 40, 40, 60, 60))
    assert shares(one(ring)) == pytest.approx({"yellow": 1.0})
    shadow = draw((100, 100), "#8ab8d8", ("#55728a", 30, 60, 90, 75), ("red", 30, 20, 70, 60))
    assert shares(one(shadow)) == pytest.approx({"red": 1.0})


def test_a_floor_below_a_wall_is_background_too():
    room = draw((120, 120), "#e8ecef", ("brown", 0, 90, 120, 120), ("red", 40, 30, 80, 90))
    assert shares(one(room)) == pytest.approx({"red": 1.0})


def test_white_on_black_and_grey_on_white():
    assert shares(one(draw((100, 100), "black", ("white", 30, 30, 70, 70)))) == pytest.approx({"white": 1.0})
    assert shares(one(draw((100, 100), "white", ("gray", 30, 30, 70, 70)))) == pytest.approx({"gray": 1.0})


def test_a_product_cut_off_by_the_border():
    picture = draw((100, 100), "white", ("green", 35, 20, 65, 100))
    assert shares(one(picture)) == pytest.approx({"green": 1.0})


def test_a_busy_background_weighs_little():
    noise = np.random.default_rng(3).integers(0, 2, (120, 120, 1)).astype(np.uint8)
    picture = Image.fromarray(np.where(noise, np.uint8([30, 139, 60]), np.uint8([107, 66, 38])).astype(np.uint8))
    picture.paste(HEX["red"], (35, 35, 85, 85))
    result = one(picture)
    assert result.attributes[0].value == "red"
    assert result.attributes[0].share > 0.6  # the box is 50 * 50 / 120² = 17 % of the picture
    plain = one(draw((120, 120), "white", ("red", 35, 35, 85, 85)))
    assert result.attributes[0].confidence < plain.attributes[0].confidence


def test_a_precise_name_needs_a_near_colour_else_the_family_is_named():
    assert shares(one(draw((100, 100), "white", ("#1c2541", 20, 20, 80, 80)))) == pytest.approx({"navy": 1.0})
    sky = one(draw((100, 100), "white", ("#4a8ad8", 20, 20, 80, 80)))  # between blue and white, nearest is blue
    assert list(shares(sky)) == ["blue"]


def test_two_shades_of_one_name_are_one_colour():
    picture = draw((100, 100), "white", ("#c8202a", 20, 20, 80, 50), ("#a81820", 20, 50, 80, 80))
    assert shares(one(picture)) == pytest.approx({"red": 1.0})


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 7), (20000, 3), (3000, 2500)])
def test_any_size_of_one_colour(size):
    assert shares(one(Image.new("RGB", size, HEX["green"]))) == pytest.approx({"green": 1.0})


def test_transparency_is_background():
    picture = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    picture.paste((200, 32, 42, 255), (20, 20, 60, 60))
    assert shares(one(picture)) == pytest.approx({"red": 1.0})


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA"])
def test_any_mode(mode):
    result = one(draw((60, 60), "white", ("black", 20, 20, 40, 40)).convert(mode))
    assert shares(result) == pytest.approx({"black": 1.0})


def test_several_pictures_are_averaged_and_each_is_evidence():
    front = draw((90, 90), "white", ("red", 20, 20, 70, 70))
    back = draw((90, 90), "white", ("red", 20, 20, 70, 45), ("blue", 20, 45, 70, 70))
    result = one(front, None, back, errors=(None, "truncated", None))
    assert result.status == "ok"
    assert shares(result) == pytest.approx({"red": 0.75, "blue": 0.25}, abs=0.03)
    assert [e.source for e in result.attributes[0].evidence] == ["image:0", "image:2"]
    assert [e.source for e in result.attributes[1].evidence] == ["image:2"]


def test_without_a_picture_skipped_and_with_none_readable_failed():
    good = draw((90, 90), "white", ("red", 20, 20, 70, 70))
    results = PALETTE.extract(
        [
            ExtractorInput(Item("a", "x")),
            ExtractorInput(Item("b", "x"), None, (None, None), ("not a picture", "truncated")),
            ExtractorInput(Item("c", "x"), "shirt", (good,), (None,)),
        ]
    )
    assert [(r.status, r.error) for r in results] == [
        ("skipped", "no picture"),
        ("failed", "not a picture; truncated"),
        ("ok", None),
    ]
    assert results[2].category == "shirt"


def test_skin_counts_little_beside_a_garment():
    picture = draw((100, 100), "white", ("#d2a07c", 40, 5, 60, 40), ("blue", 30, 40, 70, 90))
    worn, plain = shares(one(picture, category="shirt")), shares(one(picture))
    assert worn["blue"] > 0.9
    assert plain["blue"] == pytest.approx(2000 / 2700, abs=0.02)


def test_the_sha_follows_the_colour_table():
    other = Knowledge(colors=[Color(name="red", family="red", hex="#ff0000")])
    assert Palette(other).sha != PALETTE.sha == Palette(KNOWLEDGE).sha


def test_foreground_of_a_plain_picture_is_exact():
    rgb = np.asarray(draw((80, 60), "white", ("blue", 20, 15, 50, 40)))
    ground = find_foreground(rgb)
    expected = np.zeros((60, 80))
    expected[15:40, 20:50] = 1
    assert ground.plain
    assert (ground.weights == expected).all()


def test_a_thumbnail_picks_pixels_and_does_not_mix_them():
    check = np.indices((400, 400)).sum(axis=0) % 2 * 255
    picked = thumbnail(Image.fromarray(check.astype(np.uint8)))
    assert set(np.unique(picked)) <= {0, 255}


_bright = st.sampled_from([name for name in HEX if name != "white"])


@settings(max_examples=40, deadline=None)
@given(_bright, _bright, st.integers(10, 86), st.integers(40, 160))
def test_two_colours_side_by_side(left, right, split, height):
    """Names exact and shares within 0.02, for any two colours that people would not confuse."""
    if left != right and ciede2000(lab_of_hex(HEX[left]), lab_of_hex(HEX[right])) < 20:
        return
    picture = draw(
        (136, height + 40), "white", (left, 20, 20, 20 + split, height + 20), (right, 20 + split, 20, 116, height + 20)
    )
    share = split / 96
    expected = {left: share, right: 1 - share} if left != right else {left: 1.0}
    found = shares(one(picture))
    assert found == pytest.approx(expected, abs=0.02)
    assert sum(found.values()) == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60))
def test_any_pixels_give_shares_that_sum_to_one(seed, width, height):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = one(Image.fromarray(pixels))
    assert result.status == "ok"
    assert sum(a.share for a in result.attributes) == pytest.approx(1.0)
    assert all(0 < a.confidence <= 1 and 0.0499 <= a.share <= 1 for a in result.attributes)
    assert all(0 <= e.region[i] <= e.region[i + 2] <= 1 for a in result.attributes for e in a.evidence for i in (0, 1))
