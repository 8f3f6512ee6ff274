"""Relations of names that no table knows: the thing asked for in unknown words, part numbers, models of known series.

A name counts where the item is called by it, in the title before "for" and "with" or in a field for its kind or model;
elsewhere its words say what the item goes with, or nothing at all. The tables tell only what an item belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence

from lore_mm.knowledge import Knowledge
from lore_mm.text import singular, tokens
from lore_mm.types import Demand, Evidence
from relevance.construct import Step
from relevance.evidence import ItemView, run_together
from relevance.findings import UNSTATED, Finding, unstated
from relevance.follow_trees import mains_of

__all__ = ["EMPTY_WORDS", "unknown_model", "unknown_thing"]

EMPTY_WORDS = frozenset("a an the of for with in on and or to by from my your some any is it".split())
_NAMED, _TEXT = 0.9, 0.7
_SHORTEST_CODE = 4  # letters and digits of a part number that a longer one may be a variant of


def unknown_thing(step: Step, view: ItemView) -> Finding:
    """The thing itself in words no table knows. `deviation` is the share of them that the item is not called by."""
    demand = step.demand
    asked = list(dict.fromkeys(singular(t.text) for t in tokens(demand.value) if t.text not in EMPTY_WORDS))
    if not asked:
        return unstated(demand)
    named = [view.naming[w] for w in asked if w in view.naming]
    missing = 1.0 - len(named) / len(asked)
    if not missing:
        return _words("words_all", f"asks for {demand.value}; it is called so", named, _NAMED, missing)
    places = [view.words[w] for w in asked if w in view.words]
    if len(places) == len(asked):
        reason = f"asks for {demand.value}; its text has these words, and it is not called so"
        return _words("words_beside", reason, places, _TEXT, missing)
    if places:
        lacks = ", ".join(w for w in asked if w not in view.words)
        said = ", ".join(p.quote or "" for p in places)
        reason = f"asks for {demand.value}; its text has {said} but not {lacks}"
        return _words("words_some", reason, places, UNSTATED, missing)
    return _words("words_none", f"asks for {demand.value}; its text has none of these words", [], UNSTATED, missing)


def unknown_model(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """A part number, or a model of a series the tables know ("iphone 7"), as one name: "TN-2110" is "tn2110"."""
    demand = step.demand
    want = run_together(demand.value)
    if not want:
        return unstated(demand)
    if (place := view.runs.get(want)) is not None:
        aside = want not in view.naming_runs
        if not step.accessory and (aside or _is_for(demand, view, knowledge)):
            reason = f"asks for {demand.value}; this is made for it"
            return _words("model_accessory", reason, [place], _NAMED)
        return _words("words_all", f"asks for {demand.value}; it is called so", [place], _NAMED)
    found = _elsewhere(demand, want, view)
    return found if found.relation == "words_all" else _stated(demand, want, view) or found


def _stated(demand: Demand, want: str, view: ItemView) -> Finding | None:
    """The models that fields or a title's part number state: the very one, a variant of it, another one."""
    other: Finding | None = None
    for found in view.stated("model"):
        have = run_together(found.value)
        if have == want:
            return Finding.of("words_all", found, f"asks for {demand.value}; it is one")
        if len(want) >= _SHORTEST_CODE and have.startswith(want) and not have[len(want)].isdigit():
            return Finding.of("series_variant", found, f"asks for {demand.value}; {found.value} is a variant of it")
        if any(c.isdigit() for c in have) and any(c.isdigit() for c in want):
            other = other or Finding.of("other_model", found, f"asks for {demand.value}; it is {found.value}")
    return other


def _elsewhere(demand: Demand, want: str, view: ItemView) -> Finding:
    if (place := view.described_runs.get(want)) is not None:
        return _words("words_all", f"asks for {demand.value}; its text calls it so", [place], _TEXT)
    if (place := view.text_runs.get(want)) is not None:
        reason = f"asks for {demand.value}; its text mentions it"
        return _words("words_beside", reason, [place], _TEXT)
    if (place := _other_number(want, view)) is not None:
        reason = f"asks for {demand.value}; it is {place.quote}"
        return _words("other_model", reason, [place], _NAMED)
    words = list(dict.fromkeys(singular(t.text) for t in tokens(demand.value)))
    named = [view.naming[w] for w in words if w in view.naming]
    if named:
        reason = f"asks for {demand.value}; it is called {', '.join(p.quote or '' for p in named)}, not all of it"
        return _words("words_some", reason, named, UNSTATED, 1.0 - len(named) / len(words))
    return _words("words_none", f"asks for {demand.value}; nothing names it", [], UNSTATED)


def _other_number(want: str, view: ItemView) -> Evidence | None:
    """The letters of a model with another number behind them: iPhone 8 for "iphone 7"."""
    letters = want[: next((i for i, c in enumerate(want) if c.isdigit()), 0)]
    if not letters:
        return None
    numbered = (place for run, place in view.naming_runs.items() if run[: len(letters)] == letters)
    return next((p for p in numbered if run_together(p.quote or "")[len(letters) :][:1].isdigit()), None)


def _is_for(demand: Demand, view: ItemView, knowledge: Knowledge) -> bool:
    """True where the model is of a series whose accessory the item is: the case of "iPhone 7 silicone case"."""
    series = [knowledge.series.get(entry.removeprefix("series/")) for entry in demand.knowledge]
    kinds = [s.category for s in series if s is not None and s.category]
    mains = [
        m for found in view.categories if found.value in knowledge.categories for m in mains_of(found.value, knowledge)
    ]
    return any(knowledge.is_a(kind, main) for kind in kinds for main in mains)


def _words(
    relation: str, reason: str, places: Sequence[Evidence], confidence: float, deviation: float | None = None
) -> Finding:
    return Finding(relation, reason, tuple(p.quote or "" for p in places), tuple(places), confidence, deviation)
