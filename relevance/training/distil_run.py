"""A whole distillation: both students fitted, kept, opened again from what was kept, and measured.

OUT/cross_encoder and OUT/bi_encoder are folders of sentence-transformers; beside their files lies distil.json, which
says what they are, and with the bi-encoder the heads on its pairs. A student that is whole is not trained again.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lore_mm.console import say
from lore_mm.errors import ConfigError, InputError, ModelError, PlanError
from lore_mm.fingerprint import sha_of, sha_of_file
from lore_mm.models.pair_pieces import MOST_QUERY_PIECES
from relevance.training.distil_config import DistilConfig, Student, moving
from relevance.training.distil_fit import HEADS, Plan, Run, fit
from relevance.training.distil_measure import (
    Told,
    by_bi_encoder,
    by_cross_encoder,
    constant,
    cosines,
    measured,
    untrained,
)
from relevance.training.distil_models import BiLoss, CrossLoss, PairHeads, Weights, bi_encoder, cross_encoder
from relevance.training.distil_rows import Taught, TaughtPair, dimensions, split

__all__ = ["MANIFEST", "distil", "open_bi_encoder", "open_cross_encoder"]

MANIFEST = "distil.json"
_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def distil(config: DistilConfig, taught: Taught, body: Path) -> dict[str, Any]:
    """Train the students of a config on what was taught, on the body of a folder; the figures, as JSON.

    Raises:
        InputError, ConfigError: there is too little to learn from, or the body cannot read such pairs.
        PlanError: OUT holds another run.
        ModelError: the body cannot be opened, or a loss is no number.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with _quiet():
        pairs, counts = _short(taught, body, config.max_length)
        learn, tell = split(pairs, config.held_out, config.seed)
        say(f"{len(learn):,} pairs to learn from, {len(tell):,} of other queries to measure on")
        device = _device(config.device)
        systems: dict[str, Told] = {"one_grade": constant([p.grade for p in learn], len(tell))}
        if "bi_encoder" in config.students:
            systems["untrained_cosine"] = _before(config, body, learn, tell)
        for student in config.students:
            place = _student(config, student, learn, body)
            if student == "cross_encoder":
                systems["cross_encoder"] = by_cross_encoder(open_cross_encoder(place, device), tell)
            else:
                by_cosine, by_head = by_bi_encoder(*open_bi_encoder(place, device), tell)
                systems |= {"bi_encoder": by_cosine, "bi_encoder_head": by_head}
    return {
        "teachers": list(taught.teachers),
        "counts": {**counts, "learnt_from": len(learn), "held_out": len(tell)},
        "grades": {f"L{grade}": n for grade, n in sorted(Counter(p.grade for p in learn).items())},
        "body": {"name": config.body, "sha": _body_sha(body)},
        "settings": config.model_dump(mode="json", exclude={"out", "judgments", "items", "labels"}),
        "held_out": measured(systems, tell, config.resamples),
    }


def open_cross_encoder(folder: Path, device: str = "cpu") -> Any:
    """The CrossEncoder that was kept in a folder.

    Raises:
        ModelError: it cannot be opened.
    """
    from sentence_transformers import CrossEncoder

    return _opened(CrossEncoder, folder, device)


def open_bi_encoder(folder: Path, device: str = "cpu") -> tuple[Any, PairHeads]:
    """The SentenceTransformer that was kept in a folder, and the heads on its pairs (on the CPU).

    Raises:
        ModelError: it cannot be opened.
    """
    from sentence_transformers import SentenceTransformer

    model = _opened(SentenceTransformer, folder, device)
    heads = PairHeads(model.get_embedding_dimension())
    try:
        heads.load_state_dict(load_file(folder / HEADS))
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{folder / HEADS} cannot be read ({str(error).splitlines()[0][:160]})") from None
    return model, heads.eval()


def _opened(kind: Any, folder: Path, device: str) -> Any:
    try:
        with _quiet():
            return kind(str(folder), device=device, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the loader raises whatever it meets in a folder
        said = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"{folder} cannot be opened ({type(error).__name__}: {said})") from None


