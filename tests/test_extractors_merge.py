from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.merge import Merger
from extractors.protocol import Extraction
from lore_mm.knowledge import Category, Color, Knowledge, Material, Term
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item

KNOWLEDGE = Knowledge(
    categories=[
        Category(id="shoe", name="shoe", department="footwear"),
        Category(id="boot", name="boot", parent="shoe"),
        Category(id="chair", name="chair", department="furniture"),
    ],
    colors=[
        Color(name="blue", family="blue", hex="#0000ff"),
        Color(name="navy", family="blue", hex="#000080"),
        Color(name="red", family="red", hex="#ff0000", near=("orange",)),
        Color(name="orange", family="orange", hex="#ff8000"),
        Color(name="white", family="white", hex="#ffffff"),
        Color(name="black", family="black", hex="#111111"),
        Color(name="gray", family="gray", hex="#808080"),
        Color(name="dark gray", family="gray", hex="#555555"),
    ],
    materials=[Material(name="leather"), Material(name="suede", umbrella=("leather",)), Material(name="cotton")],
    terms=[
        Term(dimension="audience", value="unisex", covers=("women", "men")),
        Term(dimension="audience", value="women", terms=("ladies",)),
        Term(dimension="audience", value="men"),
    ],
)
MERGER = Merger(KNOWLEDGE, load_schemas())
ITEM = Item("a", "thing")


def value(name, dimension, said, source, confidence=0.9, **more):
    quote = None if source.startswith("image") else said
    return AttributeValue(
        name, dimension, said, confidence=confidence, evidence=(Evidence(source, quote=quote),), **more
    )


def merge(**found):
    extractions = {
        name: part if isinstance(part, Extraction) else Extraction(tuple(part), "boot") for name, part in found.items()
    }
    return MERGER.merge(ITEM, extractions)


def told(extraction, name):
    return [a for a in extraction.attributes if a.name == name]


def test_sources_that_agree_make_one_surer_value_with_all_evidence():
    result = merge(
        given=[value("pattern", "style_detail", "striped", "title", 0.8)],
        zero_shot=[value("pattern", "style_detail", "stripes", "image:0", 0.7)],
    )
    (pattern,) = told(result, "pattern")
    assert (pattern.value, pattern.status, pattern.extractor) == ("striped", "value", "merge")
    assert pattern.confidence == pytest.approx(1 - (1 - 0.8) * (1 - 0.7))
    assert [(e.source, e.extractor, e.value) for e in pattern.evidence] == [
        ("title", "given", "striped"),
        ("image:0", "zero_shot", "stripes"),
    ]


def test_a_word_said_twice_in_one_place_is_one_witness_and_nothing_is_certain():
    twice = [value("brand", "brand", "Acme", "title", 0.8), value("brand", "brand", "ACME", "title", 0.6)]
    assert told(merge(given=twice), "brand")[0].confidence == pytest.approx(0.8)
    many = [value("brand", "brand", "Acme", f"given.{k}", 0.9) for k in "abc"]
    assert told(merge(given=many), "brand")[0].confidence == 0.99  # 1 - 0.1³ = 0.999 is capped
    sure = [value("brand", "brand", "Acme", "given.brand", 1.0)]
    assert told(merge(given=sure), "brand")[0].confidence == 1.0


def test_disagreement_the_dimensions_order_of_evidence_decides():
    # style_detail believes the picture first, the title second
    result = merge(
        given=[value("toe", "style_detail", "round", "title", 0.9)],
        zero_shot=[value("toe", "style_detail", "pointed", "image:0", 0.8)],
    )
    (toe,) = told(result, "toe")
    assert (toe.value, toe.status) == ("pointed", "conflict")
    assert toe.confidence == pytest.approx(0.8 * (1 - 0.9 / 2))
    assert {(e.source, e.value) for e in toe.evidence} == {("image:0", "pointed"), ("title", "round")}
    # brand believes the seller's field first
    result = merge(
        given=[value("brand", "brand", "Acme", "given.brand", 0.7)],
        other=[value("brand", "brand", "Apex", "title", 0.95)],
    )
    assert told(result, "brand")[0].value == "Acme"


def test_a_doubtful_loser_makes_no_conflict_but_stays_as_evidence():
    result = merge(
        given=[value("toe", "style_detail", "round", "title", 0.9)],
        zero_shot=[value("toe", "style_detail", "pointed", "image:0", 0.4)],
    )
    (toe,) = told(result, "toe")
    assert (toe.value, toe.status, toe.confidence) == ("round", "value", 0.9)
    assert [e.value for e in toe.evidence] == ["round", "pointed"]


