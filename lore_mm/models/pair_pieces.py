"""A query and an item as a cross-encoder reads them: [CLS] query [SEP] item [SEP], in word pieces.

Training and judging share this, so that both read alike. Of a pair that is too long the item is cut, never the query;
that is cut by itself. It knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lore_mm.errors import ModelError
from lore_mm.models.onnx_files import open_tokenizer

__all__ = ["MOST_PIECES", "MOST_QUERY_PIECES", "PairPieces", "PairReader"]

MOST_PIECES, MOST_QUERY_PIECES = 128, 48  # of a pair, [CLS] and both [SEP] among them; of its query
_LONGEST = 4000  # characters of a text that are handed to the tokenizer
_SURROGATE = re.compile("[\ud800-\udfff]")


class PairPieces(NamedTuple):
    """A pair's word pieces, and to which of the two each belongs: 0 [CLS], the query and its [SEP]; 1 the rest."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64]


class PairReader:
    """A WordPiece tokenizer file, read once; safe for several threads.

    Raises:
        ModelError: the bytes are no tokenizer, or one without [CLS] and [SEP].
        MissingExtraError: tokenizers is not installed.
    """

    def __init__(self, data: bytes, source: Path) -> None:
        self._tokenizer = open_tokenizer(data, source)
        self._tokenizer.no_truncation()
        begin, end = (self._tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
        if begin is None or end is None:
            raise ModelError(f"{source} knows no [CLS] or no [SEP]")
        self._begin, self._end = begin, end
        self.size: int = max(self._tokenizer.get_vocab().values()) + 1  # ids are below it

    def read(self, texts: Sequence[tuple[str, str]]) -> list[PairPieces]:
        """The pieces of each (query, item), in the order given; a text that stands in several pairs is read once."""
        queries, items = self._pieces(query for query, _ in texts), self._pieces(item for _, item in texts)
        return [self._joined(queries[query], items[item]) for query, item in texts]

    def _pieces(self, texts: Iterable[str]) -> dict[str, list[int]]:
        known = list(dict.fromkeys(texts))
        clean = [_SURROGATE.sub("\ufffd", text[:_LONGEST]) for text in known]
        read = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        return {text: one.ids for text, one in zip(known, read, strict=True)}

    def _joined(self, query: list[int], item: list[int]) -> PairPieces:
        first = [self._begin, *query[:MOST_QUERY_PIECES], self._end]
        behind = [*item[: MOST_PIECES - len(first) - 1], self._end]
        ids = np.array(first + behind, dtype=np.int64)
        types = np.zeros(len(ids), dtype=np.int64)
        types[len(first) :] = 1
        return PairPieces(ids, types)
