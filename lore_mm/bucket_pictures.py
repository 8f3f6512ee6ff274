"""One picture from a bucket, with the care that a reference out of a stranger's catalogue needs.

The credentials in the environment may reach much more than one catalogue. So what an item names is read only below the
folder of its own catalogue, or below an address that a person allowed. This module does not know what a picture is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lore_mm.errors import PictureError, StoreError
from lore_mm.places import SCHEMES, Place, State, UnreachableError, place_of

if TYPE_CHECKING:
    from lore_mm.images import PicturePolicy

__all__ = ["look_at", "object_of", "read_object"]

_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/", re.IGNORECASE)
_OTHER = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_Answer = TypeVar("_Answer")


def object_of(ref: str, root: str | os.PathLike[str] | None, policy: PicturePolicy) -> Place | None:
    """The object that a reference means; None where it is one of no bucket: a path, a URL.

    `root` is the folder of the catalogue, None where a person typed the reference, who may name any object.

    Raises:
        PictureError: the reference is no plain name, or leads to where an item may not.
    """
    given = _ADDRESS.match(ref) is not None
    if not given and (root is None or _ADDRESS.match(os.fspath(root)) is None or _OTHER.match(ref)):
        return None
    top = None if root is None else place_of(root)
    name = ref.partition(":")[2].lstrip("/").partition("/")[2] if given else ref
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise PictureError("not the name of an object: it may hold no '..' and no '//', nor begin or end with '/'")
    if not given:
        return top / ref if isinstance(top, Place) else None
    place = place_of(ref)
    assert isinstance(place, Place)
    allowed = [top, *(place_of(one) for one in policy.allow_hosts if _ADDRESS.match(one))]
    if root is not None and not any(isinstance(one, Place) and one.holds(place) for one in allowed):
        raise PictureError(
            f"lies outside the catalogue's folder {top}; --allow-host {place.scheme}://{place.bucket} allows its bucket"
        )
    return place


def look_at(place: Place, policy: PicturePolicy) -> str:
    """A mark that changes when the object does, from its size and ETag: one request, and the object is not read.

    Raises:
        PictureError: it is not there, may not be read, or is larger than `policy.max_bytes`.
        StoreError: the service cannot be reached, which is no fault of this picture.
    """
    return _mark(_asked(place.state, place), policy)


def read_object(place: Place, policy: PicturePolicy) -> tuple[str, bytes]:
    """The mark and the bytes of an object; of one beyond `policy.max_bytes` nothing is fetched.

    Raises:
        PictureError, StoreError: as `look_at` does.
    """
    state, data = _asked(lambda: place.read(policy.max_bytes), place)
    return _mark(state, policy), data or b""


def _mark(state: State, policy: PicturePolicy) -> str:
    if state.size > policy.max_bytes:
        raise PictureError(f"the file has {state.size:,} bytes, the limit is {policy.max_bytes:,}")
    return f"object {state.size} {state.mark}"


def _asked(question: Callable[[], _Answer], place: Place) -> _Answer:
    try:
        return question()
    except FileNotFoundError:
        raise PictureError(f"no such file in {place.parent}") from None
    except UnreachableError as error:
        raise StoreError(f"{place}: {error.strerror}; its pictures cannot be read") from None
    except OSError as error:
        raise PictureError(f"cannot be opened ({error.strerror})") from None
