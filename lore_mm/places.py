"""Addresses of files and folders: paths of this machine, and objects in a bucket (s3://, gs://, az://).

A `Place` is for an object what a `pathlib.Path` is for a file, as far as this project needs it, and fails as one does:
with an OSError whose text is one line. Credentials and the endpoint come from the environment, by the names that every
client of the service knows (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL …); no secret is ever part of a text made here. This
module does not know what is in the files, and writes none.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any

from lore_mm.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["SCHEMES", "Place", "State", "UnreachableError", "entries", "open_bytes", "pinned", "place_of", "settings"]

SCHEMES = ("s3", "gs", "az")
EXTRA = "buckets"
# pathlib makes one slash of two, and an address that went through it is known again
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(/{1,2})([^/]*)(?:/(.*))?", re.IGNORECASE | re.DOTALL)
_ENVIRONMENT = ("AWS_", "GOOGLE_", "AZURE_")
_CLIENT = ("allow_http", "connect_timeout", "timeout")  # settings of the HTTP client, not of the service
_PIECE = 4 * 1024 * 1024  # bytes that one request brings where a file is read from its start to its end


class UnreachableError(OSError):
    """The service does not answer, or not usefully, after several attempts: of no one file's making."""


@dataclass(frozen=True, slots=True)
class State:
    """What tells one content of a file from another: its size in bytes, and a mark.

    The mark is the time of the last change, of an object its ETag, which follows from the content.
    """

    size: int
    mark: str


@dataclass(frozen=True, slots=True)
class Place:
    """An object of a bucket, or the folder of all whose names begin with it.

    `seen`: where it is given, the object is read in that state alone, and has "changed" in any other.
    """

    scheme: str
    bucket: str
    key: str = ""  # neither begins nor ends with a slash
    seen: State | None = field(default=None, compare=False)
    options: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)  # before the environment

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, name: str) -> Place:
        key = "/".join(part for part in (self.key, name.strip("/")) if part)
        return replace(self, key=key, seen=None)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending with its dot, as `pathlib` has it."""
        return PurePath(self.name).suffix

    @property
    def stem(self) -> str:
        """The last part of the name without its ending."""
        return PurePath(self.name).stem

    @property
    def parent(self) -> Place:
        """The folder it lies in; the bucket's own is the bucket."""
        return replace(self, key=self.key.rpartition("/")[0], seen=None)

    def absolute(self) -> Place:
        """Itself: an address in a bucket always is."""
        return self

    def resolve(self) -> Place:
        """Itself: a bucket has no links."""
        return self

    def holds(self, other: Place) -> bool:
        """True where `other` is this one, or lies below it."""
        same = (self.scheme, self.bucket) == (other.scheme, other.bucket)
        return same and (not self.key or other.key == self.key or other.key.startswith(f"{self.key}/"))

    def is_file(self) -> bool:
        """True where there is such an object. Asks the service.

        Raises:
            OSError: the service cannot be reached, or does not let us look.
        """
        try:
            self.state()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """True where an object lies below it. Asks the service, as `is_file` does."""
        client = _client(self)
        import obstore

        with _failures(self):
            below = obstore.list(client, f"{self.key}/" if self.key else None, chunk_size=1)
            return any(True for some in below for _ in some)

    def state(self) -> State:
        """What it is now.

        Raises:
            OSError: there is none (FileNotFoundError), it may not be read, or the service cannot be reached.
        """
        if not self.key:
            raise FileNotFoundError(2, "a bucket, not a file", str(self))
        client = _client(self)
        import obstore

        with _failures(self):
            return _state(obstore.head(client, self.key))

    def read(self, limit: int) -> tuple[State, bytes | None]:
        """The state and the whole content; no content where it has more than `limit` bytes: then none is fetched."""
        client = _client(self)
        import obstore

        with _failures(self):
            got = obstore.get(client, self.key, options={"if_match": self.seen.mark} if self.seen else None)
            state = _state(got.meta)
            return state, None if state.size > limit else bytes(got.bytes())

    def range(self, start: int, end: int) -> bytes:
        """Its bytes from `start` up to `end`, the latter not included."""
        client = _client(self)
        import obstore

        with _failures(self):
            options: Any = {"range": (start, end)} | ({"if_match": self.seen.mark} if self.seen else {})
            return bytes(obstore.get(client, self.key, options=options).bytes())

    def names(self) -> list[tuple[str, bool]]:
        """The names right below it, each with whether it is a folder."""
        client = _client(self)
        import obstore

        with _failures(self):
            found = obstore.list_with_delimiter(client, self.key or None)
        cut = len(self.key) + 1 if self.key else 0
        folders = [(path.rstrip("/")[cut:], True) for path in found["common_prefixes"]]
        return folders + [(one["path"][cut:], False) for one in found["objects"] if len(one["path"]) > cut]

    def check(self) -> None:
        """Look once, quickly, whether the bucket can be reached and looked into: a mistyped address or a missing
        credential is told in seconds, and not when every attempt of a patient client has failed.

        Raises:
            OSError: why it cannot be. That the service is too busy just now is no reason.
        """
        client = _client(self, patient=False)
        import obstore

        try:
            with _failures(self):
                listed = obstore.list(client, f"{self.key}/" if self.key else None, chunk_size=1)
                next(iter(listed), None)
        except UnreachableError as error:
            if not _busy(error):
                raise


