"""relevance.training.metrics and lore evaluate chains: what is measured of a model that writes chains."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.evaluate_chains import main, part_of, some_of
from lore_mm.console import command_app
from lore_mm.errors import InputError, ModelError
from lore_mm.models.chat import ChatReply, Usage
from relevance.chain import read_chain
from relevance.rules import load_rulebook
from relevance.training.metrics import Answers, by_row, differences, figures, follows, measure, score
from relevance.training.rows import chains_table, completion
from tests.chain_rows import ROWS, many

GOOD = [read_chain(completion(row)) for row in ROWS]
WRONG = read_chain("<think>\n" + ROWS[0].rules + "\n</think>\ngrade L4")


class Speaker:
    """A chat that answers each request by what `say` makes of it."""

    name, sha = "speaker", "s"

    def __init__(self, say):
        self.say, self.asked = say, []

    def generate(self, requests):
        self.asked += requests
        return [self.say(request) for request in requests]

    def close(self):
        pass


def right(request):
    row = next(row for row in ROWS if row.prompt == request.parts[0])
    return ChatReply(completion(row), usage=Usage(1, 50, 30))


def test_a_model_that_is_always_right():
    chat = Speaker(right)
    found = measure(chat, many(8), samples=8, max_tokens=99, resamples=50)
    values = {name: one.value for name, one in found.metrics.items()}
    assert values == {
        "pass_1": 1, "pass_8": 1, "acc_4": 1, "acc_2": 1, "format": 1, "follows": 1, "tokens": 30, "macro_f1": 1,
    }  # fmt: skip
    assert (found.rows, found.samples, len(chat.asked)) == (8, 8, 8 * 9)
    greedy, sampled = chat.asked[0], chat.asked[1]
    assert (greedy.temperature, sampled.temperature, sampled.max_tokens) == (0, 1.0, 99)
    assert len({request.seed for request in chat.asked if request.temperature}) == 64  # no two samples alike


def test_what_is_no_chain_is_wrong_and_not_left_out():
    answers = [Answers(None, (GOOD[0], None), (10, 20)), Answers(GOOD[1], (GOOD[1], GOOD[1]), (30, 40))]
    found = {name: one.value for name, one in score(ROWS[:2], answers, resamples=0).metrics.items()}
    assert found["pass_1"] == 0.75
    assert found["acc_4"] == 0.5
    assert found["acc_2"] == 0.5
    assert found["format"] == 0.75
    assert found["tokens"] == 25
    assert found["macro_f1"] == 0.5  # L4 was there and never said, L3 was hit
    assert "pass_8" not in found  # two answers say nothing of eight


def test_pass_at_8_is_whether_any_is_right():
    answers = [Answers(WRONG, (WRONG,) * 7 + (GOOD[1],), (1,) * 8)]
    found = {name: one.value for name, one in score(ROWS[1:2], answers, resamples=0).metrics.items()}
    assert (found["pass_1"], found["pass_8"]) == (0.125, 1)


def test_a_grade_follows_from_its_legs_by_the_rulebook():
    book = load_rulebook()
    assert all(follows(chain, book) for chain in GOOD)
    assert not follows(replace(GOOD[2], grade=GOOD[0].grade), book)
    assert not follows(replace(GOOD[2], failed=()), book)
    assert not follows(replace(GOOD[2], legs=()), book)


def test_differences_are_on_the_same_rows():
    rows = many(4)
    one = by_row(rows, [Answers(chain, (chain,) * 2, (20, 20)) for chain in GOOD])
    other = by_row(rows, [Answers(WRONG, (WRONG, chain), (10, 20)) for chain in GOOD])
    found = differences(rows, one, other, resamples=20)
    assert found["pass_1"].value == pytest.approx(1 - (1 + 0.5 * 3) / 4)
    assert found["tokens"].value == 5
    assert figures(rows, one, resamples=0)["macro_f1"].value == 1


def test_no_rows_and_a_refusing_engine_are_errors():
    with pytest.raises(InputError, match="no rows to measure on"):
        measure(Speaker(right), [])
    with pytest.raises(ModelError, match="speaker: a row could not be answered: too long"):
        measure(Speaker(lambda request: ChatReply(error="too long", finish="error")), many(1))


def test_rows_are_taken_with_even_labels_and_always_the_same():
    rows = [replace(row, query=f"query {i}") for i, row in enumerate([*many(40), *[ROWS[0]] * 40])]
    taken = some_of(rows, 20, seed=0)
    assert [sum(row.label == level for row in taken) for level in (1, 2, 3, 4)] == [5, 5, 5, 5]
    assert taken == some_of(rows[::-1], 20, seed=0)
    assert taken != some_of(rows, 20, seed=1)
    assert some_of(rows, 0, seed=0) == rows


def test_parts_are_held_out_queries_kinds_and_what_people_judged():
    rows = [
        replace(ROWS[0], split=s, label_by=b) for s in ("train", "queries", "categories") for b in ("rules", "people")
    ]
    assert [len(part_of(rows, name)) for name in ("queries", "categories", "people")] == [1, 1, 1]


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [replace(row, split="queries", query=f"query {i // 4}") for i, row in enumerate(many(8))]
    pq.write_table(chains_table(rows), path)
    return path


def run(*args):
    return CliRunner().invoke(command_app(main, "lore evaluate chains"), list(map(str, args)))


def test_models_are_compared_and_what_was_measured_is_kept(held_out, tmp_path, monkeypatch):
    opened = []

    def open_chat(address, **options):
        opened.append(address)
        return Speaker(right if address == "good" else lambda request: ChatReply("no chain", usage=Usage(1, 5, 2)))

    monkeypatch.setattr("jobs.evaluate_chains.open_chat", open_chat)
    args = ("--rows", held_out, "--save", tmp_path / "kept.json", "--samples", 2, "--resamples", 20, "--json")
    done = run(*args, "--model", "before=bad")
    assert done.exit_code == 0, done.output
    done = run(*args, "--model", "before=bad", "--model", "after=good")
    assert opened == ["bad", "good"]  # what was measured is not asked again
    found = json.loads(done.stdout)["queries"]
    assert (found["n"], found["labels"]) == (8, [2, 2, 2, 2])
    assert found["models"]["before"]["metrics"]["format"]["value"] == 0
    assert found["models"]["after"]["metrics"]["pass_1"]["value"] == 1
    assert found["models"]["after"]["minus_the_one_before"]["pass_1"]["value"] == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--model", "good"), "--model 'good': legal is NAME=ADDRESS"),
        (("--model", "a=scripted:x", "--part", "items"), "--part 'items': legal: queries, categories, people"),
    ],
)
def test_mistakes_are_told(held_out, args, told):
    done = run("--rows", held_out, *args)
    assert done.exit_code != 0
    assert told in str(done.exception) + done.output
