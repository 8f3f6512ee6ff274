"""Pictures: every way in which one can be broken, too large, elsewhere or oddly made."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lore_mm.errors import PictureError
from lore_mm.images import FORMATS, Picture, PicturePolicy, decode_picture, load_picture, load_pictures

POLICY = PicturePolicy()
RED, BLUE, WHITE = (200, 30, 40), (20, 40, 200), (255, 255, 255)
LEGAL = ", ".join(FORMATS)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason(data: bytes, policy: PicturePolicy = POLICY) -> str:
    with pytest.raises(PictureError) as caught:
        decode_picture(data, policy)
    return str(caught.value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has almost no data: what a decompression bomb looks like from outside."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_each_format_comes_out_as_rgb_with_its_colours(kind: str) -> None:
    image = Image.new("RGB", (64, 48), RED)
    image.paste(BLUE, (32, 0, 64, 48))
    data = encoded(image, kind)
    picture = decode_picture(data)
    assert (picture.image.mode, picture.image.size, picture.width, picture.height) == ("RGB", (64, 48), 64, 48)
    assert picture.sha == hashlib.sha256(data).hexdigest()
    assert picture.notes == ()
    for place, colour in (((8, 24), RED), ((56, 24), BLUE)):
        assert np.abs(np.subtract(picture.image.getpixel(place), colour)).max() <= 8  # the lossy ones are near


def test_large_pictures_are_shrunk_to_the_longer_side() -> None:
    for kind in ("JPEG", "PNG"):
        picture = decode_picture(encoded(Image.new("RGB", (2048, 1024), RED), kind))
        assert picture.image.size == (512, 512 * 1024 // 2048)
        assert (picture.width, picture.height) == (2048, 1024)


def test_shrinking_by_the_jpeg_decoder_changes_little() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((2000, 2000))
    data = encoded(smooth, "JPEG", quality=95)
    plain = Image.open(io.BytesIO(data)).convert("RGB").resize((128, 128), Image.Resampling.BICUBIC, reducing_gap=3)
    ours = decode_picture(data, replace(POLICY, max_side=128)).image
    assert np.abs(np.asarray(plain, float) - np.asarray(ours, float)).mean() < 1.0  # of 255


def test_twenty_thousand_pixels_wide_is_read_and_shrunk() -> None:
    picture = decode_picture(encoded(Image.new("RGB", (20_000, 100), BLUE)))
    assert (picture.width, picture.height) == (20_000, 100)
    assert picture.image.size == (512, 3)  # round(512 × 100 / 20,000)
    assert picture.image.getpixel((256, 1)) == BLUE


def test_too_many_pixels_are_refused_from_the_header() -> None:
    assert reason(png_header(20_000, 20_000)) == "20,000 × 20,000 = 400,000,000 pixels, the limit is 100,000,000"
    small = replace(POLICY, max_pixels=99)
    assert reason(encoded(Image.new("RGB", (10, 10)), "BMP"), small) == "10 × 10 = 100 pixels, the limit is 99"


def test_between_pillows_limit_and_ours_there_is_no_warning() -> None:
    """9,500 × 9,500 = 90.25 M pixels: Pillow's own door would warn, and warnings are errors here."""
    assert reason(png_header(9_500, 9_500)) == "the PNG file is cut off"


