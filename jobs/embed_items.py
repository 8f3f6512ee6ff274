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
from typing import Annotated, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from numpy.typing import NDArray

from jobs.carry import Carry
from jobs.item_input import ItemInput, LoadedItem, picture_settings
from jobs.openers import opened
from jobs.options import SPENDING, AllowHosts, AllowUrls, StoreAddress, with_run_options
from jobs.plan import Counts
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import StoreError
from lore_mm.fingerprint import sha_of
from lore_mm.images import PicturePolicy
from lore_mm.models import DEFAULT_EMBEDDER, Embedder, open_embedder
from lore_mm.models.protocol import Vectors
from lore_mm.tables import EMBEDDINGS
from lore_mm.types import Item
from stores.features import FeatureStore, open_store
from stores.vectors import build_index, open_index

__all__ = [
    "INDEX",
    "EmbedItems",
    "EmbeddedBy",
    "OpenEmbedItems",
    "build_item_index",
    "embed_items",
    "item_text",
    "main",
]

INDEX = "items"  # STORE/vectors/items
_TEXT_CHARACTERS = 200  # of the description; what small text models read beside a title
_READ_ROWS = 8192
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


def _rows_of(column: Any, width: int) -> Vectors:
    """A list column as float32 (n, d); zeros where it is null or of another width than the model's."""
    rows = np.zeros((len(column), width), np.float32)
    fits = np.nan_to_num(pc.list_value_length(column).to_numpy(zero_copy_only=False)) == width
    rows[fits] = column.filter(pa.array(fits)).flatten().to_numpy().reshape(-1, width)
    return rows


def build_item_index(store: FeatureStore, embedder: Embedder | EmbeddedBy) -> bool:
    """Build STORE/vectors/items from the newest embeddings of this model; False where it stands already.

    Memory: the vectors, 4 bytes a number. The manifest names the model and the version of the table.

    Raises:
        StoreError: the store holds no embeddings.
    """
    version = store.version("embeddings")
    if version is None:
        raise StoreError(f"no embeddings in {store.uri} yet: run `lore embed`")
    folder = store.beside() / "vectors" / INDEX
    manifest = {
        "model": embedder.name,
        "model_sha": embedder.sha,
        "width": embedder.width,
        "table": "embeddings",
        "table_version": version,
    }
    try:
        standing = open_index(folder).manifest
        if all(standing.get(name) == value for name, value in manifest.items()):
            return False
    except StoreError:
        pass  # none yet, or not one that can be read: build it
    ids: list[str] = []
    parts = [np.empty((0, embedder.width), np.float32)]
    for batch in store.batches("embeddings", ["item_id", "model", "image", "text"], version, _READ_ROWS, latest=True):
        mine = batch.filter(pc.equal(batch.column("model"), pa.scalar(embedder.name)))
        image, text = (_rows_of(mine.column(name), embedder.width) for name in ("image", "text"))
        there = np.flatnonzero(np.any(image, axis=1) | np.any(text, axis=1))
        ids += [str(i) for i in mine.column("item_id").take(there).to_pylist()]
        both = np.stack([image, text], axis=1)[there]  # (n, 2, d), nulls as zeros
        parts.append(np.array([mean_direction(pair[pair.any(axis=1)]) for pair in both]).reshape(-1, embedder.width))
    vectors = np.concatenate(parts)
    index = build_index(ids, vectors, folder, manifest=manifest)
    say(f"index {INDEX}: {len(ids)} items, {index.manifest['kind']}, recall at 10: {index.manifest['recall_at_10']}")
    return True


def embed_items(
    store: FeatureStore,
    *,
    embedder: str | Embedder = DEFAULT_EMBEDDER,
    policy: PicturePolicy | None = None,
    **options: Unpack[RunOptions],
) -> Counts:
    """Embed a store's items and bring the index up to date; see `jobs.spine.run_job` for skips and resumes."""
    options["batch_rows"] = options.get("batch_rows") or _BATCH_ROWS
    with opened(OpenEmbedItems(store, embedder, policy or PicturePolicy()), store, options) as it:
        counts = run_job(store, it.work, elsewhere=it.elsewhere, **options)
    build_item_index(store, it.facts["model"])
    return counts


@with_run_options(batch_rows="Rows a commit: what a crash can cost. 256 unless given.", without=SPENDING)
def main(
    store: StoreAddress = None,
    embedder: Annotated[str, typer.Option(help="The model, by address.")] = DEFAULT_EMBEDDER,
    allow_urls: AllowUrls = False,
    allow_host: AllowHosts = None,
    **options: Unpack[RunOptions],
) -> None:
    """Embed pictures and texts of items, and build the vector index.

    Unchanged items are skipped; interrupted, the same command goes on where it stopped.

    Example: lore embed --embedder open_clip:lore-clip-tiny
    """
    embed_items(
        open_store(store or default_store()),
        embedder=embedder,
        policy=PicturePolicy(allow_urls=allow_urls, allow_hosts=tuple(allow_host or ())),
        **options,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.embed_items"))
