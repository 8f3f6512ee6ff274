"""Mode `rules`: construct → follow → decide on the knowledge tables and a rulebook, without a model.

Every other mode starts from the paths that are walked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.types import ItemFeatures, Judgment, MatchPath, Provenance, Query, Understanding
from relevance.construct import Step
from relevance.evidence import ItemView
from relevance.follow import Follower
from relevance.protocol import Pair, failed_judgment, refused, sha_with_rulebook
from relevance.rules import Rulebook, decide, load_rulebook

__all__ = ["RulesJudge"]

_MODE = "rules"


class RulesJudge:
    """Judges pairs by the knowledge tables and a rulebook (see `relevance.protocol.PairJudge`)."""

    mode = _MODE

    def __init__(self, knowledge: Knowledge, rulebook: Rulebook | None = None, name: str = _MODE) -> None:
        self.name = name
        self.knowledge = knowledge
        self.rulebook = rulebook or load_rulebook()
        self.follower = Follower(knowledge)
        self.sha = sha_with_rulebook(sha_of([knowledge.sha, self.follower.schemas.sha]), self.rulebook.sha)
        self.versions: Mapping[str, str] = {
            "knowledge": knowledge.sha,
            "schemas": self.follower.schemas.sha,
            "rulebook": self.rulebook.sha,
        }

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in order. Whatever goes wrong inside a pair is that pair's error, never a grade.

        Steps are made once a query and texts read once an item, as long as the same objects are passed.
        """
        steps: dict[int, tuple[Step, ...]] = {}
        views: dict[int, ItemView] = {}
        return [self._one(understanding, features, steps, views) for understanding, features in pairs]

    def close(self) -> None:
        """Nothing is held."""

    def _one(
        self,
        understanding: Understanding,
        features: ItemFeatures,
        steps: dict[int, tuple[Step, ...]],
        views: dict[int, ItemView],
    ) -> Judgment:
        query, item_id = understanding.query, features.item.item_id
        provenance = Provenance(maker=f"judge:{_MODE}", input_sha=features.input_sha, settings_sha=self.sha)
        if reason := refused(understanding, features):
            return failed_judgment(query, item_id, reason, provenance)
        try:
            if id(understanding) not in steps:
                steps[id(understanding)] = self.follower.construct(understanding)
            if id(features) not in views:
                views[id(features)] = self.follower.view(features)
            path = self.follower.follow(query.query_id, steps[id(understanding)], views[id(features)])
            return self._graded(query, path, provenance)
        except Exception as error:  # one pair must not end a batch
            return failed_judgment(query, item_id, f"{type(error).__name__}: {error}", provenance)

    def _graded(self, query: Query, path: MatchPath, provenance: Provenance) -> Judgment:
        decision = decide(path, self.rulebook)
        return Judgment(
            query_id=query.query_id,
            item_id=path.item_id,
            grade=decision.grade,
            query=query.text,
            probabilities=decision.probabilities,
            score=decision.score,
            path=decision.path,
            failed_dimensions=decision.failed_dimensions,
            rule_ids=decision.rule_ids,
            mode=_MODE,
            provenance=provenance,
        )
