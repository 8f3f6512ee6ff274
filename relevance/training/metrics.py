"""How well a model writes chains: what is measured while it is trained, and of what was shipped.

Each row is answered once greedily and `samples` times at a temperature. A reply that is no chain is wrong: here, unlike
where judges are measured, nothing is left out.

    pass_1, pass_8  mean over rows of the chance that one of k sampled answers has the right level (relevance.scoring)
    acc_4, acc_2    share of rows whose greedy answer has the right level, or is on the right side of L2 | L3
    macro_f1        mean F1 over the four levels of the greedy answers; an unreadable one is said of no level
    format          share of sampled answers that are chains
    follows         share of those whose grade is what the rulebook makes of their own legs
    tokens          mean length of a sampled answer, the end of the turn included

Intervals are bootstraps over queries, as everywhere. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lore_mm.bootstrap import Draws, Estimate, estimate, ratio
from lore_mm.errors import InputError, ModelError
from lore_mm.models.chat import Chat, ChatReply, ChatRequest
from lore_mm.types import MatchPath
from relevance.chain import Chain, read_chain
from relevance.rules import Rulebook, decide, load_rulebook
from relevance.scoring import LEVELS, pass_at_k
from relevance.training.rows import ChainRow

__all__ = ["Answers", "Measured", "ask", "follows", "measure"]

_PASSES = (1, 8)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered to one row: the greedy chain and the sampled ones, None where a reply is no chain."""

    greedy: Chain | None
    sampled: tuple[Chain | None, ...]
    tokens: tuple[int, ...]  # of each sampled reply


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of a model on some rows, each with its interval over queries."""

    rows: int
    queries: int
    samples: int
    metrics: Mapping[str, Estimate]


def measure(
    chat: Chat,
    rows: Sequence[ChainRow],
    *,
    samples: int = 8,
    temperature: float = 1.0,
    max_tokens: int = 256,
    seed: int = 0,
    resamples: int = 1000,
) -> Measured:
    """Ask a model about rows and score its answers.

    Raises:
        InputError: there are no rows.
        ModelError: the engine is dead, or refused a request.
    """
    return score(rows, ask(chat, rows, samples, temperature, max_tokens, seed), resamples=resamples)


def ask(
    chat: Chat, rows: Sequence[ChainRow], samples: int, temperature: float, max_tokens: int, seed: int = 0
) -> list[Answers]:
    """The answers to rows: all replies are asked for in one call.

    Raises:
        ModelError: the engine is dead, or refused a request.
    """
    requests = []
    for place, row in enumerate(rows):
        requests.append(ChatRequest((row.prompt,), row.system, max_tokens=max_tokens))
        seeds = (seed + place * samples + n for n in range(samples))
        requests += [
            ChatRequest((row.prompt,), row.system, max_tokens=max_tokens, temperature=temperature, seed=one)
            for one in seeds
        ]
    replies = chat.generate(requests)
    for reply in replies:
        if reply.error:
            raise ModelError(f"{chat.name}: a row could not be answered: {reply.error}")
    found = []
    for start in range(0, len(replies), samples + 1):
        greedy, *sampled = replies[start : start + samples + 1]
        lengths = tuple(reply.usage.completion_tokens for reply in sampled)
        found.append(Answers(_chain(greedy), tuple(map(_chain, sampled)), lengths))
    return found


def score(rows: Sequence[ChainRow], answers: Sequence[Answers], *, resamples: int = 1000, seed: int = 0) -> Measured:
    """The figures of answers to rows.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("no rows to measure on")
    truth = np.array([row.label for row in rows])
    greedy = np.array([0 if one.greedy is None else int(one.greedy.grade) for one in answers])
    draws = Draws([row.query for row in rows], resamples, seed)
    book = load_rulebook()
    columns: dict[str, NDArray[np.float64]] = {
        f"pass_{k}": np.array([_passes(row.label, one, k) for row, one in zip(rows, answers, strict=True)])
        for k in _PASSES
        if k <= len(answers[0].sampled)
    }
    columns["acc_4"] = (greedy == truth).astype(float)
    columns["acc_2"] = ((greedy >= 3) == (truth >= 3)) * (greedy > 0).astype(float)
    columns["format"] = np.array([_share([c is not None for c in one.sampled]) for one in answers])
    columns["tokens"] = np.array([float(np.mean(one.tokens or (0,))) for one in answers])
    metrics = {name: estimate(_mean(values, draws)) for name, values in columns.items()}
    metrics["macro_f1"] = estimate(_macro_f1(truth, greedy, draws))
    read = [[c for c in one.sampled if c is not None] for one in answers]
    both = np.array([(float(sum(follows(c, book) for c in some)), float(len(some))) for some in read])
    sums = draws.sums(both)
    metrics["follows"] = estimate(ratio(sums[:, 0], sums[:, 1]))
    return Measured(len(rows), len({row.query for row in rows}), len(answers[0].sampled), metrics)


def follows(chain: Chain, rulebook: Rulebook) -> bool:
    """Whether the grade of a chain, and the dimensions it says fail, are what the rulebook makes of its legs."""
    if not chain.legs or chain.depth != "rules":
        return False
    decision = decide(MatchPath("", "", chain.legs), rulebook)
    return decision.grade == chain.grade and set(decision.failed_dimensions) == set(chain.failed)


def _chain(reply: ChatReply) -> Chain | None:
    try:
        return read_chain(reply.text.strip())
    except InputError:
        return None


def _passes(label: int, answers: Answers, k: int) -> float:
    right = sum(one is not None and one.grade == label for one in answers.sampled)
    return pass_at_k(right, len(answers.sampled), k)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _mean(values: NDArray[np.float64], draws: Draws) -> NDArray[np.float64]:
    sums = draws.sums(np.column_stack([values, np.ones(len(values))]))
    return np.asarray(ratio(sums[:, 0], sums[:, 1]))


def _macro_f1(truth: NDArray[np.int64], said: NDArray[np.int64], draws: Draws) -> NDArray[np.float64]:
    """Over the levels that are there or are said; what was said of no level is a miss of its true one."""
    levels = np.arange(1, LEVELS + 1)
    there, named = truth[:, None] == levels, said[:, None] == levels
    sums = draws.sums(np.hstack([there & named, there, named]).astype(float))
    hits, both = sums[:, :LEVELS], sums[:, LEVELS : 2 * LEVELS] + sums[:, 2 * LEVELS :]
    f1 = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
    return np.asarray(ratio((f1 * (both > 0)).sum(-1), (both > 0).sum(-1).astype(float)))
