"""Train lore-tagger-tiny on labelled queries, measure it, and write weights, figures and settings.

The parts: data reads, learner is the model, fit trains one, distil lets several teach one, graph and export write
ONNX, measure measures, card writes the table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.config import cache_folder
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of

if TYPE_CHECKING:
    from jobs.tagger.data import Example, Material
    from jobs.tagger.distil import LogProbabilities
    from jobs.tagger.fit import Recipe
    from jobs.tagger.learner import Encoded, Encoder, TaggerModel
    from lore_mm.models.query_tagger import QueryTagger

__all__ = ["main"]

_BODY = "all-minilm-l6-v2"


@dataclass(frozen=True)
class _Workshop:
    """What every fit of a run shares."""

    material: Material
    body: Path
    encoder: Encoder
    checkpoint: Path
    device: str

    def model(self, recipe: Recipe) -> TaggerModel:
        import torch

        from jobs.tagger.learner import TaggerModel

        torch.manual_seed(recipe.seed)
        labels = len(self.material.names)
        return TaggerModel.of_body(self.body, labels, hints=recipe.hints, dropout=recipe.dropout)

    def fit(self, rows: Sequence[Encoded], recipe: Recipe, label: str, extra: object, look: bool) -> TaggerModel:
        from jobs.tagger.distil import predict
        from jobs.tagger.fit import fit
        from jobs.tagger.measure import decode, span_f1
        from lore_mm.models.bio import Labels

        labels, test = Labels(self.material.names), self.material.test
        seen = self.encoder.encode(test)

        def f1(model: TaggerModel) -> float:
            return span_f1(decode(predict(model, seen, device=self.device), labels), test, labels)

        texts = [[one.text, one.labels] for one in self.material.train]
        identity = sha_of([texts, self.material.names, self.body.name, extra])
        place = self.checkpoint / label.replace(" ", "-")
        place.parent.mkdir(parents=True, exist_ok=True)
        model = self.model(recipe)
        return fit(
            model, rows, recipe, place, label=label, device=self.device, look=f1 if look else None, identity=identity
        )[0]


def _trained(
    shop: _Workshop, unlabelled: Sequence[Example], teachers: int, recipes: tuple[Recipe, Recipe], look: bool
) -> tuple[TaggerModel, dict[str, float]]:
    """The model to ship, and the F1 of those that taught it: a fit on the labels, or a student of several."""
    from jobs.tagger.distil import mean_of, predict
    from jobs.tagger.measure import decode, span_f1
    from lore_mm.models.bio import Labels

    rows = shop.encoder.encode(shop.material.train)
    recipe, student = recipes
    if not teachers:
        return shop.fit(rows, recipe, "tagger", None, look), {}
    others = shop.encoder.encode(unlabelled)
    labels, test = Labels(shop.material.names), shop.encoder.encode(shop.material.test)
    said: list[LogProbabilities] = []
    tested: list[LogProbabilities] = []
    for number in range(teachers):
        teacher = shop.fit(rows, replace(recipe, seed=recipe.seed + number), f"teacher {number}", None, look)
        said.append(predict(teacher, [*rows, *others], device=shop.device))
        tested.append(predict(teacher, test, device=shop.device))
        say(f"teacher {number} has read {len(rows) + len(others):,} queries")
    figures = {f"teacher_{i}": _f1(one, shop, labels) for i, one in enumerate(tested)}
    figures["together"] = span_f1(decode(mean_of(tested), labels), shop.material.test, labels)
    say("span F1: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    taught = [row.taught(s.astype("float16")) for row, s in zip([*rows, *others], mean_of(said), strict=True)]
    extra = [asdict(recipe), teachers, [one.text for one in unlabelled]]
    return shop.fit(taught, student, "student", extra, look), figures


def _f1(scores: LogProbabilities, shop: _Workshop, labels: Any) -> float:
    from jobs.tagger.measure import decode, span_f1

    return span_f1(decode(scores, labels), shop.material.test, labels)


def _exported(shop: _Workshop, model: TaggerModel, out: Path, levels: float) -> dict[str, Any]:
    """Write the model, measure float32 and int8 side by side; the figures."""
    import tempfile

    import numpy as np

    from jobs.tagger.distil import predict
    from jobs.tagger.export import export
    from jobs.tagger.measure import decode, measure
    from lore_mm.models.bio import Labels
    from lore_mm.models.query_tagger import open_tagger

    test, labels = shop.material.test, Labels(shop.material.names)
    torch_scores = predict(model.to("cpu"), shop.encoder.encode(test))
    with tempfile.TemporaryDirectory() as scratch:
        export(model, shop.encoder.tokenizer, shop.material.names, Path(scratch), weight_levels=None)
        whole = _scores(open_tagger(Path(scratch)), test)
    export(model, shop.encoder.tokenizer, shop.material.names, out, weight_levels=levels)
    scores = _scores(open_tagger(out), test)
    apart = max(float(np.abs(a - b).max()) for a, b in zip(torch_scores, whole, strict=True))
    figures = {"float32": measure(whole, test, labels), "int8": measure(scores, test, labels)}
    before, after = decode(whole, labels), decode(scores, labels)
    changed = sum(len(set(a) ^ set(b)) for a, b in zip(before, after, strict=True)) / 2
    lost = figures["float32"]["spans"]["f1"] - figures["int8"]["spans"]["f1"]
    return {
        "measured_on": shop.material.measured_on,
        **figures,
        "quantisation": {
            "f1_lost": round(lost, 4),
            "spans_changed": round(changed / max(1, sum(map(len, before))), 4),
            "weight_levels": levels,
        },
        "parity": {"largest_difference": apart},
        "bytes": (out / "model.onnx").stat().st_size,
    }


def _scores(tagger: QueryTagger, examples: Sequence[Example]) -> LogProbabilities:
    """A tagger's log-probabilities, a row a word of the examples.

    Raises:
        ModelError: it parts the words of a query in another way than the data do.
    """
    made = tagger.score([one.text for one in examples])
    for one, scored in zip(examples, made, strict=True):
        if tuple(scored.words) != one.words:
            raise ModelError(f"query {one.text!r}: its words are not parted by white space alone")
    return [scored.scores for scored in made]


def _measured(shop: _Workshop, out: Path) -> dict[str, Any]:
    """The figures of the tagger that is there; what only a training knows is kept."""
    from jobs.tagger.measure import measure
    from lore_mm.models.bio import Labels
    from lore_mm.models.query_tagger import open_tagger

    tagger, kept = open_tagger(out), out / "metrics.json"
    metrics = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    figures = measure(_scores(tagger, shop.material.test), shop.material.test, Labels(shop.material.names))
    return {**metrics, "measured_on": shop.material.measured_on, "int8": figures}


def main(
    data: Annotated[str, typer.Option(help="queryner:PATH, a folder with train and dev.")],
    out: Annotated[
        Path, typer.Option(help="Folder for model.onnx, tokenizer.json, config.json, metrics.json, README.md.")
    ] = Path("lore-tagger-tiny"),
    teachers: Annotated[int, typer.Option(min=0, help="Taggers of several seeds that teach one; 0: none.")] = 0,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="Queries without labels for the teachers to read; may be repeated.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Short for --set epochs=N.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the recipe, of every fit; may be repeated.")
    ] = None,
    student: Annotated[
        list[str] | None, typer.Option("--student", help="NAME=VALUE, of the student's fit only; may be repeated.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Longest time of one fit; 0: as its epochs take.")] = 0.0,
    choose: Annotated[
        bool, typer.Option("--choose", help="Fit on nine tenths of train, measure on the tenth; else whole and dev.")
    ] = False,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the tagger in --out; train nothing.")] = False,
    body: Annotated[
        Path | None, typer.Option(help=f"A BERT's folder; {_BODY} of the model table unless given.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoints; in the cache unless given.")
    ] = None,
    weight_levels: Annotated[int, typer.Option(min=1, max=127, help="Largest int8 weight.")] = 127,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    limit: Annotated[int | None, typer.Option(min=1, help="Queries of each part; to try the command out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train lore-tagger-tiny, or measure the one that is there.

    python -m jobs.train_tagger --data queryner:PATH --out OUT --teachers 3 --unlabelled queries.txt --student epochs=8

    A run that was killed goes on behind its last whole epoch with the same command.
    """
    before = time.monotonic()
    try:
        from lore_mm.models.torchvision_cpu import install

        install()
        from jobs.tagger.data import read_material, read_unlabelled
        from jobs.tagger.fit import Recipe, recipe_of
        from jobs.tagger.learner import Encoder
        from lore_mm.models.weights import get_weights
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "train") from None
    material = read_material(data, choose=choose, limit=limit)
    given = [*([f"epochs={epochs}"] if epochs else []), f"minutes={minutes}", *(settings or [])]
    recipe = recipe_of(Recipe(), given)
    recipes = recipe, recipe_of(recipe, student or [])
    others = read_unlabelled(unlabelled or [], [*material.train, *material.test])
    say(
        f"{len(material.train):,} queries to learn from, {len(others):,} without labels, {len(material.test):,} to test"
    )
    place = body or get_weights(_BODY)
    encoder = Encoder(place / "tokenizer.json", hints=recipe.hints)
    keep = checkpoint or cache_folder() / "checkpoints" / "lore-tagger-tiny"
    shop = _Workshop(material, place, encoder, keep, device)
    if evaluate:
        metrics = _measured(shop, out)
    else:
        model, taught = _trained(shop, others, teachers, recipes, look=choose)
        metrics = _exported(shop, model, out, float(weight_levels))
        metrics["training"] = {"recipe": asdict(recipe), "teachers": teachers, "taught": taught}
        metrics["training"] |= {"student": asdict(recipes[1])} if teachers else {}
        metrics["training"] |= {"queries": len(material.train), "unlabelled": len(others)}
        metrics["training"]["seconds"] = round(time.monotonic() - before)
        from jobs.tagger.card import update_card

        update_card(out / "README.md", metrics)
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
