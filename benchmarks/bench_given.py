"""How true is what `given` reads in titles and descriptions alone: precision and coverage against shops' own fields.

    python benchmarks/bench_given.py --luma FOLDER      # material, audience and pattern of sportswear
    python benchmarks/bench_given.py --icecat FILE      # brands of electronics, from titles

The fields hold the truth and are never fed in. Precision is over items where something was read: every value read must
be true (a wider or narrower word for a true one is). Coverage is the share of items with a true field where
something was read. Intervals are Wilson's at 95 %. Luma's fields were made up independently of its texts, so that even
a perfect reader stays below 1 there.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.given import Given
from extractors.protocol import ExtractorInput
from lore_mm.attribute import fold
from lore_mm.console import command_app, print_json, run, say
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import Item

# Luma's words for what the tables know by another name; its trade names (CoolTech …) nobody could read.
MATERIALS = {"lycra": "elastane", "tencel": "lyocell"}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) for n = 0."""
    if n == 0:
        return (0.0, 1.0)
    z, p = 1.959964, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))


def show(name: str, right: int, spoke: int, n: int) -> None:
    """One JSON line: precision with its interval, and coverage."""
    low, high = (round(x, 3) for x in wilson(right, spoke))
    value = round(right / spoke, 3) if spoke else None
    print_json(
        {"measure": name, "precision": value, "low": low, "high": high, "spoke": spoke, "coverage": round(spoke / n, 3)}
    )


def same_stuff(one: str, other: str, knowledge: Knowledge) -> bool:
    """True for a material and itself, or its umbrella word."""
    first, second = knowledge.materials.get(one), knowledge.materials.get(other)
    return one == other or bool(first and other in first.umbrella) or bool(second and one in second.umbrella)


def bench_luma(folder: Path, given: Given) -> None:
    """Material, audience and pattern, one colour of each garment."""
    rows = {}
    for row in map(json.loads, (folder / "items.jsonl").read_text("utf-8").splitlines()):
        rows.setdefault(row["parent"], row)
    some = list(rows.values())
    found = given.extract([ExtractorInput(Item(r["item_id"], r["title"], r["description"])) for r in some])
    knowledge = given.knowledge

    def truth(row: dict[str, Any], name: str) -> set[str]:
        if name == "audience":
            return {row["gender"].lower()} if row["gender"] else set()
        words = [
            fold(w.replace("&reg;", "").replace("®", "").replace("-", " ")) for w in row["attributes"].get(name) or ()
        ]
        words = [MATERIALS.get(w, w) for w in words]
        known = knowledge.materials if name == "material" else {fold(v): v for (d, v) in knowledge.terms}
        return {w for w in words if w in known}

    tests: dict[str, Callable[[str, set[str]], bool]] = {
        "material": lambda said, true: any(same_stuff(said, t, knowledge) for t in true),
        "audience": lambda said, true: said in true or said not in ("men", "women", "boys", "girls", "kids", "unisex"),
        "pattern": lambda said, true: fold(said.replace("-", " ")) in true,
    }
    for name, right in tests.items():
        counts = [0, 0, 0, 0, 0]
        for row, extraction in zip(some, found, strict=True):
            true = truth(row, name)
            said = [a.value or "" for a in extraction.attributes if a.name == name]
            if true:
                ok = [right(value, true) for value in said]
                counts = [
                    counts[0] + (bool(ok) and all(ok)),
                    counts[1] + bool(ok),
                    counts[2] + 1,
                    counts[3] + sum(ok),
                    counts[4] + len(ok),
                ]
        show(f"luma: {name}, items with nothing false", counts[0], counts[1], counts[2])
        show(f"luma: {name}, values", counts[3], counts[4], max(counts[2], counts[4]))


def bench_icecat(file: Path, given: Given, n: int, seed: int) -> None:
    """Brands of a seeded sample, from titles alone."""
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["title", "supplier"]).to_pylist()
    rows = random.Random(seed).sample([r for r in table if r["title"] and r["supplier"]], n)
    found = given.extract([ExtractorInput(Item(str(i), r["title"])) for i, r in enumerate(rows)])
    right = spoke = 0
    for row, extraction in zip(rows, found, strict=True):
        said = [_letters(a.value or "") for a in extraction.attributes if a.name == "brand"]
        true = _letters(row["supplier"])
        spoke += bool(said)
        right += bool(said) and all(s in true or true in s for s in said)
    show(f"icecat: brand from the title, {n} products, seed {seed}", right, spoke, n)


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def main(
    luma: Annotated[Path | None, typer.Option(help="The folder of the Luma data.")] = None,
    icecat: Annotated[Path | None, typer.Option(help="products.parquet of the Icecat data.")] = None,
    n: Annotated[int, typer.Option(help="How many products of Icecat.")] = 300,
    seed: Annotated[int, typer.Option(help="Which products of Icecat.")] = 3,
) -> None:
    """Precision and coverage of `given`, as JSON lines.

    Example: bench_given --luma data/luma
    """
    given = Given(load_knowledge(), load_schemas())
    if luma:
        bench_luma(luma, given)
    if icecat:
        bench_icecat(icecat, given, n, seed)
    if not (luma or icecat):
        say("nothing to measure on: name --luma FOLDER or --icecat FILE")


if __name__ == "__main__":
    run(command_app(main, "bench_given"))
