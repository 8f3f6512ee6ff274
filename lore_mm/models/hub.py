"""Whether the model hub can be used, asked once and shortly.

The hub's client tries again for a minute or more where nothing answers; a person without a network should not wait for
that, and weights that are in the client's own cache should still open.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

__all__ = ["hub_fault", "offline_where_unreachable"]

_TIMEOUT_S = 3.0


def hub_fault() -> str | None:
    """Why the hub cannot be used, in a few words; None where it answers (or a proxy stands between)."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    if find_spec("huggingface_hub") is None:
        return "huggingface_hub is not installed"
    from urllib.request import getproxies, proxy_bypass

    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    host = address.hostname or ""
    if address.scheme in getproxies() and not proxy_bypass(host):
        return None
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except OSError:
        return "not reachable"
    return None


@contextmanager
def offline_where_unreachable() -> Iterator[str | None]:
    """Within it the hub's client does not wait for a hub that does not answer; yields the fault, if there is one."""
    fault = hub_fault()
    if fault is None or find_spec("huggingface_hub") is None:
        yield fault
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield fault
    finally:
        constants.HF_HUB_OFFLINE = before
