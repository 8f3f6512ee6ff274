"""`lore extract --vlm`: what is asked and spared, faults of servers and engines, kills; counts that add up."""

import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image

from extractors.calibrate import Calibration, CalibrationEntry, write_calibration
from jobs.asked import asked_in
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items
from jobs.open_extractors import VlmChoice, model_options
from jobs.plan import Counts
from jobs.status import status_of
from lore_mm.errors import ConfigError, InputError, ModelError
from lore_mm.models.json_reply import instance, spelled
from lore_mm.tables import ATTRIBUTES, MAX_REPLY
from stores.features import open_store

FIELDS = ("color", "material")


def shop_of(folder, titles, picture=True):
    """A catalogue of one picture an item, ids i0, i1 …"""
    folder.mkdir()
    rows = []
    for i, title in enumerate(titles):
        if picture:
            Image.new("RGB", (56, 56), (40 * i % 256, 90, 200)).save(folder / f"{i}.png")
        rows.append({"item_id": f"i{i}", "title": title, "images": [f"{i}.png"] if picture else []})
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def store_of(tmp_path, titles, **more):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, shop_of(tmp_path / "shop", titles, **more))
    return store


def rows_of(store, extractor="vlm"):
    rows = store.latest("attributes").filter(pl.col("extractor") == extractor).collect().to_dicts()
    return {row["item_id"]: row for row in rows}


def scripted(tmp_path, text):
    path = tmp_path / "script.toml"
    path.write_text(text)
    return VlmChoice(f"scripted:{path}", ask=FIELDS)


# ------------------------------------------------------------------------------------------- what is asked and spared

TITLES = ["Red cotton shirt", "Blue lamp", "Some shirt", "A chair"]


def test_the_model_is_asked_for_what_is_not_settled(tmp_path, capsys):
    folder = tmp_path / "shop"
    store = open_store(tmp_path / "store", create=True)
    shop_of(folder, TITLES)
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    rows[2]["attributes"] = {"Color": ["green"]}  # the seller says so
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest_items(store, folder)
    counts = extract_items(store, extractors=["given"], vlm=scripted(tmp_path, '[default]\nanswer = {color=["pink"]}'))
    assert counts == Counts(4, 4, 0, 0)
    found = rows_of(store)
    assert {i: (r["usage"]["asked"], r["usage"]["settled"]) for i, r in found.items()} == {
        "i0": (["color", "material"], []),
        "i1": (["color", "material"], []),
        "i2": (["material"], ["color"]),
        "i3": (["color", "material"], []),
    }
    assert {r["usage"]["calls"] for r in found.values()} == {1}
    assert all(r["usage"]["prompt_tokens"] > 64 and r["reply"] is None for r in found.values())
    assert [a["value"] for a in rows_of(store, "merge")["i2"]["attributes"] if a["name"] == "color"] == ["green"]
    assert rows_of(store, "given")["i0"]["usage"] is None
    said = capsys.readouterr().err
    assert "extract_items: 4 calls for 4 items: 7 fields asked, 1 settled without asking; " in said
    found = asked_in(store)
    assert (found.items, found.usage.calls, found.fields, found.settled) == (4, 4, 7, 1)
    (asked,) = status_of(store).asked
    assert (asked.extractor, asked.calls, asked.fields_asked, asked.fields_settled) == ("vlm", 4, 7, 1)


def test_a_calibration_settles_and_corrects(tmp_path):
    store = store_of(tmp_path, TITLES)
    entries = (
        CalibrationEntry(
            extractor="given", attribute="color", n=9, right=9, method="logistic", knots=((0.5, 0.6), (1.0, 0.99)),
            threshold=0.8,
        ),
        CalibrationEntry(extractor="vlm", attribute="*", n=9, right=3, method="logistic", knots=((0.5, 0.25),)),
    )  # fmt: skip
    write_calibration(Calibration(entries=entries), tmp_path / "store" / "calibration.json")  # found by itself
    choice = scripted(tmp_path, '[default]\nanswer = {material=["wool"]}')
    extract_items(store, extractors=["given"], vlm=choice)
    assert {i: r["usage"]["settled"] for i, r in rows_of(store).items()} == {
        "i0": ["color"],
        "i1": ["color"],
        "i2": [],
        "i3": [],
    }
    (own,) = [a["confidence"] for a in rows_of(store)["i1"]["attributes"] if a["name"] == "material"]
    (verdict,) = [a["confidence"] for a in rows_of(store, "merge")["i1"]["attributes"] if a["name"] == "material"]
    assert own > 0.5
    assert verdict == 0.25
    # another calibration is another verdict: everything is made again; the same one changes nothing
    assert extract_items(store, extractors=["given"], vlm=choice) == Counts(4, 0, 0, 4)
    other = tmp_path / "other.json"
    write_calibration(Calibration(entries=entries[:1]), other)
    assert extract_items(store, extractors=["given"], vlm=choice, calibration=other) == Counts(4, 4, 0, 0)


