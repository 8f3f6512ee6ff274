"""Where sources speak of the same attribute of an item: whether they say the same, and whom the verdict follows.

Two extractors agree where a value of the one is a value of the other, by words without case, hyphens and spaces, or by
numbers of one unit that differ by no more than a hundredth. One of them may say more than the other ("shoe", "running
shoe"), which is told apart from saying otherwise. It does not know who is right: that takes labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from lore_mm.knowledge import Knowledge
from stores.quality_counts import ALL, CATEGORY, LONGEST_VALUE, Counts

__all__ = ["MOST_ITEMS", "conflicts", "count_claims", "looked_at"]

MOST_ITEMS = 200_000  # of more, so many are looked at, evenly chosen: memory and time stay what they are for these
_SAME = 0.01  # relative difference of numbers that are the same, as in the merge
_EXAMPLES = 3
_WORDS = r"lower(trim(regexp_replace(nfc_normalize({}), '[\s\-_/]+', ' ', 'g')))"
_SAID = f"""
    SELECT item_id, extractor, {CATEGORY} AS category,
        list_transform(
            list_filter(attributes, lambda a: a.status IN ('value', 'conflict') AND a.value IS NOT NULL),
            lambda a: {{
                'name': coalesce(left(a.name, 80), ''), 'value': left(a.value, {LONGEST_VALUE}),
                'words': {_WORDS.format(f"left(a.value, {LONGEST_VALUE})")},
                'number': a.number, 'unit': coalesce(a.unit, ''),
                'confidence': CASE WHEN isfinite(a.confidence) THEN a.confidence END
            }}) AS said
    FROM rows.newest_attributes WHERE hash(item_id) % {{every}} = 0"""


def _same(one: str, other: str) -> str:
    """Whether two lists of what is said have something in common."""
    words = f"list_has_any(list_transform({one}, lambda x: x.words), list_transform({other}, lambda x: x.words))"
    numbers = f"""len(list_filter({one}, lambda x: len(list_filter({other}, lambda y: x.unit = y.unit
        AND abs(x.number - y.number) <= {_SAME} * greatest(abs(x.number), abs(y.number)))) > 0)) > 0"""
    bare = f"len(list_filter({one}, lambda x: x.number IS NOT NULL)) = 0"
    return f"CASE WHEN {words} THEN TRUE WHEN {bare} THEN FALSE ELSE {numbers} END"


def _shown(said: str) -> str:
    return f"left(list_aggregate(list_sort(list_transform({said}, lambda x: x.value)), 'string_agg', ', '), 200)"


def _mean(said: str) -> str:
    return f"list_avg(list_transform({said}, lambda x: x.confidence))"


_CLAIMS = f"""
    WITH said AS ({_SAID}), met AS (
        SELECT one.item_id AS item_id, coalesce(verdict.category, one.category) AS category,
            one.extractor AS one, other.extractor AS other, one.said AS s1, other.said AS s2, verdict.said AS v,
            unnest(list_intersect(list_transform(one.said, lambda x: x.name),
                list_transform(other.said, lambda x: x.name))) AS name
        FROM said one JOIN said other ON one.item_id = other.item_id AND one.extractor < other.extractor
        LEFT JOIN said verdict ON verdict.item_id = one.item_id AND verdict.extractor = 'merge'
        WHERE one.extractor <> 'merge' AND other.extractor <> 'merge'
    ), about AS (
        SELECT item_id, category, name, one, other, list_filter(s1, lambda x: x.name = name) AS s1,
            list_filter(s2, lambda x: x.name = name) AS s2,
            list_filter(coalesce(v, []), lambda x: x.name = name) AS v
        FROM met WHERE {{chosen}} AND {{named}}
    ), told AS (
        SELECT *, {_same("s1", "s2")} AS agreed, {_mean("s1")} AS confidence_one, {_mean("s2")} AS confidence_other
        FROM about
    )
    SELECT category, name, one, other, agreed, CASE WHEN NOT agreed THEN {_shown("s1")} END AS said_one,
        CASE WHEN NOT agreed THEN {_shown("s2")} END AS said_other, count(*) AS n,
        count_if(CASE WHEN NOT agreed THEN {_same("v", "s1")} AND NOT {_same("v", "s2")} END) AS follows_one,
        count_if(CASE WHEN NOT agreed THEN {_same("v", "s2")} AND NOT {_same("v", "s1")} END) AS follows_other,
        sum(confidence_one) AS confidence_one, sum(confidence_other) AS confidence_other, min(item_id) AS example
    FROM told GROUP BY ALL"""
_TABLES = """
    CREATE OR REPLACE TABLE claims (category VARCHAR, name VARCHAR, one VARCHAR, other VARCHAR, agreed BOOLEAN,
        said_one VARCHAR, said_other VARCHAR, n BIGINT, follows_one BIGINT, follows_other BIGINT,
        confidence_one DOUBLE, confidence_other DOUBLE, example VARCHAR);
    CREATE OR REPLACE TABLE broader (broad VARCHAR, narrow VARCHAR)"""


def looked_at(counts: Counts) -> int:
    """One in how many items the extractors are compared on: 1 up to `MOST_ITEMS`."""
    n = counts.ask("SELECT coalesce(sum(items), 0)::BIGINT AS n FROM sizes WHERE side = 0")["n"][0].as_py()
    return max(1, -(-int(n) // MOST_ITEMS))


def count_claims(counts: Counts, knowledge: Knowledge) -> None:
    """Count, in one pass over all extractors' rows, where two of them spoke of the same attribute of an item.

    Raises:
        StoreError: the table cannot be read.
    """
    text = _CLAIMS.replace("{every}", str(looked_at(counts)))
    counts.do(_TABLES)
    counts.take("claims", text.replace("{chosen}", counts.chosen).replace("{named}", counts.named))
    counts.fill("broader", sorted(set(_broader(knowledge))))


def _broader(knowledge: Knowledge) -> Iterator[tuple[str, str]]:
    """Values and what includes them, as the knowledge tables have it."""
    for category in knowledge.categories:
        yield from ((wide, category) for wide in knowledge.ancestors(category))
    for name, material in knowledge.materials.items():
        yield from ((wide, name) for wide in material.umbrella)
    for name, color in knowledge.colors.items():
        if color.family != name:
            yield color.family, name
    for term in knowledge.terms.values():
        yield from ((term.value, narrow) for narrow in term.covers)


def conflicts(counts: Counts) -> pa.Table:
    """For each attribute and two extractors: how often both spoke, agreed, said more or less, or said otherwise.

    A line per category, `(all)` first, the most disagreement first. Of the disagreements: how many the verdict decided
    for the one, the other, or neither alone; mean confidences; and the commonest with an item that shows it.
    """
    return counts.ask(
        f"""
        WITH apart AS (
            SELECT said_one, said_other, a, unnest(string_split(said_other, ', ')) AS b FROM (
                SELECT said_one, said_other, unnest(string_split(said_one, ', ')) AS a
                FROM (SELECT DISTINCT said_one, said_other FROM claims WHERE NOT agreed))
        ), akin AS (
            SELECT DISTINCT said_one, said_other
            FROM apart JOIN (FROM broader UNION SELECT narrow, broad FROM broader) w ON w.broad = a AND w.narrow = b
        ), related AS (
            SELECT c.*, akin.said_one IS NOT NULL AS wider FROM claims c LEFT JOIN akin
                ON c.said_one = akin.said_one AND c.said_other = akin.said_other
        ), by_words AS (
            SELECT coalesce(category, '{ALL}') AS category, name, one, other, agreed, wider, said_one, said_other,
                sum(n)::BIGINT AS n, sum(follows_one)::BIGINT AS follows_one,
                sum(follows_other)::BIGINT AS follows_other, sum(confidence_one) AS confidence_one,
                sum(confidence_other) AS confidence_other, min(example) AS example
            FROM related GROUP BY GROUPING SETS
                ((category, name, one, other, agreed, wider, said_one, said_other),
                (name, one, other, agreed, wider, said_one, said_other))
        ), ranked AS (
            SELECT *, NOT agreed AND NOT wider AS differ,
                row_number() OVER (PARTITION BY category, name, one, other, agreed OR wider
                    ORDER BY n DESC, said_one, said_other) AS place
            FROM by_words
        )
        SELECT 'conflict' AS kind, category, name AS attribute, one, other, sum(n)::BIGINT AS both,
            coalesce(sum(n) FILTER (agreed), 0)::BIGINT AS agreed,
            coalesce(sum(n) FILTER (wider), 0)::BIGINT AS wider,
            coalesce(sum(n) FILTER (differ), 0)::BIGINT AS disagreed,
            coalesce(sum(n) FILTER (differ), 0) / sum(n) AS share,
            coalesce(sum(follows_one) FILTER (differ), 0)::BIGINT AS follows_one,
            coalesce(sum(follows_other) FILTER (differ), 0)::BIGINT AS follows_other,
            sum(confidence_one) / sum(n) AS confidence_one, sum(confidence_other) / sum(n) AS confidence_other,
            list({{'one': said_one, 'other': said_other, 'n': n, 'item': example,
                'confidence_one': confidence_one / n, 'confidence_other': confidence_other / n}} ORDER BY place)
                FILTER (differ AND place <= {_EXAMPLES}) AS disputes
        FROM ranked GROUP BY category, name, one, other
        ORDER BY category <> '{ALL}', disagreed DESC, category, attribute, one, other"""
    )
