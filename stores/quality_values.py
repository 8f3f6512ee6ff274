"""What is said: the commonest values, the range of numbers, and values that are not legal or look wrong.

A value is not legal where the schema of the item's category would not take it as it is stored. What merely looks wrong
is told with the rule by which it does; none of these rules knows what is true.
"""

from __future__ import annotations

import pyarrow as pa

from lore_mm.schema import MAX_TEXT
from stores.quality_counts import ALL, Counts

__all__ = ["CONSTANT", "FENCE", "distributions", "numbers", "odd_values"]

CONSTANT = 0.95  # a value that more than this share of a category's items have tells little, or is a default
FENCE = 3.0  # interquartile ranges beyond the quartiles at which a number lies far out (Tukey 1977)
ALIKE = 0.95  # similarity of Jaro and Winkler from which a rare word may be a slip of the pen for a common one
_SHOWN = 20  # odd values of one attribute and kind; how many there are is told beside
_RARE, _COMMON = 20_000, 200  # words of an attribute that are compared for slips, rare with common
_STATED = "side = 0 AND rank <= 2"


def distributions(counts: Counts, top: int) -> pa.Table:
    """Each attribute's `top` commonest values with the items that have them, by category; `(all)` first.

    Columns: items with a value, distinct values, `singles` (those of one item only), units, and `top`: value, n, share
    of the items.
    """
    return counts.ask(
        f"""
        WITH by_value AS (
            SELECT coalesce(category, '{ALL}') AS category, name, coalesce(value, '') AS value, sum(n)::BIGINT AS n
            FROM counted WHERE {_STATED} GROUP BY GROUPING SETS ((category, name, value), (name, value))
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY category, name ORDER BY n DESC, value) AS place FROM by_value
        ), stated AS (
            SELECT coalesce(category, '{ALL}') AS category, name, sum(items)::BIGINT AS items,
                list_sort(list(DISTINCT unit) FILTER (unit IS NOT NULL)) AS units
            FROM counted WHERE {_STATED} GROUP BY GROUPING SETS ((category, name), (name))
        )
        SELECT 'values' AS kind, category, name AS attribute, any_value(items) AS items, count(*) AS distinct_values,
            count_if(n = 1)::BIGINT AS singles, any_value(units) AS units,
            list({{'value': value, 'n': n, 'share': n / items}} ORDER BY place) FILTER (place <= {int(top)}) AS top
        FROM ranked JOIN stated USING (category, name) GROUP BY category, name
        ORDER BY category <> '{ALL}', category, attribute"""
    )


# quartiles are numbers that occur: the least with at least that share at or below it (Hyndman and Fan 1996, type 1)
_NUMBERS = f"""
    WITH by_number AS (
        SELECT coalesce(category, '{ALL}') AS category, name, units AS unit, number, sum(n) AS n,
            min(example) AS example
        FROM (SELECT *, coalesce(unit, '') AS units FROM counted WHERE {_STATED} AND isfinite(number))
        GROUP BY GROUPING SETS ((category, name, units, number), (name, units, number))
    ), ranked AS (
        SELECT *, sum(n) OVER (PARTITION BY category, name, unit ORDER BY number)
            / sum(n) OVER (PARTITION BY category, name, unit) AS below FROM by_number
    ), boxes AS (
        SELECT category, name, unit, sum(n)::BIGINT AS n, min(number) AS minimum,
            min(number) FILTER (below >= 0.25) AS lower_quartile, min(number) FILTER (below >= 0.5) AS median,
            min(number) FILTER (below >= 0.75) AS upper_quartile, max(number) AS maximum
        FROM ranked GROUP BY ALL
    ), fenced AS (
        SELECT *, minimum > 0 AS by_ratio,
            CASE WHEN upper_quartile = lower_quartile THEN NULL
                WHEN by_ratio THEN lower_quartile / pow(upper_quartile / lower_quartile, {FENCE})
                ELSE lower_quartile - {FENCE} * (upper_quartile - lower_quartile) END AS fence_low,
            CASE WHEN upper_quartile = lower_quartile THEN NULL
                WHEN by_ratio THEN upper_quartile * pow(upper_quartile / lower_quartile, {FENCE})
                ELSE upper_quartile + {FENCE} * (upper_quartile - lower_quartile) END AS fence_high
        FROM boxes
    )"""


def numbers(counts: Counts) -> pa.Table:
    """The numbers of an attribute in one unit, by category, `(all)` first: range, quartiles, and how many lie far out.

    Far out is beyond Tukey's outer fences, 3 interquartile ranges beyond the quartiles (Exploratory Data Analysis,
    1977), of the logarithms where every number is above 0, as prices and sizes are. Where half of the numbers are the
    same there are no fences. Numbers that are none (NaN, infinite) are left out here and told among the odd values.
    """
    return counts.ask(
        f"""{_NUMBERS}
        SELECT 'number' AS kind, category, name AS attribute, nullif(unit, '') AS unit, any_value(b.n) AS n,
            any_value(minimum) AS minimum,
            any_value(lower_quartile) AS lower_quartile, any_value(median) AS median,
            any_value(upper_quartile) AS upper_quartile, any_value(maximum) AS maximum,
            any_value(fence_low) AS fence_low, any_value(fence_high) AS fence_high,
            coalesce(sum(r.n) FILTER (number < fence_low OR number > fence_high), 0)::BIGINT AS far_out
        FROM fenced b JOIN by_number r USING (category, name, unit)
        GROUP BY category, name, unit ORDER BY category <> '{ALL}', category, attribute, unit"""
    )


_FOUND = f"(SELECT * FROM counted WHERE {_STATED})"
_IN_SCHEMA = f"""(SELECT c.*, s.* EXCLUDE (unit), s.unit AS base_unit FROM {_FOUND} c
    JOIN asked USING (category, name) JOIN specs s USING (spec))"""
