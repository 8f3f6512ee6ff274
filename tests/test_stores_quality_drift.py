from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lore_mm.rows import attributes_table
from lore_mm.types import AttributeValue, Provenance
from stores.features import FeatureStore, open_store
from stores.quality import ALL, Limits, Quality
from stores.quality_drift import MIX
from stores.quality_gate import failing, parse_rule
from stores.quality_statistics import adjusted, chi_squared_tail, kolmogorov_tail
from stores.snapshot import Snapshot

stats = pytest.importorskip("scipy.stats")

Items = Sequence[tuple[str, dict[str, Any]]]  # category, attribute → value, a number, or None where not stated


def commit(store: FeatureStore, prefix: str, items: Items) -> None:
    rows = []
    for n, (category, said) in enumerate(items):
        values = [_value(name, one) for name, several in said.items() for one in _listed(several)]
        row = {"item_id": f"{prefix}{n:05}", "extractor": "merge", "category": category, "attributes": values}
        rows.append(row | {"status": "ok", "error": None, "provenance": Provenance(input_sha="x")})
    store.append("attributes", attributes_table(rows))


def _listed(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said]


def _value(name: str, said: Any) -> AttributeValue:
    if said is None:
        return AttributeValue(name, "spec", None, "not_stated")
    if isinstance(said, float):
        return AttributeValue(name, "spec", f"{said:g}", number=said, unit="USD", confidence=0.5)
    return AttributeValue(name, "spec", said, confidence=0.9)


def compare(folder: Path, before: Items, now: Items, **limits: Any) -> Quality:
    """Two catalogues of other items, each in a store of its own."""
    stores = [open_store(folder / name, create=True) for name in ("now", "before")]
    for store, items in zip(stores, (now, before), strict=True):
        commit(store, store.uri[-3:], items)
    return Quality(*map(Snapshot, stores), limits=Limits(**limits))


def line(quality: Quality, category: str, attribute: str) -> dict[str, Any]:
    (found,) = quality.lines("drift", category=category, attribute=attribute)
    return found


def things(n: int, category: str = "sofa", **said: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(category, {name: one for name, one in said.items()})] * n


def test_distances_by_hand(tmp_path: Path) -> None:
    """Of 20 red and 20 blue before; 30 red, 5 blue and 5 green now, and 10 of which it is not stated."""
    before = [*things(20, color="red"), *things(20, color="blue")]
    now = [*things(30, color="red"), *things(5, color="blue"), *things(5, color="green"), *things(10, color=None)]
    found = line(compare(tmp_path, before, now, items=10), "sofa", "color")
    assert (found["items_before"], found["items_now"], found["stated_before"], found["stated_now"]) == (40, 50, 40, 40)
    assert (found["coverage_before"], found["coverage_now"]) == (1.0, 0.8)
    assert found["coverage_change"] == pytest.approx(-0.2)
    # of green 2.5 would be expected on each side: as the one rare value it is a cell of its own all the same
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.75, 0.125, 0.125])
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.nansum(p * np.log2(p / m)) / 2 + np.nansum(q * np.log2(q / m)) / 2
    assert found["jsd"] == pytest.approx(bits)
    ps, qs = (np.array([20.5, 20.5, 0.5]) / 41.5, np.array([30.5, 5.5, 5.5]) / 41.5)
    assert found["psi"] == pytest.approx(float(((qs - ps) * np.log(qs / ps)).sum()))
    assert found["cells"] == 3
    assert found["psi_by_chance"] == pytest.approx(2 * (1 / 40 + 1 / 40))
    assert found["jsd_by_chance"] == pytest.approx(2 * (1 / 40 + 1 / 40) / (8 * math.log(2)))
    assert found["p_values"] == pytest.approx(stats.chi2_contingency([[20, 20, 0], [30, 5, 5]]).pvalue)
    assert found["p_coverage"] == pytest.approx(stats.chi2_contingency([[40, 0], [40, 10]], correction=False).pvalue)
    assert (found["new"], found["new_values"], found["vanished"]) == (1, ["green"], 0)
    assert found["reading"] == "severe" and found["flagged"] == ["coverage", "values"]
    assert [found["confidence_before"], found["confidence_now"]] == pytest.approx([0.9, 0.9])


