"""Who is at work on a run: a process by name, and whether it is known to be gone.

A name is that of a process on a machine since its last start. Of a process on this machine it is known whether it lives
still; one on another machine may. No clock is asked: those of two machines differ, and one may be set back.
"""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path

__all__ = ["is_gone", "this_worker"]


@cache
def _machine() -> str:
    """This start of this machine, and the space its process numbers are counted in (a container has its own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{uuid.getnode():012x}"


def _began(pid: int) -> str | None:
    """When a process of this machine began, in ticks since the machine did; None where there is none.

    Process numbers are given again, and a number and a beginning together are not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie works no more
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""


def this_worker() -> str:
    """The name of this process, the same for its whole life."""
    return f"{_machine()} {os.getpid()} {_began(os.getpid())}"


def is_gone(worker: str) -> bool:
    """True where this machine knows that the process has ended; False where it lives, or nobody here can know."""
    machine, pid, began = [*worker.split(" "), "", ""][:3]
    return machine == _machine() and pid.isdigit() and _began(int(pid)) != began
