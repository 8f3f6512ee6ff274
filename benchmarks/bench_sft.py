"""What `lore sft` costs beside TRL's own loop, and what its settings are worth.

    python benchmarks/bench_sft.py                                    # a tiny random model, seconds
    python benchmarks/bench_sft.py --model smollm2-135m --steps 4     # the real one
    python benchmarks/bench_sft.py --arm ours --arm bare --arm random --arm packed --rows chains.parquet

Arms, in turn within each round, on the same model and the same rows, so many steps after one that is not counted:

    ours     the trainer of `relevance.training.sft_run` with its log, its bar and its guards
    bare     `trl.SFTTrainer` with the same settings, and nothing else
    random   bare, with batches as they come instead of rows of like length
    packed   ours, with packing instead of padding

Ratios to `bare` are of tokens of rows a second, padding not counted, the median over rounds: of wall time, and of this
process's seconds on the cores, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, nearest
from lore_mm.models.torchvision_cpu import install
from relevance.training.config import SftConfig, Step
from relevance.training.rows import ChainRow, has_chain, read_chains

if TYPE_CHECKING:
    from relevance.training.lessons import Lessons
    from relevance.training.model import TrainingModel

ARMS = ("ours", "bare", "random", "packed")


def timed(trainer: Any) -> tuple[float, float, int]:
    """Train; (seconds of wall, seconds on cores, tokens of rows) from the end of the first step to that of the last."""
    from transformers import TrainerCallback

    marks: list[tuple[float, float]] = []
    tokens: list[int] = []
    collate = trainer.data_collator

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), time.process_time()))

    def counted(examples: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(one["input_ids"]) for one in examples))
        return collate(examples)

    trainer.add_callback(Clock())
    trainer.data_collator = counted
    trainer.train()
    (wall, cores), (wall_then, cores_then) = marks[-1], marks[0]
    return wall - wall_then, cores - cores_then, sum(tokens[1 : len(marks)])


def made_rows(count: int, seed: int = 0) -> list[ChainRow]:
    """Rows whose prompts and chains are as long as real ones: some hundred characters, one to four legs."""
    draw = random.Random(seed)
    words = "blue black hoodie sofa cotton wool large steel garden kitchen for women men 350 ml brand new".split()
    rows = []
    for n in range(count):
        told = "\n".join(f'- {w} in title "{" ".join(draw.choices(words, k=3))}"' for w in draw.choices(words, k=9))
        legs = ['- category "hoodie" (head): exact "hoodie" in title "Hoodie" => L4 any.exact']
        legs += ['- color "blue": other "black" in title "Black" => L2 color.other'] * draw.randint(0, 3)
        label, failed = (4, ()) if len(legs) == 1 else (2, ("color",))
        lines = "\n".join(legs)
        row = ChainRow(
            f"q{n}",
            f"i{n}",
            "blue hoodie",
            label,
            system="Think leg by leg, then grade the item.",
            prompt=f'query "blue hoodie"\n{told[: draw.randint(80, len(told))]}',
            rules=lines,
            failed=failed,
        )
        rows.append(row)
    return rows


def opened(model: str, scratch: Path, settings: SftConfig) -> TrainingModel:
    """The model: `tiny` is that of the tests."""
    from relevance.training.model import open_model

    if model != "tiny":
        return open_model(model, lora=settings.lora)
    spec = spec_from_file_location("tiny_models", Path(__file__).parent.parent / "tests" / "tiny_models.py")
    assert spec and spec.loader
    tests = module_from_spec(spec)
    spec.loader.exec_module(tests)
    return open_model(str(tests.tiny_text(scratch / "tiny")), lora=settings.lora)


def one_arm(
    arm: str, settings: SftConfig, trained: TrainingModel, lessons: Lessons, steps: int, scratch: Path
) -> tuple[float, float, int]:
    """(seconds of wall, seconds on cores, tokens of rows) of so many steps."""
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from relevance.training.log import Log, Telling
    from relevance.training.model import quiet
    from relevance.training.sft_run import make_trainer, trainer_arguments

    step = Step(depth="rules", max_steps=steps + 1, epochs=1000)
    if arm == "packed":  # as many tokens a step as the others have
        size = max(1, round(settings.batch * statistics.mean(lessons.lengths) / settings.max_length))
        settings = settings.model_copy(update={"packing": True, "batch": size})
    with quiet(), ExitStack() as stack:
        if arm in ("ours", "packed"):
            trainer: Any = make_trainer(settings, step, trained, lessons, scratch / "checkpoints")
            trainer.add_callback(Telling(Log(scratch / "log.jsonl"), arm, stack, dict, 0))
            return timed(trainer)
        arguments = trainer_arguments(settings, str(scratch / "bare")) | {
            "max_steps": steps + 1,
            "learning_rate": settings.learning_rate,
            "max_length": None,
            "train_sampling_strategy": "random" if arm == "random" else "group_by_length",
            "save_strategy": "no",
        }
        trainer = SFTTrainer(
            model=trained.model,
            args=SFTConfig(**arguments),
            train_dataset=lessons.dataset,
            processing_class=trained.processing_class,
        )
        trainer.remove_callback(PrinterCallback)
        return timed(trainer)


def main(
    model: Annotated[str, typer.Option(help="tiny, or what `lore sft` takes.")] = "tiny",
    rows: Annotated[Path | None, typer.Option(help="Parquet of `lore synthesize`; made-up rows unless given.")] = None,
    arms: Annotated[
        list[str] | None, typer.Option("--arm", help="May be repeated; ours and bare unless given.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each arm in each round.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="JSON even on a terminal.")] = False,
) -> None:
    """Time arms in turn.

    python benchmarks/bench_sft.py --model smollm2-135m --steps 4 --rounds 2
    """
    install()
    from relevance.training.lessons import Teller, make_lessons

    chosen = arms or ["ours", "bare"]
    for arm in chosen:
        if arm not in ARMS:
            raise InputError(f"no arm {arm!r}{nearest(arm, ARMS)}; legal: {', '.join(ARMS)}")
    settings = SftConfig.model_validate(
        {"model": model, "rows": ["made up"], "out": "none", "batch": batch, "save_every": 10**6, "max_length": 1024}
    )
    wanted = 2 * batch * (steps + 1)
    given = [row for row in read_chains(rows) if has_chain(row)][:wanted] if rows else made_rows(wanted)
    taken: dict[str, list[Any]] = {arm: [] for arm in chosen}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trained = opened(model, Path(folder), settings)
        lessons = make_lessons(given, "rules", Teller(trained, settings), settings)
        for turn in range(rounds):
            for arm in chosen:
                taken[arm].append(one_arm(arm, settings, trained, lessons, steps, Path(folder)))
            told = ", ".join(f"{arm} {one[-1][2] / one[-1][0]:,.0f}" for arm, one in taken.items())
            say(f"round {turn + 1}, tokens/s: {told}")
    found = [_figures(arm, taken) for arm in chosen]
    if not for_people(as_json):
        for one in found:
            print_json(one)
        return
    from rich.table import Table

    view = Table("arm", "tokens/s", "tokens/core-s", "of bare", "of bare, core-s", box=None)
    for one in found:
        cells = [one["tokens_per_s"], one["tokens_per_core_s"], one["of_bare"], one["of_bare_by_cores"]]
        view.add_row(one["arm"], *("–" if cell is None else f"{cell:,.3g}" for cell in cells))
    print_table(view)


def _figures(arm: str, taken: dict[str, list[Any]]) -> dict[str, Any]:
    """Medians over rounds; ratios of a round's own speeds."""
    speeds = {name: [(t / wall, t / cores) for wall, cores, t in ones] for name, ones in taken.items()}
    ratios: list[Any] = [None, None]
    if "bare" in speeds:
        pairs = list(zip(speeds[arm], speeds["bare"], strict=True))
        ratios = [round(statistics.median(mine[i] / theirs[i] for mine, theirs in pairs), 3) for i in (0, 1)]
    wall, cores = (statistics.median(one[i] for one in speeds[arm]) for i in (0, 1))
    return {
        "arm": arm,
        "tokens_per_s": round(wall, 1),
        "tokens_per_core_s": round(cores, 1),
        "of_bare": ratios[0],
        "of_bare_by_cores": ratios[1],
    }


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_sft.py"))
