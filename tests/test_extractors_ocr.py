"""Text on pictures, read by the real engine from pictures drawn here, and what is made of the lines."""

import random
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from extractors import rapid_ocr
from extractors.cascade import extract_all
from extractors.ocr import Ocr
from extractors.pack_text import read_pack
from extractors.protocol import ExtractorInput, PackLine
from extractors.rapid_ocr import RapidOcr, Reading, TextLine
from lore_mm.errors import MissingExtraError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import Item

KNOWLEDGE, SCHEMAS = load_knowledge(), load_schemas()
ITEM = Item("1", "")


@pytest.fixture(scope="module")
def engine():
    return RapidOcr()


def drawn(*lines, size=26, ink="black", paper="white", width=512, height=None):
    picture = Image.new("RGB", (width, height or 40 + int(size * 1.7) * len(lines)), paper)
    draw = ImageDraw.Draw(picture)
    for n, line in enumerate(lines):
        draw.text((20, 20 + n * int(size * 1.7)), line, fill=ink, font=ImageFont.load_default(size))
    return picture


def compact(reading):
    return [line.text.replace(" ", "") for line in reading.lines]


def shown(category, *pictures):
    return ExtractorInput(ITEM, category, pictures, tuple(None for _ in pictures))


def read(category, *lines):
    """Attributes of pack lines, without an engine: name → (value, number)."""
    placed = [
        PackLine(text, 0, (0.1, n / 10, 0.9, (n + 1) / 10), sure) if isinstance(text, str) else text
        for n, (text, sure) in enumerate(line if isinstance(line, tuple) else (line, 0.99) for line in lines)
    ]
    found = read_pack(ITEM, category, placed, KNOWLEDGE, SCHEMAS)
    return {(a.name, a.value if a.number is None else a.number) for a in found}


WORDS = ("Alpine Oat Drink", "1.5 L", "100% Cotton", "NET WT 250 g")


@pytest.mark.parametrize(
    "picture",
    [
        drawn(*WORDS, size=12),
        drawn(*WORDS, size=40),
        drawn(*WORDS, ink=(150, 150, 150), paper=(175, 175, 175)),
        drawn(*WORDS, ink="white", paper=(30, 110, 60)),
        drawn(*WORDS).rotate(8, expand=True, fillcolor="white"),
        drawn(*WORDS).transpose(Image.Transpose.ROTATE_180),
    ],
    ids=["small", "large", "low contrast", "light on dark", "tilted", "upside down"],
)
def test_lines_are_read(engine, picture):
    assert sorted(compact(engine.read(picture))) == sorted(word.replace(" ", "") for word in WORDS)


def test_a_line_says_where_it_stands(engine):
    lines = engine.read(drawn("Oats", "500 g", width=400, height=400)).lines
    assert [line.text.replace(" ", "") for line in lines] == ["Oats", "500g"]
    for n, line in enumerate(lines):  # drawn at x = 20, y = 20 + 44 n, some 20 pixels high
        x0, y0, x1, y1 = line.region
        assert x0 == pytest.approx(20 / 400, abs=0.03) and y0 == pytest.approx((24 + 44 * n) / 400, abs=0.03)
        assert 0.05 < x1 - x0 < 0.3 and 0.03 < y1 - y0 < 0.12
        assert 0.8 < line.confidence <= 1.0


def test_small_print_on_a_large_picture_is_read_at_full_size(engine):
    assert compact(engine.read(drawn(*WORDS, size=16, width=1600, height=1200))) == [w.replace(" ", "") for w in WORDS]


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (2000, 2), (8, 4000), (4000, 9), (16, 16)])
def test_strips_and_specks_are_quickly_nothing(engine, size):
    assert engine.read(Image.new("RGB", size, "red")) == Reading()


def test_noise_says_nothing(engine):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    assert not [line for line in engine.read(noise).lines if line.confidence > 0.8]


def text_bomb():
    words = random.Random(1)
    rows = (" ".join(words.choices(("salt", "wheat", "oil", "soy"), k=3)) for _ in range(24))
    return drawn("BRAND", *rows, size=14, width=400)


def test_a_page_of_text_gives_its_largest_lines(engine, monkeypatch):
    monkeypatch.setattr(engine, "most_lines", 5)
    picture = text_bomb()
    ImageDraw.Draw(picture).text((200, 100), "HUGE", fill="red", font=ImageFont.load_default(60))
    reading = engine.read(picture)
    assert len(reading.lines) <= 5 and reading.unread == 0
    assert "HUGE" in [line.text for line in reading.lines]


