"""Put a trained judge into a folder to be shipped: the adapter in 16 bits, its manifest, learning curves and card.

    python -m jobs.ship_judge --sft out/sft --rl out/rl --rows chains.parquet --out lore-judge-tiny
    lore evaluate chains … --model shipped=hf:lore-judge-tiny --json > measured.json
    python -m jobs.ship_judge … --measured measured.json

Every number of the card is from the runs' own files and from what `lore evaluate chains` printed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError, MissingExtraError
from lore_mm.models.weights import load_table, weights_sha
from relevance.training.curves import draw
from relevance.training.rows import ChainRow, has_chain, read_chains

__all__ = ["card", "main"]

_ADAPTER, _CONFIG, _MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
_PLACES = ("model", "rows", "out")
_METRICS = {
    "pass_1": "pass@1",
    "pass_8": "pass@8",
    "acc_4": "acc@4",
    "acc_2": "acc@2",
    "macro_f1": "macro-F1",
    "follows": "grade follows",
    "tokens": "tokens",
}
_COMMANDS = (
    "```",
    "lore synthesize --catalogue demo --catalogue chorus:CHORUS --catalogue luma:LUMA --made-up 8000 \\",
    "    --dataset demo --dataset chorus:CHORUS --per-label 100000 --told tiny --out chains.parquet",
    "lore sft --config relevance/training/configs/smollm2-sft.toml",
    "lore rl --config relevance/training/configs/smollm2-rl.toml",
    "```",
    "",
)
_PARTS = {
    "queries": "Held-out queries (labels by the rulebook)",
    "categories": "Held-out kinds of things (labels by the rulebook)",
    "people": "Queries that people judged",
}


def main(
    sft: Annotated[Path, typer.Option(help="Folder of `lore sft`.")],
    rl: Annotated[Path, typer.Option(help="Folder of `lore rl`.")],
    rows: Annotated[Path, typer.Option(help="What both were trained on.")],
    licence: Annotated[list[str], typer.Option(help="SET=LICENCE of the rows, such as luma=AFL-3.0; once a set.")],
    measured: Annotated[Path | None, typer.Option(help="What `lore evaluate chains --json` printed.")] = None,
    budget: Annotated[str, typer.Option(help="How much of a pair it is told, as the rows were made.")] = "tiny",
    out: Annotated[Path, typer.Option(help="The folder.")] = Path("lore-judge-tiny"),
) -> None:
    """Write the folder of a trained judge: weights, manifest, curves, card."""
    out.mkdir(parents=True, exist_ok=True)
    _weights(rl, out, budget)
    lines = [(folder / "log.jsonl").read_text(encoding="utf-8") for folder in (sft, rl)]
    log = out / "log.jsonl"
    log.write_text("".join(lines), encoding="utf-8")
    draw(log, out / "curves.svg")
    metrics = {
        "name": out.name,
        "sft": _without_places(_json(sft / "metrics.json")),
        "rl": {**_without_places(_json(rl / "metrics.json")), **_time_of_steps(lines[1])},
        "settings": {"sft": _without_places(_json(sft / "run.json")), "rl": _without_places(_json(rl / "run.json"))},
        "rows": _counted(read_chains(rows)),
        "licences": dict(_named(one) for one in licence),
        "measured": _measured(_json(measured)) if measured else {},
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(metrics), encoding="utf-8")
    say(f"wrote {out}, {(out / _ADAPTER).stat().st_size / 1e6:.1f} MB of weights")


def _weights(rl: Path, out: Path, budget: str) -> None:
    """The adapter in bfloat16: the base is read in 4 bits as it is, and nothing is lost that would be seen."""
    try:
        import torch
        from safetensors.torch import load_file, save_file
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "train") from None
    if not (rl / _ADAPTER).is_file():
        raise InputError(f"{rl}: has no {_ADAPTER}; `lore rl` writes one")
    tensors = {name: one.to(torch.bfloat16).contiguous() for name, one in load_file(rl / _ADAPTER).items()}
    save_file(tensors, out / _ADAPTER, metadata={"format": "pt"})
    (out / _ADAPTER).chmod(0o644)  # for everyone to read, as the other files
    (out / _CONFIG).write_bytes((rl / _CONFIG).read_bytes())
    manifest = _json(rl / _MANIFEST)
    # the base is known by its pinned weights, which another release of transformers leaves as they are
    base = str(manifest["base"])
    sha = weights_sha(base) if base in load_table() else manifest["base_sha"]
    manifest |= {"base_sha": sha, "budget": budget, "settings": _without_places(manifest.get("settings", {}))}
    (out / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _without_places(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says of itself without the names of files on the machine where it ran."""
    return {name: value for name, value in said.items() if name not in _PLACES or not isinstance(value, str | list)}


