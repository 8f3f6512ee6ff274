"""The service in this process: what is answered, from where, and what is refused and how."""

import asyncio
import json
import threading
from contextlib import closing

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.service.app import build_app
from jobs.service.bodies import Asked
from jobs.service.desk import Served, shown
from jobs.service.service import Limits, Service
from lore_mm.errors import ModelError
from lore_mm.types import Query
from relevance.rules import DEFAULT_RULES
from stores.features import open_store
from stores.snapshot import Snapshot
from tests.serving import EMBEDDER, TITLES, ask, ingest, is_problem, make_shop

STATED = '[rules.color.stated]\nrelation = "exact"\nlevel = "L{}"\nsays = "The seller states the colour."\n'
STATED += 'example = {{ query = "black sneakers", item = "Black Sneakers", level = "L{}" }}'
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def service(shop):
    with closing(Service(Served(shop, embedder=EMBEDDER), Limits(body_bytes=1 << 16, receive_s=0.5))) as service:
        yield service


@pytest.fixture(scope="module")
def app(service):
    return build_app(service, {"127.0.0.1"})


def post(app, path, body, **options):
    return ask(app, ("POST", path, {"json": body, **options}))[0]


# --- what is answered ---


def test_a_stored_judgment_is_served_as_it_is_and_as_the_judge_would_say(app, service):
    stored = post(app, "/judge", {"query": " Red  HOODIE ", "item_id": "b", "explain": True})
    assert stored.headers["x-served-by"] == "cache"
    judged = shown(*service._desk.judge_all([Asked("red hoodie", "b")]), "red hoodie", explain=True)
    told = stored.json()
    assert told["path"].startswith('query "red hoodie"\nitem "b"\n')
    assert judged.served_by == "rules"
    assert told == json.loads(msgspec.json.encode(judged)) | {"served_by": "cache", "query": " Red  HOODIE "}
    assert (told["grade"], told["failed_dimensions"], told["status"]) == ("L2", ["color"], "ok")
    assert "path" not in post(app, "/judge", {"query": "red hoodie", "item_id": "b"}).json()


def test_items_of_no_store_are_judged_and_never_from_the_cache(app):
    item = {"item_id": "a", "title": "Plain grey lamp", "price": 12.5, "attributes": {"sizes": ["S", 4], "new": True}}
    answer = post(app, "/judge", {"query": "red hoodie", "item": item})
    assert (answer.json()["grade"], answer.json()["item_id"], answer.json()["served_by"]) == ("L1", "a", "rules")


def test_a_batch_keeps_its_order_and_says_of_each_pair_what_is_wrong(app):
    pairs = [
        {"query": "red hoodie", "item_id": "a"},
        {"query": "lamp", "item_id": "nobody"},
        {"query": "lamp", "item": {"title": "Lamp"}},
        {"query": "lamp", "item_id": "e/1 ü"},
    ]
    answer = post(app, "/judge", {"pairs": pairs})
    found = answer.json()["judgments"]
    assert [(j["item_id"], j["grade"], j["served_by"]) for j in found] == [
        ("a", "L4", "cache"),
        ("nobody", None, None),
        ("inline", "L4", "rules"),
        ("e/1 ü", "L4", "rules"),
    ]
    assert (found[1]["status"], found[1]["error"]) == ("failed", "no item 'nobody' in the store that could be read")
    assert answer.headers["x-served-by"] == "cache, none, rules"
    several = post(app, "/judge", {"query": "lamp", "item_ids": ["d", "a"]})
    assert [j["grade"] for j in several.json()["judgments"]] == ["L4", "L1"]


def test_a_query_that_says_nothing_is_a_failed_judgment_and_no_grade(app):
    told = post(app, "/judge", {"query": "…", "item_id": "d"}).json()
    assert (told["grade"], told["status"], told["served_by"]) == (None, "failed", None)
    assert told["error"]


