"""`lore taxonomy`: Shopify's product taxonomy as schema and knowledge files, or its categories beside ours.

The conversion itself is `lore_mm.shopify`'s, that of a mapping between versions `lore_mm.shopify_moves`'; this module
writes TOML, the same bytes for the same taxonomy. What links our categories to Shopify's is `lore_mm.shopify_links`'
affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.migration_file import Migration, load_migration
from lore_mm.schema import load_schemas
from lore_mm.shopify import Converted, Taxonomy, convert_taxonomy, read_taxonomy
from lore_mm.shopify_links import candidates, load_links
from lore_mm.shopify_moves import read_moves

__all__ = ["link_rows", "main", "write_converted", "write_moves"]


def write_converted(converted: Converted, out: Path, version: str) -> None:
    """Write `out`/schemas/<department>.toml and `out`/knowledge/categories.toml, and check that they load.

    Raises:
        ConfigError: what was written is not accepted together with the shipped tables.
    """
    head = f"# Made by `lore taxonomy` from Shopify's product taxonomy {version} (MIT): make it anew, do not edit it.\n"
    schemas, knowledge = out / "schemas", out / "knowledge"
    for folder in (schemas, knowledge):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in converted.departments.items():
        (schemas / f"{name}.toml").write_text(head + _toml(content), encoding="utf-8")
    (knowledge / "categories.toml").write_text(head + _toml(converted.categories), encoding="utf-8")
    load_schemas.cache_clear()  # the same folder may have held other files a moment ago
    load_knowledge.cache_clear()
    load_schemas((schemas,)).check_against(load_knowledge((knowledge,)))


def write_moves(mapping: Path, out: Path | None) -> tuple[Path, Migration]:
    """Write the migration file of a mapping between versions, `<its name>.toml` unless `out` says where.

    Raises:
        InputError: the mapping is not of the published form, or the file is there already.
    """
    content = read_moves(mapping)
    path = out or Path(f"{content['name']}.toml")
    if path.exists():  # somebody may have written rules into it
        raise InputError(f"{path} is there already: name another by --out, or delete it")
    head = (
        "# Made by `lore taxonomy` from a mapping of Shopify's (MIT). What says `among` stays: write a rule for it.\n"
    )
    path.write_text(head + _toml(content), encoding="utf-8")
    return path, load_migration(path)


def link_rows(knowledge: Knowledge, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Each of our categories with its link (exact, broader, none) and the candidates for one, for review.

    `full_name` is None where the link is to no category of this release of the taxonomy.
    """
    links, found = load_links(), candidates(knowledge, taxonomy)
    rows: list[dict[str, Any]] = []
    for category in knowledge.categories:
        link = links.of(category, knowledge)
        theirs = taxonomy.categories.get(link.id) if link else None
        rows.append(
            {
                "category": category,
                "relation": "none" if link is None else "broader" if link.broader else "exact",
                "shopify": link and link.id,
                "full_name": theirs and theirs.full_name,
                "candidates": [candidate._asdict() for candidate in found[category]],
            }
        )
    return rows


def _print_links(taxonomy: Taxonomy, knowledge: Knowledge, json_wanted: bool) -> None:
    rows = link_rows(knowledge, taxonomy)
    if for_people(json_wanted):
        table = Table("category", "relation", "shopify", "called there", box=None, header_style="dim")
        for row in rows:
            table.add_row(row["category"], row["relation"], row["shopify"] or "", row["full_name"] or "")
        print_table(table)
    else:
        for row in rows:
            print_json(row)
    counts = {kind: sum(row["relation"] == kind for row in rows) for kind in ("exact", "broader", "none")}
    gone = [row["category"] for row in rows if row["shopify"] and row["full_name"] is None]
    say(" · ".join(f"{kind}: {n}" for kind, n in counts.items()) + f" · table of {load_links().version}")
    if gone:
        say(f"linked to no category of {taxonomy.version}: {', '.join(gone)}")