def test_numbers_are_compared_by_their_distribution(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    old, new = generator.normal(100, 10, 300).round(1), generator.normal(106, 10, 400).round(1)
    quality = compare(tmp_path, [*_priced(old)], [*_priced(new)])
    found = line(quality, "sofa", "price")
    assert found["ks"] == pytest.approx(stats.ks_2samp(old, new).statistic)
    assert found["p_numbers"] == pytest.approx(stats.ks_2samp(old, new, method="asymp").pvalue, rel=0.5)
    assert found["unit"] == "USD" and "numbers" in found["flagged"]


def _priced(numbers: Sequence[float]) -> Items:
    return [("sofa", {"price": float(n)}) for n in numbers]


def draw(generator: np.random.Generator, shares: Sequence[float], n: int, categories: int) -> Items:
    colors = ["red", "blue", "green", "black", "white", "pink"]
    items = []
    for i in range(n):
        several = list(generator.choice(colors, p=shares, size=int(generator.integers(1, 4)), replace=False))
        price = round(float(generator.lognormal(3, 1)), 2)
        brand = generator.choice(["Nike", "Ikea", None], p=[0.4, 0.3, 0.3])
        items.append((f"kind {i % categories}", {"color": several, "price": price, "brand": brand}))
    return items


@pytest.mark.parametrize("seed", range(3))
def test_samples_of_one_law_are_not_flagged_and_of_another_are(tmp_path: Path, seed: int) -> None:
    """Twenty categories of very different size; nothing moved, then the colours of all did."""
    generator = np.random.default_rng(seed)
    shares = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
    before = draw(generator, shares, 1200, 20)
    same = compare(tmp_path / "same", before, draw(generator, shares, 900, 20), items=20)
    assert [r for r in same.lines("drift") if r["flagged"]] == []
    assert len(same.lines("drift")) == 3 * 21 + 1  # told all the same, with the mix of categories
    assert failing(parse_rule("drift > 0"), same) == failing(parse_rule("drift(color, *) > 0"), same) == []
    moved = compare(tmp_path / "moved", before, draw(generator, shares[::-1], 900, 20), items=20)
    flagged = {(r["category"], r["attribute"]) for r in moved.lines("drift") if r["flagged"]}
    colors = {category for category, attribute in flagged if attribute == "color"}
    assert ALL in colors and len(colors) > 10  # most categories, though each has but 45 items
    assert len(flagged) - len(colors) <= 1  # of the flagged one in a hundred may be a false alarm
    assert [f.about for f in failing(parse_rule("drift > 0"), moved)] == ["color"]
    assert moved.lines("finding", level="moved")[0]["what"].startswith("what is said moved: PSI ")


def test_a_handful_of_items_is_never_flagged(tmp_path: Path) -> None:
    quality = compare(tmp_path, things(20, color="red"), things(20, color="blue"))
    found = line(quality, "sofa", "color")
    assert found["jsd"] == pytest.approx(1.0) and found["flagged"] == []


def test_values_that_come_together_weigh_as_one(tmp_path: Path) -> None:
    """Each item has the same three colours or the same other three: three times the values, no more evidence."""
    before = [*things(30, color=["red", "blue", "green"]), *things(30, color=["pink", "black", "white"])]
    now = [*things(40, color=["red", "blue", "green"]), *things(20, color=["pink", "black", "white"])]
    found = line(compare(tmp_path, before, now), "sofa", "color")
    six_cells = stats.chi2_contingency([[30] * 6, [40] * 3 + [20] * 3]).statistic / 3
    assert found["p_values"] == pytest.approx(stats.chi2.sf(six_cells, 5))
    assert found["flagged"] == []


def test_the_mix_of_categories_and_what_came_and_went(tmp_path: Path) -> None:
    before = [*things(100, "sofa", brand="Ikea"), *things(20, "lamp", brand="Ikea")]
    now = [*things(20, "sofa", brand="Ikea"), *things(90, "chair", brand="Ikea"), *things(10, "lamp", style="retro")]
    quality = compare(tmp_path, before, now)
    mix = line(quality, ALL, MIX)
    assert (mix["new_values"], mix["vanished"], mix["flagged"]) == (["chair"], 0, ["values"])
    brand = line(quality, "lamp", "brand")  # gone, though its category is not
    assert (brand["coverage_before"], brand["coverage_now"], brand["jsd"]) == (1.0, 0.0, None)
    assert [r["category"] for r in quality.lines("drift", attribute="style")] == [ALL, "lamp"]


def test_two_versions_of_one_store(tmp_path: Path) -> None:
    """Of one catalogue the newest row of an item counts, on either side."""
    store = open_store(tmp_path / "store", create=True)
    commit(store, "i", things(60, color="red"))
    version = store.version("attributes")
    commit(store, "i", [*things(40, color="blue")])
    now, before = Snapshot(store), Snapshot(store, {"attributes": version})
    quality = Quality(now, before)
    assert (quality.summary()["items"], quality.summary()["items_before"]) == (60, 60)
    found = line(quality, "sofa", "color")
    assert (found["new_values"], found["flagged"]) == (["blue"], ["values"])
    assert Quality(now, now).lines("finding", level="moved") == []
    moment = Quality(now, Snapshot.as_of(store, f"attributes@{version}"))
    assert line(moment, "sofa", "color") == found


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 101, 400])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 1.5, 4.0])
def test_chi_squared_is_that_of_scipy(degrees: int, ratio: float) -> None:
    assert chi_squared_tail(ratio * degrees, degrees) == pytest.approx(
        stats.chi2.sf(ratio * degrees, degrees), rel=1e-9
    )


def test_tails_at_the_edges() -> None:
    assert chi_squared_tail(0.0, 3) == chi_squared_tail(5.0, 0) == 1.0
    assert math.isnan(chi_squared_tail(math.nan, 2)) and math.isnan(kolmogorov_tail(0.1, 0, 5))
    assert chi_squared_tail(1e5, 3) == pytest.approx(0.0, abs=1e-300)
    assert kolmogorov_tail(0.0, 10, 10) == 1.0 and kolmogorov_tail(1.0, 1000, 1000) == pytest.approx(0.0, abs=1e-200)
    assert kolmogorov_tail(0.05, 900, 900) == pytest.approx(stats.kstwo.sf(0.05, 450), rel=0.05)


def test_false_alarms_are_held_down() -> None:
    given = [0.01, 0.04, 0.03, math.nan, 0.5]
    assert adjusted(given) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, math.nan, 0.5], nan_ok=True)
    assert adjusted([]).shape == (0,)
    tested = [p for p in given if p == p]
    assert adjusted(tested) == pytest.approx(stats.false_discovery_control(tested))
