"""Caps, prices and the estimate: a run stops cleanly, tells what was spent, and goes on with a larger cap."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.budget import Budget, Estimate, Price, Prices, budget_of, read_prices
from jobs.feed import in_work, micro_batches
from jobs.plan import Counts, read_runs
from jobs.pulse import read_pulses
from jobs.spine import run_job
from jobs.status import status_of
from lore_mm.errors import BudgetError, InputError
from lore_mm.models.chat import Usage
from stores.features import open_store

ASKING = Path(__file__).with_name("asking_job.py")
_spec = importlib.util.spec_from_file_location("asking_job", ASKING)
asking_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(asking_job)
Work, queries = asking_job.AskingWork, asking_job.queries


def open_with(tmp_path, n, words=4):
    """A store of n queries of so many words: each costs 2·words - 1 tokens of prompt, or words, and 1 of reply."""
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({f"q{i:04}": " ".join(["word"] * words) for i in range(n)}))
    return store


def spent(store):
    """Tokens by every start of the newest run, and those that the model counted for the rows that stand."""
    run = read_runs(store, "scripted")[-1]
    return sum(
        u.prompt_tokens + u.completion_tokens for p in read_pulses(store, run.plan.run_id) for u in p.spent.values()
    )


# ---------------------------------------------------------------------------------------------------------------- caps


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_run_stops_at_the_cap_and_goes_on_with_a_larger_one(tmp_path, capsys, in_flight):
    store = open_with(tmp_path, 200)  # 5 tokens a row: 1,000 in all
    with pytest.raises(BudgetError) as stopped:
        run_job(store, Work(store), batch_rows=10, in_flight=in_flight, max_tokens=420)
    assert spent(store) == 400  # the next 50 would have passed 420
    assert "400 tokens are spent, --max-tokens is 420 tokens, and the next 10 rows would take some 50" in str(
        stopped.value
    )
    assert "80 of 200 rows are done and kept. The same command with a larger cap goes on" in str(stopped.value)
    assert stopped.value.exit_code == 3
    assert store.count("demands") == 80
    (run,) = status_of(store).runs
    assert (run.state, run.n_ok, run.n_left, run.prompt_tokens, run.completion_tokens) == (
        "unfinished",
        80,
        120,
        320,
        80,
    )
    assert [worker.state for worker in run.workers] == ["stopped"]
    with pytest.raises(BudgetError):  # the same cap again: nothing is asked
        run_job(store, Work(store), batch_rows=10, in_flight=in_flight, max_tokens=420)
    assert spent(store) == 400
    work = Work(store)
    assert run_job(store, work, batch_rows=10, in_flight=in_flight, max_tokens=1000) == Counts(200, 200, 0, 0)
    assert work.chat.requests == 120  # no row was asked about again
    assert spent(store) == 1000
    (run,) = status_of(store).runs
    assert (run.state, run.n_in, run.n_ok, run.resumed, run.prompt_tokens) == ("finished", 200, 200, 2, 800)
    assert (
        "5.0 tokens a row by the first 10; 190 left would take some 950 tokens (950 to 950)" in capsys.readouterr().err
    )


def test_a_cap_holds_an_engine_elsewhere_too(tmp_path):
    """It is handed rows long before they begin; what it was handed is made and kept."""
    store = open_with(tmp_path, 400)
    work = Work(store)

    def elsewhere(plan, slices, rows):
        return in_work(work, micro_batches(work, slices, rows), 4)

    with pytest.raises(BudgetError, match="The same command with a larger cap goes on"):
        run_job(store, work, batch_rows=10, elsewhere=elsewhere, max_tokens=800)
    assert 600 <= spent(store) == 5 * store.count("demands") <= 800
    assert run_job(store, work, batch_rows=10, elsewhere=elsewhere) == Counts(400, 400, 0, 0)
    assert work.chat.requests == 400


def test_a_cap_on_cost(tmp_path):
    store = open_with(tmp_path, 100)
    price = "prompt=1000,completion=2000"  # 4 and 1 tokens a row: 0.006 a row
    with pytest.raises(BudgetError) as stopped:
        run_job(store, Work(store), batch_rows=10, max_cost=0.25, price=price)
    assert "40 of 100 rows" in str(stopped.value) and "which cost 0.24" in str(stopped.value)
    (run,) = status_of(store).runs
    assert run.cost == pytest.approx(0.24) and run.models == ("scripted:7",)


def test_nothing_is_begun_beside_the_probe(tmp_path):
    """Four at once would be 200 tokens before anything is known of what a row takes."""
    store = open_with(tmp_path, 200)
    with pytest.raises(BudgetError):
        run_job(store, Work(store, delay_s=0.002), batch_rows=10, in_flight=4, max_tokens=60)
    assert spent(store) == 50


def test_a_cap_smaller_than_the_probe_costs_one_micro_batch(tmp_path):
    store = open_with(tmp_path, 200)
    with pytest.raises(BudgetError, match="50 tokens are spent, --max-tokens is 3 tokens"):
        run_job(store, Work(store), batch_rows=10, max_tokens=3)
    assert store.count("demands") == 10


def test_what_other_workers_spend_counts(tmp_path):
    store = open_with(tmp_path, 1000)  # 5,000 tokens in all
    options = {"batch_rows": 10, "max_tokens": 2000, "in_flight": 1, "delay_s": 0.003}
    command = [sys.executable, str(ASKING), store.uri, json.dumps(options)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [3, 3], said
    assert all("stopped: scripted: " in text for text in said)
    assert spent(store) <= 2000 + 2 * 900  # each sees what the other spent up to two seconds late
    assert spent(store) >= 5 * store.count("demands") >= 1800  # more where both made the same rows and one came second
    (run,) = status_of(store).runs
    assert (run.state, run.n_ok, len(run.workers)) == ("unfinished", store.count("demands"), 2)
    work = Work(store)
    n = store.count("demands")
    assert run_job(store, work, batch_rows=10).n_ok == 1000
    assert work.chat.requests == 1000 - n


def test_rows_that_need_nothing_are_skipped_beyond_the_cap(tmp_path):
    store = open_with(tmp_path, 100)
    run_job(store, Work(store), batch_rows=10)
    store.append("queries", queries({"q0003": "other words"}))
    assert run_job(store, Work(store), batch_rows=10, max_tokens=20) == Counts(100, 1, 0, 99)


def test_a_clean_stop_of_a_command(tmp_path):
    store = open_with(tmp_path, 100)
    options = {"batch_rows": 10, "max_tokens": 120}
    done = subprocess.run([sys.executable, str(ASKING), store.uri, json.dumps(options)], capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("stopped: scripted: 100 tokens are spent")
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------------------------ estimate


def test_an_estimate_holds_the_truth_between_its_bounds():
    pieces = [(4, 4 * took) for took in (9, 11, 10, 12, 8, 10, 11, 9)]
    one = Estimate.of(pieces)
    assert (one.rows, one.mean) == (32, 10)
    assert one.low == pytest.approx(10 - 2.36 * 1.3093 / 8**0.5, abs=1e-3)
    assert one.high == pytest.approx(10 + 2.36 * 1.3093 / 8**0.5, abs=1e-3)
    assert Estimate.of([(3, 30)]) == Estimate(3, 10)  # one piece tells nothing of the spread


def test_the_forecast_says_where_the_cap_is(tmp_path, capsys):
    store = open_with(tmp_path, 200)
    with pytest.raises(BudgetError):
        run_job(store, Work(store), batch_rows=10, max_tokens=500, price="prompt=100,completion=100")
    said = capsys.readouterr().err
    assert "190 left would take some 950 tokens (950 to 950) and cost some 0.095 (0.095 to 0.095)" in said
    assert "--max-tokens stops it after some 90 of them" in said


def test_a_small_run_without_a_cap_has_no_probe(tmp_path, capsys):
    store = open_with(tmp_path, 30)
    run_job(store, Work(store), batch_rows=10)
    assert "tokens a row" not in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- prices


def test_prices_by_model(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('["gpt-x"]\nprompt = 1\ncompletion = 4.0\n["*"]\nprompt = 10\ncompletion = 0\n')
    prices = read_prices(str(file))
    assert prices.of("openai:http://127.0.0.1:1/v1#gpt-x") == Price(1, 4)
    assert prices.of("hf:other") == Price(10, 0)
    assert prices.cost({"hf:gpt-x": Usage(1, 500_000, 250_000), "b": Usage(1, 100_000, 7)}) == 2.5
    assert read_prices("prompt=0.15, completion=0.6") == Prices({"*": Price(0.15, 0.6)})


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("prompt=-1,completion=1", "prompt is '-1'; legal: a number of 0 and more"),
        ("prompt=nan,completion=1", "prompt is 'nan'"),
        ("prompt=1,completion=cheap", "completion is 'cheap'"),
        ("prompt=1", "exactly prompt and completion are wanted"),
        ("prompt=1,completion=2,image=3", "exactly prompt and completion are wanted"),
        ("nowhere.toml", "No such file"),
        (".", "directory"),
    ],
)
def test_nonsense_prices(spec, reason):
    with pytest.raises(InputError, match=reason):
        read_prices(spec)


@pytest.mark.parametrize(
    "text", ["", "[m]\nprompt=1\n", "[m]\nprompt=true\ncompletion=1", "m = 3", "not toml", "prompt=1\n", "\xff\x00"]
)
def test_nonsense_files_of_prices(tmp_path, text):
    file = tmp_path / "prices.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError):
        read_prices(str(file))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_tokens": 0}, "--max-tokens is 0; legal: above 0"),
        ({"max_tokens": -5}, "--max-tokens is -5"),
        ({"max_cost": 0.0, "price": "prompt=1,completion=1"}, "--max-cost is 0; legal: above 0"),
        ({"max_cost": float("nan"), "price": "prompt=1,completion=1"}, "--max-cost is nan"),
        ({"max_cost": 5.0}, "--max-cost needs --price"),
    ],
)
def test_caps_that_are_none(options, reason):
    with pytest.raises(InputError, match=reason):
        budget_of(options)


def test_a_model_without_a_price_is_refused_before_anything_is_asked(tmp_path):
    store = open_with(tmp_path, 10)
    file = tmp_path / "prices.toml"
    file.write_text('["gpt-x"]\nprompt = 1\ncompletion = 4.0\n')
    work = Work(store)
    with pytest.raises(InputError, match="--price: none for scripted:7"):
        run_job(store, work, price=str(file))
    assert work.chat.requests == 0


def test_a_job_that_asks_no_model_has_nothing_to_cap(tmp_path):
    store = open_with(tmp_path, 10)
    with pytest.raises(InputError, match="scripted asks no model as it is set up: --max-tokens would cap nothing"):
        run_job(store, asking_job.scripted_job.ScriptedWork(store), max_tokens=5)
    assert Budget().may_begin({}, 10, 0) is True
