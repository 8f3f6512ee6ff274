"""Visual attributes without training: each legal value as text, compared with the picture in a shared space.

For an attribute of the item's category schema the legal values are put into prompts, the similarities of pictures and
texts divided by the model's temperature, and a softmax over the values gives the confidence; below a threshold the
answer is `not_stated`. An item without a category gets one first, down the category tree. This module knows nothing of
colours (the palette's affair), of words in titles, or of which network makes the vectors.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors.protocol import Extraction, ExtractorInput
from lore_mm.errors import LoreError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models.protocol import Embedder, Vectors
from lore_mm.schema import AttributeSpec, Schemas
from lore_mm.types import AttributeValue, Evidence

__all__ = ["ZeroShot"]

THRESHOLD = 0.6  # confidence below which nothing is said, where the model's card gives none
CALIBRATION_DEFAULT = "default"
_LEFT_TO_OTHERS = ("color", "category")  # the palette's; the tree's
_WORDS, _PROMPTS = 3, 2  # of a value's words and an attribute's prompts, so many are averaged
_PICTURES = 256  # embedded at once
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class _Scale:
    """How one attribute is read: similarities are divided by temperature; below threshold nothing is said."""

    temperature: float
    threshold: float


@dataclass(slots=True)
class _Seen:
    """One input with the vectors of its readable pictures."""

    place: int
    given: ExtractorInput
    vectors: Vectors  # (pictures, d)
    pictures: tuple[int, ...]  # which picture each row is
    category: str | None = None
    attributes: list[AttributeValue] = field(default_factory=list)

    @property
    def mean(self) -> NDArray[np.float32]:
        """The direction of all its pictures together, (d,)."""
        total: NDArray[np.float32] = self.vectors.sum(axis=0)
        return total / max(float(np.linalg.norm(total)), 1e-9)


class ZeroShot:
    """Reads visual choice attributes off pictures with an image–text embedder.

    `calibration`: attribute → {"temperature", "threshold"}, with an entry "default" for those not named. A threshold
    above 1 means that the model is no judge of the attribute: it is not asked. Unless given it is the model's entry in
    calibration.toml, else its own card, and then only what is named there is asked; a model with neither is asked all.
    """

    name = "zero_shot"
    needs_pictures = True
    depends_on = ("pictures", "category")

    def __init__(
        self,
        embedder: Embedder,
        schemas: Schemas,
        knowledge: Knowledge,
        calibration: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.embedder, self.schemas, self.knowledge = embedder, schemas, knowledge
        if calibration is None:
            measured = _measured().get(embedder.name) or getattr(embedder, "calibration", None)
            calibration = {**measured, CALIBRATION_DEFAULT: {"threshold": 2.0}} if measured else {}
        self.calibration = dict(calibration)
        self._texts: dict[str, NDArray[np.float32]] = {}  # prompted text → vector
        self._answers: dict[tuple[str, str], Vectors] = {}  # (attribute sha, thing) → a row a legal value

    @cached_property
    def sha(self) -> str:
        """Identifies model, schemas, knowledge and thresholds."""
        settings = [_VERSION, THRESHOLD, _WORDS, _PROMPTS, {k: dict(v) for k, v in self.calibration.items()}]
        compared = self.schemas.sha_without("ask", visual=True)
        return sha_of([settings, self.embedder.sha, compared, self.knowledge.sha])

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """The visual attributes of each item; skipped without a picture, failed if none could be read.

        Raises:
            ModelError: the engine is dead.
        """
        results = [_without_pictures(one) for one in inputs]
        seen = self._see([(i, one) for i, one in enumerate(inputs) if results[i] is None], results)
        for one in seen:
            one.category = one.given.category
        self._choose_categories([one for one in seen if one.category is None])
        by_category: dict[str | None, list[_Seen]] = {}
        for one in seen:
            by_category.setdefault(one.category, []).append(one)
        for category, group in by_category.items():
            schema = self.schemas.for_category(category, self.knowledge)
            for spec in schema.specs.values():
                self._answer(spec, schema.thing, group)
        for one in seen:
            results[one.place] = Extraction(tuple(one.attributes), one.category)
        return [r or Extraction(status="failed", error="no result") for r in results]

    def _see(self, todo: Sequence[tuple[int, ExtractorInput]], results: list[Extraction | None]) -> list[_Seen]:
        """Embed the readable pictures of all inputs; one whose pictures the model refuses gets a failed result."""
        places = [(place, one, i) for place, one in todo for i, p in enumerate(one.pictures) if p is not None]
        rows: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
        for start in range(0, len(places), _PICTURES):
            chunk = places[start : start + _PICTURES]
            for (place, _, i), row in zip(chunk, self._embed(chunk, results), strict=True):
                if row is not None:
                    rows.setdefault(place, []).append((i, row))
        return [
            _Seen(place, one, np.stack([row for _, row in rows[place]]), tuple(i for i, _ in rows[place]))
            for place, one in todo
            if results[place] is None and place in rows
        ]

    def _embed(
        self, chunk: Sequence[tuple[int, ExtractorInput, int]], results: list[Extraction | None]
    ) -> list[NDArray[np.float32] | None]:
        """A vector a picture; a chunk that breaks is taken again one by one, so that one item fails and not all."""
        try:
            return list(self.embedder.embed_images([p for _, one, i in chunk if (p := one.pictures[i]) is not None]))
        except LoreError:
            raise
        except Exception as error:
            if len(chunk) == 1:
                place, one, i = chunk[0]
                fault = f"picture {i}: {type(error).__name__}: {error}"
                results[place] = Extraction(category=one.category, status="failed", error=fault)
                return [None]
            return [row for part in chunk for row in self._embed([part], results)]

    def _answer(self, spec: AttributeSpec, thing: str, group: Sequence[_Seen]) -> None:
        """Choose a value of one attribute for every item of a category, or abstain."""
        scale = self._scale(spec.name)
        if not spec.visual or spec.type != "choice" or spec.name in _LEFT_TO_OTHERS or scale.threshold > 1:
            return
        values = list(spec.values)
        if len(values) < 2:
            return
        texts = self._value_vectors(spec, thing)  # (values, d)
        probabilities = _softmax(np.stack([one.mean for one in group]) @ texts.T / scale.temperature)
        for one, row in zip(group, probabilities, strict=True):
            best = int(np.argmax(row))
            one.attributes.append(_value(spec, values[best], float(row[best]), scale, one, texts[best]))

    def _choose_categories(self, group: Sequence[_Seen]) -> None:
        """The narrowest kind that is sure enough, where a kind is as likely as all kinds below it together.

        So a picture that could be any of several chairs is a chair, rather than a guess among them or nothing (after
        Deng, Krause, Berg and Fei-Fei, Hedging your bets, 2012).
        """
        scale = self._scale("category")
        spec = self.schemas.for_category(None, self.knowledge).specs.get("category")
        if spec is None or not group or scale.threshold > 1 or not self.knowledge.categories:
            return
        ids, depths, within = self._tree
        texts = self._category_vectors(spec)  # (kinds, d)
        each = _softmax(np.stack([one.mean for one in group]) @ texts.T / scale.temperature)
        for one, row in zip(group, each @ within, strict=True):
            sure = np.flatnonzero(row >= scale.threshold)
            if not len(sure):  # not stated; what comes nearest is told
                sure = np.array([np.argmax(row)])
            best = int(sure[np.lexsort((row[sure], depths[sure]))[-1]])
            value = _value(spec, ids[best], min(float(row[best]), 1.0), scale, one, texts[best])
            one.attributes.append(value)
            one.category = value.value

    @cached_property
    def _tree(self) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float32]]:
        """Category ids, their depths (n,), and within (n, n): 1 where the row's kind is the column's or lies below."""
        ids = tuple(self.knowledge.categories)
        place = {category: i for i, category in enumerate(ids)}
        within = np.eye(len(ids), dtype=np.float32)
        for i, category in enumerate(ids):
            within[i, [place[above] for above in self.knowledge.ancestors(category)]] = 1
        return ids, within.sum(axis=1).astype(np.int64), within

    def _category_vectors(self, spec: AttributeSpec) -> Vectors:
        """One row a category, (kinds, d), made once."""
        key = (spec.sha, "")
        if key not in self._answers:
            words = [(c.name, *c.terms)[:_WORDS] for c in self.knowledge.categories.values()]
            self._embed_texts(t for w in words for t in _prompted(w, spec, "product"))
            self._answers[key] = np.stack([self._mean_of(w, spec, "product") for w in words])
        return self._answers[key]

    def _value_vectors(self, spec: AttributeSpec, thing: str) -> Vectors:
        """One row a legal value, (values, d), made once."""
        key = (spec.sha, thing)
        if key not in self._answers:
            words = {value: (value, *others)[:_WORDS] for value, others in spec.values.items()}
            self._embed_texts(t for w in words.values() for t in _prompted(w, spec, thing))
            self._answers[key] = np.stack([self._mean_of(w, spec, thing) for w in words.values()])
        return self._answers[key]

    def _mean_of(self, words: Sequence[str], spec: AttributeSpec, thing: str) -> NDArray[np.float32]:
        """The direction of all prompted forms of the words together, (d,)."""
        texts = list(_prompted(words, spec, thing))
        self._embed_texts(texts)
        total: NDArray[np.float32] = np.sum([self._texts[t] for t in texts], axis=0)
        return total / max(float(np.linalg.norm(total)), 1e-9)

    def _embed_texts(self, texts: Iterable[str]) -> None:
        new = [t for t in dict.fromkeys(texts) if t not in self._texts]
        if new:
            self._texts.update(zip(new, self.embedder.embed_texts(new), strict=True))

    def _scale(self, attribute: str) -> _Scale:
        default = self.calibration.get(CALIBRATION_DEFAULT, {})
        entry = {**default, **self.calibration.get(attribute, {})}
        return _Scale(entry.get("temperature", self.embedder.temperature), entry.get("threshold", THRESHOLD))


@lru_cache(maxsize=1)
def _measured() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Model address → attribute → temperature and threshold, as measured through this extractor."""
    return tomllib.loads((Path(__file__).parent / "calibration.toml").read_text(encoding="utf-8"))