def _measured(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, the models in folders known by the last two names of their places."""
    told: dict[str, Any] = {}
    for part, one in parts.items():
        models = {
            name: {**found, "address": "/".join(str(found["address"]).split("/")[-2:])}
            for name, found in one["models"].items()
        }
        told[part] = {**one, "models": models}
    return told


def _time_of_steps(log: str) -> dict[str, float]:
    """The seconds of all steps, however often the run was started anew."""
    seconds = sum(json.loads(line).get("step_seconds", 0.0) for line in log.splitlines())
    return {"train_seconds": round(seconds, 1), "seconds": round(seconds, 1)}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def _named(text: str) -> tuple[str, str]:
    name, _, licence = text.rpartition("=")
    if not name or not licence:
        raise InputError(f"--licence {text!r}: legal is SET=LICENCE, such as luma=AFL-3.0")
    return name, licence


def _counted(rows: Sequence[ChainRow]) -> list[dict[str, Any]]:
    """The rows by set and split."""
    counts = Counter((row.set, row.split) for row in rows if row.status == "ok")
    chains = Counter((row.set, row.split) for row in rows if has_chain(row))
    queries = {key: len({row.query for row in rows if (row.set, row.split) == key}) for key in counts}
    return [
        {"set": name, "split": split, "rows": n, "with_chain": chains[name, split], "queries": queries[name, split]}
        for (name, split), n in sorted(counts.items())
    ]


def card(metrics: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    base = metrics["rl"].get("base") or metrics["sft"]["base"]
    parts = [
        f"# {metrics['name']}\n\nA LoRA on {base} that writes the path of a query and an item and grades it L1 to L4: "
        "supervised training in three steps, then reinforcement learning. It shows that the recipe of docs/training.md "
        "works, on a CPU; it is no judge for a shop: it has learnt the rulebook of this project on three small "
        "catalogues, in English, and `lore judge` with the rules judges better.",
        "```\nlore judge --model " + str(metrics["name"]) + ' --query "blue hoodie" --item ITEM --explain\n```',
        "\n".join(["## What it was trained on", "", *_data(metrics)]),
        "\n".join(["## Figures", "", *_figures(metrics["measured"])]).rstrip(),
        "## Learning curves\n\n![curves](curves.svg)",
        "\n".join(["## How it was trained", "", *_training(metrics)]),
    ]
    return "\n\n".join(parts) + "\n"


def _data(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield "Licences: " + ", ".join(f"{name} {licence}" for name, licence in metrics["licences"].items()) + "."
    yield "Split train alone was learned from, dev looked at. Made-up rows have the rulebook's labels, the others"
    yield "people's."
    yield ""
    yield from _table(
        ("set", "split", "rows", "with a chain", "queries"),
        [
            (r["set"], r["split"], f"{r['rows']:,}", f"{r['with_chain']:,}", f"{r['queries']:,}")
            for r in metrics["rows"]
        ],
    )


def _figures(measured: Mapping[str, Any]) -> Iterator[str]:
    if not measured:
        yield "Not measured yet."
    for part, found in measured.items():
        labels = ", ".join(f"L{i} {n}" for i, n in enumerate(found["labels"], 1))
        yield f"### {_PARTS.get(part, part)}"
        yield ""
        yield f"{found['n']} rows of {found['queries']} queries ({labels}), {found['samples']} answers each at "
        yield "temperature 1, and one greedy; 95 % intervals over queries."
        yield ""
        rows = [(name, *_cells(one["metrics"])) for name, one in found["models"].items()]
        yield from _table(("model", *_METRICS.values()), rows)
        yield ""
        deltas = [
            (name, *_cells(one["minus_the_one_before"], "+"))
            for name, one in found["models"].items()
            if "minus_the_one_before" in one
        ]
        if deltas:
            yield "Each minus the one before it:"
            yield ""
            yield from _table(("model", *_METRICS.values()), deltas)
            yield ""


def _cells(metrics: Mapping[str, Mapping[str, float | None]], sign: str = "") -> list[str]:
    return [_cell(metrics.get(name), sign + (".1f" if name == "tokens" else ".3f")) for name in _METRICS]


def _cell(found: Mapping[str, float | None] | None, form: str) -> str:
    if found is None or found["value"] is None:
        return "–"
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:{form}}"
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def _training(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield from _COMMANDS
    rows = []
    for depth, one in metrics["sft"]["stages"].items():
        rows.append((f"sft {depth}", one["steps"], f"{one['rows']:,}", f"{one['seconds']:,.0f}"))
    rl = metrics["rl"]
    rows.append(("rl", rl["steps"], f"{rl['rows']['kept']:,} to draw from", f"{rl['seconds']:,.0f}"))
    yield from _table(("stage", "steps", "rows", "seconds"), rows)
    for stage, settings in metrics["settings"].items():
        yield ""
        told = ", ".join(f"{name} {json.dumps(value)}" for name, value in settings.items() if not name.endswith("_sha"))
        yield f"Settings of {stage}: {told}."


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.ship_judge"))
