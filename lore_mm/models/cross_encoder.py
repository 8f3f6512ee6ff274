"""A small cross-encoder: how well an item answers a query, from both texts read together and from numbers about them.

A small BERT in int8 (ONNX) reads the pair; trees vote on what it makes of it and on the features that its config.json
names, in that order: probabilities of L1 to L4. A pair's result does not depend on the pairs beside it: only
pairs of as many pieces are run together, so that nothing is padded, and the model quantises each piece's activations
by themselves. Runs on onnxruntime and tokenizers alone.

It knows neither rules nor paths, nor what a feature means: `relevance.by_student` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.models.onnx_files import alike, checked_bytes, first_fault, open_session, read_bytes
from lore_mm.models.pair_pieces import MOST_PIECES, PairReader
from lore_mm.text import fold, normalize

__all__ = ["FOLDER", "LEVELS", "CrossEncoder", "EncoderSettings", "open_cross_encoder", "query_mark"]

FOLDER = Path(__file__).parent / "lore-student-tiny"
LEVELS = 4  # L1 … L4
_CONFIG = "config.json"
_MARK = 12  # hex digits

Cut = Annotated[float, Field(ge=0, le=1)]


def _rising(cuts: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    if cuts is not None and list(cuts) != sorted(cuts):
        raise ValueError("thresholds rise")
    return cuts


class EncoderSettings(BaseModel):
    """The config.json beside a cross-encoder's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    features: tuple[str, ...]  # the numbers it reads of a pair, in this order
    features_sha: str  # of what these numbers, and the texts, are: who gives others is refused
    # From which expected grade on, scaled to [0, 1], a pair is L2, L3, L4; none: the likeliest level.
    thresholds: Annotated[tuple[Cut, Cut, Cut] | None, AfterValidator(_rising)] = None
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # logits are divided by it
    model_sha256: str
    tokenizer_sha256: str
    training_queries: tuple[str, ...] = ()  # `query_mark` of each query whose labels it was trained on
    trained_on: Mapping[str, str] = Field(default_factory=dict)  # set → its licence


class CrossEncoder:
    """A cross-encoder that is open; safe for several threads."""

    def __init__(self, session: Any, reader: PairReader, settings: EncoderSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self.sha = sha_of(settings.model_dump(mode="json"))  # the weights' and the tokenizer's shas among it
        self._session, self._reader = session, reader
        self._seen = frozenset(settings.training_queries)

    def score(self, texts: Sequence[tuple[str, str]], features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-probabilities of L1 … L4, float32 (n, 4).

        Args:
            texts: (query, item) of n pairs.
            features: float32 (n, F), finite, in the order of `settings.features`.

        Raises:
            ValueError: features of another shape, or that are no numbers.
            ModelError: the model failed.
        """
        wanted = (len(texts), len(self.settings.features))
        if features.shape != wanted:
            raise ValueError(f"features are {features.shape}, not {wanted}")
        if not np.isfinite(features).all():
            raise ValueError("features that are no finite numbers")
        pairs = self._reader.read(texts)
        made = np.empty((len(texts), LEVELS), dtype=np.float32)
        for places in alike([len(one.ids) for one in pairs]):
            ids, types = (np.stack([pairs[i][part] for i in places]) for part in range(2))
            made[places] = self._run(ids, types, np.ascontiguousarray(features[places], dtype=np.float32))
        made /= self.settings.temperature
        made -= made.max(axis=1, keepdims=True)
        made -= np.log(np.exp(made).sum(axis=1, keepdims=True))
        return made

    def was_trained_on(self, query: str) -> bool:
        """True where labels of this query were among what it learnt from: figures on it say little."""
        return query_mark(query) in self._seen

    def close(self) -> None:
        """Free the model."""
        self._session = None

    def _run(self, ids: NDArray[np.int64], types: NDArray[np.int64], features: NDArray[np.float32]) -> Any:
        try:
            return self._session.run(None, {"ids": ids, "types": types, "features": features})[0]
        except Exception as error:  # onnxruntime's errors have no common root of their own
            raise ModelError(f"{self.name} failed ({first_fault(error)})") from None

    def check(self) -> None:
        """Read the longest pair, of the last piece of all.

        Raises:
            ModelError: the model does not know all pieces or places, or its weights are no numbers.
        """
        ids = np.full((1, MOST_PIECES), self._reader.size - 1, dtype=np.int64)
        types = np.arange(MOST_PIECES, dtype=np.int64)[None] % 2
        logits = self._run(ids, types, np.zeros((1, len(self.settings.features)), dtype=np.float32))
        if logits.shape != (1, LEVELS) or not np.isfinite(logits).all():
            raise ModelError(f"{self.name}: what it scores are no {LEVELS} numbers")


def open_cross_encoder(folder: Path | None = None, *, threads: int | None = None) -> CrossEncoder:
    """The cross-encoder of a folder; the shipped one unless given.

    `threads`: of one batch; OMP_NUM_THREADS unless given, else 1.

    Raises:
        ModelError: a file is missing, damaged, or not what config.json says.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """
    place = folder or FOLDER
    try:
        settings = EncoderSettings.model_validate_json(read_bytes(place / _CONFIG))
    except ValidationError as error:
        raise ModelError(f"{place / _CONFIG} is not a cross-encoder's: {first_fault(error)}") from None
    tokenizer = checked_bytes(place / "tokenizer.json", settings.tokenizer_sha256)
    path = place / "model.onnx"
    session = open_session(checked_bytes(path, settings.model_sha256), path, threads)
    given, scored = (
        [(one.name, *one.shape[-1:]) for one in ends] for ends in (session.get_inputs(), session.get_outputs())
    )
    wanted = [("ids", "pieces"), ("types", "pieces"), ("features", len(settings.features))]
    if given != wanted or scored != [("logits", LEVELS)]:
        raise ModelError(f"{path}: reads {given} and gives {scored}; config.json wants {wanted} and {LEVELS} levels")
    made = CrossEncoder(session, PairReader(tokenizer, place / "tokenizer.json"), settings)
    made.check()
    return made


def query_mark(text: str) -> str:
    """A query in a list of those trained on, without its words: the first digits of the sha-256 of its folded text."""
    return sha_of_bytes(fold(normalize(text)).encode("utf-8", "surrogatepass"))[:_MARK]
