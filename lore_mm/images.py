"""Pictures from files, buckets (and, where allowed, URLs) to RGB, safely: every one is taken for hostile.

The format is told by content and must be on a short list; sizes are checked before anything is decoded; what comes out
is upright, opaque, 8-bit RGB, no larger than needed. A picture that cannot or must not be read is a PictureError whose
text is the reason kept with the row. This module does not know what is on a picture, nor which item it belongs to.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import AvifImagePlugin, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lore_mm.bucket_pictures import object_of, read_object
from lore_mm.errors import PictureError
from lore_mm.fingerprint import sha_of_bytes

__all__ = [
    "FORMATS",
    "PICTURE_ENDINGS",
    "Picture",
    "PicturePolicy",
    "decode_picture",
    "load_picture",
    "load_pictures",
    "read_picture",
]


@dataclass(frozen=True, slots=True)
class PicturePolicy:
    """What may be read, and how large. `max_side` is the longer side of what comes out, in pixels.

    URLs are off unless `allow_urls`; then they reach public addresses only, but for the hosts (exact names or
    addresses, of a shop's own picture server) in `allow_hosts`. `max_seconds` bounds one download as a whole.
    A bucket is read below the catalogue's own folder, and below those (s3://bucket, s3://bucket/folder) in
    `allow_hosts`.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_side: int = 512
    allow_urls: bool = False
    allow_hosts: tuple[str, ...] = ()
    max_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: RGB, shrunk to the policy's max_side. `width` and `height` are those it is shown with in full.

    `sha` is the sha-256 of the file's bytes; `notes` are remarks for a reader ("animated: …").
    """

    image: Image.Image
    sha: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", *(("AVIF",) if AvifImagePlugin.SUPPORTED else ()))


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Not wanted, and it warns of faults in EXIF blocks."""


# The readers themselves and not Image.open, whose registry, bomb warning and bomb limit are global to the process.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": _Jpeg,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_SMALLEST_TELLING = 16  # pixels on a side
_SCAN = re.compile(b"\xff\xda")  # its search is three times as fast as that of bytes
_MOST_SCANS = 200  # a progressive JPEG has about ten, one split by colour and bit not fifty
_ORIENTATION = 0x0112  # the EXIF tag
# Pictures above this many pixels are decoded one at a time, so that many threads do not multiply their memory.
_LARGE = 25_000_000
_one_large = Lock()


def _sniff(data: bytes) -> str:
    """The format of a file by its first bytes; for one that is not read, a PictureError says what it looks like."""
    head = data[:16]
    signs = {
        "JPEG": head.startswith(b"\xff\xd8\xff"),
        "PNG": head.startswith(b"\x89PNG\r\n\x1a\n"),
        "WebP": head.startswith(b"RIFF") and head[8:12] == b"WEBP",
        "GIF": head.startswith((b"GIF87a", b"GIF89a")),
        "BMP": head.startswith(b"BM"),
        "TIFF": head.startswith((b"II*\0", b"MM\0*")),
        "AVIF": head[4:12] in (b"ftypavif", b"ftypavis"),
    }
    for name, fits in signs.items():
        if fits and name in FORMATS:
            return name
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    looks = ""
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        looks = "; this is a web page"
    elif b"<svg" in text:
        looks = "; this is SVG"
    elif text.startswith(b"%pdf"):
        looks = "; this is a PDF"
    elif head[4:8] == b"ftyp":
        looks = f"; this is {head[8:12].decode('ascii', 'replace').strip().upper()}"
    raise PictureError(f"not a picture of a format that is read ({', '.join(FORMATS)}){looks}")


def decode_picture(data: bytes, policy: PicturePolicy = PicturePolicy()) -> Picture:
    """Decode the bytes of a picture file.

    The first frame of an animation is read. Transparent parts become white; 16-bit grey keeps its upper 8 bits; CMYK
    is converted without a colour profile.

    Raises:
        PictureError: empty, too many bytes or pixels, another format, broken or cut off.
    """
    if not data:
        raise PictureError("the file is empty")
    if len(data) > policy.max_bytes:
        raise PictureError(f"the file has {len(data):,} bytes, the limit is {policy.max_bytes:,}")
    name = _sniff(data)
    # Each scan of a progressive JPEG goes over the whole picture, and one that adds nothing takes a few bytes.
    if name == "JPEG" and next(islice(_SCAN.finditer(data), _MOST_SCANS, None), None):
        raise PictureError(f"the JPEG file has {data.count(_SCAN.pattern):,} scans, the limit is {_MOST_SCANS}")
    try:
        with _READERS[name](io.BytesIO(data)) as opened:
            pixels = opened.width * opened.height
            if pixels > policy.max_pixels:
                raise PictureError(
                    f"{opened.width:,} × {opened.height:,} = {pixels:,} pixels, the limit is {policy.max_pixels:,}"
                )
            if pixels > _LARGE:
                with _one_large:
                    return _finish(opened, name, sha_of_bytes(data), policy)
            return _finish(opened, name, sha_of_bytes(data), policy)
    except PictureError:
        raise
    except Exception as error:  # Pillow's readers raise nearly everything on broken data
        raise PictureError(_broken(name, error)) from None


def _broken(name: str, error: Exception) -> str:
    said = " ".join(str(error).split())
    if "truncated" in said.lower() or isinstance(error, EOFError):
        return f"the {name} file is cut off"
    if isinstance(error, MemoryError):
        return f"the {name} file asks for more memory than there is"
    return f"the {name} file is broken" + (f" ({said[:120]})" if said else "")


def _finish(opened: ImageFile, name: str, sha: str, policy: PicturePolicy) -> Picture:
    notes = []
    width, height = opened.size
    if _has_frames(opened):
        notes.append("several frames: the first is read")
    if opened.mode == "CMYK":
        notes.append("CMYK: converted without a colour profile")
    if min(width, height) < _SMALLEST_TELLING:
        notes.append(f"{width} × {height} pixels: too small to say anything")
    if name == "JPEG":  # the decoder itself can scale by 1/2, 1/4 and 1/8, at a fraction of the cost
        opened.draft(None, (policy.max_side, policy.max_side))
    opened.load()
    # Pillow itself turns TIFF upright; in PNG the block may come after the pixels
    orientation = 1 if name == "TIFF" else _orientation(opened.info.get("exif"))
    if orientation >= 5:  # the four that lie on their side
        width, height = height, width
    image = _flatten(_shrunk(_eight_bit(opened), policy.max_side))
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    elif image is opened:
        image = _detached(opened)
    return Picture(image, sha, width, height, tuple(notes))


def _detached(opened: ImageFile) -> Image.Image:
    """The decoded pixels, not copied, without the file and what its reader keeps of it."""
    return opened._new(opened.im)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side at most `side`, its shape kept."""
    longer = max(image.size)
    if longer <= side:
        return image
    width, height = (max(1, round(n * side / longer)) for n in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _has_frames(opened: ImageFile) -> bool:
    try:
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # looking for a second frame fails where only the first is whole
        return False


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(exif: object) -> int:
    """The orientation an EXIF block names, 1 (upright) … 8; 1 where it names none that can be read.

    Read here, from the first directory alone (EXIF 3.0 §4.6.4), because Pillow's reader warns of faults in the rest.
    """
    body = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else b""
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", body, 4)
        (entries,) = struct.unpack_from(order + "H", body, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", body, at)
            if (tag, kind, count) == (_ORIENTATION, 3, 1):  # 3: a 16-bit number
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """The picture in a mode that shrinks well: RGB, or RGBA where it has transparency."""
    if image.mode.startswith("I"):  # 16 bits, also where Pillow holds them in 32; its own conversion would clip them
        grey = np.asarray(image)
        return Image.fromarray(np.clip(grey >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PictureError("pixels are 32-bit fractions, which are not read; save it with 8 or 16 bits")
    see_through = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    wanted = "RGBA" if see_through else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _flatten(image: Image.Image) -> Image.Image:
    """RGBA on white; RGB as it is."""
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


_URL = re.compile(r"https?://", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://|(data|file|javascript):", re.IGNORECASE)


def load_picture(
    ref: str, root: str | os.PathLike[str] | None = None, policy: PicturePolicy = PicturePolicy()
) -> Picture:
    """Read one picture by the reference its catalogue gives: a path relative to `root`, or a URL.

    With a root, nothing outside it is read: no `..`, no absolute path that is not below it, no link that leaves it.
    Without one, `ref` is any path of the machine: for paths a person typed, never for those of a catalogue.

    Raises:
        PictureError: one line that begins with the reference.
    """
    try:
        return decode_picture(read_picture(ref, root, policy), policy)
    except PictureError as error:
        raise PictureError(f"picture {_short(ref)}: {error}") from None


def _short(ref: str) -> str:
    return repr(ref if len(ref) <= 100 else ref[:60] + "…" + ref[-30:])


def read_picture(
    ref: str, root: str | os.PathLike[str] | None = None, policy: PicturePolicy = PicturePolicy()
) -> bytes:
    """The bytes of one picture's file, not decoded: enough to tell whether it changed. See `load_picture` for `root`.

    Raises:
        PictureError: the reason in one line, without the reference.
        StoreError: the service of a bucket cannot be reached, which is no fault of this picture.
    """
    if _URL.match(ref):
        from lore_mm.fetch import fetch  # ssl and sockets: only where a URL is read

        return fetch(ref, policy)
    if (place := object_of(ref, root, policy)) is not None:
        return read_object(place, policy)[1]
    if other := _OTHER_SCHEME.match(ref):
        raise PictureError(f"{(other[1] or other[2]).lower()}: addresses are not read; give a path or an http(s) URL")
    if not ref:
        raise PictureError("the name is empty")
    try:
        path = _place(ref, root)
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise PictureError("a folder, not a file" if stat.S_ISDIR(found.st_mode) else "not a plain file")
        if found.st_size > policy.max_bytes:
            raise PictureError(f"the file has {found.st_size:,} bytes, the limit is {policy.max_bytes:,}")
        with open(path, "rb") as file:  # room for the whole limit would cost more than the reading
            data = file.read(found.st_size + 1)
            if len(data) > found.st_size:  # it grew meanwhile: one more than the limit shows that it is too large
                data += file.read(policy.max_bytes + 1 - len(data))
            return data
    except (FileNotFoundError, NotADirectoryError):
        where = "" if root is None else f" in {os.fspath(root)}"
        raise PictureError(f"no such file{where}") from None
    except (OSError, ValueError, RuntimeError) as error:  # no permission; a zero byte in the name; a circle of links
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise PictureError(f"cannot be opened ({reason})") from None


def _place(ref: str, root: str | os.PathLike[str] | None) -> str:
    if root is None:
        return ref
    if not os.fspath(root):
        raise PictureError("the name of the catalogue's folder is empty")  # and does not mean where this process is
    if ".." in ref and ".." in Path(ref).parts:
        raise PictureError("'..' in a picture's path is not allowed")
    if (path := _without_links(os.fspath(root), ref)) is not None:
        return path  # as nearly all are: to resolve one from the root of the disk on costs more than to read it
    path, top = os.path.realpath(os.path.join(root, ref)), os.path.realpath(root)
    if not _below(path, top):
        raise PictureError(f"lies outside the catalogue's folder {top}")
    return path


def _without_links(root: str, ref: str) -> str | None:
    """The path of a reference without '..' below its root; None where it begins anew or follows a link."""
    if ref.startswith("/"):
        return None
    path = root
    for name in ref.split("/"):
        path = os.path.join(path, name)
        if os.path.islink(path):
            return None
    return path


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(os.path.join(top, ""))


def load_pictures(
    refs: Sequence[str],
    root: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | None] | None = None,
    policy: PicturePolicy = PicturePolicy(),
    threads: int | None = None,
) -> list[Picture | PictureError]:
    """Read many pictures, decoding in threads; the result has the length and order of `refs`.

    `root` is one folder for all, or as many as there are references. A picture that fails is the PictureError itself,
    in its place. `threads`: as many as there are cores, at most 16, unless given.
    """
    roots = list(root) if isinstance(root, Sequence) and not isinstance(root, str) else [root] * len(refs)
    if len(roots) != len(refs):
        raise ValueError(f"{len(refs)} pictures but {len(roots)} root{'s' if len(roots) != 1 else ''}")

    def load(ref: str, top: str | os.PathLike[str] | None) -> Picture | PictureError:
        try:
            return load_picture(ref, top, policy)
        except PictureError as error:
            return error

    workers = threads or min(16, os.cpu_count() or 1)
    if workers == 1 or len(refs) < 2:
        return [load(*pair) for pair in zip(refs, roots, strict=True)]
    with ThreadPoolExecutor(workers, thread_name_prefix="pictures") as pool:
        return list(pool.map(load, refs, roots))
