"""Run: pytest tests/test_relevance_by_route.py

Who answers for which pair, and that nothing a dear judge does takes an answer away. The judges here are doubles that
fail, hang and die at will; the real ones are opened once, by file.
"""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lore_mm.errors import ConfigError, InputError, ModelError
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Demand, Grade, Item, ItemFeatures, Judgment, Provenance, Query, Understanding
from relevance.by_route import RouteJudge
from relevance.by_rules import RulesJudge
from relevance.judge import open_judge
from relevance.protocol import Pair, failed_judgment
from relevance.routing import Routing, StratumRoute, differ, how_sure, read_routing, write_routing
from relevance.rules import load_rulebook

KNOWLEDGE = load_knowledge()
RULES = RulesJudge(KNOWLEDGE, load_rulebook(None))


class Double:
    """Says one level, as sure as it is told; fails for items whose id begins with "bad"."""

    def __init__(self, mode: str, level: int, sure: float = 0.9) -> None:
        self.name = self.mode = mode
        self.sha = f"sha of {mode}"
        self.versions = {"model": self.sha}
        self.level, self.sure = level, sure
        self.asked: list[str] = []
        self.wait: threading.Event | None = None
        self.fault: Exception | None = None
        self.closed = 0

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        self.asked += [features.item.item_id for _, features in pairs]
        if self.wait is not None:
            assert self.wait.wait(20)
        if self.fault is not None:
            raise self.fault
        return [self._one(*pair) for pair in pairs]

    def _one(self, understanding: Understanding, features: ItemFeatures) -> Judgment:
        maker = Provenance(maker=f"judge:{self.mode}")
        if features.item.item_id.startswith("bad"):
            return failed_judgment(understanding.query, features.item.item_id, "no idea", maker, self.mode)
        rest = (1 - self.sure) / 3
        probabilities = tuple(self.sure if i + 1 == self.level else rest for i in range(4))
        return Judgment(
            understanding.query.query_id,
            features.item.item_id,
            Grade(self.level),
            probabilities=probabilities,
            mode=self.mode,
            provenance=maker,
        )

    def close(self) -> None:
        self.closed += 1


def pair(item_id: str = "i", asked: float | None = None, hard_type: str = "other") -> Pair:
    demand = Demand("category", "sofa", "sofa", role="head")
    query = Query("q", "sofa", asked)
    return Understanding(query, "sofa", (demand,), hard_type=hard_type), ItemFeatures(Item(item_id, "Sofa"))


def stratum(name: str, least: float, sure: float | None) -> StratumRoute:
    return StratumRoute(name=name, least=least, sure=sure, queries=9, pairs=9, served=1, agreement=1, p_value=0.01)


def routing(**more: object) -> Routing:
    known = {"cheap": "student", "cheap_sha": "sha of cheap", "dear": "reason:scripted:0", "dear_sha": "sha of dear"}
    strata = (stratum("head", 100, 0.5), stratum("middle", 10, 0.8), stratum("tail", 0, None))
    return Routing(**{**known, "agree": "grade", "target": 0.95, "confidence": 0.95, "strata": strata, **more})


def route(cheap: Double, dear: Double, **options: float) -> RouteJudge:
    made = routing(hard_types=("question",))
    return RouteJudge(made, cheap, dear, RULES, **options)


def told(judge: RouteJudge, *pairs: Pair) -> list[tuple[int | None, str]]:
    return [(None if j.grade is None else int(j.grade), j.provenance.maker) for j in judge.judge(pairs)]


