"""Train lore-tagger-tiny on labelled queries, measure it, and write weights, figures and settings.

The parts: recipe is the settings, data reads, swap makes queries up, learner is the model, loss is what it learns from
(jobs.fitting fits one), distil lets several teach one, graph and export write ONNX, measure measures, card writes the
table, workshop puts all together.
"""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.schedule import settings_of
from jobs.tagger.data import read_material
from jobs.tagger.recipe import Recipe
from lore_mm.config import cache_folder
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, MissingExtraError
from lore_mm.models.weights import get_weights

if TYPE_CHECKING:
    from jobs.tagger.workshop import Workshop

__all__ = ["main"]

_BODY = "all-minilm-l6-v2"


def _open(
    data: str, body: Path | None, checkpoint: Path | None, device: str, choose: bool, limit: int | None, hints: bool
) -> Workshop:
    """The queries, and the encoder of the body's tokenizer.

    Raises:
        MissingExtraError: torch, transformers, tokenizers or onnx is not installed.
    """
    for module in ("torch", "transformers", "safetensors", "onnx", "onnxruntime", "tokenizers"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "train,tagger")
    from lore_mm.models.torchvision_cpu import install

    install()
    from jobs.tagger.learner import Encoder
    from jobs.tagger.workshop import Workshop

    material = read_material(data, choose=choose, limit=limit)
    place = body or get_weights(_BODY)
    if not (place / "tokenizer.json").is_file():
        raise InputError(f"--body {place}: no folder of a BERT with its tokenizer.json")
    keep = checkpoint or cache_folder() / "checkpoints" / "lore-tagger-tiny"
    return Workshop(material, place, Encoder(place / "tokenizer.json", hints=hints), keep, device)


def main(
    data: Annotated[str, typer.Option(help="queryner:PATH, a folder with train and dev.")],
    out: Annotated[
        Path, typer.Option(help="Folder for model.onnx, tokenizer.json, config.json, metrics.json, README.md.")
    ] = Path("lore-tagger-tiny"),
    teachers: Annotated[int, typer.Option(min=0, help="Taggers of several seeds that teach one; 0: none.")] = 0,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="Queries without labels for the teachers to read; may be repeated.")
    ] = None,
    invented: Annotated[int, typer.Option(min=0, help="Rounds of train made up anew, for the teachers to read.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Short for --set epochs=N.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the recipe, of every fit; may be repeated.")
    ] = None,
    student: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, of the student's fit; may be repeated.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Longest time of one fit; 0: as its epochs take.")] = 0.0,
    choose: Annotated[
        bool, typer.Option("--choose", help="Fit on nine tenths of train, measure on the tenth; else whole and dev.")
    ] = False,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the tagger in --out; train nothing.")] = False,
    body: Annotated[
        Path | None, typer.Option(help=f"A BERT's folder; {_BODY} of the model table unless given.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of the checkpoints; the cache unless given.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    limit: Annotated[int | None, typer.Option(min=1, help="Queries of each part; to try the command out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train lore-tagger-tiny, or measure the one that is there.

    python -m jobs.train_tagger --data queryner:PATH --out OUT --teachers 3 --unlabelled queries.txt --student epochs=8

    A run that was killed goes on behind its last whole epoch with the same command.
    """
    before = time.monotonic()
    given = [*([f"epochs={epochs}"] if epochs else []), f"minutes={minutes}", *(settings or [])]
    recipe = settings_of(Recipe(), given)
    recipes = recipe, settings_of(recipe, student or [])
    shop = _open(data, body, checkpoint, device, choose, limit, recipe.hints)
    metrics = shop.measured(out) if evaluate else shop.made(out, teachers, unlabelled or [], invented, recipes)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    say(f"wrote {out} after {time.monotonic() - before:.0f} s")
    if for_people(as_json):
        print_table(_view(metrics))
    else:
        print_json(metrics)


def _view(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    from jobs.tagger.card import figure_rows

    view = Table("", "F1", "95 % interval", "precision", "recall", "spans", box=None)
    for row in figure_rows(metrics):
        view.add_row(*row)
    return view


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.train_tagger"))
