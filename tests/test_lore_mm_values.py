import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.values import find_prices, find_quantities, format_number, letter_size

INCH = 2.54  # cm
OUNCE = 28.349523125  # g
FLUID_OUNCE = 29.5735295625  # ml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("13 inch laptop", [("screen", 13, None, "in")]),
        ('15.6" screen', [("screen", 15.6, None, "in")]),
        ("27 inch gaming monitor", [("screen", 27, None, "in")]),
        ("13in", [("length", 13 * INCH, None, "cm")]),
        ("1–3 m cable", [("length", 1 * 100, 3 * 100, "cm")]),
        ("40 x 60 cm", [("length", 40, None, "cm"), ("length", 60, None, "cm")]),
        ("40x60x10cm", [("length", 40, None, "cm"), ("length", 60, None, "cm"), ("length", 10, None, "cm")]),
        ("600 x 400 mm", [("length", 600 / 10, None, "cm"), ("length", 400 / 10, None, "cm")]),
        ("1 1/2 inch pipe", [("length", 1.5 * INCH, None, "cm")]),
        ("6ft", [("length", 6 * 30.48, None, "cm")]),
        ("2.5kg", [("mass", 2.5 * 1000, None, "g")]),
        ("2-3 kg", [("mass", 2 * 1000, 3 * 1000, "g")]),
        ("12 oz gloves", [("mass", 12 * OUNCE, None, "g")]),
        ("5 lb", [("mass", 5 * 453.59237, None, "g")]),
        ("16 fl oz", [("volume", 16 * FLUID_OUNCE, None, "ml")]),
        ("500ml", [("volume", 500, None, "ml")]),
        ("1,5 l", [("volume", 1.5 * 1000, None, "ml")]),
        ("128GB", [("storage", 128, None, "GB")]),
        ("2 TB ssd", [("storage", 2 * 1000, None, "GB")]),
        ("512 MB", [("storage", 512 / 1000, None, "GB")]),
        ("60 watt bulbs", [("power", 60, None, "W")]),
        ("1.5kW", [("power", 1.5 * 1000, None, "W")]),
        ("230V", [("voltage", 230, None, "V")]),
        ("10,000 mAh", [("charge", 10_000, None, "mAh")]),
        ("144Hz", [("frequency", 144, None, "Hz")]),
        ("3.6GHz", [("frequency", 3.6e9, None, "Hz")]),
        ("24 megapixel", [("pixels", 24, None, "MP")]),
        ("4K tv", [("resolution", 2160, None, "lines")]),
        ("1080p", [("resolution", 1080, None, "lines")]),
        ("40 denier tights", [("denier", 40, None, "den")]),
        ("EU 42", [("shoe_size", 42, None, "EU")]),
        ("shoes size uk 8.5", [("shoe_size", 8.5, None, "UK")]),
        ("size 42", [("size", 42, None, "")]),
        ("dress size 10-12", [("size", 10, 12, "")]),
        ("xl", [("size", 2, None, "letter")]),
        ("size m", [("size", 0, None, "letter")]),
        ("W32 L34", [("size", 32, None, "waist"), ("size", 34, None, "leg")]),
        ("pack of 3", [("count", 3, None, "pack")]),
        ("3-piece set", [("count", 3, None, "piece")]),
        ("2 x batteries", [("count", 2, None, "pack")]),
        ("a dozen eggs", [("count", 12, None, "pack")]),
        ("two-seater", [("count", 2, None, "seat")]),
        ("4-person tent", [("count", 4, None, "person")]),
        ("80% cotton, 20% linen", [("share", 80, None, "%"), ("share", 20, None, "%")]),
        ("6-12 months", [("age", 6 / 12, 12 / 12, "year")]),
        ("7 year old", [("age", 7, None, "year")]),
        ("2024 calendar", [("year", 2024, None, "year")]),
        ("18k gold", [("purity", 18, None, "k")]),
        ("spf 50", [("spf", 50, None, "spf")]),
        # words that only look like units
        ("5G phone", []), ("3M tape", []), ("2 in 1 laptop", []), ("windows 11", []), ("4x the pixels", []),
        ("2 year warranty", []), ("no numbers here", []), ("iphone 13", []),
    ],
)  # fmt: skip
def test_quantities(text, expected):
    found = find_quantities(text)
    assert [(q.kind, pytest.approx(q.number), q.unit) for q in found] == [(k, n, u) for k, n, _, u in expected]
    assert [q.number_high for q in found] == [h if h is None else pytest.approx(h) for _, _, h, _ in expected]


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("at least 2 m", "at_least"),
        ("under 50 cm", "at_most"),
        ("ages 3+", "at_least"),
        ("2 m", "eq"),
        ("up to 5kg", "at_most"),
    ],
)
def test_bounds(text, op):
    assert find_quantities(text)[0].op == op