def test_search_puts_grades_first_then_scores_then_likeness(app):
    hits = post(app, "/search", {"query": "red hoodie", "k": 5}).json()["hits"]
    assert {hit["item_id"] for hit in hits} == set(TITLES)
    keys = [(h["judgment"]["grade"], h["judgment"]["score"], h["similarity"]) for h in hits]
    assert keys == sorted(keys, reverse=True)
    assert (hits[0]["item_id"], hits[0]["title"], hits[0]["judgment"]["served_by"]) == ("a", "Red hoodie", "cache")
    some = post(app, "/search", {"query": "red hoodie", "where": "title LIKE '%lamp'", "explain": True}).json()["hits"]
    assert {hit["item_id"] for hit in some} == {"d", "e/1 ü"}
    assert "grade L" in some[0]["judgment"]["path"]
    bare = post(app, "/search", {"query": "lamp", "k": 2, "judge": False}).json()["hits"]
    assert [hit["judgment"] for hit in bare] == [None, None]
    assert bare[0]["similarity"] >= bare[1]["similarity"]


def test_features_and_understandings_are_the_stores(app, shop):
    odd, slashed, nobody = ask(
        app, ("GET", "/features/a", {}), ("GET", "/features/e%2F1%20%C3%BC", {}), ("GET", "/features/nobody", {})
    )
    told = odd.json()["features"]
    assert (told["item"]["title"], told["input_sha"]) == ("Red hoodie", Snapshot(shop).get(["a"])[0].input_sha)
    assert {a["name"]: a["value"] for a in told["attributes"]}["color"] == "red"
    assert slashed.json()["features"]["item"]["title"] == "Red lamp"
    assert (nobody.status_code, nobody.json()["code"]) == (404, "no-item")
    bulk = post(app, "/features", {"item_ids": ["d", "nobody"]}).json()["items"]
    assert [one["features"] and one["features"]["item"]["title"] for one in bulk] == ["Desk lamp", None]
    assert bulk[1]["error"] == "no item 'nobody' in the store that could be read"
    (read,) = post(app, "/understand", {"queries": ["red lamp"]}).json()["understandings"]
    assert {(d["dimension"], d["canonical"]) for d in read["demands"]} == {("category", "lamp"), ("color", "red")}


def test_health_metrics_and_the_document(app, shop):
    health, metrics, document = ask(app, *(("GET", path, {}) for path in ("/healthz", "/metrics", "/openapi.json")))
    told = health.json()
    assert (told["status"], told["versions"]["stored_judgments"]) == ("ready", len(TITLES))
    assert told["versions"]["snapshot"]["items"] == shop.version("items")
    assert 'lore_serve_requests_total{route="/judge",status="200"}' in metrics.text
    assert 'lore_serve_judgments_total{grade="L4",served_by="rules"}' in metrics.text
    assert f"lore_serve_cache_pairs {len(TITLES)}.0" in metrics.text
    described = document.json()
    assert set(described["paths"]) == {
        *("/judge", "/search", "/features", "/features/{item_id}", "/understand", "/healthz", "/metrics", "/reload")
    }
    assert "http" not in json.dumps(described["paths"])  # nothing to be fetched from elsewhere
    for pointer in set(re_refs(described)):
        assert pointer.rpartition("/")[2] in described["components"]["schemas"]
    assert ask(app, ("GET", "/docs", {}))[0].status_code == 404


def re_refs(value):
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k == "$ref")
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from re_refs(one)


# --- what is refused ---

