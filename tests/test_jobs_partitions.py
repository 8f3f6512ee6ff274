"""How a run is cut, and which part a worker takes next: with a clock and other workers that the tests play."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import partitions
from jobs.partitions import Partition, Turns, cut


@given(st.integers(0, 5000))
def test_every_slice_is_in_one_partition(slices):
    parts = cut(slices)
    assert [n for part in parts for n in range(part.first, part.last + 1)] == list(range(slices))
    assert [part.number for part in parts] == list(range(len(parts)))
    sizes = [part.last - part.first + 1 for part in parts]
    assert not sizes or (min(sizes) >= 1 and max(sizes) - min(sizes) <= 1)
    assert len(parts) <= 64
    if len(parts) > 1:
        assert min(sizes) >= 16


def test_how_many_partitions():
    assert [len(cut(n)) for n in (0, 1, 15, 31, 32, 160, 1024, 10**6)] == [0, 1, 1, 1, 2, 10, 64, 64]


@dataclass
class Other:
    """Another worker: goes through partitions in an order, a slice each `pace` seconds, until it dies or hangs."""

    order: list[int]
    pace: float
    dies_after: float = math.inf
    known: bool = True  # its death is seen at once, as on the same machine
    seen: int = -2
    next_at: float = math.inf


@dataclass
class World:
    """A clock, the commits of all workers, and when each partition last moved."""

    parts: list[Partition]
    others: list[Other] = field(default_factory=list)
    now: float = 5000.0
    waits: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.begun = self.now
        self.done = [None] * len(self.parts)
        self.moved = [-math.inf] * len(self.parts)
        for other in self.others:
            self._enter(other)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        until = self.now + seconds
        while (other := min(self.others, key=lambda o: o.next_at, default=None)) and other.next_at <= until:
            self.now = other.next_at
            if self.now - self.begun >= other.dies_after:
                other.next_at = math.inf
                continue
            number = other.order[0]
            if self.commit(number, other.seen):
                other.seen = self.last(number)
                other.next_at += other.pace
                if other.seen < self.parts[number].last:
                    continue
            other.order.pop(0)
            self._enter(other)
        self.now = until

    def _enter(self, other):
        while other.order and self.last(other.order[0]) >= self.parts[other.order[0]].last:
            other.order.pop(0)
        other.next_at = self.now + other.pace if other.order else math.inf
        other.seen = self.last(other.order[0]) if other.order else -2

    def last(self, number):
        return self.parts[number].first - 1 if self.done[number] is None else self.done[number]

    def commit(self, number, seen):
        """As a store does: the next slice, where nobody has committed since `seen`."""
        if self.last(number) != seen:
            return False
        self.done[number], self.moved[number] = seen + 1, self.now
        return True

    def alone(self):
        return all(o.known and self.now - self.begun >= o.dies_after for o in self.others)

    def turns(self, begin=0.0, patience=300.0):
        return Turns(self.parts, lambda: list(self.done), self.alone, begin, patience, self.waits.append)

    def work(self, turns, pace, patience=300.0):
        """Be a worker until nothing is left; returns the partitions entered, in order."""
        entered = []
        for part in turns:
            number = part.number
            if self.done[number] is not None and not self.alone():
                assert self.now - self.moved[number] >= patience  # one that moves belongs to who moves it
            entered.append(number)
            assert len(entered) <= 1000
            seen = self.last(number)
            while seen < part.last:
                self.sleep(pace)
                if not self.commit(number, seen):
                    turns.lost(part)
                    break
                seen += 1
            else:
                turns.passed(part)
        return entered


@pytest.fixture(autouse=True)
def world_clock(monkeypatch):
    """The module's clock is that of the world that was made last."""

    class Clock:
        world: World

    def made(world, init=World.__post_init__):
        Clock.world = world
        init(world)

    monkeypatch.setattr(World, "__post_init__", made)
    monkeypatch.setattr(partitions.time, "monotonic", lambda: Clock.world.now)
    monkeypatch.setattr(partitions.time, "sleep", lambda s: Clock.world.sleep(s))


def three(slices=4):
    return [Partition(i, i * slices, (i + 1) * slices - 1) for i in range(3)]


@pytest.mark.parametrize("begin", [0.0, 0.5, 0.99])
def test_a_worker_alone_goes_in_order_and_never_waits(begin):
    world = World(three())
    assert world.work(world.turns(begin), 1.0) == [0, 1, 2]
    assert world.now - world.begun == 12  # not a second of waiting
    assert world.waits == []


