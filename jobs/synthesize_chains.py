"""Chains for labelled and made-up pairs into a store and a file: `lore synthesize`.

Each pair becomes a row of CHAINS by the rules' own path, or by a teacher (`relevance.training.teacher`) whose samples
are held to the label and the rulebook. The rows are kept in a store, so that a run that was killed goes on where it
stopped, and pairs that have not changed are never paid for twice; `--out` writes those of this call as Parquet.
A pair that yields no chain is a failed row with the reason. Rows of several teachers stand side by side.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from extractors.query.llm import PROMPT, LlmEngine
from jobs.asked import spent_of
from jobs.chain_pairs import ChainPair
from jobs.plan import Counts
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.models import Chat, open_chat
from lore_mm.models.chat import Usage
from lore_mm.models.table import prompt_of
from lore_mm.tables import CHAINS
from lore_mm.types import Grade, Judgment, Provenance, Query, Understanding
from relevance.by_rules import RulesJudge
from relevance.chain import DEPTHS
from relevance.dossier import BUDGETS
from relevance.rules import Rulebook
from relevance.training.making import RowMaker
from relevance.training.rows import ChainRow, chains_table, depths_of
from relevance.training.teach_samples import Taught
from relevance.training.teacher import Teacher
from stores.features import FeatureStore

__all__ = ["RULES", "QueryReadings", "Synthesized", "check_out", "open_teacher", "synthesize_chains"]

RULES = "rules"  # the teacher where there is none
_VERSION = "1"
_MOST_QUERIES = 50_000  # whose readings are kept for pairs to come
_BATCH_ROWS = {True: 32, False: 1024}  # rows a commit: with a teacher, without


class QueryReadings:
    """A teacher's first step: each query read so many times by a query model (see `extractors.query.llm`).

    A query is asked about once, however many micro-batches it comes in; readings of the last queries are kept.
    """

    def __init__(self, engine: LlmEngine, samples: int) -> None:
        self.engine, self.samples = engine, samples
        self.sha = sha_of(["readings", engine.sha, samples])
        self._read: OrderedDict[Query, list[Understanding]] = OrderedDict()
        self._guard = threading.Lock()

    def __call__(self, queries: Sequence[Query]) -> list[list[Understanding]]:
        """The readings of each query, in the same order.

        Raises:
            ModelError: the model is dead and did not come back.
        """
        with self._guard:
            found = {query: self._read[query] for query in queries if query in self._read}
        new = [query for query in dict.fromkeys(queries) if query not in found]
        if new:
            found |= zip(new, map(_shared, self.engine.samples(new, self.samples)), strict=True)
        with self._guard:
            self._read |= {query: found[query] for query in new}
            while len(self._read) > _MOST_QUERIES:
                self._read.popitem(last=False)
        return [found[query] for query in queries]


def _shared(readings: Sequence[Understanding]) -> list[Understanding]:
    """The readings with those that ask for the same as one object: what is told of it is then made once."""
    first: dict[Any, Understanding] = {}

    def asks(one: Understanding) -> tuple[object, ...]:
        return one.status, one.error, one.corrections, tuple(replace(d, confidence=1.0) for d in one.demands)

    return [first.setdefault(asks(one), one) for one in readings]


def open_teacher(
    address: str,
    knowledge: Knowledge,
    rulebook: Rulebook,
    *,
    samples: int = 8,
    temperature: float = 0.7,
    seed: int = 0,
    budget: str | None = None,
    prompts: Path | None = None,
    max_tokens: int | None = None,
    options: Mapping[str, Any] | None = None,
    opener: Callable[..., Chat] = open_chat,
    **settings: Any,
) -> Teacher:
    """The teacher over the chat model at an address; `options` are the model's, `settings` those of `Teacher`.

    `budget`, full or compact, is how much of a pair it is told; that which the model table names for it unless given.
    `prompts` is a folder with templates of the user's own.

    Raises:
        InputError: there is no such folder or budget.
        ConfigError: a prompt or a setting is wrong.
        ModelError, MissingExtraError: the model cannot be opened.
    """
    length = budget or prompt_of(address)
    if length not in BUDGETS:
        raise InputError(f"budget {length!r}{nearest(length, BUDGETS)}; legal: {', '.join(BUDGETS)}")
    if prompts is not None and not prompts.is_dir():
        raise InputError(f"--prompts {prompts}: no such folder")
    try:
        chat = opener(address, **(options or {}))
    except TypeError as error:
        raise InputError(f"teacher {address}: {error}") from None
    most: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
    own = None if prompts is None else prompts / PROMPT.name
    prompt = own if own is not None and own.is_file() else PROMPT
    reading: dict[str, Any] = {"prompt": prompt, "hint": True, "seed": seed, "temperature": temperature, **most}
    try:
        engine = LlmEngine(chat, knowledge, **reading)
        return Teacher(
            chat,
            knowledge,
            rulebook,
            QueryReadings(engine, samples),
            samples=samples,
            temperature=temperature,
            seed=seed,
            budget=BUDGETS[length],
            prompts=prompts,
            max_tokens=max_tokens,
            **settings,
        )
    except Exception:
        chat.close()
        raise


@dataclass(frozen=True, slots=True)
class Synthesized:
    """What came of a call: counts of the run, and of the rows that stand for its pairs.

    `summary` is JSON-able: asked, kept, hinted, without_chain, failed (reason → rows), labels and splits of what was
    kept, mean_length (characters and legs of a chain), samples (outcome → number) and tokens of this call.
    """

    counts: Counts
    summary: Mapping[str, Any]


class _Work:
    """Pairs into CHAINS (see `jobs.work.Work`)."""

    table = "chains"
    reads: tuple[str, ...] = ()
    key: tuple[str, ...] = ("set", "query_id", "item_id")

    def __init__(self, pairs: Sequence[ChainPair], judge: RulesJudge, maker: RowMaker, teacher: Teacher | None) -> None:
        self.pairs, self.judge, self.maker, self.teacher = pairs, judge, maker, teacher
        self.name = RULES if teacher is None else teacher.chat.name
        self.job = "synthesize" if teacher is None else f"synthesize_by_{self.name}"
        self.verdict: Mapping[str, str] = {"teacher": self.name}
        self.teacher_sha = judge.sha if teacher is None else teacher.sha
        held = maker.held_out
        shares = [held.categories, held.queries, held.dev, held.seed]
        self.settings_sha = sha_of(["chains", _VERSION, self.teacher_sha, judge.sha, maker.prompt.sha, shares])
        self.shas = [pair.sha for pair in pairs]
        self.settings: Mapping[str, Any] = {
            "teacher": self.name,
            "teacher_sha": self.teacher_sha,
            "rules": judge.sha,
            "prompt": maker.prompt.sha,
            "held_out": shares,
            "pairs": sha_of(self.shas),
        }

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The keys of the pairs, and their places."""
        names = ("set", "query_id", "item_id")
        keys = zip(*(pair.key for pair in self.pairs), strict=True)
        table = pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, keys, strict=True)})
        table = table.append_column("place", pa.array(range(len(self.pairs)), pa.int64()))
        yield from table.slice(start).select(list(columns or table.column_names)).to_batches(max_chunksize=rows)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """What is known of each pair."""
        return [self.shas[place] for place in _places(rows)]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The pairs."""
        return self.input_shas(rows), [self.pairs[place] for place in _places(rows)]

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """A row of CHAINS a pair."""
        pairs: list[ChainPair] = loaded
        there = [pair for pair in pairs if not pair.error]
        judged = self.judge.judge([(pair.understanding, pair.features) for pair in there])
        made = [self._row(pair, judgment) for pair, judgment in zip(there, judged, strict=True)]
        if self.teacher is not None:
            taught = self.teacher.teach([(p.understanding, p.features) for p in there], [p.label for p in there])
            made = [self._taught(row, one) for row, one in zip(made, taught, strict=True)]
        ready = iter(made)
        return chains_table([self._failed(pair, pair.error) if pair.error else next(ready) for pair in pairs])

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Pairs without a chain, with the reason."""
        return chains_table([self._failed(self.pairs[place], error) for place in _places(rows)])

    def spent(self) -> dict[str, Usage]:
        """What the teacher was asked so far, readings of queries included (see `jobs.budget`)."""
        readings = self.teacher.decode if self.teacher else None
        return spent_of(self.teacher, readings.engine if isinstance(readings, QueryReadings) else None)

    def _row(self, pair: ChainPair, judgment: Judgment) -> ChainRow:
        row = self.maker.row(
            pair.understanding,
            pair.features,
            judgment,
            source=pair.set,
            label=int(pair.label),
            label_by=pair.label_by,
            changed=pair.changed,
            picture_root=pair.picture_root,
        )
        # what a set keeps for its test is learned from by nobody
        split = "queries" if pair.split == "test" and row.split in ("train", "dev") else row.split
        return replace(row, split=split, provenance=self._provenance(pair))

    def _taught(self, row: ChainRow, taught: Taught) -> ChainRow:
        """The row of the rules with the teacher's chain in the place of theirs, which stays as the reference."""
        lines = depths_of(taught.judgment) if taught.judgment else dict.fromkeys(DEPTHS, "")
        return replace(
            row,
            knowledge=lines["knowledge"],
            multimodal=lines["multimodal"],
            rules=lines["rules"],
            failed=taught.judgment.failed_dimensions if taught.judgment else (),
            teacher=self.name,
            teacher_sha=self.teacher_sha,
            samples=taught.samples,
            right=taught.right,
            hinted=taught.hinted,
            status="ok" if taught.judgment else "failed",
            error=taught.error,
        )

    def _failed(self, pair: ChainPair, error: str) -> ChainRow:
        of, query_id, item_id = pair.key
        query = pair.understanding.query.text
        return ChainRow(
            query_id,
            item_id,
            query,
            int(pair.label),
            set=of,
            label_by=pair.label_by,
            changed=pair.changed,
            teacher=self.name,
            teacher_sha=self.teacher_sha,
            samples=0,
            right=0,
            status="failed",
            error=error,
            provenance=self._provenance(pair),
        )

    def _provenance(self, pair: ChainPair) -> Provenance:
        """Who made it; the rest is filled in where rows are committed."""
        return Provenance(maker=f"teacher:{self.name}", input_sha=pair.features.input_sha)


