"""pytest tests/test_lore_mm_rows.py"""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lore_mm import rows
from lore_mm.tables import ATTRIBUTES, DEMANDS, ITEMS, JUDGMENTS
from lore_mm.types import (
    AttributeValue,
    Demand,
    Evidence,
    Grade,
    Item,
    Judgment,
    Leg,
    MatchPath,
    Provenance,
    Query,
    Understanding,
)

words = st.text(max_size=12)
shares = st.floats(0, 1)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
regions = st.none() | st.tuples(shares, shares, shares, shares)
evidences = st.builds(
    Evidence,
    source=words,
    quote=st.none() | words,
    start=st.none() | st.integers(0, 99),
    region=regions,
    confidence=shares,
)
attributes = st.builds(
    AttributeValue,
    name=words,
    dimension=words,
    value=st.none() | words,
    number=numbers,
    share=st.none() | shares,
    confidence=shares,
    evidence=st.lists(evidences, max_size=2).map(tuple),
)
demands = st.builds(
    Demand,
    dimension=words,
    value=words,
    number=numbers,
    polarity=st.sampled_from([1, -1]),
    alternatives=st.lists(words, max_size=2).map(tuple),
)
legs = st.builds(
    Leg,
    demand=demands,
    attribute=words,
    relation=words,
    found=st.lists(words, max_size=2).map(tuple),
    evidence=st.lists(evidences, max_size=2).map(tuple),
    level=st.none() | st.sampled_from(list(Grade)),
)
made = Provenance("run", "given", "in", "set")


def through_arrow(row, schema):
    return pa.Table.from_pylist([row], schema=schema).to_pylist()[0]


@given(attributes, attributes)
def test_attributes_come_back_as_they_went(a, b):
    table = rows.attributes_table(
        [
            {
                "item_id": "i",
                "extractor": "given",
                "category": None,
                "attributes": [a, b],
                "status": "ok",
                "error": None,
                "provenance": made,
            }
        ]
    )
    assert table.schema == ATTRIBUTES
    assert [rows.attribute_from_row(r) for r in table.to_pylist()[0]["attributes"]] == [a, b]


@given(st.lists(demands, max_size=3).map(tuple), words)
def test_understandings_come_back_as_they_went(parts, text):
    before = Understanding(Query("q", text), text, parts, corrections=(("a", "b"),), hard_type="question")
    row = rows.demands_table([before], made).to_pylist()[0]
    assert rows.demands_table([before], made).schema == DEMANDS
    assert rows.understanding_from_row(row) == before


@given(st.lists(legs, max_size=3).map(tuple), st.sampled_from(list(Grade)))
def test_judgments_come_back_as_they_went(parts, grade):
    before = Judgment(
        "q",
        "i",
        grade,
        "words",
        (0.1, 0.2, 0.3, 0.4),
        2 / 3,
        MatchPath("q", "i", parts),
        ("color",),
        ("r",),
        provenance=made,
    )
    table = rows.judgments_table([before])
    assert table.schema == JUDGMENTS
    assert table.column("grade").to_pylist() == [grade.name]
    assert rows.judgment_from_row(table.to_pylist()[0]) == before


def test_a_failed_judgment_has_no_grade_and_no_path():
    before = Judgment("q", "i", None, status="failed", error="no such item")
    assert rows.judgment_from_row(rows.judgments_table([before]).to_pylist()[0]) == before


@given(
    st.builds(
        Item,
        item_id=words,
        title=words,
        description=words,
        attributes=st.dictionaries(words, st.lists(words, max_size=2).map(tuple), max_size=2),
        price=numbers,
        images=st.lists(words, max_size=2).map(tuple),
    )
)
def test_items_come_back_as_they_went(item):
    row = rows.item_to_row(item) | {"image_root": None, "status": "ok", "error": None, "provenance": None}
    assert rows.item_from_row(through_arrow(row, ITEMS)) == item


def test_grades_collapse_to_relevant_at_l3():
    assert [g.relevant for g in Grade] == [False, False, True, True]
    assert [str(g) for g in Grade] == ["L1", "L2", "L3", "L4"]
