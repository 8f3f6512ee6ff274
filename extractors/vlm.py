"""A vision-language model as an extractor: what it sees and reads of an item, as answers to directed questions.

First what kind of thing it is, where that is not settled; then the attributes such a thing has, those that are settled
left out, a few to a request. All requests of a round go to the engine at once. A prompt that lists legal answers would
have to list some nine hundred kinds, so the kind is found in two steps there, the top of the tree and then what lies
below; a prompt that lists none leaves the whole list to the decoder.

Every answer is held against the schema's list, its words are looked for in the item (`extractors.vlm_evidence`), and
its likelihood is the confidence, after calibration where one was fitted. An answer that stands already, to the same
question about the same words and pictures, is not asked for again (`extractors.vlm_kept`); so an attribute may be asked
alone that stood among others before. This module knows no backend: see `open_vlm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from extractors.protocol import Extraction, ExtractorInput
from extractors.vlm_ask import Asker, Questions, item_words, shown_pictures
from extractors.vlm_evidence import Witness
from extractors.vlm_kept import Kept, Signer
from extractors.vlm_read import Reading, ReplyError, parse_reply, read_answer
from extractors.vlm_work import NAME, VlmWork, attribute_of, extraction_of, kept_text, said
from lore_mm.attribute import AttributeSpec
from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, ChatReply, open_chat
from lore_mm.models.table import prompt_of
from lore_mm.schema import Schemas
from lore_mm.types import AttributeValue, Evidence

__all__ = ["Calibrator", "Vlm", "open_vlm"]

_VERSION = "1"
_CATEGORY = "category"
_RECORDS = ("price", "store")  # the seller's record says, and nobody can see
# options of a chat by which it answers sooner or refuses more, but answers the same
_PACE = frozenset(
    "batch_size threads device max_model_len concurrency requests_per_minute tokens_per_minute timeout_s retries clock "
    "max_num_seqs max_num_batched_tokens gpu_memory_utilization tensor_parallel_size enforce_eager "
    "limit_pictures".split()
)
_UNFOUNDED = 0.5  # share of confidence left to an answer that no word states where there is no picture either


class Calibrator(Protocol):
    """Turns a likelihood into a probability of being right, as fitted on labelled rows."""

    @property
    def sha(self) -> str:
        """Identifies what was fitted."""
        ...

    def apply(self, extractor: str, attribute: str, confidence: float) -> float:
        """The calibrated confidence, in [0, 1]."""
        ...


class Vlm:
    """The extractor; without pictures it works on the words alone.

    `prompt`: "full", "compact", or a template of the user's own. `fields`: ask for these attributes only. Of each item
    at most `max_pictures` are shown, their longer side at most `picture_side` pixels. `ask_category=False` takes the
    category as it comes. `decoding` is whatever of the chat's options changes its answers. `calibration` is identity
    unless given; another one asks everything again, while that of a `Gate`, applied behind the extractor, does not.

    Raises:
        ConfigError: the prompt is wrong, or a field is in no schema.
    """

    name = NAME
    needs_pictures = True
    depends_on = ("words", "pictures", "pack", "category", "settled")
    in_parts = True  # answers that stand are kept one by one

    def __init__(
        self,
        chat: Chat,
        schemas: Schemas,
        knowledge: Knowledge,
        *,
        prompt: str | Path = "full",
        fields: Sequence[str] | None = None,
        fields_per_request: int = 8,
        max_pictures: int = 4,
        picture_side: int = 1024,
        ask_category: bool = True,
        decoding: Mapping[str, Any] | None = None,
        calibration: Calibrator | None = None,
    ) -> None:
        self.chat, self.schemas, self.knowledge = chat, schemas, knowledge
        self.asker = Asker.of(prompt, fields_per_request)
        self.fields = None if fields is None else frozenset(fields)
        self.max_pictures, self.picture_side = max_pictures, picture_side
        self.ask_category, self.calibration = ask_category, calibration
        self.decoding = dict(decoding or {})
        known = {name for schema in schemas.departments.values() for name in schema.specs}
        if unknown := sorted((self.fields or frozenset()) - known):
            raise ConfigError(f"no schema has an attribute {unknown[0]!r}; there are: {', '.join(sorted(known))}")
        self._kinds: dict[str | None, AttributeSpec] = {}

    @cached_property
    def sha(self) -> str:
        """Identifies model, prompt, schemas, knowledge, calibration and settings."""
        settings: list[Any] = [
            _VERSION,
            sorted(self.fields) if self.fields is not None else None,
            self.asker.fields_per_request,
            self.max_pictures,
            self.picture_side,
            self.ask_category,
        ]
        if self.decoding:
            settings.append(self.decoding)
        calibrated = self.calibration.sha if self.calibration else None
        return sha_of(
            [settings, self.chat.sha, self.asker.prompt.sha, self.schemas.sha, self.knowledge.sha, calibrated]
        )

    @cached_property
    def signer(self) -> Signer:
        """The shas of questions: of model, decoding, prompt and how pictures are shown, with each question's own."""
        shown = [_VERSION, self.asker.fields_per_request, self.max_pictures, self.picture_side, self.decoding]
        calibrated = self.calibration.sha if self.calibration else None
        return Signer(sha_of([shown, self.chat.sha, self.asker.prompt.sha, calibrated]))

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """Ask about each item; len(result) == len(inputs). What failed of one item is said there.

        Raises:
            ModelError: the engine is dead and did not come back.
        """
        todo = {i: self._begin(one) for i, one in enumerate(inputs) if _has_something(one)}
        self._ask_categories([work for work in todo.values() if self.wants_category(work.one)])
        self._ask_fields(list(todo.values()))
        return [
            extraction_of(todo[i]) if i in todo else Extraction((), one.category, "skipped", "nothing to read")
            for i, one in enumerate(inputs)
        ]

    def _begin(self, one: ExtractorInput) -> VlmWork:
        places, pictures = shown_pictures(one, self.max_pictures, self.picture_side)
        words, witness = item_words(one), Witness(one, places, self.knowledge)
        return VlmWork(one, places, pictures, words, witness, one.category, Kept.of(self, one))

    # -- the kind of thing ---------------------------------------------------------------------------------------------

    def wants_category(self, one: ExtractorInput) -> bool:
        """Whether the kind of this item is asked for."""
        if not self.ask_category or _CATEGORY in one.settled:
            return False
        return one.category is None or self.fields is None or _CATEGORY in self.fields

    def _ask_categories(self, works: Sequence[VlmWork]) -> None:
        """Find the kinds, in one step or two; without a legal answer a category stays as it came."""
        spec = self.kind_spec(None)
        if spec is None or not works:
            return
        for work in works:
            work.order.append(_CATEGORY)
        asked = [work for work in works if not self._keeps_category(work, spec)]
        for work in asked:
            work.asked.append(_CATEGORY)
        self._round([(work, part) for work in asked for part in self.asker.parts((spec,), "product")])
        if self.asker.lists_answers:
            below = [(work, narrow) for work in asked if (narrow := self._narrowed(work)) is not None]
            tops = [work.found[_CATEGORY] for work, _ in below]
            self._round([(work, part) for work, narrow in below for part in self.asker.parts((narrow,), "product")])
            for (work, _), top in zip(below, tops, strict=True):
                if work.found[_CATEGORY][0].status != "value":
                    work.found[_CATEGORY] = top  # it is one of these, and no more was told
        for work in works:
            work.category = next((v.value for v in work.found.get(_CATEGORY, ()) if v.value), work.one.category)
        for work in asked:
            work.asked_with[_CATEGORY] = self.category_sha(said(work.found.get(_CATEGORY, ())))

    def _keeps_category(self, work: VlmWork, spec: AttributeSpec) -> bool:
        """True where the kind that was found stands: the questions on the way to it are what they were."""
        values = work.kept.category
        sha = self.category_sha(said(values))
        if values is None or work.kept.asked_with.get(_CATEGORY) != sha:
            return False
        root = self.root_of(said(values))
        self._keep(work, (self.kind_spec(root) if root else None) or spec, sha, values)
        return True

    def category_sha(self, found: str | None) -> str:
        """Of the questions that led to a kind (None: to none): the whole list, or the roots and what is below one."""
        root = self.root_of(found)
        specs = [self.kind_spec(None), self.kind_spec(root) if root else None]
        return self.signer.sign([spec for spec in specs if spec is not None], "product", None)

    def root_of(self, kind: str | None) -> str | None:
        """The root that a kind lies below, where the kind is found in two steps."""
        spec = self.kind_spec(None)
        if kind is None or spec is None or not self.asker.lists_answers:
            return None
        above = (kind, *sorted(self.knowledge.ancestors(kind))) if kind in self.knowledge.categories else ()
        return next((one for one in above if one in spec.values), None)

    def kind_spec(self, root: str | None) -> AttributeSpec | None:
        """The question for the kind: among those below a root, or the roots, or all where nothing is listed."""
        if root not in self._kinds:
            spec = self.schemas.for_category(None, self.knowledge).specs.get(_CATEGORY)
            if spec is None:
                return None
            if self.asker.lists_answers:
                knowledge = self.knowledge
                values = {
                    kind: words
                    for kind, words in spec.values.items()
                    if (knowledge.is_a(kind, root) if root else not spec.values.keys() & knowledge.ancestors(kind))
                }
                spec = spec.model_copy(update={"values": values})
            self._kinds[root] = AttributeSpec.model_validate(spec.model_dump())
        return self._kinds[root]

    def _narrowed(self, work: VlmWork) -> AttributeSpec | None:
        """The question among the kinds below the root that was found, or None where there is nothing below."""
        root = next((v.value for v in work.found.get(_CATEGORY, ()) if v.value), None)
        spec = self.kind_spec(root) if root else None
        return spec if spec is not None and len(spec.values) > 1 else None

    # -- its attributes ------------------------------------------------------------------------------------------------

    def _ask_fields(self, works: Iterable[VlmWork]) -> None:
        asks: list[tuple[VlmWork, Questions]] = []
        for work in works:
            schema = self.schemas.for_category(work.category, self.knowledge)
            if _CATEGORY in work.one.settled and self.may_ask(_CATEGORY):
                work.settled.append(_CATEGORY)
            wanted = [spec for name, spec in schema.specs.items() if name != _CATEGORY and self.may_ask(name)]
            work.settled += [spec.name for spec in wanted if spec.name in work.one.settled]
            specs = []
            for spec in wanted:
                if spec.name in work.one.settled:
                    continue
                sha = self.signer.sign((spec,), schema.thing, work.category)
                work.order.append(spec.name)
                if (values := work.kept.values(spec.name, sha)) is not None:
                    self._keep(work, spec, sha, values)
                else:
                    work.asked_with[spec.name] = sha
                    specs.append(spec)
            work.asked += [spec.name for spec in specs]
            asks += [(work, part) for part in self.asker.parts(specs, schema.thing)]
        self._round(asks)

    def _keep(self, work: VlmWork, spec: AttributeSpec, sha: str, values: Sequence[AttributeValue]) -> None:
        """Take answers over; where they stand in the item is looked up again, as other tables may read it otherwise."""
        work.asked_with[spec.name] = sha
        work.found[spec.name] = []
        for value in values:
            if value.status == "value":
                sure = value.confidence / _UNFOUNDED if _is_unfounded(value) else value.confidence
                reading = Reading("value", value.value, value.number, value.unit, sure)
                value = self._founded(work, spec, reading, sure)
            elif value.status == "failed" and (value.error or "") in (work.kept.error or "-"):
                work.errors.append(value.error or "")
                work.reply = work.kept.reply
            work.found[spec.name].append(value)

    def may_ask(self, name: str) -> bool:
        """Whether it is among what this extractor is to ask for."""
        if name == _CATEGORY and not self.ask_category:
            return False
        return name not in _RECORDS and (self.fields is None or name in self.fields)

    # -- one round -----------------------------------------------------------------------------------------------------

    def _round(self, asks: Sequence[tuple[VlmWork, Questions]]) -> None:
        """One call of the engine for all these requests, and their answers read into the works."""
        if not asks:
            return
        requests = [self.asker.request(work.words, work.pictures, questions) for work, questions in asks]
        replies = self.chat.generate(requests)
        if len(replies) != len(requests):
            fault = f"{self.chat.name} gave {len(replies)} replies for {len(requests)} requests"
            replies = [ChatReply(finish="error", error=fault) for _ in requests]
        for (work, questions), reply in zip(asks, replies, strict=True):
            work.usage += reply.usage
            self._take(work, questions.specs, reply)

    def _take(self, work: VlmWork, specs: Sequence[AttributeSpec], reply: ChatReply) -> None:
        """Read one reply; one that cannot be read fails the attributes it was to answer, and is kept."""
        try:
            if reply.error:
                raise ReplyError(reply.error)
            parsed = parse_reply(reply)
        except ReplyError as error:
            fault = str(error)
            work.errors.append(fault)
            work.reply = kept_text(reply.text) or work.reply
            for spec in specs:
                work.found[spec.name] = [attribute_of(spec, Reading("failed", confidence=0.0, error=fault))]
            return
        for spec in specs:
            readings = read_answer(spec, parsed)
            if any(reading.status == "failed" for reading in readings):
                work.reply = kept_text(reply.text)
            if spec.name == _CATEGORY:  # the likelihood of both steps together
                share, work.share = work.share, readings[0].confidence
                readings = [replace(reading, confidence=reading.confidence * share) for reading in readings]
            work.found[spec.name] = [self._witnessed(work, spec, reading) for reading in readings]

    def _witnessed(self, work: VlmWork, spec: AttributeSpec, reading: Reading) -> AttributeValue:
        """The value with its evidence and its calibrated confidence."""
        sure = reading.confidence
        if self.calibration is not None and reading.status != "failed":
            sure = min(max(self.calibration.apply(self.name, spec.name, sure), 0.0), 1.0)
        return (
            attribute_of(spec, reading, sure) if reading.status != "value" else self._founded(work, spec, reading, sure)
        )

    def _founded(self, work: VlmWork, spec: AttributeSpec, reading: Reading, sure: float) -> AttributeValue:
        """A value with its evidence; without any, it is believed less."""
        value = attribute_of(spec, reading, sure)
        evidence = work.witness.evidence(value, spec)
        if not evidence:  # inferred from the words as a whole
            sure *= _UNFOUNDED
            evidence = (Evidence("text", value=value.value, extractor=self.name, confidence=sure),)
        return attribute_of(spec, reading, sure, evidence)


