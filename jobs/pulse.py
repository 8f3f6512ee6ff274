"""The pulse of a worker: what it tells of itself every two seconds while a run goes on, in a small file of the store.

    STORE/pulses/RUN/START.json      one a start of a worker; replaced as a whole, kept when the worker ends

It is talk, not truth: what is done of a run is what its commits say, and of what a killed worker did last nobody knows.
But what was spent stands nowhere else, so the pulses of earlier starts and of other workers count towards a cap. A
store in which no pulse can be written is no reason for a job to fail.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Literal

from jobs.workers import is_gone
from lore_mm.console import say
from lore_mm.errors import StoreError
from lore_mm.models.chat import Usage
from stores.features import FeatureStore
from stores.notes import put_note, read_notes

__all__ = ["Beat", "Pulse", "State", "gpu_share", "read_pulses"]

State = Literal["running", "waiting", "finished", "stopped", "failed"]

_EVERY_S = 2.0
_EVERY_S_IN_A_BUCKET = 10.0  # where each costs money


@dataclass(frozen=True, slots=True)
class Pulse:
    """One worker of a run, as it told last. Rows are those it passed itself, but for `done`: of the whole run, as far
    as it knew.

    state: running · waiting (for other workers) · finished · stopped (at a cap) · failed (and `error` says with what).
    """

    run_id: str
    start: str  # this start of the worker: a process may start the same run again
    worker: str  # as `jobs.workers` names it
    state: State = "running"
    error: str | None = None
    host: str = ""
    pid: int = 0
    started_at: str = ""
    updated_at: str = ""
    seconds: float = 0.0  # at work so far, by a steady clock
    rows: int = 0  # that the run is about
    done: int = 0
    n_in: int = 0
    n_ok: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    at_work: int = 0  # begun, and not committed yet
    passed: tuple[int, ...] = ()  # the partitions in which it left nothing to do
    rate: float | None = None  # rows a second, of late
    mean_rate: float | None = None  # and since it started
    eta_s: float | None = None  # to the end of the run, at this rate and alone
    busy: float | None = None  # share of the time in which the engine had work, in [0, 1]
    gpu: float | None = None  # share of late in which the GPUs of this machine were at work, where that is known
    cost: float | None = None
    spent: Mapping[str, Usage] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON-able: tokens by the name of the model."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spent"} | {
            "spent": {model: asdict(usage) for model, usage in self.spent.items()}
        }

    @property
    def gone(self) -> bool:
        """True where it was at work when it told last, and its process is known to have ended."""
        return self.state in ("running", "waiting") and is_gone(self.worker)

    @property
    def silent_s(self) -> float:
        """Seconds since it told last, by the clocks of two machines."""
        try:
            told = datetime.fromisoformat(self.updated_at)
            return max(0.0, (datetime.now(UTC) - told).total_seconds())
        except (ValueError, TypeError):
            return 0.0


def _folder(run_id: str) -> str:
    return "pulses/" + (re.sub(r"[^A-Za-z0-9_-]+", "_", run_id)[-120:] or "_")


def read_pulses(store: FeatureStore, run_id: str) -> list[Pulse]:
    """All that workers of a run ever told, in the order in which they started; what cannot be read is left out.

    Raises:
        StoreError: the store cannot be read.
    """
    found = []
    for text in read_notes(store, _folder(run_id)).values():
        try:
            found.append(_pulse(json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return sorted((one for one in found if one.run_id == run_id), key=lambda one: (one.started_at, one.worker))


def _pulse(said: dict[str, Any]) -> Pulse:
    known = {f.name for f in fields(Pulse)}
    said = {name: value for name, value in said.items() if name in known}
    whole = ("pid", "rows", "done", "n_in", "n_ok", "n_failed", "n_skipped", "at_work")
    shares = ("rate", "mean_rate", "eta_s", "busy", "gpu", "cost")
    said |= {name: int(said[name]) for name in whole if name in said}
    said |= {name: float(said[name]) for name in shares if said.get(name) is not None}
    said["spent"] = {
        str(model): Usage(*(int(used[name]) for name in ("calls", "prompt_tokens", "completion_tokens")))
        for model, used in said.get("spent", {}).items()
    }
    said["passed"] = tuple(int(number) for number in said.get("passed", ()))
    return Pulse(**said)


class Beat:
    """Writes a worker's pulse from a thread of its own, so that a long micro-batch is no silence.

    `tell` gives the pulse of the moment; it is called from that thread, and once more as the last.
    """

    def __init__(self, store: FeatureStore, run_id: str, start: str, tell: Callable[[], Pulse]) -> None:
        self._store, self._folder, self._name, self._tell = store, _folder(run_id), f"{start}.json", tell
        self.every_s = _EVERY_S if store.folder else _EVERY_S_IN_A_BUCKET
        self._end = threading.Event()
        self._works = True
        self._thread = threading.Thread(target=self._go_on, name="pulse", daemon=True)

    def start(self) -> None:
        """Tell now, and from now on."""
        self._write()
        self._thread.start()

    def end(self) -> None:
        """Tell the last, and no more."""
        self._end.set()
        self._thread.join()
        self._write()

    def _go_on(self) -> None:
        while not self._end.wait(self.every_s):
            self._write()

    def _write(self) -> None:
        if not self._works:
            return
        try:
            put_note(self._store, self._folder, self._name, json.dumps(self._tell().as_json(), ensure_ascii=False))
        except StoreError as error:
            self._works = False
            say(f"what this worker tells of itself cannot be kept, the job goes on without: {error}")


class _Gpus:
    """What NVIDIA's library says; it is no dependency, and asked for once."""

    def __init__(self) -> None:
        self._known: Any = None
        self._handles: list[Any] = []
        try:
            pynvml: Any = import_module("pynvml")

            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            self._known = pynvml
        except Exception:  # not installed, no driver, no GPU: each says so in its own way
            self._handles = []

    def share(self) -> float | None:
        try:
            used = [self._known.nvmlDeviceGetUtilizationRates(one).gpu / 100 for one in self._handles]
        except Exception:
            return None
        return sum(used) / len(used) if used else None


_gpus: list[_Gpus] = []


def gpu_share() -> float | None:
    """How busy this machine's GPUs were in the last second or so, their mean in [0, 1]; None where it is not known."""
    if not _gpus:
        _gpus.append(_Gpus())
    return _gpus[0].share()