def _places(rows: pa.Table) -> list[int]:
    places: list[int] = rows.column("place").to_numpy().tolist()
    return places


def synthesize_chains(
    store: FeatureStore,
    pairs: Sequence[ChainPair],
    judge: RulesJudge,
    maker: RowMaker,
    teacher: Teacher | None = None,
    *,
    out: Path | None = None,
    in_flight: int | None = None,
    **options: Unpack[RunOptions],
) -> Synthesized:
    """Write a row for each pair, and `out`; see `jobs.spine.run_job` for skips and resumes.

    With a teacher four micro-batches are in flight unless said otherwise, so that its engine is never without work.

    Raises:
        InputError: there are no pairs, or `out` cannot be written.
        PlanError: an unfinished run had other settings.
        ModelError: the teacher is dead.
    """
    if not pairs:
        raise InputError("no pairs to write chains for")
    check_out(out)
    work = _Work(pairs, judge, maker, teacher)
    options["batch_rows"] = options.get("batch_rows") or _BATCH_ROWS[teacher is not None]
    counts = run_job(store, work, in_flight=in_flight or (1 if teacher is None else 4), **options)
    rows = _standing(store, work)
    if out is not None:
        _write(rows, out)
    return Synthesized(counts, _summary(rows, teacher, out))


def check_out(out: Path | None) -> None:
    """Check that rows can be written to such a file.

    Raises:
        InputError: another ending, or a folder.
    """
    if out is not None and (out.suffix != ".parquet" or out.is_dir()):
        raise InputError(f"--out {out}: legal is a file that ends in .parquet")


