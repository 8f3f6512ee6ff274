"""Run: pytest tests/test_lore_mm_phrases.py

Which word of a title names the thing, on the shipped tables and titles made here.
"""

import pytest

from lore_mm.knowledge import Category, Knowledge, load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.phrase_readings import kind_meant
from lore_mm.phrases import read_phrase, read_title
from lore_mm.values import find_quantities

KNOWLEDGE = load_knowledge()


def title(text, knowledge=KNOWLEDGE):
    return read_title(text, scanner_for(knowledge).find(text), find_quantities(text), knowledge)[0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Acme M20 mouse RF Wireless Optical 1000 DPI", "mouse"),
        ("Acme Labels Standard A4 97x42 mm white paper matt", "sticker"),  # a number begins what it is like
        ("Acme Tower PC 16 GB DDR4 512 GB SSD", "desktop_computer"),  # what it has inside
        ("Acme 8GB DDR4 Laptop RAM", "ram"),  # a part for it
        ("Gifts for Her: Leather Backpack", "backpack"),
        ("For Laptop", "laptop"),
        ("Zorb for Laptop (3 ports)", None),  # whatever it is, it is no laptop
        ("Acme screen protector Laptop Universal", "screen_protector"),  # an accessory before its main thing
        ("Acme Laptop Sleeve", "laptop_sleeve"),
        ("Acme Keyboard/Mouse Cable", "cable"),
        ("Acme scanner/printer", "scanner"),  # two names: the first
        ("Acme Docking Station with USB hub", "docking_station"),
        ("Toner compatible with Acme Printer", "ink_cartridge"),
        ("Acme Laptop Backpack, black", "laptop_backpack"),
    ],
)
def test_the_head_of_a_title(text, kind):
    assert title(text).category == kind


@pytest.mark.parametrize(
    ("text", "noun", "host"),
    [
        ("Acme Camera blimp cover", "cover", "camera"),
        ("Acme printer/scanner widget plug", "plug", "printer"),
        ("Acme Headphones Spare", "Spare", "headphones"),
    ],
)
def test_an_unknown_part_behind_its_host(text, noun, host):
    phrase = title(text)
    assert phrase.category is None
    assert (text[slice(*phrase.noun)], phrase.host) == (noun, host)


def test_only_titles_look_past_the_next_word_for_a_part():
    text = "camera blimp cover"
    assert read_phrase(text, scanner_for(KNOWLEDGE).find(text), KNOWLEDGE).category == "camera"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Notebook with dotted pages", "notebook"),
        ("HP 15s Notebook Silver", "laptop"),  # its maker makes laptops
        ("Notebook Intel Core i5 8 GB DDR4-SDRAM", "laptop"),  # what is inside it
        ("Moleskine Notebook", "notebook"),
        ("Notebook and pen", "notebook"),
        ("Notebook sleeve", "laptop_sleeve"),
    ],
)
def test_a_word_for_two_kinds_is_read_by_what_stands_beside_it(text, kind):
    assert title(text).category == kind


def test_nothing_beside_it_leaves_the_first_kind():
    small = Knowledge(
        [Category(id="crane", name="crane"), Category(id="bird", name="bird", terms=("crane",), department="pets")]
    )
    (mention,) = scanner_for(small).find("crane")
    assert kind_meant(mention, [mention], small).canonical == "crane"
    assert [o.canonical for o in mention.others] == ["bird"]


def test_a_gift_card_of_a_maker_of_computers_is_a_gift_card():
    text = "amazon gift card"
    assert read_phrase(text, scanner_for(KNOWLEDGE).find(text), KNOWLEDGE).category == "gift_card"


def test_quantities_inside_a_name_of_a_series_part_nothing():
    text = "Galaxy S8 phone cover 5 m"
    phrase, quantities = read_title(text, scanner_for(KNOWLEDGE).find(text), find_quantities(text), KNOWLEDGE)
    assert [q.text for q in quantities] == ["5 m"]
    assert phrase.category == "phone_case"
