"""A line of a path or a chain, read from the left. Every fault is told with its line and character.

The time is linear in the length, whatever stands in the text. This module knows no grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import NoReturn

from lore_mm.errors import InputError, nearest
from lore_mm.types import Grade

__all__ = ["PLAIN", "Line", "clipped", "flat", "quoted", "word"]

PLAIN = re.compile(r"[A-Za-z0-9_.:\-]+")  # what stands without quotes where a word is wanted
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|-?inf|nan")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # to some readers, though not to JSON
_JSON = json.JSONDecoder()


def flat(text: str) -> str:
    """A text on one line, without spaces around it."""
    return " ".join(text.split())


def word(text: str) -> str:
    """A plain word as it is, anything else in quotes."""
    return text if PLAIN.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """A text as a JSON string on one line."""
    return _LINE_ENDS.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


class Line:
    """A line of a path, read from the left."""

    def __init__(self, text: str, place: int, what: str = "path") -> None:
        self.text, self.place, self.at, self.what = text, place, 0, what

    def fail(self, reason: str) -> NoReturn:
        """Refuse the text where the line stands.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.what}, line {self.place}, character {self.at + 1}: {reason}")

    def take(self, words: str) -> bool:
        """Go on behind these words, if they stand here."""
        if not self.text.startswith(words, self.at):
            return False
        self.at += len(words)
        return True

    def need(self, words: str) -> None:
        """Go on behind these words, or fail."""
        if not self.take(words):
            self.fail(f"legal here: {words!r}, not {clipped(self.text[self.at :])}")

    def end(self) -> None:
        """Fail unless the line is read to its end."""
        if self.at < len(self.text):
            self.fail(f"legal here: the end of the line, not {clipped(self.text[self.at :])}")

    def quoted(self) -> str:
        """A JSON string."""
        if not self.text.startswith('"', self.at):
            self.fail(f"legal here: a text in double quotes, not {clipped(self.text[self.at :])}")
        try:
            value, self.at = _JSON.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.at = error.pos
            self.fail(f"no JSON string: {error.msg}")
        return str(value)

    def another(self) -> str | None:
        """A JSON string behind a space, if one stands here."""
        if not self.text.startswith(' "', self.at):
            return None
        self.at += 1
        return self.quoted()

    def word(self) -> str:
        """A plain word, or a text in quotes."""
        if found := PLAIN.match(self.text, self.at):
            self.at = found.end()
            return found.group()
        return self.quoted()

    def one_of(self, legal: Collection[str], what: str) -> str:
        """One of these words."""
        start, word = self.at, self.word()
        if word not in legal:
            self.at = start
            hint = nearest(word, legal) if len(word) < 100 else ""
            self.fail(f"no {what} {clipped(word)}{hint}; legal: {', '.join(legal)}")
        return word

    def number(self) -> float:
        """A number."""
        found = _NUMBER.match(self.text, self.at)
        if not found:
            self.fail(f"legal here: a number, not {clipped(self.text[self.at :])}")
        self.at = found.end()
        return float(found.group())

    def grade(self) -> Grade:
        """A level by its name."""
        return Grade[self.one_of(Grade.__members__, "level")]

    def grades(self) -> tuple[Grade, ...]:
        """The levels up to the end of the line."""
        found = [self.grade()]
        while self.take(" "):
            found.append(self.grade())
        self.end()
        return tuple(found)

    def rest(self) -> str:
        """All that is left of the line."""
        start, self.at = self.at, len(self.text)
        return self.text[start:]

    def only(self, name: str) -> str:
        """The text of a line that holds nothing but a name and a text."""
        self.need(name + " ")
        text = self.quoted()
        self.end()
        return text


def clipped(text: str) -> str:
    """A text as an error shows it."""
    return repr(text if len(text) <= 40 else text[:39] + "…")
