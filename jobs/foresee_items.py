"""What `lore extract` would make again of items, and why: by what stands of each, and what each is now.

Pictures are told apart by their bytes and not decoded; no model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from extractors.foresee import foresee_item
from extractors.protocol import ExtractorInput
from extractors.reuse import content_of
from jobs.carry import Carry
from jobs.extraction_rows import VERDICT, earlier_from_rows
from jobs.foresee import RowForecast
from jobs.item_input import picture_settings
from lore_mm.fingerprint import sha_of
from lore_mm.rows import item_from_row

if TYPE_CHECKING:
    from jobs.extract_items import ExtractItems

__all__ = ["foresee_items"]

_CALLED = {"words": "text", "record": "price or store", "pictures": "pictures"}
_UNREAD = "unread"  # a picture's mark where it could not be read


def foresee_items(work: ExtractItems, rows: pa.Table, same: Sequence[bool], carry: Carry) -> Iterator[RowForecast]:
    """A forecast for each row of ITEMS; `same[i]`: its text and pictures are what they were."""
    ids = [str(item_id) for item_id in rows.column("item_id").to_pylist()]
    how = sha_of(picture_settings(work.policy))
    marks = work.picture_shas(rows)
    for row, found, own, unchanged in zip(rows.to_pylist(), carry.rows(ids), marks, same, strict=True):
        if row["status"] != "ok":
            yield RowForecast("failed at ingest")
            continue
        earlier = earlier_from_rows(found, carry.again)
        item = item_from_row(row)
        content = content_of(item, [how, *own])
        then = earlier[VERDICT].extraction.made_from if VERDICT in earlier else {}
        if unchanged and _UNREAD in own and "pictures" in then:
            content["pictures"] = then["pictures"]  # why it cannot be read is a part of it, and not known here
        changed = [called for part, called in _CALLED.items() if part in then and then[part] != content[part]]
        why = (
            f"{', '.join(changed)} changed" if changed else "settings changed" if then else "made before this was kept"
        )
        one = ExtractorInput(item, None, content=content, earlier=earlier)
        fates = list(foresee_item(one, work.extractors, work.gate))
        yield RowForecast(
            why,
            {fate.extractor: fate.why for fate in fates},
            next((fate.questions for fate in fates if fate.questions), {}),
            sum(fate.requests for fate in fates),
        )
