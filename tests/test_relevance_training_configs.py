"""The configs for real models: legal, sized as their comments say, and run in small on models of the same kinds.

A dry run changes what makes a run large (model, rows, lengths, batch, device, number of steps) and nothing else: what
is adapted, what is learned, rewarded and rolled out stays as it is shipped.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from lore_mm.console import command_app
from relevance.training.config import SftConfig, load_config
from relevance.training.rl_config import RlConfig
from relevance.training.rows import chains_table
from tests.chain_rows import ROWS

if not all(map(find_spec, ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "llguidance"))):
    pytest.skip("needs the extras train and hf", allow_module_level=True)

CONFIGS = Path("relevance/training/configs")
TEXT_SFT, TEXT_RL = CONFIGS / "qwen3-8b-sft.toml", CONFIGS / "qwen3-8b-rl.toml"
SEES_SFT, SEES_RL = CONFIGS / "qwen3-vl-8b-sft.toml", CONFIGS / "qwen3-vl-8b-rl.toml"
LAUNCHES = sorted(CONFIGS.glob("accelerate-*.yaml"))
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

SMALL = ("device=cpu", "dtype=float32", "batch=4", "accumulation=1", "save_every=1")
SMALL_DEV = ("dev.rows=1", "dev.samples=2", "dev.max_tokens=8", "dev.resamples=5")
# The first step of two warms up and moves nothing.
TWICE = ", ".join(f'{{depth = "{depth}", max_steps = 2}}' for depth in ("knowledge", "multimodal", "rules"))
SMALL_SFT = (*SMALL, *SMALL_DEV, f"steps=[{TWICE}]", "log_every=1")
# A model that knows nothing never writes a chain: what it can learn is to be brief.
BRIEF = ("window=[0, 1]", "mask_truncated=false", "max_completion=128", "slack=128", "temperature=4.0")
SMALL_RL = (*SMALL, *SMALL_DEV, *BRIEF, "steps=2", "generations=4", "accumulation=2", "vllm=no", "prefilter=0")


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """A tiny Qwen3."""
    from tests.tiny_models import tiny_text

    return tiny_text(tmp_path_factory.mktemp("models") / "tiny-qwen3")


@pytest.fixture(scope="module")
def sees(tmp_path_factory):
    """A tiny Qwen3-VL."""
    return tiny_qwen3_vl(tmp_path_factory.mktemp("models") / "tiny-qwen3-vl")


def tiny_qwen3_vl(folder):
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    from tests.tiny_models import CONTEXT, _tokenizer

    tokenizer = _tokenizer()
    token = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": CONTEXT,
            "vocab_size": len(tokenizer),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|pad|>"),
            "bos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
                "rope_theta": 1e4,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        tie_word_embeddings=False,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        dtype="float32",
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    pixels = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 256}  # tokens a picture, as the real one's
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, temporal_patch_size=2, merge_size=2, size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def written(folder, pictures=False):
    """A Parquet file of eight rows to train on and one to measure on, with a picture each if wanted."""
    rows = [replace(ROWS[i % 4], query_id=f"q{i}", split="dev" if i == 8 else "train") for i in range(9)]
    rows = [replace(row, knowledge=row.rules, multimodal=row.rules) for row in rows]
    if pictures:
        Image.new("RGB", (640, 480), "navy").save(folder / "a.png")
        rows = [replace(row, pictures=("a.png",), picture_root=str(folder)) for row in rows]
    pq.write_table(chains_table(rows), folder / "rows.parquet")
    return folder / "rows.parquet"


def trained(main, config, *settings, out):
    """What the front door's run of a config says, as JSON."""
    arguments = [word for setting in settings for word in ("--set", setting)]
    told = CliRunner().invoke(command_app(main, "it"), ["--config", str(config), *arguments, "--out", str(out)])
    if told.exception and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.stderr
    return json.loads(told.stdout)


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------------------------------------------------- as shipped


def test_every_config_is_legal():
    found = {path.stem: load_config(SftConfig, path) for path in CONFIGS.glob("*-sft.toml")}
    found |= {path.stem: load_config(RlConfig, path) for path in CONFIGS.glob("*-rl.toml")}
    assert {"qwen3-8b-sft", "qwen3-8b-rl", "qwen3-vl-8b-sft", "qwen3-vl-8b-rl"} <= set(found)
    for name, one in found.items():
        goes_on = found.get(name.replace("-rl", "-sft"))
        assert one.order == goes_on.order and one.cite == goes_on.cite  # as it was taught
        assert name.endswith("-sft") or one.model in (goes_on.out, f"{goes_on.out}/rules")


