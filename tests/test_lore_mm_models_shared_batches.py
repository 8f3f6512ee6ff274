from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.models.shared_batches import SharedBatches


class Engine:
    """Answers a word with its capitals, and remembers how it was asked."""

    def __init__(self, size: int) -> None:
        self.batches: list[list[str]] = []
        self.busy = threading.Lock()
        self.ask = SharedBatches(self.run, size, group=lambda word: word[:1], length=len)

    def run(self, words: list[str]) -> list[str]:
        assert self.busy.acquire(blocking=False), "two batches at once"
        try:
            self.batches.append(words)
            if any("!" in word for word in words):
                raise ValueError(f"broke at {words}")
            return [word.upper() for word in words]
        finally:
            self.busy.release()


@given(words=st.lists(st.text("abc", min_size=1, max_size=9), max_size=40), size=st.integers(1, 7))
def test_same_order_whole_and_alike(words: list[str], size: int) -> None:
    engine = Engine(size)
    assert engine.ask(words) == [word.upper() for word in words]
    assert sorted(word for batch in engine.batches for word in batch) == sorted(words)
    for batch in engine.batches:
        assert len(batch) <= size
        assert len({word[0] for word in batch}) == 1
        assert [len(word) for word in batch] == sorted(len(word) for word in batch)


def test_the_oldest_is_in_the_first_batch_however_long() -> None:
    engine = Engine(2)
    engine.ask(["a" * 90, "a", "aa", "aaa"])
    assert engine.batches == [["aaa", "a" * 90], ["a", "aa"]]


def test_callers_share_batches() -> None:
    """While the first batch is under way, three callers come with one word each: they are answered together."""
    engine = Engine(8)
    started, go_on = threading.Event(), threading.Event()
    plain = engine.run

    def slow(words: list[str]) -> list[str]:
        started.set()
        assert go_on.wait(10)
        return plain(words)

    engine.ask = SharedBatches(slow, 8, group=lambda word: word[:1], length=len)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(engine.ask, ["a"])
        assert started.wait(10)
        others = [pool.submit(engine.ask, ["a" * n]) for n in (2, 3, 4)]
        while len(engine.ask._waiting) < 3:
            threading.Event().wait(0.001)
        go_on.set()
        assert first.result(10) == ["A"]
        assert [other.result(10) for other in others] == [["AA"], ["AAA"], ["AAAA"]]
    assert engine.batches == [["a"], ["aa", "aaa", "aaaa"]]


def test_what_a_batch_raises_reaches_those_who_had_a_part_in_it_and_no_others() -> None:
    engine = Engine(4)
    with pytest.raises(ValueError, match="broke at"):
        engine.ask(["a!", "b", "a"])
    assert engine.ask(["a", "b"]) == ["A", "B"]
