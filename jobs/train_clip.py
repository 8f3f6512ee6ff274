"""Train the heads of lore-clip-tiny on photos with captions, measure them, and write weights, figures and settings.

Only the two small heads are trained; the towers' features are made once and kept, so that a fit takes seconds on a CPU.
The parts: clip_data reads, clip_features runs the towers, clip_workshop holds out, clip_fit fits, clip_bench measures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.clip.card import figure_rows, update_card
from jobs.clip.data import read_clothing, read_demo, read_grocery, read_luma
from lore_mm.config import cache_folder
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from jobs.clip.fit import Recipe
    from jobs.clip.workshop import Workshop
    from lore_mm.models.clip_tiny import ImageHead, TextHead

__all__ = ["main"]


def _over_splits(shop: Workshop, splits: int, recipe: Recipe) -> dict[str, Any]:
    """The means of the groceries' figures over fits on several class splits."""
    from jobs.clip.bench import Bench
    from jobs.clip.measure import mean_over_splits

    figures = []
    for split in range(splits):
        figures.append(Bench(shop, *shop.fit(split, recipe), split).groceries())
        say(f"split {split}: unseen classes {figures[-1]['unseen_by_name_and_kind']['value']:.3f}")
    made = {}
    for key in figures[0]:
        rows = [f[key] for f in figures if isinstance(f[key], dict)]
        if len(rows) == splits:
            made[key] = mean_over_splits([row["value"] for row in rows], rows[0]["chance"])
    return made


def _save(folder: Path, image: ImageHead, text: TextHead, calibration: Mapping[str, Mapping[str, float]]) -> None:
    from safetensors.torch import save_file

    from lore_mm.models.clip_tiny import read_settings

    settings = read_settings()
    kept = {k: v for k, v in image.state_dict().items() if not k.startswith("classifier.")}
    tensors = {f"image.{k}": v for k, v in kept.items()} | {f"text.{k}": v for k, v in text.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "heads.safetensors")
    (folder / "heads.safetensors").chmod(0o644)
    scales = {name: {key: row[key] for key in ("temperature", "threshold")} for name, row in calibration.items()}
    settings |= {"temperature": scales.pop("all")["temperature"], "calibration": scales}
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main(
    grocery: Annotated[Path | None, typer.Option(help="Grocery photos: train.parquet, val.parquet.")] = None,
    iconic: Annotated[Path | None, typer.Option(help="Grocery names and descriptions: items.jsonl.")] = None,
    clothing: Annotated[Path | None, typer.Option(help="Clothing photos: items.parquet.")] = None,
    luma: Annotated[Path | None, typer.Option(help="Luma catalogue: items.jsonl and images.")] = None,
    demo: Annotated[Path | None, typer.Option(help="A catalogue to measure on, never trained on: items.jsonl.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for heads.safetensors, config.json, metrics.json and the card's tables.")
    ] = Path("lore-clip-tiny"),
    features: Annotated[
        Path | None, typer.Option(help="Where tower features are kept; the cache unless given.")
    ] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the shipped heads; write nothing.")] = False,
    splits: Annotated[int, typer.Option(min=0, help="Class splits to fit and measure for the mean over splits.")] = 10,
    steps: Annotated[int, typer.Option(min=0, help="Contrastive steps after the ridge.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the fit.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train the heads of lore-clip-tiny, or measure those that are shipped.

    python -m jobs.train_clip --grocery grocery_photos --iconic grocery_iconic --clothing clothing --luma luma

    Features are made once (minutes) and kept; a killed run goes on where it was. A fit takes seconds.
    """
    before = time.monotonic()
    sets = [read_grocery(grocery, iconic or grocery)] if grocery else []
    others = ((read_clothing, clothing), (read_luma, luma), (read_demo, demo))
    sets += [read(folder) for read, folder in others if folder]
    if not [one for one in sets if one.name != "demo"]:
        raise InputError("nothing to train on: give --grocery with --iconic, --clothing or --luma")
    try:
        from lore_mm.models.torchvision_cpu import install

        install()
        from jobs.clip.bench import Bench
        from jobs.clip.features import Towers
        from jobs.clip.fit import Recipe
        from jobs.clip.workshop import SET_WEIGHTS, Workshop
        from lore_mm.models.clip_tiny import load_own_heads
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "cpu") from None
    shop = Workshop(sets, Towers(features or cache_folder() / "features"))
    say(f"features of {sum(len(s.photos) for s in sets)} photos after {time.monotonic() - before:.0f} s")
    recipe = Recipe(steps=steps, seed=seed)
    image, text = load_own_heads() if evaluate else shop.fit(0, recipe)
    bench = Bench(shop, image, text, 0)
    metrics = {"split": 0, **bench.figures(), "calibration": bench.calibration()}
    if splits and "grocery" in shop.sets:
        metrics["over_splits"] = _over_splits(shop, splits, recipe)
    if not evaluate:
        metrics["recipe"] = asdict(recipe) | {"weights": SET_WEIGHTS}
        _save(out, image, text, metrics["calibration"])
        (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        update_card(out / "README.md", metrics)
        say(f"wrote {out} after {time.monotonic() - before:.0f} s")
    if for_people(as_json):
        print_table(_view(metrics))
    else:
        print_json(metrics)


def _view(metrics: Mapping[str, Any]) -> Any:
    from rich.table import Table

    view = Table("figure", "value", "95 % interval", "chance", "n", box=None)
    for row in figure_rows(metrics):
        view.add_row(*row)
    return view


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.train_clip"))
