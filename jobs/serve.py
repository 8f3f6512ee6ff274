"""`lore serve`: judgments, search and features of a store over HTTP, until it is told to end.

The parts stand in `jobs.service`; here are the options, the socket and the signals.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.open_extractors import model_options
from jobs.options import KnowledgeFolder, ModelOption, StoreAddress
from jobs.service.limits import read_keys
from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError, MissingExtraError
from lore_mm.models import DEFAULT_EMBEDDER
from relevance.judge import DEFAULT_JUDGE, JudgeAddress, RulesFile
from stores.features import open_store

if TYPE_CHECKING:
    from jobs.service.service import Service

__all__ = ["main"]

_BACKLOG = 2048


_Engine = Annotated[
    str | None,
    typer.Option(help="Who reads queries: knowledge, tagger, llm:CHAT; if given, what others stored is read anew."),
]
_Embedder = Annotated[str, typer.Option(help="The model that finds items, by address.")]
_Host = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for other machines too.")]
_Port = Annotated[int, typer.Option(help="The port; 0 for a free one, which is said.", min=0, max=65535)]
_KeysFile = Annotated[
    Path | None, typer.Option("--keys", help="A file of API keys, a line NAME KEY each; $LORE_SERVE_KEYS unless given.")
]
_NoKeys = Annotated[bool, typer.Option("--no-keys", help="Serve other machines without keys.")]
_Rate = Annotated[
    float | None, typer.Option(help="Requests a second of one client at most; no limit unless given.", min=0.01)
]
_Waiting = Annotated[int, typer.Option(help="Pairs in line and in work at most; beyond, the answer is 429.", min=1)]
_TimeOut = Annotated[float, typer.Option("--timeout-s", help="How long an answer may take.", min=0.1)]
_Receive = Annotated[
    float, typer.Option("--receive-s", help="How long a request's headers, and its body, may take to come.", min=0.1)
]
_Body = Annotated[float, typer.Option("--body-mib", help="The largest body, in MiB.", min=0.001)]
_Watch = Annotated[
    float, typer.Option("--watch-s", help="How often to look for what has changed, in seconds.", min=0.1)
]


def main(
    store: StoreAddress = None,
    judge: JudgeAddress = DEFAULT_JUDGE,
    model_option: ModelOption = None,
    rules: RulesFile = None,
    knowledge: KnowledgeFolder = None,
    engine: _Engine = None,
    embedder: _Embedder = DEFAULT_EMBEDDER,
    host: _Host = "127.0.0.1",
    port: _Port = 8090,
    keys: _KeysFile = None,
    no_keys: _NoKeys = False,
    rate: _Rate = None,
    waiting: _Waiting = 2000,
    timeout_s: _TimeOut = 10.0,
    receive_s: _Receive = 10.0,
    body_mib: _Body = 2.0,
    watch_s: _Watch = 5.0,
) -> None:
    """Serve judgments, search and features of a store over HTTP.

    POST /judge, /search, /features, /understand, /reload; GET /features/ID, /healthz, /metrics, /openapi.json.

    Example: lore serve --judge student

    Example: lore serve --judge route:route.json --model-option deadline_s=2 --host 0.0.0.0 --keys keys.txt

    Ask it: curl -s localhost:8090/judge -H 'content-type: application/json'
    -d '{"query": "red sofa", "item_id": "leather-sofa"}'

    Stored judgments that still hold are answered as they are, all else is judged. What changes in the store, the
    rulebook or the routing is loaded while it serves; SIGHUP loads everything anew. SIGTERM and Ctrl-C end it once what
    it has accepted is answered.
    """
    _installed()
    from jobs.service.desk import Served
    from jobs.service.service import Limits, Service

    known, options = read_keys(keys, os.environ), model_options(model_option or ())
    listening, local = _listen(host, port)
    with listening:
        if not local and not known and not no_keys:
            raise InputError(f"--host {host} is open to other machines: name API keys (--keys FILE), or say --no-keys")
        served = Served(open_store(store or default_store()), judge, options, rules, knowledge, engine, embedder)
        service = Service(served, Limits(timeout_s, receive_s, int(body_mib * 2**20), waiting, rate), keys)
        try:
            listening.listen(_BACKLOG)
            shown = f"[{host}]" if ":" in host else host
            say(f"serving {served.store.uri} at http://{shown}:{listening.getsockname()[1]}, by {judge}")
            _serve(service, {host} if local and not known else None, listening, watch_s)
        finally:
            service.close()
    say("ended; all that was accepted is answered")


def _installed() -> None:
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "serve")


def _serve(service: Service, hosts: set[str] | None, listening: socket.socket, watch_s: float) -> None:
    """Serve until told to end, then answer what was accepted."""
    import uvicorn

    from jobs.service.app import build_app
    from jobs.service.gate import LONGEST_HEADERS
    from jobs.service.wire import connections

    limits = service.limits
    config = uvicorn.Config(
        build_app(service, hosts),
        http=connections(limits.receive_s),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=LONGEST_HEADERS,
        timeout_graceful_shutdown=int(limits.timeout_s + limits.receive_s + 5),
    )
    server: Any = uvicorn.Server(config)

    async def serving() -> None:
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(service.watch(watch_s))

        def end() -> None:
            service.draining = True
            server.should_exit = True

        def reload() -> None:
            loop.run_in_executor(None, service.reload, True)

        # uvicorn's own would raise the signal again once all is done, where this is an end in peace
        server.capture_signals = lambda: _signals(loop, end, reload)
        await server.serve([listening])
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(serving())


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, end: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT end, the second of them at once; SIGHUP loads anew."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number: int, frame: object) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        loop.call_soon_threadsafe(end)

    found: dict[int, Any] = {one: signal.signal(one, told) for one in (signal.SIGTERM, signal.SIGINT)}
    if hasattr(signal, "SIGHUP"):
        found[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda n, f: loop.call_soon_threadsafe(reload))
    try:
        yield
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> tuple[socket.socket, bool]:
    """A bound socket, and whether it is of this machine alone.

    Raises:
        InputError: nobody can listen there.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror}; name another") from None
    return listening, ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.serve"))
