"""`--run-on ray`: rows are loaded and made by a Ray cluster, on Ray Data; everything else stays with the driver.

The driver plans, reads, decides what is skipped, gathers micro-batches and commits them, by the very code of a local
run (`jobs.spine`), so that results, counts and resumption are the same. Between reading and committing stands one
streaming execution of Ray Data that lives as long as the run (`jobs.ray_stages`): loading in CPU tasks, then a pool of
actors with one engine each, on a GPU each where the cluster has some. Slices are settled over there and gathered here,
in their order, so that an engine is given the same micro-batches as in a local run, however many rows were skipped.

So many tickets are in work at once that every engine has its next one waiting; memory follows from that, not from the
input. A task or actor that dies is run again by Ray, for ever. Results come in order, and commits with them.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

import pyarrow as pa

from jobs.feed import Gathered, InWork, MicroBatch, Slice, gather, in_question, settled
from jobs.openers import Opener, Pinned, Told
from jobs.plan import Counts, Plan
from jobs.ray_stages import Answer, Feed, Maker, Ticket, as_bytes, as_table, load, numbers
from lore_mm.errors import InputError, LoreError, MissingExtraError
from lore_mm.models.chat import NO_USAGE, Usage

__all__ = ["RayEngine"]

_OBJECT_STORE = 2 << 30  # bytes of shared memory for a cluster of this process's own; more is spilled to disk
_SPARE_CPUS = 4  # that Ray Data keeps back: with every CPU given out its first stage is never begun
_MOST_LOADS = 4  # loading tasks at once for each engine


class RayEngine:
    """Engines in a Ray cluster, until it is closed; called as `jobs.feed.Elsewhere`.

    `address` is that of a running cluster (`auto`, HOST:PORT; the environment's RAY_ADDRESS unless given); without one
    a cluster is started on this machine, for this process, and stopped at the end. `workers` engines are opened: as
    many as there are GPUs, or half the CPUs where there is none, unless given.

    Attributes:
        told: what the first opened work says of itself.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: the cluster cannot hold as many engines.
        LoreError: there is no such cluster; or what opening the work raises over there.
    """

    def __init__(self, opener: Opener, address: str | None = None, workers: int | None = None) -> None:
        self._ray = _ray()
        self._own = _connect(self._ray, address, workers)
        self._answers: dict[int, Answer] = {}  # arrived before they were asked for
        self._sent = self._arrived = self._given_up = 0  # numbers of tickets
        self._spent: dict[str, Mapping[str, Usage]] = {}  # by engine
        self._blocks: Iterator[pa.Table] = iter(())
        try:
            size, gpus, loads = _size(self._ray.cluster_resources(), workers)
            self._most = size * (opener.threads + 1) + loads
            self._feed = self._beside_me(self._ray.remote(Feed)).remote(opener)
            self._blocks = self._execution(opener.threads, size, gpus, loads)
            told = self._answer(self._send(Ticket("who"))).told
            assert told is not None
            self.told: Told = told
            self._ray.get(self._feed.tell.remote(told))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the engines go, and stop the cluster where this process started it."""
        if end := getattr(self._blocks, "close", None):
            end()
        if self._own:
            self._ray.shutdown()
        elif feed := getattr(self, "_feed", None):
            self._ray.kill(feed)

    def spent(self) -> dict[str, Usage]:
        """What models were asked over there, by name; by an engine that died up to its last answer."""
        sums: dict[str, Usage] = {}
        for one in self._spent.values():
            for name, used in one.items():
                sums[name] = sums.get(name, NO_USAGE) + used
        return sums

    def __call__(self, plan: Plan, slices: Iterator[Slice], size: int) -> InWork:
        """Micro-batches of slices in order, made; see `jobs.feed.in_work`."""
        window: deque[tuple[Gathered, int | None]] = deque()
        pinned = Pinned.of(plan)
        try:
            for one in gather(self._settled(pinned, slices), size):
                ticket = None
                if one.rows is not None:
                    ticket = self._send(Ticket("make", as_bytes(one.rows), pinned))
                window.append((one, ticket))
                while window and (window[0][1] is None or len(window) >= self._most):
                    yield self._made(*window.popleft())
            while window:
                yield self._made(*window.popleft())
        finally:
            self._give_up()

    def _settled(self, pinned: Pinned, slices: Iterator[Slice]) -> Iterator[tuple[int, pa.Table, Counts]]:
        """What slices leave to do, in order; those in question are asked for ahead."""
        ahead: deque[tuple[Slice, int | None]] = deque()
        more = True
        while more or ahead:
            while more and len(ahead) < self._most:
                part = next(slices, None)
                more = part is not None
                if part is not None:
                    asked = part.expected.any()
                    rows = as_bytes(in_question(part)) if asked else b""
                    ahead.append((part, self._send(Ticket("shas", rows, pinned)) if asked else None))
            if ahead:
                part, ticket = ahead.popleft()
                yield part.number, *settled(part, [] if ticket is None else self._answer(ticket).shas)

    def _made(self, one: Gathered, ticket: int | None) -> tuple[MicroBatch, Any]:
        if one.rows is None or ticket is None:
            return MicroBatch(pa.table({}), [], [], one.last_slice, one.skipped), lambda: pa.table({})
        answer = self._answer(ticket)
        made = as_table(answer.made)
        return MicroBatch(one.rows, answer.shas, [], one.last_slice, one.skipped), lambda: made

    # --- tickets ---

    def _send(self, ticket: Ticket) -> int:
        number = self._sent
        self._ray.get(self._feed.hand_in.remote(number, ticket))
        self._sent += 1
        return number

    def _answer(self, number: int) -> Answer:
        """The answer to a ticket; those that come before it are kept."""
        while number >= self._arrived:
            answer = self._next()
            if self._arrived >= self._given_up:
                self._answers[self._arrived] = answer
            self._arrived += 1
        answer = self._answers.pop(number)
        if answer.fault:
            raise answer.fault.error()
        if answer.by:
            self._spent[answer.by] = answer.spent
        return answer

    def _next(self) -> Answer:
        from ray import cloudpickle
        from ray.exceptions import RayError

        try:
            block = next(self._blocks, None)
        except RayError as error:
            raise LoreError(f"the Ray cluster failed: {_one_line(error)}") from error
        if block is None or block.column("number")[0].as_py() != self._arrived:
            raise LoreError("the Ray cluster failed: an answer is missing; run again")
        self._feed.forget.remote(self._arrived)
        answer: Answer | None = cloudpickle.loads(block.column("parcel")[0].as_buffer())
        return answer or Answer()

    def _give_up(self) -> None:
        """Nobody waits for what is in work any more: what is not begun is not done."""
        self._answers.clear()
        self._given_up = self._sent
        for number in range(self._arrived, self._sent):
            self._feed.forget.remote(number)

    # --- Ray ---

    def _beside_me(self, actor: Any) -> Any:
        """An actor on the driver's node: it is lost with the driver only."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        return actor.options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)

    def _execution(self, threads: int, size: int, gpus: int, loads: int) -> Iterator[pa.Table]:
        """Answers as blocks of one row, in the order of their tickets, as long as tickets come."""
        from ray import data
        from ray.data.block import BlockMetadata

        feed = self._feed

        class Tickets(data.Datasource):  # its base is untyped, and so its making
            def estimate_inmemory_data_size(self) -> int | None:
                return None

            def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
                return [data.ReadTask(lambda: numbers(feed), BlockMetadata(None, None, None, None))]

        with (
            warnings.catch_warnings(action="ignore"),  # Ray's, of settings that nobody made
            data.DataContext.current(_context(data.DataContext.get_current())),
        ):
            here = {"ray.io/node-id": self._ray.get_runtime_context().get_node_id()}
            stream = data.read_datasource(
                Tickets(),  # type: ignore[no-untyped-call]
                override_num_blocks=1,
                num_cpus=0,
                concurrency=1,
                label_selector=here,
            )
            shape: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
            stream = stream.map_batches(
                load, fn_args=[self._feed], num_cpus=1, compute=data.TaskPoolStrategy(loads), **shape
            )
            pool = data.ActorPoolStrategy(
                size=size,
                max_tasks_in_flight_per_actor=threads + 1,
                max_concurrent_calls_per_actor=threads,
                enable_true_multi_threading=threads > 1,
            )
            # max_restarts is Ray Data's own; named, it keeps loading from being done in the actors too
            stream = stream.map_batches(
                Maker,
                fn_constructor_args=[self._feed],
                compute=pool,
                num_cpus=1,
                num_gpus=gpus,
                max_restarts=-1,
                **shape,
            )
        return iter(stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def _context(of_process: Any) -> Any:
    """How Ray Data is to go about it: quietly, in order, one ticket at a time."""
    context = of_process.copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    context.target_max_block_size = 1  # a block is one ticket, handed on at once
    context.execution_no_progress_timeout_s = -1  # a driver that waits for others is no fault
    context.enable_auto_log_stats = False
    context.print_on_execution_start = False
    return context


def _ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # no cluster but the one that is asked for here
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else whatever runs beside it starves its workers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "ray") from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _connect(ray: ModuleType, address: str | None, workers: int | None) -> bool:
    """Be part of a cluster; True where this process was not, and is to leave it (and to stop its own) at the end."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address and address != "local":
        try:
            with _hushed():
                ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise LoreError(f"no Ray cluster at {address}: {_one_line(error)}") from None
        return True
    with _hushed():
        ray.init(
            address="local",
            num_cpus=(os.cpu_count() or 1) + (workers or 1) + _SPARE_CPUS,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _node_ip_address="127.0.0.1",  # nothing of it can be reached from outside
            **quiet,
        )
    return True


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing on stderr: what Ray's libraries write there as they start is no talk of ours; errors are raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _size(resources: Mapping[str, float], workers: int | None) -> tuple[int, int, int]:
    """Engines, GPUs each, and loading tasks at once."""
    cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if gpus:
        room, size = min(gpus, cpus - 1), workers or gpus
    else:
        room, size = cpus - 1, workers or max(1, cpus // 2)
    if size > room:
        what = f"{gpus} GPUs and {cpus} CPUs" if gpus else f"{cpus} CPUs"
        raise InputError(f"--workers {size}: the Ray cluster has {what}, room for {max(room, 0)} beside the loading")
    return size, 1 if gpus else 0, min(cpus - size, _MOST_LOADS * size)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[-300:]
