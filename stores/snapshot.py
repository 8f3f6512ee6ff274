"""A store as it was at one moment: by id, by a query's text, by SQL, by vector, with a condition.

The Python door to features; `stores.query` is the command. It writes nothing, and does not know how features are made
or what a grade means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from numpy.typing import ArrayLike

from lore_mm.errors import InputError, StoreError, nearest
from lore_mm.models.protocol import Embedder
from lore_mm.types import ItemFeatures, Understanding
from stores.differences import differences
from stores.features import FeatureStore, open_store
from stores.history import history_of
from stores.lineage import lineage_of
from stores.moments import versions_at
from stores.online import SOURCES, OnlineView, open_online
from stores.online_codec import features_from_rows
from stores.understood import QueryIndex, Understood, fitted, newer, query_key, understood_from_row
from stores.views import UNDER, VIEWS, Views
from stores.where import items_where

if TYPE_CHECKING:
    import polars as pl

    from stores.index_at import IndexAt, Lag

__all__ = ["INDEX", "Hits", "Snapshot"]

Hits = list[tuple[str, float]]  # (item_id, cosine similarity), the most similar first

INDEX = "items"  # STORE/vectors/items is what `lore embed` builds
_AT_ONCE = 50_000  # ids in one statement
_LISTED = "(SELECT unnest(?))"
_MOST_COMPARED = 10_000_000  # ids with ids, to find the nearest: a second or two


class Snapshot:
    """A store as it was when this was opened: later commits are not seen. Safe to use from several threads.

    Attributes:
        store: where it is.
        versions: the version of every table at the opening.
    """

    def __init__(self, store: FeatureStore | str | Path, versions: Mapping[str, int] | None = None) -> None:
        self.store = store if isinstance(store, FeatureStore) else open_store(store)
        self.versions: dict[str, int] = dict(versions) if versions is not None else self.store.snapshot()
        self._views: Views | None = None
        self._names: list[str] | None = None
        self._indexes: dict[str, IndexAt] = {}
        self._queries: QueryIndex | None = None
        self._online = self._fitting_view(SOURCES)
        self._online_queries = self._fitting_view(("demands",))

    # --- by id ---

    def get(self, ids: Sequence[str]) -> list[ItemFeatures | None]:
        """Items with the merged verdict on each, in the order of `ids`; None for one that is not there or failed.

        From the online view where the store has one of this very snapshot, else from the tables.
        """
        if self._online is not None:
            try:
                return self._online.get(ids)
            except StoreError:  # damaged: the tables say the same
                self._online = None
        wanted = [i for i in dict.fromkeys(ids) if _is_unicode(i)]
        found: dict[str, ItemFeatures | None] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            some = [wanted[start : start + _AT_ONCE]]
            items = self._run(f"SELECT * FROM items WHERE item_id IN {_LISTED}", some)
            merged = self._run(
                f"SELECT * FROM rows.newest_attributes WHERE extractor = 'merge' AND item_id IN {_LISTED}", some
            )
            verdicts = {row["item_id"]: row for row in merged.to_pylist()}
            for row in items.to_pylist():
                found[row["item_id"]] = features_from_rows(row, verdicts.get(row["item_id"]))
        return [found.get(i) for i in ids]

    def missing(self, ids: Iterable[str]) -> dict[str, str]:
        """Those of the ids for which `get` gives None, each with the reason in one line; in their order.

        Where few are unknown, and the store is not too large to be looked through for it, with the nearest id.
        """
        wanted = list(dict.fromkeys(ids))
        known: dict[str, str | None] = {}
        legal = [i for i in wanted if _is_unicode(i)]
        for start in range(0, len(legal), _AT_ONCE):
            some = [legal[start : start + _AT_ONCE]]
            rows = self._run(f"SELECT item_id, status, error FROM items WHERE item_id IN {_LISTED}", some)
            known |= {row["item_id"]: None if row["status"] == "ok" else row["error"] for row in rows.to_pylist()}
        unknown = [i for i in wanted if i not in known]
        hints = self._nearest_ids([i for i in unknown if _is_unicode(i)])
        reasons = {i: f"no item {i!r} in the store{hints.get(i, '')}" for i in unknown}
        reasons |= {i: f"item {i!r} could not be read: {error}" for i, error in known.items() if error is not None}
        return {i: reasons[i] for i in wanted if i in reasons}

    def _nearest_ids(self, unknown: Sequence[str]) -> dict[str, str]:
        n_items = self._run("SELECT count(*) AS n FROM items")["n"][0].as_py()
        if not unknown or n_items * len(unknown) > _MOST_COMPARED:
            return {}
        likeness = "jaro_winkler_similarity(item_id, wanted)"
        near = self._run(
            f"SELECT wanted, arg_max(item_id, ({likeness}, item_id), 5) AS near"
            f" FROM items, (SELECT unnest(?) AS wanted) GROUP BY wanted",
            [list(unknown)],
        )
        return {row["wanted"]: nearest(row["wanted"], row["near"]) for row in near.to_pylist()}

    # --- as it was ---

    @classmethod
    def as_of(cls, store: FeatureStore | str | Path, moment: str | datetime) -> Snapshot:
        """The store as it was at a time, or right after a commit such as `attributes@12`; see `stores.moments`.

        Raises:
            InputError: the moment is none.
            StoreError: there is no such commit, or the store had not begun.
        """
        opened = store if isinstance(store, FeatureStore) else open_store(store)
        return cls(opened, versions_at(opened, moment))

    def history(self, item_id: str, attribute: str | None = None, *, fold: bool = True) -> pa.Table:
        """Every value that an item's attribute or field, or all of them, ever had, and why each changed.

        See `stores.history.history_of`.

        Raises:
            InputError: there is no such item, or nobody ever spoke of such an attribute.
        """
        return self._found(item_id, history_of(self.store, self.versions, item_id, attribute, fold=fold))

    def lineage(self, item_id: str, attribute: str) -> pa.Table:
        """Where what stands of an item's attribute or field comes from; see `stores.lineage.lineage_of`.

        Raises:
            InputError: there is no such item, or nobody says anything of such an attribute.
        """
        return self._found(item_id, lineage_of(self.store, self.versions, item_id, attribute))

    def _found(self, item_id: str, rows: pa.Table) -> pa.Table:
        if not rows.num_rows:
            raise InputError(self.missing([item_id]).get(item_id, f"nothing is known of item {item_id!r}"))
        return rows

    def since(self, moment: str | datetime, **options: Any) -> Iterator[pa.RecordBatch]:
        """What changed from a moment up to this snapshot; `options` are those of `stores.differences.differences`."""
        return differences(Snapshot.as_of(self.store, moment), self, **options)

    # --- by a query's text ---

    def understood(self, texts: Sequence[str]) -> list[Understanding | None]:
        """The stored understanding of each text, fitted to it (`stores.understood`); None where there is none."""
        return [None if one is None else one.understanding for one in self.served(texts)]

    def served(self, texts: Sequence[str]) -> list[Understood | None]:
        """As `understood`, with what made each, and when. Those that failed count as not there.

        From the online view where the store has one of this very snapshot, and what it has not, from the table: found
        by one scan over the queries' texts, the first time.
        """
        found: list[Understood | None] = [None] * len(texts)
        if "demands" not in self.versions:
            return found
        if self._online_queries is not None:
            try:
                found = self._online_queries.served(texts)
            except StoreError:
                self._online_queries = None
        missing = {query_key(text) for text, one in zip(texts, found, strict=True) if one is None}
        if missing and not self._holds_all_queries():
            stored = self._stored(missing)
            asked = zip(texts, found, (stored.get(query_key(text)) for text in texts), strict=True)
            found = [one or (fitted(row, text) if row else None) for text, one, row in asked]
        return found

    def _holds_all_queries(self) -> bool:
        return self._online_queries is not None and self._online_queries.whole

    def _stored(self, keys: Collection[str]) -> dict[str, Understood]:
        if self._queries is None:
            columns = ("query_id", "query", "status")
            self._queries = QueryIndex(
                self.store.batches("demands", columns, self.versions["demands"], 8192, latest=True)
            )
        ids = self._queries.candidates(keys)
        stored: dict[str, Understood] = {}
        for start in range(0, len(ids), _AT_ONCE):
            rows = self._run(
                f"SELECT * FROM understood WHERE query_id IN {_LISTED} AND status = 'ok'",
                [ids[start : start + _AT_ONCE]],
            )
            for row in rows.to_pylist():
                one, key = understood_from_row(row), query_key(row["query"])
                stored[key] = newer(stored.get(key, one), one)
        return stored

    # --- by SQL ---

    def sql(self, text: str, limit: int | None = None, timeout_s: float | None = None) -> pa.Table:
        """The answer to one SELECT over the views of `stores.views.VIEWS`; at most `limit` rows.

        Read-only and confined: nothing but these views can be read, nothing can be written or set. Its work may take
        half of the machine's memory and spills to the temporary folder (TMPDIR) beyond; the answer stands in memory.

        Raises:
            InputError: the text is no such SELECT, or wrong in itself, or takes longer than `timeout_s`; one line, with
                the nearest name as a hint.
            StoreError: a table that it names cannot be read.
        """
        return self._open_views().select(text, limit, timeout_s)

    def stream(self, text: str, limit: int | None = None, timeout_s: float | None = None) -> pa.RecordBatchReader:
        """As `sql`, batch by batch, so that memory does not grow with the answer. An error may come with any batch."""
        return self._open_views().stream(text, limit, timeout_s)

    def frame(self, view: str) -> pl.LazyFrame:
        """A view of `stores.views.VIEWS` as a lazy Polars frame: the rows and columns that `sql` shows.

        Columns that are not used are not read, and filters on columns of the files skip row groups; what is within a
        list (the values of `latest` and `attributes`, `demands`) is filtered once it is read.

        Raises:
            InputError: there is no such view.
            StoreError: its table cannot be read; what is wrong inside of a file comes out where the frame is collected.
        """
        from stores.frames import frame_of

        return frame_of(self.store, self.versions, view)

    def where(self, condition: str) -> list[str]:
        """The ids of the items that meet a condition such as `color = 'black' AND price < 100`: see `stores.where`.

        Raises:
            InputError: naming what is wrong with it.
        """
        try:
            return [str(i) for i in self._run(self.where_sql(condition))["item_id"].to_pylist()]
        except duckdb.Error as error:
            message = str(error).split("\n\nLINE ")[0]
            raise InputError(f"condition {condition!r}: {' '.join(message.split())}") from None

    def where_sql(self, condition: str) -> str:
        """The SELECT behind `where`, which `sql` and `stream` take as a part of a larger one.

        Raises:
            InputError: naming what is wrong with the condition.
        """
        return items_where(condition, self._open_views(), self.attribute_names())

    def attribute_names(self) -> list[str]:
        """The names of the attributes that some item has a value of, sorted."""
        if self._names is None:
            names = self._run("SELECT DISTINCT name FROM latest WHERE value IS NOT NULL ORDER BY name")
            self._names = [str(name) for name in names["name"].to_pylist()]
        return self._names

    def describe(self) -> pa.Table:
        """The views, with the version of the table under each, its rows, and what it shows.

        Of a table that cannot be read the rows are null, and `shows` says why.
        """
        found = []
        for view, shows in VIEWS.items():
            try:
                n = self._run(f"SELECT count(*) AS n FROM {view}")["n"][0].as_py()
            except StoreError as error:
                n, shows = None, str(error)
            found.append(
                {"table": view, "version": self.versions.get(UNDER.get(view, view)), "rows": n, "shows": shows}
            )
        types = {"table": pa.string(), "version": pa.int64(), "rows": pa.int64(), "shows": pa.string()}
        schema = pa.schema([pa.field(name, type_) for name, type_ in types.items()])
        return pa.Table.from_pylist(found, schema)

    # --- by text, picture or vector ---

    def search(
        self,
        *,
        text: str | Sequence[str] | None = None,
        image: str | Path | Sequence[str | Path] | None = None,
        vector: ArrayLike | None = None,
        k: int = 10,
        where: str | None = None,
        embedder: Embedder | None = None,
        index: str = INDEX,
    ) -> list[Hits]:
        """The k items nearest to a text, a picture file or a vector, among those that meet a condition.

        One list of hits for each thing searched for: `text` and `image` may be one or several, `vector` is (d,) or
        (n, d). Never fewer than k where k items that have a vector meet the condition. The embedder, the shipped one
        unless given, must be the one that the index was built with; a vector needs none.

        Raises:
            InputError: not one of the three is given, or it or the condition is wrong.
            PictureError: a picture cannot be read.
            StoreError: there is no index of that name, or the embedder is another.
        """
        if sum(one is not None for one in (text, image, vector)) != 1:
            raise InputError("search for one of text, image and vector")
        allowed = None if where is None else self.where(where)
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            if not all(one.strip() for one in texts):
                raise InputError("the text to search for is empty")
            vectors: ArrayLike = self._embedder(embedder, index).embed_texts(texts)
        elif image is not None:
            from lore_mm.images import load_picture

            files = [image] if isinstance(image, str | Path) else list(image)
            pictures = [load_picture(str(file)).image for file in files]
            vectors = self._embedder(embedder, index).embed_images(pictures)
        else:
            assert vector is not None
            vectors = vector
        return self._open_index(index).search(vectors, k, allowed)

    def lag(self, index: str = INDEX) -> Lag | None:
        """In how many rows an index differs from this snapshot; None where they are in step.

        Answers of `search` are this snapshot's all the same (`stores.index_at`).

        Raises:
            StoreError: there is no such index, or it differs in too many rows to be searched as of this snapshot.
        """
        return self._open_index(index).lag()

    # --- opening ---

    def _fitting_view(self, tables: Sequence[str]) -> OnlineView | None:
        try:
            view = open_online(self.store)
        except StoreError:
            return None  # none, or none that can be used: the tables say the same
        return view if view.is_of(self.store, self.versions, tables) else None

    def _open_views(self) -> Views:
        if self._views is None:
            self._views = Views(self.store, self.versions)
        return self._views

    def _run(self, text: str, values: Sequence[object] = ()) -> pa.Table:
        return self._open_views().run(text, values)

    def _open_index(self, name: str) -> IndexAt:
        if name not in self._indexes:
            from stores.index_at import IndexAt
            from stores.vectors import open_index

            if not name.replace("-", "_").isidentifier():
                raise InputError(f"{name!r} is no name of an index")
            opened = open_index(self.store.beside() / "vectors" / name)
            self._indexes[name] = IndexAt(self.store, self.versions.get("embeddings"), opened, name)
        return self._indexes[name]

    def _embedder(self, embedder: Embedder | None, index: str) -> Embedder:
        if embedder is None:
            from lore_mm.models import open_embedder

            embedder = open_embedder()
        manifest = self._open_index(index).index.manifest
        for key, mine in (("model", embedder.name), ("model_sha", embedder.sha)):
            if manifest.get(key) not in (None, mine):
                raise StoreError(
                    f"the index {index} was built with {key} {manifest[key]!r}, not {mine!r}:"
                    " search with that embedder, or build it again with `lore embed`"
                )
        return embedder


def _is_unicode(text: str) -> bool:
    """False for what a command line or a file name may hold but no table does: lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
