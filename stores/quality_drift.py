"""How two snapshots differ: coverage, what is said, numbers and the mix of categories, with what chance alone would do.

Distances are told for every attribute and category with something on both sides. Only those are flagged where there
are enough items, the change is large, and it is more than chance among as many comparisons as were made; so that tiny
categories do not shout. Side 1 is before, side 0 now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stores.quality_counts import ALL, Counts
from stores.quality_coverage import coverage_of
from stores.quality_statistics import adjusted, chi_squared_tail, kolmogorov_tail

__all__ = ["MIX", "MODERATE", "SEVERE", "Limits", "drift"]

MODERATE, SEVERE = 0.1, 0.25  # how the population stability index is read (Siddiqi, Credit Risk Scorecards, 2006)
_LEAST_EXPECTED = 5  # rarer values are taken together before they are compared (Cochran, Biometrics 10, 1954)
_NEWS = 5
MIX = "(categories)"  # in the place of an attribute: the mix of categories


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a change is flagged.

    Attributes:
        items: with a value on each side, at least; of the category for its coverage.
        coverage: change of coverage, either way.
        psi: population stability index, less what chance gives on average.
        ks: Kolmogorov–Smirnov distance.
        false_alarms: the share of false alarms among the flagged that is accepted.
    """

    items: int = 50
    coverage: float = 0.05
    psi: float = MODERATE
    ks: float = 0.1
    false_alarms: float = 0.01


def drift(counts: Counts, limits: Limits) -> pa.Table:
    """A line per category and attribute, `(all)` and `(categories)` first among them; the flagged first.

    Columns, of before and now: items of the category, with a value; coverage; mean confidence. `jsd`: Jensen–Shannon
    divergence in bits, 0 to 1 (Lin 1991), and `psi`: the population stability index, each with what chance alone would
    give (`…_by_chance`) on so few items: (k − 1)(1/n + 1/m), for jsd over 8 ln 2 (Yurdakul 2018). `ks`: the largest
    difference between the distribution functions of the numbers in the commonest unit. `p_coverage`, `p_values`,
    `p_numbers`: chi-squared, of the values scaled down by values per item, which are not independent (Rao and Scott
    1981), and Kolmogorov–Smirnov. `new`, `vanished`: values of one side only and the commonest of them. `reading` is
    stable, moderate or severe by psi less chance; `flagged` says what of coverage, values and numbers moved.
    """
    if not counts.compared:
        return _SHAPE.empty_table()
    lines = counts.ask(
        f"""
        SELECT category, attribute, l.items AS items_before, r.items AS items_now, l.stated AS stated_before,
            r.stated AS stated_now, l.coverage AS coverage_before, r.coverage AS coverage_now,
            r.coverage - l.coverage AS coverage_change, l.confidence AS confidence_before,
            r.confidence AS confidence_now, s.* EXCLUDE (category, name), k.ks, k.n_before, k.n_now, k.unit,
            l.items - l.not_applicable AS applies_before, r.items - r.not_applicable AS applies_now
        FROM ({coverage_of(1)}) l JOIN ({coverage_of(0)}) r USING (category, attribute)
        LEFT JOIN ({_shift(_VALUES)}) s ON s.category = l.category AND s.name = l.attribute
        LEFT JOIN ({_KS}) k ON k.category = l.category AND k.name = l.attribute
        WHERE l.stated + r.stated > 0
        UNION ALL BY NAME
        SELECT '{ALL}' AS category, '{MIX}' AS attribute, b.n AS items_before, a.n AS items_now,
            b.n AS stated_before, a.n AS stated_now, s.* EXCLUDE (category, name)
        FROM ({_shift(_MIX)}) s, (SELECT sum(items)::BIGINT AS n FROM sizes WHERE side = 1) b,
            (SELECT sum(items)::BIGINT AS n FROM sizes WHERE side = 0) a
        WHERE {"TRUE" if counts.named == "TRUE" else "FALSE"}"""
    )
    rows = lines.to_pylist()
    for row in rows:
        _test(row)
    return _flagged(rows, limits)


_VALUES = f"""
    SELECT side, coalesce(category, '{ALL}') AS category, name, coalesce(value, '') AS value, sum(n) AS n
    FROM counted WHERE rank <= 2 GROUP BY GROUPING SETS ((side, category, name, value), (side, name, value))"""