def test_a_jpeg_of_many_scans_is_refused() -> None:
    """Small in bytes and pixels, long in decoding: the last scan, which refines one bit, is there again and again."""
    data = encoded(Image.new("RGB", (64, 64), RED), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert 2 <= data.count(b"\xff\xda") <= 20 and decode_picture(data).width == 64
    bomb = data[:last] + data[last:-2] * 300 + data[-2:]
    assert reason(bomb) == f"the JPEG file has {data.count(bytes([255, 218])) - 1 + 300} scans, the limit is 200"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_bulky_notes_inside_a_picture_do_no_harm(kind: str) -> None:
    """An ICC profile of a megabyte of zeros; in PNG also a text that unpacks to far more than it takes."""
    more: dict[str, object] = {"icc_profile": bytes(1_000_000)}
    if kind == "PNG":
        text = PngInfo()
        text.add_text("Comment", "a" * 3_000_000, zip=True)
        more["pnginfo"] = text
    data = encoded(Image.new("RGB", (32, 32), RED), kind, **more)
    try:
        assert decode_picture(data).image.size == (32, 32)
    except PictureError as error:
        assert str(error) == "the PNG file is broken (Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK)"


def test_pillows_global_settings_are_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    reason(png_header(20_000, 20_000))
    decode_picture(encoded(Image.new("RGB", (20, 20))))
    assert Image.MAX_IMAGE_PIXELS == before


def test_too_many_bytes_are_refused_before_decoding(tmp_path: Path) -> None:
    small = replace(POLICY, max_bytes=1000)
    assert reason(b"x" * 1001, small) == "the file has 1,001 bytes, the limit is 1,000"
    (tmp_path / "a.png").write_bytes(b"x" * 1001)
    with pytest.raises(PictureError, match=r"^picture 'a.png': the file has 1,001 bytes, the limit is 1,000$"):
        load_picture("a.png", tmp_path, small)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_cut_off_files_are_refused(kind: str) -> None:
    rng = np.random.default_rng(1)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    for part in (len(data) // 2, len(data) * 9 // 10):
        said = reason(data[:part])
        assert said.startswith(f"the {dict(WEBP='WebP').get(kind, kind)} file is "), said
        assert "\n" not in said


def test_broken_files_say_so() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (99, 99, 3), dtype=np.uint8)
    jpeg = encoded(Image.fromarray(noise), "JPEG")
    assert reason(jpeg[: len(jpeg) // 2]) == "the JPEG file is cut off"
    assert reason(b"\xff\xd8\xff\xe0" + b"\0" * 100).startswith("the JPEG file is broken")
    assert reason(b"\x89PNG\r\n\x1a\n" + b"\0" * 100).startswith("the PNG file is broken")
    assert reason(b"BM") == "the BMP file is cut off" or reason(b"BM").startswith("the BMP file is broken")


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"hello", ""),
        (b"<!DOCTYPE html><html><title>404</title>", "; this is a web page"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "; this is SVG"),
        (b"%PDF-1.7 ...", "; this is a PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "; this is HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", ""),
    ],
)
def test_other_formats_are_refused_whatever_their_name(data: bytes, looks: str, tmp_path: Path) -> None:
    assert reason(data) == f"not a picture of a format that is read ({LEGAL}){looks}"
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(PictureError):
        load_picture("a.jpg", tmp_path)


def test_empty_file() -> None:
    assert reason(b"") == "the file is empty"


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(encoded(Image.new("RGB", (32, 32), RED)))
    assert load_picture("a.txt", tmp_path).image.getpixel((5, 5)) == RED


def test_cmyk() -> None:
    # 0 % ink is white, full magenta and yellow is red
    image = Image.new("CMYK", (40, 40), (0, 0, 0, 0))
    image.paste((0, 255, 255, 0), (20, 0, 40, 40))
    picture = decode_picture(encoded(image, "JPEG", quality=95))
    assert picture.notes == ("CMYK: converted without a colour profile",)
    assert np.abs(np.subtract(picture.image.getpixel((5, 20)), WHITE)).max() <= 6
    assert np.abs(np.subtract(picture.image.getpixel((35, 20)), (255, 0, 0))).max() <= 12


def test_sixteen_bits_keep_their_upper_eight() -> None:
    grey = np.full((32, 32), 0x8000, dtype=np.uint16)
    picture = decode_picture(encoded(Image.fromarray(grey)))
    assert picture.image.getpixel((3, 3)) == (0x80, 0x80, 0x80)
    assert decode_picture(encoded(Image.fromarray(grey), "TIFF")).image.getpixel((3, 3)) == (0x80, 0x80, 0x80)


def test_fractions_are_refused() -> None:
    data = encoded(Image.fromarray(np.full((32, 32), 0.5, dtype=np.float32)), "TIFF")
    assert reason(data) == "pixels are 32-bit fractions, which are not read; save it with 8 or 16 bits"


def test_transparent_parts_become_white() -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 20, 40))
    image.paste((*RED, 51), (0, 30, 20, 40))  # a fifth of red on four fifths of white
    out = decode_picture(encoded(image)).image
    assert (out.getpixel((30, 5)), out.getpixel((5, 5))) == (WHITE, RED)
    mixed = [round(0.2 * r + 0.8 * 255) for r in RED]
    assert np.abs(np.subtract(out.getpixel((5, 35)), mixed)).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "I;16"])
