"""Histories, lineages and differences for a person at a terminal; what a program reads of them goes by `stores.output`.

It knows their columns, and not how they come about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
from rich.table import Table as RichTable

from lore_mm.console import print_table, say
from stores.differences import DIFFERENCES, summary_of
from stores.output import plain
from stores.why import VERDICT

__all__ = ["SHOWN", "show_differences", "show_history", "show_lineage"]

SHOWN = 20  # differences, unless more are asked for
_SHA = 12  # characters of a sha that are shown
_EVIDENCE = 5  # pieces that are shown of one value
# values of one attribute that these hold for alike came about alike
_SAME = ("item_id", "attribute", "extractor", "role", "run_id", "made_at", "since", "settings_sha", "question_sha")
Row = Mapping[str, Any]


def show_history(rows: pa.Table) -> None:
    """A line a value, in order of time."""
    lines = rows.to_pylist()
    one = len({line["attribute"] for line in lines}) == 1
    title = f"{lines[0]['item_id']}: {lines[0]['attribute']}" if one and lines else str(lines[0]["item_id"])
    columns = ("when (UTC)", *(() if one else ("attribute",)), "by", "value", "confidence", "why", "rows", "run")
    table = _table(columns, title)
    for line in lines:
        cells = [_when(line["at"]), *([] if one else [line["attribute"]]), _who(line["extractor"]), _said(line)]
        cells += ["" if line["confidence"] is None else f"{line['confidence']:.2f}", _why(line)]
        table.add_row(*map(plain, [*cells, str(line["times"]), _run(line["run_id"])]))
    print_table(table)


def show_differences(batches: Iterable[pa.RecordBatch], shown: int = SHOWN) -> None:
    """How many of each kind there are, and then a line for each of the first `shown`."""
    kept = [DIFFERENCES.empty_table()]

    def passing() -> Iterator[pa.RecordBatch]:
        left = shown
        for batch in batches:
            if left > 0:
                kept.append(pa.Table.from_batches([batch.slice(0, left)]))
                left -= batch.num_rows
            yield batch

    summary = summary_of(passing())
    if not summary.num_rows:
        say("nothing has changed")
        return
    counts = _table(("table", "attribute", "change", "why", "n"), "what changed")
    for line in summary.to_pylist():
        counts.add_row(*(plain("" if line[name] is None else str(line[name])) for name in summary.column_names))
    print_table(counts)
    table = _table(("item", "attribute", "change", "old", "new", "why", "when (UTC)"), None)
    for line in pa.concat_tables(kept).to_pylist():
        old, new = (_side(line, side) for side in ("old", "new"))
        cells = [line["item_id"], line["attribute"] or "(the item)", line["change"], old, new]
        table.add_row(*map(plain, [*cells, _why(line), _when(line["at"])]))
    print_table(table)
    if (more := sum(map(int, summary["n"].to_numpy())) - shown) > 0:
        say(f"… and {more:,} more; --limit shows more, --format jsonl or --output FILE gives them all")


def show_lineage(rows: pa.Table) -> None:
    """A block for the values of each extractor: those of the verdict, and what they were made of."""
    for _, group in groupby(rows.to_pylist(), lambda line: [line[name] for name in _SAME]):
        lines = list(group)
        line, said = lines[0], ", ".join(_said(one) for one in lines)
        title = f"{line['item_id']}: {line['attribute']} = {said} · {_who(line['extractor'])}"
        title += "" if line["role"] in ("verdict", "seller") else f" · {line['role']}"
        table = RichTable(title=plain(title), title_justify="left", title_style="bold", show_header=False, box=None)
        table.add_column(no_wrap=True, style="dim")
        table.add_column()
        for name, text in chain(_seen(lines), _facts(line)):
            table.add_row(plain("  " + name), plain(text))
        print_table(table)


def _seen(lines: Sequence[Row]) -> Iterable[tuple[str, str]]:
    """How sure each value is, and what shows it."""
    sure = [(line["confidence"], _said(line)) for line in lines if line["confidence"] is not None]
    alone = len(lines) == 1
    if sure:
        yield "confidence", ", ".join(f"{number:.2f}" if alone else f"{number:.2f} {said}" for number, said in sure)
    for line in lines:
        for piece in (line["evidence"] or ())[:_EVIDENCE]:
            yield "evidence", _piece(piece)
        if (more := len(line["evidence"] or ()) - _EVIDENCE) > 0:
            yield "", f"and {more} more"
        if line["error"]:
            yield "error", line["error"]


def _facts(line: Row) -> Iterable[tuple[str, str]]:
    unknown = set(line["unknown"] or ())

    def fact(name: str, *keys: str, text: str = "") -> Iterable[tuple[str, str]]:
        """One line; `unknown` where nobody noted it, none where there is none."""
        if text:
            yield name, text
        elif unknown & set(keys):
            yield name, "unknown"

    started = f", started {_when(line['started_at'])}" if line["started_at"] else ""
    since = f", and the same since {_when(line['since'])} ({_run(line['since_run_id'])})" if line["since"] else ""
    yield from fact("made", "made_at", text=_when(line["made_at"]) + since)
    yield from fact("run", "run_id", "job", text=_of(line["run_id"], f"{line['job'] or 'job unknown'}{started}"))
    yield from fact("command", "command", text=line["command"] or "")
    yield from fact("model", "model", text=_of(line["model"], _short("sha", line["model_sha"])))
    yield from fact("prompt", "prompt", "prompt_sha", text=_of(line["prompt"], _short("sha", line["prompt_sha"])))
    yield from fact("question", "question_sha", text=_short("sha", line["question_sha"]))
    yield from fact("decoding", "decoding", text=line["decoding"] or "")
    yield from fact("schema", "schema_sha", text=_short("sha", line["schema_sha"]))
    yield from fact("knowledge", "knowledge_sha", text=_short("sha", line["knowledge_sha"]))
    yield from fact("settings", "settings_sha", text=_short("sha", line["settings_sha"]))
    yield from fact("input", "input_sha", text=_short("sha", line["input_sha"]))
    parts = ", ".join(f"{one['name']} {(one['sha'] or '-')[:_SHA]}" for one in line["made_from"] or ())
    yield from fact("made from", "made_from", text=parts)
    if line["calls"] is not None:
        calls = f"{line['calls']} call{'' if line['calls'] == 1 else 's'}"
        prompts, replies = (f"{line[name] or 0:,}" for name in ("prompt_tokens", "completion_tokens"))
        yield "cost", f"{calls}, {prompts} tokens of prompts, {replies} of replies, for all attributes of the row"
    else:
        yield from fact("cost", "calls")


def _piece(piece: Row) -> str:
    """Where it was read, and what: `title “red”`, `image:0 at 0.10 0.20 0.30 0.40`."""
    text = str(piece["source"])
    if piece["quote"]:
        text += f" “{piece['quote']}”"
    if piece["region"]:
        text += " at " + " ".join(f"{edge:.2f}" for edge in piece["region"])
    if piece["value"]:
        text += f" → {piece['value']}"
    if piece["extractor"]:
        text += f" ({piece['extractor']}, {piece['confidence'] or 0:.2f})"
    return text


def _table(columns: Iterable[str], title: str | None) -> RichTable:
    table = RichTable(title=title and plain(title), title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in ("confidence", "rows", "n") else "left")
    return table


def _who(extractor: str) -> str:
    return "merge (the verdict)" if extractor == VERDICT else extractor


def _said(line: Row) -> str:
    """The value, or in words why there is none."""
    if line["value"] is None:
        status = str(line["status"] or "").replace("_", " ")
        return f"({status}: {line['error']})" if line["error"] else f"({status})"
    return f"{line['value']} (sources disagree)" if line["status"] == "conflict" else str(line["value"])


def _side(line: Row, side: str) -> str:
    if line[side] is not None:
        return str(line[side])
    return f"({line[f'{side}_status']})".replace("_", " ") if line[f"{side}_status"] else ""


def _why(line: Row) -> str:
    changed = [part for part in line["changed"] or () if part not in ("settings", "input")]  # what the word says too
    return f"{line['why']}: {', '.join(changed)}" if changed else line["why"] or ""


def _run(run_id: str | None) -> str:
    """A run by its job and the letters that tell it from others: the whole of it is long, and most of it a time."""
    job, _, rest = (run_id or "").partition("-")
    return f"{job} {rest.rpartition('-')[2]}".strip()


def _of(name: str | None, more: str) -> str:
    return "" if not name else f"{name} ({more})" if more else name


def _short(name: str, sha: str | None) -> str:
    return f"{name} {sha[:_SHA]}" if sha else ""


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
