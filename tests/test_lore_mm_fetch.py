"""Pictures by URL: what may be reached, what may not, by whatever spelling, redirect or trick. Loopback only."""

from __future__ import annotations

import io
import ipaddress
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from PIL import Image

from lore_mm.errors import PictureError
from lore_mm.fetch import Resolver, fetch, is_public
from lore_mm.images import PicturePolicy, load_picture, load_pictures

ON = PicturePolicy(allow_urls=True)
HOME = replace(ON, allow_hosts=("127.0.0.1",))
NOT_A_URL = "not a URL that is read: http:// or https://, a plain host, no user name, no blanks"
PUBLIC = "93.184.215.14"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Shop:
    """A picture server on loopback; `seen` are the requests it got."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.closing = Event()
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.seen.append((self.path, dict(self.headers)))
                shop.answers.get(self.path.split("?")[0], lambda h: h.send_error(404))(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients here hang up on purpose
        self.port = self.server.server_address[1]

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def gives(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirects(where: str, status: int = 302) -> Answer:
    return gives(b"", status, Location=where)


@pytest.fixture
def shop() -> Iterator[Shop]:
    one = Shop()
    thread = Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield one
    finally:
        one.closing.set()
        one.server.shutdown()
        one.server.server_close()
        thread.join()


def refused(url: str, policy: PicturePolicy = HOME, **options: Resolver) -> str:
    with pytest.raises(PictureError) as caught:
        fetch(url, policy, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def never(host: str, port: int) -> list[str]:
    raise AssertionError(f"looked up {host}")


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: tuple[str, int], **_: object) -> socket.socket:
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket, "create_connection", connect)


def test_off_unless_allowed(shop: Shop) -> None:
    assert refused(shop.url("/a"), PicturePolicy()) == "pictures by URL are off; --allow-urls allows them"
    assert shop.seen == []


def test_a_picture_comes_as_it_is_and_the_request_is_plain(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    shop.answers["/a%20b.jpg"] = gives(bytes(range(256)))
    assert fetch(shop.url("/a%20b.jpg?w=1&q=%C3%A4#part"), HOME) == bytes(range(256))
    ((path, headers),) = shop.seen
    assert path == "/a%20b.jpg?w=1&q=%C3%A4"
    assert headers == {
        "Host": f"127.0.0.1:{shop.port}",
        "User-Agent": "lore-mm",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def test_through_load_picture(shop: Shop) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (1, 2, 3)).save(buffer, "PNG")
    shop.answers["/a"] = gives(buffer.getvalue())
    shop.answers["/page"] = gives(b"<!DOCTYPE html><html>not here</html>", Content_Type="image/png")
    picture = load_picture(shop.url("/a"), "/nowhere", HOME)
    assert picture.image.getpixel((29, 19)) == (1, 2, 3)
    page, missing = load_pictures([shop.url("/page"), shop.url("/no")], None, HOME)
    assert str(page).startswith(f"picture '{shop.url('/page')}': not a picture of a format that is read (")
    assert str(page).endswith("; this is a web page")
    assert str(missing) == f"picture '{shop.url('/no')}': the server answered 404"


PRIVATE = [
    "127.0.0.1", "127.255.0.3", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.8", "192.0.0.192", "192.0.2.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.7", "192.88.99.1", "168.63.129.16", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "3fff::1", "100::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::",
    "2002:a9fe:a9fe::1", "2002:c0a8:101::", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "5f00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_by_number_or_name(address: str, no_connections: None) -> None:
    assert not is_public(ipaddress.ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    plain = str(ipaddress.ip_address(address))
    host = address.lower()
    assert refused(f"http://{literal}/a.jpg", ON, resolver=never) == f"the host {host} is not a public address"
    said = refused("https://shop.example/a.jpg", ON, resolver=lambda host, port: [PUBLIC, address])
    assert said == f"the host shop.example is at {plain}, which is not a public address"


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:21f::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0x7f.0.0.1/",
        "http://127.0.0.1.0x1/", "http://017700000001/", "http://0/", "http://127.0.0.01/", "http://1.1.1.1.1/",
        "http://user@127.0.0.1/", "http://good.example@127.0.0.1/", "http://good.example:80@127.0.0.1/",
        "http://good.example%2f@127.0.0.1/", "http://good.example\\@127.0.0.1/", "http://127.0.0.1\\.good.example/",
        "http://①②⑦.⓪.⓪.①/", "http://１２７.0.0.1/", "http://127。0。0。1/", "http://bücher.example/", "http://%31%32%37.0.0.1/",
        "http://[::1%25lo]/", "http://[fe80::1%eth0]/", "http://[::1/", "http://::1/", "http://[127.0.0.1]/",
        "http:///etc", "http://a..b/", "http://-a.example/", "http://.example/", "http://a b.example/",
        "http://a.example/\nHost: b", "http://a.example:/x", "http://a.example:99999/", "http://a.example:0/", "http://a.example:-1/",
        "http:a.example", "ftp://a.example/", "file:///etc/passwd", "gopher://127.0.0.1/", "//127.0.0.1/", "127.0.0.1",
        "", "javascript:1", "http://a.example/\ud800", "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
    ],
)  # fmt: skip
def test_odd_spellings_do_not_slip_through(url: str, no_connections: None) -> None:
    said = refused(url, ON, resolver=lambda host, port: [])
    assert said.split(" ")[0] == "not", said  # not a URL … / not a host name … / not a port


@pytest.mark.parametrize("host", ["127.0.0.1.", "LOCALHOST", "localhost.", "localtest.example"])
def test_other_names_of_this_machine(host: str, no_connections: None) -> None:
    assert refused(f"http://{host}/", ON, resolver=lambda host, port: ["127.0.0.1"]).endswith("not a public address")


def test_a_host_that_cannot_be_found(no_connections: None) -> None:
    def fails(host: str, port: int) -> list[str]:
        raise socket.gaierror("no")

    assert refused("http://shop.example/", ON, resolver=fails) == "the host shop.example cannot be found"


def test_other_ports_only_for_allowed_hosts(shop: Shop, no_connections: None) -> None:
    said = refused("http://shop.example:8080/a", ON, resolver=lambda host, port: [PUBLIC])
    assert said == "port 8080 is not allowed; legal ports: 80, 443"
    assert refused("http://shop.example:22/a", ON, resolver=never) == "port 22 is not allowed; legal ports: 80, 443"


def test_an_allowed_host_is_that_name_exactly(shop: Shop) -> None:
    shop.answers["/a"] = gives(b"x")
    at_home = {"resolver": lambda host, port: ["127.0.0.1"]}
    policy = replace(ON, allow_hosts=("Pictures.shop.test",))
    assert fetch(shop.url("/a", "pictures.SHOP.test."), policy, **at_home) == b"x"
    assert shop.seen[0][1]["Host"] == f"pictures.shop.test:{shop.port}"
    for host in ("shop.test", "x.pictures.shop.test", "pictures.shop.test.evil.example"):
        assert "not allowed" in refused(shop.url("/a", host), policy, **at_home)
    assert len(shop.seen) == 1


def test_the_vetted_address_is_connected_to_and_no_name_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name that is public when asked first and 127.0.0.1 when asked again."""
    asked: list[str] = []
    connected: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    def connect(address: tuple[str, int], **_: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError("not today")

    def lookup(*_: object, **__: object) -> None:
        raise AssertionError("a second look-up")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert refused("http://rebind.example/a", ON, resolver=rebinding) == "the server rebind.example failed (not today)"
    assert (asked, connected) == (["rebind.example"], [(PUBLIC, 80)])


def test_the_default_resolver_gives_addresses(no_connections: None) -> None:
    assert refused("http://localhost/", ON).startswith("the host localhost is at ")


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_followed(self, shop: Shop, status: int) -> None:
        shop.answers["/old/a"] = redirects("../new/a", status)
        shop.answers["/new/a"] = gives(b"here")
        assert fetch(shop.url("/old/a"), HOME) == b"here"

    @pytest.mark.parametrize(
        ("where", "why"),
        [
            ("http://127.0.0.2/a", "the host 127.0.0.2 is not a public address"),
            ("http://169.254.169.254/latest/meta-data/", "the host 169.254.169.254 is not a public address"),
            ("http://[::1]/a", "the host ::1 is not a public address"),
            ("//10.0.0.1/a", "the host 10.0.0.1 is not a public address"),
            ("https://[::ffff:127.0.0.1]/a", "the host ::ffff:127.0.0.1 is not a public address"),
            ("http://rebind.example/", "the host rebind.example is at 192.168.0.1, which is not a public address"),
            ("http://0x7f000001/", "not a host name or address: '0x7f000001'"),
            ("http://rebind.example:6379/", "port 6379 is not allowed; legal ports: 80, 443"),
            ("file:///etc/passwd", NOT_A_URL),
            ("http://a@b.example/", NOT_A_URL),
        ],
    )  # fmt: skip
    def test_to_a_forbidden_place(self, shop: Shop, where: str, why: str) -> None:
        shop.answers["/a"] = redirects(where)
        assert refused(shop.url("/a"), resolver=lambda host, port: ["192.168.0.1"]) == why

    def test_too_many(self, shop: Shop) -> None:
        for i in range(9):
            shop.answers[f"/{i}"] = redirects(f"/{i + 1}")
        shop.answers["/9"] = gives(b"end")
        assert refused(shop.url("/5")) == "more than 3 redirects"
        assert fetch(shop.url("/6"), HOME) == b"end"

    def test_without_a_place(self, shop: Shop) -> None:
        shop.answers["/a"] = gives(b"", 302)
        assert refused(shop.url("/a")) == "the server answered 302"


class TestBodies:
    small = replace(HOME, max_bytes=1000)

    def test_exactly_the_limit(self, shop: Shop) -> None:
        shop.answers["/a"] = gives(b"x" * 1000)
        assert fetch(shop.url("/a"), self.small) == b"x" * 1000

    def test_too_large_by_its_own_account(self, shop: Shop) -> None:
        shop.answers["/a"] = gives(b"", Content_Length="123456789")
        assert refused(shop.url("/a"), self.small) == "the file has 123,456,789 bytes, the limit is 1,000"

    @pytest.mark.parametrize("claim", ["", "0x10"])
    def test_too_large_without_saying_so(self, shop: Shop, claim: str) -> None:
        shop.answers["/a"] = gives(b"x" * 1_000_000, Content_Length=claim)
        assert refused(shop.url("/a"), self.small) == "the file has more than 1,000 bytes, the limit"

    def test_chunked(self, shop: Shop) -> None:
        body = b"5\r\nhello\r\n0\r\n\r\n"

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

        shop.answers["/a"] = answer
        assert fetch(shop.url("/a"), self.small) == b"hello"

    def test_cut_off(self, shop: Shop) -> None:
        shop.answers["/a"] = gives(b"x" * 10, Content_Length="20")
        assert refused(shop.url("/a")) == "the server 127.0.0.1 failed (IncompleteRead(10 bytes read))"

    def test_packed(self, shop: Shop) -> None:
        shop.answers["/a"] = gives(b"x", Content_Encoding="gzip")
        assert refused(shop.url("/a")) == "the server packed the answer ('gzip'), which was not asked for"

    @pytest.mark.parametrize("status", [204, 206, 401, 403, 404, 500])
    def test_other_answers(self, shop: Shop, status: int) -> None:
        shop.answers["/a"] = gives(b"", status)
        assert refused(shop.url("/a")) == f"the server answered {status}"

    def test_no_http_at_all(self, shop: Shop) -> None:
        shop.answers["/a"] = lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n") and None
        assert refused(shop.url("/a")).startswith("the server 127.0.0.1 failed (")

    @pytest.mark.parametrize("part", ["header", "body", "nothing"])
    def test_a_byte_now_and_then(self, shop: Shop, part: str) -> None:
        """No single read is slow; the whole is."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if part == "body":
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not shop.closing.wait(0.02):
                if part != "nothing":
                    handler.wfile.write(b"x")

        shop.answers["/a"] = answer
        assert refused(shop.url("/a"), replace(HOME, max_seconds=0.3)) == "the server took longer than 0.3 s"

    def test_nobody_there(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            said = refused(f"http://127.0.0.1:{taken.getsockname()[1]}/a")
        assert said.startswith("the server 127.0.0.1 failed (")


class TestTLS:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        """A certificate for pictures.test, signed by itself, made anew: keys do not belong in a repository."""
        if shutil.which("openssl") is None:
            pytest.skip("needs the openssl command to make a certificate")
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
        names = ["-addext", "subjectAltName=DNS:pictures.test"]
        subprocess.run([*command.split(), *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate, key

    @contextmanager
    def serving(self, pair: tuple[Path, Path]) -> Iterator[tuple[Shop, list[str]]]:
        shop, names = Shop(), []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        context.sni_callback = lambda sock, name, ctx: names.append(name)
        shop.server.socket = context.wrap_socket(shop.server.socket, server_side=True)
        thread = Thread(target=shop.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield shop, names
        finally:
            shop.server.shutdown()
            shop.server.server_close()
            thread.join()

    def test_the_name_is_verified_though_an_address_is_connected_to(
        self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = replace(ON, allow_hosts=("pictures.test", "other.test"))
        home: Resolver = lambda host, port: ["127.0.0.1"]  # noqa: E731
        with self.serving(pair) as (shop, names):
            shop.answers["/a"] = gives(b"secret cat")
            untrusted = refused(shop.url("/a", "pictures.test", "https"), policy, resolver=home)
            assert "CERTIFICATE_VERIFY_FAILED" in untrusted
            monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
            assert fetch(shop.url("/a", "pictures.test", "https"), policy, home) == b"secret cat"
            assert names[-1] == "pictures.test"
            assert shop.seen[-1][1]["Host"] == f"pictures.test:{shop.port}"
            assert "Hostname mismatch" in refused(shop.url("/a", "other.test", "https"), policy, resolver=home)
            assert len(shop.seen) == 1
