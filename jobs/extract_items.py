"""`lore extract`: attributes of items from their text and pictures, by several extractors and a verdict over them.

One row of ATTRIBUTES for each extractor and one, `merge`, for the verdict; an item counts as its verdict does. An item
with a picture that cannot be read is failed and says so, and keeps what its text told. Which items are stale is decided
by content: the seller's row, the pictures' bytes, and the shas of the extractors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from extractors.cascade import extract_all
from extractors.merge import Merger
from extractors.protocol import Extraction, Extractor, ExtractorInput
from jobs.ingest import ingest_items
from jobs.item_input import ItemInput, LoadedItem, picture_settings
from jobs.options import (
    AllowHosts,
    AllowUrls,
    KnowledgeFolder,
    Limit,
    MaybeBatchRows,
    NewRun,
    RetryFailed,
    Sample,
    StoreAddress,
)
from jobs.plan import Counts, read_runs
from jobs.spine import run_job
from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError, MissingExtraError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER, Embedder, open_embedder
from lore_mm.rows import attributes_table
from lore_mm.schema import Schemas, load_schemas
from lore_mm.types import Provenance
from stores.features import FeatureStore, open_store

__all__ = ["EXTRACTORS", "ExtractItems", "extract_items", "main", "open_extractors"]

EXTRACTORS = ("given", "palette", "zero_shot")
# Items a commit. Two micro-batches of decoded pictures are held at once, at most 0.8 MB a picture; commits of few rows
# make many files, which every reader pays for.
BATCH_ROWS, BATCH_ROWS_TEXT = 256, 4096


class ExtractItems(ItemInput):
    """Extractors over micro-batches of items (see `jobs.spine.Work`)."""

    job, table = "extract_items", "attributes"
    verdict: Mapping[str, str] = {"extractor": "merge"}

    def __init__(
        self, store: FeatureStore, extractors: Sequence[Extractor], merger: Merger, policy: PicturePolicy
    ) -> None:
        super().__init__(store, policy, with_pictures=any(e.needs_pictures for e in extractors))
        self.extractors = list(extractors)
        self.merger = merger
        self.shas = {e.name: e.sha for e in extractors} | {merger.name: merger.sha}
        made_with = {"extractors": self.shas, "pictures": picture_settings(policy) if self.with_pictures else None}
        self.settings: Mapping[str, Any] = {
            **made_with,
            "allow_urls": policy.allow_urls,
            "allow_hosts": list(policy.allow_hosts),
        }
        self.settings_sha = sha_of(made_with)

    def process(self, rows: pa.Table, loaded: list[LoadedItem]) -> pa.Table:
        """Rows of ATTRIBUTES: for each item one an extractor, in the order they ran, and last the verdict."""
        usable = [one for one in loaded if one.error is None]
        inputs = [ExtractorInput(i.item, None, i.pictures, i.picture_errors) for i in usable]
        found = iter(extract_all(inputs, self.extractors, self.merger))
        made: list[dict[str, Any]] = []
        for one in loaded:
            extractions = {"merge": Extraction(status="failed", error=one.error)} if one.error else next(found)
            item_id = one.item.item_id
            made += [_row(item_id, name, e, self.shas[name]) for name, e in extractions.items() if name != "merge"]
            made.append(_verdict(one, extractions))
        return attributes_table(made)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Verdicts only, with nothing but the reason."""
        return attributes_table(
            _row(item_id, "merge", Extraction(status="failed", error=error), "")
            for item_id in map(str, rows.column("item_id").to_pylist())
        )


def _row(item_id: str, name: str, extraction: Extraction, settings_sha: str) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "extractor": name,
        "category": extraction.category,
        "attributes": extraction.attributes,
        "status": extraction.status,
        "error": extraction.error,
        "provenance": Provenance(maker=name, settings_sha=settings_sha),
    }


def _verdict(one: LoadedItem, extractions: Mapping[str, Extraction]) -> dict[str, Any]:
    """The row of the merger: failed where a picture could not be read too, with each reason once."""
    verdict = extractions["merge"]
    failures = {n: e.error or "failed" for n, e in extractions.items() if e.status == "failed" and n != "merge"}
    said, of_pictures = verdict.error, "; ".join(dict.fromkeys(e for e in one.picture_errors if e))
    if said == "; ".join(f"{name}: {error}" for name, error in failures.items()):  # else the merger itself failed
        said = "; ".join(f"{name}: {error}" for name, error in failures.items() if error != of_pictures)
    faults = [fault for fault in (one.picture_fault, said) if fault]
    failed = verdict.status == "failed" or one.picture_fault is not None
    row = _row(one.item.item_id, "merge", verdict, "")
    return {**row, "status": "failed" if failed else "ok", "error": "; ".join(faults) if failed else None}


