"""Run: LORE_SHOPIFY=FOLDER pytest tests/test_lore_mm_shopify_links.py

Our categories in Shopify's taxonomy: the shipped table by itself, and against a copy of the taxonomy where one is given
(a folder with its categories and attributes); names found in twenty kinds written here.
"""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lore_mm.console import command_app
from lore_mm.knowledge import Category, Knowledge, load_knowledge
from lore_mm.shopify import Taxonomy, TaxonomyAttribute, TaxonomyCategory, read_taxonomy
from lore_mm.shopify_links import ShopifyLink, candidates, load_links
from lore_mm.shopify_names import TaxonomyNames, name_key
from lore_mm.taxonomy import link_rows
from lore_mm.taxonomy import main as command

KNOWLEDGE, LINKS = load_knowledge(), load_links()
COPY = os.environ.get("LORE_SHOPIFY")

# Looked up by hand in release 2025-08: our id, Shopify's, its name there; > where ours is a kind of it.
SAMPLE = """
t_shirt aa-1-13-8 T-Shirts
jeans aa-1-12-4 Jeans
dress aa-1-4 Dresses
wedding_dress aa-1-22-2 Wedding Dresses
swimsuit aa-1-20-22 One-Piece Swimsuits
umbrella hg-16-2 Rain Umbrellas
sneaker aa-8-8 Sneakers
running_shoe aa-8-1 > Athletic Shoes
ankle_boot aa-8-3 > Boots
basketball_shoe sg-1-3-5 Basketball Shoes
backpack lb-1 Backpacks
handbag aa-5-4 Handbags
belt_bag lb-7 Fanny Packs
watch aa-6-11 Watches
necklace aa-6-8 Necklaces
laptop el-6-6 Laptops
gaming_laptop el-6-6 > Laptops
tablet el-6-8 Tablet Computers
smartphone el-4-8-5 Mobile & Smart Phones
phone_case el-4-8-4-2 Mobile Phone Cases
usb_stick el-7-9-14-8 USB Flash Drives
headphones el-2-2-7 Headphones & Headsets
earbuds el-2-2-7-1-3 In-Ear Headphones
television el-17-4 Televisions
webcam co-2-8 Webcams
camera_lens co-1-2-1 Camera Lenses
dslr_camera co-2-2-5 Digital Single-Lens Reflex (DSLR) Cameras
game_console el-19 Video Game Consoles
refrigerator hg-11-7-41 Refrigerators
air_fryer hg-11-7-53 Air Fryers
vacuum_cleaner hg-9-10 Vacuums
robot_vacuum hg-9-10 > Vacuums
sofa fr-22 Sofas
bar_stool fr-7-12-2 Bar Stools
coffee_table fr-24-1-1 Coffee Tables
dining_table fr-24-4 > Kitchen & Dining Room Tables
floor_lamp hg-13-5-3 Floor Lamps
rug hg-3-57 Rugs
duvet_cover hg-15-1-5 Duvet Covers
frying_pan hg-11-2-3-13 Skillets & Frying Pans
wine_glass hg-11-10-5-7-3 Wine Glasses
tablecloth hg-15-3-6 Tablecloths
lawn_mower hg-12-3-5 Lawn Mowers
parasol hg-16-1 Parasols
mountain_bike sg-4-4-3-10 Mountain Bikes
tent sg-4-2-17 Tents
yoga_mat sg-2-26-3 Yoga & Pilates Mats
dumbbell sg-2-24-2-1 Dumbbells
puzzle tg-4 Puzzles
plush_toy tg-5-8-11 Stuffed Animals
pram bt-6-3 Baby Strollers
nappy bt-9-12 Diapers
lipstick hb-3-2-6-5-6 Lipsticks
perfume hb-3-2-8 Perfumes & Colognes
shampoo hb-3-10-13-3 Shampoo
electric_toothbrush hb-3-12-17-1 Electric Toothbrushes
apple fb-2-10-7-1 Apples
coffee fb-1-3 Coffee
wine fb-1-1-7 Wine
dog_food ap-2-3-3 Dog Food
cat_litter ap-2-2-4 Cat Litter
book me-1 Books
vinyl_record me-3-6 Vinyl
sticky_notes os-4-9-14 Sticky Notes
tyre vp-1-4-20-3 Motor Vehicle Tires
drill ha-15-14 Drills
acoustic_guitar ae-2-8-7-2-1 Acoustic Guitars
"""
ROWS = [line.split(None, 2) for line in SAMPLE.strip().splitlines()]


@pytest.fixture(scope="module")
def copy():
    if COPY is None:
        pytest.skip("needs a copy of the taxonomy: LORE_SHOPIFY=FOLDER")
    return read_taxonomy(Path(COPY))


