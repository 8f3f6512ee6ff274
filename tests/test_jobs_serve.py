"""`lore serve` as a process: the wire, the signals, hot reload, and its OpenAPI document tried out."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

from jobs import serve
from lore_mm.console import command_app
from lore_mm.errors import ConfigError, InputError
from tests.serving import TITLES, ingest, make_shop, served

PAIR = {"query": "red hoodie", "item_id": "a"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def address(shop):
    with served(shop, "--receive-s", "1") as (_, address):
        yield address


def client(address):
    return httpx.Client(base_url=address, trust_env=False, timeout=60)


def wire(address, *pieces, pause_s=0.0):
    """What the server answers to these bytes, until it closes the connection."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:
            pass  # closed while we were sending
    return answer


def problem(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    told = json.loads(body)
    assert int(head.split()[1]) == told["status"]
    return told["status"], told["code"]


HEAD = b"POST /judge HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET /he\xffalthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: a\x00b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx y: z\r\n\r\n", 400),
        (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400),
        (HEAD + b"content-length: -2\r\n\r\n{}", 400),
        (HEAD + b"transfer-encoding: nonsense\r\n\r\n{}", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: slow", 408),  # and no more
        (HEAD + b"connection: close\r\ncontent-length: 20\r\n\r\n{", 408),  # and no more
        (HEAD + b"connection: close\r\ncontent-length: 99999999\r\n\r\n", 408),  # and nothing
        (b"GET //evil.example/judge HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n", 404),
        (b"GET http://evil.example/judge HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", 421),
        (b"GET /../../etc/passwd HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n", 404),
        (b"BREW /judge HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n", 405),
    ],
)
def test_what_is_no_request_is_a_problem_and_the_connection_ends(address, sent, status):
    assert problem(wire(address, sent))[0] == status


def test_headers_that_trickle_are_cut_off_and_others_are_served_meanwhile(address):
    trickle = [b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n", *(b"x-%d: y\r\n" % i for i in range(40))]
    with ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(wire, address, *trickle, pause_s=0.1) for _ in range(20)]
        with client(address) as ours:
            assert ours.post("/judge", json=PAIR).json()["grade"] == "L4"
        answers = [one.result() for one in slow]
    assert {problem(one) for one in answers if one} <= {(408, "too-slow-headers")}
    assert not any(b"200 OK" in one for one in answers)
    assert wire(address) == b""  # who says nothing is not waited for for ever


def test_requests_one_behind_another_on_a_connection_are_answered_in_order(address):
    body = json.dumps(PAIR).encode()
    one = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    last = b"GET /features/nobody HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    answer = wire(address, one * 5 + last)
    assert [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200] * 5 + [404]


def test_too_large_a_body_is_heard_of(address):
    with client(address) as ours:
        answer = ours.post("/judge", content=b" " * (5 << 20), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
        parts = (b" " * 65536 for _ in range(80))
        answer = ours.post("/judge", content=parts, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert ours.post("/judge", json=PAIR).status_code == 200


def test_sigterm_answers_what_was_accepted(shop):
    """Requests whose bodies are half sent when the signal comes are accepted: they are answered, and then it ends."""
    with served(shop) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        body = json.dumps({"query": "lamp", "item_ids": list(TITLES)}).encode()
        held = [socket.create_connection((host, int(port)), timeout=60) for _ in range(10)]
        for connection in held:
            connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body[:10])
        with client(address) as ours:
            while b"lore_serve_requests_in_flight 11.0" not in ours.get("/metrics").content:  # and this one
                time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while True:  # nobody new comes in
            try:
                socket.create_connection((host, int(port)), timeout=60).close()
                time.sleep(0.01)
            except ConnectionError:
                break
        assert process.poll() is None
        for connection in held:
            connection.sendall(body[10:])
        answers = []
        for connection in held:
            with connection, connection.makefile("rb") as read:
                answers.append(read.read())
        assert process.wait(60) == 0
        assert process.stderr.read().strip() == "ended; all that was accepted is answered"
    for answer in answers:
        head, _, told = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert [one["item_id"] for one in json.loads(told)["judgments"]] == list(TITLES)


def test_another_version_of_the_store_is_loaded_while_it_serves(tmp_path):
    store = make_shop(tmp_path)
    with served(store, "--watch-s", "0.1") as (_, address), ThreadPoolExecutor(3) as pool:
        ended = threading.Event()

        def asking():
            found = []
            with client(address) as ours:
                while not ended.is_set():
                    answer = ours.post("/judge", json=PAIR)
                    found.append((answer.status_code, answer.json().get("grade"), answer.headers["x-lore-served"]))
            return found

        asked = [pool.submit(asking) for _ in range(3)]
        try:
            ingest(store, tmp_path, {"a": "Camera lens"})
            with client(address) as ours:
                while ours.post("/judge", json=PAIR).json()["grade"] != "L1":
                    time.sleep(0.05)
        finally:
            ended.set()
        found = [one for each in asked for one in each.result()]
    assert {status for status, *_ in found} == {200}
    assert {grade for _, grade, _ in found} <= {"L4", "L2", "L1"}  # nothing between: a title, or what stands of it
    for each in asked:
        desks = [desk for *_, desk in each.result()]
        assert len([1 for one, other in pairwise(desks) if one != other]) == len(set(desks)) - 1  # never back


def test_sighup_loads_anew_and_keys_are_read_again(shop, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("shop 0123456789abcdef\n")
    with served(shop, "--keys", str(keys)) as (process, address), client(address) as ours:
        assert ours.get("/features/a", headers={"x-api-key": "0123456789abcdef"}).status_code == 200
        keys.write_text("shop fedcba9876543210\n")
        process.send_signal(signal.SIGHUP)
        while ours.get("/features/a", headers={"x-api-key": "fedcba9876543210"}).status_code == 401:
            time.sleep(0.05)
        assert ours.get("/features/a", headers={"x-api-key": "0123456789abcdef"}).status_code == 401
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_other_machines_are_served_with_keys_only(shop, tmp_path, monkeypatch):
    door = command_app(serve.main, "lore serve")
    common = ["--store", shop.uri, "--embedder", "scripted:3", "--port", "0"]
    with pytest.raises(InputError, match=r"0\.0\.0\.0 is open to other machines: name API keys"):
        door([*common, "--host", "0.0.0.0"], standalone_mode=False)
    (tmp_path / "keys").write_text("shop short\n")
    with pytest.raises(ConfigError, match="line 1: legal: NAME KEY, the key at least 16 ASCII characters"):
        door([*common, "--keys", str(tmp_path / "keys")], standalone_mode=False)
    with pytest.raises(InputError, match=r"--host 203\.0\.113\.1 --port 0: .*; name another"):
        door([*common, "--host", "203.0.113.1"], standalone_mode=False)


def test_the_document_is_tried_out_and_nothing_fails(address):
    """Schemathesis makes requests of the schema, good and bad ones; none may end in a 5xx or against the schema."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/reload":
            continue
        bad = operation.method == "post"  # any text is a good id
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)[: 1 + bad]:

            @settings(
                max_examples=15,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case):
                case.call_and_validate(
                    checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
                )

            one()
            tried.add(operation.path)
    assert len(tried) == 7
