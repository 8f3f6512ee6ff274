"""A tiny shop to be served, the service in this process, and the command as a process of its own."""

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx

from jobs.embed_items import embed_items
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items, ingest_queries
from jobs.judge_pairs import judge_pairs
from stores.features import open_store

ROOT = Path(__file__).parent.parent
EMBEDDER = "scripted:3"
TITLES = {"a": "Red hoodie", "b": "Blue hoodie", "c": "Camera lens", "d": "Desk lamp", "e/1 ü": "Red lamp"}
QUERIES = [("q1", "red hoodie", 75), ("q2", "lamp", 15), ("q3", "lens", 10)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ingest(store, folder, titles):
    rows = [{"item_id": item_id, "title": title} for item_id, title in titles.items()]
    ingest_items(store, write(folder / "items.jsonl", rows))
    extract_items(store, extractors=["given"])
    embed_items(store, embedder=EMBEDDER)


def make_shop(folder, titles=TITLES):
    """Items with attributes and an index, a log, and judgments of its head: "red hoodie" with all items."""
    store = open_store(folder / "store", create=True)
    ingest_queries(
        store, write(folder / "log.jsonl", [{"query_id": i, "query": q, "frequency": n} for i, q, n in QUERIES])
    )
    ingest(store, folder, titles)
    judge_pairs(store, top=len(titles), traffic=0.5, embedder=EMBEDDER)
    return store


def client_of(app, **options):
    """A client of an application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=True, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", **options)


def ask(app, *requests, **options):
    """The answers to requests (method, path, options each), sent at once, in their order."""

    async def together():
        async with client_of(app, **options) as client:
            return await asyncio.gather(*(client.request(method, path, **more) for method, path, more in requests))

    return asyncio.run(together())


def is_problem(answer):
    """Whether an answer is a whole problem of a 4xx, and says the same status twice."""
    told = answer.json()
    return (
        400 <= answer.status_code < 500
        and answer.headers["content-type"] == "application/problem+json"
        and set(told) == {"type", "title", "status", "detail", "code"}
        and told["status"] == answer.status_code
        and bool(told["title"] and told["detail"] and told["code"])
    )


@contextmanager
def served(store, *more, environment=None):
    """`lore serve` over a store on a free port; yields the process and its address. It is ended if it lives on."""
    command = [sys.executable, "-m", "jobs.serve", "--store", store.uri, "--embedder", EMBEDDER, "--port", "0", *more]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r" at (http://\S+?),? by ", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.kill()
        process.communicate()
