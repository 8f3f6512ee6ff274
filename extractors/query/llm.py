"""The engine `llm:CHAT`: any model that answers reads queries, held to one JSON Schema.

What the tables know about the words of a query is put before it (`extractors.query.retrieve`); the query itself stands
last, cleaned and as a JSON string, and nothing else of a request depends on what it says. All queries of a call go to
the model at once. A reply that cannot be read is asked for once more, a little warmer and with another seed, since a
greedy model that ran away would run the same way again; what fails twice is a failed row with the reason.

This module knows no backend: see `open_llm`. How a reply becomes demands is for `extractors.query.llm_read`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extractors.query.engine import LONGEST, failed, readable
from extractors.query.knowledge import KnowledgeEngine
from extractors.query.links import linker_for
from extractors.query.llm_read import read_reply
from extractors.query.llm_schema import reply_schema
from extractors.query.retrieve import MOST, retrieve, top_of_the_tree
from extractors.vlm_read import ReplyError
from lore_mm.entries import Entry
from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from lore_mm.models.chat import NO_USAGE
from lore_mm.prompts import Prompt, clean, load_prompt
from lore_mm.schema import load_dimensions, load_hard_types
from lore_mm.types import Query, Understanding

__all__ = ["MAX_TOKENS", "PROMPT", "LlmEngine", "open_llm"]

_VERSION = "1"
PROMPT = Path(__file__).parents[1] / "prompts" / "understand.jinja"
MAX_TOKENS = 1024  # of a reply; a query of five demands takes some 200
_WARMER = 0.7  # temperature of the second attempt
_SHOWN = 80  # characters of a failed reply that are told
_HINTED = 12  # demands of the tables' own reading that are shown
_EXAMPLE = {
    "dimensions": [{"name": "color", "text": "Which colours?"}],
    "hard_types": [{"name": "other", "text": "None of these."}],
    "entries": ["brands/Nike: a brand"],
    "top": ["clothing"],
    "hint": [{"dimension": "color", "words": "red", "canonical": "red", "excluded": False}],
    "query": "red nike shoes",
}


@dataclass(frozen=True, slots=True)
class _Ask:
    """One query on its way to the model, with the ids of the entries it goes with."""

    place: int
    query: Query
    request: ChatRequest
    shown: frozenset[str]


class LlmEngine:
    """Reads queries with a chat model.

    `prompt`: a template of the user's own instead of the shipped one (blocks `system` and `user`). At most `most`
    entries of the tables are shown with a query; with `hint` also how the tables alone read it. `temperature` is that
    of the first attempt. `usage` counts tokens.

    Raises:
        ConfigError: the prompt or a setting is wrong.
    """

    def __init__(
        self,
        chat: Chat,
        knowledge: Knowledge,
        *,
        prompt: Path = PROMPT,
        most: int = MOST,
        hint: bool = False,
        max_tokens: int = MAX_TOKENS,
        seed: int = 0,
        temperature: float = 0.0,
    ) -> None:
        for name, value, least in (("most", most, 0), ("max_tokens", max_tokens, 1)):
            if value < least:
                raise ConfigError(f"{name}: at least {least}, not {value}")
        self.chat, self.knowledge = chat, knowledge
        self.prompt: Prompt = load_prompt(prompt, _EXAMPLE, needs=("query",), blocks=("system", "user"))
        self.most, self.max_tokens, self.seed, self.temperature = most, max_tokens, seed, temperature
        self._tables = KnowledgeEngine(knowledge) if hint else None
        self.name = f"llm:{chat.name}"
        settings = [_VERSION, most, max_tokens, seed, self._tables.sha if self._tables else None]
        settings += [temperature] if temperature else []
        shas = [chat.sha, self.prompt.sha, sha_of(reply_schema()), knowledge.sha, linker_for(knowledge).sha]
        self.sha = sha_of(["llm", settings, shas])
        self.usage, self._counting = NO_USAGE, threading.Lock()
        self._shared = {
            "dimensions": [{"name": name, "text": one.ask} for name, one in load_dimensions().items()],
            "hard_types": [{"name": name, "text": text} for name, text in load_hard_types().items()],
        }

    def understand(self, queries: Sequence[Query]) -> list[Understanding]:
        """As many results, in the same order. What cannot be read, twice, is a failed row with the reason.

        Raises:
            ModelError: the engine is dead and did not come back.
        """
        return [one for (one,) in self.samples(queries, 1)]

    def samples(self, queries: Sequence[Query], count: int) -> list[list[Understanding]]:
        """As `understand`, each query read so many times, with other seeds; all are asked for at once.

        Raises:
            ModelError: the engine is dead and did not come back.
        """
        found: dict[int, Understanding] = {}
        asks: list[_Ask] = []
        for i, query in enumerate(queries):
            if error := readable(query)[1]:
                found |= {i * count + n: failed(query, error, self.name) for n in range(count)}
                continue
            ask = self._ask(i * count, query)  # odd seeds are for second attempts
            asks += [
                replace(ask, place=ask.place + n, request=replace(ask.request, seed=self.seed + 2 * n))
                for n in range(count)
            ]
        again = self._round(asks, found)
        self._round([replace(ask, request=self._warmer(ask.request)) for ask in again], found)
        return [[found[i * count + n] for n in range(count)] for i in range(len(queries))]

    def close(self) -> None:
        """Free the model; calling it twice is harmless."""
        self.chat.close()

    def _ask(self, place: int, query: Query) -> _Ask:
        entries: tuple[Entry, ...] = retrieve(query.text, self.knowledge, self.most)
        texts = self.prompt.render(
            {
                **self._shared,
                "entries": [entry.line for entry in entries],
                "top": top_of_the_tree(query.text, self.knowledge) if self.most else (),
                "hint": self._hint(query),
                "query": clean(query.text, LONGEST),
            }
        )
        request = ChatRequest(
            (texts.get("user", ""),),
            system=texts.get("system", ""),
            json_schema=reply_schema(),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            logprobs=True,
        )
        return _Ask(place, query, request, frozenset(entry.id for entry in entries))

    def _hint(self, query: Query) -> list[dict[str, Any]]:
        """How the tables alone read it; each value is the tables' own word, or the query's, cleaned."""
        if self._tables is None:
            return []
        (read,) = self._tables.understand([query])
        return [
            {
                "dimension": d.dimension,
                "words": clean(d.value),
                "canonical": d.canonical or "",
                "excluded": d.polarity < 0,
            }
            for d in read.demands[:_HINTED]
        ]

    def _warmer(self, request: ChatRequest) -> ChatRequest:
        return replace(request, temperature=max(_WARMER, self.temperature), seed=(request.seed or 0) + 1)

    def _round(self, asks: Sequence[_Ask], found: dict[int, Understanding]) -> list[_Ask]:
        """One call of the model for all these; what is worth asking again."""
        if not asks:
            return []
        replies = self.chat.generate([ask.request for ask in asks])
        if len(replies) != len(asks):
            fault = f"{self.chat.name} gave {len(replies)} replies for {len(asks)} requests"
            replies = [ChatReply(finish="error", error=fault) for _ in asks]
        with self._counting:  # several threads may ask at once
            self.usage = sum((reply.usage for reply in replies), self.usage)
        again: list[_Ask] = []
        for ask, reply in zip(asks, replies, strict=True):
            found[ask.place] = self._read(ask, reply)
            if found[ask.place].status != "ok" and reply.text:  # it spoke; a request that was refused will be again
                again.append(ask)
        return again

    def _read(self, ask: _Ask, reply: ChatReply) -> Understanding:
        try:
            return read_reply(ask.query, reply, self.knowledge, ask.shown, self.name)
        except ReplyError as error:
            reason = str(error)
        except Exception as error:  # whatever a reply brings about, it is one row's fault
            reason = f"{type(error).__name__}: {error}"
        began = clean(reply.text[: 4 * _SHOWN], _SHOWN)
        return failed(ask.query, f"{reason}; the reply began {began!r}" if began else reason, self.name)


def open_llm(
    address: str,
    knowledge: Knowledge,
    *,
    hint: bool = False,
    options: Mapping[str, Any] | None = None,
    opener: Callable[..., Chat] = open_chat,
    **settings: Any,
) -> LlmEngine:
    """The engine over the model at an address; `options` are the backend's, `settings` those of `LlmEngine`.

    Raises:
        ModelError, MissingExtraError: the model cannot be opened.
        ConfigError: the prompt or a setting is wrong.
    """
    chat = opener(address, **(options or {}))
    try:
        return LlmEngine(chat, knowledge, hint=hint, **settings)
    except Exception:
        chat.close()
        raise
