"""Shopify's mappings between two versions of its taxonomy → a migration of ours.

Reads `dist/<language>/integrations/shopify/shopify_<from>_to_shopify_<to>.json` of Shopify/product-taxonomy (MIT):
rules from a kind to one kind or several. What has one successor moves; what has several, or none, or is decided by
values of attributes, which are given there by number, stays and is reported, until somebody writes a rule for it into
the migration file. The mappings name no attributes: those of the new version are in its schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lore_mm.errors import InputError

__all__ = ["read_moves"]

_THEIRS = "shopify/"


def read_moves(path: Path) -> dict[str, Any]:
    """A mapping file as the content of a migration file.

    Raises:
        InputError: it cannot be read, is not of the published form, or is about several pairs of versions.
    """
    try:
        mappings = json.loads(path.read_text(encoding="utf-8"))["mappings"]
        ours = [m for m in mappings if all(m[f"{side}_taxonomy"].startswith(_THEIRS) for side in ("input", "output"))]
        if len(ours) == 1:
            return _content(ours[0])
        pairs = ", ".join(f"{m['input_taxonomy']} to {m['output_taxonomy']}" for m in mappings[:8])
    except (KeyError, TypeError, AttributeError, ValueError, OSError, RecursionError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path}: not a mapping between versions in the published form ({said})") from None
    raise InputError(
        f"{path}: needs the mapping of one version of Shopify's taxonomy to another; it has: {pairs or '-'}"
    )


def _content(mapping: Mapping[str, Any]) -> dict[str, Any]:
    old, new = (mapping[f"{side}_taxonomy"].removeprefix(_THEIRS) for side in ("input", "output"))
    found: dict[str, dict[str, None]] = {}  # kind → its successors, in the order in which they are named
    undecided: set[str] = set()
    for rule in mapping["rules"]:
        kind = _bare(rule["input"]["category"]["id"])
        successors = [_bare(one["id"]) for one in (rule["output"] or {}).get("category") or ()]
        found.setdefault(kind, {}).update(dict.fromkeys(successors))
        if rule["input"].get("attributes"):
            undecided.add(kind)
    categories: dict[str, Any] = {}
    for kind, named in found.items():
        if list(named) != [kind]:
            several = kind in undecided or len(named) != 1
            categories[kind] = {"among": list(named)} if several else next(iter(named))
    if not categories:
        raise ValueError("no kind changes between these versions")
    return {
        "name": re.sub(r"[^\w.-]+", "-", f"shopify-{old}-to-{new}"),
        "title": f"Kinds of Shopify's product taxonomy, {old} to {new}",
        "from": f"shopify {old}",
        "to": f"shopify {new}",
        "categories": categories,
    }


def _bare(gid: str) -> str:
    if not isinstance(gid, str) or not gid:
        raise TypeError(f"an id is {gid!r}")
    return gid.rsplit("/", 1)[-1]
