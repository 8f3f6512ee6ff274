"""The report: what it says, that it holds nothing foreign, and that it works in a real browser.

Run: pytest tests/test_jobs_report.py (LORE_REQUIRE_BROWSER=1 turns a missing Chromium into a failure)
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import jobs.report
from jobs.report import main, render, write_report
from jobs.report_cards import build_card, clip, in_words, source_mark, thumbnail
from jobs.report_data import gather
from lore_mm.console import command_app
from lore_mm.errors import InputError
from lore_mm.rows import attributes_table, demands_table, judgments_table
from lore_mm.tables import ITEMS, LABELS, QUERIES
from lore_mm.types import (
    AttributeValue,
    Demand,
    Evidence,
    Grade,
    Judgment,
    Leg,
    MatchPath,
    Provenance,
    Query,
    Understanding,
)
from stores.features import FeatureStore, open_store

TEMPLATES = Path(jobs.report.__file__).parent / "templates"
ATTACK = "<script>window.pwned=1</script><img src=x onerror='window.pwned=2'>\"><svg onload=window.pwned=3>"
LONG = "x" * 9000
DONE = Provenance("run-1", "merge 1", "input", "5e77" * 16)


def item(item_id: str, title: str, **fields: Any) -> dict[str, Any]:
    row = dict.fromkeys(ITEMS.names) | {"item_id": item_id, "title": title, "status": "ok", "images": []} | fields
    return row | {"provenance": {"made_at": datetime(2026, 1, 1, tzinfo=UTC)}}


def items_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ITEMS)


def leg(demand: Demand, relation: str, level: int, found: tuple[str, ...], **fields: Any) -> Leg:
    return Leg(demand, demand.dimension, relation, found, level=Grade(level), rule_id=f"r.{relation}", **fields)


def judgment(
    query_id: str, item_id: str, grade: int | None, score: float | None, *legs: Leg, **fields: Any
) -> Judgment:
    path = MatchPath(query_id, item_id, legs) if grade else None
    return Judgment(query_id, item_id, Grade(grade) if grade else None, score=score, path=path, **fields)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Six items (one failed, one hostile, one endless, one broken picture, one behind a URL), two queries."""
    root = tmp_path_factory.mktemp("catalogue")
    Image.new("RGB", (800, 400), (200, 30, 30)).save(root / "red.png")
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    store = open_store(root / "store", create=True)
    title = "Red running shoe"
    rows = [
        item(
            "shoe", title, description="A light shoe for men. " * 60, price=1299.5, currency="EUR", images=["red.png"]
        ),
        item("evil", ATTACK, description=f"</script></style>{ATTACK}", images=["broken.jpg"], store=ATTACK),
        item("long", LONG, description="حذاء 👟 " + LONG, images=["http://127.0.0.1:9/x.jpg"]),
        item("lost", "حذاء رياضي ‮evil", images=["../../etc/passwd"]),
        item("bad", "A row", status="failed", error="price: 'NaN' is not a number"),
        item("plain", "Plain thing"),
    ]
    store.append("items", items_table([row | {"image_root": str(root)} for row in rows]))
    given = Evidence("title", "Red", 0, 3, extractor="given", confidence=0.9)
    values = (
        AttributeValue("color", "color", "red", share=0.62, confidence=0.83, evidence=(given,)),
        AttributeValue("color", "color", "white", share=0.2, confidence=0.5, evidence=(Evidence("image:0"),)),
        AttributeValue(
            "material",
            "material",
            "mesh",
            status="conflict",
            confidence=0.4,
            evidence=(
                Evidence("text", "light", value="mesh", extractor="given"),
                Evidence(
                    "image:1", region=(0.1, 0.1, 0.5, 0.5), value="leather", extractor="zero_shot", confidence=0.3
                ),
            ),
        ),
        AttributeValue("style", "style", "sporty", kind="derived", confidence=0.7),
        AttributeValue("season", "season", None, status="not_stated"),
    )
    hostile = (AttributeValue(ATTACK, "color", ATTACK, evidence=(Evidence(f"given.{ATTACK}", ATTACK, value=ATTACK),)),)
    extractions = [
        ("shoe", "merge", values, "ok", None),
        ("shoe", "zero_shot", (), "failed", "the model said nothing"),
        ("evil", "merge", hostile, "ok", None),
        ("bad", "merge", (), "failed", "failed at ingest"),
    ]
    names = ("item_id", "extractor", "attributes", "status", "error")
    store.append(
        "attributes",
        attributes_table(
            dict(zip(names, e, strict=True)) | {"category": None, "provenance": DONE} for e in extractions
        ),
    )
    queries = [
        {"query_id": "q1", "query": "red shose not white", "kind": "negative", "split": "dev", "frequency": None},
        {"query_id": "q2", "query": ATTACK, "kind": None, "split": None, "frequency": None},
    ]
    store.append("queries", pa.Table.from_pylist(queries, schema=QUERIES))
    labels = [
        ("q1", "shoe", "L4", "a red shoe"),
        ("q1", "evil", "L1", ATTACK),
        ("q1", "long", "L1", "no"),
        ("q1", "lost", "L3", "?"),
    ]
    names = ("query_id", "item_id", "grade", "reason")
    store.append("labels", pa.Table.from_pylist([dict(zip(names, x, strict=True)) for x in labels], schema=LABELS))
    head = Demand("category", "shoes", "shoe", role="head")
    white = Demand("color", "white", "white", polarity=-1)
    evil = Demand(ATTACK, ATTACK, ATTACK, why=ATTACK, latent=True)
    store.append(
        "judgments",
        judgments_table(
            [
                judgment(
                    "q1", "evil", 2, 0.4, leg(evil, "exact", 2, (ATTACK,), reason=ATTACK), failed_dimensions=("color",)
                ),
                judgment(
                    "q1",
                    "shoe",
                    4,
                    0.95,
                    leg(head, "exact", 4, ("shoe",), evidence=(given,)),
                    leg(white, "absent", 4, ()),
                ),
                judgment("q1", "long", 3, 0.6, leg(head, "co_hyponym", 3, (LONG,), reason="near " + LONG)),
                judgment("q1", "lost", None, None, status="failed", error="no features"),
                judgment("q2", "shoe", 1, 0.0, leg(head, "unrelated", 1, ())),
            ]
        ),
    )
    understood = Understanding(Query("q1", "red shose not white"), "red shoes", (head, white), (("shose", "shoes"),))
    store.append("demands", demands_table([understood], DONE))
    return store


