"""Reinforcement learning of a judge, by TRL's GRPO (`relevance.training.groups`): pool, run, what is written.

It goes on from what supervised training made: the adapter that is there, or every weight. The pool are the rows of the
split train; each step has pairs of every label, and each pair is answered several times. OUT gets the adapter, its
manifest, log.jsonl, metrics.json, and samples.jsonl with what the model wrote and what it got for it. A run that was
killed goes on from its last checkpoint; one of another model, other rows or other settings is refused.

Imported only where a model is trained.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lore_mm.console import progress, say
from lore_mm.errors import ConfigError, InputError, PictureError
from lore_mm.fingerprint import sha_of
from lore_mm.models.hub import offline_where_unreachable
from relevance.training.config import moving
from relevance.training.groups import GroupTrainer, use_vllm
from relevance.training.lessons import Teller
from relevance.training.log import Log, measured
from relevance.training.model import TrainingModel, device_of, model_sha, open_model, quiet, read_manifest, save_adapter
from relevance.training.pool import drawn, mixed
from relevance.training.rewards import Limits, Rewards
from relevance.training.rl_config import RlConfig
from relevance.training.rl_log import Rollouts
from relevance.training.rows import ChainRow, messages
from relevance.training.sampling import complete
from relevance.training.sft_run import check_run, dev_rows, leads, trainer_arguments

__all__ = ["make_trainer", "run_rl", "usable"]

_STAGE = "rl"
_POOL = "pool.json"


def run_rl(config: RlConfig, rows: Sequence[ChainRow]) -> dict[str, Any]:
    """Train as the config says; gives what metrics.json holds, and nothing in processes that are not the first.

    Raises:
        InputError: there is nothing to practise on, or under `strict` a row cannot be used.
        ConfigError: the adapter was taught another form of chains than the config names.
        PlanError: in `out` another run began, or its checkpoint is of another model.
        ModelError: the model cannot be had, or the loss is no number.
    """
    before, out = time.monotonic(), Path(config.out)
    _same_form(config)
    check_run(config, rows, out)
    trained = open_model(
        config.model,
        lora=config.lora,
        full=config.full,
        device=config.device,
        dtype=config.dtype,
        attention=config.attention,
        seed=config.seed,
    )
    teller, dev = Teller(trained, config), dev_rows(config, rows)
    pool, left_out = usable(config, rows, teller)
    with quiet(), offline_where_unreachable():
        kept = _prefiltered(config, trained, pool, teller, out) if config.prefilter else pool
    trainer = make_trainer(config, trained, kept, teller, str(out / "checkpoints"))
    trainer.bad = out / "nan-batch.json"
    spread = bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
    if dev and spread:
        say("rl: dev is not measured on weights that are spread over devices")
        dev = []
    figures = _trained(config, trained, trainer, dev, out)
    if spread:
        trainer.save_model(str(out))  # gathers, which takes every process
    if not leads():
        return {}
    said = {
        "trained_as": "rl",
        "depth": "rules",
        "order": config.order,
        "cite": config.cite,
        "prompt_sha": sha_of(sorted({row.system for row in pool})),
        "settings": moving(config),
    }
    save_adapter(trained, out, said, weights=not spread)
    metrics = {
        "model": config.model,
        "base": trained.base,
        "base_sha": trained.base_sha,
        "rows": {"train": len(pool), "kept": len(kept), "left_out": left_out, "dev": len(dev)},
        **figures,
        "seconds": round(time.monotonic() - before, 1),
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return metrics


def _same_form(config: RlConfig) -> None:
    """An adapter goes on in the form of chains it was taught."""
    folder = Path(config.model).expanduser()
    manifest = read_manifest(folder) if (folder / "manifest.json").is_file() else {}
    for name in ("order", "cite"):
        taught, wanted = manifest.get(name), getattr(config, name)
        if taught is not None and taught != wanted:
            raise ConfigError(f"{config.model} was taught {name} = {taught!r}, and the config says {wanted!r}")
    if manifest.get("depth", "rules") != "rules":
        raise ConfigError(f"{config.model} was taught no further than {manifest['depth']}: rewards need rules")


# ------------------------------------------------------------------------------------------------------------- the pool


def usable(config: RlConfig, rows: Sequence[ChainRow], teller: Teller) -> tuple[list[ChainRow], dict[str, int]]:
    """The rows that can be practised on, and how many cannot, by why.

    Raises:
        InputError: none can; or, under `strict`, one cannot.
    """
    kept, left_out = [], Counter[str]()
    room = config.max_length - config.max_completion
    for row in rows:
        if row.split != "train":
            continue
        kind, why = _fault(row, room, teller)
        if not kind:
            kept.append(row)
            continue
        if config.strict:
            raise InputError(f"{row.query_id} – {row.item_id}: {why}")
        left_out[kind] += 1
        if left_out[kind] == 1:
            say(f"rl: left out for its {kind}: {row.query_id} – {row.item_id}, {why}")
    if left_out:
        say("rl: left out " + ", ".join(f"{count:,} for their {kind}" for kind, count in left_out.items()))
    if not kept:
        raise InputError(f"{', '.join(config.rows)}: no row of the split train can be practised on")
    return kept, dict(left_out)


def _fault(row: ChainRow, room: int, teller: Teller) -> tuple[str, str]:
    """Why a row cannot be practised on, in a word and in words; empty where it can."""
    if row.status != "ok" or not row.prompt:
        return "status", row.error or "it has no prompt"
    try:
        length = teller.length(teller.prompt(row), teller.pictures(row))
    except PictureError as error:
        return "picture", str(error)
    if length > room:
        return "length", f"{length:,} tokens, max_length leaves {room:,} for a prompt"
    return "", ""


def _prefiltered(
    config: RlConfig, trained: TrainingModel, rows: Sequence[ChainRow], teller: Teller, out: Path
) -> list[ChainRow]:
    """The rows that the model is sometimes right about; what it was right about is kept in pool.json."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("prefilter is for one process: leave it out, the window does the same")
    path = out / _POOL
    wanted = sha_of([model_sha(config.model), config.prefilter, config.temperature, config.seed, len(rows)])
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if found.get("sha") != wanted:
        found = {"sha": wanted, "samples": config.prefilter, "right": _right(config, trained, rows, teller)}
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    kept = [row for row, right in zip(rows, found["right"], strict=True) if mixed(right, config.prefilter)]
    always = sum(right == config.prefilter for right in found["right"])
    never = sum(right == 0 for right in found["right"])
    say(f"rl: of {len(rows):,} rows {always:,} are always right, {never:,} never, {len(kept):,} are practised on")
    if not kept:
        raise InputError(f"prefilter = {config.prefilter}: no row is right sometimes and not always; leave it out")
    return kept


