"""Where a value comes from: its evidence, who made it, in which run, with which model, prompt and schema, from what.

The verdict first, then each extractor that it was merged from, which agrees with it, differs, is silent or failed (or,
where there is no verdict, found something), then the seller's own field. What the rows and the run
do not tell, such as those of an earlier version, is named in the column `unknown`; what is empty and not named there
does not exist: an extractor that reads words has no model. This module reads rows and runs, and opens no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from lore_mm.errors import InputError, nearest
from lore_mm.tables import EVIDENCE, SHAS
from stores.features import FeatureStore
from stores.history import SELLER
from stores.rows_of import newest_of, rows_of
from stores.said import ABSENT, NEEDED, Said, Statement, meaning, said_in, statement_in
from stores.why import HUMAN, VERDICT, is_migrated

__all__ = ["LINEAGE", "lineage_of"]

_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("item_id", pa.string()),
    ("attribute", pa.string()),
    ("extractor", pa.string()),
    ("role", pa.string()),  # verdict | agrees | differs | found | silent | failed | seller | migrated from
    ("value", pa.string()),
    ("status", pa.string()),
    ("number", pa.float64()),
    ("unit", pa.string()),
    ("share", pa.float64()),
    ("confidence", pa.float64()),
    ("error", pa.string()),
    ("evidence", pa.list_(EVIDENCE)),
    ("made_at", pa.timestamp("us", tz="UTC")),
    ("since", pa.timestamp("us", tz="UTC")),  # the first of the rows before it, one after the other, that said the same
    ("since_run_id", pa.string()),
    ("maker", pa.string()),
    ("run_id", pa.string()),
    ("job", pa.string()),
    ("started_at", pa.timestamp("us", tz="UTC")),
    ("command", pa.string()),  # what started the run
    ("model", pa.string()),
    ("model_sha", pa.string()),
    ("prompt", pa.string()),
    ("prompt_sha", pa.string()),
    ("schema_sha", pa.string()),
    ("knowledge_sha", pa.string()),
    ("calibration_sha", pa.string()),
    ("decoding", pa.string()),  # JSON
    ("settings_sha", pa.string()),
    ("question_sha", pa.string()),  # of the question that this value answers
    ("input_sha", pa.string()),
    ("made_from", SHAS),  # part of the input → its sha
    ("calls", pa.int64()),  # of the whole row, not of this attribute alone
    ("prompt_tokens", pa.int64()),
    ("completion_tokens", pa.int64()),
    ("unknown", pa.list_(pa.string())),  # which of these columns nobody noted
]
LINEAGE = pa.schema(_COLUMNS)
_OF_MAKER = ("model", "model_sha", "prompt", "prompt_sha", "schema_sha", "knowledge_sha", "calibration_sha")
_OF_RUN = ("job", "started_at", "command")
_READ = (*NEEDED["attributes"], "usage", "asked_with")
_SAME_NUMBER = 0.01  # relative; as near as that, two numbers are one value, as for the verdict
Row = Mapping[str, Any]


def lineage_of(store: FeatureStore, versions: Mapping[str, int], item_id: str, attribute: str) -> pa.Table:
    """What stands of one attribute or field of an item at these versions, traced to its makers. Columns: LINEAGE.

    One row a value. Below one that a migration wrote stands what it was written over. Empty where there is no such
    item.

    Raises:
        InputError: nobody says anything of such an attribute; the text names the nearest.
    """
    ever, said = _rows(store, versions, "attributes", item_id, _READ)
    ever_sold, seller = _rows(store, versions, "items", item_id, NEEDED["items"])
    names = {name for _, says in [*said, *seller] for name in says}
    if not (said or seller):
        return LINEAGE.empty_table()
    fields = [name for name in (attribute, f"given.{attribute}") if any(name in says for _, says in seller)]
    if attribute not in names and not fields:
        raise InputError(
            f"nobody says anything of {attribute!r} of item {item_id!r}{nearest(attribute, names) or ';'}"
            f" there are: {', '.join(sorted(names))}"
        )
    told: list[dict[str, Any]] = []
    if any(attribute in says for _, says in said):
        told += _attribute(said, attribute, ever)
    for row, says in seller:
        for name in fields:
            since = _since("items", ever_sold, row, name)
            told += [_line(row, SELLER, name, "seller", value) | since for value in says[name]]
    runs = _runs(store, versions, {str(line["run_id"]) for line in told if line["run_id"]})
    for line in told:
        _trace(line, runs.get(line["run_id"]))
    lines = [{k: v for k, v in line.items() if k in LINEAGE.names} | {"item_id": item_id} for line in told]
    return pa.Table.from_pylist(lines, schema=LINEAGE)


def _rows(
    store: FeatureStore, versions: Mapping[str, int], table: str, item_id: str, columns: Sequence[str]
) -> tuple[list[Row], list[tuple[Row, dict[str, Statement]]]]:
    """All rows of an item in order of time, and those that stand with what they say."""
    if table not in versions:
        return [], []
    rows = rows_of(store, table, [item_id], columns, versions[table])
    standing = newest_of(rows, table).to_pylist()
    return sorted(rows.to_pylist(), key=_made_at), [(row, said_in(table, row)) for row in standing]


def _since(table: str, ever: Sequence[Row], row: Row, name: str) -> dict[str, Any]:
    """When the last statement on a name began, where that was before this row."""
    first, last = row, None
    for one in ever:
        if one.get("extractor") == row.get("extractor"):
            said = meaning(statement_in(table, one, name, said_in(table, one)))
            first, last = (first, last) if said == last else (one, said)
    if _made_at(first) >= _made_at(row):
        return {}
    made = first["provenance"] or {}
    return {"since": made.get("made_at"), "since_run_id": made.get("run_id")}


def _attribute(
    said: Sequence[tuple[Row, dict[str, Statement]]], name: str, ever: Sequence[Row]
) -> Iterator[dict[str, Any]]:
    """The verdict, and then who speaks of the attribute or failed, in the order of their rows."""
    verdict: Statement | None = None
    for row, says in sorted(said, key=lambda one: one[0]["extractor"] != VERDICT):
        who = row["extractor"]
        statement = statement_in("attributes", row, name, says)
        if who == VERDICT:
            verdict = statement
        if not statement and who != VERDICT:
            continue
        since = _since("attributes", ever, row, name)
        for value in statement or (Said(None, ABSENT),):
            yield _line(row, who, name, _role(who, value, verdict), value) | since
        if is_migrated(row["provenance"]):
            yield from _rewritten(row, name, says, ever)


def _rewritten(row: Row, name: str, says: Mapping[str, Statement], ever: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """What stood in the place of an attribute before migrations rewrote the row, by the last row that none had made;
    of one that has another name now, all that the row does not speak of any more.
    """
    earlier = [
        one
        for one in ever
        if one["extractor"] == row["extractor"]
        and not is_migrated(one["provenance"])
        and _made_at(one) <= _made_at(row)
    ]
    if earlier:
        last = max(earlier, key=_made_at)
        then = said_in("attributes", last)
        for was in [name] if name in then else [one for one in then if one not in says]:
            for value in then[was]:
                yield _line(last, row["extractor"], was, "migrated from", value)


def _made_at(row: Row) -> float:
    made = (row["provenance"] or {}).get("made_at")
    return made.timestamp() if made is not None else float("-inf")


def _role(who: str, value: Said, verdict: Statement | None) -> str:
    if who == VERDICT:
        return "verdict"
    if value.value is None:
        return "failed" if value.status == "failed" else "silent"
    if verdict is None:
        return "found"
    return "agrees" if any(_same(value, one) for one in verdict) else "differs"


def _same(one: Said, other: Said) -> bool:
    if one.number is not None and other.number is not None and one.unit == other.unit:
        return abs(one.number - other.number) <= _SAME_NUMBER * max(abs(one.number), abs(other.number))
    return (one.value or "").casefold() == (other.value or "").casefold()


def _line(row: Row, who: str, name: str, role: str, value: Said) -> dict[str, Any]:
    """What the row itself tells; `row` stays with it for what the run adds."""
    made, usage = row["provenance"] or {}, row.get("usage") or {}
    asked = {pair["name"]: pair["sha"] for pair in row.get("asked_with") or ()}
    return {
        "row": row,
        "attribute": name,
        "extractor": who,
        "role": role,
        **value._asdict(),
        "error": value.error or (row["error"] if row["status"] == "failed" else None),
        "evidence": _evidence(row, name, value) if who != SELLER else None,
        **{key: made.get(key) or None for key in ("made_at", "maker", "run_id", "input_sha", "settings_sha")},
        "question_sha": asked.get(name),
        "made_from": row.get("made_from"),
        **{key: usage.get(key) for key in ("calls", "prompt_tokens", "completion_tokens")},
    }


def _evidence(row: Row, name: str, value: Said) -> list[dict[str, Any]]:
    values = (a for a in row["attributes"] or () if a["name"] == name and a["value"] == value.value)
    return [evidence for one in values for evidence in one["evidence"] or ()]


def _runs(store: FeatureStore, versions: Mapping[str, int], ids: set[str]) -> dict[str, dict[str, Any]]:
    """What is known of each run: job, started_at, command, and of each of its makers what it was."""
    if "runs" not in versions or not ids:
        return {}
    found: dict[str, dict[str, Any]] = {}
    columns = ("run_id", "job", "event", "settings", "at")
    for row in rows_of(store, "runs", ids, columns, versions["runs"]).to_pylist():
        if row["event"] == "started" or row["run_id"] not in found:
            known = _json(row["settings"])
            found[row["run_id"]] = {
                "job": row["job"],
                "started_at": row["at"],
                "command": known.get("command"),
                "made_with": known.get("made_with") or {},
            }
    return found


def _json(text: str | None) -> dict[str, Any]:
    try:
        known = json.loads(text or "{}")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _trace(line: dict[str, Any], run: Mapping[str, Any] | None) -> None:
    """Add what the run tells of the maker, and name what nobody does."""
    row, who = line["row"], line["extractor"]
    unknown = [key for key in ("made_at", "run_id", "input_sha", "settings_sha") if not line[key]]
    unknown += [key for key in _OF_RUN if run is None or not run[key]]
    line |= {key: run[key] for key in _OF_RUN} if run else {}
    by_model = who not in (SELLER, HUMAN) and not is_migrated(row["provenance"])
    if by_model:
        made = (run["made_with"] if run else {}).get(who)
        if made is None:
            unknown += [*_OF_MAKER, "decoding"]
        else:
            line |= {key: made.get(key) for key in _OF_MAKER}
            line["decoding"] = json.dumps(made["decoding"]) if made.get("decoding") else None
        asks = bool(made.get("prompt_sha")) if made is not None else who == "vlm"
        if asks and not row.get("asked_with"):
            unknown.append("question_sha")
        if asks and not row.get("usage"):
            unknown += ["calls", "prompt_tokens", "completion_tokens"]
        if not row.get("made_from"):
            unknown.append("made_from")
    line["unknown"] = unknown
