"""Numbers in text: the door to quantities (`lore_mm.quantities`) and prices (`lore_mm.prices`)."""

from __future__ import annotations

from lore_mm.prices import Price, find_prices
from lore_mm.quantities import Quantity, find_quantities, format_number, letter_size

__all__ = ["Price", "Quantity", "find_prices", "find_quantities", "format_number", "letter_size"]
