"""Luma: a shop's sportswear, colour variant by colour variant, with the legal values of its attributes.

A folder of items.jsonl (item_id, parent, title, description, category, gender, attribute_set, attributes, image),
attribute_schema.json (attribute → label, input, options) and images/.
"""

from __future__ import annotations

from lore_mm.datasets.dataset import in_test

__all__ = ["test_parent"]


def test_parent(parent: str) -> bool:
    """Whether a product, and with it all of its colour variants, belongs to the test split."""
    return in_test(parent)


test_parent.__test__ = False  # type: ignore[attr-defined]  # no test, whatever a collector makes of its name
