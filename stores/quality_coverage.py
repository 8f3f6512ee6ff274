"""How much is there: items with a value of each attribute, items that lack something, rows that failed and why.

Coverage is the share of items with a value, among those to which the attribute applies. It does not ask whether a
value is right.
"""

from __future__ import annotations

import pyarrow as pa

from stores.quality_counts import ALL, CATEGORY, NONE, STATUSES, Counts

__all__ = ["BY_CATEGORY", "coverage", "coverage_of", "failures", "gaps"]

# category and attribute, and each attribute over all categories in which it is asked or found
BY_CATEGORY = "GROUPING SETS ((category, name), (name))"
_EXAMPLES = 3
_RANKS = ", ".join(
    f"coalesce(sum(items) FILTER (rank = {i}), 0)::BIGINT AS {status}" for i, status in enumerate(STATUSES, 1)
)


def coverage_of(side: int) -> str:
    """The SELECT of coverage, a line per category and attribute; category `(all)` stands for every one.

    Columns: items of the category, `stated` of them with a value (`conflict` of these over sources that disagree),
    not_stated, not_applicable, failed, `silent` (no extractor said anything, not even that it is not stated); coverage;
    values per item and their mean confidence; whether the schema asks for it.
    """
    return f"""
        SELECT coalesce(category, '{ALL}') AS category, name AS attribute, sum(size)::BIGINT AS items,
            sum(value + conflict)::BIGINT AS stated,
            sum(value + conflict) / nullif(sum(size - not_applicable), 0) AS coverage,
            sum(not_stated)::BIGINT AS not_stated, sum(not_applicable)::BIGINT AS not_applicable,
            sum(conflict)::BIGINT AS conflict, sum(failed)::BIGINT AS failed,
            sum(size - value - conflict - not_stated - not_applicable - failed)::BIGINT AS silent,
            sum(n_values) / nullif(sum(value + conflict), 0) AS values_per_item,
            sum(confidence) / nullif(sum(n_confidence), 0) AS confidence, bool_or(asked) AS in_schema
        FROM (
            SELECT known.category, known.name, sizes.items AS size, asked.name IS NOT NULL AS asked,
                coalesce(value, 0) AS value, coalesce(conflict, 0) AS conflict, coalesce(failed, 0) AS failed,
                coalesce(not_stated, 0) AS not_stated, coalesce(not_applicable, 0) AS not_applicable,
                coalesce(n_values, 0) AS n_values, confidence, n_confidence
            FROM (SELECT category, name FROM asked UNION SELECT category, name FROM counted) known
            JOIN sizes ON sizes.category = known.category AND sizes.side = {side}
            LEFT JOIN asked ON asked.category = known.category AND asked.name = known.name
            LEFT JOIN (
                SELECT category, name, {_RANKS}, sum(n) FILTER (rank <= 2) AS n_values,
                    sum(confidence) FILTER (rank <= 2) AS confidence,
                    sum(n_confidence) FILTER (rank <= 2) AS n_confidence
                FROM counted WHERE side = {side} GROUP BY ALL
            ) found ON found.category = known.category AND found.name = known.name
        )
        GROUP BY {BY_CATEGORY}"""


def coverage(counts: Counts) -> pa.Table:
    """The lines of `coverage_of` of the snapshot, by category and attribute, `(all)` first."""
    return counts.ask(
        f"SELECT 'coverage' AS kind, * FROM ({coverage_of(0)}) ORDER BY category <> '{ALL}', category, attribute"
    )


def failures(counts: Counts) -> pa.Table:
    """Rows that failed, by extractor and reason, the commonest first: how many of how many, and ids of some items."""
    return counts.ask(
        f"""
        SELECT 'failure' AS kind, extractor, reason, sum(n)::BIGINT AS n, any_value(total) AS of,
            sum(n) / any_value(total) AS share,
            list_sort(flatten(list(examples)))[:{_EXAMPLES}] AS examples
        FROM (SELECT *, sum(n) OVER (PARTITION BY extractor)::BIGINT AS total FROM row_counts WHERE side = 0)
        WHERE status = 'failed' GROUP BY extractor, reason ORDER BY 4 DESC, extractor, reason"""
    )


def gaps(counts: Counts) -> pa.Table:
    """What items, queries and judgments lack, a line each with its number, of how many, and ids of some.

    Where categories were chosen only their items count, and queries and judgments are left out.
    """
    everything = counts.chosen == "TRUE"
    items = "items" if everything else f"(SELECT i.* FROM items i SEMI JOIN ({_verdicts(counts)}) USING (item_id))"
    lines = [
        _gap("items that could not be read", items, "status <> 'ok'", "item_id"),
        _gap("items without a picture", items, "status = 'ok' AND coalesce(len(images), 0) = 0", "item_id"),
        _gap("items without a price", items, "status = 'ok' AND price IS NULL", "item_id"),
        _gap("items without a description", items, "status = 'ok' AND trim(coalesce(description, '')) = ''", "item_id"),
        _gap("items without a vector", f"{items} {_WITHOUT_VECTOR}", "status = 'ok' AND bare", "item_id", held=True),
        _gap("items of no known category", f"({_verdicts(counts)})", f"category = '{NONE}'", "item_id"),
    ]
    if everything:
        lines += [
            _gap("items not extracted", f"items {_WITHOUT_VERDICT}", "status = 'ok' AND bare", "item_id", held=True),
            _gap("queries not read yet", f"queries {_WITHOUT_READING}", "bare", "query_id", held=True),
            _gap("queries that could not be read", "understood", "status = 'failed'", "query_id"),
            _gap(
                "queries without a demand", "understood", "status = 'ok' AND coalesce(len(demands), 0) = 0", "query_id"
            ),
            _gap("judgments that failed", "judgments", "status = 'failed'", "query_id || ' ' || item_id"),
        ]
    text = " UNION ALL ".join(f"SELECT {i} AS place, * FROM ({line})" for i, line in enumerate(lines))
    return counts.rows.run(
        f"SELECT 'gap' AS kind, what, n, of, n / nullif(of, 0) AS share, examples FROM ({text}) ORDER BY place"
    )


_WITHOUT_VECTOR = """LEFT JOIN (SELECT DISTINCT item_id AS held FROM embeddings WHERE status = 'ok')
    ON item_id = held"""
_WITHOUT_VERDICT = """LEFT JOIN (
    SELECT item_id AS held FROM rows.newest_attributes WHERE extractor = 'merge') ON item_id = held"""
_WITHOUT_READING = "LEFT JOIN (SELECT query_id AS held FROM understood) ON query_id = held"


def _verdicts(counts: Counts) -> str:
    verdicts = f"SELECT item_id, {CATEGORY} AS category FROM rows.newest_attributes WHERE extractor = 'merge'"
    return f"SELECT * FROM ({verdicts}) WHERE {counts.chosen}"


def _gap(what: str, source: str, lacking: str, key: str, held: bool = False) -> str:
    inner = f"SELECT *{', held IS NULL AS bare' if held else ''} FROM {source}"
    return f"""
        SELECT '{what}' AS what, count_if({lacking})::BIGINT AS n, count(*) AS of,
            min({key}, {_EXAMPLES}) FILTER ({lacking}) AS examples FROM ({inner})"""
