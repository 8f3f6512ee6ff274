"""`lore extract`: attributes of items from their text and pictures, by several extractors and a verdict over them.

One row of ATTRIBUTES for each extractor and one, `merge`, for the verdict; an item counts as its verdict does. An item
with a picture that cannot be read is failed and says so, and keeps what its text told. Which items are stale is decided
by content: the seller's row, the pictures' bytes, and the shas of the extractors. Of a stale item only those rows are
made again, and of a model's rows those attributes, that something has changed for; what stands is not written again.

A vision-language model is asked last, and only for what the gate does not hold for settled (`extractors.gate`). The
rows of extractors keep their own confidences, so that a calibration can be fitted on them again; the verdict has
calibrated ones. What a model was asked, and what that cost, stands in the column `usage` of its rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Unpack

import pyarrow as pa
import typer

from extractors.calibrate import Calibration, read_calibration
from extractors.cascade import extract_all
from extractors.gate import Gate
from extractors.merge import Merger
from extractors.protocol import Extraction, Extractor, ExtractorInput
from extractors.reuse import parts_read
from jobs.asked import Asked, spent_line
from jobs.carry import Carry
from jobs.described import described
from jobs.extraction_rows import NEEDED, VERDICT, extraction_row, verdict_row
from jobs.foresee import RowForecast
from jobs.foresee_items import foresee_items
from jobs.ingest import ingest_items
from jobs.item_input import ItemInput, LoadedItem, picture_settings
from jobs.item_to_extract import ItemToExtract, load_with_earlier, with_earlier
from jobs.open_extraction import OpenExtraction
from jobs.open_extractors import (
    DEFAULT,
    EXTRACTORS,
    VlmChoice,
    model_options,
)
from jobs.openers import opened
from jobs.options import (
    AllowHosts,
    AllowUrls,
    Ask,
    CalibrationFile,
    KnowledgeFolder,
    ModelOption,
    Prompt,
    StoreAddress,
    VlmAddress,
    listed,
    with_run_options,
)
from jobs.plan import Counts, read_runs
from jobs.run_options import RunOptions
from jobs.spine import run_job
from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError, ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import load_knowledge
from lore_mm.models import DEFAULT_CHAT, DEFAULT_EMBEDDER, Embedder
from lore_mm.models.chat import Usage
from lore_mm.rows import attributes_table
from lore_mm.schema import load_schemas
from stores.features import FeatureStore, open_store

__all__ = ["ExtractItems", "extract_items", "main"]

CALIBRATION = "calibration.json"  # in the store's folder: used where it is there and none is named
# Micro-batches at once where a model is asked: the next one's requests are in its queue while the last of one end.
IN_FLIGHT = 4


class ExtractItems(ItemInput):
    """Extractors over micro-batches of items (see `jobs.work.Work`)."""

    job, table = "extract_items", "attributes"
    verdict: Mapping[str, str] = {"extractor": VERDICT}

    def __init__(
        self,
        store: FeatureStore,
        extractors: Sequence[Extractor],
        merger: Merger,
        policy: PicturePolicy,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__(store, policy, with_pictures=any(e.needs_pictures for e in extractors))
        self.asks = any(e.name == "vlm" for e in extractors)
        self.extractors = [e if e.name == "vlm" else _OneAtATime(e) for e in extractors] if self.asks else extractors
        self.merger, self.gate, self.asked = merger, Gate(calibration), Asked()
        self.shas = {e.name: e.sha for e in extractors} | {merger.name: merger.sha}
        self.made_with = {e.name: described(e) for e in extractors} | {merger.name: described(merger)}
        made_with: dict[str, Any] = {"extractors": self.shas}
        made_with["pictures"] = picture_settings(policy) if self.with_pictures else None
        if self.asks or calibration:
            made_with["gate"] = self.gate.sha
        self.settings: Mapping[str, Any] = {
            **made_with,
            "allow_urls": policy.allow_urls,
            "allow_hosts": list(policy.allow_hosts),
        }
        self.settings_sha = sha_of(made_with)
        self._models = [chat.name for e in extractors if (chat := getattr(e, "chat", None)) is not None]
        self._carry: Carry | None = None

    def recall(self, version: int | None, retry_failed: bool) -> None:
        """Take over what stands at this version of ATTRIBUTES, as far as it may (see `jobs.work.Recalls`)."""
        self._carry = Carry(self.store, self.table, "item_id", NEEDED, version, retry_failed)

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The input shas, and an ItemToExtract a row."""
        return load_with_earlier(self, rows, self._carry)

    def process(self, rows: pa.Table, loaded: list[LoadedItem]) -> pa.Table:
        """Rows of ATTRIBUTES: for each item one an extractor that made something, in order, and last the verdict."""
        items = with_earlier(self, loaded, self._carry)
        inputs = [self._input(one) for one in items if one.error is None]
        found = iter(extract_all(inputs, self.extractors, self.merger, self.gate))
        made: list[dict[str, Any]] = []
        for one in items:
            extractions = {VERDICT: Extraction(status="failed", error=one.error)} if one.error else next(found)
            item_id = one.item.item_id
            new = {n: e for n, e in extractions.items() if n != VERDICT and not one.stands(n, e)}
            made += [extraction_row(item_id, name, e, self.shas[name]) for name, e in new.items()]
            made.append(verdict_row(one.looked_at(), extractions, one.content))
            self.asked.add(new.values())
        return attributes_table(made)

    def foresee(self, rows: pa.Table, same: Sequence[bool]) -> Iterator[RowForecast]:
        """What would be made of each row (see `jobs.foresee.Foresees`)."""
        assert self._carry is not None
        return foresee_items(self, rows, same, self._carry)

    def _input(self, one: ItemToExtract) -> ExtractorInput:
        look = partial(one.look, self.picture) if one.put_off else None
        return ExtractorInput(
            one.item, None, one.pictures, one.picture_errors, content=one.content, earlier=one.earlier, look=look
        )

    def spent(self) -> dict[str, Usage]:
        """What the model, of which there is at most one, was asked so far (see `jobs.budget`)."""
        return {name: self.asked.usage for name in self._models}

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Verdicts only, with nothing but the reason."""
        return attributes_table(
            extraction_row(item_id, VERDICT, Extraction(status="failed", error=error), "")
            for item_id in map(str, rows.column("item_id").to_pylist())
        )


class _OneAtATime:
    """An extractor that is called from one thread at a time; engines that are asked look after themselves."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor, self._lock = extractor, threading.Lock()
        self.name, self.needs_pictures, self.sha = extractor.name, extractor.needs_pictures, extractor.sha
        self.depends_on = parts_read(extractor)

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """As the extractor does."""
        with self._lock:
            return self._extractor.extract(inputs)


