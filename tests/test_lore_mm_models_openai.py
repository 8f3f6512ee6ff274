"""`openai:` against a server on the loopback that does every wrong thing there is; replies read without a server."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("openai", reason="needs the extra openai")

from lore_mm.errors import ConfigError, ModelError
from lore_mm.models import Chat, ChatReply, ChatRequest, open_chat
from lore_mm.models.chat import Token, Usage
from lore_mm.models.openai_wire import body_of, messages_of, read_reply
from lore_mm.models.pacing import Clock, Pace, back_off, retry_after

SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "weiß"]},
        "material": {"type": "array", "items": {"type": "string"}},
        "size": {"type": "number", "minimum": 1},
    },
    "required": ["color", "material", "size"],
    "additionalProperties": False,
}
GOOD = '{"color": "red", "material": ["cotton", "wool"], "size": 3}'
KEY = "sk-very-secret-0123456789"


def answer(content: str | None = "fine", **more: Any) -> dict[str, Any]:
    finish, logprobs = more.pop("finish_reason", "stop"), more.pop("logprobs", None)
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}
    usage = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
    return {"id": "x", "object": "chat.completion", "choices": [{**choice, "logprobs": logprobs}], "usage": usage}


def logprobs(*tokens: str, raw: list[bytes] | None = None) -> dict[str, Any]:
    """The tokens' log-probabilities are -1, -2, -3 …"""
    told: list[dict[str, Any]] = [{"token": text, "logprob": -1.0 - i} for i, text in enumerate(tokens)]
    for entry, data in zip(told, raw or [], strict=False):
        entry["bytes"] = list(data)
    return {"content": told}


Reply = tuple[int, Any, dict[str, str]]  # status, body (JSON-able or bytes), headers
Script = Callable[
    [dict[str, Any], int], Any
]  # the body asked with, the how-manieth → a body, a Reply, or None: hang up


