"""pytest tests/test_lore_mm_tables.py"""

import pyarrow as pa
import pytest

from lore_mm.errors import TableError
from lore_mm.tables import ITEMS, KEYS, LABELS, PAIRS, TABLES, check_table


def test_a_table_of_the_schema_passes_in_any_order_of_columns():
    check_table(ITEMS.empty_table(), ITEMS, "items")
    pairs = pa.table({"item_id": ["a"], "query": ["q"], "query_id": ["1"]})
    check_table(pairs, PAIRS, "pairs")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"query_id": ["1"], "query": ["q"]}, "pairs.csv: missing column 'item_id' (string)"),
        (
            {"query_id": ["1"], "query": ["q"], "itemid": ["a"]},
            "pairs.csv: unknown column 'itemid', did you mean 'item_id'?; missing column 'item_id' (string)",
        ),
        ({"query_id": ["1"], "query": ["q"], "item_id": [7]}, "pairs.csv: column 'item_id' is int64, needs string"),
        (
            {"query_id": ["1", "2"], "query": ["q", None], "item_id": ["a", "b"]},
            "pairs.csv: column 'query' is empty in row 1",
        ),
    ],
)
def test_faults_name_the_place_the_column_and_the_legal_ones(table, message):
    with pytest.raises(TableError) as fault:
        check_table(pa.table(table), PAIRS, "pairs.csv")
    text = str(fault.value)
    assert text.startswith("pairs.csv: ")
    assert set(message.removeprefix("pairs.csv: ").split("; ")) <= set(text.removeprefix("pairs.csv: ").split("; "))
    assert text.endswith("legal columns: query_id, query, item_id")


def test_every_stored_table_has_a_key_among_its_columns():
    assert KEYS.keys() == TABLES.keys()
    for name, key in KEYS.items():
        assert set(key) <= set(TABLES[name].names), name


def test_a_label_is_text():
    assert LABELS.field("grade").type == pa.string()