def extract_items(
    store: FeatureStore,
    *,
    extractors: Sequence[str] = DEFAULT,
    embedder: str | Embedder = DEFAULT_EMBEDDER,
    vlm: VlmChoice | None = None,
    calibration: Path | None = None,
    policy: PicturePolicy | None = None,
    schemas: Sequence[Path] = (),
    knowledge: Sequence[Path] = (),
    **options: Unpack[RunOptions],
) -> Counts:
    """Extract the attributes of a store's items; see `jobs.spine.run_job` for what is skipped and resumed.

    `vlm` names the model that is asked last; it is asked where `extractors` names it or this is given. `calibration` is
    what `lore calibrate` wrote; the store's own unless given, where there is one. `schemas` and `knowledge` are folders
    of the user's own files, laid over the shipped ones. `batch_rows`: 256, 64 where larger pictures are wanted
    (ocr, large models), or 4096 where none looks at pictures, unless given.

    Raises:
        ModelError: an engine is dead; what was committed stays, and the same call goes on behind it.
    """
    known = load_knowledge(tuple(knowledge))
    shapes = load_schemas(tuple(schemas))
    fitted = _calibration_of(store, calibration)
    names = [*extractors, "vlm"] if vlm else extractors
    asks = "vlm" in names
    how = OpenExtraction(
        *(store, tuple(names), embedder, vlm, fitted, policy or PicturePolicy(), shapes, known),
        threads=IN_FLIGHT if asks else 1,
        idle=bool(options.get("foresee")),
    )
    try:
        with opened(how, store, options) as it:
            _say_what_goes(store, it.facts["shas"])
            options["batch_rows"] = options.get("batch_rows") or it.facts["batch_rows"]
            asked: Asked | None = getattr(it.work, "asked", None) if asks else None
            note = asked.short if asked else None
            counts = run_job(store, it.work, in_flight=how.threads, note=note, elsewhere=it.elsewhere, **options)
            if asks:
                say(f"{it.work.job}: {asked.line() if asked else spent_line(it.work.spent())}")
    except ModelError as error:
        raise ModelError(f"{error}; what was done is kept: the same command goes on behind it") from error
    return counts


