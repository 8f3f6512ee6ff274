"""Modes `chain` and `chain-vision`: a model that was trained on chains writes one, and the grade is the one it says.

A model is told the pair as it was in training (`relevance.chain_prompt`) and writes freely, without a grammar to hold
it: that it keeps to `relevance.chain` is what it has learnt. Its legs are held to the query and the item
(`relevance.read_chain`) and given levels by the rulebook. Where these make another grade of the path than the model
did, the grade stays the model's, for that is what was trained and measured; each leg that is ruled otherwise says so,
and the disagreement is counted. A reply that is no chain is asked for once more, warmer; then it is a failed judgment.

Probabilities say how sure the grade is. Of n samples they are the votes for each level and the doubt of the chain that
is kept, as one vote more, over n + 1; of one sample that doubt alone: as sure as the least sure leg or the grade is,
the rest spread by the rulebook as it spreads the doubt in a leg. The grade of several samples is their median, the
lower one of two, and so always one that was said; it is relevant exactly where P(L3) + P(L4) is one half and more.

The path that is kept is one of those with the grade: of the commonest row of relations, the shortest. A model that was
trained no further than to what the item has gives a grade and a path without legs. This module knows no backend.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lore_mm.errors import ConfigError, InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, ChatRequest, open_chat
from lore_mm.models.adapted import manifest_of
from lore_mm.models.chat import NO_USAGE
from lore_mm.models.table import prompt_of
from lore_mm.types import Grade, Judgment, Leg, MatchPath, Provenance
from relevance.asking import ask
from relevance.chain import ORDERS, Order
from relevance.chain_prompt import PROMPT, ChainPrompt
from relevance.dossier import BUDGETS, Budget
from relevance.levels import Probabilities, broken, score_of
from relevance.pair_prompt import by_query, look
from relevance.protocol import Pair, Pictures, failed_judgment, refused
from relevance.quotes import ItemWords
from relevance.read_chain import HeardChain, hear
from relevance.rules import Rulebook, decide

__all__ = ["ChainCounts", "ChainJudge", "open_chain"]

_VERSION = "1"
_MOST_SAMPLES = 64
_AT_ONCE = 4096  # requests to the model in one call, and
_WITH_PICTURES = 64  # pairs, where their pictures are held
_TOKENS = 384  # most of a reply; a chain takes some 20 a leg
_SAMPLED = 0.7  # temperature where several samples are asked for
# A model is never surer than this that it is right, and never less sure of what it says than of what it does not.
_MOST, _LEAST = 0.98, 0.4


@dataclass(slots=True)
class ChainCounts:
    """What became of the replies of a judge, summed over its calls."""

    replies: int = 0
    retried: int = 0  # could not be read and were asked for again
    unreadable: int = 0  # could not be read at the second attempt either
    claims: int = 0  # legs that rest on words
    grounded: int = 0  # of those, the ones whose words stand in the item
    strange: int = 0  # legs whose demand the query does not have
    judged: int = 0
    disagreements: int = 0  # judgments of whose path the rulebook makes another grade


@dataclass(frozen=True, slots=True)
class _Work:
    """One pair that can be asked about."""

    place: int
    request: ChatRequest
    words: ItemWords
    pictures: int


class ChainJudge:
    """Judges by the chains of a trained model (see `relevance.protocol.PairJudge`).

    `samples` replies are asked for a pair, at `temperature` (unless given: greedy for one, 0.7 for several), with the
    seeds from `seed` on. `prompt`, `budget` and `order` are those the model was trained with. At most `most_pictures`
    of an item are shown, before the words. `usage` counts tokens, `counts` replies, quotes and disagreements.

    Raises:
        ConfigError: the prompt or a setting is wrong.
    """

    def __init__(
        self,
        chat: Chat,
        knowledge: Knowledge,
        rulebook: Rulebook,
        *,
        name: str = "chain",
        vision: bool = False,
        pictures: Pictures | None = None,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        max_tokens: int = _TOKENS,
        prompt: Path = PROMPT,
        budget: Budget = BUDGETS["full"],
        order: Order = "think_first",
        most_pictures: int = 1,
    ) -> None:
        _check(samples, temperature, max_tokens, most_pictures, order)
        self.name, self.mode = name, "chain-vision" if vision else "chain"
        self.chat, self.rulebook = chat, rulebook
        self.prompt = ChainPrompt(knowledge, rulebook, budget, prompt, order)
        self.pictures, self.most_pictures = pictures if vision else None, most_pictures
        self.samples, self.seed, self.max_tokens = samples, seed, max_tokens
        self.temperature = temperature if temperature is not None else _SAMPLED if samples > 1 else 0.0
        settings = [_VERSION, vision, most_pictures if vision else 0, samples, self.temperature, seed, max_tokens]
        self.sha = sha_of(["chain", settings, chat.sha, self.prompt.sha, knowledge.sha, rulebook.sha])
        self.versions: Mapping[str, str] = {
            "knowledge": knowledge.sha,
            "rulebook": rulebook.sha,
            "prompt": self.prompt.sha,
            "model": chat.sha,
        }
        self.usage, self.counts, self._counting = NO_USAGE, ChainCounts(), threading.Lock()

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in the same order. What cannot be judged is a failed one with the reason.

        Raises:
            ModelError: the model is dead and did not come back.
        """
        done: dict[int, Judgment] = {}
        for places in self._parts(pairs):
            works = self._begin(pairs, places, done)

            def read(i: int, reply: Any, works: Sequence[_Work] = works) -> HeardChain:
                work = works[i]
                return hear(reply, pairs[work.place][0], work.words, work.pictures)

            answers = ask(self.chat, [work.request for work in works], read, self.samples, self.seed)
            with self._counting:  # several threads may judge at once
                self.usage += answers.usage
                self.counts.replies += answers.replies
                self.counts.retried += answers.retried
                self.counts.unreadable += answers.unreadable
            for work, heard, error in zip(works, answers.read, answers.errors, strict=True):
                done[work.place] = self._judged(pairs[work.place], heard, error)
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
        told = self.prompt.tell(*pair)
        request = ChatRequest(
            (*shown, told.prompt),  # pictures first: so TRL puts them where a model is trained
            system=told.system,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            logprobs=True,
        )
        return _Work(place, request, ItemWords(pair[1]), len(shown))

    # -- judging -------------------------------------------------------------------------------------------------------

    def _judged(self, pair: Pair, heard: Sequence[HeardChain], error: str) -> Judgment:
        if not heard:
            return self._failed(pair, error)
        grades = tuple(one.chain.grade for one in heard)
        grade = sorted(grades)[(len(grades) - 1) // 2]
        kept = _kept([one for one in heard if one.chain.grade == grade])
        query = pair[0].query
        path = MatchPath(query.query_id, pair[1].item.item_id, _voted(kept, heard))
        try:
            decision = decide(path, self.rulebook) if path.legs else None
        except Exception as fault:  # one pair must not end a batch
            return self._failed(pair, f"{type(fault).__name__}: {fault}")
        path = _compared(decision.path, kept) if decision else path
        with self._counting:
            self.counts.judged += 1
            self.counts.disagreements += decision is not None and decision.grade != grade
            self.counts.claims += sum(one.claims for one in heard)
            self.counts.grounded += sum(one.grounded for one in heard)
            self.counts.strange += sum(one.strange for one in heard)
        probabilities = self._probabilities(grades, grade, kept.sure)
        return Judgment(
            query_id=query.query_id,
            item_id=path.item_id,
            grade=grade,
            query=query.text,
            probabilities=probabilities,
            score=score_of(probabilities),
            path=path,
            failed_dimensions=() if grade.relevant else broken(path, grade) or kept.chain.failed,
            rule_ids=decision.rule_ids if decision else (),
            samples=grades if self.samples > 1 else (),
            mode=self.mode,
            provenance=self._provenance(pair),
        )

    def _probabilities(self, grades: Sequence[Grade], grade: Grade, sure: float) -> Probabilities:
        """The votes, and the doubt of the chain that is kept as one more; of one sample that doubt alone."""
        two, three, four = self.rulebook.at_least(grade, min(max(sure, _LEAST), _MOST))
        own = (1 - two, two - three, three - four, four)
        votes = Counter(grades if len(grades) > 1 else ())
        a, b, c, d = ((votes[level] + own[level - 1]) / (votes.total() + 1) for level in Grade)
        return a, b, c, d

    def _failed(self, pair: Pair, error: str) -> Judgment:
        return failed_judgment(pair[0].query, pair[1].item.item_id, error, self._provenance(pair), self.mode)

    def _provenance(self, pair: Pair) -> Provenance:
        return Provenance(maker=f"judge:{self.mode}", input_sha=pair[1].input_sha, settings_sha=self.sha)


def _asked(leg: Leg) -> tuple[str, str, int]:
    return leg.demand.dimension, leg.demand.value, leg.demand.polarity


def _row(heard: HeardChain) -> tuple[tuple[Any, ...], ...]:
    return tuple((*_asked(leg), leg.relation) for leg in heard.legs)


def _kept(heard: Sequence[HeardChain]) -> HeardChain:
    """Of the chains with the grade the one whose path is kept."""
    common = Counter(_row(one) for one in heard)
    return min(heard, key=lambda one: (-common[_row(one)], one.length))


def _voted(kept: HeardChain, heard: Sequence[HeardChain]) -> tuple[Leg, ...]:
    """The legs that are kept, each as sure as the samples are of its relation (see `relevance.vote`)."""
    if len(heard) == 1:
        return kept.legs
    votes = Counter(row for one in heard for row in set(_row(one)))
    return tuple(
        replace(leg, confidence=(votes[row] * leg.demand.confidence + leg.confidence) / (len(heard) + 1))
        for leg, row in zip(kept.legs, _row(kept), strict=True)
    )


def _compared(path: MatchPath, kept: HeardChain) -> MatchPath:
    """The path with what the model says of a leg where the rules say something else."""
    legs = tuple(
        leg if leg.level == own.level else replace(leg, reason=f"{leg.reason}; the model says {own.level} of that")
        for leg, own in zip(path.legs, kept.chain.legs, strict=True)
    )
    return replace(path, legs=legs)


def _check(samples: int, temperature: float | None, max_tokens: int, most_pictures: int, order: str) -> None:
    whole = (
        ("samples", samples, 1, _MOST_SAMPLES),
        ("most_pictures", most_pictures, 1, 64),
        ("max_tokens", max_tokens, 1, 1_000_000),
    )
    for name, value, least, most in whole:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name}: a whole number from {least} to {most}, not {value!r}")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 2):
        raise ConfigError(f"temperature: a number from 0 to 2, not {temperature!r}")
    if samples > 1 and temperature == 0:
        raise ConfigError("samples: at a temperature of 0 all of them are the same reply")
    if order not in ORDERS:
        raise ConfigError(f"order {order!r}{nearest(str(order), ORDERS)}; legal: {', '.join(ORDERS)}")


