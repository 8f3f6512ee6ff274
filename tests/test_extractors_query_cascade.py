"""Engines in a row: who is asked for what, who decides, and what is told of failures. And how engines are opened."""

import pytest

from extractors.queries import open_engine
from extractors.query.cascade import SURE, Cascade, doubts, sure
from extractors.query.engine import failed
from extractors.query.knowledge import KnowledgeEngine
from lore_mm.errors import ConfigError, InputError, ModelError
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Demand, Query, Understanding

KNOWLEDGE = load_knowledge()


class Stub:
    """An engine that reads as it is told, by the text of a query."""

    def __init__(self, name, readings=None, default=None):
        self.name, self.sha = name, f"sha of {name}"
        self.readings, self.default = readings or {}, default
        self.batches, self.closed = [], 0

    def understand(self, queries):
        self.batches.append([q.text for q in queries])
        return [self.read(q, self.readings.get(q.text, self.default)) for q in queries]

    def read(self, query, said):
        if isinstance(said, ModelError):
            raise said
        if isinstance(said, str):
            return failed(query, said, self.name)
        return Understanding(query, query.text, said or (thing(query.text),), confidence=0.9, engine=self.name)

    def close(self):
        self.closed += 1


def thing(words, canonical="shoe", **more):
    return Demand("category", words, canonical, role="head", start=0, end=len(words), **more)


def queries(*texts):
    return [Query(str(i), text) for i, text in enumerate(texts)]


def understanding(text="red shoes", demands=None, **more):
    words = (
        Demand("color", "red", "red", start=0, end=3),
        Demand("category", "shoes", "shoe", role="head", start=4, end=9),
    )
    made = {"demands": words if demands is None else demands, "confidence": 0.9, **more}
    return Understanding(Query("q", text), text, **made)


def test_settled_is_what_the_tables_account_for():
    assert doubts(understanding()) == ()
    assert sure(understanding())


@pytest.mark.parametrize(
    ("made", "doubt"),
    [
        (understanding(confidence=SURE - 0.01), "confidence 0.69 is below 0.7"),
        (understanding(hard_type="solution_seeking"), "solution_seeking wants reasoning"),
        (understanding(hard_type="entity_relation"), "entity_relation wants reasoning"),
        (understanding(hard_type="question"), "question wants reasoning"),
        (understanding("blorp", (thing("blorp", None),)), "'blorp' is in no table"),
        (understanding("x139k", (Demand("model", "x139k", role="head", start=0, end=5),)), "'x139k' is in no table"),
        (understanding("red", (Demand("color", "red", "red", start=0, end=3),)), "nothing names the thing"),
        (understanding("red shoes wug"), "'wug' is in no demand"),
        (understanding(status="failed", error="it broke", demands=()), "it broke"),
    ],
)  # fmt: skip
def test_what_is_doubted_and_why(made, doubt):
    assert doubt in doubts(made)
    assert not sure(made)


def test_what_settles_all_the_same():
    jargon = understanding("fixie", (thing("fixie", "bicycle"),), hard_type="domain_jargon")
    assert sure(jargon)  # a nickname that the tables know
    several = (thing("shoes"), Demand("spec", "size 42", number=42.0, start=6, end=13))
    assert sure(understanding("shoes size 42", several, hard_type="multi_attribute"))
    latent = (thing("iphone"), Demand("function", "blorp", latent=True))
    assert sure(understanding("iphone", latent))
    assert sure(understanding(confidence=0.3), threshold=0.3)
    assert sure(understanding("red shoes the"))  # "the" says nothing
    price = (thing("shoes"), Demand("price", "under 50", op="at_most", number=50.0, start=6, end=14))
    assert sure(understanding("shoes under 50", price))


def test_the_knowledge_engine_is_sure_of_what_it_knows():
    engine = KnowledgeEngine(KNOWLEDGE)
    known = ["red nike running shoes size 42 without laces", "iphone 13 case", "lego set for 7 year old under 50"]
    unknown = ["something to stop snoring", "blorptastic wug", "alternative to dyson airwrap", "is nylon vegan"]
    found = engine.understand(queries(*known, *unknown))
    assert [sure(u) for u in found] == [True] * len(known) + [False] * len(unknown)


def test_what_is_unsure_goes_on_in_one_batch():
    texts = ("shoes", "blorp", "boots", "wug")
    first = Stub("first", {t: (thing(t, None),) for t in ("blorp", "wug")})
    second = Stub("second")
    cascade = Cascade([first, second])
    found = cascade.understand(queries(*texts))
    assert [u.query.text for u in found] == list(texts)
    assert [u.engine for u in found] == ["first", "second", "first", "second"]
    assert (first.batches, second.batches) == ([list(texts)], [["blorp", "wug"]])
    assert cascade.asked == {"first": 4, "second": 2}
    cascade.understand(queries("shoes"))
    assert (cascade.asked, len(second.batches)) == ({"first": 5, "second": 2}, 1)
    assert cascade.understand([]) == []