@pytest.mark.parametrize("path", [TEXT_SFT, SEES_SFT, TEXT_RL, SEES_RL], ids=lambda path: path.stem)
def test_the_other_way_of_a_comment_is_legal_too(path):
    """Every weight by FSDP: the settings of the command in the comment."""
    comment = [line[1:].strip(" \\") for line in path.read_text().splitlines() if line.startswith("#")]
    words = " ".join(comment).split()
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set" and "=" in words[place + 1]]
    if path == SEES_RL:
        assert settings == []
        return
    settings = [one for one in settings if one not in ("accumulation=4",)]
    found = load_config(RlConfig if path == TEXT_RL else SftConfig, path, settings)
    assert found.full and found.gradient_checkpointing and not found.dev.rows
    assert found.batch * found.accumulation * 8 == {TEXT_SFT: 32, SEES_SFT: 32, TEXT_RL: 512}[path]


def test_sizes_that_memory_is_worked_out_from():
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    text = {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    }
    eye = {"out_hidden_size": 4096}  # the rest is the class's own
    with torch.device("meta"):
        reads = Qwen3ForCausalLM(Qwen3Config(**text, tie_word_embeddings=False))
        sees = Qwen3VLForConditionalGeneration(
            Qwen3VLConfig(text_config=text, vision_config=eye, tie_word_embeddings=False)
        )
    count = {name: sum(one.numel() for one in model.parameters()) for name, model in (("r", reads), ("s", sees))}
    assert (round(count["r"] / 1e9, 2), round(count["s"] / 1e9, 2)) == (8.19, 8.77)
    maps = [one for one in reads.get_decoder().modules() if isinstance(one, torch.nn.Linear)]
    assert round(16 * sum(one.in_features + one.out_features for one in maps) / 1e6) == 44
    assert 36 * 2 * 8 * 128 * 2 == 147_456  # bytes of a token's keys and values


# ------------------------------------------------------------------------------------------------------------ in small


@pytest.mark.parametrize("path", [TEXT_SFT, SEES_SFT], ids=lambda path: path.stem)
def test_supervised_training_in_small(path, request, tmp_path):
    from safetensors import safe_open

    from relevance.sft import main

    shown = path == SEES_SFT
    model = request.getfixturevalue("sees" if shown else "reads")
    rows = written(tmp_path, pictures=shown)
    metrics = trained(main, path, *SMALL_SFT, f"model={model}", f"rows={rows}", out=tmp_path / "out")
    assert [(depth, one["steps"]) for depth, one in metrics["stages"].items()] == [
        ("knowledge", 2),
        ("multimodal", 2),
        ("rules", 2),
    ]
    lines = [one for one in log(tmp_path / "out") if "loss" in one]
    assert len(lines) == 6 and all(0 < one["loss"] < 50 and one["grad_norm"] > 0 for one in lines)
    if shown:  # a picture of 640 x 480 is 512 x 384, which is 16 x 12 tokens
        assert lines[0]["tokens"] > 4 * 16 * 12
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "np") as file:
        names = list(file.keys())
        moved = [name for name in names if "lora_B" in name and abs(file.get_tensor(name)).max() > 0]
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == LINEAR
    assert len(moved) == 2 * len(LINEAR)  # of two layers
    assert not any("visual" in name for name in names)


@pytest.mark.parametrize("path", [TEXT_RL, SEES_RL], ids=lambda path: path.stem)
def test_reinforcement_learning_in_small(path, request, tmp_path):
    from safetensors import safe_open

    from relevance.rl import main

    shown = path == SEES_RL
    model = request.getfixturevalue("sees" if shown else "reads")
    rows = written(tmp_path, pictures=shown)
    metrics = trained(main, path, *SMALL_RL, f"model={model}", f"rows={rows}", out=tmp_path / "out")
    assert metrics["steps"] == 2 and metrics["rows"]["kept"] == 8
    lines = [one for one in log(tmp_path / "out") if "reward" in one]
    assert len(lines) == 2
    for line in lines:
        assert line["rewards/overlong"] < 0 == line["rewards/level"]
        assert line["reward"] == pytest.approx(0.5 * line["rewards/overlong"], abs=1e-6)
        assert (line["grad_norm"] > 0) == (line["reward_std"] > 0)
    assert any(line["reward_std"] > 0 for line in lines)
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "np") as file:
        names = list(file.keys())
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == LINEAR


