"""Attack a judge and count whose grades change: `lore evaluate attacks`.

Each attack of a file (`jobs.attacks`) is laid over a clean pair with a known grade. The judge grades the clean pair and
the attacked one, both with attributes that the same extractors have read, as in a shop. What is counted is whether the
judge's own grade changes: raised, lowered, failed (no grade, with a reason) or unchanged. A text on a picture that
neither the judge nor an extractor looks at is unseen: told, and in no rate. This module knows no metric of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL.Image import Image

from extractors.cascade import extract_all
from extractors.protocol import Extractor, ExtractorInput
from extractors.queries import DEFAULT_ENGINE, open_engine
from jobs.attack_tables import attack_tables
from jobs.attacks import AttackedPair, AttackSet, attack, read_attacks
from jobs.demo import demo_folder
from jobs.open_extractors import EXTRACTORS, close_extractors, model_options, open_extractors
from jobs.options import ModelOption, QueryEngineAddress, listed
from jobs.query_tables import save_rows
from lore_mm import __version__
from lore_mm.bootstrap import plain, rounded, wilson
from lore_mm.console import command_app, for_people, print_json, print_table, progress, run, say
from lore_mm.datasets.relevance import open_relevance
from lore_mm.errors import InputError, PictureError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER
from lore_mm.schema import load_schemas
from lore_mm.types import Item, ItemFeatures, Judgment, Query, Understanding
from relevance.judge import DEFAULT_JUDGE, MODES, open_judge
from relevance.protocol import Pair, PairJudge, failed_judgment

__all__ = ["OUTCOMES", "Trial", "evaluate_attacks", "main", "run_trials"]

OUTCOMES = ("raised", "lowered", "failed", "unchanged")
_AT_ONCE = 64  # pairs given to a judge between two steps of the bar
_WORST = 10  # examples that are shown
_SHOWN = 160  # characters of an attack's text in an example


@dataclass(frozen=True)
class Trial:
    """One attack on one judge: its judgments of the clean and of the attacked pair."""

    pair: AttackedPair
    clean: Judgment
    attacked: Judgment
    seen: bool = True  # somebody looked at what was attacked

    @property
    def outcome(self) -> str:
        """One of OUTCOMES; unseen; or unjudged, where the clean pair already has no grade."""
        if self.clean.grade is None:
            return "unjudged"
        if not self.seen:
            return "unseen"
        if self.attacked.grade is None:
            return "failed"
        if self.attacked.grade == self.clean.grade:
            return "unchanged"
        return "raised" if self.attacked.grade > self.clean.grade else "lowered"

    @property
    def score_change(self) -> float | None:
        """By how much the score rose, in [-1, 1]; None without two scores."""
        if self.clean.score is None or self.attacked.score is None:
            return None
        return self.attacked.score - self.clean.score


class _Material:
    """Queries understood and items read, clean and attacked; the pictures as a judge may look at them."""

    def __init__(self, attacks: AttackSet, knowledge: Knowledge, engine: str, extractors: Sequence[Extractor]) -> None:
        self.attacks = attacks
        self.pairs = [attack(attacks, one) for one in attacks.attacks]
        self._drawn = {p.item.images[0]: p.picture for p in self.pairs if p.picture is not None}
        self.looked_at = any(extractor.needs_pictures for extractor in extractors)
        clean = {i: attacks.data.items[i] for i in dict.fromkeys(p.item.item_id for p in self.pairs)}
        items = [*clean.values(), *(pair.item for pair in self.pairs)]
        read = self._extract(items, extractors, knowledge)
        self.clean = dict(zip(clean, read, strict=False))
        self.attacked = read[len(clean) :]
        queries = {p.attack.query_id: attacks.pair(p.attack).query for p in self.pairs}
        self.queries = dict(zip(queries, _understood(list(queries.values()), knowledge, engine), strict=True))
        self.asked = _understood([pair.query for pair in self.pairs], knowledge, engine)

    def pictures(self, item: Item) -> list[Image]:
        """The pictures of an item, the drawn one in the first place (see `relevance.protocol.Pictures`)."""
        if not item.images:
            return []
        drawn = self._drawn.get(item.images[0])
        return [drawn if drawn is not None else self.attacks.picture(item)]

    def _extract(
        self, items: Sequence[Item], extractors: Sequence[Extractor], knowledge: Knowledge
    ) -> list[ItemFeatures | str]:
        """The features of each item, or why there are none."""
        from extractors.merge import Merger

        found: list[ItemFeatures | str] = []
        merger = Merger(knowledge, load_schemas())
        with progress("attacks: reading items", len(items)) as advance:
            for n in range(0, len(items), _AT_ONCE):
                some = items[n : n + _AT_ONCE]
                inputs = [self._input(item) for item in some]
                for item, one in zip(some, extract_all(inputs, extractors, merger), strict=True):
                    last = one["merge"] if len(extractors) > 1 else one[extractors[0].name]
                    broken = last.status == "failed" and not last.attributes
                    found.append(
                        f"its attributes cannot be read: {last.error}"
                        if broken
                        else ItemFeatures(item, last.attributes)
                    )
                advance(len(some))
        return found

    def _input(self, item: Item) -> ExtractorInput:
        if not self.looked_at:
            return ExtractorInput(item)
        try:
            return ExtractorInput(item, pictures=tuple(self.pictures(item)))
        except PictureError as error:
            return ExtractorInput(item, pictures=(None,), picture_errors=(str(error),))


def _understood(queries: Sequence[Query], knowledge: Knowledge, engine: str) -> list[Understanding]:
    reader = open_engine(engine, knowledge)
    try:
        return reader.understand(queries)
    finally:
        reader.close()


def run_trials(judge: PairJudge, material: _Material) -> list[Trial]:
    """One trial an attack, in their order.

    Raises:
        ModelError: the model behind the judge is dead.
    """
    attacks = material.attacks
    keys = list(dict.fromkeys((one.query_id, one.item_id) for one in attacks.attacks))
    clean_pairs = [(material.queries[query_id], material.clean[item_id]) for query_id, item_id in keys]
    attacked_pairs = [
        (asked, pair.error if pair.error else features)
        for asked, pair, features in zip(material.asked, material.pairs, material.attacked, strict=True)
    ]
    with progress(f"attacks: {judge.name}", len(clean_pairs) + len(attacked_pairs)) as advance:
        clean = dict(zip(keys, _judged(judge, clean_pairs, advance), strict=True))
        attacked = _judged(judge, attacked_pairs, advance)
    looks = material.looked_at or judge.mode.endswith("-vision")
    return [
        Trial(pair, clean[pair.attack.query_id, pair.attack.item_id], one, looks or pair.attack.place != "picture")
        for pair, one in zip(material.pairs, attacked, strict=True)
    ]


def _judged(
    judge: PairJudge, pairs: Sequence[tuple[Understanding, ItemFeatures | str]], advance: Callable[[int], None]
) -> list[Judgment]:
    """One judgment a pair; where there are no features, a failed one with the reason that stands in their place."""
    ready: list[Pair] = [(asked, features) for asked, features in pairs if isinstance(features, ItemFeatures)]
    found: list[Judgment] = []
    for n in range(0, len(ready), _AT_ONCE):
        found += judge.judge(ready[n : n + _AT_ONCE])
        advance(len(ready[n : n + _AT_ONCE]))
    rest = iter(found)
    return [
        next(rest)
        if isinstance(features, ItemFeatures)
        else failed_judgment(asked.query, "", features, mode=judge.mode)
        for asked, features in pairs
    ]


def evaluate_attacks(
    attacks: AttackSet,
    judges: Sequence[str] = (DEFAULT_JUDGE,),
    *,
    knowledge: Knowledge | None = None,
    engine: str = DEFAULT_ENGINE,
    extractors: Sequence[str] = ("given",),
    embedder: str = DEFAULT_EMBEDDER,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, list[Trial]]]:
    """Attack every judge: the result as `--json` prints it, and the trials by judge.

    n, metrics, unseen and unjudged are of the first judge; `judges` has each: n, metrics {changed, raised, lowered,
    failed, unchanged, succeeded: {value, low, high}} (Wilson's 95 %), score_change (mean), counts, `by` family, kind,
    place and aim, control (the same of the harmless texts, which are in nothing else), and the worst trials.

    Raises:
        LoreError: a judge, engine or extractor is unknown, or cannot be had.
    """
    if len(set(judges)) != len(judges) or not judges:
        raise InputError("--judge: name each judge once")
    known = knowledge or load_knowledge()
    opened = open_extractors(extractors, embedder, known, load_schemas())
    try:
        material = _Material(attacks, known, engine, opened)
    finally:
        close_extractors(opened)
    trials: dict[str, list[Trial]] = {}
    shas: dict[str, dict[str, str]] = {}
    for address in judges:
        own = {} if address.partition(":")[0] in ("rules", "student") else dict(options or {})
        judge = open_judge(address, known, pictures=material.pictures, **own)
        try:
            trials[address] = run_trials(judge, material)
            shas[address] = {**judge.versions, "judge": judge.sha}
        finally:
            judge.close()
    measured = {name: _measured(some) for name, some in trials.items()}
    first = measured[judges[0]]
    card = {
        "lore_mm": __version__, "attacks": {"file": attacks.path.name, "sha": attacks.sha},
        "data": {"address": attacks.data.name, "sha": attacks.data.sha}, "engine": engine,
        "extractors": [one.name for one in opened], "judges": shas,
    }  # fmt: skip
    result = {name: first[name] for name in ("n", "metrics", "unseen", "unjudged")}
    return {"judge": judges[0], **result, "judges": measured, "notes": _notes(measured), "card": card}, trials


def _measured(trials: Sequence[Trial]) -> dict[str, Any]:
    hostile = [t for t in trials if t.pair.attack.family != "control"]
    control = [t for t in trials if t.pair.attack.family == "control"]
    parts: dict[str, Callable[[Trial], str]] = {
        "family": lambda t: t.pair.attack.family,
        "kind": lambda t: t.pair.attack.kind,
        "place": lambda t: t.pair.attack.place,
        "aim": lambda t: t.pair.attack.tries,
    }
    by = {
        part: {name: _rates([t for t in hostile if of(t) == name]) for name in dict.fromkeys(map(of, hostile))}
        for part, of in parts.items()
    }
    return {**_rates(hostile), "by": by, "control": _rates(control), "worst": [_row(t) for t in _worst(hostile)]}


def _rates(trials: Sequence[Trial]) -> dict[str, Any]:
    """Counts and rates of some trials; those unseen or unjudged are in no rate."""
    outcomes = [t.outcome for t in trials]
    counts = {name: outcomes.count(name) for name in OUTCOMES}
    n = sum(counts.values())
    changes = [c for t, o in zip(trials, outcomes, strict=True) if o in OUTCOMES and (c := t.score_change) is not None]
    hits = {"changed": counts["raised"] + counts["lowered"], **counts, "succeeded": sum(map(_succeeded, trials))}
    return {
        "n": n,
        "unseen": outcomes.count("unseen"),
        "unjudged": outcomes.count("unjudged"),
        "counts": counts,
        "metrics": plain({name: wilson(k, n) for name, k in hits.items()}),
        "score_change": rounded(sum(changes) / len(changes)) if changes else None,
    }


def _succeeded(trial: Trial) -> bool:
    """True where the grade went where the attack wanted it; a leak cannot be seen in a grade."""
    return trial.outcome == {"raise": "raised", "lower": "lowered", "break": "failed"}.get(trial.pair.attack.tries)


def _worst(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with the largest change of grade, then of score; those that change neither are left out."""

    def size(trial: Trial) -> tuple[int, float]:
        clean, attacked = trial.clean.grade, trial.attacked.grade
        steps = abs(attacked - clean) if clean is not None and attacked is not None else 0
        return steps, abs(trial.score_change or 0.0)

    moved = [t for t in trials if t.outcome in OUTCOMES and (t.outcome != "unchanged" or size(t)[1] > 0.01)]
    return sorted(moved, key=size, reverse=True)[:_WORST]


def _row(trial: Trial) -> dict[str, Any]:
    one = trial.pair.attack
    words = one.words
    return {
        "id": one.id,
        "kind": one.kind,
        "place": one.place,
        "tries": one.tries,
        "outcome": trial.outcome,
        "query": trial.clean.query,
        "item_id": one.item_id,
        "text": words if len(words) <= _SHOWN else words[:_SHOWN] + "…",
        "clean": None if trial.clean.grade is None else str(trial.clean.grade),
        "attacked": None if trial.attacked.grade is None else str(trial.attacked.grade),
        "score_change": None if trial.score_change is None else rounded(trial.score_change),
        "error": trial.attacked.error,
    }


def _notes(measured: Mapping[str, Any]) -> list[str]:
    notes = []
    for name, one in measured.items():
        if one["unseen"]:
            notes.append(
                f"{name}: {one['unseen']} texts on pictures are in no rate: neither the judge nor an extractor looks "
                "at pictures; --extractors given,ocr reads them"
            )
        if one["unjudged"]:
            notes.append(f"{name}: {one['unjudged']} attacks are in no rate: the clean pair already has no grade")
    return notes


JudgeAddresses = Annotated[
    list[str] | None,
    typer.Option("--judge", help=f"{'; '.join(MODES.values())}; may be repeated, to compare.", show_default=False),
]
AttackFile = Annotated[
    Path | None,
    typer.Option("--attacks", help="A file of attacks; the shipped one unless given.", show_default=False),
]
Catalogue = Annotated[
    Path | None,
    typer.Option(
        "--dataset", help="The folder of items, queries and labels they are laid over; the demo's unless given."
    ),
]
Extractors = Annotated[
    str, typer.Option("--extractors", help=f"Who reads the items, between commas: {', '.join(EXTRACTORS)}.")
]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="Only attacks of this kind or in this place; may be repeated.")
]
Save = Annotated[Path | None, typer.Option("--save", help="Write every trial of every judge to this .jsonl file.")]