def test_who_is_sure_enough_answers_alone() -> None:
    cheap, dear = Double("cheap", 3, sure=0.7), Double("dear", 4)
    judge = route(cheap, dear)
    asked = [pair("a", 100), pair("b", 99), pair("c", 5), pair("d", None), pair("e", 500, "question")]
    assert told(judge, *asked) == [
        (3, "judge:cheap"),
        (4, "judge:dear"),  # of the middle, where 0.7 is not enough
        (4, "judge:dear"),
        (4, "judge:dear"),  # no log has it: as in the tail
        (4, "judge:dear"),  # a question, however often it is asked
    ]
    assert dear.asked == ["b", "c", "d", "e"]  # at once
    assert judge.served == {"head/cheap": 1, "middle/dear": 1, "tail/dear": 2, "head/dear": 1}
    assert {j.mode for j in judge.judge(asked)} == {"route"}
    assert {j.provenance.settings_sha for j in judge.judge(asked)} == {judge.sha}


def test_a_pair_that_the_dear_judge_cannot_judge() -> None:
    cheap, dear = Double("cheap", 3), Double("dear", 4)
    dear._one = lambda u, f: failed_judgment(u.query, f.item.item_id, "no idea", mode="dear")
    judge = route(cheap, dear)
    assert told(judge, pair()) == [(3, "judge:cheap, dear failed")]
    assert judge.served == {"tail/failed": 1}


def test_the_rules_answer_where_neither_does() -> None:
    judge = route(Double("cheap", 3), Double("dear", 4))
    known = pair("bad sofa")
    ruled = RULES.judge([known])[0]
    assert ruled.grade is not None
    assert told(judge, known) == [(int(ruled.grade), "judge:rules, dear failed")]


def test_a_pair_that_nobody_can_judge_fails_with_a_reason() -> None:
    judge = route(Double("cheap", 3), Double("dear", 4))
    nothing = replace(pair("bad")[0], demands=())
    (one,) = judge.judge([(nothing, pair("bad")[1])])
    assert (one.grade, one.status, one.error) == (None, "failed", "no idea")


def test_a_dead_judge_is_left_alone_for_a_while() -> None:
    cheap, dear = Double("cheap", 3), Double("dear", 4)
    dear.fault = ModelError("it is dead")
    judge = route(cheap, dear, rest_s=0.3)
    assert told(judge, pair("a")) == [(3, "judge:cheap, dear down")]
    dear.fault = None
    assert told(judge, pair("b")) == [(3, "judge:cheap, dear down")]
    assert dear.asked == ["a"]
    time.sleep(0.35)
    assert told(judge, pair("c")) == [(4, "judge:dear")]


def test_an_answer_that_comes_too_late_is_learnt() -> None:
    cheap, dear = Double("cheap", 3), Double("dear", 4)
    judge = route(cheap, dear, deadline_s=0.05)
    learnt: list[Judgment] = []
    came = threading.Event()
    judge.learnt = lambda late: (learnt.extend(late), came.set())
    dear.wait = threading.Event()
    assert told(judge, pair("a")) == [(3, "judge:cheap, dear late")]
    assert told(judge, pair("b")) == [(3, "judge:cheap, dear busy")]  # not behind it
    dear.wait.set()
    assert came.wait(20)
    assert [(j.item_id, j.grade, j.mode) for j in learnt] == [("a", Grade.L4, "dear")]
    assert told(judge, pair("c")) == [(4, "judge:dear")]
    judge.close()


def test_no_more_than_the_budget() -> None:
    cheap, dear = Double("cheap", 3), Double("dear", 4)
    judge = route(cheap, dear, pairs_per_minute=3)
    assert told(judge, pair("a"), pair("b")) == [(4, "judge:dear")] * 2
    assert told(judge, pair("c"), pair("d")) == [(3, "judge:cheap, dear over budget")] * 2
    assert told(judge, pair("e")) == [(4, "judge:dear")]
    assert dear.asked == ["a", "b", "e"]


def test_many_threads_lose_no_answer() -> None:
    cheap, dear = Double("cheap", 3, sure=0.7), Double("dear", 4)
    judge = route(cheap, dear)
    found: list[list[tuple[int | None, str]]] = []

    def ask(i: int) -> None:
        found.append(told(judge, pair(f"a{i}", 100), pair(f"b{i}", 50)))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [[(3, "judge:cheap"), (4, "judge:dear")]] * 16
    assert sum(judge.served.values()) == 32
    judge.close()
    judge.close()
    assert cheap.closed == dear.closed == 2


