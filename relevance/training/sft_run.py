"""Supervised training of a judge: a curriculum of stages on one model, by TRL's SFTTrainer.

Each stage teaches the rows' chains at one depth, and what it made is kept under that depth's name; the last one's
stands in the run's folder too. A run that was killed goes on from its last checkpoint; one of another model, other
rows or other settings is refused. Checkpoints are the trainer's: it keeps the optimizer by torch.save, and reads it,
like everything of torch's own format, as tensors alone (weights_only); weights are safetensors.

Imported only where a model is trained.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from lore_mm.console import say
from lore_mm.errors import ConfigError, InputError, PlanError
from lore_mm.fingerprint import sha_of
from lore_mm.models.hub import offline_where_unreachable
from relevance.training.config import SftConfig, Step, TrainingConfig, moving
from relevance.training.guards import SftTrainer
from relevance.training.lessons import Lessons, Teller, make_lessons
from relevance.training.log import Log, Telling, measured
from relevance.training.model import TrainingModel, device_of, model_sha, open_model, quiet, save_adapter
from relevance.training.rows import ChainRow, read_chains

__all__ = ["check_run", "dev_rows", "leads", "make_trainer", "plan_sft", "read_rows", "run_sft", "trainer_arguments"]

_RUN = "run.json"


def read_rows(config: TrainingConfig) -> list[ChainRow]:
    """The rows of all the config's files.

    Raises:
        InputError: a file cannot be read, or a value of it is not legal.
    """
    return [row for path in config.rows for row in read_chains(path)]


def run_sft(config: SftConfig, rows: Sequence[ChainRow]) -> dict[str, Any]:
    """Train as the config says; gives what metrics.json holds.

    Raises:
        InputError: there is nothing to teach, or under `strict` a row cannot be taught.
        PlanError: in `out` another run began, or its checkpoint is of another model.
        ModelError: the model cannot be had, or the loss is no number.
    """
    before = time.monotonic()
    out = Path(config.out)
    train, dev = _train_rows(config, rows), dev_rows(config, rows)
    check_run(config, rows, out)
    depths = [step.depth for step in config.steps]
    done = next((n for n in range(len(depths), 0, -1) if (out / depths[n - 1] / "metrics.json").is_file()), 0)
    trained = _opened(config, out / depths[done - 1] if done else None)
    teller, log = Teller(trained, config), Log(out / "log.jsonl")
    if done:
        say(f"sft: goes on behind {', '.join(depths[:done])}")
    spread = False
    for place, step in enumerate(config.steps[done:], start=done):
        if spread:  # weights that were spread over devices are not spread anew
            trained = _opened(config, out / depths[place - 1])
        spread = _stage(config, step, trained, _some(train, step.rows, config.seed), dev, teller, log)
    return _finished(config, trained, out, {"train": len(train), "dev": len(dev)}, before) if leads() else {}


def _finished(
    config: SftConfig, trained: TrainingModel, out: Path, rows: dict[str, int], before: float
) -> dict[str, Any]:
    """Put what the last stage made into the run's folder, with the figures of all."""
    depths = [step.depth for step in config.steps]
    for path in (out / depths[-1]).iterdir():
        if path.name != "metrics.json":
            shutil.copyfile(path, out / path.name)
    metrics = {
        "model": config.model,
        "base": trained.base,
        "base_sha": trained.base_sha,
        "rows": rows,
        "stages": {depth: json.loads((out / depth / "metrics.json").read_text(encoding="utf-8")) for depth in depths},
        "seconds": round(time.monotonic() - before, 1),
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return metrics


def plan_sft(config: SftConfig, rows: Sequence[ChainRow]) -> dict[str, Any]:
    """What `run_sft` would do, and nothing done: rows, steps and tokens of every stage. No weights are opened.

    Raises:
        InputError, ModelError: as `run_sft`.
    """
    trained = open_model(config.model, device=config.device, weights=False)
    teller, train = Teller(trained, config), _train_rows(config, rows)
    stages = {}
    for step in config.steps:
        lessons = make_lessons(_some(train, step.rows, config.seed), step.depth, teller, config)
        each = math.ceil(math.ceil(len(lessons.rows) / config.batch) / config.accumulation)
        stages[step.depth] = {
            "rows": len(lessons.rows),
            "left_out": lessons.told(),
            "steps": step.max_steps or math.ceil(each * step.epochs),
            "tokens": {"mean": round(mean(lessons.lengths), 1), "longest": max(lessons.lengths)},
        }
    return {
        "config": config.model_dump(mode="json"),
        "model": {"base": trained.base, "sha": trained.sha, "sees": trained.is_vlm},
        "splits": dict(Counter(row.split for row in rows)),
        "labels": dict(sorted(Counter(row.label for row in train).items())),
        "stages": stages,
    }


def _train_rows(config: SftConfig, rows: Sequence[ChainRow]) -> list[ChainRow]:
    train = [row for row in rows if row.split == "train"]
    if not train:
        raise InputError(f"{', '.join(config.rows)}: no row is of the split train")
    return train


def leads() -> bool:
    """Whether this process is the first of those that a launcher started: it alone writes."""
    return int(os.environ.get("RANK", "0")) == 0


def dev_rows(config: TrainingConfig, rows: Sequence[ChainRow]) -> list[ChainRow]:
    """The rows of the split dev that are measured on, drawn by the seed."""
    return _some([row for row in rows if row.split == "dev"], config.dev.rows, config.seed) if config.dev.rows else []


def _some(rows: Sequence[ChainRow], count: int, seed: int) -> list[ChainRow]:
    """As many of the rows, in their order; 0: all."""
    if not count or count >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), count))]


