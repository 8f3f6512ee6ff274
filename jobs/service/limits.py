"""Who may ask, how often: API keys and token buckets. Knows no HTTP server and no store."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from lore_mm.errors import ConfigError

__all__ = ["Keys", "Rates", "read_keys"]

_SHORTEST = 16  # characters of a key
_MOST_CLIENTS = 10_000  # buckets kept


class Keys:
    """API keys, by name; kept as digests."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def name_of(self, given: bytes) -> str | None:
        """Whose key it is; None for nobody's. Takes as long for a wrong key as for a right one."""
        digest, found = _digest(given), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read_keys(path: Path | None, environment: Mapping[str, str]) -> Keys:
    """The keys of a file, a line `NAME KEY` each (# begins a comment); without one those of LORE_SERVE_KEYS, with
    commas.

    Raises:
        ConfigError: the file cannot be read, or a line is none, or a key is too short or there twice.
    """
    if path is None:
        lines = environment.get("LORE_SERVE_KEYS", "").split(",")
        place = "LORE_SERVE_KEYS"
    else:
        place = str(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if path is None and len(words) == 1:
            words = [f"key{number}", *words]
        if len(words) != 2 or len(words[1]) < _SHORTEST or not words[1].isascii():
            raise ConfigError(
                f"{place}, line {number}: legal: NAME KEY, the key at least {_SHORTEST} ASCII characters, such as"
                " `openssl rand -hex 24` gives"
            )
        if words[0] in found or words[1] in found.values():
            raise ConfigError(f"{place}, line {number}: this name or key is there already")
        found[words[0]] = words[1]
    if path is not None and not found:
        raise ConfigError(f"{place}: no keys in it; legal: a line NAME KEY each")
    return Keys(found)


class Rates:
    """A token bucket a client: `a_second` requests in the long run, `burst` at once; all where `a_second` is None."""

    def __init__(
        self, a_second: float | None, burst: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._clock = a_second, clock
        self._burst = max(1.0, burst if burst is not None else 2 * (a_second or 0))
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client → tokens left, when

    def wait_of(self, client: str) -> float:
        """Take one request of a client's; the seconds until there is one to take, 0 where it was taken."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        left, at = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[client] = (left if wait else left - 1, now)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        return wait


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
