"""relevance.training.rows and making: what a row teaches, how it is kept, and where it is held out."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Grade, Item, ItemFeatures, Query
from relevance.by_rules import RulesJudge
from relevance.chain import read_chain
from relevance.chain_prompt import ChainPrompt
from relevance.dossier import BUDGETS
from relevance.rules import load_rulebook
from relevance.training.making import HeldOut, RowMaker
from relevance.training.rows import chains_table, completion, has_chain, messages, read_chains, reference
from tests.chain_rows import ROWS, many

BLACK = ROWS[2]


def test_a_completion_is_the_chain_with_the_label_as_its_grade():
    assert completion(BLACK) == (
        "<think>\n"
        '- category "hoodie" (head): exact "hoodie" in title "Hoodie" => L4\n'
        '- color "blue": other "black" in title "Black" => L2\n'
        "</think>\n"
        "grade L2 [color]"
    )
    assert completion(BLACK, order="answer_first", cite=True).splitlines() == [
        "grade L2 [color]",
        "<think>",
        *BLACK.rules.splitlines(),
        "</think>",
    ]


def test_a_completion_goes_as_deep_as_its_step():
    row = replace(BLACK, knowledge='- color "blue"', multimodal='- color "blue": "black" in title "Black"')
    assert completion(row, "knowledge") == '<think>\n- color "blue"\n</think>\ngrade L2 [color]'
    assert completion(row, "multimodal").splitlines()[1] == '- color "blue": "black" in title "Black"'
    assert read_chain(completion(row, "multimodal")).depth == "multimodal"


def test_a_row_without_a_chain_has_a_label_alone():
    row = replace(BLACK, rules="")
    assert not has_chain(row)
    with pytest.raises(ValueError, match="has nothing to complete"):
        completion(row)


def test_the_reference_has_the_grade_of_its_worst_leg():
    assert [reference(row).grade for row in ROWS] == [4, 3, 2, 1]
    assert reference(ROWS[3]).failed == ("category", "color")
    assert reference(replace(BLACK, reference="")).legs == ()


def test_messages_are_the_system_and_the_pair():
    assert [one["role"] for one in messages(BLACK)] == ["system", "user"]
    assert messages(BLACK)[1]["content"] == BLACK.prompt


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [*many(8), replace(BLACK, status="failed", error="no reply", pictures=("a.jpg",), hinted=True)]
    pq.write_table(chains_table(rows), tmp_path / "rows.parquet")
    assert read_chains(tmp_path / "rows.parquet") == rows
    assert read_chains(tmp_path) == rows  # a folder of files


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("label", 5, "column 'label': 5 is no level; legal: 1 to 4"),
        ("label", 0, "column 'label': 0 is no level; legal: 1 to 4"),
        ("split", "validation", "column 'split': 'validation' is not legal; legal: train, dev, queries, categories"),
        ("label_by", "me", "column 'label_by': 'me' is not legal; legal: people, rules"),
    ],
)
def test_a_bad_value_is_told_with_file_row_and_column(tmp_path, column, value, told):
    path = tmp_path / "rows.parquet"
    pq.write_table(chains_table([BLACK, replace(BLACK, **{column: value})]), path)
    with pytest.raises(InputError) as raised:
        read_chains(path)
    assert str(raised.value) == f"{path}, row 1, {told}"


def test_a_file_that_is_no_table_of_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file; `lore synthesize` makes one"):
        read_chains(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(InputError, match=r"bad\.parquet"):
        read_chains(tmp_path / "bad.parquet")
    pq.write_table(chains_table([BLACK]).drop_columns(["label"]), tmp_path / "less.parquet")
    with pytest.raises(InputError, match="missing column 'label'"):
        read_chains(tmp_path / "less.parquet")


def test_a_pair_is_always_in_the_same_split_and_whole_kinds_are_held_out():
    held = HeldOut(categories=0.3, queries=0.2, dev=0.1)
    kinds = [f"kind {i}" for i in range(40)]
    of_kind = {kind: {held.split(f"query {i}", [kind]) for i in range(60)} for kind in kinds}
    out = [kind for kind, splits in of_kind.items() if "categories" in splits]
    assert all(of_kind[kind] == {"categories"} for kind in out)
    assert 5 <= len(out) <= 20
    assert set().union(*of_kind.values()) == {"train", "dev", "queries", "categories"}
    assert held.split("Blue  Hoodie", []) == held.split("hoodie blue", [])  # the same words
    assert HeldOut(0, 0, 0).split("anything", kinds) == "train"


@pytest.fixture(scope="module")
def judged():
    from extractors.given import Given
    from extractors.protocol import ExtractorInput
    from extractors.queries import understand

    knowledge = load_knowledge()
    item = Item("h1", "Hero Hoodie", attributes={"color": ("Black",)}, images=("h1.jpg",))
    features = ItemFeatures(item, Given(knowledge).extract([ExtractorInput(item)])[0].attributes)
    [understanding] = understand([Query("q1", "blue hoodie")], knowledge)
    judge = RulesJudge(knowledge, load_rulebook())
    maker = RowMaker(ChainPrompt(knowledge, load_rulebook(), BUDGETS["tiny"]), run_id="r1")
    return understanding, features, judge.judge([(understanding, features)])[0], maker


def test_a_judged_pair_becomes_a_row_with_its_chain_at_every_step(judged):
    understanding, features, judgment, maker = judged
    row = maker.row(understanding, features, judgment, source="shop", changed="color", picture_root="/pictures")
    assert (row.label, row.label_by, row.right, row.failed, row.category) == (2, "rules", 1, ("color",), "hoodie")
    assert row.knowledge.splitlines()[1] == '- color "blue"'
    assert row.multimodal.splitlines()[1] == '- color "blue": "black" in given.color "Black"'
    assert row.rules.splitlines()[1] == '- color "blue": other "black" in given.color "Black" => L2 color.other'
    assert row.reference == row.rules
    assert row.prompt.endswith(row.item_told)
    assert row.prompt.startswith('query "blue hoodie"')
    assert (row.pictures, row.picture_root, row.provenance.run_id) == (("h1.jpg",), "/pictures", "r1")
    assert row.provenance.settings_sha == maker.prompt.sha


def test_where_people_say_otherwise_there_is_a_label_and_no_chain(judged):
    understanding, features, judgment, maker = judged
    row = maker.row(understanding, features, judgment, label=4, label_by="people")
    assert (row.label, row.right, has_chain(row)) == (4, 0, False)
    assert reference(row).grade == Grade.L2
    agreed = maker.row(understanding, features, judgment, label=2, label_by="people")
    assert has_chain(agreed)


def test_a_pair_that_cannot_be_judged_is_a_failed_row(judged):
    understanding, features, judgment, maker = judged
    failed = replace(judgment, grade=None, path=None, status="failed", error="no demand")
    row = maker.row(understanding, features, failed)
    assert (row.status, row.error, has_chain(row)) == ("failed", "no demand", False)
