"""Train lore-student-tiny: a reader taught by made-up pairs, trees grown on judged ones; measure it, write it.

The parts: kinds reads what a catalogue's products are; from_catalogue, from_queries and from_tables make lessons of
what is known for certain; learner is the reader (jobs.fitting fits it), forest the trees on its word and the path's
features; material reads judged sets, validate measures on queries that were not seen, graph and export write ONNX,
card writes the table, workshop puts all together.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.demo import demo_folder
from jobs.schedule import settings_of
from jobs.student.forest import Growing
from lore_mm.config import cache_folder
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.datasets.relevance import Wanted, open_relevance
from lore_mm.errors import InputError, MissingExtraError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models.weights import get_weights

if TYPE_CHECKING:
    from jobs.student.lessons import Lesson
    from jobs.student.material import Judged
    from jobs.student.workshop import Workshop

__all__ = ["main"]

_BODY = "all-minilm-l6-v2"


def _open(body: Path | None, checkpoint: Path | None, device: str) -> Workshop:
    """The body's tokenizer, and where checkpoints are kept.

    Raises:
        MissingExtraError: torch, transformers, tokenizers, onnx or scikit-learn is not installed.
    """
    for module in ("torch", "transformers", "safetensors", "onnx", "onnxruntime", "tokenizers", "sklearn"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "train,tagger,calibrate")
    from lore_mm.models.torchvision_cpu import install

    install()
    from jobs.student.workshop import Workshop
    from lore_mm.models.pair_pieces import PairReader

    place = body or get_weights(_BODY)
    path = place / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"--body {place}: no folder of a BERT with its tokenizer.json")
    keep = checkpoint or cache_folder() / "checkpoints" / "lore-student-tiny"
    return Workshop(place, PairReader(path.read_bytes(), path), path.read_bytes(), keep, device)


def main(
    catalogue: Annotated[Path, typer.Option(help="A Chorus folder: its products.parquet makes lessons.")],
    queries: Annotated[Path, typer.Option(help="A QueryNER folder: its train split makes lessons.")],
    judged: Annotated[
        list[str], typer.Option(help="SET=LICENCE, a graded set as --dataset takes it, or demo; may be repeated.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for model.onnx, tokenizer.json, config.json, metrics.json, README.md.")
    ] = Path("lore-student-tiny"),
    lessons: Annotated[str, typer.Option(help="Lessons of the catalogue, the queries and the tables.")] = (
        "30000,12000,4000"
    ),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the reader's schedule; may be repeated.")
    ] = None,
    trees: Annotated[int, typer.Option(min=1, help="Trees that vote.")] = 80,
    plain: Annotated[
        bool, typer.Option("--plain", help="Measure a plain cross-encoder in the same folds too: minutes a fold.")
    ] = False,
    embedder: Annotated[str, typer.Option(help="Whose cosine is measured beside.")] = f"sentence:{_BODY}",
    body: Annotated[
        Path | None, typer.Option(help=f"A BERT's folder; {_BODY} of the model table unless given.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of the checkpoints; the cache unless given.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the lessons.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Train the model of mode student, measure it on held-out queries, and write it with its card.

    python -m jobs.train_student --catalogue CHORUS --queries QNER --judged chorus:CHORUS=Apache-2.0 --judged demo=MIT

    A run that was killed goes on behind the reader's last whole epoch with the same command.
    """
    from jobs.student.card import write_card
    from lore_mm.models.cross_encoder import EncoderSettings

    before = time.monotonic()
    counts, named = _counts(lessons), _named(judged)
    shop, knowledge = _open(body, checkpoint, device), load_knowledge()
    from jobs.student.workshop import READER, made_lessons

    schedule = settings_of(READER, settings or [])
    made = made_lessons(catalogue, queries, knowledge, counts, seed)
    say(f"{len(made):,} lessons: " + ", ".join(f"{n:,} {name}" for name, n in _standings(made)))
    model = shop.taught(made, schedule)
    sets, licences = _judged(named, knowledge)
    metrics = shop.made(model, sets, licences, Growing(trees=trees), out, embedder, plain=plain)
    metrics |= _told(sets, licences, counts)
    metrics["training"] |= {"lessons": list(counts), "seconds": round(time.monotonic() - before), **asdict(schedule)}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    config = EncoderSettings.model_validate_json((out / "config.json").read_bytes())
    write_card(out, metrics, config)
    say(f"wrote {out} after {time.monotonic() - before:.0f} s")
    if for_people(as_json):
        print_table(_view(metrics))
    else:
        print_json(metrics)


def _named(addresses: list[str]) -> list[tuple[str, str]]:
    """(set, licence) of each SET=LICENCE."""
    found = []
    for address in addresses:
        name, _, licence = address.rpartition("=")
        if not name or not licence:
            raise InputError(f"--judged {address!r}: legal is SET=LICENCE, such as demo=MIT")
        found.append((name, licence))
    return found


def _judged(named: list[tuple[str, str]], knowledge: Knowledge) -> tuple[list[Judged], dict[str, str]]:
    """The graded sets, and set → licence."""
    from jobs.student.material import read_judged

    sets, licences = [], {}
    for name, licence in named:
        data = open_relevance(str(demo_folder()) if name == "demo" else name, Wanted())
        kind = name.partition(":")[0]
        sets.append(read_judged(kind, data, knowledge))
        licences[kind] = licence
    return sets, licences


def _counts(text: str) -> tuple[int, int, int]:
    try:
        one, two, three = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--lessons {text!r}: legal are three counts, such as 30000,12000,4000") from None
    return one, two, three


def _standings(made: list[Lesson]) -> list[tuple[str, int]]:
    return Counter(str(one.standing) for one in made).most_common()


def _told(sets: list[Judged], licences: dict[str, str], counts: tuple[int, int, int]) -> dict[str, Any]:
    """What the card says of body and data."""
    sources = ("Icecat catalogue of Chorus", "QueryNER, train", "this project's knowledge tables")
    lessons = [
        {"set": name, "used_as": "lessons", "licence": licence, "pairs": count, "queries": None}
        for name, licence, count in zip(sources, ("Icecat open content", "MIT", "Apache-2.0"), counts, strict=True)
    ]
    judged = [
        {
            "set": name,
            "used_as": "judgments",
            "licence": licence,
            "pairs": len(one.levels),
            "queries": len(set(one.queries)),
        }
        for (name, licence), one in zip(licences.items(), sets, strict=True)
    ]
    body = {"name": _BODY, "layers": 6, "width": 384, "licence": "Apache-2.0"}
    return {"body": body, "trained_on": [*lessons, *judged]}


def _view(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    view = Table("set", "system", "kappa", "95 % interval", "acc@2", "AUC", "nDCG@10", box=None)
    for part in metrics["measured"]:
        for name, found in part["systems"].items():
            figures = found["metrics"]
            kappa = figures["quadratic_kappa"]
            cells = [f"{figures[one]['value']:.3f}" for one in ("acc_2", "auc", "ndcg_10")]
            view.add_row(part["set"], name, f"{kappa['value']:.3f}", f"{kappa['low']:.3f}–{kappa['high']:.3f}", *cells)
    return view


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.train_student"))
