"""`lore rules`: what a rulebook gives each relation, dimension by dimension, with the example of every rule.

`reference` is the same as a page (docs/rules.md). It reads a rulebook and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, nearest
from relevance.relations import ANY, DIMENSIONS, RELATIONS
from relevance.rules import Example, Rule, Rulebook, load_rulebook

__all__ = ["describe", "main", "reference"]


def _of(book: Rulebook, dimension: str) -> Iterator[tuple[str, Rule]]:
    """The rules of one dimension, or of any, in the order they are tried in."""
    return ((rule_id, rule) for rule_id, rule in book.rules.items() if rule_id.startswith(f"{dimension}."))


def _where(rule: Rule) -> str:
    """A rule's conditions in words; empty where it has none."""
    parts = []
    if rule.up_to is not None:
        parts.append(f"deviation up to {rule.up_to:g}")
    if rule.beyond is not None:
        parts.append(f"deviation beyond {rule.beyond:g}")
    if rule.attributes:
        parts.append("attribute " + ", ".join(rule.attributes))
    if rule.values:
        parts.append("demand " + ", ".join(rule.values))
    if rule.role:
        parts.append(f"as the query's {rule.role}")
    return "; ".join(parts)


def _example(example: Example) -> str:
    """An example in one line: the query, the item, and what of the item matters besides its title."""
    beside = [f"{name} {value}" for name in ("brand", "store") if (value := getattr(example, name))]
    beside += [f"price {example.price:g} {example.currency or ''}".strip()] if example.price is not None else []
    beside += [f"{share:.0%} {color}" for color, share in example.picture.items()]
    beside += [f'"{example.description}"'] if example.description else []
    return f"{example.query} → {example.item}" + (f" ({', '.join(beside)})" if beside else "")


def describe(book: Rulebook, dimension: str) -> list[dict[str, Any]]:
    """The rules of a dimension as data, in the order they are tried in."""
    return [
        {
            "rule": rule_id,
            "relation": rule.relation,
            "meaning": RELATIONS[rule.relation],
            "where": _where(rule),
            "level": str(rule.level),
            "says": rule.says,
            "example": rule.example.model_dump(mode="json", exclude_defaults=True) | {"level": str(rule.level)},
        }
        for rule_id, rule in _of(book, dimension)
    ]


_HEAD = (
    "# All rules",
    "",
    "This page is made by `lore rules --markdown`, and a test keeps it so. How rules become a grade is told in",
    "[rulebook.md](rulebook.md). A dimension's own rules are tried in this order, then those of any dimension.",
    "",
)
_COLUMNS = ("| rule | relation | where | level | says | example |", "|---|---|---|---|---|---|")


def reference(book: Rulebook) -> str:
    """The whole rulebook as a page in Markdown."""
    lines = [*_HEAD]
    for dimension in (ANY, *DIMENSIONS):
        lines += [f"## {dimension}", "", *_COLUMNS]
        for rule_id, rule in _of(book, dimension):
            cells = (rule_id, rule.relation, _where(rule), str(rule.level), rule.says, _example(rule.example))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += ["## Exceptions from the worst leg", "", "| exception | says | example |", "|---|---|---|"]
    lines += [f"| {name} | {one.says} | {_example(one.example)} |" for name, one in book.exceptions.items()]
    return "\n".join(lines) + "\n"


def main(
    dimension: Annotated[str | None, typer.Argument(help="Only this dimension, such as color, or any.")] = None,
    rules: Annotated[Path | None, typer.Option(help="This rulebook instead of the shipped one.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The whole rulebook as a page.")] = False,
    json_wanted: Annotated[bool, typer.Option("--json", help="One JSON object a rule.")] = False,
) -> None:
    """Show the rules by which a path gets its grade, in the order they are tried in.

    Example: lore rules color
    """
    book = load_rulebook(rules)
    if dimension is not None and dimension not in (ANY, *DIMENSIONS):
        legal = (ANY, *DIMENSIONS)
        raise InputError(f"no dimension {dimension!r}{nearest(dimension, legal)}; legal: {', '.join(legal)}")
    if markdown:
        typer.echo(reference(book), nl=False)
        return
    wanted = (ANY, *DIMENSIONS) if dimension is None else (dimension,)
    found = [row for one in wanted for row in describe(book, one)]
    if not for_people(json_wanted):
        for row in found:
            print_json(row)
        return
    table = Table("rule", "relation", "where", "level", "says", box=None)
    for row in found:
        table.add_row(row["rule"], row["relation"], row["where"], row["level"], row["says"])
    say(f"rulebook version {book.version}, {len(book.rules)} rules and {len(book.exceptions)} exceptions")
    print_table(table)


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.rules_show"))