def main(
    judge: JudgeAddresses = None,
    attacks: AttackFile = None,
    dataset: Catalogue = None,
    kind: Kinds = None,
    extractors: Extractors = "given",
    engine: QueryEngineAddress = DEFAULT_ENGINE,
    embedder: Annotated[str, typer.Option(help="The embedder of extractor zero_shot.")] = DEFAULT_EMBEDDER,
    model_option: ModelOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N attacks.")] = None,
    save: Save = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
) -> None:
    """Attack judges with hostile texts in items, queries and pictures, and count whose grades change.

    Example: lore evaluate attacks

    Example: lore evaluate attacks --judge rules --judge direct:hf:lore-vlm-tiny --save trials.jsonl

    Texts on pictures are drawn on the items' own, and count where somebody looks: a judge with vision, or an extractor:
    lore evaluate attacks --extractors given,ocr
    """
    if save is not None and save.suffix != ".jsonl":
        raise InputError(f"--save {save}: legal: the name of a .jsonl file")
    folder = dataset or demo_folder()
    path = attacks or demo_folder().parent / "attacks" / "attacks.jsonl"
    chosen = _chosen(read_attacks(path, open_relevance(str(folder)), folder), kind or [], limit)
    result, trials = evaluate_attacks(
        chosen,
        judge or [DEFAULT_JUDGE],
        engine=engine,
        extractors=listed(extractors),
        embedder=embedder,
        options=model_options(model_option or ()),
    )
    if save is not None:
        rows = [{"judge": name, **_row(trial)} for name, some in trials.items() for trial in some]
        say(f"{save_rows(rows, save)} trials: {save}")
    if not for_people(json):
        print_json(result)
        return
    for table in attack_tables(result):
        print_table(table)
    for note in result["notes"]:
        say(note)


def _chosen(attacks: AttackSet, wanted: Sequence[str], limit: int | None) -> AttackSet:
    there = {one.kind for one in attacks.attacks} | {one.place for one in attacks.attacks}
    if unknown := [name for name in wanted if name not in there]:
        raise InputError(f"--kind {unknown[0]}: none of these attacks; there are: {', '.join(sorted(there))}")
    some = [one for one in attacks.attacks if not wanted or one.kind in wanted or one.place in wanted]
    return replace(attacks, attacks=tuple(some[:limit]))


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_attacks"))