@pytest.fixture(scope="module")
def page(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        store, output, evaluation=[{"judge": "rules", "macro_f1": 0.61234, "interval": [0.5, 0.75]}, {"judge": ATTACK}]
    )
    return output


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# --- what is gathered ---


def test_counts_agreement_and_order(store):
    data = gather(store)
    counts = {c.table: (c.rows, c.ok, c.failed, c.skipped) for c in data.counts}
    assert counts["items"] == (6, 5, 1, 0)
    assert counts["attributes"] == (3, 2, 1, 0)  # merge rows alone
    assert counts["judgments"] == (5, 4, 1, 0)
    assert data.grades == {"L4": 1, "L3": 1, "L2": 1, "L1": 1, "–": 1}
    assert data.agreement is not None
    # shoe L4 = L4; evil L1 → L2 is on the right side; long L1 → L3 is not; lost was not judged
    assert (data.agreement.n, data.agreement.same, data.agreement.same_side) == (4, 1, 2)
    assert data.agreement.matrix["L1"] == {"L1": 0, "L2": 1, "L3": 1, "L4": 0, "–": 0}
    assert data.agreement.matrix["L3"]["–"] == 1
    first = data.queries[0]
    assert [c.item_id for c in first.candidates] == ["shoe", "long", "evil", "lost"]
    assert [c.agreement for c in first.candidates] == ["same", "apart", "near", "apart"]
    assert (first.same, first.labelled, first.apart) == (1, 4, 2)
    assert first.corrections == (("shose", "shoes"),)
    assert first.demands == (("category", "shoes (shoe)"), ("color", "not white"))
    white = first.candidates[0].steps[1]
    assert (white.negated, white.demand, white.found, white.relation, white.level) == (
        True,
        "white",
        (),
        "absent",
        "L4",
    )


