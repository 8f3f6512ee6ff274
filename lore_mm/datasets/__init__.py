"""Labelled data sets by their public formats: `open_dataset("luma:FOLDER")`.

luma:FOLDER        items.jsonl, attribute_schema.json, images/
implicitave:FOLDER items.csv, options_<domain>.json, images/
wdc_pave:PATH      a JSONL file of offers with target_scores, or a folder of such files
FILE               items as `lore ingest` reads them, with a column `truth`; or item_id, attribute, value beside a
                   catalogue
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from lore_mm.datasets.dataset import SPLITS, Dataset, Truth
from lore_mm.datasets.options import shipped_name
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge

__all__ = ["FORMATS", "SPLITS", "Dataset", "Truth", "open_dataset", "shipped_name"]

FORMATS: Mapping[str, str] = {
    "luma": "lore_mm.datasets.luma:read_luma",
    "implicitave": "lore_mm.datasets.implicitave:read_implicitave",
    "wdc_pave": "lore_mm.datasets.wdc_pave:read_wdc_pave",
}
_OWN = "lore_mm.datasets.own:read_own"


def open_dataset(address: str, knowledge: Knowledge | None = None) -> Dataset:
    """The data set of an address, `FORMAT:PATH` or the path of a file in the project's own format.

    Raises:
        InputError: an unknown format, a file that is missing, or a row or column that is wrong; it names them.
    """
    known = knowledge or load_knowledge()
    kind, colon, path = address.partition(":")
    if colon and kind not in FORMATS and not Path(address).exists():
        raise InputError(f"no data set format {kind!r}{nearest(kind, FORMATS)}; legal: {', '.join(FORMATS)}, or a file")
    if not colon or kind not in FORMATS:
        return _reader(_OWN)(Path(address), known)
    if not path:
        raise InputError(f"{address!r} names no path; such as: {kind}:PATH")
    return _reader(FORMATS[kind])(Path(path), known)


def _reader(place: str) -> Callable[[Path, Knowledge], Dataset]:
    module, function = place.split(":")
    reader: Callable[[Path, Knowledge], Dataset] = getattr(import_module(module), function)
    return reader
