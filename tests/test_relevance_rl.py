"""Run: pytest tests/test_relevance_rl.py

GRPO on tiny models: what a group teaches, that prompts read once teach the same, a run, a kill, what is refused.
"""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from lore_mm.console import command_app
from lore_mm.errors import ConfigError, InputError, ModelError, PlanError
from relevance.training.config import load_config
from relevance.training.pool import drawn, mixed
from relevance.training.rewards import REWARDS
from relevance.training.rl_config import RlConfig
from relevance.training.rows import chains_table, completion, messages
from tests.chain_rows import many, row

if any(find_spec(name) is None for name in ("torch", "transformers", "trl", "peft", "datasets", "accelerate")):
    pytest.skip("needs the extra train", allow_module_level=True)

EXAMPLE = Path("relevance/training/configs/smollm2-rl.toml")
RED = replace(
    row("red", "r", "red", 4, ['- color "red": exact "red" in title "red" => L4']), system="", prompt='red? "red"'
)
BLUE = replace(
    row("red", "b", "blue", 2, ['- color "red": other "blue" in title "blue" => L2'], ["color"]),
    system="",
    prompt='red? "blue"',
)
ROWS = [replace(one, item_id=f"{one.item_id}{n}") for n in range(4) for one in (RED, BLUE)]


@pytest.fixture(scope="module")
def unsure(tmp_path_factory):
    """A model that answers each pair with its own chain, or the other's, as often."""
    from tests.tiny_models import tiny_text

    folder = tiny_text(tmp_path_factory.mktemp("models") / "unsure")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids, labels = [], []
    for one in (RED, BLUE):
        prompt = tokenizer.apply_chat_template(messages(one), tokenize=True, add_generation_prompt=True)["input_ids"]
        for said in (RED, BLUE):
            answer = tokenizer(completion(said) + "<|im_end|>")["input_ids"]
            ids.append(prompt + answer)
            labels.append([-100] * len(prompt) + answer)
    longest, pad = max(map(len, ids)), tokenizer.pad_token_id
    inputs = torch.tensor([one + [pad] * (longest - len(one)) for one in ids])
    wanted = torch.tensor([one + [-100] * (longest - len(one)) for one in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        model(input_ids=inputs, attention_mask=(inputs != pad).long(), labels=wanted).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def config(model, out, **others):
    settings = {
        "model": str(model),
        "rows": ["rows.parquet"],
        "out": str(out),
        "lora": {"r": 4, "alpha": 8},
        "generations": 4,
        "batch": 4,
        "accumulation": 2,
        "steps": 4,
        "max_length": 256,
        "max_completion": 96,
        "slack": 16,
        "learning_rate": 5e-3,
        "save_every": 2,
        "device": "cpu",
        "dev": {"rows": 0},
    }
    return RlConfig.model_validate(settings | others)


def run(*arguments):
    from relevance.training.rl_run import run_rl

    return run_rl(*arguments)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def farthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def trainer_of(wanted, rows):
    """A trainer, its model opened, its adapter moved off zero."""
    import torch

    from relevance.training.lessons import Teller
    from relevance.training.model import open_model
    from relevance.training.rl_run import make_trainer

    trained = open_model(wanted.model, lora=wanted.lora, device="cpu")
    torch.manual_seed(0)
    for name, weight in trained.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    trainer = make_trainer(wanted, trained, rows, Teller(trained, wanted), wanted.out)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = wanted.accumulation
    return trainer


def batches(trainer):
    """The micro-batches of one step."""
    batch = next(iter(trainer.get_train_dataloader()))
    found = []
    for _ in range(trainer.args.steps_per_generation):
        found.append(trainer._prepare_inputs(batch))
        trainer._step += 1
    return found


def gradient(trainer, parts):
    """The loss of a step and its gradient by name."""
    trainer.model.zero_grad()
    total = 0.0
    for part in parts:
        loss = trainer._compute_loss(trainer.model, part)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------------------------------------------- what it learns


def test_prompts_that_are_read_once_teach_what_trl_teaches(unsure, tmp_path):
    """Loss and gradient of every micro-batch, with prompts of unequal length in one, against TRL's own."""
    import torch

    rows = [replace(one, prompt=one.prompt + " and more" * n) for n, one in enumerate(ROWS)]
    trainer = trainer_of(config(unsure, tmp_path, batch=8, generations=2, window=(0, 1)), rows)
    parts = batches(trainer)
    for part in parts:
        part["advantages"] = torch.linspace(-1, 1, 8)
        assert len({tuple(one) for one in part["prompt_ids"].tolist()}) == 4
        trainer._share = True
        loss, once = gradient(trainer, [part])
        trainer._share = False
        plain_loss, plain = gradient(trainer, [part])
        assert loss == pytest.approx(plain_loss, abs=1e-6)
        assert set(once) == set(plain)
        assert max(float(one.abs().max()) for one in plain.values()) > 1e-3
        assert farthest(once, plain) < 1e-6


def test_groups_outside_the_window_teach_nothing(unsure, tmp_path):
    """A step with a group that is all right, all wrong or in between is the step of those in between alone."""
    import torch

    trainer = trainer_of(config(unsure, tmp_path, accumulation=3), ROWS)
    rights = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1], dtype=torch.float32)
    plain = trainer.reward_funcs

    def right(*_, completions, **__):
        return rights[: len(completions)].tolist()

    trainer.reward_funcs = [right if one.__name__ == "level" else one for one in plain]
    always, never, between = batches(trainer)
    assert always["advantages"].tolist() == never["advantages"].tolist() == [0.0] * 4
    assert between["advantages"].abs().min() > 0
    assert between["num_items_in_batch"] == between["completion_mask"].sum()
    told = {name: values[-1] for name, values in trainer._metrics["train"].items() if name.startswith("groups/")}
    third = pytest.approx(1 / 3)
    assert told == {
        "groups/in_window": third, "groups/all_right": third, "groups/all_wrong": third, "groups/right": 0.5
    }  # fmt: skip
    loss, all_three = gradient(trainer, [always, never, between])
    alone, last = gradient(trainer, [between])
    assert (loss, farthest(all_three, last)) == (alone, 0.0)
    assert gradient(trainer, [always, never])[1] == {}


