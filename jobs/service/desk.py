"""A desk: one snapshot with its judge, its cache of stored judgments, and who reads queries; it never changes.

A request holds the desk it began with; a desk that was replaced closes when the last request lets go of it. Knows no
HTTP and no threads of its own: its methods may be called from several at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from extractors.given import Given
from extractors.protocol import ExtractorInput
from jobs.judge_pictures import StorePictures
from jobs.served_queries import QueryDesk
from jobs.service.bodies import Asked, JudgedPair, SearchHit, ServedBy
from jobs.service.stored import StoredJudgments, judged_of
from lore_mm import __version__
from lore_mm.errors import InputError, StoreError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER, Embedder, open_embedder
from lore_mm.schema import load_schemas
from lore_mm.types import Item, ItemFeatures, Judgment, Query, Understanding
from relevance.judge import DEFAULT_JUDGE, open_judge
from relevance.paths import render
from relevance.protocol import PairJudge, failed_judgment
from relevance.requests import query_id_of
from relevance.rules import load_rulebook
from relevance.show import SHA_DIGITS, versions_of
from stores.features import FeatureStore
from stores.snapshot import INDEX, Hits, Snapshot

__all__ = ["Desk", "Models", "Served", "no_item", "open_desk", "open_models", "shown"]

_MOST_READ = 10_000  # understandings kept


@dataclass(frozen=True)
class Served:
    """What is to be served, and by whom; see `lore serve --help`."""

    store: FeatureStore
    judge: str = DEFAULT_JUDGE
    options: Mapping[str, Any] = field(default_factory=dict)
    rules: Path | None = None
    knowledge: Path | None = None
    engine: str | None = None
    embedder: str = DEFAULT_EMBEDDER


class _Counted:
    """Held by those who use it; closed when the last one lets go."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close, self._holders, self._counting = close, 1, threading.Lock()

    def hold(self) -> None:
        with self._counting:
            self._holders += 1

    def release(self) -> None:
        with self._counting:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._close()


class Models(_Counted):
    """A judge, an embedder and the knowledge they share: what outlives a change of the store alone."""

    def __init__(self, judge: PairJudge, embedder: Embedder | None, knowledge: Knowledge) -> None:
        super().__init__(judge.close)
        self.judge, self.embedder, self.knowledge = judge, embedder, knowledge
        self.embedding = threading.Lock()  # one text at a time


class Desk(_Counted):
    """See above.

    Attributes:
        snapshot: the store as it is served.
        judge: who judges what no stored judgment says.
        stored: the judgments that are served as they are.
        versions: of all that answers depend on, to be shown.
        sha: of these, shortened: answers of one desk have the same.
        no_search: why there is no search; None where there is.
    """

    def __init__(self, served: Served, snapshot: Snapshot, models: Models, stored: StoredJudgments) -> None:
        super().__init__(self._closed)
        models.hold()
        self.snapshot, self.judge, self.stored, self._models = snapshot, models.judge, stored, models
        self.queries = QueryDesk(models.knowledge, served.engine, snapshot)
        self._given = Given(models.knowledge, load_schemas())
        self._read: OrderedDict[str, Understanding] = OrderedDict()
        self._reading = threading.Lock()
        self.no_search: str | None = None
        embedder = models.embedder
        self.versions: dict[str, Any] = {
            "lore_mm": __version__,
            "snapshot": dict(snapshot.versions),
            "judge": versions_of(self.judge) | {"sha": self.judge.sha[:SHA_DIGITS]},
            "engine": self.queries.engine().name,
            "embedder": None if embedder is None else f"{embedder.name} {embedder.sha[:SHA_DIGITS]}",
        }
        self.sha = sha_of([self.versions, snapshot.store.uri])[:SHA_DIGITS]

    # --- one thing at a time ---

    def judge_all(self, asked: Sequence[Asked]) -> list[Judgment]:
        """One judgment a pair, in order; of the stored ones no use is made.

        Raises:
            ModelError: the judge's model is dead.
            StoreError: the store cannot be read.
        """
        read = self.understand([one.query for one in asked])
        ids = list(dict.fromkeys(one.item_id for one in asked if one.item is None))
        known: dict[str, ItemFeatures | None] = dict(zip(ids, self.snapshot.get(ids), strict=True)) if ids else {}
        inline = iter(self._features_of([one.item for one in asked if one.item is not None]))
        done: list[Judgment | None] = []
        ready: list[tuple[Understanding, ItemFeatures]] = []
        for one, understanding in zip(asked, read, strict=True):
            features = known[one.item_id] if one.item is None else next(inline)
            if features is None:
                why = no_item(one.item_id)
                done.append(failed_judgment(understanding.query, one.item_id, why, mode=self.judge.mode))
            else:
                done.append(None)
                ready.append((understanding, features))
        judged = iter(self.judge.judge(ready) if ready else ())
        return [one or next(judged) for one in done]

    def understand(self, texts: Sequence[str]) -> list[Understanding]:
        """One understanding a text, in order: the stored one, else read now.

        Raises:
            ModelError: who reads queries is dead.
        """
        with self._reading:
            found = {text: self._read.get(text) for text in texts}
        new = [text for text, one in found.items() if one is None]
        if new:
            asked = [Query(query_id_of(text), text, self.stored.asked(text)) for text in new]
            read = {text: one.understanding for text, one in zip(new, self.queries.read(asked), strict=True)}
            found |= read
            with self._reading:
                self._read |= read
                while len(self._read) > _MOST_READ:
                    self._read.popitem(last=False)
        return [one for text in texts if (one := found[text]) is not None]

    def search(self, text: str, k: int, where: str | None, timeout_s: float | None = None) -> Hits:
        """The ids of the k items nearest to a text, among those that meet a condition, with their similarity.

        Raises:
            InputError: the condition is wrong, or takes longer than `timeout_s`.
            StoreError: there is no search.
        """
        models = self._models
        if models.embedder is None or self.no_search is not None:
            raise StoreError(self.no_search or "no embedder")
        if where is not None and timeout_s is not None:  # what ends in time once ends in time twice
            self.snapshot.sql(self.snapshot.where_sql(where), None, timeout_s)
        with models.embedding:
            vectors = models.embedder.embed_texts([text])
        return self.snapshot.search(vector=vectors, k=k, where=where)[0]

    def hits(self, query: str, found: Hits, judged: Sequence[JudgedPair] | None) -> list[SearchHit]:
        """Items found with their titles and judgments, the best first: by grade, score, similarity."""
        items = self.snapshot.get([item_id for item_id, _ in found])
        hits = [
            SearchHit(item_id, float(similarity), None if one is None else one.item.title, None)
            for (item_id, similarity), one in zip(found, items, strict=True)
        ]
        if judged is None:
            return hits
        for hit, judgment in zip(hits, judged, strict=True):
            hit.judgment = judgment
        return sorted(hits, key=_place)

    # --- opening and closing ---

    def warm(self) -> None:
        """Do once what takes longer the first time, and find out whether there is search.

        Raises:
            StoreError: the store cannot be read.
            ModelError: who reads queries is dead.
        """
        self.understand(["warm"])
        self.snapshot.get(["warm"])
        embedder = self._models.embedder
        if embedder is None:
            self.no_search = f"there is no search in this store yet: no vector index {INDEX}; `lore embed` makes one"
            return
        try:
            with self._models.embedding:
                self.snapshot.search(text="warm", k=1, embedder=embedder)
        except StoreError as error:
            self.no_search = str(error)

    def _features_of(self, items: Sequence[Item]) -> list[ItemFeatures]:
        if not items:
            return []
        found = self._given.extract([ExtractorInput(item) for item in items])
        return [ItemFeatures(item, extraction.attributes) for item, extraction in zip(items, found, strict=True)]

    def _closed(self) -> None:
        self.queries.close()
        self.stored.close()
        self._models.release()


