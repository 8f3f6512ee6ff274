"""A migration held against the schemas it leads to, before a row is touched; and what a question was before it.

This module reads no rows.
"""

from __future__ import annotations

from lore_mm.attribute import AttributeSpec
from lore_mm.errors import ConfigError, nearest
from lore_mm.migration_file import Migration, Step
from lore_mm.migrations import Destination

__all__ = ["check_destination", "former_specs", "is_repeatable", "unknown_kinds"]

_NAME_THEM = "the new schemas are named by --schemas, kinds by --knowledge"


def check_destination(migration: Migration, destination: Destination) -> None:
    """Check that the schemas are those the migration leads to: version, attributes, values, and the kinds it names.

    A kind that something becomes may be missing (see `unknown_kinds`), unless all of them are.

    Raises:
        ConfigError: naming the migration, what is missing, and the nearest that there is.
    """
    departments, called = destination.schemas.departments, f"migration {migration.name}"
    if migration.department is not None:
        if migration.department not in departments:
            hint = nearest(migration.department, departments)
            raise ConfigError(f"{called}: department: no schema {migration.department!r}{hint}; {_NAME_THEM}")
        have = departments[migration.department].version.rpartition("+")[2]
        if migration.to_version not in (None, have):
            raise ConfigError(
                f"{called}: it leads to version {migration.to_version} of {migration.department!r}, and the schemas "
                f"have {have}; {_NAME_THEM}"
            )
    known = {name for schema in departments.values() for name in schema.specs}
    for step in migration.attribute:
        for target in step.targets:
            if target not in known:
                raise ConfigError(
                    f"{called}: {step.name}: no schema has an attribute {target!r}{nearest(target, known)}; "
                    f"{_NAME_THEM}"
                )
        _check_values(called, step, destination)
    _check_kinds(called, migration, destination)


def unknown_kinds(migration: Migration, destination: Destination) -> list[str]:
    """The kinds it leads to that the knowledge tables do not have; what would become one of them stays as it is."""
    return sorted(set(_new_kinds(migration)) - destination.knowledge.categories.keys())


def is_repeatable(migration: Migration, destination: Destination) -> bool:
    """True where it does nothing to rows that were made by these schemas: then it may be applied as often as one likes.

    Not so where a name that it starts from is one that it, or the schemas, lead to.
    """
    return not migration.moves_in_circles and not any(
        _starts_from(step, spec)
        for step in migration.attribute
        for spec in _specs_for(step, destination)
        if not step.add
    )


def _specs_for(step: Step, destination: Destination) -> list[AttributeSpec]:
    """What the schemas still have under the old name, for the kinds of a step."""
    schemas = [destination.schema(kind) for kind in step.categories] or list(destination.schemas.departments.values())
    return [schema.specs[step.name] for schema in schemas if step.name in schema.specs]


def _starts_from(step: Step, spec: AttributeSpec) -> bool:
    """Whether a value that the attribute may hold now is one that the step changes."""
    if step.drop or step.to or step.where:
        return True
    return spec.type == "text" or any(word in spec.values for word in (*step.values, *step.split))


def former_specs(spec: AttributeSpec, step: Step) -> list[AttributeSpec]:
    """What an attribute was before a step that led to it, as far as that can be told from what it is now.

    The same but for its name, and for values that were renamed one by one; the word that a value was called by may
    have become one of its other words since. None where values were merged: what they were is not known any more.
    """
    back = {new: old for old, new in step.values.items()}
    if len(back) != len(step.values):
        return []
    found = []
    for dropped in ({}, back):
        values = {
            back.get(value, value): tuple(word for word in words if word != dropped.get(value))
            for value, words in spec.values.items()
        }
        found.append(spec.model_copy(update={"name": step.name, "values": values}))
    return found if back else found[:1]


def _check_values(called: str, step: Step, destination: Destination) -> None:
    """New values are among those a closed list has, and no number is made of a word."""
    made = [(step.to or step.name, value) for value in step.values.values()]
    made += [(name, value) for parts in step.split.values() for name, value in parts.items()]
    for name, value in made:
        specs = [s.specs[name] for s in destination.schemas.departments.values() if name in s.specs]
        if step.values and not step.to and not specs:
            raise ConfigError(f"{called}: {name}: no schema has this attribute; {_NAME_THEM}")
        if specs and all(spec.type == "number" for spec in specs):
            raise ConfigError(f"{called}: {step.name}: {name} is a number, and {value!r} is a word")
        legal = {word for spec in specs for word in (("yes", "no") if spec.type == "flag" else spec.values)}
        if specs and all(s.type == "flag" or (s.type == "choice" and s.values) for s in specs) and value not in legal:
            raise ConfigError(
                f"{called}: {step.name}: {value!r} is no value of {name}{nearest(value, legal)}; "
                f"legal: {', '.join(sorted(legal)[:20])}"
            )
    for condition in step.where:
        units = {
            s.specs[condition.to].unit for s in destination.schemas.departments.values() if condition.to in s.specs
        }
        if condition.unit is not None and units and condition.unit not in units:
            kept = ", ".join(sorted(unit or "no unit" for unit in units))
            raise ConfigError(f"{called}: {step.name}: {condition.to} is kept in {kept}, not in {condition.unit}")


def _check_kinds(called: str, migration: Migration, destination: Destination) -> None:
    there, old = destination.knowledge.categories, migration.categories
    for step in migration.attribute:
        for kind in step.categories:
            if kind not in there and kind not in old:
                raise ConfigError(
                    f"{called}: {step.name}: categories: unknown kind {kind!r}{nearest(kind, [*there, *old])}; "
                    f"{_NAME_THEM}"
                )
    new = set(_new_kinds(migration))
    if new and not new & there.keys():
        one = min(new)
        raise ConfigError(
            f"{called}: categories: the knowledge tables have none of the new kinds, such as {one!r}"
            f"{nearest(one, there)}; {_NAME_THEM}"
        )


def _new_kinds(migration: Migration) -> list[str]:
    rules = migration.categories.values()
    return [kind for rule in rules for kind in ([rule] if isinstance(rule, str) else rule.values.values())]
