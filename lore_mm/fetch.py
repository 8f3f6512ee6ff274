"""One file from a URL, with the care that a URL out of a stranger's catalogue needs.

Off unless the policy allows it. The host is resolved once, every address it has must be a public one, and the
connection goes to the address that was vetted, so that a second look-up cannot lead elsewhere. Redirects are followed
by hand and vetted anew. Nothing comes from the environment: no proxy, no cookies, no credentials. This module does not
know what a picture is.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Timer
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from lore_mm.errors import PictureError

if TYPE_CHECKING:
    from lore_mm.images import PicturePolicy

__all__ = ["Resolver", "fetch", "is_public"]

Resolver = Callable[[str, int], Sequence[str]]  # (host, port) → its addresses
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_REDIRECTS = 3
_MOST_ADDRESSES = 4  # tried one after the other
_CONNECT_SECONDS = 5.0
_PIECE = 64 * 1024
_USER_AGENT = "lore-mm"

# The whole grammar of a URL that is read: no user:password@, no percent signs, blanks or other scripts in the host.
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]*:[0-9a-f:.]*\]|[a-z0-9._-]+)(?::(\d{1,5}))?"
    r"([/?][^#\x00-\x1f\x7f\ud800-\udfff]*)?(?:#.*)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")

# Beyond what Python counts as not global: the IETF's protocol block, the 6to4 relays, and the address at which one
# cloud serves its machines' secrets although it looks public.
_REFUSED = [ipaddress.ip_network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23")]
_REFUSED += [ipaddress.ip_network(n) for n in ("64:ff9b:1::/48", "3fff::/20", "5f00::/16", "fec0::/10")]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


def is_public(address: IPAddress) -> bool:
    """True for an address of the open internet: not private, loopback, link-local, shared, multicast or reserved.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is public only where that one is.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return not any(address.version == net.version and address in net for net in _REFUSED)


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str  # lower case, without brackets or a last dot
    port: int
    path: str
    address: IPAddress | None  # where the host is written as an address


def _parse(url: str) -> _Target:
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise PictureError("not a URL that is read: http:// or https://, a plain host, no user name, no blanks")
    scheme, host, port, path = match.groups()
    scheme, host = scheme.lower(), host.lower().strip("[]").removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
        labels = host.split(".")
        # "127.1", "2130706433", "0x7f.0.0.1": the resolver would take these for addresses
        if _NUMBER.fullmatch(labels[-1]) or len(host) > 253 or not all(_LABEL.fullmatch(x) for x in labels):
            raise PictureError(f"not a host name or address: {host!r}") from None
    number = int(port) if port else {"http": 80, "https": 443}[scheme]
    if not 0 < number < 65536:
        raise PictureError(f"not a port: {number}")
    path = path or "/"
    path = quote(path if path.startswith("/") else "/" + path, safe="/?%:@!$&'()*+,;=~-._")
    return _Target(scheme, host, number, path, address)


