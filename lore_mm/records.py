"""The rows of a file, one at a time, each with its place in the file; memory stays flat however long the file is.

JSON lines, JSON, CSV, TSV (each also packed as .gz) and Parquet, from a path or a bucket. What makes a whole file
unreadable is an InputError naming the file, the place and the fault; so is a file that changes while it is read. This
module does not know what the columns mean.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from lore_mm.errors import InputError
from lore_mm.places import Place, State, open_bytes, pinned, place_of

__all__ = ["ENDINGS", "Record", "Records", "kind_of", "open_records"]

Record = tuple[int, dict[str, Any]]  # (line or row in the file, from 1; column → value)

_LONGEST_LINE = 16 * 1024 * 1024  # bytes; also the longest field of a CSV file
_LARGEST_JSON = 256 * 1024 * 1024  # bytes; a .json file is held whole
_PARQUET_ROWS = 1024
_PARQUET_AHEAD = 64 * 1024  # bytes; its reader asks for what it needs in large pieces
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Records:
    """A file that can be read again and again. Iterating reads it from the start.

    `unit` is what places count, "line" or "row". `textual`: every value is text (CSV), so that numbers and lists are
    still to be parsed. `header`: the columns, where the file names them once; None where each row names its own.
    """

    path: Path | Place
    unit: str
    textual: bool
    header: tuple[str, ...] | None
    rows: Callable[[], Iterator[Record]]
    state: State | None = None  # of the file when it was opened; None of a folder

    def __iter__(self) -> Iterator[Record]:
        self._check_unchanged()
        try:
            yield from self.rows()
        except InputError:
            self._check_unchanged()  # half of one file and half of another: that is then the fault
            raise
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if self.state is None:
            return
        try:
            now = pinned(self.path)[1]
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read any more ({error.strerror})") from None
        if now != self.state:
            raise InputError(
                f"{self.path}: it changed while it was read; once nothing writes to it, run the same command again"
            )

    def where(self, place: int, column: str | None = None) -> str:
        """The beginning of an error about a row: "FILE, line 7, column 'price'"."""
        return f"{self.path}, {self.unit} {place}" + (f", column {column!r}" if column else "")


def open_records(path: Path | Place) -> Records:
    """Open a file by its ending.

    Raises:
        InputError: there is no such file, it is empty, of another kind, or its header cannot be read. Iterating raises
            it for what is wrong further down.
    """
    path = place_of(path)
    try:
        if not path.is_file():
            raise InputError(f"{path}: " + ("a folder, not a file" if path.is_dir() else "no such file"))
        path, state = pinned(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if ending not in _OPENERS or (packed and ending == ".parquet"):
        hint = "; save the sheet as CSV (UTF-8)" if ending in (".xlsx", ".xls", ".ods") else ""
        raise InputError(f"{path}: files ending in {path.suffix!r} are not read; legal: {', '.join(ENDINGS)}{hint}")
    if state.size == 0:
        raise InputError(f"{path}: the file is empty")
    return replace(_OPENERS[ending](path), state=state)


def kind_of(value: object) -> str:
    """What a value is, in words for an error: "a number", "an object" …"""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        ((int, float, Decimal), "a number"),
        (str, "text"),
        (dict, "an object"),
        ((list, tuple), "a list"),
        (type(None), "null"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), type(value).__name__)


@contextmanager
def _open_bytes(path: Path | Place) -> Iterator[IO[bytes]]:
    with open_bytes(path) as file:
        if path.suffix.lower() == ".gz":
            with gzip.open(file, "rb") as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield file


def _lines(path: Path | Place) -> Generator[tuple[int, str], None, None]:
    """The lines of a UTF-8 file with their numbers, each with its end as it stands; a byte-order mark is dropped."""
    offset = 0
    with _open_bytes(path) as file:
        number = 0
        while True:
            number += 1
            try:
                raw = file.readline(_LONGEST_LINE + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"{path}, line {number}: cannot be unpacked or read ({error})") from None
            if not raw:
                return
            if len(raw) > _LONGEST_LINE:
                raise InputError(f"{path}, line {number}: longer than {_LONGEST_LINE:,} bytes")
            yield number, _decode(raw, f"{path}, line {number}", offset)
            offset += len(raw)


def _decode(raw: bytes, where: str, offset: int = 0) -> str:
    """UTF-8 to text; `offset` is where `raw` starts in its file."""
    if offset == 0 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{where}: this is UTF-16, not UTF-8; save the file as UTF-8")
    skipped = len(_BOM) if offset == 0 and raw.startswith(_BOM) else 0
    try:
        return raw[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + skipped + error.start
        byte = raw[skipped + error.start]
        raise InputError(f"{where}: not UTF-8 (byte 0x{byte:02x} at offset {at:,}); save the file as UTF-8") from None


def _json_value(text: str, where: str, lines_too: bool = False) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, character {error.colno}" if lines_too else f"character {error.colno}"
        raise InputError(f"{where}: not JSON ({error.msg} at {at})") from None
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{where}: not JSON that can be read ({str(error).split(';')[0]})") from None


def _open_jsonl(path: Path | Place) -> Records:
    def rows() -> Iterator[Record]:
        with closing(_lines(path)) as lines:
            for number, text in lines:
                if not text.strip():
                    continue
                value = _json_value(text.rstrip(), f"{path}, line {number}")
                if not isinstance(value, dict):
                    raise InputError(f"{path}, line {number}: not a JSON object but {kind_of(value)}")
                yield number, value

    return Records(path, "line", False, None, rows)


def _open_json(path: Path | Place) -> Records:
    with _open_bytes(path) as file:
        try:
            data = file.read(_LARGEST_JSON + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked or read ({error})") from None
    if len(data) > _LARGEST_JSON:
        raise InputError(f"{path}: larger than {_LARGEST_JSON:,} bytes; save it as JSON lines (.jsonl)")
    values = _json_value(_decode(data, str(path)), str(path), lines_too=True)
    if not isinstance(values, list):
        raise InputError(f"{path}: not a JSON list of objects but {kind_of(values)}")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise InputError(f"{path}, row {number}: not a JSON object but {kind_of(value)}")
    return Records(path, "row", False, None, lambda: iter(enumerate(values, 1)))


def _open_separated(separator: str) -> Callable[[Path | Place], Records]:
    def open_it(path: Path | Place) -> Records:
        with closing(_separated(path, separator)) as found:
            header = next(found, (0, []))[1]
        names = tuple(name.strip() for name in header)
        if not any(names):
            raise InputError(f"{path}: the first line must name the columns")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path}, line 1: column {twice!r} is named twice")

        def rows() -> Iterator[Record]:
            with closing(_separated(path, separator)) as found:
                next(found, None)
                for number, cells in found:
                    if len(cells) != len(names):
                        raise InputError(f"{path}, line {number}: {len(cells)} fields, the header has {len(names)}")
                    yield number, {name: cell or None for name, cell in zip(names, cells, strict=True)}

        return Records(path, "line", True, names, rows)

    return open_it


def _separated(path: Path | Place, separator: str) -> Generator[tuple[int, list[str]], None, None]:
    """(first line of the row, its fields); blank lines are left out."""
    # The csv module knows one limit for the whole process, and its default is smaller than texts that do occur.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_LINE))
    with closing(_lines(path)) as lines:
        reader = csv.reader((text for _, text in lines), delimiter=separator, strict=True)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                name, said = ("TSV" if separator == "\t" else "CSV"), str(error).replace("\t", "\\t")
                if "new-line character" in said:  # the csv module's own words are for programmers
                    said = "a carriage return ends no line; save the file with line ends LF or CRLF"
                raise InputError(f"{path}, line {first}: not {name} ({said})") from None
            if cells is None:
                return
            if cells:
                yield first, cells


@contextmanager
def _parquet(path: Path | Place) -> Iterator[Any]:
    """What its reader takes: of a file its path, which is read without Python."""
    if isinstance(path, Path):
        yield path
        return
    with open_bytes(path, _PARQUET_AHEAD) as file:
        yield file


def _open_parquet(path: Path | Place) -> Records:
    try:
        with _parquet(path) as source:
            names = tuple(pq.read_schema(source).names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({_first_line(error)})") from None
    if len(set(names)) < len(names):
        raise InputError(f"{path}: column {next(n for n in names if names.count(n) > 1)!r} is there twice")

    def rows() -> Iterator[Record]:
        number = 0
        try:
            with _parquet(path) as source, pq.ParquetFile(source) as file:
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, after row {number}: text that is not UTF-8 ({error.reason})") from None
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two: dates beyond Python's
            raise InputError(f"{path}, after row {number}: cannot be read ({_first_line(error)})") from None

    return Records(path, "row", False, names, rows)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_OPENERS: dict[str, Callable[[Path | Place], Records]] = {
    ".jsonl": _open_jsonl,
    ".ndjson": _open_jsonl,
    ".json": _open_json,
    ".csv": _open_separated(","),
    ".tsv": _open_separated("\t"),
    ".parquet": _open_parquet,
}
ENDINGS = (*_OPENERS, *(f"{ending}.gz" for ending in _OPENERS if ending != ".parquet"))
