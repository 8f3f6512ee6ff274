"""What a trained lore-vlm-tiny knows of subjects it never saw, beside what needs no training and what needs no picture.

One question an attribute, and a reply counts only if greedy decoding, free of any constraint, gives exactly the right
one: harder than in use, where the decoder is held to legal values. Beside it, over the same subjects: the same model
without the picture, with another subject's picture, the zero-shot embedder choosing among the values that occur, and
the commonest value of the training part. This module knows nothing of training.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.vlm.fit import Seen
from jobs.vlm.instructions import Instruction, compact_prompt, reply_of
from jobs.vlm.learner import Example, Learner
from jobs.vlm.subjects import Answer, Subject
from lore_mm.bootstrap import Draws, estimate
from lore_mm.console import progress
from lore_mm.images import decode_picture
from lore_mm.knowledge import load_knowledge
from lore_mm.models import Embedder

__all__ = ["SYSTEMS", "measure"]

SYSTEMS = ("picture", "picture and title", "text only", "shuffled", "zero_shot", "majority")
_RESAMPLES = 1000
_LEAST = 15  # subjects; fewer tell nothing


def measure(learner: Learner, seen: Seen, embedder: Embedder | None, limit: int, seed: int = 0) -> dict[str, Any]:
    """By source and attribute: source → attribute → {n, values, systems: {name: {value, low, high}}} on the test part.

    `limit`: at most so many subjects of a source, drawn at random. Intervals are 95 % bootstraps over groups.
    """
    train, test = seen.part("train"), seen.part("test")
    found: dict[str, Any] = {}
    for source in dict.fromkeys(s.source for s in test.subjects):
        places = [i for i, s in enumerate(test.subjects) if s.source == source]
        places = sorted(random.Random(seed).sample(places, min(limit, len(places))))
        subjects = [test.subjects[i] for i in places]
        known = [s for s in train.subjects if s.source == source]
        vectors = _vectors(embedder, subjects)
        names = dict.fromkeys(name for s in subjects for name in {**s.shown, **s.told})
        with progress(f"measure {source}", len(names)) as advance:
            for name in names:
                row = _attribute(learner, name, subjects, test.features[places], known, (embedder, vectors), seed)
                if row is not None:
                    found.setdefault(source, {})[name] = row
                advance(1)
    return found


def _attribute(
    learner: Learner,
    name: str,
    subjects: Sequence[Subject],
    features: NDArray[np.float16],
    known: Sequence[Subject],
    zero_shot: tuple[Embedder | None, NDArray[np.float32]],
    seed: int,
) -> dict[str, Any] | None:
    """One attribute: those who show it by picture, those who tell it by words."""
    shown = [i for i, s in enumerate(subjects) if name in s.shown]
    titled = [i for i, s in enumerate(subjects) if s.title and (name in s.told or name in s.shown)]
    places = shown or titled
    if len(places) < _LEAST:
        return None
    truth = {i: subjects[i].shown.get(name) or subjects[i].told[name] for i in {*shown, *titled}}
    other = _shuffled(len(subjects), seed)
    right: dict[str, tuple[list[int], NDArray[np.bool_]]] = {}
    if shown:
        right["picture"] = shown, _replies(learner, name, truth, shown, subjects, features, words=False)
        right["shuffled"] = shown, _replies(learner, name, truth, shown, subjects, features[other], words=False)
    if titled:
        right["picture and title"] = titled, _replies(learner, name, truth, titled, subjects, features, words=True)
        right["text only"] = titled, _replies(learner, name, truth, titled, subjects, None, words=True)
    answers = [s.shown.get(name) or s.told.get(name) for s in known]
    common = Counter(a for a in answers if a).most_common()
    right["majority"] = places, np.array([truth[i] == common[0][0] for i in places]) if common else np.zeros(0, bool)
    if zero_shot[0] is not None and shown:
        options = sorted({a for a, _ in common}, key=str)
        chosen = _choose(zero_shot[0], zero_shot[1][shown], name, options)
        right["zero_shot"] = shown, np.array([truth[i] == a for i, a in zip(shown, chosen, strict=True)])
    groups = [s.group for s in subjects]
    systems = {
        system: _estimate(rows, [groups[i] for i in at]) for system in SYSTEMS if (found := right.get(system))
        for at, rows in (found,)
    }  # fmt: skip
    return {"n": len(places), "values": len({str(v) for v in truth.values()}), "systems": systems}


def _replies(
    learner: Learner,
    name: str,
    truth: Mapping[int, Answer],
    places: Sequence[int],
    subjects: Sequence[Subject],
    features: NDArray[np.float16] | None,
    *,
    words: bool,
) -> NDArray[np.bool_]:
    examples: list[Example] = []
    for i in places:
        text = subjects[i].text[:160] if words and name == "material" else ""
        prompt = compact_prompt([name], subjects[i].title if words else "", text)
        one = Instruction(features is not None, prompt, reply_of({name: truth[i]}))
        examples.append(learner.encode(one, None if features is None else features[i]))
    return learner.right_replies(examples)


def _shuffled(n: int, seed: int) -> NDArray[np.int64]:
    """A random order in which nobody keeps his place."""
    order = np.random.default_rng(seed).permutation(n)
    made = np.empty(n, dtype=np.int64)
    made[order] = np.roll(order, 1)
    return made


def _vectors(embedder: Embedder | None, subjects: Sequence[Subject]) -> NDArray[np.float32]:
    if embedder is None:
        return np.zeros((len(subjects), 0), dtype=np.float32)
    return embedder.embed_images([decode_picture(s.picture).image for s in subjects])


def _choose(embedder: Embedder, vectors: NDArray[np.float32], name: str, options: Sequence[Answer]) -> list[Answer]:
    categories = load_knowledge().categories
    words = [value if isinstance(value, str) else " and ".join(value) for value in options]
    if name == "category":
        words = [categories[w].name if w in categories else w for w in words]
    texts = embedder.embed_texts([f"a photo of a {w.replace('_', ' ')} product" for w in words])
    return [options[int(best)] for best in (vectors @ texts.T).argmax(axis=1)]


def _estimate(right: NDArray[np.bool_], groups: Sequence[str]) -> dict[str, float]:
    draws = Draws(groups, _RESAMPLES, 0)
    sums = draws.sums(np.column_stack([right, np.ones(len(right))]))
    with np.errstate(invalid="ignore"):
        found = estimate(sums[:, 0] / sums[:, 1])
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4), "n": len(right)}