def test_every_category_has_an_entry_and_no_other_thing_has():
    assert set(LINKS.links) | LINKS.none == set(KNOWLEDGE.categories)
    assert not set(LINKS.links) & LINKS.none


@pytest.mark.parametrize("ours, theirs, name", ROWS, ids=[row[0] for row in ROWS])
def test_a_sample_looked_up_by_hand(ours, theirs, name):
    assert LINKS.links[ours] == ShopifyLink(theirs, name.startswith(">"))


def test_words_are_terms_of_their_category_and_say_more_than_it():
    for (ours, words), theirs in LINKS.words.items():
        assert words in {name_key(term) for term in KNOWLEDGE.categories[ours].terms}, (ours, words)
        assert ShopifyLink(theirs) != LINKS.links.get(ours), (ours, words)
    assert LINKS.of("bib", KNOWLEDGE, "burp cloths") == ShopifyLink("bt-10-10")
    assert LINKS.of("bib", KNOWLEDGE, "a bib") == LINKS.of("bib", KNOWLEDGE) == ShopifyLink("bt-10-16-7")


def test_a_link_lies_below_that_of_the_parent_or_is_said_to_be_elsewhere():
    apart = set()
    for ours, link in LINKS.links.items():
        parent = LINKS.links.get(KNOWLEDGE.categories[ours].parent)
        if parent and not f"{link.id}-".startswith(f"{parent.id}-"):
            apart.add(ours)
    assert apart == LINKS.elsewhere


def test_every_shoe_but_those_of_sports_is_among_the_shoes():
    for ours, link in LINKS.links.items():
        if KNOWLEDGE.is_a(ours, "shoe") and not link.id.startswith("sg-"):
            assert link.id.startswith("aa-8"), ours


def test_every_id_exists_in_the_release(copy):
    gone = {ours: link.id for ours, link in LINKS.links.items() if link.id not in copy.categories}
    assert not gone
    assert not {words: theirs for words, theirs in LINKS.words.items() if theirs not in copy.categories}
    assert copy.version.startswith("2025-08") == LINKS.version.startswith("2025-08")


def test_the_sample_is_called_so_in_the_release(copy):
    for ours, theirs, name in ROWS:
        assert copy.categories[theirs].name == name.removeprefix("> "), ours


def test_words_are_called_alike_in_the_release(copy):
    """Each word shares a word with the name of its link, but for those that were set by hand."""
    unlike = []
    for (ours, words), theirs in LINKS.words.items():
        named = set(name_key(copy.categories[theirs].name).split())
        if named.isdisjoint(words.split()):
            unlike.append((ours, words))
    assert len(unlike) < 20, unlike


def test_a_broader_link_has_no_kind_of_our_name_below(copy):
    """Where Shopify had a kind of exactly our name below the link, that would be the link."""
    for ours, link in LINKS.links.items():
        if link.broader:
            key = name_key(KNOWLEDGE.categories[ours].name)
            below = [c for c in copy.below(copy.categories[link.id]) if c.id != link.id and name_key(c.name) == key]
            assert not below or ours == "car", (ours, [c.full_name for c in below])  # Cars: those that are not electric


# ---------------------------------------------------------------------------------- tables and trees of one's own


def test_a_category_of_ones_own_is_linked_by_the_kind_above():
    knowledge = Knowledge([*KNOWLEDGE.categories.values(), Category(id="brogue", name="brogue", parent="dress_shoe")])
    assert LINKS.of("brogue", knowledge) == ShopifyLink("aa-8", broader=True)
    assert LINKS.of("sneaker", knowledge) == ShopifyLink("aa-8-8")
    assert LINKS.of("smart_home", knowledge) is None
    assert LINKS.of("no such thing", knowledge) is None


def test_a_category_made_from_the_taxonomy_is_its_own_link():
    knowledge = Knowledge([Category(id="aa-1-4", name="dress", department="shopify_aa_1_4")])
    assert LINKS.of("aa-1-4", knowledge) == ShopifyLink("aa-1-4")


TREE = {
    "aa": "Apparel & Accessories",
    "aa-1": "Shoes",
    "aa-1-1": "Sneakers",
    "aa-1-2": "Baby Shoes",
    "aa-1-2-1": "Sneakers",
    "aa-2": "Coats & Jackets",
    "hg": "Home & Garden",
    "hg-1": "Bathroom",
    "hg-1-1": "Shower Caddies",
    "hg-1-2": "Filters",
    "hg-2": "Music",
    "hg-2-1": "Trumpet Accessories",
    "hg-2-1-1": "Cleaning Sprays",
    "hg-2-2": "Xylophones",
    "hg-3": "Kitchen",
    "hg-3-1": "Water Filters",
    "hg-3-2": "Oven Mitts & Pot Holders",
    "hg-3-3": "Curtain & Drape Rods",
}


