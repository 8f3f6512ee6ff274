"""`lore online`: put a snapshot of a store where items are found by id in microseconds (`stores.online`).

`lore query ID` and the judge use the view by themselves as long as it is of the versions they read; later rows make it
old, and this command makes it new.
"""

from __future__ import annotations

import time

from jobs.options import StoreAddress
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, run, say
from stores.features import open_store
from stores.online import build_online

__all__ = ["main"]


def main(store: StoreAddress = None) -> None:
    """Build the online view of a store: items with their attributes, found by id in microseconds.

    Readers of the view before go on undisturbed. Run it after `lore extract`.

    Example: lore online --store .lore/store
    """
    began = time.perf_counter()
    view = build_online(open_store(store or default_store()))
    versions = ", ".join(f"{table} {version}" for table, version in view.versions.items())
    say(f"{len(view)} items online, of {versions}; {time.perf_counter() - began:.1f} s")
    if not for_people():
        print_json({"items": len(view), "versions": dict(view.versions)})


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.build_online"))