def no_item(item_id: str) -> str:
    """What is said of an id that the snapshot does not have. Looking for the nearest would take seconds."""
    return f"no item {item_id!r} in the store that could be read"


def shown(judgment: Judgment, query: str, explain: bool) -> JudgedPair:
    """A judgment made just now as it is answered."""
    maker = judgment.provenance.maker.removeprefix("judge:").split(",")[0].split("-")[0].strip()
    by: ServedBy | None = None if judgment.grade is None else {"student": "student", "rules": "rules"}.get(maker, "llm")  # type: ignore[assignment]
    whole = msgspec.structs.asdict(judged_of(judgment, by))
    return JudgedPair(**whole, query=query, path=render(replace(judgment, query=query)) if explain else msgspec.UNSET)


def open_models(served: Served) -> Models:
    """The judge, the embedder where the store has an index, and the knowledge, all read from their files anew.

    Raises:
        LoreError: one cannot be had.
    """
    load_knowledge.cache_clear()
    load_rulebook.cache_clear()
    knowledge = load_knowledge((served.knowledge,) if served.knowledge else ())
    pictures = StorePictures(served.store)
    with ExitStack() as undo:
        judge = open_judge(served.judge, knowledge, rules=served.rules, pictures=pictures, **served.options)
        undo.callback(judge.close)
        embedder = open_embedder(served.embedder) if _has_index(served.store) else None
        undo.pop_all()
    return Models(judge, embedder, knowledge)


def open_desk(served: Served, models: Models) -> Desk:
    """A desk over the store as it is now.

    Raises:
        LoreError: the store has no items or cannot be read, or who reads queries cannot be had.
    """
    snapshot = Snapshot(served.store)
    if "items" not in snapshot.versions:
        raise InputError(f"no items in {served.store.uri} yet: lore ingest PATH")
    stored = StoredJudgments()
    try:
        desk = Desk(served, snapshot, models, stored)
    except BaseException:
        stored.close()
        raise
    try:
        if models.judge.mode == "route":
            stored.count_log(snapshot)
        stored.fill(snapshot, models.judge, desk.queries)
        desk.warm()
    except BaseException:
        with suppress(Exception):
            desk.release()
        raise
    return desk


def _has_index(store: FeatureStore) -> bool:
    return (store.beside() / "vectors" / INDEX / "current").exists()


def _place(hit: SearchHit) -> tuple[int, float, float]:
    judged = hit.judgment
    grade = 0 if judged is None or judged.grade is None else int(judged.grade[1])
    return -grade, -((judged.score if judged else None) or 0.0), -hit.similarity
