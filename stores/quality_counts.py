"""What one pass over a snapshot's verdicts counts: the ground on which every question of `stores.quality` is answered.

The counts of one or two snapshots stand side by side in a database of their own, in memory as far as it goes and then
in a folder for temporary files, so that the stores are read once however much is asked. Which of an item's values
belong together is told inside its row: nothing is sorted or joined by item. It draws no conclusions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import duckdb
import pyarrow as pa

from lore_mm.errors import StoreError
from lore_mm.knowledge import Knowledge
from lore_mm.schema import MAX_TEXT, AttributeSpec, Schemas
from stores.snapshot import Snapshot
from stores.spill import spill_folder
from stores.views import Views, quoted
from stores.waiting import Waiting

__all__ = ["ALL", "CATEGORY", "LONGEST_VALUE", "NONE", "STATUSES", "Counts", "Rows"]

ALL, NONE = "(all)", "(none)"  # in the place of a category: all of them, and of items without one
STATUSES = ("conflict", "value", "failed", "not_stated", "not_applicable")  # the first that an item has is the item's
LONGEST_VALUE = MAX_TEXT + 1  # characters by which values are told apart; one that has them all is too long
_LONGEST_NAME = 80
_BATCH = 65_536

CATEGORY = f"coalesce(left(category, {_LONGEST_NAME}), '{NONE}')"
_MENTION = f"""{{
    'name': coalesce(left(a.name, {_LONGEST_NAME}), ''),
    'rank': coalesce(list_position({list(STATUSES)}, a.status), {len(STATUSES) + 1}),
    'value': left(a.value, {LONGEST_VALUE}),
    'number': a.number,
    'unit': left(a.unit, {_LONGEST_NAME}),
    'confidence': CASE WHEN isfinite(a.confidence) THEN a.confidence END
}}"""
# the mentions of an item sorted by name and status: the first of each name stands for the item, twins are left out
_COUNTED = f"""
    SELECT category, m.name AS name, m.rank AS rank, m.value AS value, m.number AS number, m.unit AS unit,
        count(*) AS n, count_if(leads) AS items, sum(m.confidence) AS confidence, count(m.confidence) AS n_confidence,
        min(item_id) AS example
    FROM (
        SELECT category, item_id, unnest(sorted) AS m,
            unnest(list_transform(sorted, lambda x, i: i = 1 OR sorted[i - 1].name <> x.name)) AS leads,
            unnest(list_transform(sorted, lambda x, i:
                i > 1 AND sorted[i - 1].name = x.name AND sorted[i - 1].value IS NOT DISTINCT FROM x.value
                AND sorted[i - 1].number IS NOT DISTINCT FROM x.number AND sorted[i - 1].rank = x.rank)) AS twin
        FROM (
            SELECT {CATEGORY} AS category, item_id,
                list_sort(list_transform(list_filter(attributes, lambda a: a IS NOT NULL), lambda a: {_MENTION}))
                AS sorted
            FROM rows.newest_attributes WHERE extractor = 'merge'
        )
        WHERE {{chosen}}
    )
    WHERE NOT twin AND {{named}} GROUP BY ALL"""
# errors that differ only in names, paths and numbers are one reason
_REASON = """left(regexp_replace(regexp_replace(regexp_replace(coalesce(error, 'no reason was kept'),
    '''[^'']*''|"[^"]*"', '…', 'g'), '(^|[^A-Za-z0-9])/[^\\s:]+', '\\1…', 'g'), '[0-9][0-9,.]*', '#', 'g'), 120)"""
_ROWS_OF = f"""
    SELECT * FROM (
        SELECT extractor, {CATEGORY} AS category, status, CASE WHEN status = 'failed' THEN {_REASON} END AS reason,
            count(*) AS n, min(item_id, 3) AS examples
        FROM rows.newest_attributes GROUP BY ALL)
    WHERE {{chosen}}"""
_TABLES = """
    CREATE TABLE counted (side TINYINT, category VARCHAR, name VARCHAR, rank BIGINT, value VARCHAR, number DOUBLE,
        unit VARCHAR, n BIGINT, items BIGINT, confidence DOUBLE, n_confidence BIGINT, example VARCHAR);
    CREATE TABLE row_counts (side TINYINT, extractor VARCHAR, category VARCHAR, status VARCHAR, reason VARCHAR,
        n BIGINT, examples VARCHAR[]);
    CREATE TABLE asked (category VARCHAR, name VARCHAR, spec VARCHAR);
    CREATE TABLE specs (spec VARCHAR, type VARCHAR, unit VARCHAR, minimum DOUBLE, maximum DOUBLE);
    CREATE TABLE legal (spec VARCHAR, value VARCHAR)"""


class Rows(Views):
    """The views of a snapshot, and its verdicts item by item, read a batch at a time."""

    def reader(self, text: str) -> tuple[pa.RecordBatchReader, Callable[[], None]]:
        """The answer to a statement of this project's own over `rows.newest_attributes`, and what interrupts it."""
        self._define({"attributes"})
        cursor = self._connection.cursor()
        return cursor.sql(text).to_arrow_reader(_BATCH), cursor.interrupt


class Counts:
    """The counts of a snapshot (side 0) and of one to compare it with (side 1), behind one connection.

    Attributes:
        rows: the views of side 0, for questions that counts do not answer.
        compared: whether there is a side 1.
        chosen: a condition on `category` in SQL, of the categories that were asked for; `TRUE` for all.
        named: the same on `name`, for the attributes.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        against: Snapshot | None = None,
        categories: Sequence[str] | None = None,
        attributes: Sequence[str] | None = None,
    ) -> None:
        # the views have memory of their own beside it
        settings = {"memory_limit": "25%", "temp_directory": str(spill_folder(self))}
        self._connection = duckdb.connect(config={"python_enable_replacements": "false", **settings})
        self._waiting = Waiting()
        self.chosen, self.named = _is_among("category", categories), _is_among("name", attributes)
        self._connection.execute(_TABLES)
        self._sides = [Rows(s.store, s.versions) for s in (snapshot, against) if s is not None]
        self.rows, self.compared = self._sides[0], against is not None
        for side in range(len(self._sides)):
            self._count(side)
        sizes = "SELECT side, category, sum(n)::BIGINT AS items FROM row_counts WHERE extractor = 'merge' GROUP BY ALL"
        self.do(f"CREATE TABLE sizes AS {sizes}")

    def expect(self, schemas: Schemas, knowledge: Knowledge) -> None:
        """Note what the schema asks of each category that was counted, and which values it allows."""
        categories = [
            str(c) for c in self.ask("SELECT DISTINCT category FROM sizes ORDER BY 1")["category"].to_pylist()
        ]
        specs: dict[str, AttributeSpec] = {}
        asked: list[tuple[str, str, str]] = []
        for category in categories:
            for spec in schemas.for_category(None if category == NONE else category, knowledge).specs.values():
                specs[spec.sha] = spec
                asked.append((category, spec.name, spec.sha))
        self.fill("asked", asked)
        self.fill("specs", [(sha, s.type, s.unit, s.minimum, s.maximum) for sha, s in specs.items()])
        self.fill("legal", [(sha, v) for sha, s in specs.items() if s.type == "choice" for v in s.values])
        self.do(f"DELETE FROM asked WHERE NOT ({self.named})")

    def ask(self, text: str) -> pa.Table:
        """The answer to a question about the counts."""
        cursor = self._connection.cursor()
        table: pa.Table = self._waiting.do(lambda: cursor.sql(text).to_arrow_table(), cursor.interrupt)
        return table

    def do(self, text: str) -> None:
        """Run a statement on the counts' database that has no answer."""
        cursor = self._connection.cursor()
        self._waiting.do(lambda: cursor.execute(text).fetchall(), cursor.interrupt)

    def fill(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Put rows into one of the tables."""
        if rows:
            shape = self.ask(f"SELECT * FROM {table} LIMIT 0").schema
            columns = zip(*rows, strict=True)
            arrow = pa.table([pa.array(c, f.type) for c, f in zip(columns, shape, strict=True)], schema=shape)
            cursor = self._connection.cursor()
            cursor.register("incoming", arrow)
            cursor.execute(f"INSERT INTO {table} SELECT * FROM incoming").fetchall()
            cursor.unregister("incoming")

    def take(self, table: str, text: str, side: int | None = None) -> None:
        """Put the answer to a question to the snapshot into one of the tables, a batch at a time; `side` before it.

        Raises:
            StoreError: the snapshot cannot be read.
        """
        rows = self._sides[side or 0]
        try:
            self._insert(table, f"SELECT {'' if side is None else f'{side}::TINYINT, '}* FROM incoming", rows, text)
        except (duckdb.Error, RuntimeError) as error:
            raise StoreError(f"cannot count what is in the store: {' '.join(str(error).split())[:300]}") from None

    def _count(self, side: int) -> None:
        what: Mapping[str, str] = {"counted": _COUNTED, "row_counts": _ROWS_OF}
        for table, text in what.items():
            self.take(table, text.replace("{chosen}", self.chosen).replace("{named}", self.named), side)

    def _insert(self, table: str, select: str, rows: Rows, text: str) -> None:
        cursor = self._connection.cursor()
        stops = [cursor.interrupt]

        def work() -> None:
            reader, stop = rows.reader(text)
            stops.append(stop)
            cursor.register("incoming", reader)
            cursor.execute(f"INSERT INTO {table} {select}").fetchall()
            cursor.unregister("incoming")

        def interrupt() -> None:
            for stop in stops:
                stop()

        self._waiting.do(work, interrupt)


def _is_among(column: str, names: Iterable[str] | None) -> str:
    if names is None:
        return "TRUE"
    return f"{column} IN ({', '.join(quoted(name[:_LONGEST_NAME]) for name in names) or 'NULL'})"
