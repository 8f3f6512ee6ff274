"""Run: pytest tests/test_extractors_links.py

Links of demands: legal values of the schemas, Shopify's categories, shoe sizes, fluid ounces.
"""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.queries import understand
from extractors.query.links import Linker, linker_for
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.shopify import Taxonomy, TaxonomyAttribute, TaxonomyCategory
from lore_mm.types import Demand, Query

KNOWLEDGE = load_knowledge()
LINKER = linker_for(KNOWLEDGE)


def links_of(query):
    """The links of a query's words: words → links, for those that have any."""
    [understanding] = understand([Query("q", query)], KNOWLEDGE)
    return {d.value: d.links for d in LINKER.link(understanding.demands) if d.links}


# query, words of it, their link
VALUES = """
red shoes | red | schema:footwear/color=red
navy blue handbag | navy blue | schema:bags/color=navy
leather boots | leather | schema:footwear/material=leather
cotton t-shirt | cotton | schema:fashion/material=cotton
oak dining table | oak | schema:furniture/material=oak
gold necklace | gold | schema:jewellery/material=gold
shoes without laces | laces | schema:footwear/closure=lace-up
velcro sneakers | velcro | schema:footwear/closure=velcro
handbag with zipper | zipper | schema:bags/closure=zip
v neck t-shirt | v neck | schema:fashion/neckline=v-neck
crew neck sweater | crew neck | schema:fashion/neckline=crew neck
striped shirt | striped | schema:fashion/pattern=striped
polka dot dress | polka dot | schema:fashion/pattern=polka dot
floral dress | floral | schema:fashion/pattern=floral
plaid shirt | plaid | schema:fashion/pattern=checked
camo jacket | camo | schema:fashion/pattern=camouflage
long sleeve dress | long sleeve | schema:fashion/sleeve_length=long sleeve
sleeveless dress | sleeveless | schema:fashion/sleeve_length=sleeveless
high waisted jeans | high waisted | schema:fashion/waist_rise=high-rise
round coffee table | round | schema:furniture/shape=round
women's coat | women's | schema:fashion/audience=women
mens watch | mens | schema:jewellery/audience=men
kids shoes | kids | schema:footwear/audience=kids
baby socks | baby | schema:fashion/audience=baby
toddler shoes | toddler | schema:footwear/audience=toddlers
winter boots | winter | schema:footwear/season=winter
summer dress | summer | schema:fashion/season=summer
waterproof boots | waterproof | schema:footwear/function=waterproof
bluetooth headphones | bluetooth | schema:electronics/connectivity=bluetooth
used laptop | used | schema:electronics/condition=used
refurbished phone | refurbished | schema:electronics/condition=refurbished
vegan chocolate | vegan | schema:grocery/diet=vegan
gluten free bread | gluten free | schema:grocery/diet=gluten-free
organic coffee | organic | schema:grocery/special=organic
handmade mug | handmade | schema:home/special=handmade
vintage lamp | vintage | schema:home/special=vintage
modern sofa | modern | schema:furniture/style=modern
minimalist desk | minimalist | schema:furniture/style=minimalist
boho dress | boho | schema:fashion/style=bohemian
beige curtains | beige | schema:home/color=beige
silver ring | silver | schema:jewellery/material=silver
stainless steel pan | stainless steel | schema:home/material=stainless steel
wool scarf | wool | schema:fashion/material=wool
pink backpack | pink | schema:bags/color=pink
adjustable desk | adjustable | schema:furniture/function=adjustable
"""
ROWS = [[part.strip() for part in line.split("|")] for line in VALUES.strip().splitlines()]


@pytest.mark.parametrize("query, words, link", ROWS, ids=[row[0] for row in ROWS])
def test_words_are_legal_values(query, words, link):
    assert link in links_of(query).get(words, ())


@pytest.mark.parametrize(
    "query, words, link",
    [
        ("red nike running shoes", "running shoes", "shopify:aa-8-1"),
        ("trainers", "trainers", "shopify:aa-8-8"),
        ("iphone 13 case", "case", "shopify:el-4-8-4-2"),
        ("couch", "couch", "shopify:fr-22"),
        ("robot vacuum", "robot vacuum", "shopify:hg-9-10"),
        # one kind to us, several to Shopify: the words tell
        ("bib", "bib", "shopify:bt-10-16-7"),
        ("burp cloths", "burp cloths", "shopify:bt-10-10"),
        ("baby blanket", "baby blanket", "shopify:bt-12"),
        ("trumpet", "trumpet", "shopify:ae-2-8-3-5-3"),
        ("pink highlighter", "highlighter", "shopify:os-11-11-4-1"),
    ],
)
def test_kinds_are_shopifys(query, words, link):
    assert links_of(query)[words] == (link,)