def _calibration_of(store: FeatureStore, named: Path | None) -> Calibration | None:
    """The calibration of a file, else the store's own, else none."""
    if named is not None:
        return read_calibration(named)
    own = store.folder / CALIBRATION if store.folder else None
    return read_calibration(own) if own and own.exists() else None


def _say_what_goes(store: FeatureStore, shas: Mapping[str, str]) -> None:
    """Warn where verdicts made by more extractors are about to be replaced; the older rows stay readable."""
    runs = [run for run in read_runs(store, ExtractItems.job) if run.finished_at is not None]
    before = set(runs[-1].plan.settings.get("extractors", ())) if runs else set()
    if gone := before - set(shas):
        say(f"the verdicts in this store were made with {', '.join(sorted(gone))} too; the new ones will do without")


@with_run_options(batch_rows="Rows a commit: what a crash can cost. 256, or 4096 without pictures, unless given.")
def main(
    catalogue: Annotated[Path | None, typer.Argument(help="A catalogue to ingest first; see `lore ingest`.")] = None,
    store: StoreAddress = None,
    extractors: Annotated[
        str, typer.Option(help=f"Which extractors, between commas, of: {', '.join(EXTRACTORS)}.")
    ] = ",".join(DEFAULT),
    embedder: Annotated[str, typer.Option(help="The model of zero_shot, by address.")] = DEFAULT_EMBEDDER,
    vlm: VlmAddress = None,
    ask: Ask = None,
    prompt: Prompt = None,
    model_option: ModelOption = None,
    calibration: CalibrationFile = None,
    allow_urls: AllowUrls = False,
    allow_host: AllowHosts = None,
    schemas: Annotated[Path | None, typer.Option(help="A folder of attribute schemas of your own.")] = None,
    knowledge: KnowledgeFolder = None,
    **options: Unpack[RunOptions],
) -> None:
    """Extract item attributes from text and pictures, into the store.

    Unchanged items are skipped; interrupted, the same command goes on where it stopped. Try --sample first.

    With --vlm a vision-language model is asked for what the others have not settled; `lore calibrate` fits what counts
    as settled.

    Example: lore extract catalogue/items.jsonl --sample 100

    Example: lore extract --vlm vllm:Qwen/Qwen3-VL-4B-Instruct --ask color,material,pattern
    """
    names = listed(extractors)
    asked = vlm or prompt or ask or model_option or "vlm" in names
    choice = VlmChoice(
        vlm or DEFAULT_CHAT, model_options(model_option or ()), prompt, tuple(listed(ask)) if ask else None
    )
    if catalogue is not None and options.get("foresee"):
        raise InputError("lore plan looks at what is in the store: ingest the catalogue first, by lore ingest PATH")
    opened = open_store(store or default_store(), create=catalogue is not None)
    if catalogue is not None:
        ingest_items(opened, catalogue)
    extract_items(
        opened,
        extractors=names,
        embedder=embedder,
        vlm=choice if asked else None,
        calibration=calibration,
        policy=PicturePolicy(allow_urls=allow_urls, allow_hosts=tuple(allow_host or ())),
        schemas=[schemas] if schemas else [],
        knowledge=[knowledge] if knowledge else [],
        **options,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.extract_items"))
