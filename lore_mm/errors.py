"""Every error a user can meet, as a tree.

    LoreError                 one plain line for a person; front doors print it and exit with `exit_code`
    ├── InputError            what was given is wrong: names file, row, column and the legal values
    │   ├── TableError        columns missing, extra or mistyped
    │   └── PictureError      a picture that cannot or must not be read
    ├── ConfigError           a schema, rulebook, knowledge table or setting is wrong
    ├── StoreError            a store is absent, unreadable, or of another shape
    ├── PlanError             another plan has already run in this place
    ├── ModelError            a model cannot be found, loaded or reached
    ├── BudgetError           a run stopped at its cap; what was made is kept
    └── MissingExtraError     an optional dependency is absent; carries the pip command

A failure of one row is data, not an exception: see `status` and `error` in `lore_mm.tables`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BudgetError",
    "ConfigError",
    "InputError",
    "LoreError",
    "MissingExtraError",
    "ModelError",
    "PictureError",
    "PlanError",
    "StoreError",
    "TableError",
    "nearest",
]


class LoreError(Exception):
    """The root: its text is one line that says what is wrong and, where there is one, the way out."""

    exit_code = 1
    word = "error"  # what a front door puts before the line


class InputError(LoreError):
    """What the user gave is wrong."""

    exit_code = 2


class TableError(InputError):
    """A table's columns are missing, extra or of another type."""


class PictureError(InputError):
    """A picture that cannot or must not be read; its text is the reason kept with the failed row."""


class ConfigError(LoreError):
    """A schema, rulebook, knowledge table or setting is wrong."""

    exit_code = 2


class StoreError(LoreError):
    """A store is absent, unreadable, or of another shape than this version writes."""


class PlanError(LoreError):
    """A different plan has already run in this place; the text names what changed."""


class ModelError(LoreError):
    """A model cannot be found, loaded or reached."""


class BudgetError(LoreError):
    """A run stopped at the cap of its spending; nothing is wrong, and what was made is kept."""

    exit_code = 3
    word = "stopped"


class MissingExtraError(LoreError):
    """An optional dependency is absent."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"this needs the module {module!r}, which is not installed: pip install 'lore-mm[{extra}]'")
        self.module = module
        self.extra = extra


def nearest(name: str, legal: Iterable[str], limit: int = 1) -> str:
    """A hint such as ", did you mean 'color'?" for a name mistyped in letters or case; empty where nothing is near."""
    known = {one.casefold(): one for one in legal}
    found = [known[one] for one in get_close_matches(name.casefold(), list(known), n=limit, cutoff=0.6)]
    return f", did you mean {' or '.join(repr(x) for x in found)}?" if found else ""