def place_of(address: str | os.PathLike[str] | Place, options: Mapping[str, str] | None = None) -> Path | Place:
    """A path of this machine, or the object that s3://bucket/name, gs:// or az:// names.

    `options` (`aws_region`, `aws_endpoint_url` …) are for the bucket's client, before what the environment says.

    Raises:
        InputError: an address of another kind, or without a bucket.
    """
    if isinstance(address, Place):
        return address
    text = os.fspath(address)
    match = _ADDRESS.fullmatch(text)
    if match is None or (match[2] == "/" and match[1] not in SCHEMES):
        return Path(text)
    scheme, bucket, key = match[1].lower(), match[3], (match[4] or "").strip("/")
    if scheme == "file":
        return Path("/" + "/".join(part for part in (bucket, key) if part))
    if scheme not in SCHEMES:
        raise InputError(f"{scheme}:// is not read; legal: a path, {', '.join(f'{s}://' for s in SCHEMES)}")
    if not bucket:
        raise InputError(f"{text}: names no bucket; legal: {scheme}://BUCKET/NAME")
    return Place(scheme, bucket, key, options=tuple((options or {}).items()))


def pinned(place: Path | Place) -> tuple[Path | Place, State]:
    """A file with its state now; an object is from here on read in that state alone.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    if isinstance(place, Place):
        state = place.state()
        return replace(place, seen=state), state
    found = place.stat()
    return place, State(found.st_size, str(found.st_mtime_ns))


def open_bytes(place: Path | Place, ahead: int = _PIECE) -> IO[bytes]:
    """Open a file to be read from any place in it; of an object, requests bring `ahead` bytes and more."""
    if isinstance(place, Place):
        seen = place if place.seen else replace(place, seen=place.state())
        return io.BufferedReader(_Object(seen), ahead)
    return place.open("rb")


def entries(folder: Path | Place) -> list[tuple[str, bool]]:
    """The names in a folder, sorted, each with whether it is a folder itself (a link to one is none)."""
    if isinstance(folder, Place):
        return sorted(folder.names())
    with os.scandir(folder) as found:
        known = [(e.name, deep) for e in found if (deep := e.is_dir(follow_symlinks=False)) or e.is_file()]
    return sorted(known)


def settings(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a client needs to be told beside the environment, which it reads itself: `given`, and that plain HTTP is
    meant where the endpoint begins with http://.
    """
    told = dict(given or {})
    plain = told.get("aws_endpoint_url") or told.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL", "")
    if plain.lower().startswith("http://"):
        told.setdefault("allow_http", "true")
    return told


