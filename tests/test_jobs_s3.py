"""Catalogues, pictures and stores in a bucket: the same as in folders, killed, shared, hostile, or with a poor service.

The server is moto's, on loopback, over real HTTP: what clients send and retry is what they send a real service.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.embed_items import embed_items
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items
from jobs.plan import Counts
from jobs.status import status_of
from lore_mm.bucket_pictures import object_of
from lore_mm.catalogue import open_catalogue, read_labels, read_pairs, read_queries
from lore_mm.errors import InputError, MissingExtraError, PictureError, StoreError
from lore_mm.images import PicturePolicy, read_picture
from lore_mm.models import open_embedder
from lore_mm.places import Place, open_bytes, pinned, place_of
from lore_mm.tables import LABELS
from stores.differences import differences
from stores.features import FeatureStore, open_store
from stores.moments import commits
from stores.online_write import build_online
from stores.snapshot import Snapshot

boto3 = pytest.importorskip("boto3", reason="comes with moto, of the extra dev")
pytest.importorskip("moto", reason="of the extra dev")
pytest.importorskip("obstore", reason="needs the extra buckets")

ROOT = Path(__file__).parent.parent
COLORS = ["red", "green", "blue", "black", "white", "orange", "purple", "yellow"]
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "not-to-be-shown", "AWS_REGION": "us-east-1"}


class Server:
    """The running server, with two buckets: `shop` is ours, `other` is reached by the same credentials."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log
        self.client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="id", aws_secret_access_key="x", region_name="us-east-1"
        )
        for bucket in ("shop", "other"):
            self.client.create_bucket(Bucket=bucket)

    def put(self, name: str, body: bytes, bucket: str = "shop") -> str:
        self.client.put_object(Bucket=bucket, Key=name, Body=body)
        return f"s3://{bucket}/{name}"

    def requests(self) -> list[str]:
        return self.log.read_text().splitlines()

    def be_away(self, requests: int) -> None:
        Path(f"{self.log}.away").write_text(str(requests))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    log = folder / "requests.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3_server", str(log)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with pytest.MonkeyPatch.context() as patch:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        for name in [n for n in os.environ if n.startswith("AWS_") or n.lower().endswith("_proxy")]:
            patch.delenv(name)
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": url, "LORE_CACHE": str(folder / "cache")}.items():
            patch.setenv(name, value)
        yield Server(url, log)
    process.kill()
    process.wait()
    process.stdout.close()


