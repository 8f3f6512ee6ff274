"""A small shop that changes, extracted by a scripted model whose requests are kept, for tests."""

import json
import re
from dataclasses import dataclass, field

import polars as pl
import pytest
from PIL import Image

import jobs.item_input
from extractors.calibrate import Calibration
from extractors.palette import Palette
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items
from jobs.open_extractors import VlmChoice
from lore_mm.models.scripted_chat import ScriptedChat
from stores.features import open_store

SOFT = '[softness]\ndimension = "style_detail"\nask = "How soft is it?"\nvalues = ["soft", "firm"]\n'
SHINE = '[shine]\ndimension = "style_detail"\nask = "Does it shine?"\nvalues = ["matt", "glossy"]\n'
SCRIPT = '[default]\nanswer = {softness="firm", shine="matt"}'
ASK = ("softness", "shine")
COLORS = {"red": (200, 20, 20), "blue": (20, 20, 200), "green": (20, 160, 20)}


@dataclass
class World:
    """A shop and how it is extracted; each part can be changed."""

    folder: object
    titles: list = field(default_factory=lambda: ["Cotton shirt", "Desk lamp", "Wool shirt"])
    prices: list = field(default_factory=lambda: [1, 2, 3])
    colors: list = field(default_factory=lambda: ["red", "blue", "green"])
    soft: str = SOFT
    shine: str = SHINE
    script: str = SCRIPT
    prompt: str = "full"
    ask: tuple = ASK
    extractors: tuple = ("given", "palette")
    calibration: Calibration | None = None
    vlm: bool = True
    n: int = 0

    def extract(self, store, **options):
        return extract_items(store, **self.stock(store), **options)

    def stock(self, store):
        """Write everything, ingest the shop, and give the options of its extraction."""
        self.n += 1
        shop, schemas = self.folder / "shop", self.folder / f"schemas{self.n}"  # folders are read once a process
        shop.mkdir(exist_ok=True)
        schemas.mkdir()
        rows = []
        for i, (title, price, color) in enumerate(zip(self.titles, self.prices, self.colors, strict=True)):
            Image.new("RGB", (32, 32), COLORS[color]).save(shop / f"{i}.png")
            row = {"item_id": f"i{i}", "title": title, "price": price, "images": [f"{i}.png"]}
            rows.append(row | {"category": "shirt" if "shirt" in title else "lamp"})
        (shop / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (schemas / "fashion.toml").write_text(f'version = "1"\n{self.soft}{self.shine}')
        (schemas / "home.toml").write_text(f'version = "1"\n{self.shine}')
        (self.folder / "script.toml").write_text(self.script)
        if self.calibration:
            (self.folder / "cal.json").write_text(self.calibration.model_dump_json())
        ingest_items(store, shop)
        model = f"scripted:{self.folder / 'script.toml'}"
        return {
            "extractors": self.extractors,
            "vlm": VlmChoice(model, prompt=self.prompt, ask=self.ask) if self.vlm else None,
            "schemas": [schemas],
            "calibration": self.folder / "cal.json" if self.calibration else None,
        }

    def same_as_from_scratch(self, store):
        fresh = open_store(self.folder / f"fresh{self.n}", create=True)
        self.extract(fresh)
        names = [*self.extractors, *(["vlm"] if self.vlm else []), "merge"]
        assert_equal(rows_of(store, names), rows_of(fresh, names))


def rows_of(store, names):
    kept = ["item_id", "extractor", "category", "attributes", "status", "error", "made_from", "asked_with", "pack"]
    rows = store.latest("attributes").filter(pl.col("extractor").is_in(names)).select(kept)
    return rows.sort("item_id", "extractor").collect().to_dicts()


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        assert one == other, (one["item_id"], one["extractor"])


@pytest.fixture
def done(monkeypatch):
    """What was asked of the model, (title, attributes); and which items' pictures the palette looked at, by size."""
    log = {"asked": [], "looked": 0, "decoded": 0}
    generate, extract, decode = ScriptedChat.generate, Palette.extract, jobs.item_input.decode_picture

    def asks(self, requests):
        for request in requests:
            words = "\n".join(part for part in request.parts if isinstance(part, str))
            title = re.search(r"[A-Z]\w+ (shirt|lamp|chair)", words).group()
            log["asked"].append((title, tuple(request.json_schema["properties"])))
        return generate(self, requests)

    def looks(self, inputs):
        log["looked"] += len(inputs)
        return extract(self, inputs)

    def decodes(*args):
        log["decoded"] += 1
        return decode(*args)

    monkeypatch.setattr(ScriptedChat, "generate", asks)
    monkeypatch.setattr(Palette, "extract", looks)
    monkeypatch.setattr(jobs.item_input, "decode_picture", decodes)

    def take():
        taken = {**log, "asked": sorted(log["asked"])}
        log.update(asked=[], looked=0, decoded=0)
        return taken

    return take