def open_vlm(
    address: str,
    schemas: Schemas,
    knowledge: Knowledge,
    *,
    options: Mapping[str, Any] | None = None,
    opener: Callable[..., Chat] = open_chat,
    **settings: Any,
) -> Vlm:
    """The extractor over the model at an address; `options` are the backend's, `settings` those of `Vlm`.

    The prompt is the one the model table names for the model, "full" for a model that is not in it, unless given.

    Raises:
        ModelError, MissingExtraError: the model cannot be opened.
        ConfigError: the prompt is wrong, or a field is in no schema.
    """
    settings.setdefault("decoding", {k: repr(v) for k, v in (options or {}).items() if k not in _PACE})
    settings.setdefault("prompt", prompt_of(address))
    if settings["prompt"] == "compact":  # a small model sees less than this anyway
        settings.setdefault("picture_side", 512)
    chat = opener(address, **(options or {}))
    try:
        return Vlm(chat, schemas, knowledge, **settings)
    except Exception:
        chat.close()
        raise


def _has_something(one: ExtractorInput) -> bool:
    item = one.item
    return bool(item.title.strip() or item.description.strip() or item.attributes or any(one.pictures))


def _is_unfounded(value: AttributeValue) -> bool:
    return [(e.source, e.quote) for e in value.evidence] == [("text", None)]