@pytest.mark.parametrize(
    "query, words, links",
    [
        ("running shoes size 42", "size 42", ("size:EU=42",)),
        ("mens boots uk 9", "uk 9", ("size:EU=43",)),
        ("us 9.5 women's boots", "us 9.5", ("size:EU=40.5",)),
        ("sneakers eu 42", "eu 42", ("size:EU=42",)),
        ("boots us 9.5", "us 9.5", ("size:EU=42.5", "size:EU=40.5")),  # men's or women's: nobody said
        ("kids shoes size 13", "size 13", ("size:EU=31",)),
        ("mens sneakers size 8-10", "size 8-10", ("size:EU=40.5-43",)),
        ("nike shoes women 9.5", "9.5", ("size:EU=40.5",)),
        ("boots 42", "42", ("size:EU=42",)),
        ("adidas shoes men 15", "15", ("size:EU=49",)),  # men's US sizes run to 18
    ],
)
def test_shoe_sizes_in_eu(query, words, links):
    assert links_of(query)[words] == links


@pytest.mark.parametrize("query", ["dress size 12", "uk 12 dress", "ring size 7", "shoes size 99", "laptop 16gb"])
def test_what_is_no_shoe_size_has_none(query):
    assert not any(link.startswith("size:") for links in links_of(query).values() for link in links)


def test_a_bare_number_with_shoes_is_their_size_and_else_is_not():
    shoes = Demand("category", "shoes", "shoe", role="head")
    nine = Demand("special", "9", strictness="soft", confidence=0.4, start=6, end=7)
    size = LINKER.link([shoes, nine])[1]
    assert (size.dimension, size.number, size.unit, size.strictness) == ("spec", 9, None, "hard")
    assert (size.value, size.start, size.end, size.confidence) == ("9", 6, 7, 0.8)
    dress = Demand("category", "dress", "dress", role="head")
    assert LINKER.link([dress, nine])[1] == nine
    assert LINKER.link([shoes, replace(nine, value="90")])[1].dimension == "special"  # no size
    named = Demand("spec", "uk 8", number=8, unit="UK")
    assert LINKER.link([shoes, named, nine])[2] == nine  # another number is the size


def test_numbers_stay_as_typed():
    [understanding] = understand([Query("q", "mens boots uk 9")], KNOWLEDGE)
    size = next(d for d in LINKER.link(understanding.demands) if d.dimension == "spec")
    assert (size.number, size.unit, size.value) == (9, "UK", "uk 9")


def test_a_value_that_the_schema_does_not_know_has_no_link():
    laptop = Demand("category", "laptop", "laptop", role="head")
    neck = Demand("style_detail", "v neck", "v-neck")
    unknown = Demand("style_detail", "raglan", None)
    linked = LINKER.link([laptop, neck, unknown])
    assert [d.links for d in linked] == [("shopify:el-6-6",), (), ()]


def test_every_link_of_the_tables_is_legal():
    schemas = load_schemas()
    for category in ("sneaker", "dress", "laptop", "sofa", "wine", "ring", None):
        schema = schemas.for_category(category, KNOWLEDGE)
        for dimension, value in KNOWLEDGE.terms:
            for link in LINKER.links(dimension, value, category):
                place, _, legal = link.removeprefix("schema:").partition("=")
                department, _, attribute = place.partition("/")
                assert department == schema.name
                assert legal in schema.specs[attribute].values
                assert schema.specs[attribute].dimension == dimension


def test_the_first_kind_of_the_demands_decides_the_schema_also_where_it_is_implied():
    demands = [
        Demand("model", "air max", "Nike Air Max", role="head"),
        Demand("category", "sneaker", "sneaker", latent=True),
        Demand("color", "red", "red"),
    ]
    assert LINKER.link(demands)[2].links == ("schema:footwear/color=red",)
    assert LINKER.link(demands[2:])[0].links == ("schema:common/color=red",)
    excluded = [Demand("category", "sneaker", "sneaker", polarity=-1), demands[2]]
    assert [d.links for d in LINKER.link(excluded)] == [("shopify:aa-8-8",), ("schema:common/color=red",)]


