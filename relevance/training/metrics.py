"""How well a model writes chains: what is measured while it is trained, and of what was shipped.

Each row is answered once greedily and `samples` times at a temperature. A reply that is no chain is wrong: here, unlike
where judges are measured, nothing is left out.

    pass_1, pass_8  mean over rows of the chance that one of k sampled answers has the right level (relevance.scoring)
    acc_4, acc_2    share of rows whose greedy answer has the right level, or is on the right side of L2 | L3
    macro_f1        mean F1 over the four levels of the greedy answers; an unreadable one is said of no level
    format          share of sampled answers that are chains
    follows         of those, the share whose grade is what the rulebook makes of their own legs, mean over rows
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

__all__ = ["Answers", "Measured", "ask", "by_row", "differences", "figures", "follows", "measure", "score"]

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
    metrics = figures(rows, by_row(rows, answers), resamples=resamples, seed=seed)
    return Measured(len(rows), len({row.query for row in rows}), len(answers[0].sampled), metrics)


def figures(
    rows: Sequence[ChainRow], columns: Mapping[str, Sequence[float]], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Every metric of what `by_row` gave, with its interval."""
    draws = Draws([row.query for row in rows], resamples, seed)
    return {name: estimate(drawn) for name, drawn in _drawn(rows, columns, draws).items()}


def by_row(rows: Sequence[ChainRow], answers: Sequence[Answers]) -> dict[str, list[float]]:
    """What is measured of each row: every metric's own value there, and the greedy grade as `said` (0: no chain)."""
    truth = np.array([row.label for row in rows])
    greedy = np.array([0 if one.greedy is None else int(one.greedy.grade) for one in answers])
    book = load_rulebook()
    columns: dict[str, list[float]] = {
        f"pass_{k}": [_passes(row.label, one, k) for row, one in zip(rows, answers, strict=True)]
        for k in _PASSES
        if k <= len(answers[0].sampled)
    }
    columns["acc_4"] = (greedy == truth).astype(float).tolist()
    columns["acc_2"] = (((greedy >= 3) == (truth >= 3)) * (greedy > 0).astype(float)).tolist()
    columns["format"] = [_share([c is not None for c in one.sampled]) for one in answers]
    columns["follows"] = [_share([follows(c, book) for c in one.sampled if c is not None]) for one in answers]
    columns["tokens"] = [float(np.mean(one.tokens or (0,))) for one in answers]
    columns["said"] = greedy.astype(float).tolist()
    return columns


def differences(
    rows: Sequence[ChainRow],
    one: Mapping[str, Sequence[float]],
    other: Mapping[str, Sequence[float]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """One model minus another on the same rows (each as `by_row` gives it), with intervals from the same draws."""
    draws = Draws([row.query for row in rows], resamples, seed)
    a, b = _drawn(rows, one, draws), _drawn(rows, other, draws)
    return {name: estimate(a[name] - b[name]) for name in a if name in b}


def _drawn(
    rows: Sequence[ChainRow], columns: Mapping[str, Sequence[float]], draws: Draws
) -> dict[str, NDArray[np.float64]]:
    """Every metric on the sample (place 0) and on each resample."""
    found = {name: _mean(np.asarray(values), draws) for name, values in columns.items() if name != "said"}
    truth = np.array([row.label for row in rows])
    found["macro_f1"] = _macro_f1(truth, np.asarray(columns["said"], dtype=np.int64), draws)
    return found


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