def test_other_judges_than_it_was_fitted_with_are_refused() -> None:
    with pytest.raises(ConfigError, match="fitted with dear judge other, and dear is sha of dear"):
        RouteJudge(routing(dear_sha="other"), Double("cheap", 3), Double("dear", 4), RULES)


def test_a_file_says_the_same_when_it_is_read(tmp_path: Path) -> None:
    made = routing(hard_types=("question",), dear_options={"max_tokens": 9}, agree="side")
    write_routing(made, tmp_path / "deeper" / "route.json")
    assert read_routing(tmp_path / "deeper" / "route.json") == made
    assert (
        made.stratum(100).name == "head" and made.stratum(99.5).name == "middle" and made.stratum(None).name == "tail"
    )
    assert routing(strata=made.strata[:2]).stratum(1).name == "middle"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"target": 0.95', '"target": 95', "target: Input should be less than or equal to 1"),
        ('"agree": "grade"', '"agree": "all"', "agree: Input should be 'grade' or 'side'"),
        ('"least": 10.0', '"least": 1000.0', "legal: from the most frequent queries down"),
        ("{", "", "Invalid JSON"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, old: str, new: str, fault: str) -> None:
    path = tmp_path / "route.json"
    write_routing(routing(), path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError) as told_so:
        read_routing(path)
    assert fault in str(told_so.value) and str(path) in str(told_so.value)


def test_how_sure_and_what_differs() -> None:
    one = Double("cheap", 3, sure=0.7).judge([pair()])[0]
    assert how_sure(one) == 0.7
    assert math.isnan(how_sure(replace(one, probabilities=None)))
    assert math.isnan(how_sure(failed_judgment(Query("q", "t"), "i", "why")))
    assert [differ(3, 4, "grade"), differ(3, 4, "side"), differ(2, 3, "side"), differ(1, 2, "side")] == [1, 0, 1, 0]


def test_it_opens_the_judges_of_its_file(tmp_path: Path) -> None:
    cheap, dear = open_judge("rules", KNOWLEDGE), open_judge("reason:scripted:7", KNOWLEDGE)
    path = tmp_path / "route.json"
    known = {"cheap": "rules", "cheap_sha": cheap.sha, "dear": "reason:scripted:7", "dear_sha": dear.sha}
    write_routing(routing(**known, strata=(stratum("head", 100, 0.0), stratum("tail", 0, None))), path)
    judge = open_judge(f"route:{path}", KNOWLEDGE, deadline_s=30)
    first, second = judge.judge([pair("a", 200), pair("b", 1)])
    assert (first.mode, first.provenance.maker, first.grade) == (
        "route",
        "judge:rules",
        cheap.judge([pair("a")])[0].grade,
    )
    assert second.mode == "route" and second.provenance.maker.startswith("judge:")
    assert judge.versions["routing"] == read_routing(path).sha
    judge.close()


@pytest.mark.parametrize(
    ("address", "options", "fault"),
    [
        ("route", {}, "judge route needs the file of `lore calibrate route`: route:FILE"),
        ("route:none.json", {}, "none.json: No such file"),
        ("route:none.json", {"deadline": 1}, "judge route has no option 'deadline'"),
        ("route:none.json", {"deadline_s": 0}, "deadline_s=0; legal: a number above 0"),
        ("route:none.json", {"deadline_s": "soon"}, "legal: a number above 0"),
    ],
)
def test_what_cannot_be_opened_says_why(address: str, options: dict[str, object], fault: str) -> None:
    with pytest.raises((InputError, ConfigError)) as told_so:
        open_judge(address, KNOWLEDGE, **options)
    assert fault in str(told_so.value)