@pytest.mark.parametrize(
    ("text", "op", "low", "high", "currency"),
    [
        ("under 50", "at_most", None, 50, None),
        ("shoes under $50", "at_most", None, 50, "USD"),
        ("between 50 and 100", "range", 50, 100, None),
        ("between €20 and €40", "range", 20, 40, "EUR"),
        ("50-100 dollars", "range", 50, 100, "USD"),
        ("from 20 to 40 euros", "range", 20, 40, "EUR"),
        ("€20", "eq", 20, 20, "EUR"),
        ("20€", "eq", 20, 20, "EUR"),
        ("50-yuan t-shirt", "eq", 50, 50, "CNY"),
        ("budget 300", "eq", 300, 300, None),
        ("laptop around 1200", "eq", 1200, 1200, None),
        ("$20 or less", "at_most", None, 20, "USD"),
        ("over 100", "at_least", 100, None, None),
        ("£5-£10", "range", 5, 10, "GBP"),
        ("under 20 pounds", "at_most", None, 20, "GBP"),
        ("under 1k", "at_most", None, 1 * 1000, None),
        ("1,299.00 USD", "eq", 1299, 1299, "USD"),
    ],
)
def test_prices(text, op, low, high, currency):
    (price,) = find_prices(text)
    assert (price.op, price.low, price.high, price.currency) == (op, low, high, currency)


@pytest.mark.parametrize(
    "text",
    ["cheap", "less than 20 cm", "under 20kg", "under 5 years", "5 pounds", "size 42", "iphone 13", "pack of 3", ""],
)
def test_what_is_no_price(text):
    assert find_prices(text) == []


def test_a_default_currency_fills_only_what_was_not_said():
    assert find_prices("under 50", "EUR")[0].currency == "EUR"
    assert find_prices("under $50", "EUR")[0].currency == "USD"


@given(st.text(alphabet=st.sampled_from("0123456789.,x-/ cmkgin\"'%€$½spack of size ²é灯\n"), max_size=60))
def test_spans_are_exact_and_do_not_overlap(text):
    last = 0
    for q in find_quantities(text):
        assert text[q.start : q.end] == q.text
        assert q.start >= last
        last = q.end
    for p in find_prices(text):
        assert 0 <= p.start < p.end <= len(text)


@pytest.mark.parametrize("text", ["1" * 10**6, "size " * 200_000, "1 " * 50_000, "-1" * 50_000, "5 x " * 50_000])
def test_hostile_numbers_end(text):
    assert len(find_quantities(text)) <= len(text)
    assert len(find_prices(text)) <= len(text)


@pytest.mark.parametrize(
    ("text", "notches"),
    [
        ("XS", -2),
        ("s", -1),
        ("M", 0),
        ("Large", 1),
        ("xl", 2),
        ("XXL", 3),
        ("3XL", 4),
        ("xxxl", 4),
        ("42", None),
        ("", None),
    ],
)
def test_letter_size(text, notches):
    assert letter_size(text) == notches


@pytest.mark.parametrize(("number", "words"), [(2.5, "2.5"), (42.0, "42"), (1000.0, "1000"), (1 / 3, "0.3333")])
def test_format_number(number, words):
    assert format_number(number) == words


@pytest.mark.parametrize(
    ("text", "number"),
    [("for kids 7 and up", 7), ("budget of 50", 50), ("shoes 40 or less", 40), ("9 bucks", 9), ("30 max", 30)],
)
def test_a_price_is_found_by_the_words_around_it(text, number):
    (price,) = find_prices(text)
    assert number in (price.low, price.high)


@pytest.mark.parametrize("text", ["iphone 13 case", "7 drawer dresser", "no digits under dollars", "size 42"])
def test_other_numbers_are_no_prices(text):
    assert find_prices(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dozen roses", [("count", 12, "pack")]),
        ("ladies size small", [("size", -1, "letter")]),
        ("fhd monitor", [("resolution", 1080, "lines")]),
        ("pack of six", [("count", 6, "pack")]),
        ("two-piece suit", [("count", 2, "piece")]),
        ("XXL hoodie", [("size", 3, "letter")]),
        ("xbox 2021 v2", [("year", 2021, "year")]),
        ("sizeable offhand foxes", []),
    ],
)
def test_numbers_in_words(text, expected):
    assert [(q.kind, q.number, q.unit) for q in find_quantities(text)] == expected
