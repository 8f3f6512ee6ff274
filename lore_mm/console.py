"""Manners at the terminal: stdout is data, stderr is talk; a person gets tables, a pipe gets JSON lines."""

from __future__ import annotations

import errno
import io
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment, Segments

from lore_mm.errors import LoreError

__all__ = ["command_app", "for_people", "heed_interrupts", "print_json", "print_table", "progress", "run", "say"]

_talk = Console(stderr=True, highlight=False)
# escapes and other control characters, and marks that turn the direction of text round; none takes room on a line
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# what no command can help, wherever it meets it: no permission, a read-only or full disk
_OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
_INTERRUPTED = "interrupted; the same command goes on where it stopped"
_TOLD_TO_END = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def for_people(json_wanted: bool = False) -> bool:
    """True where stdout is a terminal and JSON was not asked for."""
    return sys.stdout.isatty() and not json_wanted


def say(text: str) -> None:
    """One line of talk on stderr; square brackets are text, not markup."""
    _talk.print(_STEERING.sub("", text), markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON line on stdout. Times are ISO 8601; nothing else unknown is let through.

    What stdout's encoding cannot hold is written as a JSON escape, a lone half of a surrogate pair everywhere.
    """
    line = json.dumps(value, ensure_ascii=False, default=_json_default)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value, default=_json_default)
    sys.stdout.write(line + "\n")


def print_table(renderable: object) -> None:
    """A rich table, tree or panel on stdout, free of what could steer the terminal from a title or a query."""
    console = Console(highlight=False)
    parts = (
        part if part.control else Segment(_STEERING.sub("", part.text), part.style)
        for part in console.render(cast(RenderableType, renderable))
    )
    console.print(Segments(parts), end="")


def _json_default(value: object) -> object:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"not JSON: {type(value).__name__}")


@contextmanager
def progress(
    label: str,
    total: int | None,
    note: Callable[[], str] | None = None,
    figures: Callable[[], dict[str, Any]] | None = None,
) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for work of `total` rows; yields a function to call with each number of rows done.

    It tells the time left and the rows a second, and what `note` gives: a few words on how it goes.
    Off a terminal it prints a JSON line at most every ten seconds instead, so that a log stays readable: job, done,
    total, rows_per_s since the line before, eta_s at that rate, what `figures` gives, and the note.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=_talk) as bar:
            task = bar.add_task(label, total=total, rate="", note="")

            def advance_bar(n: int) -> None:
                bar.advance(task, n)
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:,.3g}/s" if speed else "", note=note() if note else "")

            yield advance_bar
        return
    done, told, spoke = 0, 0, time.monotonic()

    def advance(n: int) -> None:
        nonlocal done, told, spoke
        done += n
        if (passed := time.monotonic() - spoke) >= 10:
            rate = (done - told) / passed
            said: dict[str, Any] = {"job": label, "done": done, "total": total, "rows_per_s": round(rate, 3)}
            if total is not None and rate:
                said["eta_s"] = round((total - done) / rate, 1)
            said |= figures() if figures else {}
            said |= {"note": note()} if note else {}
            told, spoke = done, time.monotonic()
            sys.stderr.write(json.dumps(said) + "\n")

    yield advance


def command_app(function: Callable[..., Any] | typer.Typer, name: str) -> typer.Typer:
    """A one-command app for `python -m package.module`, with the manners of the `lore` command.

    What is an app already, of several commands, is that app.
    """
    if isinstance(function, typer.Typer):
        return function
    app = typer.Typer(name=name, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(function)
    return app


def run(app: Callable[..., Any], arguments: Sequence[str] | None = None, name: str | None = None) -> None:
    """Run a front door: a LoreError becomes one line on stderr and its exit code.

    A request to end (SIGTERM: a machine is taken away; SIGHUP: its terminal is) stops the command as an interrupt does.
    Threads may still have calls in work then, and are waited for; a second signal ends at once.

    Exit codes: 0 done · 1 something failed · 2 what was given is wrong · 3 stopped at the cap of its spending, and what
    was made is kept · 130 interrupted · 143, 129 told to end.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a table is printed whatever the terminal's encoding
    try:
        with _told_to_end():
            app(args=None if arguments is None else list(arguments), prog_name=name)
    except LoreError as error:
        say(f"{error.word}: {error}")
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        say(f"error: {error.filename or 'a file'}: {error.strerror}")
        raise SystemExit(1) from None
    except Exception as error:
        # a table's file that is broken, found out when Polars reads it, which is late and in whoever asked for rows
        if (type(error).__module__.partition(".")[0], type(error).__name__) != ("polars", "ComputeError"):
            raise
        say(f"error: a table of the store cannot be read: {' '.join(str(error).split())[:300]}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # before the command began; typer turns a later one into SystemExit(130)
        _say_interrupted()
        raise SystemExit(130) from None
    except SystemExit as stop:
        if stop.code in (130, *(128 + number for number in _TOLD_TO_END)):
            _say_interrupted()
        raise


def heed_interrupts() -> None:
    """Let Ctrl-C end a wait for a thread also where Polars is imported, which has waits begun anew after a signal."""
    if hasattr(signal, "siginterrupt"):
        signal.siginterrupt(signal.SIGINT, True)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit here, unless somebody has chosen what they do; the second time they kill."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread()
    mine = [n for n in _TOLD_TO_END if ours and signal.getsignal(n) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _say_interrupted() -> None:
    main = threading.main_thread()
    if threading.current_thread() is main and any(t is not main and not t.daemon for t in threading.enumerate()):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # before it is said: who reads it may send the next at once
    say(_INTERRUPTED)
