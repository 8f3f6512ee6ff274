"""What a job does in the processes of a Ray cluster: tickets are drawn, their rows loaded on CPUs, made by an engine.

    driver ──> Feed ──> numbers ──> load: CPU tasks ──> Maker: actors, one engine each ──> driver, in order

A ticket asks one thing: who the work is, the input shas of rows, or what is made of rows. It is kept by the `Feed`
until its answer has arrived, so that a task or an actor that dies is simply run again, with the same ticket. Errors
that stop a job travel as data: Ray would wrap them, and lose which rows came before.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from jobs.openers import Opener, Pinned, Reading, Told
from jobs.work import input_shas, load_rows, make_rows
from lore_mm import errors
from lore_mm.errors import LoreError
from lore_mm.models.chat import Usage

__all__ = ["Answer", "Fault", "Feed", "Maker", "Ticket", "as_bytes", "as_table", "load", "numbers"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the driver asks. `rows` is an Arrow IPC stream."""

    kind: Literal["who", "shas", "make"]
    rows: bytes = b""
    pinned: Pinned = field(default_factory=Pinned)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that stops the job: the name of its class in `lore_mm.errors`, where it is of there, and its text."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """Of a LoreError its own text; of any other its name too."""
        if isinstance(error, LoreError):
            return cls(type(error).__name__, str(error))
        return cls("LoreError", f"a worker of the Ray cluster failed: {type(error).__name__}: {error}")

    def error(self) -> LoreError:
        """The same error again, with its exit code."""
        kind = getattr(errors, self.kind, LoreError)
        error: LoreError = kind.__new__(kind)
        error.args = (self.text,)
        return error


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a ticket. `spent` are the sums of the engine named `by`, since it was opened."""

    told: Told | None = None
    shas: list[str] = field(default_factory=list)
    made: bytes = b""  # an Arrow IPC stream
    fault: Fault | None = None
    by: str = ""
    spent: Mapping[str, Usage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A ticket on its way to an engine; `loaded` None: the engine loads for itself."""

    ticket: Ticket
    shas: list[str] | None = None
    loaded: list[Any] | None = None
    fault: Fault | None = None


class Feed:
    """Tickets by number, for everyone in the cluster; an actor beside the driver. Holds those in work."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._told: Told | None = None
        self._tickets: dict[int, Ticket] = {}
        self._handed_in, self._closed = 0, False
        self._changed = asyncio.Condition()

    async def opener(self) -> Opener:
        """How the work is opened."""
        return self._opener

    async def told(self) -> Told | None:
        """What the work said of itself."""
        return self._told

    async def tell(self, told: Told) -> None:
        """Let the loading tasks know what the work said of itself."""
        self._told = told

    async def hand_in(self, number: int, ticket: Ticket) -> None:
        """The next ticket; numbers rise by one."""
        async with self._changed:
            self._tickets[number], self._handed_in = ticket, number + 1
            self._changed.notify_all()

    async def close(self) -> None:
        """No ticket comes any more."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def is_there(self, number: int) -> bool:
        """Wait for a ticket; False where it will not come."""
        async with self._changed:
            await self._changed.wait_for(lambda: number < self._handed_in or self._closed)
            return number < self._handed_in

    async def ticket(self, number: int) -> Ticket | None:
        """A ticket; None where nobody waits for its answer any more."""
        return self._tickets.get(number)

    async def forget(self, number: int) -> None:
        """Its answer has arrived."""
        self._tickets.pop(number, None)


def numbers(feed: Any) -> Iterator[pa.Table]:
    """The numbers of the tickets as they come, one a table: always the same ones, however often this is run again."""
    import ray

    number = 0
    while ray.get(feed.is_there.remote(number)):
        yield pa.table({"number": pa.array([number], pa.int64())})
        number += 1


_readings: dict[tuple[str, str], Reading | None] = {}  # of this process, by feed and what is pinned


def load(block: pa.Table, feed: Any) -> pa.Table:
    """Draw a ticket, and load its rows where that needs no model. Runs on CPUs, in any process."""
    import ray

    number = block.column("number")[0].as_py()
    ticket: Ticket | None = ray.get(feed.ticket.remote(number))
    parcel = None
    if ticket is not None:
        try:
            parcel = _load(ticket, feed)
        except Exception as error:
            parcel = _Loaded(Ticket(ticket.kind), fault=Fault.of(error))
    return _block(number, parcel)


def _load(ticket: Ticket, feed: Any) -> _Loaded:
    reading = None if ticket.kind == "who" else _reading(feed, ticket.pinned)
    if reading is None:
        return _Loaded(ticket)
    rows = as_table(ticket.rows)
    work: Any = reading
    if ticket.kind == "shas":
        return _Loaded(ticket, input_shas(work, rows))
    shas, loaded = load_rows(work, rows)
    return _Loaded(ticket, shas, loaded)


def _reading(feed: Any, pinned: Pinned) -> Reading | None:
    import ray

    name = (feed._actor_id.hex(), repr(pinned))
    if name not in _readings:
        opener, told = ray.get([feed.opener.remote(), feed.told.remote()])
        reading = opener.reading(told.facts) if opener.loads_apart else None
        pinned.tell(reading)
        _readings.clear()  # one run after the other: what an earlier one held is not needed
        _readings[name] = reading
    return _readings[name]


class Maker:
    """An engine in an actor: opens the work once, and answers tickets until the run ends."""

    def __init__(self, feed: Any) -> None:
        import ray

        self._name = uuid.uuid4().hex
        self._pinned, self._pinning = Pinned(), threading.Lock()
        self._fault: Fault | None = None
        opener: Opener = ray.get(feed.opener.remote())
        self._context = opener.open()
        try:
            self._work = self._context.__enter__()
            self._told = Told.of(self._work, opener)
        except Exception as error:
            self._fault = Fault.of(error)

    def __call__(self, block: pa.Table) -> pa.Table:
        """The answers to tickets that were loaded."""
        from ray import cloudpickle

        number = block.column("number")[0].as_py()
        parcel: _Loaded | None = cloudpickle.loads(block.column("parcel")[0].as_buffer())
        answer = None
        if parcel is not None and (fault := self._fault or parcel.fault):
            answer = Answer(fault=fault)
        elif parcel is not None:
            try:
                answer = self._answer(parcel)
            except Exception as error:
                answer = Answer(fault=Fault.of(error))
        return _block(number, answer)

    def _answer(self, parcel: _Loaded) -> Answer:
        work, ticket = self._work, parcel.ticket
        spent = getattr(work, "spent", dict)
        if ticket.kind == "who":
            return Answer(self._told, by=self._name, spent=spent())
        with self._pinning:
            if ticket.pinned != self._pinned:
                ticket.pinned.tell(work)
                self._pinned = ticket.pinned
        rows = as_table(ticket.rows)
        if ticket.kind == "shas":
            return Answer(shas=input_shas(work, rows) if parcel.shas is None else parcel.shas)
        shas, loaded = parcel.shas, parcel.loaded
        if shas is None or loaded is None:
            shas, loaded = load_rows(work, rows)
        made = make_rows(work, rows, loaded)
        return Answer(shas=shas, made=as_bytes(made), by=self._name, spent=spent())

    def __del__(self) -> None:
        if not self._fault:
            self._context.__exit__(None, None, None)


def _block(number: int, parcel: object) -> pa.Table:
    from ray import cloudpickle

    pickle: Any = cloudpickle
    data = pa.array([pickle.dumps(parcel)], pa.large_binary())  # pictures may take more than 2 GiB
    return pa.table({"number": pa.array([number], pa.int64()), "parcel": data})


def as_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream; of a slice only what it shows."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def as_table(data: bytes) -> pa.Table:
    """The table of an Arrow IPC stream."""
    return pa.ipc.open_stream(data).read_all()