def _print_moves(path: Path, migration: Migration, json_wanted: bool) -> None:
    open_ones = sum(not isinstance(rule, str) for rule in migration.categories.values())
    counts = {
        "migration": migration.name,
        "file": str(path),
        "kinds": len(migration.categories),
        "undecided": open_ones,
    }
    _print_counts(counts, json_wanted)


def _print_counts(counts: Mapping[str, Any], json_wanted: bool) -> None:
    if for_people(json_wanted):
        say(" · ".join(f"{key}: {value}" for key, value in counts.items()))
    else:
        print_json(counts)


def _toml(content: Mapping[str, Any]) -> str:
    """Plain keys first, then a table each; of a table's values, those that are tables in a table of their own."""
    lines = [f"{_quoted(key)} = {_value(value)}" for key, value in content.items() if not isinstance(value, Mapping)]
    for key, table in content.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_quoted(key)}]"]
            lines += [f"{_quoted(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, Mapping)]
            for inner, words in table.items():
                if isinstance(words, Mapping):
                    lines.append(f"[{_quoted(key)}.{_quoted(inner)}]")
                    lines += [f"{_quoted(k)} = {_value(v)}" for k, v in words.items()]
    return "\n".join(lines) + "\n"


def _quoted(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _value(key)


def _value(value: object) -> str:
    """A TOML value: strings, numbers, flags and lists of them are written as JSON writes them (DEL aside)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def main(
    folder: Annotated[
        Path,
        typer.Argument(
            help="The taxonomy: a folder with its categories and attributes, .json or .parquet; or one of its "
            "mappings between two versions, a .json file."
        ),
    ],
    kinds: Annotated[
        list[str] | None, typer.Argument(help="Which kinds, each with all below it: an id, a name or a full name.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the folders schemas and knowledge are written, ./shopify unless given; or the file."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Write nothing: list our categories with their links and other candidates.")
    ] = False,
    knowledge: Annotated[
        list[Path] | None, typer.Option("--knowledge", help="A folder of your own knowledge tables, for --link.")
    ] = None,
    json_wanted: Annotated[bool, typer.Option("--json", help="Counts as a JSON line.")] = False,
) -> None:
    """Turn Shopify's product taxonomy into schemas and categories; without kinds, all its verticals.

    The files are those of dist/en in the public repository Shopify/product-taxonomy. A kind has exactly the attributes
    that are listed for it there, beside a few of identity and measure; lore_mm/shopify.toml says which demand dimension
    each belongs to.

    Example: lore taxonomy product-taxonomy/dist/en "Apparel & Accessories > Clothing" --out mine

    Then: lore extract --schemas mine/schemas --knowledge mine/knowledge

    What our categories are called there: lore taxonomy product-taxonomy/dist/en --link --json

    A migration file for `lore migrate`: lore taxonomy shopify_2025-09_to_shopify_2026-02.json --out moves.toml
    """
    if folder.is_file():
        _print_moves(*write_moves(folder, out), json_wanted)
        return
    out, taxonomy = out or Path("shopify"), read_taxonomy(folder)
    if link:
        _print_links(taxonomy, load_knowledge(tuple(knowledge or ())), json_wanted)
        return
    roots = [taxonomy.find(one) for one in kinds or ()] or [c for c in taxonomy.categories.values() if c.parent is None]
    for root in roots:
        if inside := next((o for o in roots if o is not root and root in taxonomy.below(o)), None):
            raise InputError(f"{root.full_name!r} lies below {inside.full_name!r}: name one of the two")
    converted = convert_taxonomy(taxonomy, roots, load_knowledge())
    write_converted(converted, out, taxonomy.version)
    attributes = sum(isinstance(a, Mapping) for d in converted.departments.values() for a in d.values())
    counts = {
        "version": taxonomy.version,
        "departments": len(converted.departments),
        "categories": len(converted.categories),
        "attributes": attributes,
        "schemas": str(out / "schemas"),
        "knowledge": str(out / "knowledge"),
    }
    _print_counts(counts, json_wanted)


if __name__ == "__main__":
    run(command_app(main, "python -m lore_mm.taxonomy"))