def test_numbers_agree_within_a_hundredth_of_one_unit():
    def weight(number, source):
        return value("weight", "spec", f"{number:g} g", source, 0.8, number=number, unit="g")

    (same,) = told(merge(given=[weight(1000, "title")], other=[weight(1009, "text")]), "weight")
    assert same.status == "value"
    assert same.confidence == pytest.approx(1 - 0.2 * 0.2)
    (differ,) = told(merge(given=[weight(1000, "title")], other=[weight(1020, "text")]), "weight")
    assert (differ.number, differ.status) == (1000, "conflict")


def test_a_list_read_at_one_place_stays_a_list():
    sizes = [value("size", "spec", s, "given.size") for s in ("40", "42")]
    assert [a.value for a in told(merge(given=sizes), "size")] == ["40", "42"]
    both = [value("audience", "audience", a, "title") for a in ("women", "men")]
    assert {(a.value, a.status) for a in told(merge(given=both), "audience")} == {("women", "value"), ("men", "value")}


def test_a_narrower_value_includes_the_broader_one():
    result = merge(
        given=[value("category", "category", "shoe", "title", 0.9)],
        zero_shot=[value("category", "category", "boot", "image:0", 0.6)],
    )
    (category,) = told(result, "category")
    assert (category.value, category.status, result.category) == ("boot", "value", "boot")
    assert {e.value for e in category.evidence} == {"shoe", "boot"}
    narrowed = merge(
        given=[value("audience", "audience", "unisex", "title")],
        vlm=[value("audience", "audience", "men", "image:0", 0.7)],
    )
    assert [(a.value, a.status) for a in told(narrowed, "audience")] == [("men", "value")]


def test_silence_and_failure_never_erase_a_value():
    silent = AttributeValue("toe", "style_detail", None, "not_stated", confidence=0.3)
    broken = AttributeValue("toe", "style_detail", None, "failed", error="time-out")
    said = value("toe", "style_detail", "round", "title")
    assert told(merge(zero_shot=[silent], vlm=[broken], given=[said]), "toe")[0].value == "round"
    (toe,) = told(merge(zero_shot=[silent], vlm=[broken]), "toe")
    assert (toe.status, toe.value, toe.error) == ("not_stated", None, "vlm: time-out")
    (toe,) = told(merge(vlm=[broken], ocr=[replace(broken, error="no engine")]), "toe")
    assert (toe.status, toe.error) == ("failed", "vlm: time-out; ocr: no engine")
    absent = replace(silent, status="not_applicable", confidence=0.2)
    assert told(merge(zero_shot=[silent], vlm=[absent]), "toe")[0].status == "not_applicable"


def test_the_item_fails_where_an_extractor_failed_and_keeps_the_rest():
    result = merge(
        given=[value("brand", "brand", "Acme", "title")],
        palette=Extraction(status="failed", error="truncated"),
        zero_shot=Extraction(status="skipped", error="no picture"),
    )
    assert (result.status, result.error, result.category) == ("failed", "palette: truncated", "boot")
    assert told(result, "brand")[0].value == "Acme"
    assert merge(given=[], zero_shot=Extraction(status="skipped")).status == "ok"
    nothing = merge(palette=Extraction(status="skipped", error="no picture"))
    assert (nothing.status, nothing.error) == ("skipped", "palette: no picture")


def area(name, share, confidence=0.8):
    return value("color", "color", name, "image:0", confidence, share=share)


def word(name, source="title", confidence=0.9):
    return value("color", "color", name, source, confidence)


def colors(result):
    return [(a.value, a.status, a.share and round(a.share, 6)) for a in told(result, "color")]


def test_words_name_the_colour_and_the_picture_gives_its_share():
    result = merge(given=[word("blue")], palette=[area("navy", 0.62), area("white", 0.38)])
    assert colors(result) == [("blue", "value", 0.62), ("white", "value", 0.38)]
    blue, white = told(result, "color")
    assert blue.confidence == pytest.approx(1 - 0.1 * 0.2)
    assert [(e.source, e.value) for e in blue.evidence] == [("title", "blue"), ("image:0", "navy")]
    assert white.confidence == pytest.approx(0.8 * 0.6)  # only the picture shows it


