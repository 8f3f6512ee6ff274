"""Train the connector and the LoRA of lore-vlm-tiny, measure them on what they never saw, and write both.

The parts: subjects says what there is to ask about, instructions asks, features runs the picture tower once,
closed_form and fit train, measure measures, card writes the table.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.config import cache_folder
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from jobs.vlm.fit import Seen
    from jobs.vlm.learner import Learner

__all__ = ["main"]


def _open(data: list[Path], device: str | None) -> tuple[Learner, Seen]:
    """The learner on its device, and all subjects with their features."""
    try:
        import numpy as np
        import torch

        from lore_mm.models.vlm_tiny import build_base

        model, processor = build_base()
        from jobs.vlm.features import Tower
        from jobs.vlm.fit import Seen
        from jobs.vlm.learner import Learner
        from jobs.vlm.subjects import read_subjects
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "train") from None
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    tower = Tower(model.to(place), processor, cache_folder() / "features" / "vlm")
    subjects, features = [], []
    for folder in data:
        found = read_subjects(folder)
        subjects += found
        features.append(tower.pictures(folder.name, [subject.picture for subject in found]))
    return Learner(model, processor, place), Seen(subjects, np.concatenate(features))


def main(
    data: Annotated[list[Path], typer.Option(help="A data set's folder; give several.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights, metrics.json and the card's table.")] = Path(
        "lore-vlm-tiny"
    ),
    minutes: Annotated[float, typer.Option(min=0, help="How long to train; a longer run is a better one.")] = 60.0,
    batch: Annotated[int, typer.Option(min=1, help="Questions a step.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; unless given, the GPU where there is one.")] = None,
    start: Annotated[
        str, typer.Option(help="closed form, random, or the folder of trained weights to go on from.")
    ] = "closed form",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; in the cache unless given.")
    ] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the weights in --out; train nothing.")] = False,
    measured: Annotated[int, typer.Option(min=0, help="Subjects a data set to measure on; 0 measures nothing.")] = 150,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train lore-vlm-tiny's connector and LoRA, or measure those that are there.

    python -m jobs.train_vlm --data clothing --data grocery_photos --data luma --minutes 60

    Features of the picture tower are made once and kept. A run that was killed goes on from its last checkpoint with
    the same command.
    """
    if start not in ("closed form", "random") and not (Path(start) / "adapter_config.json").is_file():
        raise InputError(f"--start {start}: no folder of trained weights; legal also: closed form, random")
    if not data:
        raise InputError("nothing to train on: give --data FOLDER, once for each data set")
    before = time.monotonic()
    learner, seen = _open(data, device)
    say(f"features of {len(seen.subjects)} photos after {time.monotonic() - before:.0f} s")
    metrics_file = out / "metrics.json"
    metrics: dict[str, Any] = {}
    if evaluate:
        learner.load(out)
        if metrics_file.exists():
            metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    else:
        from jobs.vlm.fit import Recipe, fit

        recipe = Recipe(minutes=minutes, batch=batch, seed=seed, start=start)
        place = checkpoint or cache_folder() / "checkpoints" / "lore-vlm-tiny"
        place.parent.mkdir(parents=True, exist_ok=True)
        metrics = {"training": fit(learner, seen, recipe, place), "recipe": asdict(recipe)}
        learner.save(out)
    if measured:
        metrics["test"] = _measure(learner, seen, measured)
    metrics_file.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    if measured:
        from jobs.vlm.card import update_card

        update_card(out / "README.md", metrics["test"])
    say(f"wrote {out} after {time.monotonic() - before:.0f} s")
    if for_people(as_json):
        print_table(_view(metrics))
    else:
        print_json(metrics)


def _measure(learner: Learner, seen: Seen, limit: int) -> dict[str, Any]:
    from jobs.vlm.measure import measure
    from lore_mm.models import open_embedder

    return measure(learner, seen, open_embedder(), limit)


def _view(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    from jobs.vlm.card import figure_rows
    from jobs.vlm.measure import SYSTEMS

    view = Table("data", "attribute", "n", "options", *SYSTEMS, box=None)
    for row in figure_rows(metrics.get("test", {})):
        view.add_row(*row)
    return view


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.train_vlm"))