# why → the lines of `counted` it is true of, with `told`: what the schema or the rule says instead
_WRONG = {
    "not a legal value": f"""SELECT *, NULL AS told FROM {_IN_SCHEMA} i ANTI JOIN legal USING (spec, value)
        WHERE type = 'choice' AND value IS NOT NULL""",
    "not yes or no": f"SELECT *, NULL AS told FROM {_IN_SCHEMA} WHERE type = 'flag' AND value NOT IN ('yes', 'no')",
    "out of bounds": f"""SELECT *, format('{{}} to {{}}', coalesce(minimum::VARCHAR, 'any'),
        coalesce(maximum::VARCHAR, 'any')) AS told FROM {_IN_SCHEMA} WHERE type = 'number' AND isfinite(number)
        AND (number < minimum OR number > maximum)""",
    "not in the base unit": f"""SELECT *, base_unit AS told FROM {_IN_SCHEMA}
        WHERE type = 'number' AND base_unit IS NOT NULL AND unit <> base_unit""",
    "no number": f"SELECT *, NULL AS told FROM {_IN_SCHEMA} WHERE type = 'number' AND number IS NULL",
    "a number that is none": f"SELECT *, NULL AS told FROM {_FOUND} WHERE NOT isfinite(number)",
    "no words": f"SELECT *, NULL AS told FROM {_FOUND} WHERE trim(coalesce(value, '')) = ''",
    "too long": f"SELECT *, NULL AS told FROM {_FOUND} WHERE length(value) > {MAX_TEXT}",
    "not asked of this category": f"""SELECT * REPLACE (NULL AS value), NULL AS told
        FROM {_FOUND} c ANTI JOIN asked USING (category, name)""",
}
_DOUBTFUL = {
    "nearly all say the same": f"""
        SELECT category, name, value, n, example, 'of ' || total AS told
        FROM (SELECT category, name, value, sum(n) AS n, min(example) AS example FROM {_FOUND} GROUP BY ALL)
        JOIN (SELECT category, name, sum(items) AS total FROM {_FOUND} GROUP BY ALL) USING (category, name)
        WHERE n > {CONSTANT} * total AND total >= {{least}} AND name <> 'category'""",
    "far out": f"""
        SELECT * FROM ({_NUMBERS}
            SELECT category, name, trim(printf('%.6g %s', number, unit)) AS value, r.n, r.example,
                printf('fences %.4g to %.4g', fence_low, fence_high) AS told
            FROM fenced b JOIN by_number r USING (category, name, unit)
            WHERE b.n >= {{least}} AND (r.number < fence_low OR r.number > fence_high))""",
    "perhaps misspelt": f"""
        WITH words AS (
            SELECT name, value, sum(n) AS n, min(example) AS example, any_value(category) AS category
            FROM {_FOUND} WHERE number IS NULL AND value IS NOT NULL AND length(value) BETWEEN 4 AND 60
                AND name IN (SELECT name FROM asked JOIN specs USING (spec) WHERE type = 'text') GROUP BY name, value
        ), rare AS (
            SELECT * FROM words WHERE n = 1 QUALIFY row_number() OVER (PARTITION BY name ORDER BY value) <= {_RARE}
        ), common AS (
            SELECT * FROM words WHERE n >= 5
            QUALIFY row_number() OVER (PARTITION BY name ORDER BY n DESC, value) <= {_COMMON}
        )
        SELECT r.category, r.name, r.value, r.n, r.example,
            'like ' || max_by(c.value, c.n) || ' (' || max(c.n) || ')' AS told
        FROM rare r JOIN common c ON c.name = r.name
        WHERE jaro_winkler_similarity(lower(r.value), lower(c.value)) >= {ALIKE}
            AND NOT regexp_matches(r.value || c.value, '[0-9]') GROUP BY ALL""",
}


def odd_values(counts: Counts, least: int) -> pa.Table:
    """Values that are not legal (`wrong`), and such as look wrong: an attribute, why, the value, and how many have it.

    `told` is what the schema or the rule says; `category` is `(all)` where it is so in several. An attribute has
    `of_kind` such values, `n_of_kind` times; the commonest 20 of them are here. What is nearly always the same, or far
    out, is told of categories where at least `least` items have the attribute.
    """
    lines = [
        f"SELECT {i} AS place, {i < len(_WRONG)} AS wrong, '{why}' AS why, category, name, value, n, example, told"
        f" FROM ({text.replace('{least}', str(int(least)))})"
        for i, (why, text) in enumerate({**_WRONG, **_DOUBTFUL}.items())
    ]
    return counts.ask(
        f"""
        WITH lines AS ({" UNION ALL ".join(lines)}), gathered AS (
            SELECT place, any_value(wrong) AS wrong, any_value(why) AS why, name AS attribute, value, told,
                CASE WHEN count(DISTINCT category) = 1 THEN any_value(category) ELSE '{ALL}' END AS category,
                sum(n)::BIGINT AS n, min(example) AS example
            FROM lines GROUP BY place, name, value, told
        ), ranked AS (
            SELECT *, count(*) OVER (PARTITION BY place, attribute) AS of_kind,
                sum(n) OVER (PARTITION BY place, attribute)::BIGINT AS n_of_kind,
                row_number() OVER (PARTITION BY place, attribute ORDER BY n DESC, value) AS nth FROM gathered
        )
        SELECT 'odd' AS kind, wrong, why, category, attribute, value, n, told, example, of_kind, n_of_kind
        FROM ranked WHERE nth <= {_SHOWN} ORDER BY place, n DESC, attribute, value"""
    )