def test_the_window_has_two_ends(unsure, tmp_path):
    import torch

    trainer = trainer_of(config(unsure, tmp_path, accumulation=4, window=(0.5, 0.75)), ROWS)
    rights = torch.tensor([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], dtype=torch.float32)
    trainer.reward_funcs = [
        (lambda *_, **__: rights.tolist()) if one.__name__ == "level" else one for one in trainer.reward_funcs
    ]
    assert [bool(part["advantages"].any()) for part in batches(trainer)] == [False, True, True, False]


# ---------------------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def trained(unsure, tmp_path_factory):
    """A whole run, what it told, and where it wrote."""
    out = tmp_path_factory.mktemp("run") / "out"
    dev = [replace(one, split="dev") for one in (RED, BLUE)]
    wanted = config(unsure, out, accumulation=4, steps=12, dev={"rows": 2, "samples": 4, "max_tokens": 96, "every": 6})
    return run(wanted, [*ROWS, *dev]), out


def test_a_run_learns_what_is_rewarded(trained):
    metrics, out = trained
    log = lines(out / "log.jsonl")
    steps, dev = [one for one in log if "reward" in one], [one for one in log if "pass_1" in one]
    assert [one["step"] for one in steps] == list(range(1, 13))
    assert [one["step"] for one in dev] == [0, 6, 12]
    first, last = steps[:3], steps[-3:]
    assert sum(one["groups/right"] for one in first) / 3 < 0.7
    assert sum(one["groups/right"] for one in last) / 3 > 0.9
    assert dev[0]["pass_1"] < dev[-1]["pass_1"] == metrics["dev"]["pass_1"] > 0.9


def test_every_reward_is_told_apart(trained):
    _, out = trained
    for one in lines(out / "log.jsonl"):
        if "reward" not in one:
            continue
        assert {f"rewards/{name}" for name in REWARDS} <= set(one)
        weights = {"level": 0.6, "side": 0.2, "legs": 0.2, "grounded": 0.1, "length": 0.1, "overlong": 0.5}
        assert one["reward"] == pytest.approx(sum(w * one[f"rewards/{name}"] for name, w in weights.items()), abs=1e-4)
        assert {"loss", "grad_norm", "tokens_mean", "groups/in_window", "step_seconds"} <= set(one)
        assert ("entropy" in one) or one["groups/in_window"] == 0


