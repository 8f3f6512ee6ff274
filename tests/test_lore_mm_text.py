import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.text import fold, normalize, one_of, plurals, singular, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Women's T-Shirt", ["women's", "t", "shirt"]),
        ("Women’s", ["women's"]),
        ("2.5m cable, 1,000 pcs", ["2.5m", "cable", "1,000", "pcs"]),
        ("WH-1000XM4", ["wh", "1000xm4"]),
        ("Café Cafe\u0301", ["cafe", "cafe"]),
        ("红色耳机", ["红", "色", "耳", "机"]),
        ("हिन्दी", ["हिन्दी"]),
        ("ﬁne Ｗide", ["fine", "wide"]),
        ("🎧💡", []),
        ("", []),
    ],
)
def test_tokens(text, words):
    assert [t.text for t in tokens(text)] == words


@given(st.text())
def test_spans_index_the_text_as_given(text):
    last = 0
    for token in tokens(text):
        assert last <= token.start < token.end <= len(text)
        assert token.text == fold(text[token.start : token.end])
        last = token.end


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("shoes", "shoe"), ("dresses", "dress"), ("watches", "watch"), ("boxes", "box"), ("batteries", "battery"),
        ("women", "woman"), ("scarves", "scarf"), ("knives", "knife"), ("lenses", "lens"), ("tomatoes", "tomato"),
        ("cookies", "cookie"), ("ties", "tie"), ("glasses", "glasses"), ("jeans", "jeans"), ("dress", "dress"),
        ("cactus", "cactus"), ("cacti", "cactus"), ("iris", "iris"), ("series", "series"), ("cases", "case"),
        ("bus", "bus"), ("gas", "gas"), ("us", "us"), ("4s", "4s"), ("", ""),
    ],
)  # fmt: skip
def test_singular(plural, one):
    assert singular(plural) == one


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("knife", ["knives", "knifes"]), ("die", ["dice", "dies"]), ("box", ["boxs", "boxes"]), ("shoe", ["shoes"]),
        ("story", ["storys", "stories"]), ("jean", []), ("jeans", []), ("men's", []), ("2", []),
    ],
)  # fmt: skip
def test_plurals(one, many):
    assert plurals(one) == many


@given(st.text(alphabet="abcdefhiklmnorstuvxyz", max_size=10))
def test_plurals_are_all_that_singular_reads_as_the_word(word):
    one = singular(word)
    assert word == one or word in plurals(one)
    assert {singular(form) for form in plurals(word)} <= {word}


def test_one_of():
    pattern = one_of("c++", "than ")
    assert pattern.search("a c++ book")
    assert pattern.search("more than one")
    assert not pattern.search("c, more thanks")


@given(st.text(alphabet=st.characters(max_codepoint=300)))
def test_plain_text_is_normalised_as_all_text_is(text):
    assert normalize(text) == normalize(text + "\u00ad")  # the same, but not plain: the slower way


@given(st.text(alphabet="abcdeinorstuvxyz", min_size=0, max_size=12))
def test_singular_never_makes_a_word_longer_than_the_list_of_exceptions_does(word):
    assert len(singular(word)) <= len(word)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  red \t shoes\n", "red shoes"),
        ("a\x00b\x1fc", "a b c"),
        ("zero\u200bwidth", "zero width"),
        ("\u202eevil", "evil"),
        ("Ｆｕｌｌ", "Full"),
        ("\x00\u200b", ""),
    ],
)
def test_normalize(text, clean):
    assert normalize(text) == clean


@given(st.text())
def test_normalize_twice_is_normalize_once(text):
    assert normalize(normalize(text)) == normalize(text)