def test_out_of_time_is_a_failed_row_that_keeps_what_was_read(engine, monkeypatch):
    monkeypatch.setattr(engine, "most_seconds", 0.1)
    monkeypatch.setattr(rapid_ocr, "_read_line", lambda *_: time.sleep(0.06) or TextLine("Nike", (0, 0, 1, 1), 0.99))
    (found,) = Ocr(KNOWLEDGE, SCHEMAS, engine).extract([shown(None, text_bomb())])
    assert found.status == "failed" and found.error.startswith("picture 0: no time for ")
    assert {line.text for line in found.pack} <= {"Nike"}


def test_items_in_items_out(engine):
    ocr = Ocr(KNOWLEDGE, SCHEMAS, engine, threads=2)
    care, pack = drawn("80% cotton", "20% polyester"), drawn("Alpro", "Oat Drink", "1 L")
    broken = ExtractorInput(ITEM, "t_shirt", (None, care), ("picture 'a.jpg': the file is empty", None))
    found = ocr.extract([shown("t_shirt", care), shown(None), broken, shown("milk", pack, care)])
    assert [one.status for one in found] == ["ok", "skipped", "failed", "ok"]
    assert found[1].error == "no picture" and found[2].error == "picture 'a.jpg': the file is empty"
    assert {(a.value, a.share) for a in found[0].attributes} == {("cotton", 0.8), ("polyester", 0.2)}
    assert [line.picture for line in found[2].pack] == [1, 1]
    assert {line.picture for line in found[3].pack} == {0, 1}
    volume = next(a for a in found[3].attributes if a.name == "volume")
    assert (volume.number, volume.unit, volume.extractor) == (1000.0, "ml", "ocr")
    (place,) = volume.evidence
    assert (place.source, place.quote.replace(" ", "")) == ("image:0", "1L")
    assert place.region in [line.region for line in found[3].pack]
    assert volume.confidence == pytest.approx(0.85 * place.confidence, abs=0.01)
    assert found[3].category == "milk"


def test_the_lines_reach_those_that_follow(engine):
    class Follower:
        name, needs_pictures, sha = "follower", False, "1"

        def extract(self, inputs):
            self.saw = [[line.text for line in one.pack] for one in inputs]
            return Given(KNOWLEDGE, SCHEMAS).extract(inputs)

    from extractors.given import Given

    follower = Follower()
    extract_all([shown(None, drawn("Nike"))], [Ocr(KNOWLEDGE, SCHEMAS, engine), follower])
    assert follower.saw == [["Nike"]]


def test_a_broken_engine_fails_its_row_only():
    class Breaks:
        name = "breaks 1"

        def read(self, image):
            if image.width == 13:
                raise ValueError("13\npixels")
            return Reading((TextLine("Vegan", (0, 0, 1, 1), 0.9),))

    ocr = Ocr(KNOWLEDGE, SCHEMAS, Breaks())
    bad, good = ocr.extract([shown(None, Image.new("RGB", (13, 13))), shown(None, Image.new("RGB", (14, 14)))])
    assert (bad.status, bad.error, bad.attributes) == ("failed", "picture 0: ValueError: 13 pixels", ())
    assert [(a.name, a.value) for a in good.attributes] == [("special", "vegan")]
    assert ocr.sha != Ocr(KNOWLEDGE, SCHEMAS, engine=type("Other", (Breaks,), {"name": "breaks 2"})()).sha


@pytest.mark.parametrize(
    ("category", "lines", "stated"),
    [
        (None, ["NET WT 250 g"], {("weight", 250.0)}),
        (None, ["per 100 g", "Fat 3 g", "of which sugars 12 g"], set()),  # a table of nutrients
        (None, ["500 g", "10 g"], set()),  # which of them is the item's is not sure
        (None, ["Ages 6+"], {("age", 6.0)}),
        (None, ["Green Tea", "Summer Edition"], set()),  # words of praise and flavour, not qualities
        ("t_shirt", ["Nike"], {("brand", "Nike")}),
        ("t_shirt", ["compatible with Nike shoes"], set()),
        ("t_shirt", [("100% cotton", 0.6)], set()),  # not surely read
        ("t_shirt", ["100% cotton"], {("material", "cotton")}),
        (None, [], set()),
    ],
)
def test_only_what_is_stated_becomes_an_attribute(category, lines, stated):
    assert read(category, *lines) == stated


def test_hostile_words_are_words():
    lines = ["<b>x</b>", "{{7*7}}", "\x1b[m", "9" * 300, "١٠٠٪ قطن", "ﬁ" * 90, "0/0", "-" * 200]
    assert read(None, *lines) == set()


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtraError, match=r"'rapidocr'.*pip install 'lore-mm\[ocr\]'"):
        RapidOcr()
