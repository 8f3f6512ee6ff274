"""`lore distil`: two small students of a judge, by sentence-transformers' trainers.

What they learn from is a teacher's judgments with their probabilities and paths, of a store or of files; the parts are
`relevance.training.distil_*`. `main` alone opens a store and writes ONNX.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, MissingExtraError, StoreError
from relevance.training.distil_config import CONFIG, DistilConfig
from relevance.training.distil_rows import Taught, TaughtPair, item_texts, labels_of, read_judgments, split, taught

if TYPE_CHECKING:
    from stores.snapshot import Snapshot

__all__ = ["main"]

_MODULES = ("torch", "transformers", "safetensors", "accelerate", "datasets", "sentence_transformers")
_AT_ONCE = 4096


def main(
    config: Annotated[Path, typer.Option(help="A TOML file of settings; the shipped one unless given.")] = CONFIG,
    judgments: Annotated[
        list[Path] | None,
        typer.Option(
            help="Judgments, as `lore judge --json` prints them or as Parquet; those of the store if left out."
        ),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="The catalogue that has the items' texts; the store if left out.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="People's grades: query_id, item_id, grade; those of the store if there are any."),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="The teacher, where several modes judged: rules, direct …")] = None,
    store: Annotated[str | None, typer.Option(help="The store's address; the default one if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the students, their figures and their card.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over the file, such as cross_encoder.epochs=5; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Distil a judge into a cross-encoder and a bi-encoder, and measure both on held-out queries.

    Example: lore judge-pairs --top 20 && lore distil --out students

    Example: lore distil --judgments judgments.jsonl --items items.jsonl --labels labels.jsonl --out students

    OUT/student is the cross-encoder for `lore judge --judge student:OUT/student`, `sentence:OUT/bi_encoder` the address
    of the bi-encoder as an embedder of texts. A run that was killed goes on with the same command.
    """
    began = time.monotonic()
    given = [*(f"{name}={json.dumps(str(one))}" for name, one in _named(items, labels, mode)), *(settings or [])]
    if judgments:
        given.append(f"judgments={json.dumps([str(path) for path in judgments])}")
    plan = _config(config, given, out)
    found = _taught(plan, store)
    say(", ".join(f"{n:,} {name}" for name, n in found.counts.items()))
    body = _body(plan)
    from relevance.training.distil_card import view, write_card
    from relevance.training.distil_run import distil

    metrics, place = distil(plan, found, body), Path(plan.out)
    if "cross_encoder" in plan.students and find_spec("onnx") is not None:
        metrics |= _export(place, plan, found)
    (place / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    write_card(place, metrics)
    say(f"wrote {place} after {time.monotonic() - began:.0f} s")
    if for_people(as_json):
        print_table(view(metrics))
    else:
        print_json(metrics)


def _named(items: Path | None, labels: Path | None, mode: str | None) -> Iterator[tuple[str, object]]:
    for name, one in (("items", items), ("labels", labels), ("mode", mode)):
        if one is not None:
            yield name, one


def _config(path: Path, settings: list[str], out: Path | None) -> DistilConfig:
    from relevance.training.config import load_config

    return load_config(DistilConfig, path, settings, None if out is None else str(out))  # type: ignore[type-var]


def _taught(config: DistilConfig, store: str | None) -> Taught:
    """What the judgments teach: of files with the texts of a catalogue, or of a store."""
    if config.judgments and config.items:
        labels = labels_of(config.labels) if config.labels else {}
        return taught(read_judgments(config.judgments), item_texts(config.items), labels, mode=config.mode)
    if config.judgments and store is None:
        raise InputError("judgments of files have no texts of items: name the catalogue by --items, or its --store")
    return _taught_by_store(config, store)


def _taught_by_store(config: DistilConfig, address: str | None) -> Taught:
    """Judgments of the store, unless files are named, with the store's texts and labels."""
    from lore_mm.config import default_store
    from relevance.pair_text import item_text, query_text
    from stores.features import open_store
    from stores.snapshot import Snapshot

    snapshot = Snapshot(open_store(address or default_store()))
    if config.judgments:
        rows = list(read_judgments(config.judgments))
    else:
        rows = list(_stored(snapshot))
    ids = list(dict.fromkeys(row["item_id"] for _, row in rows if isinstance(row.get("item_id"), str)))
    features = zip(ids, snapshot.get(ids), strict=True)
    items = item_texts(config.items) if config.items else {i: item_text(one) for i, one in features if one is not None}
    typed = list(dict.fromkeys(row["query"] for _, row in rows if isinstance(row.get("query"), str)))
    read = zip(typed, snapshot.understood(typed), strict=True)
    queries = {text: query_text(one) for text, one in read if one is not None}
    if config.labels:
        labels = labels_of(config.labels)
    elif "labels" in snapshot.versions:
        stored = snapshot.store.batches("labels", None, snapshot.versions["labels"], _AT_ONCE, latest=True)
        labels = labels_of(row for batch in stored for row in batch.to_pylist())
    else:
        labels = {}
    return taught(iter(rows), items, labels, mode=config.mode, queries=queries)


def _stored(snapshot: Snapshot) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "judgments" not in snapshot.versions:
        raise StoreError(f"no judgments in {snapshot.store.uri} yet: lore judge-pairs --top 20")
    version = snapshot.versions["judgments"]
    number = 0
    for batch in snapshot.store.batches("judgments", None, version, _AT_ONCE, latest=True):
        for row in batch.to_pylist():
            number += 1
            yield f"{snapshot.store.uri}, judgments, row {number}", row


def _body(config: DistilConfig) -> Path:
    """The folder of the body, fetched where it is a name of the model table.

    Raises:
        MissingExtraError: what trains is not installed.
        ModelError: there is no such model.
    """
    for module in _MODULES:
        if find_spec(module) is None:
            raise MissingExtraError(module, "train")
    from lore_mm.models.torchvision_cpu import install
    from lore_mm.models.weights import get_weights

    install()
    folder = Path(config.body)
    return folder if folder.is_dir() else get_weights(config.body)


def _export(place: Path, config: DistilConfig, found: Taught) -> dict[str, Any]:
    """The cross-encoder as OUT/student, and what int8 changes where onnxruntime is there to tell."""
    from jobs.distilled_student import export_distilled
    from lore_mm.errors import ModelError
    from lore_mm.models.cross_encoder import query_mark
    from lore_mm.models.pair_pieces import MOST_PIECES
    from relevance.training.distil_run import open_cross_encoder as opened

    model, folder = opened(place / "cross_encoder"), place / "student"
    learnt, tell = split(found.pairs, config.held_out, config.seed)
    try:
        export_distilled(model, folder, training_queries=[query_mark(pair.query) for pair in learnt])
    except ModelError as error:
        say(f"no student/: {error}")
        return {}
    if config.max_length > MOST_PIECES:
        say(f"student/ reads {MOST_PIECES} pieces of a pair, and cuts the item of a longer one")
    told: dict[str, Any] = {"bytes": (folder / "model.onnx").stat().st_size}
    if find_spec("onnxruntime") is not None:
        told["grades_changed"] = _changed(model, folder, tell)
    return {"onnx": told}


def _changed(model: Any, folder: Path, pairs: Sequence[TaughtPair]) -> float:
    """The share of pairs that the cross-encoder in int8 grades otherwise."""
    import numpy as np

    from lore_mm.models.cross_encoder import open_cross_encoder
    from relevance.training.distil_measure import by_cross_encoder

    student = open_cross_encoder(folder)
    features = np.zeros((len(pairs), len(student.settings.features)), dtype=np.float32)
    levels = 1 + student.score([(pair.query, pair.item) for pair in pairs], features).argmax(axis=1)
    return float((levels != by_cross_encoder(model, pairs).grades).mean())


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.distil"))