def check_run(config: TrainingConfig, rows: Sequence[ChainRow], out: Path) -> None:
    """Note what this run is, or see that what began here is the same.

    Raises:
        PlanError: it is another; the text names what differs.
    """
    taught = [[row.query_id, row.item_id, row.label, row.prompt, row.rules] for row in rows]
    this = {"model_sha": model_sha(config.model), "rows_sha": sha_of(taught), **moving(config)}
    path = out / _RUN
    if path.is_file():
        try:
            other: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise PlanError(f"{path} cannot be read; give another --out, or remove {out}") from None
        names = [name for name in this | other if this.get(name) != other.get(name)]
        if names:
            told = "; ".join(f"{name}: {_short(other.get(name))} there, {_short(this.get(name))} now" for name in names)
            raise PlanError(f"{out}: another run began here ({told}); give another --out, or remove the folder")
    out.mkdir(parents=True, exist_ok=True)
    if leads():
        scratch = path.with_suffix(".part")
        scratch.write_text(json.dumps(this, indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)  # at once: the other processes read it


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _opened(config: SftConfig, stage: Path | None) -> TrainingModel:
    """The model as it begins, or as a stage that is finished left it."""
    trained = open_model(
        str(stage) if stage else config.model,
        lora=config.lora,
        full=config.full,
        device=config.device,
        dtype=config.dtype,
        attention=config.attention,
        seed=config.seed,
    )
    if stage and config.full:
        manifest = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))
        trained = replace(trained, base=manifest["base"], base_sha=manifest["base_sha"])
    return trained