# ------------------------------------------------------------------------------------------------------- several GPUs


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path):
    """By its own loader, which refuses keys it does not know, and every key of a part is one of its launcher's."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    found = load_config_from_file(str(path))
    kind = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "zero3": "DEEPSPEED"}[path.stem.partition("-")[2]]
    assert (found.distributed_type.value, found.num_processes, found.mixed_precision) == (kind, 8, "bf16")
    parser = launch_command_parser()
    known = {action.dest for action in parser._actions}
    part = found.fsdp_config | found.deepspeed_config
    assert set(part) <= known
    settings, _, _ = _validate_launch_command(parser.parse_args(["--config_file", str(path), "-m", "relevance.sft"]))
    assert settings.module and settings.training_script == "relevance.sft"
    assert (settings.multi_gpu, settings.use_fsdp, settings.use_deepspeed) == tuple(
        kind == one for one in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    )
    assert all(getattr(settings, key) == value for key, value in part.items())


def test_the_environment_of_the_fsdp_config_makes_its_plugin(monkeypatch):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    path = CONFIGS / "accelerate-fsdp.yaml"
    words = ["--config_file", str(path), "--main_process_port", "0", "-m", "relevance.sft"]
    settings, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    for name, value in prepare_multi_gpu_env(settings).items():
        if name.startswith("FSDP_"):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert not plugin.activation_checkpointing  # it would hide the adapter from peft
    assert plugin.state_dict_type.name == "FULL_STATE_DICT" and not plugin.cpu_ram_efficient_loading
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


# accelerate gives FSDP to GPUs alone: here it takes a CPU over gloo for some.
AS_GPUS = """
import os
os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
from lore_mm.models.torchvision_cpu import install
install()
import torch.distributed
from accelerate.state import PartialState
from accelerate.utils import DistributedType
torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
from lore_mm.console import command_app, run
from relevance.sft import main
run(command_app(main, "it"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_as_one_with_twice_the_batch(kind, reads, tmp_path):
    """A real launch of a config, on a CPU over gloo; one process with as large a step finds the same weights."""
    from safetensors.numpy import load_file

    from relevance.sft import main

    rows = written(tmp_path)
    settings = [*SMALL, "dev.rows=0", f"model={reads}", f"rows={rows}", "log_every=1", "warmup=0.0"]
    settings += ['steps=[{depth = "knowledge", max_steps = 1}, {depth = "rules", max_steps = 1}]']
    (tmp_path / "as_gpus.py").write_text(AS_GPUS)
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", str(CONFIGS / f"accelerate-{kind}.yaml"), "--num_processes", "2"]
    launch += ["--mixed_precision", "no", "--main_process_port", "0"]
    launch += ["-m", "relevance.sft"] if kind == "ddp" else [str(tmp_path / "as_gpus.py")]
    launch += ["--config", str(TEXT_SFT), *(word for setting in settings for word in ("--set", setting))]
    told = subprocess.run(
        [*launch, "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=540,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    metrics = json.loads(told.stdout)  # of one process alone
    alone = trained(main, TEXT_SFT, *settings, "batch=8", out=tmp_path / "one")
    assert [one["steps"] for one in metrics["stages"].values()] == [1, 1]
    assert metrics["stages"]["rules"]["tokens"] == alone["stages"]["rules"]["tokens"]
    two, one = ([line for line in log(tmp_path / name) if "loss" in line] for name in ("two", "one"))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-3)
    assert two[1]["loss"] < two[0]["loss"]  # the second stage goes on from the first
    assert [line["grad_norm"] for line in two] == pytest.approx([line["grad_norm"] for line in one], rel=1e-3)
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("two", "one"))
    assert ours.keys() == theirs.keys() and len(ours) == 2 * 2 * len(LINEAR)
    assert max(abs(ours[name] - theirs[name]).max() for name in ours) < 2e-4  # one step of Adam is as long: its sign