def open_extractors(
    names: Sequence[str], embedder: str | Embedder, knowledge: Knowledge, schemas: Schemas
) -> list[Extractor]:
    """The extractors of these names, in the order they run; the embedder is opened only where one needs it.

    Raises:
        InputError: an unknown name.
        ModelError, MissingExtraError: the embedder cannot be opened.
    """
    for name in names:
        if name not in EXTRACTORS:
            raise InputError(f"no extractor {name!r}{nearest(name, EXTRACTORS)}; legal: {', '.join(EXTRACTORS)}")
    found: list[Extractor] = []
    if "given" in names:
        from extractors.given import Given

        found.append(Given(knowledge, schemas))
    if "palette" in names:
        from extractors.palette import Palette

        found.append(Palette(knowledge))
    if "zero_shot" in names:
        from extractors.zero_shot import ZeroShot

        try:
            model = open_embedder(embedder) if isinstance(embedder, str) else embedder
        except MissingExtraError as error:
            without = ",".join(name for name in EXTRACTORS if name in names and name != "zero_shot")
            if without:
                error.args = (f"{error}; or go without zero_shot: --extractors {without}",)
            raise
        found.append(ZeroShot(model, schemas, knowledge))
    if not found:
        raise InputError(f"no extractors named; legal: {', '.join(EXTRACTORS)}")
    return found


def extract_items(
    store: FeatureStore,
    *,
    extractors: Sequence[str] = EXTRACTORS,
    embedder: str | Embedder = DEFAULT_EMBEDDER,
    policy: PicturePolicy | None = None,
    schemas: Sequence[Path] = (),
    knowledge: Sequence[Path] = (),
    batch_rows: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    retry_failed: bool = False,
    new_run: bool = False,
) -> Counts:
    """Extract the attributes of a store's items; see `jobs.spine.run_job` for what is skipped and resumed.

    `schemas` and `knowledge` are folders of the user's own files, laid over the shipped ones. `batch_rows`: 256, or
    4096 where no extractor looks at pictures, unless given.
    """
    known = load_knowledge(tuple(knowledge))
    shapes = load_schemas(tuple(schemas))
    opened = open_extractors(extractors, embedder, known, shapes)
    work = ExtractItems(store, opened, Merger(known, shapes), policy or PicturePolicy())
    _say_what_goes(store, work)
    return run_job(
        store,
        work,
        batch_rows=batch_rows or (BATCH_ROWS if work.with_pictures else BATCH_ROWS_TEXT),
        limit=limit,
        sample=sample,
        retry_failed=retry_failed,
        new_run=new_run,
    )


def _say_what_goes(store: FeatureStore, work: ExtractItems) -> None:
    """Warn where verdicts made by more extractors are about to be replaced; the older rows stay readable."""
    runs = [run for run in read_runs(store, work.job) if run.finished_at is not None]
    before = set(runs[-1].plan.settings.get("extractors", ())) if runs else set()
    if gone := before - set(work.shas):
        say(f"the verdicts in this store were made with {', '.join(sorted(gone))} too; the new ones will do without")


def main(
    catalogue: Annotated[Path | None, typer.Argument(help="A catalogue to ingest first; see `lore ingest`.")] = None,
    store: StoreAddress = None,
    extractors: Annotated[str, typer.Option(help="Which extractors, between commas.")] = ",".join(EXTRACTORS),
    embedder: Annotated[str, typer.Option(help="The model of zero_shot, by address.")] = DEFAULT_EMBEDDER,
    batch_rows: MaybeBatchRows = None,
    limit: Limit = None,
    sample: Sample = None,
    retry_failed: RetryFailed = False,
    new_run: NewRun = False,
    allow_urls: AllowUrls = False,
    allow_host: AllowHosts = None,
    schemas: Annotated[Path | None, typer.Option(help="A folder of attribute schemas of your own.")] = None,
    knowledge: KnowledgeFolder = None,
) -> None:
    """Extract item attributes from text and pictures, into the store.

    Unchanged items are skipped; interrupted, the same command goes on where it stopped. Try --sample first.

    Example: lore extract catalogue/items.jsonl --sample 100
    """
    opened = open_store(store or default_store(), create=catalogue is not None)
    if catalogue is not None:
        ingest_items(opened, catalogue)
    extract_items(
        opened,
        extractors=[name.strip() for name in extractors.split(",") if name.strip()],
        embedder=embedder,
        policy=PicturePolicy(allow_urls=allow_urls, allow_hosts=tuple(allow_host or ())),
        schemas=[schemas] if schemas else [],
        knowledge=[knowledge] if knowledge else [],
        batch_rows=batch_rows,
        limit=limit,
        sample=sample,
        retry_failed=retry_failed,
        new_run=new_run,
    )


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.extract_items"))
