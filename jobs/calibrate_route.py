"""Fit when a cheap judge may answer in the place of a dear one: `lore calibrate route`.

Both have judged the same pairs into the store (`lore judge-pairs --judge …`, once with each). The traffic is
cut into strata as `lore strata` does, and for each the lowest threshold is found at which the two together agree with
the dear one on a stated share of requests, with a stated confidence in all strata at once. It asks no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

from jobs.open_extractors import model_options
from jobs.options import ModelOption, StoreAddress
from jobs.query_log import log_of_store, read_log
from jobs.strata_plans import cut_strata
from lore_mm.bootstrap import Draws, estimate, ratio
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError, nearest
from lore_mm.schema import load_hard_types
from relevance.agreement import fit_threshold
from relevance.baselines import folds_of
from relevance.routing import AGREE, Agree, Measured, Routing, StratumRoute, differ, write_routing
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot
from stores.views import quoted

__all__ = ["Judged", "calibrate_route", "main", "read_judged"]

_FOLDS, _RESAMPLES = 5, 1000
_PAIRS = """
    SELECT c.query_id, c.item_id, q.frequency, u.hard_type, c.grade AS cheap, d.grade AS dear,
        list_max(c.probabilities) AS sure, c.provenance.settings_sha AS cheap_sha, d.provenance.settings_sha AS dear_sha
    FROM judgments c JOIN judgments d USING (query_id, item_id)
        LEFT JOIN queries q ON q.query_id = c.query_id LEFT JOIN understood u ON u.query_id = c.query_id
    WHERE c.mode = {cheap} AND d.mode = {dear} AND d.grade IS NOT NULL
    ORDER BY c.query_id, c.item_id"""


@dataclass(frozen=True, slots=True)
class Judged:
    """Pairs that both judges have judged; all of one length.

    Attributes:
        sure: the probability of the cheap judge's likeliest level, NaN where it has no grade.
        cheap, dear: levels 1–4, 0 where the cheap judge has none.
        asked: how often the pair's query is asked, NaN where the log does not say.
        left_out: why pairs were left out, and how many.
    """

    queries: list[str]
    sure: NDArray[np.float64]
    cheap: NDArray[np.int64]
    dear: NDArray[np.int64]
    asked: NDArray[np.float64]
    hard: list[str]
    cheap_sha: str
    dear_sha: str
    left_out: dict[str, int]


def read_judged(store: FeatureStore, cheap: str, dear: str) -> Judged:
    """The pairs of a store that the judges of two modes have judged, each by its present sha.

    Raises:
        InputError: there are none; the text says what is missing.
    """
    snapshot = Snapshot(store)
    rows = snapshot.sql(_PAIRS.format(cheap=quoted(cheap), dear=quoted(dear)))
    if not rows.num_rows:
        modes = [str(m) for m in snapshot.sql("SELECT DISTINCT mode FROM judgments ORDER BY 1")["mode"].to_pylist()]
        there = ", ".join(modes) or "none"
        raise InputError(
            f"no pair is judged by both {cheap} and {dear} in {store.uri}; judged there by: {there};"
            f" lore judge-pairs --judge {next((m for m in (cheap, dear) if m not in modes), dear)}"
        )
    shas = {name: Counter(rows[name].to_pylist()).most_common(1)[0][0] for name in ("cheap_sha", "dear_sha")}
    mask = np.array([all(row[name] == sha for name, sha in shas.items()) for row in rows.select([*shas]).to_pylist()])
    kept = rows.filter(pa.array(mask))
    older = {"judged by another version of a judge": int((~mask).sum())} if not mask.all() else {}
    levels = {name: np.array([int(g[1]) if g else 0 for g in kept[name].to_pylist()]) for name in ("cheap", "dear")}
    sure = kept["sure"].to_numpy(zero_copy_only=False).astype(np.float64)
    return Judged(
        [str(q) for q in kept["query_id"].to_pylist()],
        np.where(levels["cheap"] > 0, sure, np.nan),
        levels["cheap"],
        levels["dear"],
        kept["frequency"].to_numpy(zero_copy_only=False).astype(np.float64),
        [str(h or "other") for h in kept["hard_type"].to_pylist()],
        str(shas["cheap_sha"]),
        str(shas["dear_sha"]),
        older,
    )


def calibrate_route(
    judged: Judged,
    least: Sequence[tuple[str, float]],
    *,
    cheap: str,
    dear: str,
    dear_options: dict[str, Any] | None = None,
    agree: Agree = "grade",
    target: float = 0.95,
    confidence: float = 0.95,
    hard_types: Sequence[str] = (),
    fitted_on: str = "",
) -> Routing:
    """Fit a routing. `least` names the strata with how often their queries are asked at least, falling, the last 0.

    The confidence is that of all strata together: each is fitted at 1 - (1 - confidence) / their number (Bonferroni).

    Raises:
        InputError: target or confidence is not strictly between 0 and 1.
    """
    asked = np.nan_to_num(judged.asked)
    weights = np.where(asked > 0, asked, 1.0)
    sure = np.where([h in hard_types for h in judged.hard], np.nan, judged.sure)
    pairs = zip(judged.cheap, judged.dear, strict=True)
    wrong = np.array([differ(int(one), int(other), agree) for one, other in pairs], bool)
    highest = [np.inf, *(floor for _, floor in least[:-1])]
    each = 1 - (1 - confidence) / len(least)
    strata = []
    for (name, floor), below in zip(least, highest, strict=True):
        rows = np.flatnonzero((asked >= floor) & (asked < below))
        queries = [judged.queries[i] for i in rows]
        own = (sure[rows], wrong[rows], queries)
        fitted = fit_threshold(*own, target=target, confidence=each, weights=weights[rows])
        held_out = _held_out(*own, weights[rows], target, each)
        strata.append(
            StratumRoute(
                name=name,
                least=floor,
                sure=fitted.sure,
                queries=fitted.queries,
                pairs=fitted.pairs,
                served=fitted.served,
                agreement=None if np.isnan(fitted.agreement) else fitted.agreement,
                p_value=fitted.p_value,
                held_out=held_out,
            )
        )
    return Routing(
        cheap=cheap,
        cheap_sha=judged.cheap_sha,
        dear=dear,
        dear_sha=judged.dear_sha,
        dear_options=dear_options or {},
        agree=agree,
        target=target,
        confidence=confidence,
        hard_types=tuple(hard_types),
        strata=tuple(strata),
        fitted_on=fitted_on,
    )


def _held_out(
    sure: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    queries: list[str],
    weights: NDArray[np.float64],
    target: float,
    confidence: float,
) -> Measured | None:
    """Each query by the threshold that was fitted on the queries of the other folds; None with fewer than two."""
    if len(set(queries)) < 2:
        return None
    folds = folds_of(queries, _FOLDS)
    answers = np.zeros(len(queries), bool)
    for fold in np.unique(folds):
        rest, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        others = [queries[i] for i in rest]
        fitted = fit_threshold(
            sure[rest], wrong[rest], others, target=target, confidence=confidence, weights=weights[rest]
        )
        answers[own] = False if fitted.sure is None else sure[own] >= fitted.sure
    counts = Counter(queries)
    each = weights / np.array([counts[q] for q in queries])
    sums = Draws(queries, _RESAMPLES, 0).sums(np.stack([each, each * answers, each * (answers & wrong)], axis=1))
    agreement = estimate(1 - ratio(sums[:, 2], sums[:, 0]))
    return Measured(
        served=float(sums[0, 1] / sums[0, 0]),
        agreement=agreement.value,
        low=max(0.0, agreement.low),
        high=min(1.0, agreement.high),
    )


def main(
    cheap: Annotated[str, typer.Option(help="The judge that answers where it is sure: its address.")],
    dear: Annotated[str, typer.Option(help="The judge that answers elsewhere, and is agreed with: its address.")],
    out: Annotated[Path, typer.Option(help="The file to write; --judge route:FILE reads it.")],
    target: Annotated[
        float, typer.Option(help="Share of requests' pairs on which both agree with the dear one.")
    ] = 0.95,
    confidence: Annotated[float, typer.Option(help="How sure that is to be.")] = 0.95,
    agree: Annotated[
        str, typer.Option(help="; ".join(f"{name}: {what}" for name, what in AGREE.items()) + ".")
    ] = "grade",
    head: Annotated[float, typer.Option(help="The head makes this share of all requests.")] = 0.5,
    middle: Annotated[float, typer.Option(help="Head and middle together make this share.")] = 0.9,
    hard: Annotated[
        list[str] | None, typer.Option(help="A type of hard query that always goes to the dear judge; repeatable.")
    ] = None,
    log: Annotated[str | None, typer.Option(help="The query log to cut; that of the store unless given.")] = None,
    model_option: ModelOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, also on a terminal.")] = False,
    store: StoreAddress = None,
) -> None:
    """Fit when a cheap judge may answer in the place of a dear one, with a guarantee for each stratum of the traffic.

    Before: lore judge-pairs --judge student; lore judge-pairs --judge reason:openai:http://localhost:8000/v1#MODEL

    Example: lore calibrate route --cheap student --dear reason:openai:http://localhost:8000/v1#MODEL --out route.json

    Then: lore judge --judge route:route.json --model-option deadline_s=2 --query "red sofa" --top 10

    The guarantee is over queries drawn as those were whose pairs are judged, weighed by how often they are asked. Pairs
    are those that the store has of both judges; more queries let more be answered cheaply.
    """
    if agree not in AGREE:
        raise InputError(f"--agree {agree}; legal: {', '.join(AGREE)}")
    for kind in hard or ():
        if kind not in load_hard_types():
            raise InputError(f"--hard {kind}{nearest(kind, load_hard_types())}; legal: {', '.join(load_hard_types())}")
    opened = open_store(store or default_store())
    judged = read_judged(opened, *(address.partition(":")[0] for address in (cheap, dear)))
    strata = cut_strata(log_of_store(opened) if log is None else read_log(log), head, middle)
    least = [(s.name, s.least) for s in strata[:-1] if s.least is not None]
    routing = calibrate_route(
        judged,
        [*least, (strata[-1].name, 0.0)],
        cheap=cheap,
        dear=dear,
        dear_options=model_options(model_option or ()),
        agree="grade" if agree == "grade" else "side",
        target=target,
        confidence=confidence,
        hard_types=hard or (),
        fitted_on=opened.uri,
    )
    write_routing(routing, out)
    _tell(routing, judged, out, for_people(json))


def _tell(routing: Routing, judged: Judged, out: Path, table: bool) -> None:
    for why, n in judged.left_out.items():
        say(f"calibrate route: {n} pairs left out: {why}")
    if table:
        print_table(_table(routing))
    else:
        print_json({"file": str(out), **routing.model_dump(mode="json")})
    say(f"calibrate route: written to {out}")


def _table(routing: Routing) -> object:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        "", "asked at least", "queries", "pairs", "sure at least", "answered cheaply", "agreement", box=SIMPLE
    )
    table.title = f"{routing.cheap} before {routing.dear}: {AGREE[routing.agree]}"
    table.caption = (
        f"at least {routing.target:g} with confidence {routing.confidence:g}; the last two on queries that were not"
        " fitted on, with 95 % intervals over queries"
    )
    for s in routing.strata:
        known = s.held_out
        measured = ("–", "–") if known is None else (f"{known.served:.1%}", _with_interval(known))
        sure = "never" if s.sure is None else f"{s.sure:.3f}"
        table.add_row(s.name, f"{s.least:,g}", str(s.queries), str(s.pairs), sure, *measured)
    return table


def _with_interval(measured: Measured) -> str:
    return f"{measured.agreement:.3f} [{measured.low:.3f}, {measured.high:.3f}]"


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.calibrate_route"))
