"""What a trained lore-vlm-tiny knows of subjects it never saw, beside what needs no training and what needs no picture.

One question an attribute. Model and zero-shot embedder choose among the same values, those that occur in training or
test: the model by greedy decoding held to them, as a constrained decoder does in use. Beside it stand the same model
without the picture, with another subject's picture, and free of any constraint (right only if every token is), and the
commonest value of the training part. This module knows nothing of training.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.vlm.fit import Seen
from jobs.vlm.instructions import TEXT, Instruction, compact_prompt, reply_of
from jobs.vlm.learner import Example, Learner
from jobs.vlm.subjects import Answer, Subject
from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED
from lore_mm.bootstrap import Draws, estimate
from lore_mm.console import progress
from lore_mm.images import decode_picture
from lore_mm.knowledge import load_knowledge
from lore_mm.models import Embedder
from lore_mm.schema import load_schemas

__all__ = ["MEASURED", "SYSTEMS", "Question", "measure"]

SYSTEMS = ("picture", "picture, free", "picture and title", "title only", "shuffled", "zero_shot", "majority")
MEASURED = {  # of each data set the attributes that its pictures or words tell
    "clothing": ("category", "audience", "sleeve_length"),
    "grocery": ("category", "variety", "color", "brand"),
    "luma": ("category", "color", "pattern", "audience", "closure", "material"),
}
_IN_TEXT = ("material",)  # stands in the description, not in the title
_RESAMPLES = 1000
_LEAST = 15  # subjects; fewer tell nothing
_PROMPTS, _WORDS = 2, 3  # of an attribute's prompts and a value's words, so many are averaged
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Question:
    """One attribute of some subjects: `truth` one a subject, `options` what may be answered, the commonest first."""

    name: str
    subjects: Sequence[Subject]
    features: NDArray[np.float16]  # (n, picture tokens, 6144)
    truth: Sequence[Answer]
    options: Sequence[Answer]

    def example(self, learner: Learner, i: int, picture: int | None, *, words: bool) -> Example:
        """The question about subject i with a subject's picture (or none), and its right reply."""
        text = self.subjects[i].text[:TEXT] if words and self.name in _IN_TEXT else ""
        prompt = compact_prompt([self.name], self.subjects[i].title if words else "", text)
        features = None if picture is None else self.features[picture]
        one = Instruction(features is not None, prompt, reply_of({self.name: self.truth[i]}))
        return learner.encode(one, features)


def measure(learner: Learner, seen: Seen, embedder: Embedder | None, limit: int, seed: int = 0) -> dict[str, Any]:
    """On the test part: source → attribute → {n, options, systems: {name: {value, low, high, n}}}.

    `limit`: at most so many subjects of a source, drawn at random. Intervals are 95 % bootstraps over groups.
    """
    train, test = seen.part("train"), seen.part("test")
    found: dict[str, Any] = {}
    for source in dict.fromkeys(s.source for s in test.subjects):
        places = [i for i, s in enumerate(test.subjects) if s.source == source]
        places = sorted(random.Random(seed).sample(places, min(limit, len(places))))
        names = MEASURED.get(source, ())
        with progress(f"measure {source}", len(names)) as advance:
            for name in names:
                question = _question(name, places, test, [s for s in train.subjects if s.source == source])
                if question is not None:
                    found.setdefault(source, {})[name] = _row(question, learner, embedder, seed)
                advance(1)
    return found


def _question(name: str, places: Sequence[int], test: Seen, known: Sequence[Subject]) -> Question | None:
    """The attribute of those test subjects of which it is known."""
    answers = {i: a for i in places if (a := _answer(test.subjects[i], name)) is not None}
    if len(answers) < _LEAST:
        return None
    learned = Counter(a for s in known if (a := _answer(s, name)) is not None)
    options = [value for value, _ in learned.most_common()]
    options += sorted(set(answers.values()) - set(options), key=str)
    kept = list(answers)
    return Question(name, [test.subjects[i] for i in kept], test.features[kept], list(answers.values()), options)


