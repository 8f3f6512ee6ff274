"""`lore online`: put a snapshot of a store where items are found by id, and queries by text, in microseconds.

`lore query ID`, `lore understand --store` and the judge use the view (`stores.online`) by themselves as long as it is
of the versions they read; later rows make it old, and this command makes it new.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from jobs.options import StoreAddress
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, run, say
from stores.features import open_store
from stores.online import build_online

__all__ = ["main"]


def main(
    store: StoreAddress = None,
    queries: Annotated[
        int | None,
        typer.Option(
            "--queries", min=0, help="Only the understandings of the N most frequent queries; all unless given."
        ),
    ] = None,
) -> None:
    """Build the online view of a store: items found by id, and queries understood by their text, in microseconds.

    Readers of the view before go on undisturbed. Run it after `lore extract` and `lore understand-queries`.

    Example: lore online --queries 100000
    """
    began = time.perf_counter()
    view = build_online(open_store(store or default_store()), queries=queries)
    versions = ", ".join(f"{table} {version}" for table, version in view.versions.items())
    say(f"{len(view)} items and {view.queries} queries online, of {versions}; {time.perf_counter() - began:.1f} s")
    if not for_people():
        print_json({"items": len(view), "queries": view.queries, "versions": dict(view.versions)})


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.build_online"))
