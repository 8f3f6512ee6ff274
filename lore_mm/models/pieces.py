"""The text of a reply and of each of its tokens, so that the texts joined are the reply: what `Token.text` promises.

A token of byte-level vocabularies can be part of a letter, and how some decoders write a token depends on those before
it; so texts are differences between decoded beginnings, and a letter belongs to the token that completes it. Half a
letter at the end of a reply is left out, as vLLM does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["pieces_of", "text_of"]

_UNFINISHED = "\ufffd"  # how decoders write bytes that are no letter yet


class _Decodes(Protocol):
    def decode(self, token_ids: list[int], /) -> str: ...


def text_of(tokenizer: _Decodes, ids: Sequence[int]) -> str:
    """The text of a whole reply, given its tokens without special ones."""
    return tokenizer.decode(list(ids)).rstrip(_UNFINISHED)


def pieces_of(tokenizer: _Decodes, ids: Sequence[int]) -> list[str]:
    """The text of each token; joined they are `text_of(tokenizer, ids)`."""
    pieces, said = [], ""
    for i in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:i]))
        if text.endswith(_UNFINISHED) or not text.startswith(said):
            pieces.append("")  # waits for the tokens that follow
            continue
        pieces.append(text[len(said) :])
        said = text
    if pieces:  # a decoder that writes the end in another way than its beginnings
        pieces[-1] += text_of(tokenizer, ids)[len(said) :]
    return pieces
