"""Models that write chains, measured on held-out rows: `lore evaluate chains`. The figures are those of
`relevance.training.metrics`.

Parts are measured apart: queries that were held out, kinds that were held out, and what people judged. A file keeps
what has been measured, row by row, so that a run that ended early goes on with the models that are left, and a model
that is added later is compared on the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.open_extractors import model_options
from jobs.options import ModelOption
from lore_mm.bootstrap import plain
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from lore_mm.errors import InputError
from lore_mm.fingerprint import sha_of
from lore_mm.models import open_chat
from relevance.training.metrics import ask, by_row, differences, figures
from relevance.training.rows import ChainRow, read_chains

__all__ = ["PARTS", "main", "part_of", "some_of"]

# what is measured apart: name → (split, who gave the labels)
PARTS: Mapping[str, tuple[str, str]] = {
    "queries": ("queries", "rules"),
    "categories": ("categories", "rules"),
    "people": ("queries", "people"),
}
_SHOWN = ("pass_1", "pass_8", "acc_4", "acc_2", "macro_f1", "follows", "format", "tokens")


def main(
    rows: Annotated[Path, typer.Option(help="Parquet of `lore synthesize`.")],
    model: Annotated[list[str], typer.Option(help="NAME=ADDRESS of a chat model; may be repeated.")],
    part: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PARTS)}; all unless given.")] = None,
    take: Annotated[int, typer.Option(min=0, help="Rows of a part, labels even; 0: all.")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="Answers a row, besides the greedy one.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the sampled answers.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=8, help="Of an answer.")] = 192,
    seed: Annotated[int, typer.Option(help="Of the rows that are taken and of the answers.")] = 0,
    resamples: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 1000,
    save: Annotated[
        Path | None, typer.Option(help="Keep what was measured; a model that is there is not asked.")
    ] = None,
    model_option: ModelOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object even on a terminal.")] = False,
) -> None:
    """Measure models that write chains on held-out rows: pass@1, pass@8, accuracy, macro-F1, length, with intervals.

    Example: lore evaluate chains --rows chains.parquet --model sft=hf:out/sft/rules --model rl=hf:out/rl

    Differences are those of each model from the one before it.
    """
    named = [_named(one) for one in model]
    wanted = {name: some_of(part_of(read_chains(rows), name), take, seed) for name in _legal(part or list(PARTS))}
    settings = [samples, temperature, max_tokens, seed]
    kept = _read(save)
    for name, address in named:
        key = {part: sha_of([address, settings, [row.prompt for row in some]]) for part, some in wanted.items()}
        left = [part for part in wanted if kept.get(name, {}).get(part, {}).get("key") != key[part] and wanted[part]]
        if not left:
            continue
        with closing(open_chat(address, **model_options(model_option or ()))) as chat:
            for one in left:
                say(f"{name}: {len(wanted[one])} rows of {one}")
                answers = ask(chat, wanted[one], samples, temperature, max_tokens, seed)
                found = {"key": key[one], "sha": chat.sha, "rows": by_row(wanted[one], answers)}
                kept.setdefault(name, {})[one] = found | {"address": address}
                _write(save, kept)
    result = {
        name: _told(some, [(n, kept[n][name]) for n, _ in named], samples, resamples)
        for name, some in wanted.items()
        if some
    }
    if for_people(as_json):
        print_table(*(_table(name, one) for name, one in result.items()))
    else:
        print_json(result)


def part_of(rows: Sequence[ChainRow], name: str) -> list[ChainRow]:
    """The rows of a part that can be measured."""
    split, by = PARTS[name]
    return [row for row in rows if row.split == split and row.label_by == by and row.status == "ok"]


def some_of(rows: Sequence[ChainRow], take: int, seed: int) -> list[ChainRow]:
    """So many of the rows, always the same: the labels in turn, those of a label in an order drawn by their words."""
    if not take or take >= len(rows):
        return list(rows)
    drawn = sorted(rows, key=lambda row: sha_of([seed, row.query, row.item_id]))
    turns = zip_longest(*([row for row in drawn if row.label == level] for level in (1, 2, 3, 4)))
    return [row for turn in turns for row in turn if row is not None][:take]


def _named(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    if not name or not address:
        raise InputError(f"--model {text!r}: legal is NAME=ADDRESS, such as sft=hf:out/sft/rules")
    return name, address


def _legal(parts: Sequence[str]) -> list[str]:
    for one in parts:
        if one not in PARTS:
            raise InputError(f"--part {one!r}: legal: {', '.join(PARTS)}")
    return list(dict.fromkeys(parts))


def _read(path: Path | None) -> dict[str, Any]:
    if path is None or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--save {path}: {error}") from None
    return dict(found)


def _write(path: Path | None, kept: Mapping[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept) + "\n", encoding="utf-8")


def _told(
    rows: Sequence[ChainRow], measured: Sequence[tuple[str, Mapping[str, Any]]], samples: int, resamples: int
) -> dict[str, Any]:
    """The figures of each model on the rows of a part, and of each its difference from the one before."""
    models = {}
    before: Mapping[str, Any] | None = None
    for name, one in measured:
        told: dict[str, Any] = {"address": one["address"], "sha": one["sha"]}
        told["metrics"] = plain(figures(rows, one["rows"], resamples=resamples))
        if before is not None:
            found = differences(rows, one["rows"], before["rows"], resamples=resamples)
            told["minus_the_one_before"] = plain(found)
        models[name], before = told, one
    labels = [sum(row.label == level for row in rows) for level in (1, 2, 3, 4)]
    queries = len({row.query for row in rows})
    return {"n": len(rows), "queries": queries, "labels": labels, "samples": samples, "models": models}


def _table(name: str, found: Mapping[str, Any]) -> Any:
    from rich.table import Table

    title = f"{name}: {found['n']} rows, {found['queries']} queries"
    table = Table("model", *_SHOWN, title=title, title_justify="left", box=None)
    for model, one in found["models"].items():
        table.add_row(model, *(_cell(one["metrics"].get(metric)) for metric in _SHOWN))
    return table


def _cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.evaluate_chains"))
