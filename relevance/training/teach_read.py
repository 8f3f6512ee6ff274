"""A teacher's replies as evidence and as a path: held to the schema, to the item's words, to the rulebook.

What it wrote in two steps is put together and read like any model's path (`relevance.read_path`), with the same
distrust. Before it rules it is told what its words are worth: a quote that does not stand in the item is gone, and a
leg that is arithmetic, or the tables' whatever a model says, is `settled`: it is ruled by us and no question any more.

A ruling `agrees` with the rulebook where each level it names is the one of the leg's rule, or of the rule it cites for
that relation, where what it claims is shown, and where its grade is `decide`'s on that path. This module knows no
engine and no prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lore_mm.models.chat import ChatReply
from lore_mm.models.json_reply import fault, spelled
from lore_mm.models.reply import ReplyError, parse_reply
from lore_mm.prompts import clean
from lore_mm.types import Grade, Leg, MatchPath, Understanding
from relevance.construct import Step
from relevance.path_schema import GRADE, LENGTHS, LegKind, keys_of, offered
from relevance.quotes import ItemWords
from relevance.read_path import Asked, ToldPath, read_path
from relevance.rules import Decision, Rulebook, decide
from relevance.training.teach_schema import Open, evidence_schema, ruling_schema

__all__ = ["Gathered", "Question", "Ruling", "citable", "read_evidence", "read_ruling"]

_NOTHING = {"source": "none", "quote": "", "found": ""}
_UNSHOWN = frozenset(("unstated", "negation_unstated", "unstated_model_year", "plain"))  # what silence can prove


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a pair for one reading of its query, the same in every sample of it.

    `rest` are the legs of the rules that nobody is asked for; `rules` see `citable`.
    """

    understanding: Understanding
    asked: Asked
    rest: tuple[Leg, ...]
    rules: Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The evidence of one sample: leg by leg what it wrote, as far as it stands.

    `legs` are how the evidence reads (their relations are those of the settled ones, else a mere first guess), and
    `open` are the legs that are left to rule on. `claims` counts quotes, `grounded` those that stand in the item.
    """

    said: Mapping[str, Mapping[str, str]]  # key → source, quote, found
    legs: Mapping[str, Leg]
    open: Open
    claims: int
    grounded: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a sample came to: the decision on its path, the grade it named itself, and why the two do not agree."""

    decision: Decision
    said: Grade
    disagrees: str = ""  # empty where they do
    unshown: bool = False  # it disagrees in what it claims and does not show


def read_evidence(reply: ChatReply, asked: Asked, words: ItemWords) -> Gathered:
    """The evidence that a reply tells of a pair.

    Raises:
        ReplyError: the reply is an error, no JSON, or breaks the schema; the text says which, and where.
    """
    kinds, keys = asked.kinds, keys_of(asked.kinds)
    told = _parsed(reply, evidence_schema(kinds))
    said = {key: {name: clean(text, LENGTHS.get(name, 16)) for name, text in told[key].items()} for key in keys}
    claims = [key for key in keys if said[key]["quote"]]
    lost = [
        key
        for key, step in zip(keys, asked.steps, strict=True)
        if not words.locate(said[key]["quote"], said[key]["source"], step.demand.dimension)[0]
        and not _is_seen(said[key], step, asked)
    ]
    said |= dict.fromkeys(lost, _NOTHING)
    guess = {key: {**said[key], "relation": offered(kind)[0]} for key, kind in zip(keys, kinds, strict=True)}
    read = read_path(ChatReply(spelled({**guess, GRADE: "L1"})), asked, words)
    legs = dict(zip(keys, read.path.legs, strict=True))
    open_ = tuple((k, kind) for k, kind in zip(keys, kinds, strict=True) if not _is_settled(legs[k], kind))
    return Gathered(said, legs, open_, len(claims), len(set(claims) - set(lost)))


