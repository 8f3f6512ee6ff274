"""Modes `direct` and `direct-vision`: a model names the level first and alone, by the likelihood of each.

One request a pair with the levels as its choices: a prefill, no reasoning, nothing generated. The log-likelihoods
become probabilities, and these the score and the grade (`relevance.levels`). The rules' path is attached as an
explanation; its verdict may be another. Pairs are asked query by query, so that an engine that keeps prefixes reads
what they share once; the answers come back in the order of the pairs.

With vision an item's pictures stand in the request, behind its words. An item without pictures is judged by its words.
One whose pictures cannot be read is a failed judgment with the reason: a grade that a picture might have changed is not
given without it, and taking it again is what --retry-failed is for. Where only some cannot be read is for whoever reads
them to settle. This module knows no engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL.Image import Image, new

from lore_mm.errors import ConfigError, InputError, ModelError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from lore_mm.models.chat import NO_USAGE
from lore_mm.models.table import prompt_of
from lore_mm.types import Demand, Item, ItemFeatures, Judgment, MatchPath, Provenance, Query, Understanding
from relevance.by_rules import RulesJudge
from relevance.dossier import BUDGETS, Budget, Dossiers
from relevance.levels import LEVELS, Probabilities, as_probabilities, broken, grade_of, score_of
from relevance.pair_prompt import PROMPTS, PairPrompt, Told, by_query, look
from relevance.protocol import Pair, Pictures, failed_judgment, refused
from relevance.rules import Rulebook

__all__ = ["DirectJudge", "open_direct"]

_VERSION = "1"
PROMPT = PROMPTS / "direct.jinja"
_WITHOUT, _WITH_PICTURES = 128, 32  # pairs made into requests together
_AHEAD = 3  # such parts under way at once: two in the engine's queue while one is made
_NOTHING = ("N/A", "[MASK]", "")  # what the calibration without labels asks about (Zhao et al. 2021)


class DirectJudge:
    """Judges pairs by the likelihoods of the levels (see `relevance.protocol.PairJudge`).

    `prompt`: a template of the user's own. With `hint` the model is also shown how the rules read the item. At most
    `most_pictures` of an item are shown. `usage` counts tokens.

    Raises:
        ConfigError: the prompt or a setting is wrong.
    """

    def __init__(
        self,
        chat: Chat,
        knowledge: Knowledge,
        rulebook: Rulebook,
        *,
        name: str = "direct",
        vision: bool = False,
        pictures: Pictures | None = None,
        prompt: Path = PROMPT,
        budget: Budget = BUDGETS["full"],
        hint: bool = False,
        most_pictures: int = 1,
    ) -> None:
        if most_pictures < 1:
            raise ConfigError(f"most_pictures: at least 1, not {most_pictures}")
        self.name, self.mode = name, "direct-vision" if vision else "direct"
        self.chat, self.rules = chat, RulesJudge(knowledge, rulebook)
        self.prompt = PairPrompt(prompt, Dossiers(knowledge, rulebook, budget))
        self.vision, self.pictures, self.hint, self.most_pictures = vision, pictures, hint, most_pictures
        settings = [_VERSION, vision, hint, most_pictures if vision else 0]
        self.sha = sha_of(["direct", settings, chat.sha, self.prompt.sha, self.rules.sha])
        self.versions: Mapping[str, str] = {**self.rules.versions, "prompt": self.prompt.sha, "model": chat.sha}
        self.usage, self._counting = NO_USAGE, threading.Lock()

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in the same order. What cannot be judged is a failed one with the reason.

        Raises:
            ModelError: the engine is dead and did not come back.
        """
        ready = [place for place in by_query(pairs) if self._can_be_asked(*pairs[place])]
        size = _WITH_PICTURES if self.pictures else _WITHOUT
        parts = [ready[start : start + size] for start in range(0, len(ready), size)]
        found = self._by_rules(pairs) if self.hint else []
        with ThreadPoolExecutor(_AHEAD, "direct") as pool:  # who makes requests does not keep the engine waiting
            try:
                asked = [
                    pool.submit(self._look_and_ask, [pairs[i] for i in some], [found[i].path for i in some if found])
                    for some in parts
                ]
                found = found or self._by_rules(pairs)
                for some, answers in zip(parts, asked, strict=True):
                    for place, reply in zip(some, answers.result(), strict=True):
                        found[place] = self._judged(found[place], reply)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def content_free(self) -> Probabilities:
        """The mean probabilities of pairs that say nothing (with a grey picture, where pictures are shown).

        Raises:
            ModelError: the model gave no likelihoods for them, or is dead.
        """
        grey = (new("RGB", (224, 224), (128, 128, 128)),) if self.vision else ()
        pairs = [_pair_of(text) for text in _NOTHING]
        replies = self._ask(pairs, [None] * len(pairs), [grey] * len(pairs))
        sums = [0.0] * len(LEVELS)
        for reply in replies:
            try:
                probabilities = _read(reply)
            except ValueError as error:
                raise ModelError(f"{self.name}: nothing to calibrate by: {error}") from None
            sums = [total + one / len(pairs) for total, one in zip(sums, probabilities, strict=True)]
        a, b, c, d = sums
        return a, b, c, d

    def close(self) -> None:
        """Free the model; calling it twice is harmless."""
        self.chat.close()

    def _can_be_asked(self, understanding: Understanding, features: ItemFeatures) -> bool:
        """Of an item without words its pictures may say what it is."""
        seen = self.pictures is not None and bool(features.item.images)
        return refused(understanding, None if seen else features) is None

    def _by_rules(self, pairs: Sequence[Pair]) -> list[Judgment]:
        return [self._as_ours(one) for one in self.rules.judge(pairs)]

    def _look_and_ask(self, pairs: Sequence[Pair], paths: Sequence[MatchPath | None]) -> list[ChatReply]:
        """One reply a pair; one with the error for a pair whose pictures cannot be read."""
        shown = look(pairs, self.pictures, self.most_pictures)
        asked = [i for i, seen in enumerate(shown) if not isinstance(seen, str)]
        replies = iter(
            self._ask(
                [pairs[i] for i in asked],
                [paths[i] if paths else None for i in asked],
                [seen for seen in shown if not isinstance(seen, str)],
            )
        )
        return [ChatReply(finish="error", error=one) if isinstance(one, str) else next(replies) for one in shown]

    def _ask(
        self, pairs: Sequence[Pair], paths: Sequence[MatchPath | None], shown: Sequence[tuple[Image, ...]]
    ) -> list[ChatReply]:
        if not pairs:
            return []
        told = self._told(pairs, paths, shown)
        requests = [
            ChatRequest(one.parts, system=one.system, choices=LEVELS, among_choices=True)
            for one in told
            if not isinstance(one, str)
        ]
        replies = self.chat.generate(requests)
        if len(replies) != len(requests):
            fault = f"{self.chat.name} gave {len(replies)} replies for {len(requests)} requests"
            return [ChatReply(finish="error", error=fault)] * len(pairs)
        with self._counting:
            self.usage = sum((reply.usage for reply in replies), self.usage)
        answers = iter(replies)
        return [ChatReply(finish="error", error=one) if isinstance(one, str) else next(answers) for one in told]

    def _told(
        self, pairs: Sequence[Pair], paths: Sequence[MatchPath | None], shown: Sequence[tuple[Image, ...]]
    ) -> list[Told | str]:
        """Each pair as a request has it, or why it cannot be told: one pair must not end a batch."""
        try:
            return list(self.prompt.tell(pairs, paths, shown))
        except Exception as error:
            if len(pairs) == 1:
                return [f"{type(error).__name__}: {error}"]
        return [self._told([pair], [path], [seen])[0] for pair, path, seen in zip(pairs, paths, shown, strict=True)]

    def _as_ours(self, judgment: Judgment) -> Judgment:
        """The rules' judgment as where ours begins: of our mode and provenance, its path kept."""
        provenance = Provenance(
            maker=f"judge:{self.mode}",
            input_sha=judgment.provenance.input_sha,
            settings_sha=self.sha,
        )
        return replace(judgment, mode=self.mode, provenance=provenance)

    def _judged(self, begun: Judgment, reply: ChatReply) -> Judgment:
        try:
            probabilities = _read(reply)
        except ValueError as error:
            return self._failed(begun, str(error))
        grade = grade_of(probabilities)
        return replace(
            begun,
            grade=grade,
            probabilities=probabilities,
            score=score_of(probabilities),
            failed_dimensions=broken(begun.path, grade),
            status="ok",
            error=None,
        )

    def _failed(self, begun: Judgment, reason: str) -> Judgment:
        query = Query(begun.query_id, begun.query)
        return failed_judgment(query, begun.item_id, reason, begun.provenance, self.mode)


