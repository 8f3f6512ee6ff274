"""`lore schema`: what is asked of one kind of thing: attributes, legal values, questions, the JSON Schema of a reply.

It reads schemas and knowledge tables only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lore_mm.attribute import AttributeSpec
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.schema import AttributeSchema, load_schemas
from lore_mm.text import fold

__all__ = ["describe", "find_category", "main"]

_SHOWN = 8  # legal values shown in a table's row


def find_category(words: str, knowledge: Knowledge) -> str:
    """The id of a kind by its id, name or one of its terms.

    Raises:
        InputError: no kind is called so; the text names a near one.
    """
    if words in knowledge.categories:
        return words
    names = {fold(word): c.id for c in reversed(list(knowledge.categories.values())) for word in (c.name, *c.terms)}
    if fold(words) not in names:
        raise InputError(f"no category {words!r}{nearest(words, [*knowledge.categories, *names])}")
    return names[fold(words)]


def describe(schema: AttributeSchema, category: str | None) -> dict[str, Any]:
    """A schema as data: its attributes with legal values and questions, and the JSON Schema of a whole reply."""
    return {
        "category": category,
        "schema": schema.name,
        "version": schema.version,
        "sha": schema.sha,
        "attributes": [
            {
                "name": spec.name,
                "dimension": spec.dimension,
                "type": spec.type,
                "kind": spec.kind,
                "multi": spec.multi,
                "visual": spec.visual,
                "unit": spec.unit,
                "values": list(spec.values),
                "question": spec.question,
            }
            for spec in schema.specs.values()
        ],
        "json_schema": schema.json_schema(),
    }


def main(
    category: Annotated[
        str | None, typer.Argument(help="A kind of thing, by id or name; without it, any thing.")
    ] = None,
    schemas: Annotated[Path | None, typer.Option(help="A folder of attribute schemas of your own.")] = None,
    knowledge: Annotated[Path | None, typer.Option(help="A folder of knowledge tables of your own.")] = None,
    questions: Annotated[bool, typer.Option("--questions", help="The questions as a model gets them.")] = False,
    json_wanted: Annotated[bool, typer.Option("--json", help="JSON, with the JSON Schema of a reply.")] = False,
) -> None:
    """Show which attributes a kind of thing has, what each may say, and how it is asked for.

    Example: lore schema dress --questions
    """
    known = load_knowledge((knowledge,) if knowledge else ())
    shapes = load_schemas((schemas,) if schemas else ())
    shapes.check_against(known)
    found = find_category(category, known) if category else None
    schema = shapes.for_category(found, known)
    if not for_people(json_wanted):
        print_json(describe(schema, found))
        return
    table = Table("attribute", "dimension", "type", "question" if questions else "legal values", box=None)
    for spec in schema.specs.values():
        table.add_row(spec.name, spec.dimension, _type(spec), spec.question if questions else _values(spec))
    say(f"{found or 'any thing'}: schema {schema.name}, version {schema.version}, {len(schema.specs)} attributes")
    print_table(table)


def _type(spec: AttributeSpec) -> str:
    marks = [spec.kind] * (spec.kind == "derived") + ["several"] * spec.multi + ["seen"] * spec.visual
    return " ".join([spec.type, *marks])


def _values(spec: AttributeSpec) -> str:
    if spec.type == "number":
        return spec.unit or ""
    shown = ", ".join(list(spec.values)[:_SHOWN])
    return shown + (f" … ({len(spec.values)})" if len(spec.values) > _SHOWN else "")


if __name__ == "__main__":
    run(command_app(main, "python -m lore_mm.schema_show"))
