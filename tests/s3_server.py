"""An S3 server on loopback for tests, `python -m tests.s3_server LOG`: prints its port, writes a line a request to LOG.

A PUT is taken alone, as a real service takes one that must not replace: moto looks and writes in two steps. While a
number stands in the file LOG.away, so many requests are answered 503; it is counted down.
"""

import sys
import threading
from pathlib import Path

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


def serve(log: Path) -> None:
    service = DomainDispatcherApplication(create_backend_app)
    away, one, lines = log.with_name(log.name + ".away"), threading.Lock(), log.open("a", buffering=1)

    def refused():
        with one:
            left = int(away.read_text() or 0) if away.exists() else 0
            if left:
                away.write_text(str(left - 1))
            return left > 0

    def answer(environ, start):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if refused():
            lines.write(f"503 {method} {path}\n")
            start("503 Service Unavailable", [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        lines.write(f"{method} {path}\n")
        if method != "PUT":
            return service(environ, start)
        with one:
            return list(service(environ, start))

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