BODIES = {
    "nothing": (b"", 400),
    "no JSON": (b"{", 400),
    "no object": (b"null", 422),
    "a deep list": (b"[" * 60_000, 422),
    "deep in what is not foreseen": (b'{"query":"a","more":' + b"[" * 60_000, 422),
    "deep in an item": (b'{"query":"a","item":{"title":"a","attributes":{"x":' + b'{"a":' * 10_000, 422),
    "no UTF-8": (b'{"query":"\xff\xfe","item_id":"a"}', 400),
    "half a surrogate pair": (b'{"query":"\\ud800","item_id":"a"}', 400),
    "a byte order mark": (b'\xef\xbb\xbf{"query":"a","item_id":"a"}', 400),
    "a wrong type": (b'{"query":1,"item_id":"a"}', 422),
    "no number": (b'{"query":"a","item":{"title":"a","price":NaN}}', 400),
    "a number too large": (b'{"query":"a","item":{"title":"a","price":1e999}}', 422),
    "digits without end": (b'{"query":"a","item":{"title":"a","price":' + b"9" * 20_000 + b"}}", 422),
    "a negative price": (b'{"query":"a","item":{"title":"a","price":-1}}', 422),
    "an unknown key": (b'{"query":"a","item_id":"a","itemid":"b"}', 422),
    "pictures": (b'{"query":"a","item":{"title":"a","images":["/etc/passwd"]}}', 422),
    "no item": (b'{"query":"a"}', 422),
    "two items": (b'{"query":"a","item_id":"a","item_ids":["b"]}', 422),
    "pairs and a query": (b'{"query":"a","pairs":[{"query":"a","item_id":"a"}]}', 422),
    "a pair without an item": (b'{"pairs":[{"query":"a"}]}', 422),
    "no pairs": (b'{"pairs":[]}', 422),
    "too many pairs": (json.dumps({"query": "a", "item_ids": ["a"] * 1001}).encode(), 422),
    "a query of spaces": (b'{"query":"  ","item_id":"a"}', 422),
    "a query with a control character": (b'{"query":"a\\u0000b","item_id":"a"}', 422),
    "an id with a line break": (b'{"query":"a","item_id":"a\\nb"}', 422),
    "a query too long": (json.dumps({"query": "a" * 513, "item_id": "a"}).encode(), 422),
    "an unknown id": (b'{"query":"a","item_id":"../../etc/passwd"}', 404),
    "too much": (b'{"query":"' + b"a" * 70_000 + b'"}', 413),
    "two texts": (b'{"query":"a","item_id":"a"} {}', 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_problem_of_who_sent_it(app, name):
    body, status = BODIES[name]
    answer = ask(app, ("POST", "/judge", {"content": body, "headers": JSON}))[0]
    assert (answer.status_code, is_problem(answer)) == (status, True), answer.text


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/judge", {}, 405),
        ("DELETE", "/features/a", {}, 405),
        ("TRACE", "/healthz", {}, 405),
        ("POST", "/judge/", {"json": {}}, 404),
        ("GET", "/features/..%2f..%2fetc%2fpasswd", {}, 404),
        ("GET", "/features/%00", {}, 422),
        ("GET", "/features/%ff%fe", {}, 404),
        ("GET", "/features/a%0d%0aset-cookie:%20x", {}, 404),
        ("GET", "/features/" + "a" * 600, {}, 422),
        ("GET", "/features/", {}, 422),
        ("POST", "/judge", {"data": {"query": "a"}}, 415),
        ("POST", "/judge", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/judge", {"content": b"{}"}, 415),
        ("POST", "/judge", {"content": b"{}", "headers": {"content-type": "application/json; charset=utf-16"}}, 415),
        ("POST", "/judge", {"content": b"{}", "headers": JSON | {"content-encoding": "gzip"}}, 415),
        ("GET", "/healthz", {"headers": {"host": "evil.example"}}, 421),
        ("POST", "/search", {"json": {"query": "a", "k": 0}}, 422),
        ("POST", "/search", {"json": {"query": "a", "where": "title = "}}, 422),
        ("POST", "/search", {"json": {"query": "a", "where": "1 = 1); DROP TABLE items; --"}}, 422),
        ("POST", "/search", {"json": {"query": "a", "where": "no_such_attribute = 'x'"}}, 422),
        ("POST", "/search", {"json": {"query": "a", "where": "(" * 1000 + ")" * 1000}}, 422),
        ("POST", "/understand", {"json": {"queries": []}}, 422),
        ("POST", "/features", {"json": {"item_ids": [""]}}, 422),
    ],
)
def test_a_bad_request_is_a_problem_of_who_sent_it(app, method, path, options, status):
    answer = ask(app, (method, path, options))[0]
    assert (answer.status_code, is_problem(answer)) == (status, True), answer.text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/judge", "/search", "/features", "/understand"]), data=st.data())
def test_no_bytes_make_the_service_fail(app, path, data):
    words = st.sampled_from(
        ["query", "item_id", "item", "pairs", "item_ids", "queries", "k", "where", "title", "explain"]
    )
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["a", "lamp", "1=1"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3), inner, max_size=4),
        max_leaves=8,
    )
    body = data.draw(st.binary() | values.map(lambda value: json.dumps(value).encode()))
    answer = ask(app, ("POST", path, {"content": body, "headers": JSON}))[0]
    assert answer.status_code == 200 or is_problem(answer), answer.text


def test_a_body_that_trickles_is_given_up(app):
    async def trickle():
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.1)

    answer = ask(app, ("POST", "/judge", {"content": trickle(), "headers": JSON}))[0]
    assert (answer.status_code, is_problem(answer), answer.headers["connection"]) == (408, True, "close")


