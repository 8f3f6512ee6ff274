"""Why a row differs from the one before it, in a word of a small closed vocabulary, told by provenance alone.

    corrected by a person  the extractor `human` says so
    migrated               a migration rewrote the stored value
    first seen             there was no row of this item by this extractor before
    item changed           the seller's words, record or pictures are others
    settings changed       the extractor's settings are: schema, prompt, model, knowledge or options
    source changed         what earlier extractors handed on is another; of a verdict, what it was merged from
    run again              the same input and settings: a failure tried again, or a model that answers otherwise

Where several hold it is the first of them; but a verdict's sources come before its settings, which change with those of
every extractor. This module reads two rows, and no store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "AGAIN",
    "CORRECTED",
    "FIRST",
    "HUMAN",
    "ITEM",
    "MIGRATED",
    "REASONS",
    "SETTINGS",
    "SOURCE",
    "VERDICT",
    "is_migrated",
    "why",
]

FIRST: Final = "first seen"
ITEM: Final = "item changed"
SETTINGS: Final = "settings changed"
SOURCE: Final = "source changed"
MIGRATED: Final = "migrated"
CORRECTED: Final = "corrected by a person"
AGAIN: Final = "run again"
REASONS: Final = (CORRECTED, MIGRATED, FIRST, ITEM, SETTINGS, SOURCE, AGAIN)

VERDICT: Final = "merge"
HUMAN: Final = "human"
_MIGRATION = "migration"  # what the maker of a migrated row begins with
_OF_THE_ITEM = ("words", "record", "pictures")


def why(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], sources: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The reason, and what exactly changed: parts of the item or of what was handed on, `settings`, or extractors.

    Rows have `provenance`, and those of ATTRIBUTES `extractor` and `made_from`. `sources`: the extractors whose
    findings on it changed between the two, where `after` is a verdict.
    """
    new = after["provenance"] or {}
    if is_migrated(new):  # what a person said is rewritten too
        return MIGRATED, []
    if after.get("extractor") == HUMAN:
        return CORRECTED, []
    if before is None:
        return FIRST, []
    old = before["provenance"] or {}
    of_item, handed_on = _parts(before, after)
    settings = _settings(old, new)
    if of_item:
        return ITEM, of_item
    if after.get("extractor") == VERDICT and sources:
        return SOURCE, list(sources)
    if settings:
        return SETTINGS, ["settings", *handed_on]
    return (SOURCE, handed_on) if handed_on else (AGAIN, [])


def is_migrated(provenance: Mapping[str, Any] | None) -> bool:
    """Whether a migration made the row."""
    return ((provenance or {}).get("maker") or "").startswith(_MIGRATION)


def _parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What changed of what a row was made from: parts of the item, and of what was handed on by others."""
    then, now = _made_from(before), _made_from(after)
    if then and now:
        changed = [name for name in now if name in then and then[name] != now[name]]
        return [n for n in changed if n in _OF_THE_ITEM], [n for n in changed if n not in _OF_THE_ITEM]
    old, new = ((row["provenance"] or {}).get("input_sha") for row in (before, after))
    return (["input"] if old != new else []), []


def _made_from(row: Mapping[str, Any]) -> dict[str, str | None]:
    return {pair["name"]: pair["sha"] for pair in row.get("made_from") or ()}


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    then, now = old.get("settings_sha") or "", new.get("settings_sha") or ""
    if is_migrated(old):  # the settings stay what they were, with the migration's mark behind them
        return not then.startswith(now)
    return then != now or old.get("maker") != new.get("maker")