def test_what_a_run_leaves(trained, unsure):
    from relevance.training.model import open_model

    metrics, out = trained
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "log.jsonl", "manifest.json", "metrics.json", "run.json",
        "samples.jsonl",
    ]  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["trained_as"], manifest["order"], manifest["base"]) == ("rl", "think_first", str(unsure))
    assert metrics["rows"] == {"train": 8, "kept": 8, "left_out": {}, "dev": 2}
    samples = lines(out / "samples.jsonl")
    assert len(samples) == 12 * 4  # one a group
    assert set(samples[0]) == {"step", "query_id", "item_id", "label", "text", "rewards", "advantage"}
    assert {one["label"] for one in samples if one["step"] == 1} == {2, 4}
    assert open_model(str(out), device="cpu").has_adapter


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(unsure, tmp_path, monkeypatch):
    from relevance.training.groups import GroupTrainer

    wanted = config(unsure, tmp_path / "killed")
    step = GroupTrainer.training_step

    def killed(self, *arguments, **named):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    monkeypatch.setattr(GroupTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(wanted, ROWS)
    monkeypatch.undo()
    assert [one["step"] for one in lines(tmp_path / "killed" / "log.jsonl")] == [1, 2, 3]
    run(wanted, ROWS)
    run(config(unsure, tmp_path / "whole"), ROWS)
    assert [one["step"] for one in lines(tmp_path / "killed" / "log.jsonl")] == [1, 2, 3, 4]
    assert farthest(weights(tmp_path / "killed"), weights(tmp_path / "whole")) < 1e-6
    with pytest.raises(PlanError, match=r"learning_rate: 0\.005 there, 0\.1 now"):
        run(config(unsure, tmp_path / "killed", learning_rate=0.1), ROWS)


def test_it_goes_on_from_an_adapter(unsure, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(config(unsure, first, steps=1), ROWS)
    run(config(first, second, steps=1, learning_rate=1e-3, seed=1), ROWS)
    assert 0 < farthest(weights(first), weights(second)) < 0.002  # a step of Adam is no longer than the rate
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["base"] == str(unsure)  # not the adapter


def test_a_loss_that_is_no_number_ends_the_run_with_its_batch(unsure, tmp_path, monkeypatch):
    from relevance.training.groups import GroupTrainer

    whole = GroupTrainer._compute_loss
    monkeypatch.setattr(GroupTrainer, "_compute_loss", lambda *arguments: whole(*arguments) * float("nan"))
    with pytest.raises(ModelError, match=r"step 1: the loss is nan; the batch is in .*nan-batch.json"):
        run(config(unsure, tmp_path), ROWS)
    saved = json.loads((tmp_path / "nan-batch.json").read_text())
    assert len(saved["completions"]) == 8
    assert "<think>" in saved["completions"][0]["text"]


def test_rows_that_teach_nothing_are_filtered_out_before(unsure, tmp_path):
    """The model is unsure of some rows, and always wrong about one that nobody could be right about."""
    wrong = replace(RED, item_id="wrong", label=3, label_by="people")
    metrics = run(config(unsure, tmp_path, steps=1, prefilter=8), [*ROWS, wrong])
    pool = json.loads((tmp_path / "pool.json").read_text())
    assert metrics["rows"]["train"] == 9
    assert pool["right"][-1] == 0
    assert metrics["rows"]["kept"] == sum(0 < right < 8 for right in pool["right"]) >= 6


def test_a_model_that_sees_practises_on_pictures(tmp_path):
    from tests.tiny_models import tiny_vlm

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    folder = tiny_vlm(tmp_path / "vlm")
    seen = [replace(one, pictures=("red.png",), picture_root=str(tmp_path)) for one in ROWS[:2]]
    gone = replace(RED, item_id="gone", pictures=("none.png",), picture_root=str(tmp_path))
    wanted = config(
        folder, tmp_path / "out", steps=1, window=(0, 1), generations=2, batch=4, accumulation=1, max_completion=16,
        slack=8, mask_truncated=False, weights={"overlong": 1, "format": 0.5},
    )  # fmt: skip
    metrics = run(wanted, [*seen, gone])
    assert metrics["rows"]["left_out"] == {"picture": 1}
    assert lines(tmp_path / "out" / "log.jsonl")[0]["rewards/overlong"] <= 0


# ------------------------------------------------------------------------------------------------------ what is refused


def test_prompts_that_are_too_long_are_counted_or_refused(unsure, tmp_path):
    long = replace(RED, item_id="long", prompt="red " * 500)
    metrics = run(config(unsure, tmp_path, steps=1), [*ROWS, long, replace(RED, status="failed", error="no path")])
    assert metrics["rows"]["left_out"] == {"length": 1, "status": 1}
    with pytest.raises(InputError, match=r"red – long: .* tokens, max_length leaves 160 for a prompt"):
        run(config(unsure, tmp_path / "strict", strict=True), [long])
    with pytest.raises(InputError, match="no row of the split train"):
        run(config(unsure, tmp_path / "none"), [long])


def test_an_adapter_of_other_chains_or_another_base_is_refused(trained, tmp_path):
    _, before = trained
    with pytest.raises(ConfigError, match="was taught order = 'think_first', and the config says 'answer_first'"):
        run(config(before, tmp_path, order="answer_first"), ROWS)
    other = tmp_path / "other"
    other.mkdir()
    for path in before.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"base_sha": "0" * 64}))
    with pytest.raises(ModelError, match=r"was trained on .* 000000000000"):
        run(config(other, tmp_path / "out"), ROWS)
    (other / "manifest.json").write_text(json.dumps(manifest | {"depth": "knowledge"}))
    with pytest.raises(ConfigError, match="no further than knowledge"):
        run(config(other, tmp_path / "out"), ROWS)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("generations=7", "batch 8 x accumulation 8 completions are no whole number of groups of 7"),
        ("window=[0.9, 0.1]", "two shares in [0, 1], the lower first"),
        ("slack=500", "slack 500 is more than max_completion 120"),
        ("max_completion=768", "leaves no room for a prompt in 512"),
        ("weights={level=0, side=0, legs=0, grounded=0, length=0, overlong=0}", "there is nothing to learn"),
        ("weights.levl=1", "no setting 'weights.levl', did you mean 'level'?"),
        ("vllm=maybe", "'auto', 'yes' or 'no'"),
    ],
)
def test_a_setting_that_is_wrong_is_told_with_what_is_right(setting, said):
    with pytest.raises(ConfigError) as error:
        load_config(RlConfig, EXAMPLE, [setting])
    assert said in str(error.value)