def test_card_holds_values_conflicts_evidence_and_failures(store):
    cards = {card.item_id: card for card in gather(store).cards}
    assert next(iter(cards)) == "bad"  # failed first
    shoe = cards["shoe"]
    assert shoe.price == "1,299.50 EUR"
    assert [chip.name for chip in shoe.chips] == ["style", "color", "material"]  # as dimensions.toml has them
    chips = {chip.name: chip for chip in shoe.chips}
    color = chips["color"]
    assert [(s.name, s.percent) for s in color.swatches] == [("red", 62), ("white", 20)]
    assert color.percent == 50  # the lowest of the values
    assert [m.kind for m in color.sources] == ["title", "photo"]
    assert (color.evidence[0].quote, color.evidence[0].after) == ("Red", " running shoe")
    material = chips["material"]
    assert material.status == "conflict" and shoe.has_conflict
    assert [(e.value, e.source.word, e.percent) for e in material.evidence] == [
        ("mesh", "description", 100),
        ("leather", "photo 1", 30),
    ]
    assert material.evidence[0].before == "A "
    assert chips["style"].derived
    assert shoe.unstated == ("season",)
    assert shoe.errors == ("zero_shot: the model said nothing",)
    assert [(p.text, p.chips) for p in shoe.title] == [("Red", (2,)), (" running shoe", ())]
    assert cards["bad"].status == "failed"
    assert cards["bad"].errors == ("price: 'NaN' is not a number", "merge: failed at ingest")


def test_pictures_are_small_local_or_a_reason(store):
    cards = {card.item_id: card for card in gather(store).cards}
    assert cards["shoe"].picture is not None and cards["shoe"].picture.startswith("data:image/jpeg;base64,")
    assert "cut off" in cards["evil"].picture_error or "broken" in cards["evil"].picture_error
    assert "URL" in cards["long"].picture_error
    assert "'..'" in cards["lost"].picture_error
    assert cards["plain"].picture_error == "no picture"
    row = {"images": ["red.png"], "image_root": None}
    assert thumbnail(row, 240) == (None, "the catalogue's folder is not known")


def test_spans_that_do_not_fit_are_found_or_dropped():
    def marked(**evidence: Any) -> list[tuple[str, tuple[int, ...]]]:
        made = {"source": "title", "region": None, "value": None, "extractor": None, "confidence": 1.0} | evidence
        value = {"name": "a", "dimension": "spec", "value": "v", "status": "value", "share": None, "kind": "inherent"}
        attribute = value | {"confidence": None, "evidence": [made], "error": None}
        verdict = {"merge": {"attributes": [attribute], "category": None, "status": "ok", "error": None}}
        return [(p.text, p.chips) for p in build_card(item("i", "one two three"), verdict).title]

    right = [("one ", ()), ("two", (1,)), (" three", ())]
    assert marked(quote="two", start=4, end=7) == right
    assert marked(quote="two", start=-90, end=10**9) == right  # lies about its place
    assert marked(quote="four", start=0, end=4) == [("one two three", ())]
    assert marked(quote=None, start=0, end=3) == [("one two three", ())]


