"""What a migration makes of one row: each thing a file may say, what is kept and why, and laws that hold for all."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.attribute import AttributeSpec
from lore_mm.errors import ConfigError
from lore_mm.knowledge import Category, Knowledge
from lore_mm.migration_checks import check_destination, former_specs, is_repeatable, unknown_kinds
from lore_mm.migration_file import Migration, load_migration
from lore_mm.migrations import Destination, decide, migrate
from lore_mm.schema import AttributeSchema, Schemas
from lore_mm.types import AttributeValue, Evidence

BOATS = Knowledge(
    categories=[
        Category(id="boat", name="boat", department="boats"),
        Category(id="sail", name="sailing boat", parent="boat"),
        Category(id="ketch", name="ketch", parent="sail"),
        Category(id="sea", name="sea boat", parent="boat"),
        Category(id="lake", name="lake boat", parent="boat"),
    ]
)


def spec(name, dimension="style_detail", **keys):
    return AttributeSpec(name=name, dimension=dimension, ask=f"Which {name}?", **{"type": "text"} | keys)


def destination(*specs):
    common = AttributeSchema("common", "1", {"category": spec("category", "category")})
    boats = AttributeSchema("boats", "2", {one.name: one for one in specs}, "boat")
    return Destination(Schemas({"common": common, "boats": boats}), BOATS)


def value(name, said, **more):
    status = more.pop("status", "not_stated" if said is None else "value")
    return AttributeValue(name, "style", said, status, **{"confidence": 0.75, "extractor": "vlm"} | more)


def migration(*steps, **more):
    return Migration.model_validate({"name": "m", "attribute": steps} | more)


def told(values, file, category=None, to=None):
    """Names and values afterwards, and why what stays does."""
    made = migrate(values, category, file, to)
    kept = [fate.kept for fate in made.decision.fates if fate.kept]
    return [(v.name, v.value) for v in made.values], kept


# ------------------------------------------------------------------------------------------------------------- renames


def test_a_renamed_attribute_is_the_same_but_for_its_name():
    old = value("hull", "keel", share=0.5, evidence=(Evidence("title", "keel", 3, 7, value="keel", confidence=0.9),))
    other = value("rig", "sloop")
    made = migrate([old, other], "sail", migration({"name": "hull", "to": "shape"}))
    assert made.values == (replace(old, name="shape"), other)
    assert made.values[1] is other
    assert made.category == "sail"
    assert made.decision.names == {"hull": "shape"}


def test_dimension_and_kind_are_those_of_the_new_schema():
    to = destination(spec("shape", "material", kind="derived"))
    made = migrate([value("hull", "keel")], "sail", migration({"name": "hull", "to": "shape"}), to)
    assert (made.values[0].dimension, made.values[0].kind) == ("material", "derived")


@pytest.mark.parametrize("order", [1, -1])
def test_swaps_and_chains_happen_at_once(order):
    swap = migration(*[{"name": "a", "to": "b"}, {"name": "b", "to": "a"}][::order])
    assert told([value("a", "1"), value("b", "2")], swap) == ([("b", "1"), ("a", "2")], [])
    chain = migration(*[{"name": "a", "to": "b"}, {"name": "b", "to": "c"}][::order])
    assert told([value("a", "1"), value("b", "2")], chain) == ([("b", "1"), ("c", "2")], [])
    assert told([value("a", "1")], chain) == ([("b", "1")], [])
    assert swap.moves_in_circles and chain.moves_in_circles
    assert swap.sha == migration({"name": "b", "to": "a"}, {"name": "a", "to": "b"}).sha


def test_only_in_some_kinds_and_below_the_nearest_counts():
    file = migration(
        {"name": "a", "to": "anywhere"},
        {"name": "a", "to": "boats", "categories": ["boat"]},
        {"name": "a", "to": "sailing", "categories": ["sail", "lake"]},
    )
    to = destination(spec("anywhere"), spec("boats"), spec("sailing"))
    found = [told([value("a", "x")], file, kind, to)[0][0][0] for kind in ("ketch", "sail", "sea", "mug", None)]
    assert found == ["sailing", "sailing", "boats", "anywhere", "anywhere"]
    assert [told([value("a", "x")], file, kind)[0][0][0] for kind in ("ketch", "sail")] == ["anywhere", "sailing"]


def test_a_kind_may_be_named_as_it_was_or_as_it_is():
    for kind in ("yacht", "sea"):
        file = migration({"name": "a", "to": "b", "categories": [kind]}, categories={"yacht": "sea"})
        assert told([value("a", "x")], file, "yacht", destination(spec("b")))[0] == [("b", "x")]


def test_values_are_renamed_and_merged():
    file = migration({"name": "rig", "values": {"Bermuda-Sloop": "sloop", "cutter": "gaff cutter"}})
    old = [
        value("rig", "sloop", confidence=0.5, share=0.25, evidence=(Evidence("text", "sloop", 0, 5),)),
        value("rig", "bermuda sloop", confidence=0.9, share=0.5, evidence=(Evidence("title", "bermuda", 2, 9),)),
        value("rig", "cutter"),
        value("rig", "yawl"),
    ]
    made = migrate(old, None, file).values
    assert [(v.value, v.confidence, v.share) for v in made] == [
        ("sloop", 0.9, 0.75), ("gaff cutter", 0.75, None), ("yawl", 0.75, None),
    ]  # fmt: skip
    assert made[0].evidence == (*old[0].evidence, *old[1].evidence)
    assert made[2] is old[3]


def test_a_conflict_of_two_words_for_one_thing_is_none():
    file = migration({"name": "rig", "values": {"bermuda": "sloop"}})
    said = (Evidence("title", "sloop", value="sloop"), Evidence("image:0", value="bermuda"))
    old = value("rig", "sloop", status="conflict", evidence=said)
    new = migrate([old], None, migration({"name": "rig", "to": "rigging", "values": {"bermuda": "sloop"}})).values[0]
    assert (new.status, [e.value for e in new.evidence]) == ("value", ["sloop", "sloop"])
    assert [e.quote for e in new.evidence] == ["sloop", None]
    other = replace(old, value="bermuda", evidence=(*said, Evidence("text", value="ketch")))
    new = migrate([other], None, file).values[0]
    assert (new.value, new.status) == ("sloop", "conflict")


# --------------------------------------------------------------------------------------------- two that come together


def test_two_attributes_that_agree_become_one():
    file = migration({"name": "a", "to": "b"})
    one, other = (value(n, "Red", evidence=(Evidence(n),)) for n in ("a", "b"))
    made = migrate([one, other], None, file)
    assert [(v.name, v.value, [e.source for e in v.evidence]) for v in made.values] == [("b", "Red", ["a", "b"])]
    assert made.decision.names == {"a": None, "b": None}  # no question was about both


def test_two_that_disagree_stay_unless_the_new_one_may_hold_several():
    file = migration({"name": "a", "to": "b"})
    row = [value("a", "red"), value("b", "blue")]
    assert told(row, file) == ([("a", "red"), ("b", "blue")], ["b would have two values, of a and b"])
    assert told(row, file, "sail", destination(spec("b", multi=True))) == ([("b", "red"), ("b", "blue")], [])
    both = migration({"name": "a", "to": "c"}, {"name": "b", "to": "c"})
    assert told(row, both)[0] == [("a", "red"), ("b", "blue")]
    assert migrate(row, None, both).values == tuple(row)


def test_what_stays_stands_in_the_way_of_others():
    file = migration({"name": "a", "to": "b"}, {"name": "z", "to": "a"})
    row = [value("z", "1"), value("a", "2"), value("b", "3")]
    found, kept = told(row, file)
    assert found == [("z", "1"), ("a", "2"), ("b", "3")] and len(kept) == 2
    assert told(row[:2], file) == ([("a", "1"), ("b", "2")], [])


def test_silence_gives_way_and_stands_once():
    file = migration({"name": "a", "to": "b"})
    assert told([value("a", "red"), value("b", None)], file)[0] == [("b", "red")]
    assert told([value("a", None), value("b", "red")], file)[0] == [("b", "red")]
    row = [value("a", None, status="failed"), value("b", None, status="not_applicable")]
    assert [(v.name, v.status) for v in migrate(row, None, file).values] == [("b", "not_applicable")]


# -------------------------------------------------------------------------------------------------- split, drop, add

BERTH = {"name": "berth", "split": {"Double cabin": {"bed": "double", "cabin": "yes"}, "bunk": {"bed": "single"}}}


def test_a_value_becomes_values_of_several_attributes():
    said = (Evidence("title", "double cabin", 0, 12, value="double cabin"), Evidence("image:0", value="bunk"))
    row = [value("x", "1"), value("berth", "double  CABIN", status="conflict", evidence=said), value("y", "2")]
    made = migrate(row, None, migration(BERTH))
    assert [(v.name, v.value, v.status, v.confidence) for v in made.values] == [
        ("x", "1", "value", 0.75), ("bed", "double", "conflict", 0.75),
        ("cabin", "yes", "conflict", 0.75), ("y", "2", "value", 0.75),
    ]  # fmt: skip
    assert [e.value for e in made.values[1].evidence] == ["double", "single"]
    assert [e.value for e in made.values[2].evidence] == ["yes", "bunk"]  # nothing says what a bunk is as a cabin
    assert made.decision.names == {"berth": None}


def test_what_is_not_among_the_split_values_stays_or_follows_a_rename():
    row = [value("berth", "hammock"), value("berth", None)]
    assert told(row, migration(BERTH)) == (
        [("berth", "hammock"), ("berth", None)], ["its value is not among those that are split"],
    )  # fmt: skip
    assert told(row, migration(BERTH | {"to": "bed"}))[0] == [("bed", "hammock"), ("bed", None)]
    assert told(row, migration(BERTH | {"values": {"hammock": "hanging bed"}}))[0][0] == ("berth", "hanging bed")


def test_numbers_go_by_unit_and_size():
    file = migration(
        {"name": "capacity", "where": [
            {"unit": "ml", "to": "volume"},
            {"unit": "pieces", "below": 3, "to": "small_crew"},
            {"unit": "pieces", "at_least": 3, "to": "crew"},
        ]}
    )  # fmt: skip
    assert file.labels == (
        "capacity in ml → volume", "capacity in pieces below 3 → small_crew", "capacity in pieces from 3 → crew",
    )  # fmt: skip
    found = [
        told([value("capacity", "x", number=n, unit=u)], file)
        for n, u in ((5.0, "ml"), (2.0, "pieces"), (3.0, "pieces"), (3.0, "kg"), (None, None))
    ]
    assert [names[0][0] for names, _ in found] == ["volume", "small_crew", "crew", "capacity", "capacity"]
    assert [kept for _, kept in found[3:]] == [["no condition fits its number"]] * 2
    made = migrate([value("capacity", "5 ml", number=5.0, unit="ml")], None, file).values[0]
    assert (made.number, made.unit, made.value) == (5.0, "ml", "5 ml")


def test_a_number_is_no_word():
    file = migration({"name": "n", "values": {"5": "five"}})
    assert told([value("n", "5", number=5.0)], file)[0] == [("n", "5")]
    assert told([value("n", "5")], file)[0] == [("n", "five")]


def test_dropped_and_added():
    file = migration({"name": "charm", "drop": True}, {"name": "draught", "add": True})
    made = migrate([value("charm", "yes"), value("rig", "sloop")], None, file)
    assert [(v.name, v.value) for v in made.values] == [("rig", "sloop")]
    assert made.decision.names == {"charm": None}
    assert file.labels == ("charm: dropped", "draught: added, not asked yet")
    assert not decide([value("draught", "1")], None, file).acts


# --------------------------------------------------------------------------------------------------------------- kinds

KINDS = {
    "dinghy": "lake",
    "yacht": {"by": "hull", "values": {"Keel": "sea", "flat": "lake"}},
    "barge": {"among": ["sea", "lake"]},
    "raft": {"among": []},
}


def kind_of(category, *values):
    made = migrate(values, category, migration(categories=KINDS))
    return made.category, [v.value for v in made.values if v.name == "category"], made.decision.kinds


def test_kinds_move_and_split_by_an_attribute():
    said = value("category", "dinghy", evidence=(Evidence("title", "dinghy", value="dinghy"),))
    category, (named,), _ = kind_of("dinghy", said)
    assert (category, named) == ("lake", "lake")
    assert kind_of("yacht", value("category", "yacht"), value("hull", "keel"))[:2] == ("sea", ["sea"])
    assert kind_of("mug", value("category", "mug"))[:2] == ("mug", ["mug"])
    for hull, why in (
        ([], "hull says nothing"),
        ([value("hull", "round")], "hull does not tell which"),
        ([value("hull", "keel"), value("hull", "flat")], "hull does not tell which"),
    ):
        category, named, kinds = kind_of("yacht", value("category", "yacht"), *hull)
        assert (category, named, kinds["yacht"][2]) == ("yacht", ["yacht"], why)
    assert kind_of("barge")[2]["barge"][2] == "nothing tells which"
    assert kind_of("raft")[2]["raft"][2] == "it has no successor"
    assert kind_of(None, value("category", "dinghy"))[:2] == (None, ["lake"])


def test_a_kind_that_is_not_there_is_not_moved_to():
    file = migration(categories={"dinghy": "lake", "yacht": "ocean"})
    made = migrate([], "yacht", file, destination())
    assert made.category == "yacht"
    assert made.decision.kinds["yacht"][2] == "the knowledge tables have no such kind"
    assert unknown_kinds(file, destination()) == ["ocean"]


# ---------------------------------------------------------------------------------------------------------------- laws

NAMES = st.sampled_from("abcd")
WORDS = st.sampled_from(["1", "2", "3", "x"])
VALUES = st.lists(
    st.builds(
        lambda name, said, sure, read: value(
            name, said, confidence=sure, evidence=(Evidence("text", read, value=said),)
        ),
        NAMES, st.none() | WORDS, st.floats(0, 1), st.text(max_size=3),
    ),
    max_size=7,
)  # fmt: skip
STEPS = st.one_of(
    st.fixed_dictionaries({"name": NAMES, "to": st.sampled_from("abcdef")}),
    st.fixed_dictionaries({"name": NAMES, "values": st.dictionaries(WORDS, WORDS, min_size=1)}),
    st.fixed_dictionaries(
        {"name": NAMES, "split": st.dictionaries(WORDS, st.dictionaries(st.sampled_from("abef"), WORDS, min_size=1),
                                                 min_size=1)}
    ),
    st.fixed_dictionaries({"name": NAMES, "to": st.sampled_from("ef"), "values": st.dictionaries(WORDS, WORDS)}),
)  # fmt: skip


@st.composite
def migrations(draw):
    steps = {step["name"]: step for step in draw(st.lists(STEPS, min_size=1, max_size=4))}
    return migration(*(s for s in steps.values() if s.get("to") != s["name"])) if any(
        s.get("to") != s["name"] for s in steps.values()
    ) else migration({"name": "a", "to": "f"})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(VALUES, migrations())
def test_nothing_is_lost_and_what_is_not_meant_is_untouched(row, file):
    made = migrate(row, None, file)
    meant = {step.name for step in file.attribute}
    arrived = {name for fate in made.decision.fates if fate.acts for name, _ in fate.results}
    # what no step starts from and nothing comes to is the very object, in the same order
    untouched = [v for v in row if v.name not in meant | arrived]
    assert [v for v in made.values if any(v is u for u in untouched)] == untouched
    # every value stands somewhere: as it was, or as its fate says
    standing = {(v.name, v.value) for v in made.values}
    for old, fate in zip(row, made.decision.fates, strict=True):
        if old.value is not None:
            assert all((name, new or old.value) in standing for name, new in fate.results)
            assert fate.results
    # every word that was read is still there
    read = sorted(e.quote for v in row if v.value is not None for e in v.evidence)
    assert set(read) <= {e.quote for v in made.values for e in v.evidence}
    if not made.decision.acts:
        assert all(new is old for new, old in zip(made.values, row, strict=True))


@settings(max_examples=150, deadline=None)
@given(VALUES, migrations())
def test_done_twice_is_done_once_where_names_do_not_move_in_circles(row, file):
    once = migrate(row, None, file).values
    if not file.moves_in_circles:
        assert migrate(once, None, file).values == once


@settings(max_examples=100, deadline=None)
@given(VALUES, migrations(), st.randoms())
def test_the_order_of_the_file_says_nothing(row, file, random):
    steps = list(file.attribute)
    random.shuffle(steps)
    other = Migration(name="other", attribute=tuple(steps))
    assert other.sha == file.sha
    assert migrate(row, None, other).values == migrate(row, None, file).values


@settings(max_examples=100, deadline=None)
@given(VALUES, st.permutations("abcd"))
def test_a_permutation_of_names_and_back_is_the_row_itself(row, names):
    there = [{"name": old, "to": new} for old, new in zip("abcd", names, strict=True) if old != new]
    if not there:
        return
    back = [{"name": step["to"], "to": step["name"]} for step in there]
    assert list(migrate(migrate(row, None, migration(*there)).values, None, migration(*back)).values) == row


# -------------------------------------------------------------------------------------------------------------- files

FAULTS = {
    "": "it does nothing; legal: [[attribute]] tables and [categories]",
    "nonsense = 1": "nonsense: unknown key; legal keys: name, title, department, from, to, attribute, categories",
    '[[attribute]]\nname = "a"': "attribute.0: does nothing; legal: to, values, split, where, drop, add",
    '[[attribute]]\nname = "a"\nvalue = {x = "y"}': "attribute.0.value: unknown key, did you mean 'values'?",
    '[[attribute]]\nname = "a"\nto = "a"': "attribute.0: to: it is called so already",
    '[[attribute]]\nname = "a"\nto = "category"': "attribute.0: category: kinds move by [categories]",
    '[[attribute]]\nname = "category"\ndrop = true': "attribute.0: category: kinds move by [categories]",
    '[[attribute]]\nname = "a"\ndrop = true\nto = "b"': "attribute.0: drop: goes with nothing else, not with to",
    '[[attribute]]\nname = "a"\nvalues = {"x y" = "1", "X-Y" = "2"}': "attribute.0: 'x y' and 'X-Y' are one value",
    '[[attribute]]\nname = "a"\nvalues = {" " = "1"}': "attribute.0: ' ' is no value",
    '[[attribute]]\nname = "a"\nsplit = {x = {}}': "attribute.0: split: 'x' becomes nothing",
    '[[attribute]]\nname = "a"\nsplit = {x = {b = "1"}}\nwhere = [{unit = "g", to = "c"}]': "split and where: one of",
    '[[attribute]]\nname = "a"\nwhere = [{to = "c"}]': "attribute.0.where.0: needs unit, at_least or below",
    '[[attribute]]\nname = "a"\nwhere = [{unit = "g", to = "c", more = 1}]': "more: unknown key; legal keys: to, unit",
    '[[attribute]]\nname = "a"\nwhere = [{below = 3, to = "b"}, {unit = "g", at_least = 2, to = "c"}]': "can fit both",
    '[[attribute]]\nname = "a"\nwhere = [{at_least = nan, to = "b"}]': "attribute.0.where.0.at_least: ",
    '[[attribute]]\nname = "a"\nto = "b"\n[[attribute]]\nname = "a"\ndrop = true': "'a' stands twice everywhere",
    '[[attribute]]\nname = "a"\nto = 3': "attribute.0.to: Input should be a valid string",
    '[categories]\na = "a"': "categories: 'a' is called so already",
    '[categories]\na = {by = "b"}': "categories.a: needs by and values, or among",
    '[categories]\na = {amongst = ["b"]}': "categories.a.amongst: unknown key, did you mean 'among'?",
    'name = "a b"\n[categories]\na = "b"': "name: 1 to 80 letters, digits, _, - and . are legal",
    "[categories]\na = 3": "categories.a: a kind, or a table with by and values, or with among",
    "x = " + "[" * 5000: "recursion",
    "[[attribute]\n": "Expected ']]'",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_mistake_is_one_line(tmp_path, text):
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_migration(path)
    assert FAULTS[text] in str(error.value)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"migration .*none\.toml: No such file"):
        load_migration(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"b\.toml"):
        load_migration(tmp_path / "b.toml")


CHOICE = {"type": "choice", "values": {"sloop": (), "ketch": ()}}


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (migration({"name": "a", "to": "rigg"}), "no schema has an attribute 'rigg', did you mean 'rig'"),
        (migration({"name": "x", "add": True}), "x: no schema has an attribute 'x'"),
        (migration({"name": "rig", "values": {"a": "slop"}}), "'slop' is no value of rig, did you mean 'sloop'"),
        (migration({"name": "a", "split": {"b": {"crew": "two"}}}), "crew is a number, and 'two' is a word"),
        (migration({"name": "a", "where": [{"unit": "g", "to": "crew"}]}), "crew is kept in pieces, not in g"),
        (migration({"name": "a", "to": "rig", "categories": ["keth"]}), "unknown kind 'keth', did you mean 'ketch'"),
        (migration(categories={"yacht": "lak"}), "have none of the new kinds, such as 'lak', did you mean 'lake'"),
        (migration({"name": "a", "to": "rig"}, department="boat"), "no schema 'boat', did you mean 'boats'"),
        (migration({"name": "a", "to": "rig"}, department="boats", to="3"), "leads to version 3 of 'boats'"),
    ],
)
def test_the_schemas_must_be_those_it_leads_to(file, fault):
    to = destination(spec("rig", **CHOICE), spec("crew", type="number", unit="pieces"))
    with pytest.raises(ConfigError) as error:
        check_destination(file, to)
    assert fault in str(error.value) and str(error.value).startswith("migration m: ")


def test_what_may_be_applied_again():
    to = destination(spec("rig", **CHOICE), spec("fit"), spec("sails", categories=("sail",)))
    again = [
        ({"name": "hull", "to": "fit"}, True),
        ({"name": "fit", "to": "rig"}, False),  # the schemas still have a fit
        ({"name": "sails", "drop": True, "categories": ["lake"]}, True),
        ({"name": "sails", "drop": True}, False),
        ({"name": "rig", "values": {"bermuda": "sloop"}}, True),
        ({"name": "rig", "values": {"ketch": "sloop"}}, False),  # ketch is legal still
        ({"name": "fit", "add": True}, True),
    ]
    assert [is_repeatable(migration(step), to) for step, _ in again] == [wanted for _, wanted in again]


def test_what_a_question_was_before():
    now = spec("rig", type="choice", values={"sloop": ("bermuda",), "yawl": ()})
    (same,) = former_specs(now, migration({"name": "rigging", "to": "rig"}).attribute[0])
    assert same == now.model_copy(update={"name": "rigging"})
    found = former_specs(now, migration({"name": "rig", "values": {"bermuda": "sloop"}}).attribute[0])
    assert [one.values for one in found] == [{"bermuda": ("bermuda",), "yawl": ()}, {"bermuda": (), "yawl": ()}]
    assert former_specs(now, migration({"name": "rig", "values": {"a": "sloop", "b": "sloop"}}).attribute[0]) == []