def _stage(
    config: SftConfig,
    step: Step,
    trained: TrainingModel,
    rows: Sequence[ChainRow],
    dev: Sequence[ChainRow],
    teller: Teller,
    log: Log,
) -> bool:
    """Teach one depth, measure, and keep what it made; tells whether weights were spread over devices."""
    out, depth = Path(config.out), step.depth
    checkpoints = out / "checkpoints" / depth
    lessons = make_lessons(rows, depth, teller, config)
    if leads():
        _tell_left_out(lessons, rows, depth, out)
    last = max(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    began = int(last.name.rpartition("-")[2]) if last else 0
    finished = [one.depth for one in config.steps if (out / one.depth / "metrics.json").is_file()]
    taken = log.forget(depth, began, finished) if leads() else (0.0, 0.0)

    with quiet(), offline_where_unreachable(), ExitStack() as stack:
        trainer = make_trainer(config, step, trained, lessons, checkpoints)
        trainer.bad = out / "nan-batch.json"
        spread = bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
        if dev and spread:
            say(f"sft {depth}: dev is not measured on weights that are spread over devices")
            dev = []

        def ask() -> dict[str, Any]:
            return measured(trained, dev, config.dev, config.seed, f"sft {depth}")

        telling = Telling(log, depth, stack, ask, config.dev.every if dev else 0, taken)
        trainer.add_callback(telling)
        say(f"sft {depth}: {len(lessons.rows):,} rows" + (f", goes on from step {began:,}" if last else ""))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        _keep(config, step, trained, trainer, lessons)
    if not leads():
        return spread
    steps = trainer.state.global_step
    figures: dict[str, Any] = {
        "steps": steps,
        "rows": len(lessons.rows),
        "left_out": lessons.told(),
        "loss": telling.loss,
        "seconds": round(telling.seconds, 1),
        "tokens": telling.tokens,
    }
    if dev:
        figures["dev"] = ask()
        log.write(steps, depth, figures["dev"])
    (out / depth / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(checkpoints, ignore_errors=True)
    return spread


def _keep(config: SftConfig, step: Step, trained: TrainingModel, trainer: SftTrainer, lessons: Lessons) -> None:
    """Save what a stage made; weights that are spread over devices are gathered, which takes every process."""
    said = {
        "trained_as": "sft",
        "depth": step.depth,
        "order": config.order,
        "cite": config.cite,
        "prompt_sha": sha_of(sorted({row.system for row in lessons.rows})),
        "settings": moving(config),
    }
    spread = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    folder = Path(config.out) / step.depth
    if spread:
        trainer.save_model(str(folder))
    if leads():
        save_adapter(trained, folder, said, weights=not spread)
    trainer.accelerator.wait_for_everyone()


def _tell_left_out(lessons: Lessons, rows: Sequence[ChainRow], depth: str, out: Path) -> None:
    """Say how many rows are not taught and why, and list them in left-out.jsonl."""
    path = out / "left-out.jsonl"
    before = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in before if json.loads(line)["stage"] != depth]
    for one in lessons.left_out:
        named = {"stage": depth, "query_id": one.row.query_id, "item_id": one.row.item_id, "kind": one.kind}
        kept.append(json.dumps({**named, "why": one.why}, ensure_ascii=False))
    if kept:
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    for kind, count in lessons.told().items():
        first = next(one for one in lessons.left_out if one.kind == kind)
        say(f"sft {depth}: {count:,} of {len(rows):,} rows left out for their {kind} ({first.why}, and so on): {path}")


def make_trainer(
    config: SftConfig, step: Step, trained: TrainingModel, lessons: Lessons, checkpoints: Path
) -> SftTrainer:
    """TRL's trainer of one stage.

    Raises:
        ConfigError: it refuses the settings.
    """
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_config import SFTConfig

    shown = "input_ids" not in lessons.dataset.column_names
    if config.packing and trained.is_vlm:
        raise ConfigError("packing is for models that read text alone")
    arguments = trainer_arguments(config, str(checkpoints)) | {
        "num_train_epochs": step.epochs,
        "max_steps": step.max_steps or -1,
        "learning_rate": step.learning_rate or config.learning_rate,
        "max_length": config.max_length if config.packing else None,
        "packing": config.packing,
        # batches of rows of like length: less padding
        "train_sampling_strategy": "random" if config.packing else "group_by_length",
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": not config.packing},
    }
    try:
        trainer = SftTrainer(
            model=trained.model,
            args=SFTConfig(**arguments),
            train_dataset=lessons.dataset,
            processing_class=trained.processing_class,
        )
    except (ValueError, ImportError) as error:  # settings that do not go together, or not on this machine
        raise ConfigError(f"trl: {' '.join(str(error).split())[:300]}") from None
    trainer.rows, trainer.lengths = lessons.rows, lessons.lengths
    if shown:
        trainer.data_collator = _with_rows(trainer.data_collator)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _with_rows(collate: Any) -> Any:
    """The collator, which also tells which rows a batch is of."""
    import torch

    def collated(examples: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [one["row"] for one in examples]
        batch: dict[str, Any] = collate([{k: v for k, v in one.items() if k != "row"} for one in examples])
        batch["row"] = torch.tensor(rows)
        return batch

    return collated


def trainer_arguments(config: TrainingConfig, output: str) -> dict[str, Any]:
    """The arguments that every trainer of TRL's takes from a config."""
    device = device_of(config.device)
    gpu = device == "cuda"
    return {
        "output_dir": output,
        "per_device_train_batch_size": config.batch,
        "gradient_accumulation_steps": config.accumulation,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip,
        "seed": config.seed,
        "use_cpu": device == "cpu",
        "bf16": config.dtype == "bfloat16" or (gpu and config.dtype != "float32"),
        "gradient_checkpointing": gpu if config.gradient_checkpointing is None else config.gradient_checkpointing,
        "logging_steps": config.log_every,
        "logging_first_step": True,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": config.keep,
        "dataloader_pin_memory": gpu,
        "disable_tqdm": True,
        "report_to": "none",
    }
