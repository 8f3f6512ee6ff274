"""What a migration makes of one row of attribute values: decided first, value by value, then carried out.

Nothing is guessed. What the file does not decide, or what cannot be done in this row (two attributes become one and
disagree), stays as it was, under its old name, with the reason. A value that is only moved keeps its confidence,
evidence and source; what sources said is told in the new words, beside the words they were read in. Values that become
one have the confidence of the surer one, the evidence of both, and the sum of their shares.

Everything reads the old row, so that no step sees what another one did. This module knows no store and no file format
(`lore_mm.migration_file`), and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from lore_mm.attribute import AttributeSpec, fold
from lore_mm.knowledge import Knowledge
from lore_mm.migration_file import CATEGORY, Migration, Step
from lore_mm.schema import AttributeSchema, Schemas
from lore_mm.types import AttributeValue, Evidence

__all__ = ["Decision", "Destination", "Fate", "Migrated", "Said", "decide", "migrate"]

_SILENCES = {"not_applicable": 0, "not_stated": 1, "failed": 2}  # the first of them stands where several meet


class Said(Protocol):
    """As much of a value as a decision needs; an `AttributeValue` is one."""

    @property
    def name(self) -> str:
        """Of the attribute."""
        ...

    @property
    def value(self) -> str | None:
        """None where nothing is said."""
        ...

    @property
    def number(self) -> float | None:
        """The same as a number, where it is one."""
        ...

    @property
    def unit(self) -> str | None:
        """Of the number."""
        ...


@dataclass(frozen=True)
class Destination:
    """The schemas and tables that a migration leads to: what may hold several values, which dimension a name is of,
    which kinds there are and what they lie below.
    """

    schemas: Schemas
    knowledge: Knowledge
    _anywhere: dict[str, AttributeSpec | None] = field(default_factory=dict, repr=False, compare=False)

    def schema(self, category: str | None) -> AttributeSchema:
        """The attributes of a kind."""
        return self.schemas.for_category(category, self.knowledge)

    def spec(self, name: str, category: str | None) -> AttributeSpec | None:
        """The attribute of that name, of this kind or else of any; None where there is none."""
        own = self.schema(category).specs.get(name)
        if own is None and name not in self._anywhere:
            found = (s.specs[name] for s in self.schemas.departments.values() if name in s.specs)
            self._anywhere[name] = next(found, None)
        return own or self._anywhere[name]

    def line(self, *categories: str | None) -> list[str]:
        """These kinds and all above them, nearest first."""
        here = [one for one in categories if one]
        return list(dict.fromkeys([*here, *(up for one in here for up in self.knowledge.ancestors(one))]))


class Fate(NamedTuple):
    """What becomes of one value.

    `results` are attributes and values, a value of None standing for what it is; none where it is dropped. `kept`: it
    stays although the file means it, and why. `labels` name what does it, or would.
    """

    results: tuple[tuple[str, str | None], ...]
    labels: tuple[str, ...] = ()
    kept: str | None = None
    step: Step | None = None

    @property
    def acts(self) -> bool:
        """Whether anything changes."""
        return bool(self.labels) and self.kept is None


@dataclass(frozen=True)
class Decision:
    """What becomes of a row: a fate for each value, in order, and the kinds it names.

    `category` is the row's own kind afterwards. `kinds`: kind → the kind it becomes, which may be itself, what does
    that, and why it stays where it does. `names`: attribute → the name under which its answers stand, None where they
    do not stand as they were given; attributes that nothing is done to are not among them. `steps`: attribute → step.
    """

    fates: tuple[Fate, ...]
    category: str | None
    kinds: Mapping[str, tuple[str, str, str | None]]
    names: Mapping[str, str | None]
    steps: Mapping[str, Step]

    @property
    def acts(self) -> bool:
        """Whether anything changes."""
        return (
            any(fate.acts for fate in self.fates)
            or any(new != old for old, (new, _, _) in self.kinds.items())
            or any(new != old for old, new in self.names.items())
        )


@dataclass(frozen=True)
class Migrated:
    """A row afterwards, and how that came; untouched values are the very objects that were given."""

    values: tuple[AttributeValue, ...]
    category: str | None
    decision: Decision


def decide(
    values: Sequence[Said],
    category: str | None,
    migration: Migration,
    destination: Destination | None = None,
    others: Iterable[str] = (),
) -> Decision:
    """What becomes of the values of a row of that kind.

    `others` are attributes that were asked for, whether or not there is a value. Without a destination an attribute
    holds one value at most, and any kind may be there.
    """
    kinds = {kind: _kind(kind, values, migration, destination) for kind in _kinds_in(values, category, migration)}
    new = kinds[category][0] if category in kinds else category
    line = destination.line(category, new) if destination else [one for one in dict.fromkeys((category, new)) if one]
    steps: dict[str, Step | None] = {}
    for name in {*(v.name for v in values), *others}:
        steps[name] = _nearest(migration.steps_of.get(name, ()), line)
    fates = [_of_kind(v, kinds) if v.name == CATEGORY else _fate(v, steps[v.name]) for v in values]
    _keep_apart(values, fates, lambda name: bool(destination and (s := destination.spec(name, new)) and s.multi))
    names = _new_names(values, fates, steps)
    return Decision(tuple(fates), new, kinds, names, {name: step for name, step in steps.items() if step})


def migrate(
    values: Sequence[AttributeValue],
    category: str | None,
    migration: Migration,
    destination: Destination | None = None,
    decision: Decision | None = None,
) -> Migrated:
    """The values of a row after a migration, as `decide` decides. Pure; values keep their order.

    Dimension and kind of what is moved are those of the destination's schema, where it knows the attribute.
    """
    decided = decision or decide(values, category, migration, destination)
    made: list[_Made] = []
    for value, fate in zip(values, decided.fates, strict=True):
        for name, said in fate.results if fate.acts else ():
            new = _moved(value, name, said, _words(fate, name, decided))
            spec = destination.spec(name, decided.category) if destination else None
            if spec is not None:
                new = replace(new, dimension=spec.dimension, kind=spec.kind)
            made.append(_Made(new, value.name, said is not None))
        if not fate.acts:
            made.append(_Made(value, None))
    kept = _joined(made) if any(one.source is not None for one in made) else made
    return Migrated(tuple(one.value for one in kept), decided.category, decided)


# -- deciding ----------------------------------------------------------------------------------------------------------


def _kinds_in(values: Sequence[Said], category: str | None, migration: Migration) -> Iterable[str]:
    """The kinds of a row that the file means."""
    if not migration.categories:
        return ()
    said = [category, *(v.value for v in values if v.name == CATEGORY)]
    return dict.fromkeys(kind for kind in said if kind is not None and kind in migration.categories)


def _kind(
    kind: str, values: Sequence[Said], migration: Migration, destination: Destination | None
) -> tuple[str, str, str | None]:
    """What a kind becomes in this row, what does that, and why it stays where it does."""
    rule, label = migration.categories[kind], migration.kind_label(kind)
    if isinstance(rule, str):
        new: str | None = rule
    elif rule.among is not None:
        return kind, label, "nothing tells which" if rule.among else "it has no successor"
    else:
        told = [v.value for v in values if v.name == rule.by and v.value]
        found = {rule.new_kinds.get(fold(value)) for value in told}
        new = found.pop() if len(found) == 1 else None
        if new is None:
            return kind, label, f"{rule.by} does not tell which" if told else f"{rule.by} says nothing"
    if destination and new not in destination.knowledge.categories:
        return kind, label, "the knowledge tables have no such kind"
    return new or kind, label, None


def _nearest(steps: Sequence[Step], line: Sequence[str]) -> Step | None:
    """The step for the nearest kind; one without kinds stands behind them all."""
    for one in line:
        for step in steps:
            if one in step.categories:
                return step
    return next((step for step in steps if not step.categories), None)


def _of_kind(value: Said, kinds: Mapping[str, tuple[str, str, str | None]]) -> Fate:
    if value.value is None or value.value not in kinds:
        return Fate(((value.name, None),))
    new, label, kept = kinds[value.value]
    return Fate(((value.name, None if kept else new),), (label,), kept)


def _fate(value: Said, step: Step | None) -> Fate:
    """What becomes of a value by its own step, whatever else stands in the row."""
    as_it_is = ((value.name, None),)
    if step is None:
        return Fate(as_it_is)
    if step.drop:
        return Fate((), (step.label,), None, step)
    whole = (step.label,) if step.to else ()
    moved = step.to or step.name
    if value.value is not None:
        # a number is not a word for a value
        word = fold(value.value) if value.number is None and (step.parts or step.new_values) else ""
        if word in step.parts:
            old, parts = step.parts[word]
            return Fate(tuple(parts.items()), (step.split_label(old),), None, step)
        if fits := next((c for c in step.where if c.fits(value.number, value.unit)), None):
            return Fate(((fits.to, None),), (step.where_label(fits),), None, step)
        if word in step.new_values and step.new_values[word][1] != value.value:
            old, new = step.new_values[word]
            return Fate(((moved, new),), (*whole, step.value_label(old)), None, step)
        if not step.to and (step.split or step.where):
            said = "its value is not among those that are split" if step.split else "no condition fits its number"
            return Fate(as_it_is, step.labels[-1:], said, step)
    return Fate(((moved, None),), whole, None, step)


def _keep_apart(values: Sequence[Said], fates: list[Fate], multi: Callable[[str], bool]) -> None:
    """Where attributes meet under one name that holds one value, and disagree, those that come from elsewhere stay.

    What stays may stand in the way of another, so it is looked at again until nothing changes.
    """
    while arrivals := _arrivals(values, fates):
        meeting: dict[str, dict[str, set[object]]] = {}  # new name → old name → what is said
        for value, fate in zip(values, fates, strict=True):
            for name, new in fate.results:
                if name not in arrivals:
                    continue
                told = meeting.setdefault(name, {}).setdefault(value.name, set())
                if value.value is not None:
                    told.add((value.number, value.unit) if value.number is not None and not new else
                             fold(new or value.value))  # fmt: skip
        stuck: dict[str, str] = {}  # old name → why
        for name, by_source in meeting.items():
            sources = {source: told for source, told in by_source.items() if told}
            if len(sources) < 2 or len(set().union(*sources.values())) == 1 or multi(name):
                continue
            for source in sources.keys() - {name}:
                stuck[source] = f"{name} would have two values, of {' and '.join(sorted(sources))}"
        if not stuck:
            return
        for i, (value, fate) in enumerate(zip(values, fates, strict=True)):
            if value.name in stuck and fate.acts:
                fates[i] = Fate(((value.name, None),), fate.labels, stuck[value.name], fate.step)


def _arrivals(values: Sequence[Said], fates: Sequence[Fate]) -> set[str]:
    """The names that something comes to from another."""
    return {
        name
        for value, fate in zip(values, fates, strict=True)
        if fate.acts
        for name, _ in fate.results
        if name != value.name
    }


def _new_names(
    values: Sequence[Said], fates: Sequence[Fate], steps: Mapping[str, Step | None]
) -> dict[str, str | None]:
    """The `names` of a decision; `steps`: attribute → its step, of all that were asked for or said."""
    of: dict[str, list[Fate]] = {}
    for value, fate in zip(values, fates, strict=True):
        of.setdefault(value.name, []).append(fate)
    names: dict[str, str | None] = {}
    come: dict[str, set[str]] = {}  # new name → the old ones that led to it
    arrivals = _arrivals(values, fates) | {step.to for step in steps.values() if step and step.to}
    for name, step in steps.items():
        if step is None and name not in arrivals:
            continue
        mine = of.get(name, ())
        led = {result for fate in mine for result, _ in fate.results}
        if step is None or name == CATEGORY:
            names[name] = name
        elif any(fate.acts and (step.drop or fate.labels[0] in _parting(step)) for fate in mine) or len(led) > 1:
            names[name] = None
        else:
            names[name] = next(iter(led), step.to or (None if step.drop else name))
        for one in led | {n for n in (names[name],) if n is not None}:
            come.setdefault(one, set()).add(name)
    for name, new in names.items():  # where several come together no question was about all of them
        if new is not None and len(come[new]) > 1:
            names[name] = None
    return {name: new for name, new in names.items() if new != name or steps[name] is not None}


def _parting(step: Step) -> Sequence[str]:
    """The labels of what takes values apart."""
    return [step.split_label(old) for old in step.split] + [step.where_label(c) for c in step.where]


# -- carrying out ------------------------------------------------------------------------------------------------------


class _Made(NamedTuple):
    value: AttributeValue
    source: str | None  # the attribute it was moved from; None where it is as it was
    reworded: bool = False


def _words(fate: Fate, name: str, decided: Decision) -> Callable[[str], str]:
    """How a word that a source said is told under a new name; as it was where the file does not say."""
    if name == CATEGORY:
        return lambda word: decided.kinds[word][0] if word in decided.kinds else word
    step = fate.step
    if step is None:
        return lambda word: word
    if fate.labels and len(fate.results) and step.split and fate.labels[0] in _parting(step):
        return lambda word: step.parts.get(fold(word), ("", {}))[1].get(name, word)
    return lambda word: step.new_values.get(fold(word), ("", word))[1]


def _moved(value: AttributeValue, name: str, said: str | None, words: Callable[[str], str]) -> AttributeValue:
    """A value under another name, or with another word for it."""
    evidence = tuple(_told(piece, words) for piece in value.evidence)
    new = replace(value, name=name, evidence=evidence)
    if said is not None:
        new = replace(new, value=said, number=None, unit=None)
    agreed = {fold(piece.value) for piece in evidence if piece.value} <= {fold(new.value or "")}
    if value.status == "conflict" and evidence != value.evidence and agreed:
        return replace(new, status="value")  # what they said was two words for one thing
    return new


def _told(piece: Evidence, words: Callable[[str], str]) -> Evidence:
    new = words(piece.value) if piece.value else piece.value
    return piece if new == piece.value else replace(piece, value=new)


def _joined(made: Sequence[_Made]) -> list[_Made]:
    """The values with what came together made one; what nothing came to is left alone."""
    groups: dict[str, list[int]] = {}
    for i, one in enumerate(made):
        groups.setdefault(one.value.name, []).append(i)
    kept: dict[int, _Made] = dict(enumerate(made))
    for places in groups.values():
        if len(places) < 2 or all(made[i].source is None for i in places):
            continue
        silent = [i for i in places if made[i].value.value is None]
        several = len({made[i].source or made[i].value.name for i in places}) > 1
        if several and silent:  # silence never erases a value, and stands once
            order = sorted(silent, key=lambda i: _SILENCES.get(made[i].value.status, len(_SILENCES)))
            for i in order[len(silent) == len(places) :]:
                del kept[i]
        first: dict[object, int] = {}
        for i in places:
            if i not in kept or (value := made[i].value).value is None:
                continue
            key = (value.number, value.unit) if value.number is not None else fold(value.value or "")
            j = first.setdefault(key, i)
            if j != i and (several or kept[j].reworded or made[i].reworded):
                kept[j] = _Made(_one_of(kept[j].value, value), kept[j].source, True)
                del kept[i]
    return [kept[i] for i in sorted(kept)]


def _one_of(one: AttributeValue, other: AttributeValue) -> AttributeValue:
    """Two values that say the same as one: the surer, with the evidence of both."""
    sure = one if one.confidence >= other.confidence else other
    share = None if one.share is None or other.share is None else min(1.0, one.share + other.share)
    return replace(sure, evidence=(*one.evidence, *other.evidence), share=sure.share if share is None else share)