def _look_up(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _vet(target: _Target, policy: PicturePolicy, resolver: Resolver) -> list[IPAddress]:
    """The addresses that may be connected to; a host with one forbidden address is forbidden."""
    trusted = target.host in {h.lower().strip("[]").removesuffix(".") for h in policy.allow_hosts}
    if target.port not in (80, 443) and not trusted:
        raise PictureError(f"port {target.port} is not allowed; legal ports: 80, 443")
    if target.address is not None:
        addresses = [target.address]
    else:
        try:
            addresses = [ipaddress.ip_address(a) for a in resolver(target.host, target.port)]
        except (OSError, UnicodeError, ValueError):
            addresses = []
        if not addresses:
            raise PictureError(f"the host {target.host} cannot be found")
    for address in addresses:
        if not trusted and not is_public(address):
            at = "" if target.address else f" is at {address}, which"
            raise PictureError(f"the host {target.host}{at} is not a public address")
    return addresses[:_MOST_ADDRESSES]


def fetch(url: str, policy: PicturePolicy, resolver: Resolver = _look_up) -> bytes:
    """The bytes at a URL, at most `policy.max_bytes`, within `policy.max_seconds` in all.

    Raises:
        PictureError: URLs are off; the URL, its host, an address or a port is not allowed; the server fails, answers
            with another status than 200, is too slow or sends too much; or more than three redirects.
    """
    if not policy.allow_urls:
        raise PictureError("pictures by URL are off; --allow-urls allows them")
    deadline = time.monotonic() + policy.max_seconds
    for _ in range(_MOST_REDIRECTS + 1):
        target = _parse(url)
        addresses = _vet(target, policy, resolver)
        try:
            answer = _get(target, addresses, policy, deadline)
        except PictureError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline:
                raise PictureError(f"the server took longer than {policy.max_seconds:g} s") from None
            raise PictureError(f"the server {target.host} failed ({_said(error)})") from None
        if isinstance(answer, bytes):
            return answer
        url = urljoin(url, answer)
    raise PictureError(f"more than {_MOST_REDIRECTS} redirects")


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _connect(addresses: Sequence[IPAddress], port: int, deadline: float) -> socket.socket:
    failure: OSError = TimeoutError("no time left")
    for address in addresses:
        left = min(_CONNECT_SECONDS, deadline - time.monotonic())
        if left <= 0:
            break
        try:
            return socket.create_connection((str(address), port), timeout=left)
        except OSError as error:
            failure = error
    raise failure


def _get(target: _Target, addresses: Sequence[IPAddress], policy: PicturePolicy, deadline: float) -> bytes | str:
    """The body, or where a redirect leads."""
    raw = _connect(addresses, target.port, deadline)
    # A server that sends a byte now and then never meets a socket's time-out: this ends the connection in any state.
    line = raw.dup()
    watchdog = Timer(max(0.0, deadline - time.monotonic()), lambda: _hang_up(line))
    watchdog.daemon = True
    watchdog.start()
    try:
        with closing(http.client.HTTPConnection(target.host, target.port)) as connection:
            connection.auto_open = 0  # never look the name up again
            connection.sock = raw
            if target.scheme == "https":
                connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)
            return _ask(connection, target, policy, deadline)
    finally:
        watchdog.cancel()
        line.close()
        raw.close()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _ask(
    connection: http.client.HTTPConnection, target: _Target, policy: PicturePolicy, deadline: float
) -> bytes | str:
    connection.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
    host = f"[{target.host}]" if ":" in target.host else target.host
    standard = target.port == {"http": 80, "https": 443}[target.scheme]
    connection.putheader("Host", host if standard else f"{host}:{target.port}")
    connection.putheader("User-Agent", _USER_AGENT)
    connection.putheader("Accept", "image/*")
    connection.putheader("Accept-Encoding", "identity")
    connection.putheader("Connection", "close")
    connection.endheaders()
    with connection.getresponse() as response:
        if response.status in (301, 302, 303, 307, 308) and (where := response.headers.get("Location")):
            return where.encode("latin-1", "replace").decode("utf-8", "replace")  # http.client reads all as Latin-1
        if response.status != 200:
            raise PictureError(f"the server answered {response.status}")
        if (packing := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise PictureError(f"the server packed the answer ({packing[:40]!r}), which was not asked for")
        if response.length is not None and response.length > policy.max_bytes:
            raise PictureError(f"the file has {response.length:,} bytes, the limit is {policy.max_bytes:,}")
        return _body(response, policy, deadline)


def _body(response: http.client.HTTPResponse, policy: PicturePolicy, deadline: float) -> bytes:
    promised, body = response.length, bytearray()
    while piece := response.read1(_PIECE):
        body += piece
        if len(body) > policy.max_bytes:
            raise PictureError(f"the file has more than {policy.max_bytes:,} bytes, the limit")
        if time.monotonic() >= deadline:
            raise TimeoutError("too slow")
    if time.monotonic() >= deadline or (promised is not None and len(body) < promised):
        raise http.client.IncompleteRead(bytes(body))  # hung up, by the server or by the watchdog
    return bytes(body)