def _student(config: DistilConfig, student: Student, learn: Sequence[TaughtPair], body: Path) -> Path:
    """The folder of a student, trained first where it is not there whole."""
    place = Path(config.out) / student
    plan = _plan(config, student, learn, body)
    if (place / MANIFEST).is_file():
        kept = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["plan"]
        if other := [name for name, sha in plan.items() if kept.get(name) != sha]:
            raise PlanError(f"{place} is of another run ({', '.join(other)} differ): name another --out, or remove it")
        say(f"{student}: is there already")
        return place
    device = _device(config.device)
    torch.manual_seed(config.seed)
    weights = Weights(config.label, config.alpha, config.gamma)
    settings = getattr(config, student)
    run = Run(student, settings, plan, Path(config.out), config.seed, device, config.log_every, config.save_every)
    heads: PairHeads | None = None
    if student == "cross_encoder":
        model = cross_encoder(body, config.max_length, device)
        fit(model, CrossLoss(model, weights), learn, run)
    else:
        model = bi_encoder(body, config.max_length, device)
        heads = PairHeads(model.get_embedding_dimension())
        fit(model, BiLoss(model, heads, weights), learn, run, heads)
    _keep(model, heads, place, {"student": student, "plan": dict(plan), "body": config.body, **_about(config)})
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    with suppress(OSError):  # the other student's may be there
        run.checkpoints.parent.rmdir()
    return place


def _keep(model: Any, heads: PairHeads | None, place: Path, manifest: dict[str, Any]) -> None:
    """Write a student beside its place, then put it there."""
    scratch = place.with_name(f"{place.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(str(scratch), create_model_card=False)
    if heads is not None:
        heads = heads.cpu()
        slope, cuts = (part.detach().tolist() for part in heads.ordinal())
        manifest["cosine"] = {"slope": slope, "cuts": cuts}
        save_file({name: one.detach().contiguous() for name, one in heads.state_dict().items()}, scratch / HEADS)
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)


def _about(config: DistilConfig) -> dict[str, Any]:
    loss = {"label": config.label, "alpha": config.alpha, "gamma": config.gamma}
    return {"dimensions": list(dimensions()), "max_length": config.max_length, "loss": loss}


def _before(config: DistilConfig, body: Path, learn: Sequence[TaughtPair], tell: Sequence[TaughtPair]) -> Told:
    """The cosine of the body as it is."""
    model = bi_encoder(body, config.max_length, _device(config.device))
    return untrained(cosines(model, learn), [pair.grade for pair in learn], cosines(model, tell))


def _short(taught: Taught, body: Path, most: int) -> tuple[list[TaughtPair], Mapping[str, int]]:
    """The pairs that are read whole, and the counts with those that are not; nothing is cut.

    Raises:
        ConfigError: the body does not read so many pieces.
        InputError: nothing is left.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(body), trust_remote_code=False)
        places = int(AutoConfig.from_pretrained(str(body), trust_remote_code=False).max_position_embeddings)
    except Exception as error:  # the loader raises whatever it meets in a folder
        said = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"{body} cannot be opened as a body ({type(error).__name__}: {said})") from None
    if most > places:
        raise ConfigError(f"max_length {most}: {body.name} reads at most {places} pieces")
    queries, items = [pair.query for pair in taught.pairs], [pair.item for pair in taught.pairs]
    asked = tokenizer(queries, add_special_tokens=False)["input_ids"]
    whole = tokenizer(queries, items)["input_ids"]
    kept = [
        pair
        for pair, query, both in zip(taught.pairs, asked, whole, strict=True)
        if len(both) <= most and len(query) <= MOST_QUERY_PIECES
    ]
    if not kept:
        raise InputError(f"every pair is longer than max_length {most}")
    if (lost := len(taught.pairs) - len(kept)) > 0:
        say(f"{lost:,} pairs are longer than {most} pieces (a query than {MOST_QUERY_PIECES}) and left out")
    return kept, {**taught.counts, "too long": lost}


def _plan(config: DistilConfig, student: Student, learn: Sequence[TaughtPair], body: Path) -> Plan:
    rows = [[p.query, p.item, *p.likely, p.label, *p.levels] for p in learn]
    return {"body": _body_sha(body), "judgments": sha_of(rows), "settings": sha_of(dict(moving(config, student)))}


def _body_sha(folder: Path) -> str:
    return sha_of([sha_of_file(folder / name) for name in _FILES if (folder / name).is_file()])


def _device(named: str) -> str:
    if named != "auto":
        return named
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading and saving say nothing; errors are raised."""
    from datasets import utils as sets
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
            sets.enable_progress_bars()