def citable(legs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Key of a leg → relation → the ids of the rules that were told for it; nothing where there was no room."""
    listed = {leg["key"]: leg["relations"] for leg in legs}
    found: dict[str, dict[str, list[str]]] = {}
    for leg in legs:
        of_relation = found.setdefault(leg["key"], {})
        for one in listed[leg["as_for"] or leg["key"]]:
            if one["says"]:
                of_relation.setdefault(one["name"], []).append(one["id"])
    return found


def read_ruling(
    reply: ChatReply, gathered: Gathered, question: Question, rulebook: Rulebook, words: ItemWords
) -> Ruling:
    """What the reply makes of the evidence.

    Raises:
        ReplyError: the reply is an error, no JSON, or breaks the schema; the text says which, and where.
    """
    asked, ruled = question.asked, _parsed(reply, ruling_schema(gathered.open))
    whole = {
        key: {
            **gathered.said[key],
            "relation": ruled[key]["relation"] if key in ruled else offered(kind)[0],
        }
        for key, kind in zip(keys_of(asked.kinds), asked.kinds, strict=True)
    }
    told = read_path(ChatReply(spelled({**whole, GRADE: ruled[GRADE]})), asked, words)
    legs = (*told.path.legs, *question.rest)
    decision = decide(MatchPath(told.path.query_id, told.path.item_id, legs), rulebook)
    if claim := _unshown(told, asked):
        return Ruling(decision, told.said, claim, unshown=True)
    return Ruling(decision, told.said, _disagreement(ruled, decision, told, gathered, rulebook, question.rules))


def _parsed(reply: ChatReply, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if reply.error:
        raise ReplyError(reply.error)
    said = parse_reply(reply).said
    if wrong := fault(said, schema):
        raise ReplyError(f"the reply breaks the schema: {wrong}")
    return said


def _is_seen(said: Mapping[str, str], step: Step, asked: Asked) -> bool:
    """Whether it is something seen in a picture that was shown: there are no words to hold that to."""
    return bool(said["found"]) and said["source"] == "image" and asked.pictures > 0 and "image" in step.sources


def _is_settled(leg: Leg, kind: LegKind) -> bool:
    """Whether a model has no say in the relation of a leg: a number, or what only the tables know."""
    return kind.numbered or leg.relation not in offered(kind)


def _unshown(told: ToldPath, asked: Asked) -> str:
    """The first claim that no evidence stands behind, but for the tables' own."""
    for leg, tables in zip(told.path.legs, asked.tables, strict=True):
        if not leg.evidence and leg.relation not in _UNSHOWN and leg.relation != tables.relation:
            return f"it calls {leg.demand.value!r} {leg.relation} and shows nothing for it"
    return ""


def _disagreement(
    ruled: Mapping[str, Any],
    decision: Decision,
    told: ToldPath,
    gathered: Gathered,
    rulebook: Rulebook,
    rules: Mapping[str, Mapping[str, Sequence[str]]],
) -> str:
    """Where a ruling is not the rulebook's; empty where it is throughout."""
    of_key = dict(zip(gathered.said, decision.path.legs, strict=False))  # behind them those that nobody was asked for
    for key, _ in gathered.open:
        leg, said = of_key[key], ruled[key]
        own_id, own = rulebook.rule_for(leg)
        legal, cited = rules.get(key, {}).get(said["relation"], ()), said["rule"]
        if legal and cited not in (*legal, own_id):
            return f"{key}: {cited or 'nothing'} is no rule for {said['relation']}; legal: {', '.join(legal)}"
        levels = {str(leg.level), str(own.level)}
        if cited in legal and leg.relation == said["relation"]:
            levels.add(str(rulebook.rules[cited].level))
        if said["level"] not in levels:
            return f"{key}: {leg.relation} is {leg.level} by {own_id}, not {said['level']}"
    if told.said != decision.grade:
        return f"its grade is {told.said}, and that of its path is {decision.grade}"
    return ""
