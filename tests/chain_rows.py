"""Rows to train on, made by hand: two queries, items that satisfy or break them, labels by the rules."""

from __future__ import annotations

from dataclasses import replace

from relevance.training.rows import ChainRow, chain_at

__all__ = ["ROWS", "many", "row"]

_SYSTEM = "Judge whether the item is what the shopper asks for."


def row(query, item_id, title, label, legs, failed=(), **others):
    """A row whose chain and reference are these lines."""
    told = f'title: "{title}"'
    lines = "\n".join(legs)
    made = ChainRow(
        query_id=query,
        item_id=item_id,
        query=query,
        label=label,
        system=_SYSTEM,
        prompt=f'query: "{query}"\n{told}',
        item_told=told,
        category="hoodie",
        rules=lines,
        reference=lines,
        failed=tuple(failed),
    )
    chain_at(made)  # it can be read
    return replace(made, **others)


def _hoodie(title, relation, color, level, rule):
    return [
        '- category "hoodie" (head): exact "hoodie" in title "Hoodie" => L4 any.exact',
        f'- color "blue": {relation} "{color}" in title "{title}" => {level} {rule}',
    ]


_SOFA = [
    '- category "hoodie" (head): unrelated "sofa" in title "Sofa" => L1 category.unrelated',
    '- color "blue": other "black" in title "Black" => L2 color.other',
]
ROWS = (
    row("blue hoodie", "blue", "Blue Hoodie", 4, _hoodie("Blue", "exact", "blue", "L4", "color.stated")),
    row("blue hoodie", "navy", "Navy Hoodie", 3, _hoodie("Navy", "near", "navy", "L3", "color.near")),
    row("blue hoodie", "black", "Black Hoodie", 2, _hoodie("Black", "other", "black", "L2", "color.other"), ["color"]),
    row("blue hoodie", "sofa", "Black Sofa", 1, _SOFA, ["category", "color"]),
)


def many(count):
    """So many rows of the four kinds, each of another query."""
    return [replace(ROWS[i % 4], query_id=f"q{i // 4}", item_id=f"{ROWS[i % 4].item_id}{i}") for i in range(count)]