def test_linking_changes_nothing_else_and_twice_is_once():
    [understanding] = understand([Query("q", "red nike running shoes size 42 without laces 80% mesh")], KNOWLEDGE)
    bare = tuple(replace(d, links=()) for d in understanding.demands)
    kept = copy.deepcopy(bare)
    linked = LINKER.link(bare)
    assert bare == kept
    assert tuple(replace(d, links=()) for d in linked) == bare
    assert LINKER.link(linked) == linked
    assert all(a is b for a, b in zip(LINKER.link(linked), linked, strict=True))


def test_the_sha_is_of_the_schemas_and_the_release_too(tmp_path):
    assert Linker(KNOWLEDGE).sha == LINKER.sha
    assert Linker(KNOWLEDGE, taxonomy=taxonomy()).sha != LINKER.sha
    (tmp_path / "boats.toml").write_text(
        'version = 1\n[rig]\ndimension = "style_detail"\nask = "?"\nvalues = ["sloop"]\n'
    )
    assert Linker(KNOWLEDGE, load_schemas((tmp_path,))).sha != LINKER.sha


FLUID_OUNCE = 231 * 2.54**3 / 128


@pytest.mark.parametrize(
    "query, number, unit",
    [
        ("perfume 3.4 oz", 3.4 * FLUID_OUNCE, "ml"),
        ("shampoo 12 oz", 12 * FLUID_OUNCE, "ml"),
        ("water bottle 32 oz", 32 * FLUID_OUNCE, "ml"),
        ("coffee 12 oz", 12 * 453.59237 / 16, "g"),
        ("perfume 100 g", 100, "g"),
        ("perfume 100 ml", 100, "ml"),
    ],
)
def test_ounces_of_a_liquid_are_fluid(query, number, unit):
    [understanding] = understand([Query("q", query)], KNOWLEDGE)
    amount = next(d for d in LINKER.link(understanding.demands) if d.dimension == "spec")
    assert (amount.number, amount.unit) == (pytest.approx(number), unit)


@given(st.text(max_size=30), st.sampled_from(["special", "category", "color", "style_detail", "brand"]))
def test_any_words_can_be_asked_for(words, dimension):
    for link in LINKER.links(dimension, words, "sneaker"):
        assert link.partition(":")[0] in ("schema", "shopify")


# ------------------------------------------------------------------------------------------ with a copy of the taxonomy


def taxonomy():
    kinds = {
        "hg": TaxonomyCategory("hg", "Home & Garden", "Home & Garden", None, ()),
        "hg-1": TaxonomyCategory("hg-1", "Shower Caddies", "Home & Garden > Shower Caddies", "hg", ("mounting",)),
        "aa-1-13-12": TaxonomyCategory("aa-1-13-12", "Sweaters", "Sweaters", None, ("sleeve_style",)),
    }
    attributes = {
        "mounting": TaxonomyAttribute("mounting", "Mounting", "", ("Corner", "Over-the-door")),
        "sleeve_style": TaxonomyAttribute("sleeve_style", "Sleeve style", "", ("Raglan", "Puff")),
    }
    return Taxonomy("test", kinds, attributes)


def test_unknown_words_are_looked_up_in_a_copy_of_the_taxonomy():
    linker = Linker(KNOWLEDGE, taxonomy=taxonomy())
    caddy = [
        Demand("category", "steel shower caddy", role="head"),
        Demand("special", "over the door", strictness="soft"),
    ]
    assert [d.links for d in linker.link(caddy)] == [("shopify:hg-1",), ("shopify:mounting=Over-the-door",)]
    sweater = [Demand("category", "sweater", "sweater", role="head"), Demand("special", "raglan")]
    assert [d.links for d in linker.link(sweater)] == [("shopify:aa-1-13-12",), ("shopify:sleeve_style=Raglan",)]
    assert [d.links for d in LINKER.link(caddy)] == [(), ()]
    assert linker.link([Demand("special", "raglan")])[0].links == ()