def test_all_areas_of_a_family_count_for_its_name():
    assert colors(merge(given=[word("blue")], palette=[area("navy", 0.4), area("blue", 0.5)])) == [
        ("blue", "value", 0.9)
    ]
    assert colors(merge(given=[word("orange")], palette=[area("red", 1.0)])) == [
        ("orange", "value", 1.0)
    ]  # they are near


def test_light_and_shadow_do_not_contradict_a_word():
    lit = merge(given=[word("black")], palette=[area("dark gray", 0.7), area("black", 0.1), area("red", 0.2)])
    assert colors(lit) == [("black", "value", 0.8), ("red", "value", 0.2)]
    assert colors(merge(given=[word("black", "given.color")], palette=[area("navy", 0.9)])) == [
        ("black", "conflict", None)
    ]


def test_colours_without_the_other_side_are_taken_as_they_are():
    assert colors(merge(given=[word("blue")])) == [("blue", "value", None)]
    assert colors(merge(palette=[area("red", 0.7), area("white", 0.3)])) == [
        ("red", "value", 0.7),
        ("white", "value", 0.3),
    ]
    named = merge(given=[word("blue", "given.color"), word("red", "given.color")], palette=[area("navy", 1.0)])
    assert colors(named) == [("blue", "value", 1.0), ("red", "value", None)]  # sold in red too; this picture is blue


def test_word_and_picture_contradict():
    # the seller's own colour field is believed before the picture, the picture before the title
    field = merge(given=[word("red", "given.color")], palette=[area("blue", 0.9)])
    assert colors(field) == [("red", "conflict", None)]
    assert {e.value for e in told(field, "color")[0].evidence} == {"red", "blue"}
    title = merge(given=[word("red", "title")], palette=[area("blue", 0.9), area("white", 0.1)])
    assert colors(title) == [("blue", "conflict", 0.9), ("white", "value", 0.1)]
    doubtful = merge(given=[word("red", "title")], palette=[area("blue", 0.9, confidence=0.3)])
    assert colors(doubtful) == [("red", "value", None)]


def test_the_sha_follows_schemas_and_knowledge():
    assert Merger(KNOWLEDGE, load_schemas()).sha == MERGER.sha
    assert Merger(Knowledge(), load_schemas()).sha != MERGER.sha


_values = st.builds(
    lambda name, said, source, confidence, status: AttributeValue(
        name,
        "style_detail",
        said if status == "value" else None,
        status,
        confidence=confidence,
        evidence=(Evidence(source),),
    ),
    st.sampled_from(["toe", "sole", "unheard_of"]),
    st.sampled_from(["round", "square", "leather"]),
    st.sampled_from(["title", "text", "image:0", "given.toe"]),
    st.floats(0, 1),
    st.sampled_from(["value", "not_stated", "failed"]),
)


@given(st.lists(_values, max_size=6), st.lists(_values, max_size=6))
def test_nothing_is_invented_and_nothing_is_lost(one, other):
    result = merge(given=one, zero_shot=other)
    everything = one + other
    assert {a.name for a in result.attributes} == {v.name for v in everything}
    for a in result.attributes:
        mine = [v for v in everything if v.name == a.name]
        assert 0 <= a.confidence <= 1
        assert (a.value is not None) == any(v.value for v in mine)
        assert a.value is None or a.value in {v.value for v in mine}
        sources = {e.source for b in result.attributes if b.name == a.name for e in b.evidence}
        assert sources == {e.source for v in mine if v.value or a.value is None for e in v.evidence}


def test_an_area_counts_for_the_one_name_it_comes_nearest_to():
    # each of the two names takes every shade of the family, yet together they do not exceed the item
    found = merge(given=[word("blue"), word("navy")], palette=[area("navy", 0.3), area("blue", 0.7)])
    assert colors(found) == [("blue", "value", 0.7), ("navy", "value", 0.3)]


def test_what_the_picture_hardly_shows_is_left_out():
    assert colors(merge(palette=[area("red", 0.6, 0.5), area("green", 0.4, 0.2)])) == [("red", "value", 0.6)]
    beside = merge(given=[word("red")], palette=[area("red", 0.6, 0.5), area("green", 0.4, 0.45)])
    assert colors(beside) == [("red", "value", 0.6)]  # 0.45 · UNSAID = 0.27
    # sure of nothing: the two largest families stay, with all their shades
    doubt = [area("gray", 0.3, 0.2), area("blue", 0.2, 0.2), area("navy", 0.2, 0.2), area("red", 0.1, 0.2)]
    assert [name for name, _, _ in colors(merge(palette=doubt))] == ["gray", "blue", "navy"]