def taxonomy():
    def full(one):
        parts = one.split("-")
        return " > ".join(TREE["-".join(parts[:n])] for n in range(1, len(parts) + 1))

    kinds = {
        one: TaxonomyCategory(
            one, name, full(one), one.rpartition("-")[0] or None, ("toe", "closure") if one == "aa-1" else ()
        )
        for one, name in TREE.items()
    }
    attributes = {
        "toe": TaxonomyAttribute("toe", "Toe", "", ("Almond", "Round", "Pointed")),
        "closure": TaxonomyAttribute("closure", "Closure", "", ("Toggles", "Round")),
    }
    return Taxonomy("test", kinds, attributes)


@pytest.mark.parametrize(
    "words, expected",
    [
        ("shower caddy", "hg-1-1"),
        ("Shower Caddies", "hg-1-1"),
        ("stainless steel shower caddy", "hg-1-1"),
        ("sneakers", "aa-1-1"),  # the higher of two
        ("xylophone", "hg-2-2"),
        ("kids xylophone", "hg-2-2"),
        ("filter", None),  # of water or of the bath: it says too little
        ("pot holder", "hg-3-2"),
        ("curtain rod", "hg-3-3"),
        ("coats", None),  # one of two in a name
        ("cleaning spray", None),  # a trumpet's, and nobody speaks of trumpets
        ("trumpet cleaning spray", "hg-2-1-1"),
        ("qwertz", None),
        ("", None),
    ],
)
def test_words_name_a_category(words, expected):
    assert TaxonomyNames(taxonomy()).category(words) == expected


def test_words_are_values_of_a_categorys_attributes():
    names = TaxonomyNames(taxonomy())
    assert names.values("aa-1", "almond") == (("toe", "Almond"),)
    assert names.values("aa-1", "round") == (("toe", "Round"), ("closure", "Round"))
    assert names.values("aa-1", "toggle") == (("closure", "Toggles"),)
    assert names.values("aa-1-1", "almond") == ()
    assert names.values("zz", "almond") == ()


def test_candidates_are_ranked_by_name_and_by_the_company_they_keep():
    knowledge = Knowledge(
        [
            Category(id="shoe", name="shoe", department="footwear"),
            Category(id="trainer", name="trainer", terms=("sneaker",), parent="shoe"),
            Category(id="jacket", name="jacket"),
            Category(id="banana", name="banana"),
        ]
    )
    found = candidates(knowledge, taxonomy())
    assert [c.id for c in found["shoe"]] == ["aa-1"]
    assert [c.id for c in found["trainer"]] == ["aa-1-1", "aa-1-2-1"]
    assert [c.id for c in found["jacket"]] == ["aa-2"]
    assert found["banana"] == ()
    assert found["trainer"][0].score > found["trainer"][1].score > 0


def test_rows_for_review_tell_what_a_release_no_longer_has():
    rows = {row["category"]: row for row in link_rows(KNOWLEDGE, taxonomy())}
    assert len(rows) == len(KNOWLEDGE.categories)
    assert rows["clothing"] | {"candidates": []} == {
        "category": "clothing",
        "relation": "exact",
        "shopify": "aa-1",
        "full_name": "Apparel & Accessories > Shoes",
        "candidates": [],
    }
    assert (rows["laptop"]["shopify"], rows["laptop"]["full_name"]) == ("el-6-6", None)
    assert (rows["smart_home"]["relation"], rows["smart_home"]["shopify"]) == ("none", None)
    assert rows["denim_jacket"]["relation"] == "broader"


def test_the_command_lists_links_and_what_a_release_lacks(tmp_path):
    """Our categories beside a release that has two kinds only."""
    kinds = [
        {"id": f"gid://x/{one}", "name": name, "full_name": name, "parent_id": above, "attributes": []}
        for one, name, above in (("aa", "Apparel & Accessories", None), ("aa-1", "Clothing", "gid://x/aa"))
    ]
    (tmp_path / "categories.json").write_text(json.dumps({"version": "1", "verticals": [{"categories": kinds}]}))
    (tmp_path / "attributes.json").write_text(json.dumps({"attributes": []}))
    done = CliRunner().invoke(command_app(command, "lore taxonomy"), [str(tmp_path), "--link", "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["category"] for row in rows] == list(KNOWLEDGE.categories)
    assert (rows[0]["category"], rows[0]["full_name"]) == ("clothing", "Clothing")
    assert rows[0]["candidates"][0]["id"] == "aa-1"
    assert "linked to no category of 1: " in done.stderr
    assert not (tmp_path / "shopify").exists()