def _check_installed() -> None:
    try:
        import fsspec  # noqa: F401
        import obstore  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "obstore", EXTRA) from None


def _arguments(given: Mapping[str, str], patient: bool) -> dict[str, Any]:
    """The keyword arguments of an `obstore` client: settings of the service, of HTTP, and of retries.

    A patient one bears with a service that is away for some minute, doubling its pauses; the other tries twice.
    """
    told = settings(given)
    client: dict[str, Any] = {"connect_timeout": "5s", "timeout": "30s"}
    client |= {name: told.pop(name) for name in _CLIENT if name in told}
    if "allow_http" in client:
        client["allow_http"] = str(client["allow_http"]).lower() == "true"
    backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=10), "base": 2}
    retries = {"max_retries": 12 if patient else 2, "retry_timeout": timedelta(seconds=90 if patient else 6)}
    return {"config": told, "client_options": client, "retry_config": {"backoff": backoff, **retries}}


def _client(place: Place, patient: bool = True) -> ObjectStore:
    _check_installed()
    environment = frozenset(item for item in os.environ.items() if item[0].startswith(_ENVIRONMENT))
    return _made_client(place.scheme, place.bucket, patient, place.options, environment)


@lru_cache(maxsize=64)
def _made_client(
    scheme: str, bucket: str, patient: bool, options: tuple[tuple[str, str], ...], environment: object
) -> ObjectStore:
    """One client a bucket, which holds the connections; `environment` is there so that a change makes another."""
    from obstore.store import AzureStore, GCSStore, S3Store

    kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    with _failures(Place(scheme, bucket)):
        made: ObjectStore = kind(bucket, **_arguments(dict(options), patient))
        return made


def _state(meta: Any) -> State:
    return State(int(meta["size"]), str(meta["e_tag"] or meta["version"] or meta["last_modified"].isoformat()))


class _Object(io.RawIOBase):
    """An object as a file that is read by ranges, all of one state."""

    def __init__(self, place: Place) -> None:
        self._place, self._at = place, 0
        self._size = place.seen.size if place.seen else 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: Any) -> int:
        end = min(self._at + len(into), self._size)
        if end <= self._at:
            return 0
        data = self._place.range(self._at, end)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextmanager
def _failures(place: Place) -> Iterator[None]:
    """The client's errors as OSErrors of one line, which say what to do and hold no secret."""
    from obstore.exceptions import BaseError, InvalidPathError, PreconditionError

    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        text = str(error)
        status = match[1] if (match := re.search(r"status code: (\d{3})", text)) else ""
        code = match[1] if (match := re.search(r"<Code>(\w{1,60})</Code>", text)) else ""
        if isinstance(error, PreconditionError):
            raise OSError(5, "it changed while it was read", str(place)) from None
        if code == "NoSuchBucket":
            raise OSError(5, f"no bucket {place.bucket!r} there", str(place)) from None
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(2, "no such file", str(place)) from None
        if isinstance(error, InvalidPathError | ValueError):
            raise OSError(5, "not a name that is read", str(place)) from None
        if status in ("401", "403"):
            said = f"access denied{f' ({code})' if code else ''}: check the credentials in the environment"
            raise PermissionError(13, said, str(place)) from None
        raise UnreachableError(5, _unreachable(text, status, code), str(place)) from None


def _unreachable(text: str, status: str, code: str) -> str:
    if status:
        return f"the service answers {status}{f' {code}' if code else ''}"
    if re.search(r"credential|metadata|169\.254|imds", text, re.IGNORECASE):
        return "no credentials: set them in the environment (AWS_ACCESS_KEY_ID …)"
    if match := re.search(r"(?:GET|HEAD|PUT) (https?://)(?:[^/?\s]*@)?([^/?\s]+)", text):
        return f"the service at {match[1]}{match[2]} cannot be reached"
    return "the service cannot be reached: check the address and the environment"


def _busy(error: OSError) -> bool:
    return bool(re.search(r"answers (429|5\d\d)", error.strerror or ""))