def test_vllm_is_taken_where_there_is_a_gpu(tmp_path):
    import torch

    from relevance.training.groups import use_vllm

    assert not use_vllm(config("x", tmp_path))
    assert not use_vllm(config("x", tmp_path, vllm="no"))
    there = find_spec("vllm") is not None and torch.cuda.is_available()
    assert use_vllm(config("x", tmp_path, device="auto")) == there


# ---------------------------------------------------------------------------------------------------- the pool, the CLI


def test_labels_take_turns_and_rows_come_round():
    rows = [*many(8), *[many(1)[0]] * 12]  # 14 of L4, 2 of each other
    order = drawn(rows, 40, seed=1)
    assert all(sorted(rows[place].label for place in order[i : i + 4]) == [1, 2, 3, 4] for i in range(0, 40, 4))
    assert len({place for place in order if rows[place].label == 4}) == 10  # each once before any again
    assert drawn(rows, 100, seed=1)[:40] == order != drawn(rows, 40, seed=2)
    plain = drawn(rows, 20, seed=1, balance=False)
    assert sorted(plain) == list(range(20))
    assert [mixed(right, 4) for right in range(5)] == [False, True, True, True, False]
    with pytest.raises(ValueError, match="no rows"):
        drawn([], 4)


def cli(*arguments):
    from relevance.rl import main

    return CliRunner().invoke(command_app(main, "rl"), list(map(str, arguments)))


def test_dry_run_and_probes(tmp_path):
    pq.write_table(chains_table(many(16)), tmp_path / "rows.parquet")
    rows = f"rows=['{tmp_path / 'rows.parquet'}']"
    plan = json.loads(cli("--config", EXAMPLE, "--set", rows, "--dry-run").stdout)
    assert (plan["rows"], plan["pairs_a_step"], plan["completions"]) == (16, 8, 24 * 64)
    assert plan["labels"] == {"1": 4, "2": 4, "3": 4, "4": 4}
    found = json.loads(cli("--probe", tmp_path / "rows.parquet").stdout)
    assert found["honest, whole chain"]["total"] > 1.1 > 0.5 > found["always L4"]["total"]
    by_config, lighter = (
        json.loads(cli("--probe", tmp_path / "rows.parquet", "--config", EXAMPLE, *more).stdout)
        for more in ((), ("--set", "weights.side=0"))
    )
    assert lighter["always L4"]["total"] == pytest.approx(by_config["always L4"]["total"] - 0.1, abs=0.04)
    assert isinstance(cli().exception, InputError)
