"""Pictures for judges: from the folder of each item's catalogue, or from one; what cannot be read is told."""

import json

import pytest
from PIL import Image

from jobs.ingest import ingest_items
from jobs.judge_pictures import FolderPictures, StorePictures
from lore_mm.errors import PictureError
from lore_mm.images import PicturePolicy
from lore_mm.types import Item
from stores.features import open_store

COLORS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0)}


def catalogue(folder, **items):
    """A catalogue with these items, name → the colours of their pictures; `gone` has no file, `broken` no pixels."""
    folder.mkdir(parents=True)
    for color, value in COLORS.items():
        Image.new("RGB", (64, 32), value).save(folder / f"{color}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    rows = [{"item_id": name, "title": name, "images": [f"{c}.png" for c in colors]} for name, colors in items.items()]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "items.jsonl"


def item(name, *colors):
    return Item(name, name, images=tuple(f"{color}.png" for color in colors))


def seen(pictures):
    return [picture.getpixel((0, 0)) for picture in pictures]


def test_pictures_of_a_folder_in_the_items_order(tmp_path):
    read = FolderPictures(catalogue(tmp_path / "a").parent)
    assert seen(read(item("x", "red", "blue"))) == [COLORS["red"], COLORS["blue"]]
    assert read(item("x")) == []
    assert read.skipped == 0


def test_the_first_that_can_be_read(tmp_path):
    read = FolderPictures(catalogue(tmp_path / "a").parent, most=2)
    assert seen(read(item("x", "gone", "red", "broken", "blue", "green"))) == [COLORS["red"], COLORS["blue"]]
    assert read.skipped == 2


def test_none_that_can_be_read_is_an_error_with_the_reason(tmp_path):
    read = FolderPictures(catalogue(tmp_path / "a").parent)
    with pytest.raises(PictureError, match=r"'gone.png': no such file.*, and 1 more"):
        read(item("x", "gone", "broken"))
    with pytest.raises(PictureError, match=r"'\.\.' in a picture's path"):
        read(Item("x", "x", images=("../a/red.png",)))
    with pytest.raises(PictureError, match=r"URL|address|allowed"):
        read(Item("x", "x", images=("http://127.0.0.1:9/red.png",)))


def test_pictures_are_shrunk_to_the_policy(tmp_path):
    read = FolderPictures(catalogue(tmp_path / "a").parent, PicturePolicy(max_side=16))
    assert [picture.size for picture in read(item("x", "red"))] == [(16, 8)]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def test_each_item_of_a_store_from_its_own_catalogue(tmp_path, store):
    ingest_items(store, catalogue(tmp_path / "a", one=["red"]))
    assert seen(StorePictures(store)(item("one", "red"))) == [COLORS["red"]]
    second = catalogue(tmp_path / "b", two=["red"])
    Image.new("RGB", (8, 8), COLORS["green"]).save(tmp_path / "b" / "red.png")
    ingest_items(store, second)
    read = StorePictures(store)
    assert seen(read(item("one", "red"))) == [COLORS["red"]]
    assert seen(read(item("two", "red"))) == [COLORS["green"]]
    with pytest.raises(PictureError, match="folder is not known"):
        read(item("of-no-catalogue", "red"))


def test_an_older_version_of_a_store(tmp_path, store):
    ingest_items(store, catalogue(tmp_path / "a", one=["red"]))
    version = store.version("items")
    ingest_items(store, catalogue(tmp_path / "b", two=["red"]))
    with pytest.raises(PictureError, match="no such file"):
        StorePictures(store, version=version)(item("two", "gone"))


def test_a_store_without_items_knows_no_folder(tmp_path, store):
    with pytest.raises(PictureError, match="folder is not known"):
        StorePictures(store)(item("x", "red"))
