"""`lore online`: put a snapshot of a store where items are found by id, and queries by text, in microseconds.

`lore query ID`, `lore understand --store` and the judge use the view (`stores.online`) by themselves as long as it is
of the versions they read; later rows make it old, and this command makes it new, by what those rows touched.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from jobs.options import StoreAddress
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, run, say
from lore_mm.errors import InputError
from stores.features import FeatureStore, open_store
from stores.online_check import SAMPLE, check_online
from stores.online_write import Made, refresh_online

__all__ = ["main"]


def main(
    store: StoreAddress = None,
    queries: Annotated[
        int | None,
        typer.Option(
            "--queries", min=0, help="Only the understandings of the N most frequent queries; all unless given."
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Build all of it, whatever the view before holds.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare every entry with the tables, and make nothing; exit code 1 where one differs."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON also where a person looks on.")] = False,
) -> None:
    """Make the online view of a store: items found by id, and queries understood by their text, in microseconds.

    Only what was written since the view before is looked at again; where that cannot be told, all of it. Counts and a
    sample by lot are compared with the tables before it is used, and readers of the view before go on undisturbed. Run
    it after `lore extract` and `lore understand-queries`.

    Example: lore online --queries 100000
    """
    if check and (anew or queries is not None):
        raise InputError("--check compares the view there is, and makes none: leave out --anew and --queries")
    opened = open_store(store or default_store())
    if check:
        _check(opened, as_json)
        return
    began = time.perf_counter()
    made = refresh_online(opened, queries=queries, anew=anew)
    view, took = made.view, time.perf_counter() - began
    versions = ", ".join(f"{table} {version}" for table, version in view.versions.items())
    say(f"{len(view):,} items and {view.queries:,} queries online, of {versions}; {took:.1f} s")
    say(_how(made))
    if not for_people(as_json):
        print_json(
            {
                "items": len(view),
                "queries": view.queries,
                "versions": dict(view.versions),
                "put": {kind: made.put.get(kind, 0) for kind in ("items", "queries")},
                "deleted": {kind: made.deleted.get(kind, 0) for kind in ("items", "queries")},
                "anew": made.anew,
            }
        )


def _how(made: Made) -> str:
    """In a line, what was done and how it was checked."""
    checked = f"counts and up to {SAMPLE:,} items and queries by lot agree with the tables"
    if made.anew is not None:
        return f"built anew: {made.anew}; {checked}"
    if made.unchanged:
        return "nothing was written since the view before: it stays"
    parts = [
        f"{kind}: {made.put.get(kind, 0):,} put, {made.deleted.get(kind, 0):,} deleted" for kind in ("items", "queries")
    ]
    return f"refreshed; {'; '.join(parts)}; {checked}"


def _check(store: FeatureStore, as_json: bool) -> None:
    began = time.perf_counter()
    checked = check_online(store)
    view = checked.view
    for line in checked.first:
        say(line)
    versions = ", ".join(f"{table} {version}" for table, version in view.versions.items())
    verdict = f"{checked.different:,} differ: run `lore online --anew`" if checked.different else "none differs"
    took = time.perf_counter() - began
    say(f"{len(view):,} items and {view.queries:,} queries compared with {versions}; {verdict}; {took:.1f} s")
    behind = {table for table, version in view.versions.items() if store.version(table) != version}
    if behind:
        say(f"the view is not of the present {' and '.join(sorted(behind))}: `lore online` makes it so")
    if not for_people(as_json):
        print_json(
            {
                "items": len(view),
                "queries": view.queries,
                "versions": dict(view.versions),
                "different": checked.different,
                "first": list(checked.first),
                "behind": sorted(behind),
            }
        )
    if checked.different:
        raise typer.Exit(1)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.build_online"))