def _read(reply: ChatReply) -> Probabilities:
    """The probabilities of the levels.

    Raises:
        ValueError: the reply has an error, or no usable likelihoods; the text is the reason.
    """
    if reply.error:
        raise ValueError(reply.error)
    if not reply.likelihoods:
        raise ValueError("the model told no likelihoods of the levels")
    return as_probabilities(reply.likelihoods)


def _pair_of(text: str) -> Pair:
    """A query and an item that both say this and nothing else."""
    demand = Demand("category", text, role="head")
    return Understanding(Query("", text), text, (demand,)), ItemFeatures(Item("", text))


def open_direct(
    address: str,
    rest: str,
    knowledge: Knowledge,
    rulebook: Rulebook,
    *,
    vision: bool = False,
    pictures: Pictures | None = None,
    prompt: str | Path | None = None,
    budget: str | None = None,
    hint: bool = False,
    most_pictures: int = 1,
    opener: Callable[..., Chat] = open_chat,
    **options: Any,
) -> DirectJudge:
    """The judge over the chat model at the address `rest`; `options` are the model's.

    `prompt`: a template of the user's own. `budget`, full or compact, is how much of a pair the model is told; that
    which the model table names for the model unless given.

    Raises:
        InputError: an option that there is none of, or of no legal value; or vision, and nobody to read pictures.
        ConfigError: the prompt is wrong.
        ModelError, MissingExtraError: the model cannot be opened.
    """
    if vision and pictures is None:
        raise InputError(f"judge {address} looks at pictures, and there is nobody here to read them")
    length = budget or prompt_of(rest)
    if length not in BUDGETS:
        raise InputError(f"budget {length!r}{nearest(length, BUDGETS)}; legal: {', '.join(BUDGETS)}")
    if not isinstance(hint, bool) or not isinstance(most_pictures, int):
        raise InputError(f"hint is true or false and most_pictures a number, not {hint!r} and {most_pictures!r}")
    try:
        chat = opener(rest, **options)
    except TypeError as error:
        raise InputError(f"judge {address}: {error}") from None
    try:
        return DirectJudge(
            chat,
            knowledge,
            rulebook,
            name=address,
            vision=vision,
            pictures=pictures,
            prompt=PROMPT if prompt is None else Path(prompt),
            budget=BUDGETS[length],
            hint=hint,
            most_pictures=most_pictures,
        )
    except Exception:
        chat.close()
        raise