def _prompted(words: Iterable[str], spec: AttributeSpec, thing: str) -> Iterable[str]:
    for template in spec.prompts[:_PROMPTS]:
        for word in words:
            yield template.replace("{thing}", thing).replace("{value}", word)


def _value(
    spec: AttributeSpec, value: str, confidence: float, scale: _Scale, one: _Seen, text: NDArray[np.float32]
) -> AttributeValue:
    """The chosen value with the picture that shows it most; not_stated, its confidence kept, below the threshold."""
    sure = confidence >= scale.threshold
    picture = one.pictures[int(np.argmax(one.vectors @ text))]
    evidence = Evidence(f"image:{picture}", value=value, extractor=ZeroShot.name, confidence=confidence)
    return AttributeValue(
        name=spec.name,
        dimension=spec.dimension,
        value=value if sure else None,
        status="value" if sure else "not_stated",
        kind=spec.kind,
        confidence=confidence,
        extractor=ZeroShot.name,
        evidence=(evidence,),
    )


def _without_pictures(one: ExtractorInput) -> Extraction | None:
    """The result for an input with nothing to look at, or None."""
    if not one.pictures:
        return Extraction(category=one.category, status="skipped", error="no picture")
    if all(p is None for p in one.pictures):
        reasons = "; ".join(dict.fromkeys(e for e in one.picture_errors if e)) or "no picture could be read"
        return Extraction(category=one.category, status="failed", error=reasons)
    return None


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Row-wise softmax, (n, k)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
