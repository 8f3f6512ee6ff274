"""Any engine with a copy of Shopify's taxonomy beside it, on one of three kinds written here."""

import json

import pytest

from extractors.queries import main, open_engine
from lore_mm.errors import InputError
from lore_mm.types import Query

KINDS = {"aa": "Apparel & Accessories", "aa-9": "Ceremonial Wear", "aa-9-1": "Zorblax Kimonos"}


@pytest.fixture
def taxonomy(tmp_path):
    """A folder as dist/en of the taxonomy is."""
    gid, full = "gid://shopify/TaxonomyCategory/", []
    kinds = []
    for n, (key, name) in enumerate(KINDS.items()):
        full.append(name)
        parent = gid + key.rpartition("-")[0] if n else None
        kinds.append(
            {"id": gid + key, "level": n, "name": name, "full_name": " > ".join(full), "parent_id": parent,
             "attributes": [], "children": [], "ancestors": []}
        )  # fmt: skip
    verticals = [{"name": "aa", "prefix": "aa", "categories": kinds}]
    (tmp_path / "categories.json").write_text(json.dumps({"version": "2026-11", "verticals": verticals}))
    (tmp_path / "attributes.json").write_text(json.dumps({"version": "2026-11", "attributes": []}))
    return tmp_path


def test_words_that_no_table_knows_are_linked_to_the_taxonomy(taxonomy):
    plain, linked = open_engine(), open_engine(taxonomy=taxonomy)
    queries = [Query("a", "red zorblax kimonos"), Query("b", "red sofa"), Query("c", "")]
    before, after = plain.understand(queries), linked.understand(queries)
    assert [d.links for d in before[0].demands if d.dimension == "category"] == [()]
    assert [d.links for d in after[0].demands if d.dimension == "category"] == [("shopify:aa-9-1",)]
    assert after[1:] == before[1:]
    assert (linked.name, linked.sha != plain.sha) == ("knowledge", True)
    assert linked.sha == open_engine(taxonomy=taxonomy).sha
    linked.close()


def test_through_the_command(taxonomy, capsys):
    main(["zorblax kimono"], taxonomy=taxonomy, json=True)
    row = json.loads(capsys.readouterr().out)
    assert row["demands"][0]["links"] == ["shopify:aa-9-1"]
    with pytest.raises(InputError, match=r"needs categories.json and attributes.json"):
        main(["zorblax kimono"], taxonomy=taxonomy / "nothing")