def test_other_modes(mode: str) -> None:
    data = encoded(Image.new("L", (32, 32), 255).convert(mode) if mode != "I;16" else Image.new(mode, (32, 32), 65535))
    assert decode_picture(data).image.getpixel((1, 1)) == WHITE


def test_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 0, 0, *RED])
    image.paste(1, (0, 0, 16, 32))
    for kind in ("PNG", "GIF"):
        out = decode_picture(encoded(image, kind, transparency=0)).image
        assert (out.getpixel((30, 5)), out.getpixel((5, 5))) == (WHITE, RED)
    out = decode_picture(encoded(image, "PNG", transparency=bytes([0, 255]))).image
    assert (out.getpixel((30, 5)), out.getpixel((5, 5))) == (WHITE, RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    more = {"save_all": True, "append_images": [Image.new("RGB", (32, 32), BLUE)]}
    picture = decode_picture(encoded(Image.new("RGB", (32, 32), RED), kind, **more))
    assert picture.notes == ("several frames: the first is read",)
    assert np.abs(np.subtract(picture.image.getpixel((9, 9)), RED)).max() <= 8


def test_one_pixel_is_read_and_noted() -> None:
    picture = decode_picture(encoded(Image.new("RGB", (1, 1), RED)))
    assert picture.image.getpixel((0, 0)) == RED
    assert picture.notes == ("1 × 1 pixels: too small to say anything",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    image = Image.new("RGB", (64, 32), RED)
    image.paste(BLUE, (0, 0, 32, 16))  # the upper left quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_picture(encoded(image, kind, exif=exif))
    # where the upper left quarter of the stored pixels belongs, by the standard's table
    corner = ["upper left", "upper right", "lower right", "lower left"][(orientation - 1) % 4]
    size = (32, 64) if orientation >= 5 else (64, 32)
    assert (picture.width, picture.height) == picture.image.size == size
    place = (size[0] - 4 if "right" in corner else 3, size[1] - 4 if "lower" in corner else 3)
    assert np.abs(np.subtract(picture.image.getpixel(place), BLUE)).max() <= 12
    other = (size[0] - 1 - place[0], size[1] - 1 - place[1])
    assert np.abs(np.subtract(picture.image.getpixel(other), RED)).max() <= 12


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 30, b"Exif\0\0"]
)
def test_broken_exif_does_not_break_the_picture(exif: bytes) -> None:
    picture = decode_picture(encoded(Image.new("RGB", (32, 32), BLUE), "JPEG", exif=exif))
    assert (picture.width, picture.height) == (32, 32)


@given(st.binary(max_size=300), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]), st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_ends_in_a_picture_or_a_one_line_reason(noise: bytes, kind: str, data: st.DataObject) -> None:
    whole = encoded(Image.new("RGB", (24, 24), RED), kind)
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    try:
        assert decode_picture(damaged, replace(POLICY, max_pixels=10_000)).image.mode == "RGB"
    except PictureError as error:
        assert str(error) and "\n" not in str(error)