def _answer(subject: Subject, name: str) -> Answer | None:
    return subject.shown.get(name) or subject.told.get(name)


def _row(question: Question, learner: Learner, embedder: Embedder | None, seed: int) -> dict[str, Any]:
    n = len(question.subjects)
    visible = question.name not in _IN_TEXT
    titled = bool(question.subjects[0].title)
    own, other = list(range(n)), _others(n, seed)
    systems: dict[str, Bools] = {"majority": np.array([t == question.options[0] for t in question.truth])}
    if visible:
        alone = [question.example(learner, i, i, words=False) for i in own]
        strange = [question.example(learner, i, other[i], words=False) for i in own]
        systems["picture"] = _held(question, learner, alone)
        systems["picture, free"] = learner.right_replies(alone)
        systems["shuffled"] = _held(question, learner, strange)
        if embedder is not None:
            systems["zero_shot"] = _zero_shot(question, embedder)
    if titled:
        both = [question.example(learner, i, i, words=True) for i in own]
        blind = [question.example(learner, i, None, words=True) for i in own]
        systems["picture and title"] = _held(question, learner, both)
        systems["title only"] = _held(question, learner, blind)
    groups = [s.group for s in question.subjects]
    figures = {system: _estimate(systems[system], groups) for system in SYSTEMS if system in systems}
    return {"n": n, "options": len(question.options), "systems": figures}


def _held(question: Question, learner: Learner, examples: Sequence[Example]) -> Bools:
    replies = [reply_of({question.name: option}) for option in question.options]
    chosen = learner.choose(examples, replies)
    return np.array([question.options[c] == t for c, t in zip(chosen, question.truth, strict=True)])


def _others(n: int, seed: int) -> list[int]:
    """For each the place of another, in random order: nobody keeps his own."""
    order = np.random.default_rng(seed).permutation(n)
    made = np.empty(n, dtype=np.int64)
    made[order] = np.roll(order, 1)
    return [int(i) for i in made]


def _zero_shot(question: Question, embedder: Embedder) -> Bools:
    """The embedder's choice: pictures against the options in the schema's prompts, as zero_shot does."""
    images = [decode_picture(s.picture).image for s in question.subjects]
    texts = np.stack([_option_vector(question, option, embedder) for option in question.options])
    chosen = (embedder.embed_images(images) @ texts.T).argmax(axis=1)
    return np.array([question.options[int(c)] == t for c, t in zip(chosen, question.truth, strict=True)])


def _option_vector(question: Question, option: Answer, embedder: Embedder) -> NDArray[np.float32]:
    category = question.subjects[0].shown["category"] if question.name != "category" else None
    schema = load_schemas().for_category(str(category) if category else None, load_knowledge())
    spec = schema.specs.get(question.name)
    values = option if isinstance(option, tuple) else (option,)
    words = [w for value in values for w in (value, *(spec.values.get(value, ()) if spec else ()))][:_WORDS]
    if option in (NOT_STATED, NOT_APPLICABLE):
        words = ["something else"]
    prompts = spec.prompts[:_PROMPTS] if spec else ("a photo of {value}",)
    texts = [p.replace("{thing}", schema.thing).replace("{value}", w.replace("_", " ")) for p in prompts for w in words]
    made: NDArray[np.float32] = embedder.embed_texts(texts).mean(axis=0)
    return made / max(float(np.linalg.norm(made)), 1e-9)


def _estimate(right: Bools, groups: Sequence[str]) -> Mapping[str, float]:
    draws = Draws(groups, _RESAMPLES, 0)
    sums = draws.sums(np.column_stack([right, np.ones(len(right))]))
    with np.errstate(invalid="ignore"):
        found = estimate(sums[:, 0] / sums[:, 1])
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4), "n": len(right)}
