"""The engine `tagger`: the tables read what they know, a small tagger what they do not, and which words are the thing.

It knows no items. How the two are made one: `extractors.query.tagged`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from extractors.query.engine import guarded, readable
from extractors.query.hard_types import hard_type
from extractors.query.implied import with_implied
from extractors.query.knowledge import KnowledgeEngine
from extractors.query.links import Linker, linker_for
from extractors.query.readings import confidence, referent
from extractors.query.tagged import with_tags
from extractors.query.typed import corrected
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models.query_tagger import QueryTagger, Tag
from lore_mm.phrases import Phrase
from lore_mm.types import Demand, Query, Understanding

__all__ = ["TaggerEngine"]

_VERSION = "1"
# Types that follow from what kinds of demands there are; all others follow from the query's form.
_COUNTED = frozenset(("domain_jargon", "multi_attribute", "other"))


class TaggerEngine:
    """The tables and a tagger together; without a GPU, in milliseconds a query."""

    name = "tagger"

    def __init__(self, tagger: QueryTagger, knowledge: Knowledge, linker: Linker | None = None) -> None:
        self.tagger, self.knowledge = tagger, knowledge
        self._tables = KnowledgeEngine(knowledge)
        self._linker = linker or linker_for(knowledge)
        self.sha = sha_of(["tagger", _VERSION, self._tables.sha, tagger.sha])

    def understand(self, queries: Sequence[Query]) -> list[Understanding]:
        """As many results, in the same order; see `extractors.query.engine.guarded` for what fails."""
        faults = [readable(query)[1] for query in queries]
        places = [i for i, fault in enumerate(faults) if fault is None]
        tagged = dict(zip(places, self.tagger.tag([queries[i].text for i in places]), strict=True))

        def read(i: int) -> Understanding:
            return guarded(queries[i], lambda query, _: self._one(query, tagged[i]), self.name)

        return [read(i) for i in range(len(queries))]

    def close(self) -> None:
        """Free the tagger."""
        self.tagger.close()

    def _one(self, query: Query, tags: Sequence[Tag]) -> Understanding:
        known = self._tables.understand([query])[0]
        if known.status != "ok":
            return replace(known, engine=self.name)
        demands, readings = with_tags(query.text, known.demands, known.readings, tags, self.knowledge)
        linked = self._linker.link(with_implied(demands, Phrase(()), self.knowledge))
        corrections = tuple(pair for pair in known.corrections if _holds(pair, linked))
        return replace(
            known,
            normalized=corrected(readable(query)[0], corrections),
            demands=linked,
            corrections=corrections,
            hard_type=self._hard_type(query.text, known, linked),
            referent=referent(linked[0] if linked and linked[0].role == "head" else None, self.knowledge),
            readings=readings,
            confidence=confidence(linked, readings),
            engine=self.name,
        )

    def _hard_type(self, text: str, known: Understanding, demands: Sequence[Demand]) -> str:
        """The tables' type, but counted anew where it follows from the demands alone."""
        jargon = known.hard_type == "domain_jargon" and any(
            used.startswith("needs/") for d in demands for used in d.knowledge
        )
        if known.hard_type not in _COUNTED or jargon:
            return known.hard_type
        return hard_type(text, demands, Phrase(()), self.knowledge)


def _holds(correction: tuple[str, str], demands: Sequence[Demand]) -> bool:
    """True where a demand still rests on the corrected word."""
    return any(correction[0] in d.value and d.canonical is not None for d in demands)