def test_keys_are_asked_for_and_never_shown(shop, tmp_path, monkeypatch):
    (tmp_path / "keys").write_text("# who may ask\nshop 0123456789abcdef\nother fedcba9876543210 # and another\n")
    service = Service(Served(shop, embedder=EMBEDDER), Limits(rate=0.01), tmp_path / "keys")
    with closing(service):
        app = build_app(service)
        health, metrics, wrong, mine, again, other = ask(
            app,
            ("GET", "/healthz", {}),
            ("GET", "/metrics", {}),
            ("GET", "/features/a", {"headers": {"x-api-key": "0123456789abcdeF"}}),
            ("GET", "/features/a", {"headers": {"authorization": "Bearer 0123456789abcdef"}}),
            ("GET", "/features/a", {"headers": {"x-api-key": "0123456789abcdef"}}),
            ("GET", "/features/a", {"headers": {"x-api-key": "fedcba9876543210"}}),
        )
    assert health.json() == {"status": "ready", "versions": {}}
    assert (metrics.status_code, wrong.status_code, wrong.headers["www-authenticate"]) == (401, 401, "Bearer")
    assert is_problem(wrong) and "0123" not in wrong.text
    assert (mine.status_code, other.status_code) == (200, 200)
    assert (again.status_code, again.json()["code"], int(again.headers["retry-after"])) == (429, "too-often", 100)


# --- under load, and while things change ---


class Slow:
    """A judge that answers when it is let, by the rules."""

    def __init__(self, judge):
        self._judge, self.let, self.begun = judge, threading.Event(), threading.Semaphore(0)

    def __getattr__(self, name):
        return getattr(self._judge, name)

    def judge(self, pairs):
        self.begun.release()
        assert self.let.wait(60)
        return self._judge.judge(pairs)


def slowed(monkeypatch, shop, **limits):
    from jobs.service import desk

    opened = desk.open_judge
    monkeypatch.setattr(desk, "open_judge", lambda *a, **k: Slow(opened(*a, **k)))
    return Service(Served(shop, embedder=EMBEDDER), Limits(**limits))


def test_what_does_not_fit_into_the_line_is_refused_at_once_and_nothing_is_lost(shop, monkeypatch):
    service = slowed(monkeypatch, shop, waiting=4, timeout_s=60)

    async def flood():
        from tests.serving import client_of

        async with client_of(build_app(service)) as client:
            body = {"query": "lamp", "item_id": "d"}
            asked = [asyncio.create_task(client.post("/judge", json=body)) for _ in range(20)]
            while sum(one.done() for one in asked) < 16:
                await asyncio.sleep(0.01)
            cached = await client.post("/judge", json={"query": "red hoodie", "item_id": "a"})
            health = await client.get("/healthz")
            service._desk.judge.let.set()
            return await asyncio.gather(*asked), cached, health

    with closing(service):
        answers, cached, health = asyncio.run(flood())
        assert service._line.pending == 0
    full = [one for one in answers if one.status_code == 429]
    assert len(full) == 16 and all(is_problem(one) and int(one.headers["retry-after"]) >= 1 for one in full)
    assert [one.json()["grade"] for one in answers if one.status_code == 200] == ["L4"] * 4
    assert (cached.headers["x-served-by"], health.status_code) == ("cache", 200)  # neither waits in line


def test_what_is_not_judged_in_time_is_an_honest_error(shop, monkeypatch):
    service = slowed(monkeypatch, shop, timeout_s=0.3)
    with closing(service):
        answer = post(build_app(service), "/judge", {"query": "lamp", "item_id": "d"})
        service._desk.judge.let.set()
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "too-slow", "1")


def test_a_dead_judge_is_an_honest_error_and_the_cache_serves_on(shop, monkeypatch):
    def dead(pairs):
        raise ModelError("the server is gone")

    service = slowed(monkeypatch, shop)
    service._desk.judge.judge = dead
    with closing(service):
        gone, stored = ask(
            build_app(service),
            *(("POST", "/judge", {"json": {"query": q, "item_id": "a"}}) for q in ("lamp", "red hoodie")),
        )
    assert (gone.status_code, gone.json()["code"]) == (503, "failed")
    assert "the server is gone" in gone.json()["detail"]
    assert (stored.status_code, stored.json()["grade"]) == (200, "L4")