def test_nonsense_is_refused_before_anything_is_done(tmp_path):
    store = store_of(tmp_path, TITLES)
    with pytest.raises(ConfigError, match="no schema has an attribute 'colour'"):
        extract_items(store, extractors=["given"], vlm=VlmChoice("scripted:1", ask=("colour",)))
    with pytest.raises(ConfigError, match="No such file"):
        extract_items(store, extractors=["given"], calibration=tmp_path / "none.json")
    with pytest.raises(ModelError, match="no chat model 'vlm'"):
        extract_items(store, extractors=["given"], vlm=VlmChoice("vlm"))
    assert store.version("attributes") is None
    assert model_options(["a=1", 'b={"c": [2]}', "d=x=y", "e=true"]) == {"a": 1, "b": {"c": [2]}, "d": "x=y", "e": True}
    with pytest.raises(InputError, match="needs key=value"):
        model_options(["max_model_len"])


LATER = ("reply", "usage", "made_from", "asked_with", "pack")


def test_a_store_of_before_is_read_and_goes_on(tmp_path):
    """A store written when ATTRIBUTES had fewer columns."""
    store = store_of(tmp_path, TITLES)
    extract_items(store, extractors=["given"])
    older = pa.schema([f for f in ATTRIBUTES if f.name not in LATER])
    rows = pa.Table.from_batches(list(store.batches("attributes"))).select(older.names)
    before = open_store(tmp_path / "before", create=True)
    ingest_items(before, tmp_path / "shop")
    write_deltalake(f"{before.uri}/attributes", rows)
    assert asked_in(before) is None
    assert status_of(before).asked == []
    assert extract_items(before, extractors=["given"]) == Counts(4, 0, 0, 4)
    choice = scripted(tmp_path, '[default]\nanswer = {color=["pink"]}')
    assert extract_items(before, extractors=["given"], vlm=choice) == Counts(4, 4, 0, 0)
    found = before.scan("attributes").collect()
    assert found["usage"].is_null().to_list() == [True] * 8 + [True, False, True] * 4
    assert asked_in(before).usage.calls == 4


# ------------------------------------------------------------------------------------------------------------- faults


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that answers by the words in the request: see WRONG."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.well = False

    def handle_error(self, request, client_address):
        pass


