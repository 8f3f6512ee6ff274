"""Catalogues, query logs, labels and pairs: what is read, and what is said of everything that is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.catalogue import open_catalogue, read_items, read_labels, read_pairs, read_queries
from lore_mm.errors import InputError
from lore_mm.item_rows import COLUMNS, read_item
from lore_mm.records import ENDINGS
from lore_mm.rows import item_from_row, item_to_row
from lore_mm.tables import ITEMS, LABELS, PAIRS, QUERIES, check_table
from lore_mm.types import Item

LEGAL = ", ".join(COLUMNS)
SHIRT = {
    "item_id": "s1",
    "title": "Linen shirt",
    "description": "Light.\r\nFor summer.",
    "category": "Clothing > Shirts",
    "brand": "Acme",
    "attributes": {"color": ["blue", "white"], "fit": "slim", "year": 2024, "weight": 0.5, "washable": True},
    "price": 39.9,
    "currency": "EUR",
    "images": ["a.jpg", "sub/b.jpg"],
    "store": "Acme Outlet",
}
SHIRT_ITEM = Item(
    item_id="s1",
    title="Linen shirt",
    description="Light.\r\nFor summer.",
    category="Clothing > Shirts",
    brand="Acme",
    attributes={
        "color": ("blue", "white"),
        "fit": ("slim",),
        "year": ("2024",),
        "weight": ("0.5",),
        "washable": ("true",),
    },
    price=39.9,
    currency="EUR",
    images=("a.jpg", "sub/b.jpg"),
    store="Acme Outlet",
)
Row = dict[str, Any]


def rows_of(path: Path, batch_rows: int = 1024) -> list[Row]:
    tables = list(read_items(path, batch_rows))
    for table in tables:
        check_table(table, ITEMS, str(path))
    return [row for table in tables for row in table.to_pylist()]


def put(path: Path, *rows: Row | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def refused(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(path))
    return said.removeprefix(str(path))


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    return lambda *rows: put(tmp_path / "items.jsonl", *rows)


def only(row: Row, tmp_path: Path) -> Row:
    """The one row that one row gives."""
    (found,) = rows_of(put(tmp_path / "items.jsonl", {"item_id": "x", "title": "A thing"} | row))
    return found


class TestFormats:
    def test_json_lines(self, jsonl: Callable[..., Path], tmp_path: Path) -> None:
        (row,) = rows_of(jsonl(SHIRT))
        assert item_from_row(row) == SHIRT_ITEM
        assert (row["status"], row["error"], row["image_root"]) == ("ok", None, str(tmp_path.resolve()))
        assert len(row["provenance"]["input_sha"]) == 64

    def test_every_format_gives_the_same_rows(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(json.dumps([SHIRT]))
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(SHIRT).encode()))
        pq.write_table(pa.Table.from_pylist([SHIRT]), tmp_path / "a.parquet")
        plain = {k: v for k, v in SHIRT.items() if k not in ("attributes", "images")}
        for ending, separator in ((".csv", ","), (".tsv", "\t")):
            with (tmp_path / f"a{ending}").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter=separator)
                writer.writerow([*plain, "images", "attributes", "attributes.color"])
                attributes = {k: v for k, v in SHIRT["attributes"].items() if k != "color"}  # type: ignore[attr-defined]
                writer.writerow([*plain.values(), "a.jpg|sub/b.jpg", json.dumps(attributes), '["blue", "white"]'])
        for name in ("a.json", "a.jsonl.gz", "a.parquet", "a.csv", "a.tsv"):
            (row,) = rows_of(tmp_path / name)
            item = item_from_row(row)
            assert sorted(item.attributes.items()) == sorted(SHIRT_ITEM.attributes.items()), name
            assert item_to_row(item) | {"attributes": 0} == item_to_row(SHIRT_ITEM) | {"attributes": 0}, name

    def test_a_table_of_items_written_back_is_read_again(self, tmp_path: Path, jsonl: Callable[..., Path]) -> None:
        table = next(read_items(jsonl(SHIRT)))
        own = ["image_root", "status", "error", "provenance"]
        pq.write_table(table.drop_columns(own), tmp_path / "again.parquet")
        (row,) = rows_of(tmp_path / "again.parquet")
        assert item_from_row(row) == SHIRT_ITEM
        assert row["provenance"]["input_sha"] == table.to_pylist()[0]["provenance"]["input_sha"]

    def test_csv_lists_and_numbers(self, tmp_path: Path) -> None:
        text = (
            "item_id,title,price,image,images,attributes.size\n1,A, 12.50 ,main.jpg,a.jpg|b.jpg|main.jpg,S|M\n2,B,,,,\n"
        )
        first, second = rows_of(put(tmp_path / "a.csv", text))
        assert first["images"] == ["main.jpg", "a.jpg", "b.jpg"]
        assert (first["price"], first["attributes"]) == (12.5, [{"name": "size", "values": ["S", "M"]}])
        assert (second["price"], second["attributes"], second["images"]) == (None, [], [])

    def test_bars_in_json_are_text(self, tmp_path: Path) -> None:
        row = only({"images": "a|b.jpg", "attributes": {"size": "S|M"}}, tmp_path)
        assert row["images"] == ["a|b.jpg"]
        assert row["attributes"] == [{"name": "size", "values": ["S|M"]}]

    def test_mark_line_ends_and_quoted_newlines(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(b'\xef\xbb\xbfitem_id,title\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,plain\r\n')
        assert [(r["item_id"], r["title"]) for r in rows_of(path)] == [("1", 'two\r\nlines, "quoted"'), ("2", "plain")]
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'\xef\xbb\xbf{"item_id": 1, "title": "a"}\r\n\r\n{"item_id": 2, "title": "b"}')
        assert [(r["item_id"], r["title"]) for r in rows_of(path)] == [("1", "a"), ("2", "b")]

    @pytest.mark.parametrize(
        "title", ["قميص كتان أزرق", "חולצת פשתן", "👩‍🚀 shirt 🧵", "亚麻衬衫", "e\u0301 \u202eabc", "a\u2028b"]
    )
    def test_right_to_left_and_emoji_pass_unchanged(self, title: str, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text(json.dumps({"item_id": title, "title": title}, ensure_ascii=False))
        (tmp_path / "a.csv").write_text(f"item_id,title\n{title},{title}\n")
        for name in ("a.jsonl", "a.csv"):
            (row,) = rows_of(tmp_path / name)
            assert (row["item_id"], row["title"], row["status"]) == (title, title, "ok")

    def test_batches_keep_order_and_number(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jsonl", *({"item_id": i, "title": f"no {i}", "price": -(i % 7)} for i in range(2500)))
        catalogue = open_catalogue(path)
        sizes = [table.num_rows for table in catalogue.batches(1000)]
        assert (catalogue.n_rows, sizes) == (2500, [1000, 1000, 500])
        rows = rows_of(path, 1000)
        assert [row["item_id"] for row in rows] == [str(i) for i in range(2500)]
        assert [row["status"] == "failed" for row in rows] == [i % 7 > 0 for i in range(2500)]

    def test_parquet_of_many_row_groups(self, tmp_path: Path) -> None:
        table = pa.table({"item_id": pa.array(range(5000)), "title": [f"no {i}" for i in range(5000)]})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
        assert [row["item_id"] for row in rows_of(tmp_path / "a.parquet")] == [str(i) for i in range(5000)]


class TestSha:
    def test_tells_what_the_seller_said(self, tmp_path: Path) -> None:
        def sha(**row: object) -> str:
            return str(only(row, tmp_path)["provenance"]["input_sha"])

        assert sha() == sha() == sha(price=None, description="")
        assert len({sha(), sha(price=1), sha(price=-1), sha(images=["a"]), sha(attributes={"a": "b"})}) == 5
        assert sha(attributes={"a": ["b", "c"]}) != sha(attributes={"a": ["c", "b"]})


class TestFolders:
    def test_with_a_catalogue(self, tmp_path: Path) -> None:
        put(tmp_path / "items.jsonl", SHIRT)
        (tmp_path / "stray.jpg").touch()
        (row,) = rows_of(tmp_path)
        assert (row["item_id"], row["image_root"]) == ("s1", str(tmp_path.resolve()))

    def test_with_two_catalogues(self, tmp_path: Path) -> None:
        for name in ("items.jsonl", "items.csv"):
            (tmp_path / name).touch()
        assert refused(read_items, tmp_path) == ": holds items.csv and items.jsonl; name the one to read"

    def test_of_pictures(self, tmp_path: Path) -> None:
        names = ["b/Red_Shirt-01.JPG", "b/a.png", "b/a.webp", "c.d.jpeg", ".hidden.jpg", "notes.txt", "a/é x.gif"]
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        rows = rows_of(tmp_path)
        assert [(r["item_id"], r["title"], r["images"]) for r in rows] == [
            ("a/é x", "é x", ["a/é x.gif"]),
            ("b/Red_Shirt-01", "Red Shirt 01", ["b/Red_Shirt-01.JPG"]),
            ("b/a.png", "a", ["b/a.png"]),
            ("b/a.webp", "a", ["b/a.webp"]),
            ("c.d", "c d", ["c.d.jpeg"]),
        ]
        assert {r["image_root"] for r in rows} == {str(tmp_path.resolve())}
        assert {r["status"] for r in rows} == {"ok"}

    def test_without_either(self, tmp_path: Path) -> None:
        assert refused(read_items, tmp_path) == (
            ": holds neither items.jsonl (.ndjson, .json, .csv, .tsv, .parquet, .jsonl.gz, .ndjson.gz, .json.gz, "
            ".csv.gz, .tsv.gz) nor pictures (.jpg, .jpeg, .png, .webp, .gif, .bmp, .tif, .tiff, .avif)"
        )


class TestWholeFileFaults:
    def test_no_such_file(self, tmp_path: Path) -> None:
        assert refused(read_items, tmp_path / "no.csv") == ": no such file"
        assert refused(read_labels, tmp_path) == ": a folder, not a file"

    def test_other_kinds(self, tmp_path: Path) -> None:
        (tmp_path / "a.xlsx").write_bytes(b"PK")
        assert refused(read_items, tmp_path / "a.xlsx") == (
            ": files ending in '.xlsx' are not read; legal: .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .jsonl.gz, "
            ".ndjson.gz, .json.gz, .csv.gz, .tsv.gz; save the sheet as CSV (UTF-8)"
        )

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.csv.gz"])
    def test_empty_file(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).touch()
        assert refused(read_items, tmp_path / name) == ": the file is empty"

    @pytest.mark.parametrize(("name", "text"), [("a.jsonl", "\n \n"), ("a.json", "[]"), ("a.csv", "item_id,title\n")])
    def test_no_rows(self, name: str, text: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text(text)
        assert refused(read_items, tmp_path / name) == ": no rows"

    def test_missing_columns(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "item_id,brand", "1,Acme")
        assert (
            refused(read_items, path)
            == f": missing column 'title'; columns there: brand, item_id; legal columns: {LEGAL}"
        )
        path = put(tmp_path / "a.jsonl", {"title": "a"})
        assert refused(read_items, path) == f": missing column 'item_id'; columns there: title; legal columns: {LEGAL}"

    def test_unknown_columns(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "item_id,titel", "1,a")
        assert refused(read_items, path) == (
            ": unknown column 'titel', did you mean 'title'?; a seller's own field is written attributes.titel; "
            f"legal columns: {LEGAL}"
        )
        path = put(tmp_path / "a.jsonl", {"item_id": 1, "title": "a"}, {"item_id": 2, "title": "b", "hue": "red"})
        assert refused(read_items, path) == (
            f", line 2: unknown column 'hue'; a seller's own field is written attributes.hue; legal columns: {LEGAL}"
        )

    def test_a_column_named_twice(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "item_id,title,title", "1,a,b")
        assert refused(read_items, path) == ", line 1: column 'title' is named twice"

    @pytest.mark.parametrize("blank", [{}, {"item_id": None}, {"item_id": ""}, {"item_id": " \t"}])
    def test_null_ids(self, blank: Row, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jsonl", {"item_id": "1", "title": "a"}, blank | {"title": "b"})
        assert refused(read_items, path) == ", line 2, column 'item_id': item_id is empty"

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            (1.5, "1.5 is a number; legal: text or a whole number"),
            (True, "True is true or false; legal: text or a whole number"),
            (["a"], "['a'] is a list; legal: text or a whole number"),
            ("a\nb", "control character U+000A at character 1"),
            ("a" * 513, "513 characters, the limit is 512"),
            ("\ud800", "control character U+D800 at character 0"),
        ],
    )
    def test_unfit_ids(self, key: object, why: str, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jsonl", {"item_id": key, "title": "b"})
        assert refused(read_items, path) == f", line 1, column 'item_id': {why}"

    def test_duplicate_ids(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jsonl", *({"item_id": i, "title": "a"} for i in (1, 2, 3, "2", 1)))
        assert refused(read_items, path) == (
            ": item_id '2' stands in line 2 and again in line 4; each must be there once"
        )
        path = put(tmp_path / "a.csv", "item_id,title", '1,"a', 'b"', "", "1,c")
        assert refused(read_items, path).startswith(": item_id '1' stands in line 2 and again in line 5;")
        (tmp_path / "a.json").write_text(json.dumps([{"item_id": "x", "title": "a"}] * 2))
        assert refused(read_items, tmp_path / "a.json").startswith(": item_id 'x' stands in row 1 and again in row 2;")

    def test_equal_hashes_are_not_duplicates(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lore_mm.catalogue.hash", lambda key: len(key), raising=False)
        path = put(tmp_path / "a.jsonl", *({"item_id": f"i{i}", "title": "a"} for i in range(9)))
        assert len(rows_of(path)) == 9

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(b"item_id,title\n1,plain\n2,caf\xe9\n")
        at = len(b"item_id,title\n1,plain\n2,caf")
        assert refused(read_items, path) == f", line 3: not UTF-8 (byte 0xe9 at offset {at}); save the file as UTF-8"
        path.write_bytes("item_id,title\n1,a\n".encode("utf-16"))
        assert refused(read_items, path) == ", line 1: this is UTF-16, not UTF-8; save the file as UTF-8"
        path = tmp_path / "a.json"
        path.write_bytes(b'\xef\xbb\xbf[{"item_id": "\xff"}]')
        at = len(b'\xef\xbb\xbf[{"item_id": "')
        assert refused(read_items, path) == f": not UTF-8 (byte 0xff at offset {at}); save the file as UTF-8"

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ('{"item_id": 2,', "not JSON (Expecting property name enclosed in double quotes at character 15)"),
            ("item_id", "not JSON (Expecting value at character 1)"),
            ("[1]", "not a JSON object but a list"),
            ("null", "not a JSON object but null"),
            ("[" * 100_000, "JSON nested too deeply"),
            (
                '{"price": ' + "9" * 5000 + "}",
                "not JSON that can be read (Exceeds the limit (4300 digits) for integer ",
            ),
        ],
    )
    def test_malformed_json_line(self, line: str, why: str, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jsonl", {"item_id": 1, "title": "a"}, line)
        assert refused(read_items, path).startswith(f", line 2: {why}")

    def test_malformed_json(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text('[{"item_id": 1},\n {"item_id" 2}]')
        assert refused(read_items, path) == ": not JSON (Expecting ':' delimiter at line 2, character 13)"
        path.write_text('{"items": []}')
        assert refused(read_items, path) == ": not a JSON list of objects but an object"
        path.write_text('[{"item_id": 1, "title": "a"}, 7]')
        assert refused(read_items, path) == ", row 2: not a JSON object but a number"

    def test_malformed_csv(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "item_id,title", '1,"two', 'lines"', "2,a,b")
        assert refused(read_items, path) == ", line 4: 3 fields, the header has 2"
        path = put(tmp_path / "a.csv", "item_id,title", "1,a", '2,"never closed', "3,b")
        assert refused(read_items, path) == ", line 3: not CSV (unexpected end of data)"
        path.write_bytes(b"item_id,title\r1,a\r")
        assert refused(read_items, path) == (
            ", line 1: not CSV (a carriage return ends no line; save the file with line ends LF or CRLF)"
        )
        path = put(tmp_path / "a.csv", "item_id;title", "1;a")
        assert refused(read_items, path).startswith(
            ": unknown column 'item_id;title'; are the columns separated by ';'? legal separators: a comma in .csv,"
        )
        path = put(tmp_path / "a.tsv", "item_id\ttitle", '1\t"a"b')
        assert refused(read_items, path) == ", line 2: not TSV ('\\t' expected after '\"')"
        path = put(tmp_path / "a.csv", "", "1,a")
        path.write_text(",\n1,a\n")
        assert refused(read_items, path) == ": the first line must name the columns"

    def test_a_packed_file_cut_off(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress(json.dumps(SHIRT).encode())[:-12])
        assert refused(read_items, path).startswith(", line 1: cannot be unpacked or read (")
        path.write_bytes(b"plain text")
        assert refused(read_items, path).startswith(", line 1: cannot be unpacked or read (Not a gzipped file")

    def test_not_parquet(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.parquet", "item_id,title", "1,a")
        assert refused(read_items, path).startswith(": not a Parquet file (")
        pq.write_table(pa.table({"item_id": ["1"] * 9, "title": ["a"] * 9}), path)
        whole = path.read_bytes()
        path.write_bytes(b"PAR1" + bytes(len(whole) // 3) + whole[4 + len(whole) // 3 :])
        assert refused(read_items, path).startswith((", after row 0: cannot be read (", ": not a Parquet file ("))

    def test_nothing_is_given_before_the_whole_file_is_sound(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jsonl", *({"item_id": i, "title": "a"} for i in range(5000)), "broken")
        assert refused(read_items, path).startswith(", line 5001: not JSON")  # when called, not when iterated


class TestRowFaults:
    @pytest.mark.parametrize(
        ("price", "why"),
        [
            (float("nan"), "price: nan is not a price; leave it empty where there is none"),
            ("NaN", "price: 'NaN' is not a price; leave it empty where there is none"),
            (float("inf"), "price: inf is not a price; leave it empty where there is none"),
            (-1, "price: -1 is negative"),
            ("-0.01", "price: '-0.01' is negative"),
            ("12,50", "price: '12,50' is not a number; legal: digits with a decimal point, such as 12.50"),
            ("€5", "price: '€5' is not a number; legal: digits with a decimal point, such as 12.50"),
            ("１２", "price: '１２' is not a number; legal: digits with a decimal point, such as 12.50"),
            ("1_000", "price: '1_000' is not a number; legal: digits with a decimal point, such as 12.50"),
            (True, "price: True is not a number; legal: digits with a decimal point, such as 12.50"),
            ([5], "price: [5] is not a number; legal: digits with a decimal point, such as 12.50"),
            ("1e999", "price: '1e999' is not a price; leave it empty where there is none"),
        ],
    )
    def test_prices(self, price: object, why: str, tmp_path: Path) -> None:
        row = only({"price": price, "brand": "Acme"}, tmp_path)
        assert (row["status"], row["error"], row["price"]) == ("failed", why, None)
        assert (row["title"], row["brand"]) == ("A thing", "Acme")

    @pytest.mark.parametrize(("price", "number"), [(0, 0.0), ("12.50", 12.5), ("1e3", 1000.0), ("", None), (" ", None)])
    def test_fair_prices(self, price: object, number: float | None, tmp_path: Path) -> None:
        row = only({"price": price}, tmp_path)
        assert (row["status"], row["price"]) == ("ok", number)

    def test_nan_prices_in_csv_and_parquet(self, tmp_path: Path) -> None:
        (row,) = rows_of(put(tmp_path / "a.csv", "item_id,title,price", "1,a,nan"))
        assert row["error"] == "price: 'nan' is not a price; leave it empty where there is none"
        pq.write_table(pa.table({"item_id": [1], "title": ["a"], "price": [float("nan")]}), tmp_path / "a.parquet")
        (row,) = rows_of(tmp_path / "a.parquet")
        assert row["error"] == "price: nan is not a price; leave it empty where there is none"

    @pytest.mark.parametrize("title", ["", "  ", None])
    def test_empty_title(self, title: str | None, tmp_path: Path) -> None:
        row = only({"title": title}, tmp_path)
        assert (row["status"], row["error"], row["title"]) == ("failed", "title: empty", title or "")

    @pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
    def test_a_title_of_a_megabyte(self, ending: str, tmp_path: Path) -> None:
        title = "ab" * 500_000
        path = tmp_path / f"a{ending}"
        if ending == ".jsonl":
            put(path, {"item_id": 1, "title": title}, {"item_id": 2, "title": "a"})
        elif ending == ".csv":
            put(path, "item_id,title", f"1,{title}", "2,a")
        else:
            pq.write_table(pa.table({"item_id": ["1", "2"], "title": [title, "a"]}), path)
        long, fine = rows_of(path)
        assert long["error"] == "title: 1,000,000 characters, the limit is 10,000; the first 10,000 are kept"
        assert (long["title"], long["status"]) == ("ab" * 5000, "failed")
        assert (fine["title"], fine["status"]) == ("a", "ok")

    def test_one_strange_query_does_not_stop_a_log(self, tmp_path: Path) -> None:
        strange = ["x" * 10_001, "a\0b", "red \ud83d shoes", "red shoes"]
        path = put(tmp_path / "q.jsonl", *({"query_id": str(i), "query": text} for i, text in enumerate(strange)))
        assert read_queries(path).column("query").to_pylist() == ["x" * 10_000, "a b", "red \ufffd shoes", "red shoes"]

    def test_control_characters(self, tmp_path: Path) -> None:
        row = only({"title": "a\x00b", "description": "tab\tand\nline \x1b[31m", "brand": "\ud800!"}, tmp_path)
        assert row["error"] == (
            "title: control character U+0000 at character 1; description: control character U+001B at character 13; "
            "brand: half a surrogate pair U+D800 at character 0"
        )
        assert (row["title"], row["description"], row["brand"]) == (
            "a b",
            "tab\tand\nline  [31m",
            "\N{REPLACEMENT CHARACTER}!",
        )

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"title": 12}, "title: 12 is a number, not text"),
            ({"title": ["a"]}, "title: ['a'] is a list, not text"),
            ({"brand": {"name": "x"}}, "brand: {'name': 'x'} is an object, not text"),
            ({"category": True}, "category: True is true or false, not text"),
            ({"images": {"a": 1}}, "images: {'a': 1} is an object, not the path of a picture"),
            ({"images": ["a.jpg", 3]}, "images: 3 is a number, not the path of a picture"),
            ({"image": ["a.jpg"], "images": 5}, "images: 5 is a number, not the path of a picture"),
            ({"attributes": "red"}, "attributes: 'red' is text, not an object of name: value or list of values"),
            ({"attributes": ["red"]}, "attributes: ['red'] is a list, not an object of name: value or list of values"),
            (
                {"attributes": {"a": {"b": 1}}},
                "attributes.a: {'b': 1} is an object; legal: text, a number, or a list of these",
            ),
            ({"attributes": {" ": "x"}}, "attributes: one has no name"),
        ],
    )
    def test_wrong_types(self, wrong: Row, why: str, tmp_path: Path) -> None:
        row = only(wrong | {"price": 3}, tmp_path)
        assert (row["status"], row["error"], row["price"]) == ("failed", why, 3.0)

    def test_all_else_is_kept(self, tmp_path: Path) -> None:
        row = only({"images": ["a.jpg", 3, "b.jpg"], "attributes": {"a": ["x", {}], "b": "y"}, "price": -1}, tmp_path)
        assert row["images"] == ["a.jpg", "b.jpg"]
        assert row["attributes"] == [{"name": "a", "values": ["x"]}, {"name": "b", "values": ["y"]}]
        assert row["error"].count(";") == 3  # attributes (its legal values hold one), price, images

    def test_many_faults_are_counted(self, tmp_path: Path) -> None:
        row = only({"images": list(range(100))}, tmp_path)
        assert row["error"].endswith("; images: 4 is a number, not the path of a picture; and 95 more")

    def test_an_attributes_cell_that_is_no_json(self, tmp_path: Path) -> None:
        (row,) = rows_of(put(tmp_path / "a.csv", "item_id,title,attributes", "1,a,color=red"))
        assert row["error"] == "attributes: 'color=red' is not a JSON object"

    def test_the_name_of_a_picture_that_is_not_utf8(self, tmp_path: Path) -> None:
        try:
            (tmp_path / "caf\udce9.jpg").touch()
        except OSError:
            pytest.skip("this file system holds UTF-8 names only")
        (row,) = rows_of(tmp_path)
        assert (row["item_id"], row["status"]) == ("caf\N{REPLACEMENT CHARACTER}", "failed")
        assert row["error"].startswith("title: half a surrogate pair U+DCE9 at character 3")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text()
    | st.text(st.characters(codec=None, categories=["Cs", "Cc", "Lu"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
columns = st.sampled_from([c for c in COLUMNS if c != "item_id"]) | st.text().map(lambda t: f"attributes.x{t}")


@given(row=st.dictionaries(columns, anything, max_size=8), textual=st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_row_gives_exactly_one_row(row: Row, textual: bool) -> None:
    item, error = read_item({"item_id": "x"} | row, textual)
    table = pa.Table.from_pylist([item_to_row(item) | {"status": "ok", "error": error}], schema=ITEMS)
    check_table(table, ITEMS, "row")
    assert item_from_row(table.to_pylist()[0]) == item
    assert error is None or ("\n" not in error and error.strip())
    if isinstance(row.get("title"), str) and error is None:
        assert item.title == row["title"]


@given(titles=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_csv_and_json_lines_agree_on_any_text(titles: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    put(folder / "a.jsonl", *({"item_id": i, "title": title} for i, title in enumerate(titles)))
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("item_id", "title"), *enumerate(titles)])
    (folder / "a.csv").write_bytes(buffer.getvalue().encode())
    one, two = rows_of(folder / "a.jsonl"), rows_of(folder / "a.csv")
    for row in one + two:
        row["provenance"].pop("made_at")
    assert one == two
    assert len(one) == len(titles)


@given(
    data=st.binary(max_size=200) | st.text().map(lambda t: ("item_id,title\n" + t).encode("utf-8", "replace")),
    ending=st.sampled_from(ENDINGS),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_rows_or_one_line(data: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") and len(data) % 2 else data)
    try:
        assert rows_of(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


class TestQueries:
    def test_read(self, tmp_path: Path) -> None:
        path = put(
            tmp_path / "q.csv",
            "query_id,query,frequency,kind,split",
            "q1,red shirt,12,color,dev",
            'q2,"",,,',
            "3,x,0.5,,",
        )
        table = read_queries(path)
        check_table(table, QUERIES, "q")
        assert table.to_pylist() == [
            {"query_id": "q1", "query": "red shirt", "frequency": 12.0, "kind": "color", "split": "dev"},
            {"query_id": "q2", "query": "", "frequency": None, "kind": None, "split": None},
            {"query_id": "3", "query": "x", "frequency": 0.5, "kind": None, "split": None},
        ]

    def test_faults(self, tmp_path: Path) -> None:
        legal = "query_id, query, frequency, kind, split"
        path = tmp_path / "q.jsonl"
        assert refused(read_queries, put(path, {"query_id": 1})) == (
            f": missing column 'query'; columns there: query_id; legal columns: {legal}"
        )
        assert refused(read_queries, put(path, {"query_id": 1, "query": "a", "freq": 1})) == (
            f", line 1: unknown column 'freq', did you mean 'frequency'?; legal columns: {legal}"
        )
        assert refused(read_queries, put(path, {"query_id": 1, "query": "a"}, {"query_id": "1", "query": "b"})) == (
            ": query_id '1' stands in line 1 and again in line 2; each must be there once"
        )
        assert refused(read_queries, put(path, {"query_id": None, "query": "a"})) == (
            ", line 1, column 'query_id': query_id is empty"
        )
        for frequency in (-1, "many", float("nan"), True):
            said = refused(read_queries, put(path, {"query_id": 1, "query": "a", "frequency": frequency}))
            assert said == (
                f", line 1, column 'frequency': {frequency!r} is not a count; legal: a number from 0, or nothing"
            )
        assert refused(read_queries, put(path, {"query_id": 1, "query": 5})) == (
            ", line 1, column 'query': 5 is a number, not text"
        )


class TestLabels:
    def test_read(self, tmp_path: Path) -> None:
        path = put(tmp_path / "l.csv", "query_id,item_id,grade,reason", "q1,a,L4,it is one", "q1,b,L1,")
        table = read_labels(path)
        check_table(table, LABELS, "l")
        assert table.to_pylist() == [
            {"query_id": "q1", "item_id": "a", "grade": "L4", "reason": "it is one"},
            {"query_id": "q1", "item_id": "b", "grade": "L1", "reason": None},
        ]

    @pytest.mark.parametrize("grade", ["L5", "l4", "4", 4, None, " L4", "", ["L4"]])
    def test_wrong_grades(self, grade: object, tmp_path: Path) -> None:
        path = put(
            tmp_path / "l.jsonl",
            {"query_id": "q", "item_id": "a", "grade": "L1"},
            {"query_id": "q", "item_id": "b", "grade": grade},
        )
        assert refused(read_labels, path) == (
            f", line 2, column 'grade': {grade!r} is not a grade; legal values: L1, L2, L3, L4"
        )

    def test_a_pair_graded_twice(self, tmp_path: Path) -> None:
        path = put(tmp_path / "l.csv", "query_id,item_id,grade", "q,a,L1", "q,b,L1", "q,a,L4")
        assert refused(read_labels, path) == (
            ": query_id and item_id ('q', 'a') stands in line 2 and again in line 4; each must be there once"
        )


class TestPairs:
    def test_read(self, tmp_path: Path) -> None:
        path = put(tmp_path / "p.csv", "query_id,query,item_id", "q1,red shirt,a", "q1,red shirt,b")
        table = read_pairs(path)
        check_table(table, PAIRS, "p")
        assert table.to_pylist() == [
            {"query_id": "q1", "query": "red shirt", "item_id": "a"},
            {"query_id": "q1", "query": "red shirt", "item_id": "b"},
        ]

    def test_without_query_ids(self, tmp_path: Path) -> None:
        rows = read_pairs(put(tmp_path / "p.csv", "query,item_id", "shirt,a", "shirt,b", "shoe,a")).to_pylist()
        assert [(r["query"], r["item_id"]) for r in rows] == [("shirt", "a"), ("shirt", "b"), ("shoe", "a")]
        assert rows[0]["query_id"] == rows[1]["query_id"] != rows[2]["query_id"]

    def test_one_id_for_two_queries(self, tmp_path: Path) -> None:
        path = put(tmp_path / "p.csv", "query_id,query,item_id", "q1,shirt,a", "q1,shoe,b")
        assert refused(read_pairs, path) == (
            ", line 3, column 'query_id': 'q1' is 'shoe' here, but was another query in line 2"
        )
