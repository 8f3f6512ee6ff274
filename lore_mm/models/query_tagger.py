"""lore-tagger-tiny: which words of a query are the thing, its maker, its colour … as spans with confidences.

A small BERT in int8 (ONNX) scores every piece of every word; a word's scores are the mean over its pieces; the
likeliest legal sequence of B-, I- and O labels is read off by Viterbi's algorithm. A text's tags do not depend on the
texts beside it: only texts of as many pieces are run together, so that nothing is padded, and the model quantises each
piece's activations by themselves. Runs on onnxruntime and tokenizers alone. How it was trained: jobs.train_tagger.

It knows no demands and no dimensions: extractors.query.tagger does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.models.bio import Labels, spans, viterbi
from lore_mm.models.onnx_files import alike, checked_bytes, first_fault, open_session, read_bytes
from lore_mm.models.query_words import HINTS, Pieces, Reader, Span, hints_of, split_words, trimmed

__all__ = ["FOLDER", "QueryTagger", "Scored", "Tag", "TaggerSettings", "open_tagger"]

FOLDER = Path(__file__).parent / "lore-tagger-tiny"
_CONFIG = "config.json"


class Tag(NamedTuple):
    """A span of a text, [start, end) in characters as typed, and what it is: one of the tagger's types.

    `confidence`: the product of the probabilities of its words' labels, in (0, 1]: nearer to the share of spans
    that are right than their mean is (see the card).
    """

    type: str
    start: int
    end: int
    confidence: float


class Scored(NamedTuple):
    """The words of a text and their labels' log-probabilities, float32 (words, labels).

    A word that has no pieces (nothing but invisible characters), or stands behind what is read, is surely outside.
    """

    words: list[Span]
    scores: NDArray[np.float32]


class TaggerSettings(BaseModel):
    """The config.json beside a tagger's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    labels: tuple[str, ...]
    hints: tuple[str, ...]  # what the tables tell the model of each word; empty where it reads the text alone
    model_sha256: str
    tokenizer_sha256: str


class QueryTagger:
    """A tagger that is open; safe for several threads."""

    def __init__(
        self, session: Any, reader: Reader, settings: TaggerSettings, labels: Labels, knowledge: Knowledge | None
    ) -> None:
        self.settings, self.labels = settings, labels
        self.name = settings.name
        self.sha = sha_of([settings.model_dump(mode="json"), knowledge.sha if knowledge else None])
        self._session, self._reader = session, reader
        self._scanner = scanner_for(knowledge) if knowledge else None
        self._outside = np.full(len(labels.names), -1e9, dtype=np.float32)
        self._outside[labels.outside] = 0.0

    def tag(self, texts: Sequence[str]) -> list[tuple[Tag, ...]]:
        """The tags of each text, in the order of its words and without overlaps; none where it has no words."""
        return [self._tags(text, scored) for text, scored in zip(texts, self.score(texts), strict=True)]

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """The words of each text with their labels' log-probabilities."""
        words = [split_words(text) for text in texts]
        read = self._reader.read([[text[a:b] for a, b in some] for text, some in zip(texts, words, strict=True)])
        made = [Scored(some, np.tile(self._outside, (len(some), 1))) for some in words]
        for places in alike([len(one.ids) if some else 0 for one, some in zip(read, words, strict=True)]):
            inputs = {"ids": np.stack([read[i].ids for i in places])}
            if self._scanner is not None:
                hints = [self._hints(texts[i], words[i], read[i]) for i in places]
                inputs["hints"] = np.stack(hints)
            logits = self._session.run(None, inputs)[0]
            for i, rows in zip(places, logits, strict=True):
                _pool(rows, read[i].words, made[i].scores)
        return made

    def close(self) -> None:
        """Free the model."""
        self._session = None

    def _hints(self, text: str, words: Sequence[Span], pieces: Pieces) -> NDArray[np.float32]:
        """The hints of each piece's word; none for [CLS] and [SEP]."""
        assert self._scanner is not None
        made = np.zeros((len(words) + 1, 2 * len(HINTS)), dtype=np.float32)  # the last row is that of no word
        made[:-1] = hints_of(text, words, self._scanner)
        return made[pieces.words]

    def _tags(self, text: str, scored: Scored) -> tuple[Tag, ...]:
        if not scored.words:
            return ()
        path = viterbi(scored.scores[None], self.labels)[0]
        chosen = scored.scores[np.arange(len(path)), path]
        found = []
        for kind, first, behind in spans(path.tolist(), self.labels):
            start, end = trimmed(text, scored.words[first][0], scored.words[behind - 1][1])
            found.append(Tag(kind, start, end, float(np.exp(chosen[first:behind].sum()))))
        return tuple(found)


def open_tagger(
    folder: Path | None = None, *, knowledge: Knowledge | None = None, threads: int | None = None
) -> QueryTagger:
    """The tagger of a folder; the shipped one unless given.

    `knowledge`: the tables whose terms the model is told of, where it was trained so; the shipped ones unless given.
    `threads`: of one batch; OMP_NUM_THREADS unless given, else 1.

    Raises:
        ModelError: a file is missing or damaged, or is not what config.json says.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """
    place = folder or FOLDER
    try:
        settings = TaggerSettings.model_validate_json(read_bytes(place / _CONFIG))
        labels = Labels(settings.labels)
    except (ValidationError, ValueError) as error:
        raise ModelError(f"{place / _CONFIG} is not a tagger's: {first_fault(error)}") from None
    if settings.hints and settings.hints != HINTS:
        raise ModelError(f"{place / _CONFIG}: hints that this version does not give: {', '.join(settings.hints)}")
    tokenizer = checked_bytes(place / "tokenizer.json", settings.tokenizer_sha256)
    model = checked_bytes(place / "model.onnx", settings.model_sha256)
    session = open_session(model, place / "model.onnx", threads)
    wanted = ["ids", *(["hints"] if settings.hints else [])]
    given, width = [one.name for one in session.get_inputs()], session.get_outputs()[0].shape[-1]
    if given != wanted or width != len(labels.names):
        raise ModelError(f"{place / 'model.onnx'}: reads {given} and scores {width} labels, which config.json does not")
    tables = (knowledge or load_knowledge()) if settings.hints else None
    return QueryTagger(session, Reader(tokenizer, place / "tokenizer.json"), settings, labels, tables)


def _pool(logits: NDArray[np.float32], words: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
    """Put the log-probabilities of the words that have pieces into their rows."""
    rows = np.flatnonzero(words >= 0)
    if not len(rows):
        return
    firsts = np.flatnonzero(np.diff(words[rows], prepend=-1))  # the pieces of a word stand together
    means = np.add.reduceat(logits[rows], firsts, axis=0)
    means /= np.diff(firsts, append=len(rows))[:, None]
    means -= means.max(axis=1, keepdims=True)
    scores[words[rows][firsts]] = means - np.log(np.exp(means).sum(axis=1, keepdims=True))