def _trained_with(said: Mapping[str, Any], knowledge: Knowledge, rulebook: Rulebook, order: Order) -> str | None:
    """The budget that a manifest names, or whose system turn it has the sha of; None where it has neither."""
    if said.get("budget"):
        return str(said["budget"])
    for name in ("tiny", "full") if said.get("prompt_sha") else ():
        if said["prompt_sha"] == sha_of([ChainPrompt(knowledge, rulebook, BUDGETS[name], order=order).system]):
            return name
    return None


def open_chain(
    address: str,
    rest: str,
    knowledge: Knowledge,
    rulebook: Rulebook,
    *,
    vision: bool = False,
    pictures: Pictures | None = None,
    prompt: str | Path | None = None,
    budget: str | None = None,
    order: Order | None = None,
    opener: Callable[..., Chat] = open_chat,
    samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    max_tokens: int = _TOKENS,
    most_pictures: int = 1,
    **options: Any,
) -> ChainJudge:
    """The judge over the chat model at the address `rest`; `options` are the model's, the others `ChainJudge`'s.

    `order` and `budget` (full, compact, tiny) are, unless given, those of the model's manifest, or of the model table.

    Raises:
        InputError: an option that there is none of; or vision, and nobody to read pictures.
        ConfigError: the prompt or a setting is wrong.
        ModelError, MissingExtraError: the model cannot be opened.
    """
    if vision and pictures is None:
        raise InputError(f"judge {address} looks at pictures, and there is nobody here to read them")
    said = manifest_of(rest)
    order = order or said.get("order", "think_first")
    _check(samples, temperature, max_tokens, most_pictures, order)
    length = budget or _trained_with(said, knowledge, rulebook, order) or prompt_of(rest)
    if length not in BUDGETS:
        raise InputError(f"budget {length!r}{nearest(length, BUDGETS)}; legal: {', '.join(BUDGETS)}")
    try:
        chat = opener(rest, **options)
    except TypeError as error:
        raise InputError(f"judge {address}: {error}") from None
    try:
        return ChainJudge(
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
            order=order,
            most_pictures=most_pictures,
        )
    except Exception:
        chat.close()
        raise