WRONG = {
    "busy": lambda good: (429, b'{"error": {"message": "slow down"}}'),
    "broken": lambda good: (500, b"<html>stack trace</html>"),
    "garbage": lambda good: (200, b"\x00\xffnot JSON at all"),
    "half": lambda good: (200, said(good[: len(good) // 2])),
    "lawless": lambda good: (200, said("It is red, I think.")),
    "long": lambda good: (200, said("x" * 9000)),
    "nothing": lambda good: None,
    "empty": lambda good: (200, b"{}"),
}


def said(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer((200, b'{"object": "list", "data": [{"id": "tiny", "object": "model"}]}'))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        good = spelled(instance(body["response_format"]["json_schema"]["schema"]))
        words = json.dumps(body["messages"]).lower()
        fault = next((WRONG[w] for w in WRONG if f" {w}thing" in words), None)
        self.answer((200, said(good)) if fault is None or self.server.well else fault(good))

    def answer(self, reply):
        if reply is None:
            self.close_connection = True
            return
        status, data = reply
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    pytest.importorskip("openai", reason="needs the extra openai")
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_hostile_server_fails_its_rows_alone_and_retry_mends_them(tmp_path, server):
    names = ["fine", *WRONG, "good"]
    store = store_of(tmp_path, [f"A {name}thing" for name in names])
    options = {"retries": 0, "timeout_s": 20}
    choice = VlmChoice(f"openai:http://127.0.0.1:{server.server_port}/v1#tiny", options, ask=FIELDS)
    counts = extract_items(store, extractors=["given"], vlm=choice, batch_rows=3)
    assert counts == Counts(10, 2, 8, 0)
    found = {name: rows_of(store)[f"i{i}"] for i, name in enumerate(names)}
    assert {name for name, row in found.items() if row["status"] == "ok"} == {"fine", "good"}
    assert all(row["error"] for name, row in found.items() if name in WRONG)
    assert "429" in found["busy"]["error"]
    assert "500" in found["broken"]["error"]
    assert "stack trace" in found["broken"]["reply"]
    assert found["half"]["reply"].startswith('{"color": ')
    assert found["lawless"]["reply"] == "It is red, I think."
    assert found["long"]["reply"] == "x" * MAX_REPLY
    merged = rows_of(store, "merge")
    assert all(merged[f"i{i}"]["error"].startswith("vlm: ") for i, name in enumerate(names) if name in WRONG)
    assert extract_items(store, extractors=["given"], vlm=choice) == Counts(10, 0, 0, 10, n_still_failed=8)
    server.well = True
    assert extract_items(store, extractors=["given"], vlm=choice, retry_failed=True) == Counts(10, 8, 0, 2)
    assert {row["status"] for row in rows_of(store).values()} == {"ok"}
    assert {row["reply"] for row in rows_of(store).values()} == {None}


def test_a_dead_engine_stops_the_job_and_the_same_command_goes_on(tmp_path):
    store = store_of(tmp_path, [f"Thing {w}" for w in ("one", "two", "three", "deadly", "five", "six")])
    script = '[[rules]]\nwords = ["deadly"]\ndead = "out of memory"\n[default]\nanswer = {color=["pink"]}'
    with pytest.raises(ModelError) as error:
        extract_items(store, extractors=["given"], vlm=scripted(tmp_path, script), batch_rows=1)
    assert "out of memory" in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("what was done is kept: the same command goes on behind it")
    done = len(rows_of(store))
    assert 1 <= done <= 3
    # the engine is well again; the file is the same address, the run the same run
    (tmp_path / "script.toml").write_text('[default]\nanswer = {color=["pink"]}')
    counts = extract_items(store, extractors=["given"], vlm=scripted(tmp_path, script.replace("dead =", "error =")),
                           batch_rows=1, new_run=True)  # fmt: skip
    assert (counts.n_in, counts.n_failed) == (6, 1)
    # another script is another model: all is asked again, and what was read of the titles stands
    assert store.count("attributes") == 3 * 6 + 2 * done


def test_what_an_engine_refuses_is_a_failed_row(tmp_path, tiny_vlm_folder):
    """A real engine: a picture its processor refuses, a context that is too long; the others are answered."""
    titles = ["A mug", "A sliver", "A book"]
    store = store_of(tmp_path, titles)
    Image.new("RGB", (600, 2), "red").save(tmp_path / "shop" / "1.png")  # wider than 200 times its height
    choice = VlmChoice(f"hf:{tiny_vlm_folder}", {"batch_size": 8}, "compact", ("pattern",))
    counts = extract_items(store, extractors=["given"], vlm=choice)
    assert counts == Counts(3, 2, 1, 0)
    found = rows_of(store)
    assert [row["status"] for row in found.values()] == ["ok", "failed", "ok"]
    assert "aspect ratio" in found["i1"]["error"]
    assert all(r["usage"]["completion_tokens"] > 0 for i, r in found.items() if i != "i1")
    short = VlmChoice(f"hf:{tiny_vlm_folder}", {"max_model_len": 64}, "full", ("pattern",))
    counts = extract_items(store, extractors=["given"], vlm=short)
    assert counts == Counts(3, 0, 3, 0)
    assert all("64" in row["error"] for i, row in rows_of(store).items() if i != "i1")


def test_killed_in_the_middle_with_a_real_model(tmp_path, tiny_vlm_folder):
    """`python -m jobs.extract_items --vlm hf:…`, killed after its second commit; ends as if it had not been."""
    shop = shop_of(tmp_path / "shop", [f"Thing number {i}" for i in range(12)])

    command = [sys.executable, "-m", "jobs.extract_items", str(shop), "--store", str(tmp_path / "killed")]
    command += ["--extractors", "given", "--vlm", f"hf:{tiny_vlm_folder}", "--prompt", "compact"]
    command += ["--ask", "pattern,color", "--batch-rows", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "killed" / "attributes" / "_delta_log"
    while len(list(log.glob("*.json"))) < 3 and process.poll() is None:  # the first makes the table
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    committed = open_store(tmp_path / "killed").scan("attributes").select(pl.len()).collect().item()
    assert 0 < committed < 36
    for name in ("killed", "whole"):
        store = open_store(tmp_path / name, create=True)
        ingest_items(store, shop)
        choice = VlmChoice(f"hf:{tiny_vlm_folder}", prompt="compact", ask=("pattern", "color"))
        assert extract_items(store, extractors=["given"], vlm=choice, batch_rows=2) == Counts(12, 12, 0, 0)
    killed, whole = (
        open_store(tmp_path / name)
        .scan("attributes")
        .with_columns(pl.col("provenance").struct.field("input_sha", "settings_sha", "maker"))
        .drop("provenance")
        .collect()
        for name in ("killed", "whole")
    )
    assert killed.height == 36
    keys = ["item_id", "extractor", "status", "input_sha", "settings_sha"]
    assert killed.select(keys).equals(whole.select(keys))
    said = [
        [(a["name"], a["value"], a["status"]) for a in attributes]
        for table in (killed, whole)
        for attributes in table["attributes"].to_list()
    ]
    assert said[:36] == said[36:]