def _right(config: RlConfig, trained: TrainingModel, rows: Sequence[ChainRow], teller: Teller) -> list[int]:
    """How many of the samples of each row have the right level."""
    import torch
    from transformers import GenerationConfig

    if trained.is_vlm or (device_of(config.device) != "cpu" and torch.cuda.device_count() > 1):
        raise ConfigError("prefilter is for text models in one process: leave it out, the window does the same")
    model, tokenizer = trained.model.to(device_of(config.device)), trained.tokenizer
    rewards = Rewards(rows, Limits(config.max_completion, config.slack), config.order)
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(teller.end)}
    settings = GenerationConfig(
        max_new_tokens=config.max_completion,
        do_sample=True,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted(ends),
    )
    prompts = [teller.tokens(teller.prompt(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda place: len(prompts[place]))
    size = max(1, config.batch * config.accumulation // config.prefilter)
    right = [0] * len(rows)
    model.eval()
    torch.manual_seed(config.seed)
    with progress("rl prefilter", len(rows)) as advance:
        for start in range(0, len(order), size):
            some = order[start : start + size]
            written = complete(
                model, [prompts[i] for i in some], config.prefilter, tokenizer.pad_token_id, ends, settings
            )
            texts = tokenizer.batch_decode(written, skip_special_tokens=True)
            for n, text in enumerate(texts):
                place = some[n // config.prefilter]
                right[place] += rewards.of(place, text, len(written[n]))["level"] > 0
            advance(len(some))
    return right


# -------------------------------------------------------------------------------------------------------------- the run


def make_trainer(
    config: RlConfig, trained: TrainingModel, rows: Sequence[ChainRow], teller: Teller, output: str
) -> GroupTrainer:
    """The trainer over these rows, in the order they are drawn."""
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig

    vllm = use_vllm(config)
    arguments = trainer_arguments(config, output) | {
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "num_generations": config.generations,
        "num_iterations": config.iterations,
        "max_completion_length": config.max_completion,
        "mask_truncated_completions": config.mask_truncated,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "loss_type": "dapo",
        "epsilon": config.epsilon,
        "epsilon_high": config.epsilon_high,
        "beta": config.beta,
        "scale_rewards": config.scale_rewards,
        "reward_weights": config.weights.listed(),
        "disable_dropout": True,  # else a completion's own tokens have other odds when they are learned from
        "shuffle_dataset": False,  # the order is drawn by `pool`
        "use_vllm": vllm,
    }
    if vllm:
        arguments |= {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": config.vllm_memory,
            "vllm_max_model_length": config.max_length,
        }
    grpo = GRPOConfig(**arguments)
    each = grpo.generation_batch_size // config.generations
    order = drawn(rows, config.steps * each, config.seed, config.balance)
    rewards = Rewards(rows, Limits(config.max_completion, config.slack), config.order)
    with quiet():
        trainer = GroupTrainer(
            model=trained.model,
            reward_funcs=rewards.functions(),
            args=grpo,
            train_dataset=_practice(config, trained, rows, order, teller),
            processing_class=trained.processing_class,
            window=config.window,
            right="level",
            share=config.share_prompts,
        )
    trainer.rows = rows
    trainer.remove_callback(PrinterCallback)
    return trainer


def _practice(
    config: RlConfig, trained: TrainingModel, rows: Sequence[ChainRow], order: Sequence[int], teller: Teller
) -> Any:
    """The rows as TRL wants them: conversations, with pictures read when they are wanted."""
    from datasets import Dataset

    sees = trained.is_vlm and config.pictures

    def turns(row: ChainRow) -> list[dict[str, Any]]:
        """Text, and for a model that sees the pictures behind it, where supervised training has them."""
        told: list[dict[str, Any]] = [dict(one) for one in messages(row)]
        if trained.is_vlm:
            for turn in told:
                turn["content"] = [{"type": "text", "text": turn["content"]}]
            told[-1]["content"] += [{"type": "image"}] * (len(row.pictures) if sees else 0)
        return told

    def practice(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        some = [rows[place] for place in batch["row"]]
        found: dict[str, list[Any]] = {"row": batch["row"], "prompt": [turns(row) for row in some]}
        return found | ({"images": [teller.pictures(row) for row in some]} if sees else {})

    return Dataset.from_dict({"row": list(order)}).with_transform(practice)


def _trained(
    config: RlConfig, trained: TrainingModel, trainer: GroupTrainer, dev: Sequence[ChainRow], out: Path
) -> dict[str, Any]:
    """Run the trainer from its last checkpoint, measuring before, while and after."""
    log = Log(out / "log.jsonl")
    places = (out / "checkpoints").glob("checkpoint-*")
    last = max(places, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    began = int(last.name.rpartition("-")[2]) if last else 0
    if leads():
        log.forget(_STAGE, began if last else -1, ())

    def ask() -> dict[str, Any]:
        return measured(trained, dev, config.dev, config.seed, _STAGE)

    with quiet(), offline_where_unreachable(), ExitStack() as stack:
        telling = Rollouts(log, out / "samples.jsonl", trainer, stack, ask, config.dev.every if dev else 0)
        trainer.add_callback(telling)
        if dev and not last and leads():
            log.write(0, _STAGE, ask())
        if last:
            say(f"rl: goes on from step {began:,}")
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        found = ask() if dev and leads() else {}
    if found:
        log.write(trainer.state.global_step, _STAGE, found)
    return {"steps": trainer.state.global_step, "train_seconds": round(telling.seconds, 1), "dev": found}
