"""What spelling correction puts right, and what it leaves alone. Run: pytest tests/test_extractors_query_typed.py"""

from __future__ import annotations

import pytest

from extractors.queries import understand
from extractors.query.typed import corrected
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Query

KNOWLEDGE = load_knowledge()


def parse(text):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    assert out.status == "ok", out.error
    return out


# Names of makers, models and people, most of them in no table: a correction would destroy them.
NAMES = [
    "nuphy air75", "moccamaster kbg", "kanken mini", "hario v60", "pantone guide", "byredo gypsy water",
    "vuori joggers", "stutterheim coat", "umidigi bison", "rotex cutter", "td cripps", "david bowie shirt",
    "alpacka raft", "sonas tape", "herrs chips", "helmut lang jeans", "broan fan", "tory burch purse",
    "schluter trim", "porlex mini", "zojirushi cooker", "klorane oat", "leuchtturm journal", "wera kraftform",
    "knipex cobra", "festool ts55", "traxxas slash", "arrma kraton", "kershaw leek", "benchmade bugout",
    "spyderco tenacious", "olight baton", "petzl tikka", "jetboil flash", "vango banshee", "osprey talon",
    "deuter aircontact", "mammut rope", "scarpa boots", "lowa renegade", "salewa wildfire", "craghoppers kiwi",
    "altra torin", "topo phantom", "mizuno wave rider", "sidi shoes", "fizik saddle", "brompton p line",
    "riese muller", "haibike sduro", "orbea rallon", "sonor drums", "nord stage", "elektron digitakt",
    "moog matriarch", "sabian hhx", "remo pinstripe", "kyser capo", "laney cub", "orla kiely", "cath kidston",
    "joules wellies", "boden dress", "seasalt raincoat", "hobbs coat", "reiss blazer", "arket tee", "sezane cardigan",
    "ganni skirt", "toteme scarf", "acne studios", "norse projects", "samsoe shirt", "filippa skirt",
    "seiko skx007", "wh-1000xm5", "x555l", "tl-wr841n", "AR5194-100", "gtx1660", "B08N5WRWNW", "rtx3060ti", "dhp482",
    "qc35 ii", "sm57", "Razor Blayde shoes", "Leathr Studio bag", "McSpeker amplifier", "Speker",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_as_typed(name):
    out = parse(name)
    assert out.corrections == ()
    assert out.normalized == name


def test_names_of_the_tables_stay_as_typed():
    names = [b.name for b in KNOWLEDGE.brands.values()] + [s.name for s in KNOWLEDGE.series.values()]
    outs = understand([Query(n, n.lower()) for n in names], KNOWLEDGE)
    assert [o.query.text for o in outs if o.corrections] == []


@pytest.mark.parametrize("word", "fod gogle cas blak pann cram litr matt".split())
def test_short_words_stay_as_typed(word):
    if len(word) <= 4:
        assert parse(f"{word} holder").corrections == ()


MISSPELT = {
    "runing shoes": "running shoes", "bluetoth speker": "bluetooth speaker", "wirless mouse": "wireless mouse",
    "leathr jackt": "leather jacket", "nikkon camra": "nikon camera", "samsnug galaxy": "samsung galaxy",
    "addidas sneekers": "adidas sneakers", "hedphones": "headphones", "keybord": "keyboard",
    "matress topper": "mattress topper", "memry foam pillow": "memory foam pillow", "vaccum cleaner": "vacuum cleaner",
    "cofee table": "coffee table", "marbel top": "marble top", "bycicle pump": "bicycle pump",
    "artifical plant": "artificial plant", "wihte pot": "white pot", "brithday present": "birthday present",
    "girlfreind gift": "girlfriend gift", "herschell backpak": "herschel backpack", "logitec mouse": "logitech mouse",
    "sunglases": "sunglasses", "umbrela": "umbrella", "suitecase": "suitcase", "braclet": "bracelet",
    "neckless": "necklace", "jewlery": "jewelry", "sweatr": "sweater", "trousrs": "trousers", "slipers": "slippers",
    "sandels": "sandals", "waterprof jacket": "waterproof jacket", "labtop": "laptop", "moniter": "monitor",
    "printr": "printer", "chargr": "charger", "telivision": "television", "refridgerator": "refrigerator",
    "dishwaser": "dishwasher", "microwve": "microwave", "toster": "toaster", "blendr": "blender", "pilow": "pillow",
    "blankt": "blanket", "wardrob": "wardrobe", "perfum": "perfume", "shampo": "shampoo", "lipstik": "lipstick",
    "suncreen": "sunscreen", "toothbruch": "toothbrush", "protien powder": "protein powder", "biscits": "biscuits",
    "guitr": "guitar", "hamer": "hammer", "stainles steel": "stainless steel", "foldble chair": "foldable chair",
    "RUNING SHOES": "running SHOES",
}  # fmt: skip


@pytest.mark.parametrize(("typed", "right"), MISSPELT.items())
def test_misspellings_are_put_right(typed, right):
    assert parse(typed).normalized == right


@pytest.mark.parametrize(
    ("text", "pairs", "right"),
    [
        ("nkies nkie", (("nkie", "Nike"),), "nkies Nike"),
        ("rde rde shose", (("rde", "red"), ("shose", "shoes")), "red rde shoes"),
        ("a wrod", (("wrod", r"\1 \g<0>"),), r"a \1 \g<0>"),
        ("red shoes", (("", "x"), ("blue", "y")), "red shoes"),
        ("sofa", (("\tsofa ", "sofas"),), "sofas"),
    ],
)
def test_a_correction_replaces_one_whole_word(text, pairs, right):
    assert corrected(text, pairs) == right