class TestPaths:
    @pytest.fixture
    def shop(self, tmp_path: Path) -> Path:
        root = tmp_path / "shop"
        (root / "images").mkdir(parents=True)
        (root / "images" / "a.png").write_bytes(encoded(Image.new("RGB", (20, 20), RED)))
        (tmp_path / "secret.png").write_bytes(encoded(Image.new("RGB", (20, 20), BLUE)))
        return root

    def refused(self, ref: str, root: Path | None, policy: PicturePolicy = POLICY) -> str:
        with pytest.raises(PictureError) as caught:
            load_picture(ref, root, policy)
        return str(caught.value)

    def test_below_the_root(self, shop: Path) -> None:
        assert load_picture("images/a.png", shop).image.getpixel((0, 0)) == RED
        assert load_picture(str(shop / "images" / "a.png"), shop).image.getpixel((0, 0)) == RED

    def test_missing(self, shop: Path) -> None:
        assert self.refused("images/b.png", shop) == f"picture 'images/b.png': no such file in {shop}"
        assert self.refused("images/a.png/b", shop) == f"picture 'images/a.png/b': no such file in {shop}"
        assert self.refused(str(shop / "no"), None) == f"picture {str(shop / 'no')!r}: no such file"

    def test_outside(self, shop: Path) -> None:
        dots = "'..' in a picture's path is not allowed"
        outside = f"lies outside the catalogue's folder {shop.resolve()}"
        secret = str(shop.parent / "secret.png")
        assert self.refused("../secret.png", shop) == f"picture '../secret.png': {dots}"
        assert self.refused("images/../images/a.png", shop).endswith(dots)
        assert self.refused(secret, shop) == f"picture {secret!r}: {outside}"
        (shop / "link.png").symlink_to(secret)
        (shop / "up").symlink_to(shop.parent)
        assert self.refused("link.png", shop) == f"picture 'link.png': {outside}"
        assert self.refused("up/secret.png", shop) == f"picture 'up/secret.png': {outside}"
        assert load_picture(secret, None).image.getpixel((0, 0)) == BLUE

    def test_a_link_that_stays_inside_is_followed(self, shop: Path) -> None:
        (shop / "b.png").symlink_to(shop / "images" / "a.png")
        assert load_picture("b.png", shop).image.getpixel((0, 0)) == RED

    def test_a_circle_of_links(self, shop: Path) -> None:
        (shop / "x.png").symlink_to(shop / "y.png")
        (shop / "y.png").symlink_to(shop / "x.png")
        assert self.refused("x.png", shop).startswith("picture 'x.png': cannot be opened (")

    def test_not_a_plain_file(self, shop: Path) -> None:
        assert self.refused("images", shop) == "picture 'images': a folder, not a file"
        os.mkfifo(shop / "pipe.png")
        assert self.refused("pipe.png", shop) == "picture 'pipe.png': not a plain file"

    @pytest.mark.parametrize(
        ("ref", "why"),
        [
            ("", "the name is empty"),
            ("a\0b", "cannot be opened (embedded null byte)"),
            ("\ud800.png", "cannot be opened ('utf-8' codec can't encode character '\\ud800' in position"),
            ("data:image/png;base64,AAAA", "data: addresses are not read; give a path or an http(s) URL"),
            ("file:///etc/passwd", "file: addresses are not read; give a path or an http(s) URL"),
            ("FTP://x/y.png", "ftp: addresses are not read; give a path or an http(s) URL"),
            ("https://shop.example/a.png", "pictures by URL are off; --allow-urls allows them"),
            ("HTTP://shop.example/a.png", "pictures by URL are off; --allow-urls allows them"),
        ],
    )
    def test_odd_names(self, shop: Path, ref: str, why: str) -> None:
        assert self.refused(ref, shop).startswith(f"picture {ref!r}: {why}")

    def test_long_names_are_shortened_in_the_reason(self, shop: Path) -> None:
        said = self.refused("x" * 5000, shop)
        assert said == f"picture '{'x' * 60}…{'x' * 30}': cannot be opened (File name too long)"


class TestMany:
    def test_same_length_and_order_whatever_fails(self, tmp_path: Path) -> None:
        refs = []
        for i in range(40):
            refs.append(f"{i}.png")
            if i % 3:
                (tmp_path / refs[-1]).write_bytes(encoded(Image.new("RGB", (20 + i, 20), RED)))
        for threads in (1, 8):
            found = load_pictures(refs, tmp_path, threads=threads)
            assert len(found) == 40
            for i, one in enumerate(found):
                if i % 3:
                    assert isinstance(one, Picture) and one.width == 20 + i
                else:
                    assert str(one) == f"picture '{i}.png': no such file in {tmp_path}"

    def test_a_root_each(self, tmp_path: Path) -> None:
        for name, colour in (("a", RED), ("b", BLUE)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.png").write_bytes(encoded(Image.new("RGB", (20, 20), colour)))
        found = load_pictures(["x.png", "x.png"], [tmp_path / "a", tmp_path / "b"], threads=2)
        assert [p.image.getpixel((0, 0)) for p in found if isinstance(p, Picture)] == [RED, BLUE]
        with pytest.raises(ValueError, match="2 pictures but 1 root"):
            load_pictures(["x.png", "x.png"], [tmp_path])

    def test_none(self) -> None:
        assert load_pictures([]) == []
