"""Shopify's mappings between versions as migration files: lines made by hand in the published form."""

import json

import pytest

from lore_mm import taxonomy
from lore_mm.console import command_app, run
from lore_mm.errors import InputError
from lore_mm.knowledge import Category, Knowledge
from lore_mm.migration_file import KindRule, load_migration
from lore_mm.migrations import Destination, migrate
from lore_mm.schema import load_schemas
from lore_mm.shopify_moves import read_moves
from lore_mm.taxonomy import write_moves

GID = "gid://shopify/TaxonomyCategory/"


def rule(old, *new, **more):
    out = [{"id": GID + one, "full_name": f"Made up > {one}"} for one in new]
    return {"input": {"category": {"id": old, "full_name": f"Made up > {old}"}, **more}, "output": {"category": out}}


def mapping(*rules, old="shopify/2001-01", new="shopify/2001-06-unstable"):
    return {"input_taxonomy": old, "output_taxonomy": new, "rules": list(rules)}


def write(path, *mappings):
    path.write_text(json.dumps({"version": "2001-06-unstable", "mappings": list(mappings)}))
    return path


@pytest.fixture
def published(tmp_path):
    rules = [
        rule("zz-1", "zz-2"),
        rule(GID + "zz-2", "zz-1"),
        rule("zz-3", "zz-4", "zz-5"),
        rule("zz-6") | {"output": None},
        rule("zz-7", "zz-7"),
        rule("zz-8", "zz-9", attributes=[{"name": "gid://shopify/TaxonomyAttribute/1", "value": None}]),
    ]
    return write(tmp_path / "moves.json", mapping(*rules))


def test_a_mapping_becomes_a_migration_file(published, tmp_path):
    path, file = write_moves(published, tmp_path / "moves.toml")
    assert file == load_migration(path)
    assert (file.name, file.from_version, file.to_version) == (
        "shopify-2001-01-to-2001-06-unstable", "shopify 2001-01", "shopify 2001-06-unstable",
    )  # fmt: skip
    assert file.categories == {
        "zz-1": "zz-2",
        "zz-2": "zz-1",
        "zz-3": KindRule(among=("zz-4", "zz-5")),
        "zz-6": KindRule(among=()),
        "zz-8": KindRule(among=("zz-9",)),
    }
    assert file.moves_in_circles
    kinds = Knowledge(categories=[Category(id=f"zz-{n}", name=f"made up {n}") for n in (1, 4, 5)])
    to = Destination(load_schemas(), kinds)
    found = {kind: migrate([], kind, file, to) for kind in ("zz-2", "zz-1", "zz-3", "zz-6", "zz-7")}
    assert {kind: made.category for kind, made in found.items()} == {
        "zz-2": "zz-1", "zz-1": "zz-1", "zz-3": "zz-3", "zz-6": "zz-6", "zz-7": "zz-7",
    }  # fmt: skip
    assert found["zz-1"].decision.kinds["zz-1"][2] == "the knowledge tables have no such kind"
    assert found["zz-3"].decision.kinds["zz-3"][2] == "nothing tells which"


def test_the_command(published, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        with pytest.raises(SystemExit) as done:
            run(command_app(taxonomy.main, "taxonomy"), list(map(str, arguments)))
        said = capsys.readouterr()
        return done.value.code, said.out, said.err

    code, out, _ = command(published)
    assert code == 0
    assert json.loads(out) == {
        "migration": "shopify-2001-01-to-2001-06-unstable",
        "file": "shopify-2001-01-to-2001-06-unstable.toml",
        "kinds": 5,
        "undecided": 3,
    }
    text = (tmp_path / "shopify-2001-01-to-2001-06-unstable.toml").read_text()
    code, out, err = command(published)  # somebody may have written a rule into it
    assert (code, out) == (2, "") and "is there already" in err
    command(published, "--out", tmp_path / "again.toml")
    assert (tmp_path / "again.toml").read_text() == text


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "not a mapping between versions in the published form (JSONDecodeError"),
        ("[1]", "not a mapping between versions in the published form (TypeError"),
        ('{"mappings": [{}]}', "(KeyError: 'input_taxonomy')"),
        (json.dumps({"mappings": [mapping(rule("a", "a"))]}), "no kind changes between these versions"),
        (json.dumps({"mappings": [mapping(rule(5, "a"))]}), "an id is 5"),
        (
            json.dumps({"mappings": [mapping(rule("a", "b"))] * 2}),
            "it has: shopify/2001-01 to shopify/2001-06-unstable",
        ),
        (json.dumps({"mappings": [mapping(rule("a", "b"), new="google/1")]}), "it has: shopify/2001-01 to google/1"),
        (json.dumps({"mappings": []}), "it has: -"),
        ("[" * 100_000, "published form (RecursionError"),
    ],
)
def test_what_is_no_mapping(tmp_path, content, fault):
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_moves(path)
    assert fault in str(error.value) and "\n" not in str(error.value)