def picture(color: str, side: int = 48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


def rows(n: int) -> list[dict]:
    """Every eighth item has no colour to be seen: one picture is missing, one is broken."""
    made = []
    for i in range(n):
        images = [f"pictures/{i}.png"] if i % 8 != 6 else []
        made.append({"item_id": f"i{i:03}", "title": f"{COLORS[i % 8]} cotton shirt {i}", "images": images})
    made[1]["images"] = ["pictures/none.png"]
    made[2]["images"] = ["pictures/broken.png"]
    return made


def files(n: int) -> dict[str, bytes]:
    """A catalogue's files by name."""
    found = {f"pictures/{i}.png": picture(COLORS[i % 8]) for i in range(n) if i % 8 != 6}
    lines = "".join(json.dumps(row) + "\n" for row in rows(n))
    return {**found, "pictures/broken.png": picture("red")[:60], "items.jsonl": lines.encode()}


@pytest.fixture(scope="module")
def shop(server, tmp_path_factory):
    """The same catalogue twice: (its folder, its address)."""
    folder = tmp_path_factory.mktemp("twin") / "clothes"
    for name, body in files(16).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
        server.put(f"clothes/{name}", body)
    return folder, "s3://shop/clothes"


@pytest.fixture(scope="module")
def stores(server, shop, tmp_path_factory):
    """Both catalogues ingested and extracted, each into a store beside it."""
    made = []
    for catalogue, where in zip(shop, (tmp_path_factory.mktemp("stores") / "store", "s3://shop/store"), strict=True):
        store = open_store(where, create=True)
        assert ingest_items(store, str(catalogue)) == Counts(16, 16)
        assert extract_items(store, extractors=["given", "palette"], batch_rows=8) == Counts(16, 14, 2)
        made.append(store)
    return made


def features(store: FeatureStore, places: dict[str, str]) -> list[dict]:
    """What was found, by item, without who found it when; addresses by a common name."""
    found = store.latest("attributes").select("item_id", "extractor", "status", "attributes", "error").collect()
    text = json.dumps(found.sort("item_id", "extractor").to_dicts(), default=str)
    for given, name in places.items():
        text = text.replace(given, name)
    return json.loads(text)


def test_a_bucket_gives_what_a_folder_gives(stores, shop) -> None:
    local, remote = stores
    folder, address = (str(place) for place in shop)
    items = [s.latest("items").drop("image_root", "provenance").collect() for s in stores]
    assert items[0].equals(items[1])
    assert set(remote.latest("items").collect()["image_root"]) == {address}
    assert features(remote, {f"{address}/pictures": "SHOP"}) == features(local, {folder: "SHOP"})
    errors = {r["item_id"]: r["error"] for r in features(remote, {}) if r["extractor"] == "merge"}
    assert errors["i001"] == "image:0: pictures/none.png: no such file in s3://shop/clothes/pictures"
    assert errors["i002"].startswith("image:0: pictures/broken.png: the PNG file is")


def test_what_did_not_change_is_known_without_reading_it(server, stores) -> None:
    before = len(server.requests())
    again = extract_items(stores[1], extractors=["given", "palette"], batch_rows=8)
    assert again == Counts(16, 0, 0, 16, 2)
    seen = [line for line in server.requests()[before:] if "/clothes/pictures/" in line]
    assert len(seen) == 14 and {line.split()[0] for line in seen} == {"HEAD"}


def test_a_changed_picture_is_taken_again(server, stores) -> None:
    store = stores[1]
    try:
        server.put("clothes/pictures/3.png", picture("yellow"))
        assert extract_items(store, extractors=["given", "palette"], batch_rows=8) == Counts(16, 1, 0, 15, 2)
    finally:
        server.put("clothes/pictures/3.png", picture(COLORS[3]))
    assert extract_items(store, extractors=["given", "palette"], batch_rows=8) == Counts(16, 1, 0, 15, 2)


def test_questions_have_the_same_answers(stores) -> None:
    local, remote = (Snapshot(store) for store in stores)
    text = "SELECT name, value, count(*) AS n FROM latest GROUP BY ALL ORDER BY ALL"
    assert remote.sql(text).equals(local.sql(text))
    assert remote.where("color = 'red'") == local.where("color = 'red'") != []
    ids = ["i000", "i001", "nowhere"]
    assert [one and one.item for one in remote.get(ids)] == [one and one.item for one in local.get(ids)]
    assert [(f.name, f.value) for f in remote.get(ids)[0].attributes] == [
        (f.name, f.value) for f in local.get(ids)[0].attributes
    ]
    assert remote.history("i000", "color")["value"].equals(local.history("i000", "color")["value"])
    assert remote.lineage("i000", "color")["role"].equals(local.lineage("i000", "color")["role"])
    one_item = next(one.version for one in commits(stores[1], "attributes") if 0 < one.rows < 4)  # its picture changed
    before, after = (Snapshot.as_of(stores[1], f"attributes@{n}") for n in (one_item - 1, one_item))
    changed = [row for batch in differences(before, after, ["attributes"], "palette") for row in batch.to_pylist()]
    assert {(row["item_id"], row["attribute"], row["why"]) for row in changed} == {("i003", "color", "item changed")}
    with pytest.raises(InputError, match="read_text is not allowed"):
        remote.sql("SELECT * FROM read_text('s3://other/secret.txt')")
    status = status_of(stores[1])
    assert {t.table: t.n_rows for t in status.tables}["items"] == 16


def test_vectors_and_online_view_stand_in_the_cache(stores) -> None:
    local, remote = stores
    assert remote.beside().is_relative_to(os.environ["LORE_CACHE"]) and local.beside() == local.folder
    for store in stores:
        assert embed_items(store, embedder=open_embedder("scripted:7"), batch_rows=16).n_failed == 2
    asked = "red shirt"
    answers = [Snapshot(s).search(text=asked, k=3, embedder=open_embedder("scripted:7"))[0] for s in stores]
    assert answers[0] == answers[1] and len(answers[1]) == 3
    assert Snapshot(remote)._online is None
    build_online(remote)
    assert Snapshot(remote)._online is not None
    assert Snapshot(remote).get(["i000"])[0].item == Snapshot(local).get(["i000"])[0].item


def test_killed_and_resumed(server, shop, stores) -> None:
    """SIGKILL after the first commits, by the command line; the rest is made once, by the same command."""
    where = "s3://shop/killed"
    command = [sys.executable, "-m", "jobs.extract_items", shop[1], "--store", where]
    command += ["--extractors", "given,palette", "--batch-rows", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    store = FeatureStore(where)
    while (store.version("attributes") or 0) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    standing = store.count("attributes")
    assert 0 < standing < 16 * 3
    counts = extract_items(open_store(where), extractors=["given", "palette"], batch_rows=2)
    assert counts == Counts(16, 14, 2)
    assert features(store, {}) == features(stores[1], {})
    assert store.count("attributes") == store.latest("attributes").collect().height  # none twice


def test_four_writers_lose_no_commit(server) -> None:
    def write(who: int) -> list[int | None]:
        store, versions = FeatureStore("s3://shop/shared"), []
        for n in range(5):
            row = {"query_id": f"q{who}", "item_id": f"i{n}", "grade": "L4", "reason": None}
            table = pa.Table.from_pylist([row], schema=LABELS)
            versions.append(store.append("labels", table, transaction=(f"writer-{who}", n)))
            assert store.append("labels", table, transaction=(f"writer-{who}", n)) is None
        return versions

    with ThreadPoolExecutor(4) as pool:
        versions = [v for found in pool.map(write, range(4)) for v in found]
    assert sorted(versions) == list(range(1, 21))
    rows = FeatureStore("s3://shop/shared").scan("labels").collect()
    assert sorted(zip(rows["query_id"], rows["item_id"], strict=True)) == [
        (f"q{who}", f"i{n}") for who in range(4) for n in range(5)
    ]


def test_a_service_that_is_away_for_a_while(server, shop, stores) -> None:
    """503 to one request after the other, at the beginning and between two commits: nothing is lost or failed."""
    server.be_away(3)
    store = open_store("s3://shop/stormy", create=True)
    assert ingest_items(store, shop[1]) == Counts(16, 16)
    server.be_away(5)
    assert extract_items(store, extractors=["given", "palette"], batch_rows=8) == Counts(16, 14, 2)
    server.be_away(3)
    assert Snapshot(store).sql("SELECT count(*) AS n FROM items")["n"].to_pylist() == [16]
    assert features(store, {}) == features(stores[1], {})
    assert sum(line.startswith("503") for line in server.requests()) == 11


def test_hostile_and_oversized_pictures(server) -> None:
    server.put("secret.png", picture("red"), bucket="other")
    server.put("hostile/beside.png", picture("red"))
    server.put("hostile/shop/big.png", os.urandom(3000))
    server.put("hostile/shop/fine.png", picture("red"))
    refs = ["s3://other/secret.png", "../beside.png", "/etc/passwd", "S3://shop/hostile/beside.png", "big.png"]
    refs += ["s3://shop/hostile/shop/../beside.png", "gs://shop/x.png", "file:///etc/passwd", "s3:/other/secret.png"]
    refs += ["s3://shop/hostile/shop/fine.png", "fine.png"]
    items = [{"item_id": f"i{i:02}", "title": "Red shirt", "images": [ref]} for i, ref in enumerate(refs)]
    server.put("hostile/shop/items.jsonl", "".join(json.dumps(row) + "\n" for row in items).encode())
    store = open_store("s3://shop/hostile/store", create=True)
    ingest_items(store, "s3://shop/hostile/shop/items.jsonl")
    before = len(server.requests())
    policy = PicturePolicy(max_bytes=2000)
    assert extract_items(store, extractors=["palette"], policy=policy, new_run=True) == Counts(11, 2, 9)
    verdicts = [row for row in features(store, {}) if row["extractor"] == "merge"]
    assert [row["item_id"] for row in verdicts if row["status"] == "ok"] == ["i09", "i10"]
    errors = [row["error"] or "" for row in verdicts]
    outside = "lies outside the catalogue's folder s3://shop/hostile/shop; --allow-host s3://{} allows its bucket"
    assert outside.format("other") in errors[0] and outside.format("shop") in errors[3]
    assert "'..'" in errors[1] and "'..'" in errors[5]
    assert errors[4] == "image:0: big.png: the file has 3,000 bytes, the limit is 2,000"
    asked = [line for line in server.requests()[before:] if line.endswith((".png", "passwd"))]
    assert {line.split()[1].rpartition("/")[2] for line in asked} == {"big.png", "fine.png"}
    assert not any("/other/" in line for line in asked)
    # seen a second time, those that cannot be read are known again, and the large one is not fetched
    assert extract_items(store, extractors=["palette"], policy=policy) == Counts(11, 0, 0, 11, 9)


def test_an_allowed_bucket_is_read(server, tmp_path) -> None:
    server.put("free/a.png", picture("red"), bucket="other")
    address = "s3://other/free/a.png"
    with pytest.raises(PictureError, match="--allow-host s3://other allows its bucket"):
        read_picture(address, tmp_path)
    for allowed in ("s3://other", "s3://other/free", "S3://other/free/"):
        assert read_picture(address, tmp_path, PicturePolicy(allow_hosts=(allowed,))) == picture("red")
    for allowed in ("s3://other/fre", "gs://other", "other", "s3://othe", "s3://other/free/a.pn"):
        with pytest.raises(PictureError, match="lies outside"):
            read_picture(address, tmp_path, PicturePolicy(allow_hosts=(allowed,)))
    assert read_picture(address) == picture("red")  # a person typed it
    with pytest.raises(PictureError, match="no such file in s3://other/free"):
        read_picture("s3://other/free/b.png")


@pytest.mark.parametrize("ref", ["", "a//b", "./a", "a/./b", "a/..", "/a", "a/", "s3://shop", "s3://shop/", "a\0b"])
def test_names_that_are_none(ref) -> None:
    with pytest.raises(PictureError, match="not the name of an object"):
        object_of(ref, "s3://shop/x", PicturePolicy())


def test_files_of_every_kind(server, tmp_path) -> None:
    """What is read of a bucket is what is read of a folder, by the same readers, packed or not."""
    items = pa.table({"item_id": [f"i{i}" for i in range(3000)], "title": ["A shirt"] * 3000, "price": [1.5] * 3000})
    queries = b"query_id,query\nq1,red shirt\nq2,lamp\n"
    made = {"items.parquet": b"", "items.csv": b"", "queries.csv": queries, "labels.jsonl": b"", "pairs.tsv": b""}
    pq.write_table(items, tmp_path / "items.parquet", row_group_size=500)
    pyarrow.csv.write_csv(items, tmp_path / "items.csv")
    made |= {name: (tmp_path / name).read_bytes() for name in ("items.parquet", "items.csv")}
    made["labels.jsonl"] = b'{"query_id": "q1", "item_id": "i1", "grade": "L3"}\n'
    made["pairs.tsv"] = b"query\titem_id\nred shirt\ti1\n"
    for name, body in made.items():
        (tmp_path / name).write_bytes(body)
        server.put(f"kinds/{name}", body)
    readers = {"queries.csv": read_queries, "labels.jsonl": read_labels, "pairs.tsv": read_pairs}
    for name, read in readers.items():
        assert read(f"s3://shop/kinds/{name}").equals(read(tmp_path / name))
    for name in ("items.parquet", "items.csv"):
        near, far = (open_catalogue(where) for where in (tmp_path / name, f"s3://shop/kinds/{name}"))
        assert far.n_rows == 3000 and str(far.image_root) == "s3://shop/kinds"
        read = [[row for table in one.batches() for row in table.to_pylist()] for one in (near, far)]
        for row in [*read[0], *read[1]]:
            del row["image_root"], row["provenance"]["made_at"]
        assert read[0] == read[1]


def test_a_folder_of_pictures(server) -> None:
    for name in ("b.png", "a/red-shoe.jpg", "a/red-shoe.png", ".hidden.png", "notes.txt"):
        server.put(f"album/{name}", picture("red"))
    found = open_catalogue(Path("s3://shop/album"))  # as a command line hands it over
    rows = [row for table in found.batches() for row in table.to_pylist()]
    assert [(r["item_id"], r["title"], r["images"]) for r in rows] == [
        ("a/red-shoe.jpg", "red shoe", ["a/red-shoe.jpg"]),
        ("a/red-shoe.png", "red shoe", ["a/red-shoe.png"]),
        ("b", "b", ["b.png"]),
    ]
    assert str(found.image_root) == "s3://shop/album"


def test_a_file_that_changes_while_it_is_read(server, tmp_path) -> None:
    lines = "".join(json.dumps({"item_id": f"i{i}", "title": "Red shirt"}) + "\n" for i in range(50)).encode()
    (tmp_path / "items.jsonl").write_bytes(lines)
    server.put("moving/items.jsonl", lines)
    for where in (tmp_path / "items.jsonl", "s3://shop/moving/items.jsonl"):
        catalogue = open_catalogue(where)
        batches = catalogue.batches(10)
        assert next(batches).num_rows == 10
        lines = lines.replace(b"Red", b"A Red")
        (tmp_path / "items.jsonl").write_bytes(lines)
        server.put("moving/items.jsonl", lines)
        with pytest.raises(InputError, match="it changed while it was read; once nothing writes to it, run the same"):
            list(batches)
        with pytest.raises(InputError, match="it changed while it was read"):
            ingest_items(open_store(tmp_path / "store", create=True), catalogue)
    # between two requests of one reading
    server.put("moving/long.bin", b"a" * 100)
    place, _ = pinned(place_of("s3://shop/moving/long.bin"))
    with open_bytes(place, 10) as file:
        assert file.read(5) == b"aaaaa"
        server.put("moving/long.bin", b"b" * 100)
        with pytest.raises(OSError, match="it changed while it was read"):
            file.read()


def refusal(server, monkeypatch, address: str, **environment: str) -> list[str]:
    """What a store and a catalogue at an address say, each in one line."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = []
    for call in (lambda: open_store(address, create=True), lambda: open_catalogue(f"{address}/items.jsonl")):
        with pytest.raises((StoreError, InputError)) as caught:
            call()
        said.append(str(caught.value))
        assert "\n" not in said[-1] and "not-to-be-shown" not in said[-1] and len(said[-1]) < 200
    return said


def test_a_missing_bucket(server, monkeypatch) -> None:
    assert refusal(server, monkeypatch, "s3://nowhere/x") == [
        "s3://nowhere/x: no bucket 'nowhere' there",
        "s3://nowhere/x/items.jsonl: no bucket 'nowhere' there",
    ]


def test_an_endpoint_where_nothing_is(server, monkeypatch) -> None:
    with pytest.raises(StoreError, match=r"^s3://shop/x: the service at http://127\.0\.0\.1:9 cannot be reached$"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        open_store("s3://shop/x", create=True)
    with pytest.raises(InputError, match="cannot be reached"):
        open_catalogue("s3://shop/x/items.jsonl")


def test_wrong_credentials(server, monkeypatch) -> None:
    """moto answers as the service does where access is looked at, which it does for requests after the first few."""
    import urllib.request

    plain = {"Content-Type": "text/plain"}
    reset = urllib.request.Request(f"{server.url}/moto-api/reset-auth", data=b"0", headers=plain)
    try:
        urllib.request.urlopen(reset).close()
        said = refusal(server, monkeypatch, "s3://shop/x", AWS_ACCESS_KEY_ID="nobody")
    finally:
        again = urllib.request.Request(f"{server.url}/moto-api/reset-auth", data=b"inf", headers=plain)
        urllib.request.urlopen(again).close()
    assert all("access denied" in one and "check the credentials in the environment" in one for one in said)


def test_no_store_there(server) -> None:
    with pytest.raises(StoreError, match=r"no store at s3://shop/empty: make one with `lore ingest`"):
        open_store("s3://shop/empty")
    for wrong, said in {
        "s3://": "names no bucket",
        "hdfs://x/y": "hdfs:// is not read; legal: a path, s3://, gs://, az://",
        "s3://shop/a b": "a store's address may not hold ' '",
        "s3://shop/a/../b": "may not hold '..'",
    }.items():
        with pytest.raises(StoreError, match=said):
            FeatureStore(wrong)


def test_settings_by_argument(server, monkeypatch) -> None:
    """What is said in Python goes to every client before what the environment says."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = open_store("s3://shop/store", storage_options={"aws_endpoint_url": server.url})
    assert store.count("items") == 16
    assert len(list(store.batches("items", ["item_id"], rows=100))) == 1
    assert store.latest("items").collect().height == 16
    assert Snapshot(store).sql("SELECT count(*) AS n FROM items")["n"].to_pylist() == [16]


def test_the_library_is_asked_for_where_it_is_needed(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lore-mm\[buckets\]'"):
        open_store("s3://shop/x", create=True)
    with pytest.raises(MissingExtraError, match=r"pip install 'lore-mm\[buckets\]'"):
        open_catalogue("s3://shop/x/items.jsonl")


def test_addresses() -> None:
    assert place_of("a/b.txt") == Path("a/b.txt")
    assert place_of("file:///a/b") == Path("/a/b")
    assert place_of("C:/x") == Path("C:/x")
    assert str(place_of(Path("s3://shop/a/b"))) == str(place_of("s3://shop/a/b/")) == "s3://shop/a/b"
    place = place_of("gs://shop/a/items.csv.gz")
    assert (place.name, place.stem, place.suffix) == ("items.csv.gz", "items.csv", ".gz")
    assert (str(place.parent), str(place.parent.parent), str(place.parent.parent.parent)) == (
        "gs://shop/a",
        "gs://shop",
        "gs://shop",
    )
    assert Place("s3", "b").holds(Place("s3", "b", "x")) and Place("s3", "b", "x").holds(Place("s3", "b", "x/y"))
    assert not Place("s3", "b", "x").holds(Place("s3", "b", "xy")) and not Place("s3", "b").holds(Place("gs", "b"))