_MIX = f"SELECT side, '{ALL}' AS category, '{MIX}' AS name, category AS value, items AS n FROM sizes"


def _shift(by_value: str) -> str:
    """The SELECT of distances between the two sides of a table of side, category, name, value and n."""
    return f"""
        WITH pairs AS (
            SELECT category, name, value, coalesce(sum(n) FILTER (side = 1), 0) AS b,
                coalesce(sum(n) FILTER (side = 0), 0) AS a
            FROM ({by_value}) GROUP BY ALL
        ), totals AS (
            SELECT category, name, sum(b) AS nb, sum(a) AS na, count_if(b = 0)::BIGINT AS new,
                count_if(a = 0)::BIGINT AS vanished, max_by(value, a, {_NEWS}) FILTER (b = 0) AS new_values,
                max_by(value, b, {_NEWS}) FILTER (a = 0) AS vanished_values
            FROM pairs GROUP BY ALL HAVING nb > 0 AND na > 0
        ), cells AS (
            SELECT category, name, sum(b) AS b, sum(a) AS a, any_value(nb) AS nb, any_value(na) AS na
            FROM pairs JOIN totals USING (category, name)
            GROUP BY category, name,
                CASE WHEN (a + b) * least(na, nb) / (na + nb) >= {_LEAST_EXPECTED} THEN value END
        ), shares AS (
            SELECT *, b / nb AS p, a / na AS q, (b / nb + a / na) / 2 AS m, (b + 0.5) / (nb + 0.5 * k) AS ps,
                (a + 0.5) / (na + 0.5 * k) AS qs
            FROM (SELECT *, count(*) OVER (PARTITION BY category, name) AS k FROM cells)
        )
        SELECT category, name, any_value(nb)::BIGINT AS values_before, any_value(na)::BIGINT AS values_now,
            any_value(k) AS cells,
            greatest(0, sum((CASE WHEN p > 0 THEN p * log2(p / m) ELSE 0 END
                + CASE WHEN q > 0 THEN q * log2(q / m) ELSE 0 END) / 2)) AS jsd,
            sum((qs - ps) * ln(qs / ps)) AS psi,
            sum(pow(p - q, 2) / ((a + b) / (na + nb))) / (1 / any_value(nb) + 1 / any_value(na)) AS chi_squared,
            any_value(new) AS new, any_value(vanished) AS vanished, any_value(new_values) AS new_values,
            any_value(vanished_values) AS vanished_values
        FROM shares JOIN totals USING (category, name, na, nb) GROUP BY category, name"""


# numbers of the unit that is commonest on both sides together
_KS = f"""
    WITH by_number AS (
        SELECT coalesce(category, '{ALL}') AS category, name, coalesce(unit, '') AS unit, number,
            coalesce(sum(n) FILTER (side = 1), 0) AS b, coalesce(sum(n) FILTER (side = 0), 0) AS a
        FROM counted WHERE rank <= 2 AND isfinite(number)
        GROUP BY GROUPING SETS ((category, name, coalesce(unit, ''), number), (name, coalesce(unit, ''), number))
    ), units AS (
        SELECT category, name, unit, sum(b) AS nb, sum(a) AS na FROM by_number GROUP BY category, name, unit
        QUALIFY row_number() OVER (PARTITION BY category, name ORDER BY sum(a) + sum(b) DESC, unit) = 1
    ), curves AS (
        SELECT category, name, unit, nb, na, sum(b) OVER upward / nb AS below_b, sum(a) OVER upward / na AS below_a
        FROM by_number JOIN units USING (category, name, unit) WHERE nb > 0 AND na > 0
        WINDOW upward AS (PARTITION BY category, name ORDER BY number)
    )
    SELECT category, name, nullif(unit, '') AS unit, any_value(nb)::BIGINT AS n_before, any_value(na)::BIGINT AS n_now,
        max(abs(below_a - below_b)) AS ks
    FROM curves GROUP BY category, name, unit"""


