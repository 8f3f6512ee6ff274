"""`lore embed`: vectors of items from pictures and text, and the index that finds items by them.

An item's image vector is the mean of its pictures' unit vectors, its text vector that of the title and the beginning of
the description; both of length 1. The index holds, for each item, their mean, again of length 1, or the one there is.
An item with a picture that cannot be read is failed and says so; its other vectors are kept and can be found. Where
only the text or only the pictures of an item changed, only that vector is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Unpack, cast

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

from jobs.carry import Carry
from jobs.item_index import build_item_index, parse_memory
from jobs.item_input import ItemInput, LoadedItem, picture_settings
from jobs.openers import opened
from jobs.options import SPENDING, AllowHosts, AllowUrls, StoreAddress, with_run_options
from jobs.plan import Counts
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.config import default_store
from lore_mm.console import command_app, run
from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.images import PicturePolicy
from lore_mm.models import DEFAULT_EMBEDDER, Embedder, open_embedder
from lore_mm.models.protocol import Vectors
from lore_mm.tables import EMBEDDINGS
from lore_mm.types import Item
from stores.features import FeatureStore, open_store
from stores.vector_files import KINDS
from stores.vector_kinds import Kind

__all__ = [
    "EmbedItems",
    "EmbeddedBy",
    "OpenEmbedItems",
    "embed_items",
    "item_text",
    "main",
]

_TEXT_CHARACTERS = 200  # of the description; what small text models read beside a title
_DIGITS = 16  # of a sha: two versions of one item are compared
_BATCH_ROWS = 256


class EmbedItems(ItemInput):
    """An embedder over micro-batches of items (see `jobs.work.Work`)."""

    job, table = "embed_items", "embeddings"

    def __init__(self, store: FeatureStore, embedder: Embedder, policy: PicturePolicy) -> None:
        super().__init__(store, policy)
        self.embedder = embedder
        self.verdict: Mapping[str, str] = {"model": embedder.name}
        made_with = {
            "embedder": {"name": embedder.name, "sha": embedder.sha},
            "pictures": picture_settings(policy),
            "text_characters": _TEXT_CHARACTERS,
        }
        self.settings: Mapping[str, Any] = {
            **made_with,
            "allow_urls": policy.allow_urls,
            "allow_hosts": list(policy.allow_hosts),
        }
        self.settings_sha = sha_of(made_with)
        self._carry: Carry | None = None

    def recall(self, version: int | None, retry_failed: bool) -> None:
        """Take over the vectors that stand at this version of EMBEDDINGS (see `jobs.work.Recalls`)."""
        columns = ("model", "image", "text", "provenance", "made_from")
        self._carry = Carry(self.store, self.table, "item_id", columns, version)

    def process(self, rows: pa.Table, loaded: list[LoadedItem]) -> pa.Table:
        """Rows of EMBEDDINGS, one an item; a vector of what has not changed is taken over."""
        usable = [one for one in loaded if one.error is None]
        parts = [self._made_from(one) for one in usable]
        stand = self._stand([one.item.item_id for one in usable])
        image = [_kept(before, now, "pictures", "image") for before, now in zip(stand, parts, strict=True)]
        text = [_kept(before, now, "text", "text") for before, now in zip(stand, parts, strict=True)]
        words = [item_text(one.item) for one, kept in zip(usable, text, strict=True) if kept is None]
        texts = iter(self.embedder.embed_texts(words) if words else ())
        unseen = [one for one, kept in zip(usable, image, strict=True) if kept is None]
        images = iter(self._images(unseen))
        made = [
            self._row(
                one.item.item_id,
                next(images) if seen is None else seen,
                next(texts) if read is None else read,
                one.picture_fault,
                now,
            )
            for one, seen, read, now in zip(usable, image, text, parts, strict=True)
        ]
        found = iter(made)
        whole = [self._row(o.item.item_id, error=o.error) if o.error is not None else next(found) for o in loaded]
        return pa.Table.from_pylist(whole, schema=EMBEDDINGS)

    def _images(self, items: list[LoadedItem]) -> list[NDArray[np.float32] | None]:
        """The image vector of each item, None where it has no picture that could be read."""
        pictures = [picture for one in items for picture in one.pictures if picture is not None]
        rows = self.embedder.embed_images(pictures) if pictures else np.empty((0, self.embedder.width), np.float32)
        counts = [sum(picture is not None for picture in one.pictures) for one in items]
        ends = np.cumsum([0, *counts])
        return [mean_direction(rows[a:b]) if b > a else None for a, b in pairwise(ends.tolist())]

    def _made_from(self, one: LoadedItem) -> dict[str, str]:
        return {"text": sha_of(item_text(one.item))[:_DIGITS], "pictures": sha_of(one.picture_marks)[:_DIGITS]}

    def _stand(self, ids: list[str]) -> list[dict[str, Any] | None]:
        """The row of each item that this very model made with these settings."""
        mine = (self.embedder.name, self.settings_sha)
        found = self._carry.rows(ids) if self._carry else [[] for _ in ids]
        return [
            next((row for row in rows if (row["model"], (row["provenance"] or {}).get("settings_sha")) == mine), None)
            for rows in found
        ]

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Rows without vectors, with the reason."""
        made = [self._row(str(item_id), error=error) for item_id in rows.column("item_id").to_pylist()]
        return pa.Table.from_pylist(made, schema=EMBEDDINGS)

    def _row(
        self,
        item_id: str,
        image: NDArray[np.float32] | None = None,
        text: NDArray[np.float32] | None = None,
        error: str | None = None,
        made_from: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        return {
            "item_id": item_id,
            "model": self.embedder.name,
            "image": image,
            "text": text,
            "status": "failed" if error else "ok",
            "error": error,
            "provenance": {"maker": self.embedder.name},
            "made_from": [{"name": name, "sha": sha} for name, sha in (made_from or {}).items()] or None,
        }


@dataclass(frozen=True)
class OpenEmbedItems:
    """How EmbedItems is opened (see `jobs.openers.Opener`)."""

    store: FeatureStore
    embedder: str | Embedder
    policy: PicturePolicy
    threads: int = 1
    loads_apart: bool = True

    @contextmanager
    def open(self) -> Iterator[EmbedItems]:
        """With the model."""
        model = open_embedder(self.embedder) if isinstance(self.embedder, str) else self.embedder
        yield EmbedItems(self.store, model, self.policy)

    def facts(self, work: EmbedItems) -> Mapping[str, Any]:
        """Which model it is."""
        return {"model": EmbeddedBy(work.embedder.name, work.embedder.sha, work.embedder.width)}

    def reading(self, facts: Mapping[str, Any], store: FeatureStore | None = None) -> ItemInput:
        """Items and their pictures."""
        return ItemInput(store or self.store, self.policy)


@dataclass(frozen=True)
class EmbeddedBy:
    """What an index has to know of an embedder: its name, the sha of its weights, the width of its vectors."""

    name: str
    sha: str
    width: int


def _kept(before: Mapping[str, Any] | None, now: Mapping[str, str], part: str, column: str) -> Any:
    """The vector that stands, where it was made from the same; None where there is none."""
    if before is None or {"name": part, "sha": now[part]} not in (before["made_from"] or ()):
        return None
    return None if before[column] is None else np.asarray(before[column], np.float32)


def item_text(item: Item) -> str:
    """What the text tower reads of an item: the title and the beginning of the description, cut between words."""
    start = " ".join(item.description.split())
    if len(start) > _TEXT_CHARACTERS:
        start = start[: _TEXT_CHARACTERS + 1].rpartition(" ")[0] or start[:_TEXT_CHARACTERS]
    return f"{item.title}. {start}" if start else item.title


def mean_direction(vectors: Vectors) -> NDArray[np.float32]:
    """The mean of unit rows (n, d), n ≥ 1, brought back to length 1; the first of them where they cancel out."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32) if length > 1e-6 else np.asarray(vectors[0], np.float32)


def embed_items(
    store: FeatureStore,
    *,
    embedder: str | Embedder = DEFAULT_EMBEDDER,
    policy: PicturePolicy | None = None,
    index_kind: Kind | None = None,
    index_memory_bytes: int | None = None,
    **options: Unpack[RunOptions],
) -> Counts:
    """Embed a store's items and bring the index up to date; see `jobs.spine.run_job` for skips and resumes.

    The kind of index is chosen by size unless given, within half of the machine's memory unless given.
    """
    options["batch_rows"] = options.get("batch_rows") or _BATCH_ROWS
    with opened(OpenEmbedItems(store, embedder, policy or PicturePolicy()), store, options) as it:
        counts = run_job(store, it.work, elsewhere=it.elsewhere, **options)
    build_item_index(store, it.facts["model"], index_kind, index_memory_bytes)
    return counts


@with_run_options(batch_rows="Rows a commit: what a crash can cost. 256 unless given.", without=SPENDING)
def main(
    store: StoreAddress = None,
    embedder: Annotated[str, typer.Option(help="The model, by address.")] = DEFAULT_EMBEDDER,
    allow_urls: AllowUrls = False,
    allow_host: AllowHosts = None,
    index_kind: Annotated[
        str | None, typer.Option(help="flat (exact), hnsw or ivfpq; by number and memory unless given.")
    ] = None,
    index_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What of the index may lie in memory, such as 8GB; half of the machine's."),
    ] = None,
    **options: Unpack[RunOptions],
) -> None:
    """Embed pictures and texts of items, and build the vector index.

    Unchanged items are skipped; interrupted, the same command goes on where it stopped. The index takes in what
    changed, and is built anew where that is most of it, or another model or kind.

    Example: lore embed --embedder open_clip:lore-clip-tiny --index-memory 8GB
    """
    memory = None if index_memory is None else parse_memory(index_memory)
    if index_kind is not None and index_kind not in KINDS:
        raise InputError(f"no kind of index {index_kind!r}{nearest(index_kind, KINDS)}; legal: {', '.join(KINDS)}")
    embed_items(
        open_store(store or default_store()),
        embedder=embedder,
        policy=PicturePolicy(allow_urls=allow_urls, allow_hosts=tuple(allow_host or ())),
        index_kind=cast("Kind | None", index_kind),
        index_memory_bytes=memory,
        **options,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.embed_items"))
