"""Who is at work on a run: a process by name, and whether it is known to be gone.

A name is that of a process on a machine since its last start. Of a process on this machine it is known whether it lives
still; one on another machine may. No clock is asked: those of two machines differ, and one may be set back.
"""

from __future__ import annotations

import os
import re
import uuid
from functools import cache
from pathlib import Path

__all__ = ["is_gone", "this_worker"]

_NAME = re.compile(r"(?P<machine>\S+) (?P<pid>[1-9][0-9]{0,9}) (?P<began>[0-9]*)", re.ASCII)


@cache
def _machine() -> str:
    """This start of this machine, and the space its process numbers are counted in (a container has its own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{uuid.getnode():012x}"


def _began(pid: int) -> str | None:
    """When a process of this machine began, in ticks since the machine did; None where there is none at work.

    Process numbers are given again, and a number and a beginning together are not. Empty where there is one, and when
    it began is not to be seen: another user's, or no machine of this kind.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie works no more
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # not ours to ask
        pass
    return ""


def this_worker() -> str:
    """The name of this process, the same for its whole life."""
    return f"{_machine()} {os.getpid()} {_began(os.getpid())}"


def is_gone(worker: str) -> bool:
    """True where this machine knows that the process has ended; False where it lives, or nobody here can know.

    Any text is a name; one that is none of ours, as an earlier version or a stranger may have written, may live.
    """
    if not (found := _NAME.fullmatch(worker)) or found["machine"] != _machine():
        return False
    began = _began(int(found["pid"]))
    return began is None or bool(began and found["began"] and began != found["began"])