def _standing(store: FeatureStore, work: _Work) -> pl.DataFrame:
    """The newest row of each pair by this teacher, in the order of the pairs; of pairs beyond a limit there is none."""
    keys = pl.DataFrame([pair.key for pair in work.pairs], schema=list(work.key), orient="row")
    keys = keys.unique(maintain_order=True).with_row_index("place")
    rows = store.latest("chains").filter(pl.col("teacher") == work.name)
    return rows.join(keys.lazy(), on=list(work.key), how="inner").sort("place").drop("place").collect()


def _write(rows: pl.DataFrame, out: Path) -> None:
    """All at once: whoever reads the file meanwhile reads the old one."""
    part = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.select(CHAINS.names).to_arrow().cast(CHAINS), part, compression="zstd")
        part.replace(out)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None


def _summary(rows: pl.DataFrame, teacher: Teacher | None, out: Path | None) -> dict[str, Any]:
    good = rows.filter(pl.col("status") == "ok")
    kept = good.filter(pl.col("rules") != "")
    failed = rows.filter(pl.col("status") != "ok")
    reasons = Counter(str(error).partition(":")[0] for error in failed["error"].to_list())
    legs = kept["rules"].str.split("\n").list.len().mean()
    letters = kept["rules"].str.len_chars().mean()
    usage = Usage() if teacher is None else teacher.usage
    if teacher is not None and isinstance(teacher.decode, QueryReadings):
        usage += teacher.decode.engine.usage
    return {
        "teacher": RULES if teacher is None else teacher.chat.name,
        "asked": rows.height,
        "kept": kept.height,
        "hinted": int(kept["hinted"].sum()),
        "without_chain": good.height - kept.height,
        "failed": dict(reasons.most_common()),
        "labels": {str(grade): int((kept["label"] == int(grade)).sum()) for grade in Grade},
        "splits": dict(sorted(kept["split"].value_counts().iter_rows())),
        "mean_length": {"characters": _rounded(letters), "legs": _rounded(legs)},
        "samples": {} if teacher is None else dict(teacher.outcomes.most_common()),
        "tokens": {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens, "calls": usage.calls},
        "out": None if out is None else str(out),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 2)
