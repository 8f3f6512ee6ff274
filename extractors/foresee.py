"""What would be made again of an item, and why, before anything is: which extractions stand, which questions are open.

Of an extractor that would run it is taken for granted that it hands on what it handed on before; one that needs no
pictures is run where the item is new to it or its words changed, as that costs next to nothing. This module asks no
model and opens no picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from extractors.gate import Gate
from extractors.protocol import Extraction, Extractor, ExtractorInput
from extractors.reuse import made_from, parts_read, standing
from extractors.vlm import Vlm
from extractors.vlm_kept import Kept, what_differs
from lore_mm.attribute import AttributeSpec

__all__ = ["Fate", "foresee_item"]

_CATEGORY = "category"
_CALLED = {
    "words": "text changed",
    "record": "price or store changed",
    "pictures": "pictures changed",
    "category": "category handed on changed",
    "settled": "other attributes are settled",
    "pack": "text on the pack changed",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """Of one extractor: why it would run, None where what it found stands; what it would ask, each with why."""

    extractor: str
    why: str | None
    questions: Mapping[str, str] | None = None
    requests: int = 0


def foresee_item(one: ExtractorInput, extractors: Sequence[Extractor], gate: Gate) -> Iterator[Fate]:
    """The fate of each extractor on an input with its `content` and `earlier`."""
    weighed: dict[str, Extraction] = {}
    for extractor in extractors:
        if weighed:
            one = replace(one, settled=gate.settled(weighed))
        why = _why(extractor, one)
        if why is not None and isinstance(extractor, Vlm):
            questions, requests = _questions(extractor, one, why)
            yield Fate(extractor.name, why if questions else None, questions, requests)
        else:
            yield Fate(extractor.name, why)
        found = _found(extractor, one, why)
        weighed[extractor.name] = gate.calibrated(extractor.name, found)
        if found.category and not one.category:
            one = replace(one, category=found.category)
        one = replace(one, pack=one.pack + found.pack)


def _why(extractor: Extractor, one: ExtractorInput) -> str | None:
    if standing(extractor, one) is not None:
        return None
    earlier = one.earlier.get(extractor.name)
    if earlier is None:
        return "never run on it" if one.earlier else "new"
    now, then = made_from(extractor, one), earlier.extraction.made_from
    if not then:
        return "made before this was kept"
    changed = [part for part in parts_read(extractor) if then.get(part) != now.get(part)]
    if changed:
        return ", ".join(_CALLED[part] for part in changed)
    return "failed before" if earlier.sha == extractor.sha else "its settings changed"


def _found(extractor: Extractor, one: ExtractorInput, why: str | None) -> Extraction:
    earlier = one.earlier.get(extractor.name)
    new = earlier is None or earlier.extraction.made_from.get("words") != one.content.get("words")
    if why is not None and new and not extractor.needs_pictures:
        return extractor.extract([one])[0]
    return earlier.extraction if earlier else Extraction()


def _questions(vlm: Vlm, one: ExtractorInput, why: str) -> tuple[dict[str, str], int]:
    """The attributes that would be asked for, each with the reason, and in how many requests."""
    kept, questions, requests = Kept.of(vlm, one), {}, 0
    category = one.category
    if vlm.wants_category(one) and (spec := vlm.kind_spec(None)) is not None:
        said = next((v.value for v in kept.category or () if v.value), None)
        if reason := _asked_again(_CATEGORY, vlm.category_sha(said), kept, why):
            questions[_CATEGORY] = reason
            requests += len(vlm.asker.parts((spec,), "product")) * (2 if vlm.asker.lists_answers else 1)
        earlier = one.earlier.get(vlm.name)
        category = said or (earlier.extraction.category if earlier else None) or category
    schema = vlm.schemas.for_category(category, vlm.knowledge)
    specs: list[AttributeSpec] = []
    for name, spec in schema.specs.items():
        if name == _CATEGORY or name in one.settled or not vlm.may_ask(name):
            continue
        if reason := _asked_again(name, vlm.signer.sign((spec,), schema.thing, category), kept, why):
            questions[name] = reason
            specs.append(spec)
    return questions, requests + (len(vlm.asker.parts(specs, schema.thing)) if specs else 0)


def _asked_again(name: str, sha: str, kept: Kept, why: str) -> str | None:
    """Why a question is open; None where its answer stands."""
    if kept.values(name, sha) is not None:
        return None
    if not kept.asked_with:
        return why
    then = kept.asked_with.get(name)
    if then is None:
        return "no longer settled" if name in kept.asked_with else "never asked"
    return "failed before" if then == sha else what_differs(then, sha)