def _test(row: dict[str, Any]) -> None:
    """Add to a line what chance gives, the probabilities, and how the stability index reads."""
    before, now = row["stated_before"] or 0, row["stated_now"] or 0
    row["jsd_by_chance"] = row["psi_by_chance"] = row["reading"] = None
    if row["cells"]:
        spread = (row["cells"] - 1) * (1 / before + 1 / now)
        row["jsd_by_chance"], row["psi_by_chance"] = spread / (8 * math.log(2)), spread
        excess = row["psi"] - spread
        row["reading"] = "severe" if excess >= SEVERE else "moderate" if excess >= MODERATE else "stable"
    apart = min(1.0, before / (row["values_before"] or 1), now / (row["values_now"] or 1))
    row["p_values"] = _tail((row.pop("chi_squared") or 0.0) * apart, (row["cells"] or 1) - 1)
    shared = min(1.0, before / (row["n_before"] or 1), now / (row["n_now"] or 1))
    row["p_numbers"] = None
    if row["ks"] is not None:
        row["p_numbers"] = kolmogorov_tail(row["ks"], row["n_before"] * shared, row["n_now"] * shared)
    row["p_coverage"] = _proportions(before, row.pop("applies_before"), now, row.pop("applies_now"))


def _tail(statistic: float, degrees: int) -> float | None:
    return chi_squared_tail(statistic, degrees) if degrees > 0 else None


def _proportions(hits: int, n: int | None, other: int, m: int | None) -> float | None:
    """The probability of two shares as far apart (Pearson's chi-squared); None where there is nothing to test."""
    if not n or not m or not 0 < hits + other < n + m:
        return None
    pooled = (hits + other) / (n + m)
    return chi_squared_tail((hits / n - other / m) ** 2 / (pooled * (1 - pooled) * (1 / n + 1 / m)), 1)


def _flagged(rows: list[dict[str, Any]], limits: Limits) -> pa.Table:
    tests = ("p_coverage", "p_values", "p_numbers")
    enough = [
        {
            "p_coverage": min(row["items_before"] or 0, row["items_now"] or 0) >= limits.items,
            "p_values": min(row["stated_before"] or 0, row["stated_now"] or 0) >= limits.items,
            "p_numbers": min(row["n_before"] or 0, row["n_now"] or 0) >= limits.items,
        }
        for row in rows
    ]
    made = [(i, test) for i, row in enumerate(rows) for test in tests if enough[i][test] and row[test] is not None]
    alarms = dict(zip(made, adjusted([rows[i][test] for i, test in made]), strict=True))
    for i, row in enumerate(rows):
        sure = {test for test in tests if alarms.get((i, test), 1.0) <= limits.false_alarms}
        large = {
            "p_coverage": abs(row["coverage_change"] or 0.0) >= limits.coverage,
            "p_values": (row["psi"] or 0.0) - (row["psi_by_chance"] or 0.0) >= limits.psi,
            "p_numbers": (row["ks"] or 0.0) >= limits.ks,
        }
        row["flagged"] = [test.removeprefix("p_") for test in tests if test in sure and large[test]]
    rows.sort(key=_worst)
    return pa.Table.from_pylist(
        [{name: row[name] for name in _SHAPE.names if name != "kind"} | {"kind": "drift"} for row in rows],
        schema=_SHAPE,
    )


def _worst(row: dict[str, Any]) -> tuple[Any, ...]:
    moved = max(abs(row["coverage_change"] or 0.0), (row["jsd"] or 0.0), (row["ks"] or 0.0))
    return (not row["flagged"], row["category"] != ALL, -moved, row["category"], row["attribute"])


_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
_SHAPE = pa.schema(
    [
        *((name, _TEXT) for name in ("kind", "category", "attribute")),
        ("flagged", pa.list_(_TEXT)),
        ("reading", _TEXT),
        *((name, _WHOLE) for name in ("items_before", "items_now", "stated_before", "stated_now")),
        *((name, _REAL) for name in ("coverage_before", "coverage_now", "coverage_change", "p_coverage")),
        *((name, _REAL) for name in ("jsd", "jsd_by_chance", "psi", "psi_by_chance", "p_values")),
        ("cells", _WHOLE),
        *((name, _REAL) for name in ("ks", "p_numbers")),
        ("unit", _TEXT),
        *((name, _WHOLE) for name in ("new", "vanished")),
        *((name, pa.list_(_TEXT)) for name in ("new_values", "vanished_values")),
        *((name, _REAL) for name in ("confidence_before", "confidence_now")),
    ]
)
