"""Items to extract from, each with what stands of it; pictures that nobody is likely to look at are not decoded.

A picture is decoded when the item is loaded, beside the work, unless every extractor that looks at it would find its
row standing: then it is decoded should one of them ask. So a new calibration, or one more extractor of words, opens no
picture. This module knows no extractor by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL.Image import Image

from extractors.protocol import Earlier, Extraction, Extractor
from extractors.reuse import content_of, parts_read
from jobs.carry import Carry
from jobs.extraction_rows import VERDICT, earlier_from_rows
from jobs.item_input import ItemInput, LoadedItem, picture_settings
from lore_mm.fingerprint import sha_of
from lore_mm.rows import item_from_row

if TYPE_CHECKING:
    from jobs.extract_items import ExtractItems

__all__ = ["ItemToExtract", "Looked", "load_with_earlier", "with_earlier"]

Looked = tuple[str, Image | None, str | None]  # a picture's mark, the picture, why there is none


@dataclass(frozen=True, slots=True)
class ItemToExtract(LoadedItem):
    """A loaded item, the shas of its content, and what stands of it by extractor.

    `put_off`: its pictures were not decoded; `root` is the folder they are in.
    """

    content: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, Earlier] = field(default_factory=dict)
    put_off: bool = False
    root: str | None = None
    _seen: list[Looked] = field(default_factory=list)

    def stands(self, name: str, extraction: Extraction) -> bool:
        """True for an extraction that was taken over as it is."""
        return name in self.earlier and self.earlier[name].extraction is extraction

    def look(
        self, picture: Callable[[str, str | None], Looked]
    ) -> tuple[tuple[Image | None, ...], tuple[str | None, ...]]:
        """Read the pictures that were put off, and why one has none."""
        self._seen[:] = [picture(ref, self.root) for ref in self.item.images]
        return tuple(image for _, image, _ in self._seen), tuple(error for _, _, error in self._seen)

    def looked_at(self) -> LoadedItem:
        """With the errors of pictures that were read late."""
        if not self._seen:
            return self
        return LoadedItem(self.item, self.error, (), tuple(error for _, _, error in self._seen))


def load_with_earlier(work: ExtractItems, rows: pa.Table, carry: Carry | None) -> tuple[list[str], list[Any]]:
    """The input shas of rows of ITEMS, and an ItemToExtract of each."""
    ids = [str(item_id) for item_id in rows.column("item_id").to_pylist()]
    stand, how = _standing(carry, ids), sha_of(picture_settings(work.policy))
    late = _put_off(work, rows, stand, how) if work.with_pictures else {}
    now = ItemInput.load(work, rows.filter(pa.array([i not in late for i in range(len(ids))], pa.bool_())))
    loaded = iter(zip(*now, strict=True))
    shas, made = [], []
    for i, earlier in enumerate(stand):
        if i in late:
            sha, one = late[i]
        else:
            sha, read = next(loaded)
            one = _to_extract(read, how, earlier)
        shas.append(sha)
        made.append(one)
    return shas, made


def with_earlier(work: ExtractItems, loaded: Sequence[LoadedItem], carry: Carry | None) -> list[ItemToExtract]:
    """Loaded items as items to extract; those that were loaded elsewhere by `ItemInput` alone are made so."""
    plain = [one for one in loaded if not isinstance(one, ItemToExtract)]
    stand = iter(_standing(carry, [one.item.item_id for one in plain]))
    how = sha_of(picture_settings(work.policy))
    return [one if isinstance(one, ItemToExtract) else _to_extract(one, how, next(stand)) for one in loaded]


def _standing(carry: Carry | None, ids: Sequence[str]) -> list[dict[str, Earlier]]:
    return [earlier_from_rows(found, carry.again) for found in carry.rows(ids)] if carry else [{} for _ in ids]


def _to_extract(one: LoadedItem, how: str, earlier: Mapping[str, Earlier]) -> ItemToExtract:
    return ItemToExtract(
        *(one.item, one.error, one.pictures, one.picture_errors, one.picture_shas),
        content=content_of(one.item, [how, *one.picture_marks]),
        earlier=earlier,
    )


def _put_off(
    work: ExtractItems, rows: pa.Table, stand: Sequence[Mapping[str, Earlier]], how: str
) -> dict[int, tuple[str, ItemToExtract]]:
    """Place → input sha and item, of those whose pictures nobody is likely to look at."""
    lookers = [extractor for extractor in work.extractors if extractor.needs_pictures]
    hopeful = [_were_made(lookers, earlier) for earlier in stand]
    shas = iter(work.picture_shas(rows.filter(pa.array(hopeful, pa.bool_()))) if any(hopeful) else ())
    found: dict[int, tuple[str, ItemToExtract]] = {}
    for i, row in enumerate(rows.to_pylist()):
        if not hopeful[i]:
            continue
        own = next(shas)
        item, nothing = item_from_row(row), (None,) * len(own)
        content = content_of(item, [how, *own])
        if row["status"] == "ok" and all(_same(extractor, content, stand[i]) for extractor in lookers):
            sha = sha_of([row["provenance"]["input_sha"], *own])
            found[i] = (
                sha,
                ItemToExtract(
                    *(item, None, nothing, nothing, tuple(own)),
                    content=content,
                    earlier=stand[i],
                    put_off=True,
                    root=row["image_root"],
                ),
            )
    return found


def _were_made(lookers: Sequence[Extractor], earlier: Mapping[str, Earlier]) -> bool:
    """True where no picture was at fault, and each extractor that looks made a row just as it would now."""
    verdict = earlier.get(VERDICT)
    return (
        verdict is not None
        and verdict.extraction.status == "ok"
        and all(e.name in earlier and earlier[e.name].sha == e.sha for e in lookers)
    )


def _same(extractor: Extractor, content: Mapping[str, str], earlier: Mapping[str, Earlier]) -> bool:
    made_from = earlier[extractor.name].extraction.made_from
    return all(made_from.get(part) == sha for part, sha in content.items() if part in parts_read(extractor))
