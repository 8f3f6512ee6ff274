"""Modes `reason` and `reason-vision`: a model writes the path as constrained JSON, the rulebook makes the grade of it.

A model is told the demands with the rules and the knowledge retrieved for each, and the item last (`relevance.dossier`,
prompts/reason.jinja), and says of each demand what the item has there, in which words, and how that relates to it, in
the closed vocabulary of relations; then the grade it would give (`relevance.path_schema`). Its words are held against
the item (`relevance.read_path`). The grade of the judgment is `decide`'s on that path; the model's own is `said`, and
where the two differ is counted. What makes an item special though nobody asked for that (used, made for children) is
no question to the model: such legs are those of the rules, and so is every demand beyond those a dossier has room for.

A reply that cannot be read is asked for once more, a little warmer and with another seed; a pair with no reply that
can be read is a failed judgment with the reason and the beginning of the reply.

With `samples` above one, all samples of all pairs go to the model at once, and are voted on (`relevance.vote`).
This module knows no backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lore_mm.errors import ConfigError, InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from lore_mm.models.chat import NO_USAGE
from lore_mm.models.table import prompt_of
from lore_mm.prompts import clean
from lore_mm.types import Judgment, Leg, Provenance, Understanding
from relevance.asking import ask
from relevance.construct import Step, construct
from relevance.dossier import BUDGETS, EXAMPLE, Budget, Dossiers
from relevance.follow import Follower
from relevance.pair_prompt import PROMPTS, PairPrompt, by_query, look
from relevance.path_schema import keys_of, kind_of, offered, reply_schema
from relevance.protocol import Pair, Pictures, failed_judgment, refused, sha_with_rulebook
from relevance.quotes import ItemWords
from relevance.read_path import Asked, ToldPath, read_path
from relevance.rules import Rulebook
from relevance.vote import elect

__all__ = ["Counts", "PathDossiers", "ReasonJudge", "open_reason"]

_VERSION = "1"
PROMPT = PROMPTS / "reason.jinja"
_MOST_SAMPLES = 64
_AT_ONCE = 2048  # requests to the model in one call, and
_WITH_PICTURES = 64  # pairs, where their pictures are held
_LEG_TOKENS, _OTHER_TOKENS = 192, 48  # most of a reply; a leg takes some 45, and more where its texts are strange
_SAMPLED = 0.7  # temperature where several samples are asked for
_EXACT = {"id": "any.exact", "name": "exact", "level": "L4", "says": "the very value"}
_LEG = {"key": "color_1", "as_for": "", "relations": [_EXACT]}
_OWN = {"legs": [{**EXAMPLE["demands"][0], **_LEG}]}


@dataclass(slots=True)
class Counts:
    """What became of the replies of a judge, summed over its calls."""

    replies: int = 0
    retried: int = 0  # could not be read and were asked for again
    unreadable: int = 0  # could not be read at the second attempt either
    claims: int = 0  # legs that rest on words
    grounded: int = 0  # of those, the ones whose words stand in the item
    judged: int = 0
    disagreements: int = 0  # judgments whose grade is not the one that the model named


@dataclass(frozen=True, slots=True)
class _Work:
    """One pair that can be asked about."""

    place: int
    asked: Asked
    rest: tuple[Leg, ...]  # legs that no model is asked for
    request: ChatRequest
    words: ItemWords


class PathDossiers(Dossiers):
    """Dossiers with the legs that a path is to have: the demands in their order, with the relations to choose from."""

    _last: tuple[Understanding | None, dict[str, Any]] = (None, {})

    def of_query(self, understanding: Understanding) -> dict[str, Any]:
        """As in every mode, and `legs`. Relations that an earlier leg lists are not listed again."""
        last, told = self._last
        if last is understanding:  # pairs come query by query
            return told
        values = super().of_query(understanding)
        steps = self.asked(understanding, construct(understanding, self.knowledge))
        place = {id(demand): i for i, demand in enumerate(understanding.demands)}
        first: dict[str, str] = {}
        legs = []
        for key, step in zip(keys_of([kind_of(step.demand) for step in steps]), steps, strict=True):
            demand = values["demands"][place[id(step.demand)]]
            relations = self._relations(step, demand["rules"])
            same = first.setdefault(str([(one["name"], one["level"], one["says"]) for one in relations]), key)
            shared = {"relations": [], "as_for": same} if same != key else {"relations": relations, "as_for": ""}
            legs.append({**demand, "key": key, **shared})
        told = {**values, "legs": legs}
        self._last = understanding, told
        return told

    def asked(self, understanding: Understanding, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Those of a query's steps that there is room to ask about, in their order."""
        told = {id(demand) for demand in understanding.demands[: self.budget.demands]}
        return tuple(step for step in steps if id(step.demand) in told)

    def _relations(self, step: Step, rules: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """The relations of a leg, each with what the rulebook makes of it here; and the rules that know better then.

        Where there is no room for rules of any dimension there is none for sentences either.
        """
        found = []
        for relation in offered(kind_of(step.demand)):
            rule_id, rule = self.rulebook.rule_for(Leg(step.demand, step.attribute, relation))
            if not self.budget.general:
                found.append({"id": rule_id, "name": relation, "level": str(rule.level), "says": ""})
                continue
            says = clean(rule.says, self.budget.sentence)
            found.append({"id": rule_id, "name": relation, "level": str(rule.level), "says": says})
            others = (one for one in rules if one["relation"] == relation and one["level"] != str(rule.level))
            found += [{"id": one["id"], "name": relation, "level": one["level"], "says": one["says"]} for one in others]
        return found


class ReasonJudge:
    """Judges by a model's path (see `relevance.protocol.PairJudge`).

    `samples` replies are asked for a pair, at `temperature` (unless given: greedy for one, 0.7 for several), with the
    seeds from `seed` on. `max_tokens` bounds a reply; by default it follows from the number of legs. `prompt` is a
    template of the user's own. At most `most_pictures` of an item are shown. `usage` counts tokens, `counts` replies,
    quotes and disagreements.

    Raises:
        ConfigError: the prompt or a setting is wrong.
    """

    def __init__(
        self,
        chat: Chat,
        knowledge: Knowledge,
        rulebook: Rulebook,
        *,
        name: str = "reason",
        vision: bool = False,
        pictures: Pictures | None = None,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        max_tokens: int | None = None,
        prompt: Path = PROMPT,
        budget: Budget = BUDGETS["full"],
        most_pictures: int = 1,
    ) -> None:
        _check(samples=samples, temperature=temperature, max_tokens=max_tokens, most_pictures=most_pictures)
        self.name, self.mode = name, "reason-vision" if vision else "reason"
        self.chat, self.rulebook, self.follower = chat, rulebook, Follower(knowledge)
        self.dossiers = PathDossiers(knowledge, rulebook, budget)
        self.prompt = PairPrompt(prompt, self.dossiers, _OWN)
        self.pictures, self.most_pictures = pictures if vision else None, most_pictures
        self.samples, self.seed, self.max_tokens = samples, seed, max_tokens
        self.temperature = temperature if temperature is not None else _SAMPLED if samples > 1 else 0.0
        settings = [_VERSION, vision, most_pictures if vision else 0, samples, self.temperature, seed, max_tokens]
        schemas = self.follower.schemas.sha
        made_with = sha_of(["reason", settings, chat.sha, self.prompt.sha, knowledge.sha, schemas])
        self.sha = sha_with_rulebook(made_with, rulebook.sha)
        self.versions: Mapping[str, str] = {
            "knowledge": knowledge.sha,
            "schemas": schemas,
            "rulebook": rulebook.sha,
            "prompt": self.prompt.sha,
            "model": chat.sha,
        }
        self.usage, self.counts, self._counting = NO_USAGE, Counts(), threading.Lock()

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in the same order. What cannot be judged is a failed one with the reason.

        Raises:
            ModelError: the model is dead and did not come back.
        """
        done: dict[int, Judgment] = {}
        for places in self._parts(pairs):
            works = self._begin(pairs, places, done)

            def read(i: int, reply: ChatReply, works: Sequence[_Work] = works) -> ToldPath:
                return read_path(reply, works[i].asked, works[i].words)

            answers = ask(self.chat, [work.request for work in works], read, self.samples, self.seed)
            with self._counting:  # several threads may judge at once
                self.usage += answers.usage
                self.counts.replies += answers.replies
                self.counts.retried += answers.retried
                self.counts.unreadable += answers.unreadable
            for work, told, error in zip(works, answers.read, answers.errors, strict=True):
                done[work.place] = self._judged(pairs[work.place], work, told, error)
        return [done[place] for place in range(len(pairs))]

    def close(self) -> None:
        """Free the model; calling it twice is harmless."""
        self.chat.close()

    # -- asking --------------------------------------------------------------------------------------------------------

    def _parts(self, pairs: Sequence[Pair]) -> Iterator[list[int]]:
        """The places of pairs to ask about at once, those of one query side by side."""
        places = by_query(pairs)
        size = max(1, min(_AT_ONCE // self.samples, _WITH_PICTURES if self.pictures else _AT_ONCE))
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def _begin(self, pairs: Sequence[Pair], places: Sequence[int], done: dict[int, Judgment]) -> list[_Work]:
        """The work of each pair that can be asked about; the judgments of the others are put into `done`."""
        works = []
        shown = look([pairs[place] for place in places], self.pictures, self.most_pictures)
        for place, seen in zip(places, shown, strict=True):
            try:
                understanding, features = pairs[place]
                reason = refused(understanding, None if seen else features) or (seen if isinstance(seen, str) else None)
                if reason or isinstance(seen, str):
                    done[place] = self._failed(pairs[place], reason or "")
                else:
                    works.append(self._work(place, pairs[place], seen))
            except Exception as error:  # one pair must not end a batch
                done[place] = self._failed(pairs[place], f"{type(error).__name__}: {error}")
        return works

    def _work(self, place: int, pair: Pair, shown: tuple[Image, ...]) -> _Work:
        understanding, features = pair
        steps = self.follower.construct(understanding)
        path = self.follower.follow(understanding.query.query_id, steps, self.follower.view(features))
        chosen = self.dossiers.asked(understanding, steps)
        ids = {id(step) for step in chosen}
        at = [i for i, step in enumerate(steps) if id(step) in ids]
        asked = Asked(path.query_id, chosen, tuple(path.legs[i] for i in at), features, self.follower, len(shown))
        (told,) = self.prompt.tell([pair], [None], [shown])
        request = ChatRequest(
            told.parts,
            system=told.system,
            json_schema=reply_schema(asked.kinds),
            max_tokens=self.max_tokens or _OTHER_TOKENS + _LEG_TOKENS * len(chosen),
            temperature=self.temperature,
            logprobs=True,
        )
        rest = tuple(leg for i, leg in enumerate(path.legs) if i not in at)
        return _Work(place, asked, rest, request, ItemWords(features))

    # -- judging -------------------------------------------------------------------------------------------------------

    def _judged(self, pair: Pair, work: _Work, told: Sequence[ToldPath], error: str) -> Judgment:
        if not told:
            return self._failed(pair, error)
        try:
            elected = elect(told, work.rest, self.rulebook)
        except Exception as fault:  # one pair must not end a batch
            return self._failed(pair, f"{type(fault).__name__}: {fault}")
        decision, query = elected.decision, pair[0].query
        with self._counting:
            self.counts.judged += 1
            self.counts.disagreements += elected.said != decision.grade
            self.counts.claims += sum(one.claims for one in told)
            self.counts.grounded += sum(one.grounded for one in told)
        return Judgment(
            query_id=query.query_id,
            item_id=pair[1].item.item_id,
            grade=decision.grade,
            query=query.text,
            probabilities=decision.probabilities,
            score=decision.score,
            path=decision.path,
            failed_dimensions=decision.failed_dimensions,
            rule_ids=decision.rule_ids,
            said=elected.said,
            samples=elected.grades if self.samples > 1 else (),
            mode=self.mode,
            provenance=self._provenance(pair),
        )

    def _failed(self, pair: Pair, error: str) -> Judgment:
        return failed_judgment(pair[0].query, pair[1].item.item_id, error, self._provenance(pair), self.mode)

    def _provenance(self, pair: Pair) -> Provenance:
        return Provenance(maker=f"judge:{self.mode}", input_sha=pair[1].input_sha, settings_sha=self.sha)


def _check(*, samples: int, temperature: float | None, max_tokens: int | None, most_pictures: int) -> None:
    whole = (("samples", samples, 1, _MOST_SAMPLES), ("most_pictures", most_pictures, 1, 64))
    for name, value, least, most in (*whole, ("max_tokens", 1 if max_tokens is None else max_tokens, 1, 1_000_000)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name}: a whole number from {least} to {most}, not {value!r}")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 2):
        raise ConfigError(f"temperature: a number from 0 to 2, not {temperature!r}")
    if samples > 1 and temperature == 0:
        raise ConfigError("samples: at a temperature of 0 all of them are the same reply")


def open_reason(
    address: str,
    rest: str,
    knowledge: Knowledge,
    rulebook: Rulebook,
    *,
    vision: bool = False,
    pictures: Pictures | None = None,
    prompt: str | Path | None = None,
    budget: str | None = None,
    samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    max_tokens: int | None = None,
    most_pictures: int = 1,
    opener: Callable[..., Chat] = open_chat,
    **options: Any,
) -> ReasonJudge:
    """The judge over the chat model at the address `rest`; `options` are the model's, the others `ReasonJudge`'s.

    `budget`, full or compact, is how much of a pair the model is told; that which the model table names for the model
    unless given.

    Raises:
        InputError: an option that there is none of; or vision, and nobody to read pictures.
        ConfigError: the prompt or a setting is wrong.
        ModelError, MissingExtraError: the model cannot be opened.
    """
    if vision and pictures is None:
        raise InputError(f"judge {address} looks at pictures, and there is nobody here to read them")
    length = budget or prompt_of(rest)
    if length not in BUDGETS:
        raise InputError(f"budget {length!r}{nearest(length, BUDGETS)}; legal: {', '.join(BUDGETS)}")
    _check(samples=samples, temperature=temperature, max_tokens=max_tokens, most_pictures=most_pictures)
    try:
        chat = opener(rest, **options)
    except TypeError as error:
        raise InputError(f"judge {address}: {error}") from None
    try:
        return ReasonJudge(
            chat,
            knowledge,
            rulebook,
            name=address,
            vision=vision,
            pictures=pictures,
            samples=samples,
            temperature=temperature,
            seed=seed,
            max_tokens=max_tokens,
            prompt=PROMPT if prompt is None else Path(prompt),
            budget=BUDGETS[length],
            most_pictures=most_pictures,
        )
    except Exception:
        chat.close()
        raise