class Hostile(ThreadingHTTPServer):
    """Says what its script says; counts who asks, what is asked, and how many ask at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.lock = script, threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.flying = self.most_flying = 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients hang up; that is no news


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hostile

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._say(body)

    def do_GET(self) -> None:
        self._say({"path": self.path})

    def _say(self, body: dict[str, Any]) -> None:
        server = self.server
        with server.lock:
            server.asked.append(body)
            server.headers.append({k.lower(): v for k, v in self.headers.items()})
            number = len(server.asked) - 1
            server.flying += 1
            server.most_flying = max(server.most_flying, server.flying)
        said = server.script(body, number)
        with server.lock:
            server.flying -= 1
        if said is None:
            self.close_connection = True
            return
        status, content, headers = said if isinstance(said, tuple) else (200, said, {})
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        if "content-length" in headers:  # a lie
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class Ticker:
    """A clock that only sleeping moves; it remembers each sleep."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []
        self.clock = Clock(now=lambda: self.at, sleep=self.sleep, jitter=lambda: 0.0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


Open = Callable[..., tuple[Chat, Hostile, Ticker]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens a chat on a server with a script; what was opened is closed afterwards."""
    left: list[Any] = []

    def open_(script: Script, **options: Any) -> tuple[Chat, Hostile, Ticker]:
        server, ticker = Hostile(script), Ticker()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        left.extend([server.server_close, thread.join, server.shutdown])
        chat = open_chat(f"openai:{server.url}#m", clock=ticker.clock, **options)
        left.append(chat.close)
        return chat, server, ticker

    yield open_
    for close in reversed(left):
        close()


def ask(text: str = "What is it?", **settings: Any) -> ChatRequest:
    return ChatRequest((text,), **settings)


def one(chat: Chat, request: ChatRequest | None = None) -> ChatReply:
    (reply,) = chat.generate([request or ask()])
    return reply


def words_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


# What is sent


def test_a_request_goes_out_as_the_protocol_wants_it(opened: Open) -> None:
    chat, server, _ = opened(lambda body, n: answer(GOOD))
    request = ask(system="Be short.", json_schema=SCHEMA, max_tokens=9, temperature=0.5, seed=4, logprobs=True)
    assert one(chat, request) == ChatReply(GOOD, usage=Usage(1, 11, 2))
    (body,) = server.asked
    assert body["model"] == "m"
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is it?"},
    ]
    assert (body["max_tokens"], body["temperature"], body["seed"], body["logprobs"]) == (9, 0.5, 4, True)
    form = body["response_format"]
    assert form["type"] == "json_schema"
    assert list(form["json_schema"]["schema"]["properties"]) == ["color", "material", "size"]
    assert form["json_schema"]["schema"]["properties"]["color"] == {"type": "string", "enum": ["red", "weiß"]}
    assert server.headers[0]["authorization"] == "Bearer none"
    assert server.headers[0]["accept-encoding"] == "identity"


def test_pictures_travel_in_order_without_loss_and_alike() -> None:
    pictures = [Image.effect_noise((20, 10), 90).convert("RGB") for _ in range(2)]
    (message,) = messages_of(ChatRequest((pictures[0], "first", pictures[1], "second")))
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["image_url", "text", "image_url", "text"]
    for picture, part in zip(pictures, message["content"][::2], strict=True):
        head, data = part["image_url"]["url"].split(",", 1)
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
            assert sent.tobytes() == picture.tobytes()
    assert messages_of(ChatRequest((pictures[0].copy(),))) == messages_of(ChatRequest((pictures[0],)))


def test_half_a_surrogate_pair_in_a_title_is_sent_as_a_question_mark(opened: Open) -> None:
    chat, server, _ = opened(lambda body, n: answer())
    assert one(chat, ask("caf\ud800é")).error is None
    assert words_of(server.asked[0]) == "caf?é"


def test_newer_models_are_told_their_limit_by_its_newer_name(opened: Open) -> None:
    refusal = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    chat, server, _ = opened(lambda body, n: (400, refusal, {}) if "max_tokens" in body else answer())
    assert [reply.text for reply in chat.generate([ask(max_tokens=7)])] == ["fine"]
    assert one(chat, ask(max_tokens=8)).text == "fine"
    assert [body.get("max_completion_tokens") for body in server.asked] == [None, 7, 8]


# The model and the address


@pytest.mark.parametrize(
    ("models", "legal"),
    [(["only"], True), (["a", "b"], False), ([], False)],
)
def test_a_model_left_out_is_the_only_one_there_is(models: list[str], legal: bool) -> None:
    server = Hostile(lambda body, n: {"object": "list", "data": [{"id": name} for name in models]})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        if legal:
            chat = open_chat(f"openai:{server.url}#")
            assert chat.name == f"openai:{server.url}#only"
            assert chat.sha == open_named("http://elsewhere/v1#only").sha != open_named("http://elsewhere/v1#x").sha
            chat.close()
        else:
            with pytest.raises(ModelError, match=f"which model.*serves: {', '.join(models) or 'none'}"):
                open_chat(f"openai:{server.url}")
        assert server.asked == [{"path": "/v1/models"}]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def open_named(address: str) -> Chat:
    chat = open_chat(f"openai:{address}")
    chat.close()
    return chat


@pytest.mark.parametrize(
    "address",
    ["nonsense", "ftp://host/v1#m", "http:///v1#m", "http://host/v1?key=1#m", "http://[#m", "http://host:x/v1#m"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ModelError, match="no address of a server"):
        open_chat(f"openai:{address}")


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ModelError, match="no user or password") as caught:
        open_chat(f"openai:http://me:{KEY}@host/v1#m")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"retries": -1}, {"timeout_s": 0}, {"requests_per_minute": 0}, {"tokens_per_minute": -1}],
)
def test_options_have_ranges(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="openai: "):
        open_chat("openai:http://127.0.0.1:9/v1#m", **options)


# What comes back wrong


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(opened: Open, status: int) -> None:
    chat, server, ticker = opened(lambda body, n: (status, {"error": {"message": "busy"}}, {}) if n < 3 else answer())
    assert one(chat).text == "fine"
    assert len(server.asked) == 4
    assert ticker.slept == [0.25, 0.5, 1.0]  # half of 0.5, 1 and 2 s: the jitter of this clock is 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_an_error_at_once(opened: Open, status: int) -> None:
    chat, server, ticker = opened(lambda body, n: (status, {"error": {"message": "no\nway " + "x" * 999}}, {}))
    reply = one(chat)
    assert reply.error is not None
    assert reply.error.startswith(f"the server answered {status}: no way xxx")
    assert len(reply.error) < 400
    assert reply.finish == "error"
    assert "no\\nway" in reply.text  # the raw answer
    assert len(server.asked) == 1
    assert ticker.slept == []


def test_after_the_last_attempt_the_row_fails_with_what_was_said(opened: Open) -> None:
    chat, server, ticker = opened(lambda body, n: (500, b"<html><h1>Oops</h1>engine died</html>", {}), retries=2)
    reply = one(chat)
    assert reply.error == "the server answered 500: Oops engine died"
    assert reply.text == "<html><h1>Oops</h1>engine died</html>"
    assert len(server.asked) == 3
    assert len(ticker.slept) == 2


def test_a_used_up_budget_is_not_waited_for(opened: Open) -> None:
    said = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    chat, server, _ = opened(lambda body, n: (429, said, {}))
    assert one(chat).error == "the server answered 429: You exceeded your current quota"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("headers", "wait"), [({"retry-after": "17"}, 17.0), ({"retry-after-ms": "1500"}, 1.5)])
def test_retry_after_is_honoured(opened: Open, headers: dict[str, str], wait: float) -> None:
    chat, _, ticker = opened(lambda body, n: (429, {}, headers) if n == 0 else answer())
    assert one(chat).text == "fine"
    assert ticker.slept == [wait]


def test_a_server_that_asks_to_wait_for_hours_is_not_waited_for(opened: Open) -> None:
    chat, server, ticker = opened(lambda body, n: (503, {"message": "back tomorrow"}, {"retry-after": "86400"}))
    assert one(chat).error == "the server answered 503 (and asks to wait 86,400 s): back tomorrow"
    assert len(server.asked) == 1
    assert ticker.slept == []


GARBAGE = {
    "html": (b"<html>Welcome</html>", "no JSON"),
    "half a JSON body": (json.dumps(answer()).encode()[:60], "no JSON"),
    "nothing": (b"", "no JSON"),
    "a list": (b"[1, 2]", "no object"),
    "no choices": (b'{"id": 3}', "no choice with a message"),
    "empty choices": (b'{"choices": []}', "no choice with a message"),
    "choices of numbers": (b'{"choices": [7]}', "no choice with a message"),
    "an error with 200": (b'{"error": {"message": "overloaded"}}', "the server says: overloaded"),
    "no text": (json.dumps(answer(None)).encode(), "no text"),
    "text that is a list": (json.dumps(answer(["a"])).encode(), "no text"),  # type: ignore[arg-type]
    "no text in time": (json.dumps(answer(None, finish_reason="length")).encode(), "broke off at max_tokens = 256"),
    "deep": (b"[" * 100_000, "no JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "no JSON"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_an_error_with_the_raw_text_kept(opened: Open, name: str) -> None:
    data, reason = GARBAGE[name]
    chat, server, _ = opened(lambda body, n: (200, data, {}))
    reply = one(chat)
    assert reply.error is not None and reason in reply.error
    assert "\n" not in reply.error and len(reply.error) < 500
    assert reply.text.startswith(data[:50].decode("utf-8", "replace"))
    assert len(reply.text) <= 16_001
    assert len(server.asked) == 1


def test_a_refusal_and_a_filter_are_errors(opened: Open) -> None:
    replies = [answer(None, refusal="I will not."), answer("half", finish_reason="content_filter")]
    chat, _, _ = opened(lambda body, n: replies[n])
    first, second = one(chat), one(chat)
    assert (first.error, first.text) == ("the model refused: I will not.", "I will not.")
    assert (second.error, second.text) == ("the server's filter held the reply back", "half")


@pytest.mark.parametrize(
    ("content", "finish", "reason"),
    [
        (GOOD[:20], "length", "broke off at max_tokens = 256"),
        (GOOD[:20], "stop", "does the server obey response_format"),
        ("Sure! " + GOOD, "stop", "does the server obey response_format"),
        (GOOD.replace("red", "beige"), "stop", "breaks the schema: color: 'beige' is not one of the 2 legal values"),
        (GOOD.replace("3", "0"), "stop", "breaks the schema: size: '0' is out of bounds"),
        (GOOD.replace("3", "NaN"), "stop", "NaN is not JSON"),
        (GOOD.replace("3", "1e999"), "stop", "out of range"),
        ('{"color": "red", "color": "red"}', "stop", "twice"),
        ('{"color": "red"}', "stop", "material, size missing"),
        ("7", "stop", "'7' is no object"),
    ],
)
def test_a_server_that_ignores_the_schema_is_found_out(opened: Open, content: str, finish: str, reason: str) -> None:
    chat, _, _ = opened(lambda body, n: answer(content, finish_reason=finish))
    reply = one(chat, ask(json_schema=SCHEMA))
    assert reply.error is not None and reason in reply.error
    assert reply.text == content
    assert reply.usage == Usage(1, 11, 2)


def test_free_text_may_break_off(opened: Open) -> None:
    chat, _, _ = opened(lambda body, n: answer("It is a", finish_reason="length"))
    assert one(chat) == ChatReply("It is a", "length", usage=Usage(1, 11, 2))


def test_absurd_counts_are_not_believed(opened: Open) -> None:
    said = answer() | {"usage": {"prompt_tokens": -5, "completion_tokens": "many"}}
    chat, _, _ = opened(lambda body, n: said)
    assert one(chat).usage == Usage(1, 0, 0)


def test_a_connection_that_breaks_is_tried_again_and_what_came_is_kept(opened: Open) -> None:
    chat, server, _ = opened(lambda body, n: None if n < 2 else answer())
    assert one(chat).text == "fine"
    assert len(server.asked) == 3
    half = json.dumps(answer()).encode()[:40]
    chat, server, _ = opened(lambda body, n: (200, half, {"content-length": "4000"}), retries=1)
    reply = one(chat)
    assert reply.error == "the server's answer broke off after 40 bytes"
    assert reply.text == half.decode()
    assert len(server.asked) == 2


def test_a_compressed_answer_is_refused_and_a_redirect_is_not_followed(opened: Open) -> None:
    elsewhere = {"location": "http://127.0.0.1:9/other"}
    replies: list[Reply] = [(200, b"\x1f\x8b", {"content-encoding": "gzip"}), (307, b"", elsewhere)]
    chat, server, _ = opened(lambda body, n: replies[n])
    assert "compressed (gzip), unasked" in str(one(chat).error)
    assert "redirects to 'http://127.0.0.1:9/other'" in str(one(chat).error)
    assert len(server.asked) == 2


def test_an_answer_without_end_is_cut(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from lore_mm.models import openai_client

    monkeypatch.setattr(openai_client, "_MOST_BYTES", 1000)
    chat, _, _ = opened(lambda body, n: (200, b"x" * 5000, {}))
    reply = one(chat)
    assert reply.error == "the server's answer is longer than 1,000 bytes"
    assert set(reply.text) == {"x"}


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(opened: Open) -> None:
    release = threading.Event()

    def script(body: dict[str, Any], n: int) -> Any:
        if words_of(body) == "slow":
            release.wait(30)
        return answer()

    chat, server, _ = opened(script, timeout_s=0.2, retries=1)
    slow, fast = chat.generate([ask("slow"), ask("fast")])
    release.set()
    assert slow.error == "no answer within 0.2 s"
    assert fast.text == "fine"
    assert sorted(map(words_of, server.asked)) == ["fast", "slow", "slow"]


# The engine that is dead


def test_where_nothing_answers_the_engine_is_dead(opened: Open) -> None:
    chat, server, ticker = opened(lambda body, n: answer(), retries=2, concurrency=4)
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match=r"openai:http://127.0.0.1:\d+/v1#m: the server cannot be reached"):
        chat.generate([ask(str(i)) for i in range(100)])
    assert 2 <= len(ticker.slept) <= 8  # those behind the first to give up are not tried


def test_one_that_dies_in_mid_call_fails_the_rows_that_are_left(opened: Open) -> None:
    servers: list[Hostile] = []

    def script(body: dict[str, Any], n: int) -> Any:
        if n == 2:
            servers[0].shutdown()
            servers[0].server_close()
            return 200, answer(), {"connection": "close"}
        return 200, answer(), {"connection": "close"}

    chat, server, _ = opened(script, retries=1, concurrency=1)
    servers.append(server)
    replies = chat.generate([ask(str(i)) for i in range(6)])
    assert [reply.error is None for reply in replies] == [True, True, True, False, False, False]
    assert all("cannot be reached" in str(reply.error) for reply in replies[3:])


def test_closed_is_closed(opened: Open) -> None:
    chat, _, _ = opened(lambda body, n: answer())
    assert chat.generate([]) == []
    chat.close()
    chat.close()
    with pytest.raises(ModelError, match="closed"):
        chat.generate([ask()])


def test_closing_ends_the_calls_that_still_wait(opened: Open) -> None:
    here, release = threading.Event(), threading.Event()

    def script(body: dict[str, Any], n: int) -> Any:
        here.set()
        release.wait(30)
        return answer()

    chat, _, _ = opened(script)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat.generate, [ask()])
        here.wait(30)
        chat.close()
        with pytest.raises(ModelError, match="closed while it worked"):
            waiting.result(30)
    release.set()


# Many at once


def test_order_is_kept_whatever_comes_first_and_no_more_fly_than_may(opened: Open) -> None:
    turn = threading.Condition()
    done: list[int] = []

    def script(body: dict[str, Any], n: int) -> Any:
        number = int(words_of(body))
        with turn:  # of each pair the second answers first
            if number % 2 == 0:
                turn.wait_for(lambda: number + 1 in done, 0.05)
            done.append(number)
            turn.notify_all()
        return answer(f"reply {number}")

    chat, server, _ = opened(script, concurrency=16)
    replies = chat.generate([ask(str(i)) for i in range(1000)])
    assert [reply.text for reply in replies] == [f"reply {i}" for i in range(1000)]
    assert done != sorted(done)
    assert len(server.asked) == 1000
    assert 1 < server.most_flying <= 16


def test_callers_share_the_bound(opened: Open) -> None:
    chat, server, _ = opened(lambda body, n: answer(words_of(body)), concurrency=3)
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(chat.generate, [ask(f"{c}.{i}") for i in range(20)]) for c in range(6)]
        texts = [[reply.text for reply in call.result(60)] for call in calls]
    assert texts == [[f"{c}.{i}" for i in range(20)] for c in range(6)]
    assert server.most_flying <= 3


def test_only_pictures_about_to_be_sent_are_encoded(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from lore_mm.models import openai_http

    encoded, lock, most = [0], threading.Lock(), [0]

    def counted(request: ChatRequest) -> Any:
        with lock:
            encoded[0] += 1
            most[0] = max(most[0], encoded[0])
        return messages_of(request)

    def script(body: dict[str, Any], n: int) -> Any:
        with lock:
            encoded[0] -= 1
        return answer()

    monkeypatch.setattr(openai_http, "messages_of", counted)
    chat, _, _ = opened(script, concurrency=4)
    picture = Image.new("RGB", (8, 8), "red")
    replies = chat.generate([ChatRequest((picture, str(i))) for i in range(200)])
    assert {reply.text for reply in replies} == {"fine"}
    assert most[0] <= 8  # 4 in flight, and 4 more whose predecessors' answers are being read


def test_a_picture_that_cannot_be_encoded_fails_its_row_alone(opened: Open) -> None:
    closed = Image.new("RGB", (8, 8))
    closed.close()
    chat, server, _ = opened(lambda body, n: answer())
    bad, good = chat.generate([ChatRequest((closed,)), ask()])
    assert str(bad.error).startswith("a picture cannot be encoded")
    assert good.text == "fine"
    assert len(server.asked) == 1


# Limits


def test_requests_are_spaced_so_that_no_minute_holds_more_than_its_limit(opened: Open) -> None:
    chat, server, ticker = opened(lambda body, n: answer(), requests_per_minute=30, concurrency=1)
    chat.generate([ask(str(i)) for i in range(10)])
    assert ticker.slept == [2.0] * 9
    assert len(server.asked) == 10


def test_tokens_are_counted_as_the_server_counts_them(opened: Open) -> None:
    chat, _, ticker = opened(lambda body, n: answer(), tokens_per_minute=60, concurrency=1)
    chat.generate([ask("x" * 40, max_tokens=50) for _ in range(3)])  # taken for 10 + 50 tokens, in truth 13
    assert ticker.slept == pytest.approx([13.0, 13.0])


def test_a_limit_is_shared_by_all_that_wait_when_the_server_asks_for_it() -> None:
    ticker = Ticker()
    pace = Pace(60, ticker.clock)
    assert [pace.reserve() for _ in range(3)] == [0.0, 1.0, 2.0]
    pace.pause(30)
    assert [pace.reserve(), pace.reserve()] == [30.0, 31.0]
    ticker.at = 100.0
    assert pace.reserve(2) == 0.0
    pace.correct(3)
    assert pace.reserve() == 5.0
    assert [Pace(None, ticker.clock).reserve(9) for _ in range(2)] == [0.0, 0.0]


def test_waits_grow_and_end() -> None:
    sure, full = Clock(jitter=lambda: 0.0), Clock(jitter=lambda: 1.0)
    assert [back_off(i, None, sure) for i in range(4)] == [0.25, 0.5, 1.0, 2.0]
    assert [back_off(i, None, full) for i in (0, 1, 6, 10**6)] == [0.5, 1.0, 30.0, 30.0]
    assert (back_off(0, 10.0, sure), back_off(9, 10.0, full)) == (10.0, 11.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 99 Jan 1970 00:00:00 GMT"}, None),
    ],
)
def test_what_retry_after_says(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, wall=lambda: 10.0) == seconds


# Secrets


def test_the_key_is_sent_and_stands_nowhere_else(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    replies: list[Reply] = [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, {}),
        (200, f"<p>{KEY}</p>".encode(), {}),
        (200, answer(f"The key is {KEY}"), {}),
    ]
    chat, server, _ = opened(lambda body, n: replies[n])
    said = [repr(one(chat)) for _ in replies]
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in server.headers)
    assert "Incorrect API key provided: ***." in said[0]
    for text in (*said, caplog.text, repr(chat), chat.name, chat.sha, repr(vars(chat))):
        assert KEY not in text
    chat, _, _ = opened(lambda body, n: (302, b"", {"location": f"http://x/{KEY}"}))
    assert "redirects to 'http://x/***'" in str(one(chat).error)


# Tokens


@pytest.mark.parametrize(
    ("raw", "tokens", "kept"),
    [
        (GOOD, [GOOD[:10], GOOD[10:]], [GOOD[:10], GOOD[10:]]),
        (GOOD, [GOOD, "<|im_end|>"], [GOOD]),  # the end of the turn is left out
        (
            '{"color":"red","material":["cotton","wool"],"size":3}',
            ['{"', "color", '":"', "red", '","', 'material":["cotton"', ',"wool"]', ',"size":3}'],
            ['{"', "color", '": "', "red", '", "', 'material": ["cotton"', ', "wool"]', ', "size": 3}'],
        ),
        (
            ' {\n "color": "red",\n "material": [ "cotton", "wool" ],\n "size": 3\n}',
            [" {", "\n", ' "color": "red",\n "material"', ': [ "cotton", ', '"wool" ],\n', ' "size": 3', "\n}"],
            ["{", '"color": "red", "material"', ': ["cotton", ', '"wool"], ', '"size": 3', "}"],
        ),
        ('{"size": 3, "color": "red", "material": ["cotton", "wool"]}', ["{", "…"], []),  # the order of keys
        (GOOD.replace("red", "r\\u0065d"), [GOOD.replace("red", "r\\u0065d")], []),  # an escape
        (GOOD, ["something", "else"], []),
    ],
)
def test_tokens_follow_the_text_into_its_one_spelling(raw: str, tokens: list[str], kept: list[str]) -> None:
    reply = read_reply(json.dumps(answer(raw, logprobs=logprobs(*tokens))), ask(json_schema=SCHEMA, logprobs=True))
    assert (reply.error, reply.text) == (None, GOOD)
    assert [token.text for token in reply.tokens] == kept
    if kept:
        assert "".join(kept) == GOOD
        by_text = dict(zip(tokens, logprobs(*tokens)["content"], strict=True))
        firsts = [token.logprob for token in reply.tokens]
        assert set(firsts) <= {entry["logprob"] for entry in by_text.values()}
        assert firsts == sorted(firsts, reverse=True)


def test_letters_spread_over_tokens_belong_to_the_last() -> None:
    data = "weiß!".encode()
    told = logprobs("wei", "\\xc3", "\\x9f!", raw=[data[:3], data[3:4], data[4:]])
    reply = read_reply(json.dumps(answer("weiß!", logprobs=told)), ask(logprobs=True))
    assert reply.tokens == (Token("wei", -1.0), Token("", -2.0), Token("ß!", -3.0))


@pytest.mark.parametrize(
    ("content", "tokens", "kept"),
    [
        ("not\ufffd\x17i", ["<|pad|>", "not", "", "\x17", "i", ""], ["not", "", "\ufffd\x17", "i", ""]),
        (
            "\ufffd\ufffdin\ufffd\ufffdme",
            ["", "", "in", "", "\ufffdme"],
            ["", "", "\ufffd\ufffdin", "", "\ufffd\ufffdme"],
        ),
        ("\ufffd\ufffdin\ufffdme", ["", "", "in", "\ufffdme"], ["", "", "\ufffd\ufffdin", "\ufffdme"]),
        ("at\U000fa9e8me", ["at", "", "", "\ufffdme"], ["at", "", "", "\U000fa9e8me"]),
        ("ok\ufffd", ["ok", ""], ["ok", "\ufffd"]),
        ("ok", ["ok", "</s>"], ["ok"]),
        ("<b>ok", ["<b>", "ok", "[EOS]"], ["<b>", "ok"]),
    ],
)
def test_half_letters_and_special_tokens(content: str, tokens: list[str], kept: list[str]) -> None:
    reply = read_reply(json.dumps(answer(content, logprobs=logprobs(*tokens))), ask(logprobs=True))
    assert [token.text for token in reply.tokens] == kept
    assert reply.text == content


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        {"content": None},
        {"content": [7]},
        {"content": [{"token": "fine"}]},
        {"content": [{"token": "fine", "logprob": "x"}]},
    ],
)
def test_log_probabilities_that_are_none_leave_no_tokens(told: Any) -> None:
    reply = read_reply(json.dumps(answer(logprobs=told)), ask(logprobs=True))
    assert (reply.text, reply.tokens, reply.error) == ("fine", (), None)


def test_tokens_come_only_where_they_were_asked_for() -> None:
    text = json.dumps(answer(logprobs=logprobs("fine")))
    assert read_reply(text, ask()).tokens == ()
    assert read_reply(text, ask(logprobs=True)).tokens == (Token("fine", -1.0),)


# Likelihoods


def vllm_like(body: dict[str, Any], n: int) -> dict[str, Any]:
    """Tokens are letters; the log-probability of a letter of a reply is -its place in the alphabet, of the end -0.5."""
    *before, last = body["messages"]
    prompt, said = [ord(c) for c in json.dumps(before + [last] * (last["role"] == "user"))] + [1], []
    if last["role"] == "assistant":
        said = (
            [ord(c) for c in last["content"]] + []
            if body.get("continue_final_message")
            else [*(ord(c) for c in last["content"]), 2, 10]
        )
    ids = prompt + said
    told: list[Any] = [
        None,
        *({str(i): {"logprob": -0.5 if i == 2 else 96.0 - i}, "7": {"logprob": -9}} for i in ids[1:]),
    ]
    extra = {"prompt_token_ids": ids} | ({"prompt_logprobs": told} if "prompt_logprobs" in body else {})
    return answer("x") | extra | {"usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}


def test_likelihoods_are_sums_over_the_choice_and_the_end_of_its_turn(opened: Open) -> None:
    chat, server, _ = opened(vllm_like)
    reply = one(chat, ask(choices=("ab", "c", "")))
    assert reply.error is None
    assert reply.likelihoods == (-3.5, -3.5, -0.5)  # -1 - 2 - 0.5, -3 - 0.5, -0.5
    assert reply.usage.calls == 1
    assert reply.usage.completion_tokens == 4
    assert len(server.asked) == 2 + 1 + 3  # what the server can; the request; the choices
    assert one(chat, ask(choices=("d",))).likelihoods == (-4.5,)
    assert len(server.asked) == 6 + 2


def test_a_server_that_cannot_tell_likelihoods_says_so_and_is_asked_once(opened: Open) -> None:
    for script in (lambda body, n: answer(), lambda body, n: (400, {"error": {"message": "extra fields"}}, {})):
        chat, server, _ = opened(script)
        replies = chat.generate([ask(choices=("a", "b"))] * 3)
        assert {reply.error for reply in replies} == {
            "this server cannot tell likelihoods of choices: it gives no prompt_logprobs (vLLM does)"
        }
        assert {reply.likelihoods for reply in replies} == {()}
        assert len(server.asked) <= 2


def test_a_sick_server_is_not_taken_for_one_that_cannot(opened: Open) -> None:
    chat, _, _ = opened(lambda body, n: (500, {}, {}) if n == 0 else vllm_like(body, n), retries=0)
    first, second = one(chat, ask(choices=("a",))), one(chat, ask(choices=("a",)))
    assert first.error == "the server answered 500: {}"
    assert second.likelihoods == (-1.5,)


def test_choices_and_a_schema_exclude_each_other(opened: Open) -> None:
    chat, server, _ = opened(lambda body, n: answer())
    assert "not both" in str(one(chat, ask(choices=("a",), json_schema=SCHEMA)).error)
    assert server.asked == []


def test_a_schema_that_is_none_fails_its_row_alone(opened: Open) -> None:
    chat, _, _ = opened(lambda body, n: answer("7"))
    bad, good = chat.generate([ask(json_schema={"type": "no such"}), ask(json_schema={"type": "integer"})])
    assert "no type 'no such'" in str(bad.error)
    assert (good.text, good.error) == ("7", None)


def test_body_leaves_out_what_is_not_asked_for() -> None:
    assert body_of(ask(), "m", []) == {"model": "m", "messages": [], "temperature": 0.0, "max_tokens": 256}
    assert "seed" in body_of(replace(ask(), seed=0), "m", [])