def test_alone_what_was_begun_is_taken_up_in_order():
    world = World(three())
    world.done[:] = [3, 5, None]
    assert world.work(world.turns(), 1.0) == [1, 2]


def test_among_others_each_begins_elsewhere():
    world = World(three(), [Other([0], 100.0)])
    assert next(iter(world.turns(0.4))).number == 1
    assert next(iter(world.turns(0.9))).number == 2


def test_one_that_moves_is_waited_for_and_not_entered():
    """The other takes longer for the whole than patience, and less for each slice."""
    world = World(three(), [Other([1], 200.0)])
    assert world.work(world.turns(), 60.0) == [0, 2]
    assert world.waits == [1]
    assert world.done == [3, 7, 11]
    assert 800 <= world.now - world.begun <= 802


def test_what_stands_still_is_entered_after_patience():
    """Another machine's worker died after its first slice: nobody here can know that."""
    world = World(three(), [Other([1], 10.0, dies_after=15.0, known=False)])
    assert world.work(world.turns(), 4.0) == [0, 2, 1]
    assert 16 + 300 <= world.now - world.begun <= 16 + 300 + 2 + 3 * 4  # since this worker saw it
    assert world.waits == [1, 0]


def test_what_a_worker_that_is_known_to_be_gone_leaves_is_taken_at_once():
    world = World(three(), [Other([1], 10.0, dies_after=15.0)])
    assert world.work(world.turns(), 4.0) == [0, 1, 2]
    assert world.now - world.begun == 11 * 4
    assert world.waits == []


def test_one_entered_at_the_same_moment_is_left_to_who_was_faster():
    """Both begin at 0; the slower one goes elsewhere, and does not come back while the other moves."""
    world = World(three(), [Other([0, 1], 1.0)])
    entered = world.work(world.turns(), 1.5)
    assert entered[0] == 0
    assert entered.count(0) == 1
    assert world.done == [3, 7, 11]


def test_who_loses_goes_elsewhere_and_not_on_behind_the_other():
    """Two in step would meet again in each partition otherwise."""
    world = World([Partition(i, 4 * i, 4 * i + 3) for i in range(8)], [Other([0], 100.0)])
    turns = world.turns(0.25)
    order = iter(turns)
    assert [next(order).number, turns.lost(world.parts[2]), next(order).number] == [2, None, 5]


def test_one_that_another_has_begun_but_not_moved_yet_is_free():
    """Nobody can see it; whose first commit comes second leaves, and has made one micro-batch in vain."""
    world = World(three(), [Other([1], 200.0)])
    assert world.work(world.turns(), 1.0) == [0, 1, 2]
    assert world.waits == []


def test_one_that_was_lost_and_then_stands_still_is_taken_up():
    world = World(three(), [Other([0], 1.0, dies_after=2.5, known=False)])
    assert world.work(world.turns(), 1.5) == [0, 1, 2, 0]
    assert world.done == [3, 7, 11]


def test_a_partition_that_needed_no_commit_is_passed_once():
    world = World(three())
    turns, entered = world.turns(), []
    for part in turns:
        entered.append(part.number)
        turns.passed(part)
    assert entered == [0, 1, 2]


def test_a_clock_near_its_beginning():
    """A machine that started a minute ago: what nobody has touched is free all the same."""
    world = World(three(), [Other([1], 10.0, dies_after=15.0, known=False)], now=60.0)
    assert world.work(world.turns(), 4.0) == [0, 2, 1]


others = st.builds(
    Other,
    order=st.permutations(range(5)).flatmap(lambda order: st.integers(1, 5).map(lambda n: list(order[:n]))),
    pace=st.sampled_from([0.5, 1.0, 3.0, 50.0, 299.0, 1000.0]),
    dies_after=st.sampled_from([0.0, 2.0, 10.0, 400.0, math.inf]),
    known=st.booleans(),
)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 5), st.lists(others, max_size=3), st.floats(0, 0.999), st.sampled_from([0.7, 5.0, 400.0]))
def test_whatever_the_others_do_all_gets_done(n, others, begin, pace):
    """Every partition is done at the end, nobody waits for ever, and what moves is never entered (in `work`)."""
    parts = [Partition(i, i * 3, i * 3 + 2) for i in range(n)]
    for other in others:
        other.order = [number for number in other.order if number < n]
    world = World(parts, others)
    entered = world.work(world.turns(begin), pace)
    assert world.done == [part.last for part in parts]
    slowest = max([pace, *(other.pace for other in others)])
    assert world.now - world.begun <= n * 3 * (slowest + pace + 300 + 4)
    if not others:
        assert entered == list(range(n))