def test_a_third_is_asked_where_the_second_is_unsure_and_the_last_decides():
    unsure = (thing("blorp", None),)
    engines = [Stub("a", default=unsure), Stub("b", default=unsure), Stub("c", default=unsure)]
    (u,) = Cascade(engines).understand(queries("blorp"))
    assert (u.engine, [len(e.batches) for e in engines]) == ("c", [1, 1, 1])
    assert Cascade(engines, threshold=0.0).understand(queries("blorp"))[0].engine == "c"


def test_a_failure_leaves_the_reading_before_and_says_so():
    unsure = (thing("blorp", None),)
    engines = [Stub("a", default=unsure), Stub("b", default="half a JSON"), Stub("c", default="out of words")]
    (u,) = Cascade(engines).understand(queries("blorp"))
    assert (u.status, u.engine, u.demands) == ("ok", "a", unsure)
    assert u.error == "b: half a JSON; c: out of words"
    engines[2].default = None
    (u,) = Cascade(engines).understand(queries("blorp"))
    assert (u.status, u.engine, u.error) == ("ok", "c", None)


def test_a_query_that_all_fail_on_is_a_failed_row_with_the_last_reason():
    engines = [Stub("a", default="no"), Stub("b", default="never")]
    (u,) = Cascade(engines).understand(queries("blorp"))
    assert (u.status, u.error, u.engine) == ("failed", "never", "b")


def test_an_unreadable_query_is_asked_once():
    first, second = KnowledgeEngine(KNOWLEDGE), Stub("second")
    found = Cascade([first, second]).understand(queries("", "x" * 5000, "\x00?"))
    assert [u.status for u in found] == ["failed"] * 3
    assert second.batches == []


def test_an_engine_that_breaks_the_row_law_fails_its_rows_only():
    odd = Stub("odd")
    odd.understand = lambda queries: []
    (u,) = Cascade([odd, Stub("b")]).understand(queries("shoes"))
    assert (u.engine, u.status) == ("b", "ok")
    (u,) = Cascade([odd]).understand(queries("shoes"))
    assert u.error == "odd gave 0 readings for 1 queries"


def test_a_dead_engine_raises():
    with pytest.raises(ModelError, match="dead"):
        Cascade([Stub("a", default="no"), Stub("b", default=ModelError("dead"))]).understand(queries("shoes"))


def test_name_sha_and_close():
    a, b = Stub("a"), Stub("b")
    cascade = Cascade([a, b])
    assert cascade.name == "a,b"
    assert len({cascade.sha, Cascade([b, a]).sha, Cascade([a]).sha, Cascade([a, b], threshold=0.5).sha}) == 4
    assert cascade.sha == Cascade([Stub("a"), Stub("b")]).sha
    cascade.close()
    assert (a.closed, b.closed) == (1, 1)


@pytest.mark.parametrize(("engines", "threshold"), [([], 0.5), ([Stub("a"), Stub("a")], 0.5), ([Stub("a")], 1.5)])
def test_wrong_cascades_are_refused(engines, threshold):
    with pytest.raises(ConfigError):
        Cascade(engines, threshold)


# -- engines by their addresses ----------------------------------------------------------------------------------------


def test_a_cascade_opens_by_its_address():
    engine = open_engine("knowledge, llm:scripted:7")
    assert engine.name == "knowledge,llm:scripted:7"
    found = engine.understand(queries("red shoes", "blorptastic wug", ""))
    assert [u.engine for u in found][::2] == ["knowledge", "knowledge"]
    assert engine.asked == {"knowledge": 3, "llm:scripted:7": 1}
    assert found[1].engine == "llm:scripted:7" or found[1].error.startswith("llm:scripted:7: ")
    engine.close()
    engine.close()


def test_in_a_cascade_the_model_is_shown_how_the_tables_read(tmp_path):
    script = tmp_path / "script.toml"
    script.write_text('[[rules]]\nwords = ["tables alone read"]\nerror = "shown"\n[default]\nerror = "not shown"\n')
    (alone,) = open_engine(f"llm:scripted:{script}").understand(queries("blorptastic wug"))
    (after,) = open_engine(f"knowledge,llm:scripted:{script}").understand(queries("blorptastic wug"))
    assert (alone.status, alone.error) == ("failed", "not shown")
    assert (after.status, after.engine, after.error) == ("ok", "knowledge", f"llm:scripted:{script}: shown")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowledge", "did you mean 'knowledge'?"),
        ("", "legal: knowledge, tagger, tagger:FOLDER, llm:CHAT"),
        ("llm", "no query engine 'llm'"),
        ("llm:", "no query engine 'llm:'"),
        ("knowledge:x", "no query engine 'knowledge:x'"),
        ("tagger:", "no query engine 'tagger:'"),
        ("telegram:x", "no query engine 'telegram:x'"),
        ("knowledge,,tagger", "no query engine"),
        ("knowledge,knowledge", "each only once"),
        ("hf:lore-vlm-tiny", "llm:hf:NAME"),
    ],
)
def test_wrong_addresses_name_the_legal_forms(address, said):
    with pytest.raises(InputError) as error:
        open_engine(address)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_was_opened_is_closed_where_the_next_cannot_be(monkeypatch):
    opened = Stub("knowledge")
    monkeypatch.setattr("extractors.queries.KnowledgeEngine", lambda tables: opened)
    with pytest.raises(ModelError):
        open_engine("knowledge,llm:nowhere:x")
    assert opened.closed == 1
