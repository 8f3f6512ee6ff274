"""A teacher: a chat model that writes chains in three steps; those are kept that lead to the label by the rules.

    knowledge    who `decode`s the query says what it asks for; no label and no item is told
    multimodal   what the item has for each demand, from its text, what was read on it, and its pictures
    rules        how each leg is judged, by which rule, and the grade

Of each pair several samples are taken, every step of all samples of all pairs in one call of the model. A sample is
kept where its grade is the label and its ruling agrees with the rulebook (`relevance.training.teach_read`); of those
kept the shortest chain is the pair's. Where there is none the last two steps are asked for once more with the label
told, and what comes of that is marked. What fails then is no chain and a reason. This module knows no backend, no
table and no file.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, ChatReply, ChatRequest
from lore_mm.models.chat import NO_USAGE
from lore_mm.models.reply import ReplyError
from lore_mm.prompts import clean
from lore_mm.types import Grade, Leg, Query, Understanding
from relevance.by_reason import PathDossiers
from relevance.chain import chain_of, read_chain, write_chain
from relevance.dossier import BUDGETS, EXAMPLE, Budget
from relevance.evidence import ItemView
from relevance.follow import Follower
from relevance.pair_prompt import PROMPTS, PairPrompt, by_query, look
from relevance.protocol import Pair, Pictures, refused
from relevance.quotes import ItemWords
from relevance.read_path import Asked
from relevance.relations import RELATIONS
from relevance.rules import Rulebook
from relevance.training.teach_read import Question, citable, read_evidence, read_ruling
from relevance.training.teach_samples import Case, Outcome, Taught, Try, fault_of, found_in
from relevance.training.teach_schema import evidence_schema, ruling_schema

__all__ = ["Decode", "Taught", "Teacher"]

_VERSION = "1"
EVIDENCE, RULING = "teach_evidence.jinja", "teach_rules.jinja"
_MOST_SAMPLES = 64
_FOUND_TOKENS, _RULED_TOKENS, _OTHER_TOKENS = 128, 64, 48  # most of a reply: a leg, and the rest
_EXACT = {"id": "any.exact", "name": "exact", "level": "L4", "says": "the very value"}
_LEG = {"key": "color_1", "as_for": "", "relations": [_EXACT]}
_OWN = {
    "legs": [{**EXAMPLE["demands"][0], **_LEG}],
    "hint": "L2",
    "open": ["color_1"],
    "evidence": [{"key": "color_1", "source": "title", "quote": "Red", "found": "red"}],
    "settled": [
        {"key": "price_2", "dimension": "price", "words": "under 100", "level": "L4", "rule": "any.within"}
        | {"meaning": "the number is inside what is demanded"}
    ],
}

# Who reads queries: for each query as many readings as there are samples. A query that comes again is read the same.
Decode = Callable[[Sequence[Query]], Sequence[Sequence[Understanding]]]


class Teacher:
    """Writes chains for labelled pairs.

    `decode` reads the queries, each as often as there are `samples`; without it every sample has the demands that the
    pair comes with. `prompts` is a folder with templates of the user's own, by the names of the shipped ones. Pictures
    are shown where somebody `reads` them, at most `most_pictures` of an item. Where `hints` is false there is no
    attempt with the label told. `usage` counts tokens, `outcomes` what became of samples.

    Raises:
        ConfigError: a prompt or a setting is wrong.
    """

    def __init__(
        self,
        chat: Chat,
        knowledge: Knowledge,
        rulebook: Rulebook,
        decode: Decode | None = None,
        *,
        samples: int = 8,
        temperature: float = 0.7,
        seed: int = 0,
        hints: bool = True,
        pictures: Pictures | None = None,
        most_pictures: int = 1,
        budget: Budget = BUDGETS["full"],
        prompts: Path | None = None,
        max_tokens: int | None = None,
    ) -> None:
        _check(samples, temperature, max_tokens, most_pictures)
        self.chat, self.rulebook, self.follower, self.decode = chat, rulebook, Follower(knowledge), decode
        self.samples, self.temperature, self.seed, self.hints = samples, temperature, seed, hints
        self.pictures, self.most_pictures, self.max_tokens = pictures, most_pictures, max_tokens
        self.dossiers = PathDossiers(knowledge, rulebook, budget)
        self._evidence, self._ruling = (
            PairPrompt(_template(prompts, name), self.dossiers, _OWN) for name in (EVIDENCE, RULING)
        )
        settings = [_VERSION, samples, temperature, seed, hints, max_tokens, most_pictures if pictures else 0]
        parts = [chat.sha, self._evidence.sha, self._ruling.sha, knowledge.sha, rulebook.sha]
        self.sha = sha_of(["teacher", settings, parts, self.follower.schemas.sha, getattr(decode, "sha", "")])
        self.usage, self.outcomes, self._counting = NO_USAGE, Counter[Outcome](), threading.Lock()

    def teach(self, pairs: Sequence[Pair], labels: Sequence[Grade]) -> list[Taught]:
        """One result a pair, in the same order. May be called from several threads.

        Raises:
            ModelError: the model is dead and did not come back.
        """
        places = by_query(pairs)
        ordered = [pairs[place] for place in places]
        readings = self._decoded([understanding for understanding, _ in ordered])
        shown = look(ordered, self.pictures, self.most_pictures)
        views: dict[int, tuple[ItemView, ItemWords]] = {}
        done: dict[int, Taught] = {}
        cases: dict[int, Case] = {}
        for place, read, seen in zip(places, readings, shown, strict=True):
            pair = pairs[place]
            if isinstance(seen, str):
                done[place] = Taught(None, 0, error=seen)
                continue
            if id(pair[1]) not in views:
                views[id(pair[1])] = self.follower.view(pair[1]), ItemWords(pair[1])
            cases[place] = Case(pair, labels[place], seen, *views[id(pair[1])], tuple(read))
        self._sample(list(cases.values()))
        lost = [case for case in cases.values() if not case.kept]
        if self.hints:
            self._hint(lost)
        failed = set(map(id, lost))
        done |= {place: self._taught(case, id(case) in failed) for place, case in cases.items()}
        return [done[place] for place in range(len(pairs))]

    # -- the steps -----------------------------------------------------------------------------------------------------

    def _decoded(self, read: Sequence[Understanding]) -> list[Sequence[Understanding]]:
        """The readings of each query, one a sample."""
        if self.decode is None:
            return [(one,) * self.samples for one in read]
        queries = list(dict.fromkeys(one.query for one in read))
        found = dict(zip(queries, self.decode(queries), strict=True))
        return [found[one.query] for one in read]

    def _sample(self, cases: Sequence[Case]) -> None:
        """Take all samples of these; those of one reading of a query side by side, as they share most of a prompt."""
        tries: list[Try] = []
        for _, some in groupby(cases, key=lambda case: case.pair[0].query.text):
            of_query = list(some)
            for n in range(self.samples):
                made = (self._try(case, case.readings[n], self.seed + n, "") for case in of_query)
                tries += [one for one in made if one]
        self._gather(tries)
        self._rule([one for one in tries if one.found])

    def _hint(self, cases: Sequence[Case]) -> None:
        """One sample more of these, with the label told where evidence is looked for and judged."""
        tries = []
        for case in cases:
            reading = next((one for one in case.readings if one.status == "ok"), None)
            if reading and (one := self._try(case, reading, self.seed + self.samples, str(case.label))):
                tries.append(one)
        self._gather(tries)
        self._rule([one for one in tries if one.found])

    def _try(self, case: Case, reading: Understanding, seed: int, hint: str) -> Try | None:
        try:
            if why := refused(reading, None if case.shown else case.pair[1]):
                raise ReplyError(why)
            if id(reading) not in case.questions:
                case.questions[id(reading)] = self._question(case, reading)
            return Try(case, case.questions[id(reading)], seed, hint)
        except Exception as error:  # one reading must not end a batch
            case.fail("unreadable", str(error))
            return None

    def _question(self, case: Case, reading: Understanding) -> Question:
        steps = self.follower.construct(reading)
        path = self.follower.follow(reading.query.query_id, steps, case.view)
        chosen = self.dossiers.asked(reading, steps)
        at = {id(step): i for i, step in enumerate(steps)}
        tables = tuple(path.legs[at[id(step)]] for step in chosen)
        kept = set(map(id, tables))
        asked = Asked(path.query_id, chosen, tables, case.pair[1], self.follower, len(case.shown))
        rest = tuple(leg for leg in path.legs if id(leg) not in kept)
        return Question(reading, asked, rest, citable(self.dossiers.of_query(reading)["legs"]))

    def _gather(self, tries: Sequence[Try]) -> None:
        told = self._evidence.tell(
            [(one.question.understanding, one.case.pair[1]) for one in tries],
            [None] * len(tries),
            [one.case.shown for one in tries],
            [{"hint": one.hint} for one in tries],
        )
        requests = [
            self._request(one, text.system, text.parts, evidence_schema(one.question.asked.kinds), _FOUND_TOKENS)
            for one, text in zip(tries, told, strict=True)
        ]
        for one, reply in zip(tries, self._asked(requests), strict=True):
            try:
                one.found = read_evidence(reply, one.question.asked, one.case.words)
            except Exception as error:  # whatever a reply brings about, it is one sample's fault
                one.case.fail("unreadable", fault_of("the evidence", reply, error))

    def _rule(self, tries: Sequence[Try]) -> None:
        told = self._ruling.tell(
            [(one.question.understanding, one.case.pair[1]) for one in tries],
            [None] * len(tries),
            [()] * len(tries),  # what they show was written down
            [self._shown(one) for one in tries],
        )
        requests = [
            self._request(one, text.system, text.parts, ruling_schema(one.gathered.open), _RULED_TOKENS)
            for one, text in zip(tries, told, strict=True)
        ]
        for one, reply in zip(tries, self._asked(requests), strict=True):
            self._keep(one, reply)

    def _keep(self, one: Try, reply: ChatReply) -> None:
        """Keep a sample, or count why not."""
        case = one.case
        try:
            made = read_ruling(reply, one.gathered, one.question, self.rulebook, case.words)
            chain = write_chain(chain_of(case.judgment(made.decision)))
            read_chain(chain)
        except Exception as error:  # whatever a reply brings about, it is one sample's fault
            case.fail("unreadable", fault_of("the ruling", reply, error))
            return
        case.right += made.said == case.label and not one.hint
        if made.said != case.label:
            case.fail("wrong", f"the grade {made.said} where the label is {case.label}")
        elif made.disagrees:
            case.fail("ungrounded" if made.unshown else "inconsistent", made.disagrees)
        else:
            case.outcomes["kept"] += 1
            case.kept.append((len(chain), made.decision))

    # -- what a step is told, and asked --------------------------------------------------------------------------------

    def _shown(self, one: Try) -> dict[str, Any]:
        """The evidence of a sample as its third step is told it."""
        gathered = one.gathered
        open_ = [key for key, _ in gathered.open]
        settled = [(key, leg) for key, leg in gathered.legs.items() if key not in open_]
        return {
            "hint": one.hint,
            "open": open_,
            "evidence": [{"key": key, **found_in(gathered.legs[key])} for key in open_],
            "settled": [self._settled(key, leg) for key, leg in (*settled, *(("", leg) for leg in one.question.rest))],
        }

    def _settled(self, key: str, leg: Leg) -> dict[str, str]:
        rule_id, rule = self.rulebook.rule_for(leg)
        soft = leg.demand.strictness == "soft"
        level = max(rule.level, self.rulebook.settings.soft_floor) if soft else rule.level
        return {
            "key": key,
            "dimension": leg.demand.dimension,
            "words": clean(leg.demand.value, self.dossiers.budget.value),
            "meaning": RELATIONS[leg.relation],
            "level": str(Grade(level)),
            "rule": rule_id,
        }

    def _request(
        self, one: Try, system: str, parts: tuple[Any, ...], schema: Mapping[str, Any], tokens: int
    ) -> ChatRequest:
        return ChatRequest(
            parts,
            system=system,
            json_schema=schema,
            max_tokens=self.max_tokens or _OTHER_TOKENS + tokens * len(one.question.asked.steps),
            temperature=self.temperature,
            seed=one.seed,
        )

    def _asked(self, requests: Sequence[ChatRequest]) -> Sequence[ChatReply]:
        """One call of the model for all these."""
        if not requests:
            return []
        replies = self.chat.generate(requests)
        if len(replies) != len(requests):
            fault = f"{self.chat.name} gave {len(replies)} replies for {len(requests)} requests"
            replies = [ChatReply(finish="error", error=fault) for _ in requests]
        with self._counting:
            self.usage = sum((reply.usage for reply in replies), self.usage)
        return replies

    def _taught(self, case: Case, hinted: bool) -> Taught:
        with self._counting:
            self.outcomes.update(case.outcomes)
        if not case.kept:
            return Taught(None, self.samples, case.right, error=case.reason(), outcomes=case.outcomes)
        _, decision = min(case.kept, key=lambda one: one[0])
        judgment = case.judgment(decision, self.sha)
        return Taught(judgment, self.samples, case.right, hinted, outcomes=case.outcomes)


def _template(folder: Path | None, name: str) -> Path:
    own = folder / name if folder is not None else PROMPTS / name
    return own if own.is_file() else PROMPTS / name


def _check(samples: int, temperature: float, max_tokens: int | None, most_pictures: int) -> None:
    whole = (("samples", samples, 1, _MOST_SAMPLES), ("most_pictures", most_pictures, 1, 64))
    for name, value, least, most in (*whole, ("max_tokens", 1 if max_tokens is None else max_tokens, 1, 1_000_000)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name}: a whole number from {least} to {most}, not {value!r}")
    if not (isinstance(temperature, int | float) and 0 <= temperature <= 2):
        raise ConfigError(f"temperature: a number from 0 to 2, not {temperature!r}")
    if samples > 1 and temperature == 0:
        raise ConfigError("samples: at a temperature of 0 all of them are the same reply")
