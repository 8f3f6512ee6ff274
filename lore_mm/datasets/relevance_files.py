"""Files of relevance data as they are published, row by row: columns checked at the door, errors naming file and row.

Public sets hold tab-separated text in files called .csv, and Latin-1; large Parquet files of which only few columns and
rows are wanted. This module knows no data set.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lore_mm.errors import InputError, nearest
from lore_mm.records import open_records

__all__ = ["Row", "check_header", "parquet_rows", "plain_rows", "separated_rows", "the_file"]

Row = tuple[str, dict[str, Any]]  # (where it stands, for errors; column → value)
_LONGEST_FIELD = 16 * 1024 * 1024  # characters
_BATCH = 4096


def the_file(folder: Path, *names: str) -> Path:
    """The first of these files that a folder holds.

    Raises:
        InputError: there is no such folder, or it holds none of them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: " + ("a file, not a folder" if folder.exists() else "no such folder"))
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: holds no {' or '.join(names)}")


def check_header(path: Path, have: Iterable[str], need: Iterable[str]) -> None:
    """Check that a file has the columns that are needed; more are let be.

    Raises:
        InputError: naming the file, the missing column, and what is there.
    """
    there = list(have)
    for name in need:
        if name not in there:
            raise InputError(
                f"{path}: no column {name!r}{nearest(name, there)}; needed: {', '.join(need)}; "
                f"there: {', '.join(map(str, there))[:300]}"
            )


def plain_rows(path: Path, need: Collection[str]) -> Iterator[Row]:
    """The rows of a file by its ending (see `lore_mm.records`), each with the columns that are needed.

    Raises:
        InputError: it cannot be read, or a column is missing.
    """
    records = open_records(path)
    if records.header is not None:
        check_header(path, records.header, need)
    empty = True
    for place, row in records:
        if records.header is None:
            for name in need:
                if name not in row:
                    raise InputError(f"{records.where(place)}: no column {name!r}; needed: {', '.join(need)}")
        empty = False
        yield records.where(place), row
    if empty:
        raise InputError(f"{path}: no rows")


def separated_rows(path: Path, separator: str, need: Collection[str]) -> Iterator[Row]:
    """The rows of a text file with a header, in UTF-8, or where it is not that, in Latin-1; blank cells are None.

    Raises:
        InputError: there is no such file, a column is missing, a row has another number of fields, or there are none.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    with path.open(encoding=_encoding(path), newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        try:
            names = [name.strip() for name in next(reader, [])]
            check_header(path, names, need)
            empty = True
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise InputError(f"{where}: {len(cells)} fields, the header has {len(names)}")
                empty = False
                yield where, {name: cell.strip() or None for name, cell in zip(names, cells, strict=True)}
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: cannot be read ({error})") from None
    if empty:
        raise InputError(f"{path}: no rows")


def _encoding(path: Path) -> str:
    """UTF-8 where all of the file is that, else Latin-1, in which any bytes are text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            while file.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def parquet_rows(
    path: Path,
    need: Collection[str],
    more: Collection[str] = (),
    only: Mapping[str, Collection[Any]] | None = None,
    opened: IO[bytes] | None = None,
) -> Iterator[Row]:
    """The rows of a Parquet file whose columns have one of the values of `only`; `more` columns may be missing.

    Nothing else of the file is read: what is left out costs no memory. `opened` is the file where it does not lie on
    this machine; `path` is then only its name.

    Raises:
        InputError: it cannot be read, or a column is missing.
    """
    if opened is None and not path.is_file():
        raise InputError(f"{path}: no such file")
    seen = 0
    try:
        with pq.ParquetFile(path if opened is None else opened) as file:
            names = file.schema_arrow.names
            check_header(path, names, need)
            columns = [*need, *(name for name in more if name in names and name not in need)]
            types = {name: file.schema_arrow.field(name).type for name in only or {}}
            legal = {name: pa.array(list(values)).cast(types[name]) for name, values in (only or {}).items()}
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                mask = pa.array([True] * batch.num_rows)
                for name, values in legal.items():
                    mask = pc.and_(mask, pc.is_in(batch.column(name), value_set=values))
                places = [i for i, kept in enumerate(mask.to_pylist()) if kept]
                for place, row in zip(places, batch.take(pa.array(places, pa.int64())).to_pylist(), strict=True):
                    yield f"{path}, row {seen + place + 1}", row
                seen += batch.num_rows
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after row {seen}: text that is not UTF-8 ({error.reason})") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0][:200]})") from None
    if not seen:
        raise InputError(f"{path}: no rows")