def test_large_stores_are_sampled_evenly_and_it_says_so(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = [item(f"i{n:04d}", f"Thing {n}", status="failed" if n == 777 else "ok") for n in range(1000)]
    store.append("items", items_table(rows))
    store.append("judgments", judgments_table(judgment(f"q{n:03d}", "i0001", 4, 1.0) for n in range(300)))
    data = gather(store, items=50, queries=30)
    ids = [card.item_id for card in data.cards]
    assert len(set(ids)) == 50 and data.n_items == 1000
    assert ids[0] == "i0777"
    assert ids[1] == "i0000" and ids[-1] >= "i0970"
    assert [q.query_id for q in data.queries] == [f"q{n:03d}" for n in range(0, 300, 10)]
    text = render(data)
    assert "A sample: 50 of 1,000" in text
    assert "A sample: 30 of 300" in text
    assert len(gather(store, items=0, queries=0).cards) == 0


def test_an_empty_store_is_a_page_too(tmp_path):
    text = render(gather(open_store(tmp_path, create=True)))
    assert "No items in this store" in text


def test_small_words():
    assert clip("abcdef", 4) == "abc…" and clip("abcd", 4) == "abcd"
    assert source_mark("given.brand").word == "seller’s brand" and source_mark("given.brand").short == "seller"
    assert source_mark("image:0").word == "photo" and source_mark("image:2").word == "photo 2"
    assert source_mark("").kind == "other"
    assert in_words("category", "running_shoe") == "running shoe"
    assert in_words("color", "running_shoe") == in_words(None, "running_shoe") == "running_shoe"


# --- the page as text ---


def test_page_is_self_contained_and_nothing_hostile_is_markup(page):
    text = page.read_text(encoding="utf-8")
    parser = Elements()
    parser.feed(text)
    tags = [tag for tag, _ in parser.found]
    assert tags.count("script") == 1 and tags.count("style") == 1
    assert {"iframe", "object", "embed", "link", "base", "form"}.isdisjoint(tags)
    for tag, attributes in parser.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            if name in attributes:
                assert re.match(r"data:image/jpeg;base64,|#", attributes[name] or ""), (tag, attributes[name])
    policy = next(a["content"] for t, a in parser.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "0.612" in text and "0.500 – 0.750" in text  # the evaluation


def test_colour_areas_fill_the_bar_once_however_the_shares_add_up(tmp_path):
    store = open_store(tmp_path, create=True)
    store.append("items", items_table([item("sofa", "Sofa")]))
    colors = tuple(
        AttributeValue("color", "color", name, share=share) for name, share in (("tan", 0.5), ("brown", 0.75))
    )
    row = {
        "item_id": "sofa",
        "extractor": "merge",
        "category": None,
        "attributes": colors,
        "status": "ok",
        "error": None,
    }
    store.append("attributes", attributes_table([row | {"provenance": DONE}]))
    text = render(gather(store))
    areas = text[text.index('class="areas"') :].partition("</svg>")[0]
    # 75 and 50 parts of 125
    assert re.findall(r'x="([\d.]+)" width="([\d.]+)"', areas) == [("0.0", "60.0"), ("60.0", "40.0")]


def test_same_data_gives_the_same_page(store):
    at = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    assert render(gather(store), made_at=at) == render(gather(store), made_at=at)


def test_command_writes_and_refuses(store, tmp_path):
    app = command_app(main, "lore report")
    done = CliRunner().invoke(app, ["--store", store.uri, "--output", str(tmp_path / "r.html"), "--items", "2"])
    assert done.exit_code == 0, done.output
    assert '"items": 2' in done.stdout and '"n_items": 6' in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(InputError, match="cannot write the report"):
        write_report(store, tmp_path / "absent" / "r.html")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{broken", "not JSON lines"),
        ("[1]", "every line must be a JSON object"),
        ('{"baselines": {}}', "not what `lore evaluate` prints"),
        ("[" * 100_000, "JSON nested too deeply"),
    ],
)
def test_an_evaluation_that_is_none_is_refused_in_one_line(store, tmp_path, text, message):
    with pytest.raises(InputError, match=r"cannot read the evaluation .*e\.jsonl: No such file or directory$"):
        main(store=store.uri, output=tmp_path / "r.html", evaluation=tmp_path / "e.jsonl")
    (tmp_path / "e.jsonl").write_text(text)
    with pytest.raises(InputError, match=rf"e\.jsonl: {message}"):
        main(store=store.uri, output=tmp_path / "r.html", evaluation=tmp_path / "e.jsonl")


def test_what_evaluate_prints_is_shown_as_a_table(store, tmp_path):
    from jobs.evaluate_judge import METRIC_NAMES

    metrics = {name: {"value": 0.71, "low": 0.62, "high": 0.8} for name in METRIC_NAMES}
    measured = {"n": 4, "missing": 1, "metrics": metrics}
    result = measured | {"baselines": {"bm25_title": measured}, "slices": {}}
    (tmp_path / "e.json").write_text(json.dumps(result))
    main(store=store.uri, output=tmp_path / "r.html", evaluation=tmp_path / "e.json")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("0.71 [0.62, 0.80]") == 2 * len(METRIC_NAMES)
    assert "bm25 title" in text


# --- its colours ---

# Sight without one kind of cone, over linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def palette(scheme: str) -> dict[str, np.ndarray]:
    """The colour variables of the style sheet as linear RGB in [0, 1]."""
    light, _, rest = (TEMPLATES / "report.css").read_text().partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", light.split("}")[0]))
    if scheme == "dark":
        found |= dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", rest.split("}")[0]))
    coded = {name: np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)]) / 255 for name, value in found.items()}
    return {n: np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for n, c in coded.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_reading_needs(scheme):
    colors = palette(scheme)
    light = {name: float(color @ [0.2126, 0.7152, 0.0722]) for name, color in colors.items()}
    pairs = [(ink, ground) for ink in ("ink", "quiet", "accent", "bad") for ground in ("paper", "card", "soft")]
    pairs += [(f"{grade}-ink", grade) for grade in ("L1", "L2", "L3", "L4", "none")] + [
        ("paper", "accent"),
        ("ink", "mark"),
    ]
    for ink, ground in pairs:
        high, low = sorted((light[ink], light[ground]), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)  # WCAG 2.2, success criterion 1.4.3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_grades_differ_for_every_kind_of_sight(scheme, sight):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    lab = {}
    for grade in ("L1", "L2", "L3", "L4", "none"):
        seen = np.clip(np.array(SIGHT[sight]) @ palette(scheme)[grade], 0, 1)
        x, y, z = np.cbrt(np.array(to_xyz) @ seen / [0.9505, 1.0, 1.089])  # none is near black, where CIELAB bends
        lab[grade] = np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    for one, other in combinations(lab, 2):
        assert np.linalg.norm(lab[one] - lab[other]) > 15, (one, other)  # ΔE*ab; about 2 is just noticeable


# --- the page in a browser ---


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("LORE_CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        reason = "no Chromium on this machine (LORE_CHROMIUM names one)"
        if os.environ.get("LORE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Any]:
    """The report in a tab that fails the test on any console message, error or request beyond the page itself."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    heard: list[str] = []
    opened.on("console", lambda message: heard.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: heard.append(f"error: {error}"))
    opened.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
    opened.goto(page.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    yield opened
    opened.close()
    assert heard == [page.as_uri()]


@pytest.mark.browser
def test_browser_shows_every_item_and_runs_no_foreign_script(tab):
    assert tab.locator(".card").count() == 6
    assert tab.locator(".candidate").count() == 5
    assert tab.evaluate("window.pwned") is None
    assert tab.locator(".card h3", has_text="<script>window.pwned=1</script>").count() == 1
    assert tab.locator("img").evaluate_all("all => all.map((i) => [i.complete, i.naturalWidth])") == [[True, 240]]
    badges = tab.locator(".candidate .who > p > .badge").all_inner_texts()
    assert [text.strip() for text in badges] == ["L4", "L3", "L2", "not judged", "L1"]
    assert "≠ differs" in tab.locator(".candidate.apart").first.inner_text()


@pytest.mark.browser
def test_browser_refuses_scripts_and_styles_that_are_not_the_reports_own(browser, page):
    tab = browser.new_page()
    tab.goto(page.as_uri())
    tab.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.pwned = 4';
            document.body.append(script);
            const picture = '<img src="data:image/png;base64,AA" onerror="window.pwned = 5">';
            document.body.insertAdjacentHTML('beforeend', picture);
        }"""
    )
    tab.wait_for_timeout(100)
    assert tab.evaluate("window.pwned") is None
    tab.close()


@pytest.mark.browser
def test_browser_filter_and_toggles(tab):
    expect = pytest.importorskip("playwright.sync_api").expect  # waits without eval, which the page forbids
    cards, queries, shown = tab.locator(".card:visible"), tab.locator(".query:visible"), tab.locator("#shown")
    expect(shown).to_have_text("6 of 6 items, 2 of 2 queries")
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "filter"
    tab.keyboard.type("RUNNING  red")
    expect(shown).to_have_text("1 of 6 items, 2 of 2 queries")
    assert (cards.count(), queries.count()) == (1, 2)  # the shoe is a candidate of both queries
    tab.locator("#filter").fill("zzz")
    expect(shown).to_have_text("0 of 6 items, 0 of 2 queries")
    assert (cards.count(), queries.count()) == (0, 0)
    tab.locator("#filter").fill("")
    tab.get_by_role("button", name="conflicts").click()
    expect(shown).to_have_text("1 of 6 items, 0 of 2 queries")
    tab.get_by_role("button", name="conflicts").click()
    tab.get_by_role("button", name="disagreements").click()
    assert (cards.count(), queries.count()) == (0, 1)
    tab.get_by_role("button", name="failed").click()
    assert (cards.count(), queries.count()) == (1, 1)


@pytest.mark.browser
def test_browser_keyboard_opens_evidence_and_lights_up_the_words(browser, page):
    tab = browser.new_page()
    tab.goto(page.as_uri())
    chip = tab.locator(".chip", has_text="running shoe")  # the evidence in context
    chip.locator("summary").focus()
    assert tab.locator("mark.lit").all_inner_texts() == ["Red"]
    tab.keyboard.press("Enter")
    assert chip.get_attribute("open") == ""
    assert "title" in chip.locator(".evidence").inner_text()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('.chip').dataset.chip") == "3"
    tab.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_fits_narrow_screens_in_light_and_dark(tab, scheme, tmp_path):
    tab.emulate_media(color_scheme=scheme)
    for width in (400, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        shot = tmp_path / f"report-{width}-{scheme}.png"
        tab.screenshot(path=shot)
        with Image.open(shot) as picture:
            assert picture.size == (width, 900)
            dark = sum(picture.convert("L").resize((1, 1)).getpixel((0, 0)) < level for level in (128,))
            assert bool(dark) == (scheme == "dark")
