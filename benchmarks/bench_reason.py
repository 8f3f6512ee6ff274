"""Mode `reason` on the demo's dev pairs: tokens a pair, and what becomes of a model's paths.

Run: python benchmarks/bench_reason.py                     (tokens only: seconds)
     python benchmarks/bench_reason.py --pairs 20          (the model writes 20 paths: minutes on a CPU)

Tokens are counted by the tokenizer of --model on the prompts of all dev pairs, in three parts: what all pairs share,
what a query's pairs share, and the rest; and on the replies that tell the rules' own paths, as a model that agrees with
them would write them. Of paths the model writes: how many replies could be read, at once and after the second attempt;
how many quotes stand in the item; how often the model's own grade is not that of its path; exact and binary agreement
with the labels, beside that of the rules.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from lore_mm.catalogue import read_items, read_labels, read_queries
from lore_mm.knowledge import load_knowledge
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
from lore_mm.models.hf import HfChat
from lore_mm.models.hf_checkpoint import Checkpoint, load
from lore_mm.models.json_reply import spelled
from lore_mm.models.table import prompt_of
from lore_mm.rows import item_from_row
from lore_mm.schema import load_schemas
from lore_mm.types import Grade, ItemFeatures, Judgment, Query
from relevance.by_reason import PROMPT, PathDossiers, ReasonJudge
from relevance.by_rules import RulesJudge
from relevance.dossier import BUDGETS
from relevance.pair_prompt import PairPrompt
from relevance.path_schema import keys_of, kind_of, offered
from relevance.protocol import Pair
from relevance.rules import load_rulebook

DEMO = Path(__file__).parent.parent / "examples" / "demo"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="lore-vlm-tiny", help="a name of the model table, a folder or a hub repository"
    )
    parser.add_argument(
        "--pairs", type=int, default=0, help="so many pairs are judged by the model, spread over the set"
    )
    parser.add_argument("--samples", type=int, default=1)
    options = parser.parse_args()
    knowledge, rulebook = load_knowledge(), load_rulebook()
    pairs, grades = dev_pairs()
    rules = RulesJudge(knowledge, rulebook).judge(pairs)
    folder = checkpoint_folder(options.model)
    checkpoint = load(folder, "auto", "auto")
    print(f"{len(pairs)} dev pairs of {len({id(u) for u, _ in pairs})} queries; tokens as {options.model} counts them")
    for name, budget in BUDGETS.items():
        tokens(name, PairPrompt(PROMPT, PathDossiers(knowledge, rulebook, budget), LEGS), pairs, rules, checkpoint)
    if not options.pairs:
        return
    chosen = list(range(0, len(pairs), max(1, len(pairs) // options.pairs)))[: options.pairs]
    chat = HfChat(f"hf:{options.model}", checkpoint_sha(folder), checkpoint)
    judge = ReasonJudge(
        chat, knowledge, rulebook, samples=options.samples, budget=BUDGETS[prompt_of(f"hf:{options.model}")]
    )
    start = time.perf_counter()
    made = judge.judge([pairs[i] for i in chosen])
    told(judge, made, time.perf_counter() - start)
    for name, some in (("reason", made), ("rules", [rules[i] for i in chosen])):
        right = [(one.grade, grades[i]) for one, i in zip(some, chosen, strict=True) if one.grade]
        same = mean(a == b for a, b in right) if right else 0.0
        binary = mean(a.relevant == b.relevant for a, b in right) if right else 0.0
        print(f"{name:8} acc@4 {same:.2f}, acc@2 {binary:.2f} on {len(right)} pairs")


LEGS = {
    "legs": [
        {"key": "color_1", "as_for": "", "relations": [], "knowledge": [], "rules": []}
        | dict.fromkeys(("words", "canonical", "asks", "why"), "")
        | dict.fromkeys(("head", "hard", "excluded", "implied"), False)
    ]
}


def dev_pairs() -> tuple[list[Pair], list[Grade]]:
    """The demo's labelled pairs of the split dev, queries read and items described by the tables."""
    knowledge = load_knowledge()
    items = [item_from_row(row) for table in read_items(DEMO / "items.jsonl") for row in table.to_pylist()]
    found = Given(knowledge, load_schemas()).extract([ExtractorInput(item) for item in items])
    features = {item.item_id: ItemFeatures(item, one.attributes) for item, one in zip(items, found, strict=True)}
    rows = [row for row in read_queries(DEMO / "queries.jsonl").to_pylist() if row["split"] == "dev"]
    understood = understand([Query(row["query_id"], row["query"]) for row in rows], knowledge)
    queries = {u.query.query_id: u for u in understood if u.status == "ok" and u.demands}
    labels = read_labels(DEMO / "labels.jsonl").to_pylist()
    labels = [row for row in labels if row["query_id"] in queries and row["item_id"] in features]
    pairs = [(queries[row["query_id"]], features[row["item_id"]]) for row in labels]
    return pairs, [Grade[row["grade"]] for row in labels]


def tokens(
    name: str, prompt: PairPrompt, pairs: Sequence[Pair], rules: Sequence[Judgment], checkpoint: Checkpoint
) -> None:
    """Print what a prompt of this budget costs."""
    tokenizer = checkpoint.tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    requests = prompt.tell(pairs, [None] * len(pairs), [()] * len(pairs))
    texts = [str(one.parts[0]) for one in requests]
    cuts = [text.index("\n\nThe item, a seller") for text in texts]
    queries = [count(text[:cut]) for text, cut in zip(texts, cuts, strict=True)]
    rest = [count(text[cut:]) for text, cut in zip(texts, cuts, strict=True)]
    replies = [count(as_reply(one)) for one in rules if one.path]
    print(
        f"{name:8} system {count(requests[0].system)}, query {mean(queries):.0f} (most {max(queries)}), "
        f"item {mean(rest):.0f} (most {max(rest)}), reply {mean(replies):.0f} (most {max(replies)})"
    )


def as_reply(judgment: Judgment) -> str:
    """The rules' path as a model would tell it."""
    assert judgment.path is not None
    legs = [leg for leg in judgment.path.legs if not leg.demand.latent or leg.demand.value != "nothing special"]
    told = {}
    for key, leg in zip(keys_of([kind_of(leg.demand) for leg in legs]), legs, strict=True):
        place = leg.evidence[0] if leg.evidence else None
        legal = offered(kind_of(leg.demand))
        told[key] = {
            "source": place.source.partition(".")[0].partition(":")[0] if place else "none",
            "quote": (place.quote or "") if place else "",
            "found": ", ".join(leg.found),
            "relation": leg.relation if leg.relation in legal else legal[0],
        }
    return spelled({**told, "grade": str(judgment.grade)})


def told(judge: ReasonJudge, made: Sequence[Judgment], seconds: float) -> None:
    """Print what became of the model's replies."""
    counts, usage, n = judge.counts, judge.usage, len(made)
    first = counts.replies - counts.retried
    print(
        f"{n} pairs in {seconds:.0f} s: {usage.prompt_tokens / n:.0f} tokens read, "
        f"{usage.completion_tokens / n:.0f} written a pair"
    )
    print(f"replies read at once {1 - counts.retried / first:.2f}, in the end {1 - counts.unreadable / first:.2f}")
    print(f"quotes that stand in the item {counts.grounded} of {counts.claims}")
    print(f"own grade is not the path's {counts.disagreements} of {counts.judged}")
    for error in dict.fromkeys(one.error for one in made if one.error):
        print(f"failed: {error}")


if __name__ == "__main__":
    main()
