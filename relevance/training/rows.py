"""The rows that a judge is trained on: a pair as it is told, its label, and the chain that leads there.

One row a pair. The chain stands in three columns, one a step (`relevance.chain`), so that a curriculum takes the same
rows at another depth; think tags and the line of the grade are put around it when it is asked for. `reference` is the
path of the rules on the same pair, whatever wrote the chain: what rewards hold a chain against.

Files are Parquet. Rows that failed say why and are taught to nobody. This module knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset as pads

from lore_mm.errors import InputError, TableError
from lore_mm.tables import CHAINS, check_table
from lore_mm.types import Grade, Judgment, Provenance, RowStatus
from relevance.chain import CLOSE, DEPTHS, OPEN, Chain, Depth, Order, chain_of, read_chain, write_chain

__all__ = [
    "SPLITS",
    "ChainRow",
    "Split",
    "chain_at",
    "chains_table",
    "completion",
    "depths_of",
    "has_chain",
    "leg_lines",
    "messages",
    "read_chains",
    "reference",
]

# dev is for looking while training; queries are held-out queries of known kinds, categories are kinds held out whole
Split = Literal["train", "dev", "queries", "categories"]
SPLITS: tuple[Split, ...] = ("train", "dev", "queries", "categories")
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One pair to learn from. `label` is its level, by people or by the rules.

    `changed`: the dimension on which a pair was spoilt to make it a negative. `category`: the kind that the query asks
    for. `system`, `prompt`: the turns as a model is told them; `item_told` is the part of the prompt that tells of the
    item. `knowledge`, `multimodal`, `rules`, `reference`: lines of legs. `samples` were asked of the teacher, `right`
    of them had the label; `hinted`: it was told the label.
    """

    query_id: str
    item_id: str
    query: str
    label: int  # 1–4
    set: str = ""
    label_by: Literal["people", "rules"] = "rules"
    changed: str = ""
    category: str = ""
    split: Split = "train"
    system: str = ""
    prompt: str = ""
    item_told: str = ""
    pictures: tuple[str, ...] = ()
    picture_root: str | None = None
    knowledge: str = ""
    multimodal: str = ""
    rules: str = ""
    failed: tuple[str, ...] = ()
    reference: str = ""
    teacher: str = "rules"
    teacher_sha: str = ""
    samples: int = 1
    right: int = 1
    hinted: bool = False
    status: RowStatus = "ok"
    error: str | None = None
    provenance: Provenance = field(default_factory=Provenance)


def leg_lines(chain: Chain) -> str:
    """The lines of a chain's legs, without tags and grade; empty for a chain without legs."""
    lines = write_chain(chain).split("\n")
    return "\n".join(lines[1:-2] if chain.order == "think_first" else lines[2:-1])


def has_chain(row: ChainRow) -> bool:
    """Whether there is anything to learn by heart, and not only a label."""
    return row.status == "ok" and bool(row.rules)


def messages(row: ChainRow) -> list[dict[str, str]]:
    """The conversation before the answer: the system's turn and the user's."""
    return [{"role": "system", "content": row.system}, {"role": "user", "content": row.prompt}]


def completion(row: ChainRow, depth: Depth = "rules", order: Order = "think_first", cite: bool = False) -> str:
    """The answer that is taught: the chain at this depth, and the label as its grade.

    Raises:
        ValueError: the row has no chain.
        InputError: its lines cannot be read.
    """
    if not has_chain(row):
        raise ValueError(f"{row.query_id} – {row.item_id}: a row without a chain has nothing to complete")
    chain = chain_at(row, depth)
    legs = chain.legs if cite else tuple(replace(leg, rule_id=None) for leg in chain.legs)
    return write_chain(replace(chain, legs=legs, order=order))


def chain_at(row: ChainRow, depth: Depth = "rules") -> Chain:
    """The row's chain at a depth.

    Raises:
        InputError: its lines cannot be read.
    """
    said = write_chain(Chain(Grade(row.label), failed=row.failed)).rpartition("\n")[2]
    return read_chain(f"{OPEN}\n{getattr(row, depth)}\n{CLOSE}\n{said}")


def reference(row: ChainRow) -> Chain:
    """The rules' own path on the pair; without legs where there is none. Its grade is the worst of its legs.

    Raises:
        InputError: its lines cannot be read.
    """
    if not row.reference:
        return Chain(Grade(row.label))
    read = read_chain(f"{OPEN}\n{row.reference}\n{CLOSE}\ngrade L1")
    levels = [leg.level for leg in read.legs if leg.level is not None]
    bad = dict.fromkeys(leg.demand.dimension for leg in read.legs if leg.level is not None and leg.level <= Grade.L2)
    return Chain(min(levels), read.legs, tuple(bad))


# --------------------------------------------------------------------------------------------------------------- tables


def depths_of(judgment: Judgment) -> dict[Depth, str]:
    """The lines of a judgment's legs at every depth, with their rules cited.

    Raises:
        ValueError: the judgment has no grade or no path.
    """
    return {depth: leg_lines(chain_of(judgment, depth)) for depth in DEPTHS}


def chains_table(rows: Sequence[ChainRow]) -> pa.Table:
    """The rows as a table of the schema CHAINS."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=CHAINS)


def read_chains(path: Path | str) -> list[ChainRow]:
    """The rows of a Parquet file or a folder of them, failed ones included, in their order.

    Raises:
        InputError: the file cannot be read or has other columns, or naming the file, row and column of a bad value.
    """
    return list(_rows(Path(path)))


def _rows(path: Path) -> Iterator[ChainRow]:
    if not path.exists():
        raise InputError(f"{path}: no such file; `lore synthesize` makes one")
    try:
        found = pads.dataset(path, format="parquet")
        place = 0
        for part in found.to_batches(batch_size=_AT_ONCE):
            table = pa.Table.from_batches([part])
            check_table(table, CHAINS, str(path))
            for row in table.to_pylist():
                yield _row(row, f"{path}, row {place}")
                place += 1
    except (pa.ArrowInvalid, OSError, TableError) as error:
        raise InputError(f"{path}: {error}") from None


def _row(raw: dict[str, Any], where: str) -> ChainRow:
    if raw["label"] not in (1, 2, 3, 4):
        raise InputError(f"{where}, column 'label': {raw['label']} is no level; legal: 1 to 4")
    for name, legal in (("split", SPLITS), ("label_by", ("people", "rules")), ("status", ("ok", "failed"))):
        if raw[name] not in legal:
            raise InputError(f"{where}, column {name!r}: {raw[name]!r} is not legal; legal: {', '.join(legal)}")
    given = {one.name: raw[one.name] for one in fields(ChainRow)}
    made = {name: value for name, value in (raw["provenance"] or {}).items() if name != "made_at" and value is not None}
    given |= {
        "pictures": tuple(raw["pictures"] or ()),
        "failed": tuple(raw["failed"] or ()),
        "provenance": Provenance(**made),
    }
    return ChainRow(**given)