def test_a_pair_that_breaks_the_judge_does_not_spoil_those_judged_with_it(shop, monkeypatch):
    service = slowed(monkeypatch, shop, timeout_s=60)
    slow = service._desk.judge
    fine = slow.judge

    def picky(pairs):
        if any(understanding.query.text == "poison" for understanding, _ in pairs):
            raise ArithmeticError("poison")
        return fine(pairs)

    slow.judge = picky
    slow.let.set()
    with closing(service):
        answers = ask(
            build_app(service),
            *(("POST", "/judge", {"json": {"query": q, "item_id": "d"}}) for q in ["lamp", "poison"] * 10),
        )
    assert [one.status_code for one in answers] == [200, 500] * 10
    assert {one.json()["detail"] for one in answers[1::2]} == {"the service has a fault; its log says which"}


def test_what_changed_is_loaded_and_stale_judgments_are_not_served(tmp_path):
    store = make_shop(tmp_path)
    with closing(Service(Served(store, embedder=EMBEDDER))) as service:
        app, body = build_app(service), {"query": "red hoodie", "item_id": "a"}
        before = post(app, "/judge", body)
        assert (before.json()["grade"], before.json()["served_by"]) == ("L4", "cache")
        assert not service.reload()  # nothing has changed
        ingest(store, tmp_path, {"a": "Blue hoodie", "f": "Red hoodie"})
        assert post(app, "/judge", body).json() == before.json()  # the desk's snapshot
        assert service.reload()
        after = post(app, "/judge", body)
        assert (after.json()["grade"], after.json()["served_by"]) == ("L2", "rules")
        assert after.headers["x-lore-served"] != before.headers["x-lore-served"]
        assert post(app, "/judge", {"query": "red hoodie", "item_id": "b"}).json()["served_by"] == "cache"
        told = ask(app, ("GET", "/healthz", {}))[0].json()["versions"]
        assert (told["stored_judgments"], told["stale_judgments"]) == (len(TITLES) - 1, 1)


def test_a_changed_rulebook_counts_and_a_broken_one_leaves_all_as_it_is(shop, tmp_path):
    own = tmp_path / "rules.toml"
    own.write_text(DEFAULT_RULES.read_text())
    with closing(Service(Served(shop, rules=own, embedder=EMBEDDER))) as service:
        app, body = build_app(service), {"query": "red hoodie", "item_id": "a"}
        before = post(app, "/judge", body)
        assert before.json()["served_by"] == "cache"  # the very rules that judged
        own.write_text("nonsense = [")
        refused = ask(app, ("POST", "/reload", {}))[0]
        assert (refused.status_code, is_problem(refused)) == (409, True)
        assert post(app, "/judge", body).json() == before.json()
        assert "rules.toml" in ask(app, ("GET", "/healthz", {}))[0].json()["versions"]["reload_error"]
        own.write_text(DEFAULT_RULES.read_text().replace(STATED.format(4, 4), STATED.format(3, 3)))
        assert service.reload()
        after = post(app, "/judge", body)
        assert (after.json()["served_by"], after.json()["grade"]) == ("rules", "L3")


def test_a_desk_that_was_replaced_closes_with_its_last_request(tmp_path):
    store = make_shop(tmp_path)
    with closing(Service(Served(store, embedder=EMBEDDER))) as service:
        with service.desk() as old:
            folder = old.stored._folder
            assert service.reload(True)
            assert folder.exists() and old.stored.find("red hoodie", "a") is not None
        assert not folder.exists()
        assert Query("", "x") and service._desk is not old
    assert not service._desk.stored._folder.exists()


def test_without_items_or_an_index(tmp_path):
    from jobs.ingest import ingest_items
    from lore_mm.errors import InputError
    from tests.serving import write

    store = open_store(tmp_path / "store", create=True)
    with pytest.raises(InputError, match=r"no items in .* yet: lore ingest"):
        Service(Served(store))
    ingest_items(store, write(tmp_path / "items.jsonl", [{"item_id": "a", "title": "Red hoodie"}]))
    with closing(Service(Served(store))) as service:
        app = build_app(service)
        assert post(app, "/judge", {"query": "hoodie", "item_id": "a"}).status_code == 200
        answer = post(app, "/search", {"query": "hoodie"})
        assert (answer.status_code, answer.json()["code"]) == (503, "no-search")
        assert "lore embed" in answer.json()["detail"]
