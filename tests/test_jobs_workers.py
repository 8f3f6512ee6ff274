"""Who is at work: of a process on this machine it is known whether it lives, of any other it may; any text is borne."""

import os
import signal
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import workers
from jobs.workers import is_gone, this_worker


@pytest.fixture
def sleeper():
    """A process of this machine, and its name as a worker."""
    process = subprocess.Popen(["sleep", "60"])
    yield process, name_of(process.pid)
    process.kill()
    process.wait()


def name_of(pid):
    machine, _, _ = this_worker().split(" ")
    return f"{machine} {pid} {workers._began(pid)}"


def test_this_process_has_one_name_for_its_life_and_lives():
    assert this_worker() == this_worker()
    machine, pid, began = this_worker().split(" ")
    assert pid == str(os.getpid())
    assert began.isdigit()
    assert machine
    assert not is_gone(this_worker())


def test_another_process_reads_the_same_name():
    """The name is of the machine and the process, not of who looks."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from jobs.workers import *; print(is_gone(sys.argv[2]))"
    root = str(workers.Path(workers.__file__).parents[1])
    for name, gone in ((this_worker(), "False"), (name_of(os.getpid()) + "1", "True")):
        said = subprocess.run([sys.executable, "-c", code, root, name], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == gone


def test_a_live_one_lives_and_a_dead_one_is_gone(sleeper):
    process, name = sleeper
    assert not is_gone(name)
    process.send_signal(signal.SIGSTOP)  # stopped, as a laptop that sleeps, is not gone
    assert not is_gone(name)
    process.kill()
    process.wait()
    assert is_gone(name)


def test_a_zombie_is_gone():
    """Dead, and its parent has not asked how it ended: its number is still taken."""
    process = subprocess.Popen(["true"])
    name = name_of(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert workers.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    assert is_gone(name.replace("None", "1"))
    process.wait()


def test_a_number_given_again_is_another_process(sleeper):
    machine, pid, began = sleeper[1].split(" ")
    assert is_gone(f"{machine} {pid} {int(began) - 1}")
    assert is_gone(f"{machine} {pid} {int(began) + 1}")


def test_of_another_machine_nothing_is_known(sleeper):
    _, pid, began = sleeper[1].split(" ")
    for machine in ("elsewhere", "b5a0c1f4-0000-0000-0000-000000000000/pid:[4026531836]", "0a1b2c3d4e5f"):
        assert not is_gone(f"{machine} {pid} {began}")
        assert not is_gone(f"{machine} 999999999 1")


def test_a_process_that_may_not_be_looked_at_may_live(sleeper, monkeypatch):
    """Another user's, where /proc is mounted so that it hides them."""
    process, name = sleeper
    read = workers.Path.read_text

    def hidden(path, **options):
        if str(path) == f"/proc/{process.pid}/stat":
            raise FileNotFoundError(path)
        return read(path, **options)

    monkeypatch.setattr(workers.Path, "read_text", hidden)
    assert not is_gone(name)

    def refused(pid, number):
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(workers.os, "kill", refused)
        assert not is_gone(name)


def test_where_there_is_no_proc(sleeper, monkeypatch):
    """A number is all that is known of a process then; one that is given again passes for the old one."""
    process, _ = sleeper

    def none_such(path, **_):
        raise FileNotFoundError(path)

    monkeypatch.setattr(workers.Path, "read_text", none_such)
    monkeypatch.setattr(workers.os, "readlink", none_such)
    workers._machine.cache_clear()
    try:
        mine = this_worker()
        assert mine == f"{uuid.getnode():012x} {os.getpid()} "
        assert not is_gone(mine)
        other = f"{uuid.getnode():012x} {process.pid} "
        assert not is_gone(other)
        process.kill()
        process.wait()
        assert is_gone(other)
    finally:
        workers._machine.cache_clear()


@pytest.mark.parametrize("pid", ["0", "-1", "²", "٣", "1e3", "", "9" * 11, "9" * 5000, "../1", "1\n", "None"])
def test_what_is_no_process_number_is_no_crash(pid):
    """A table of a stranger's may say anything, even with this machine's name; -1 would be every process."""
    machine, _, began = this_worker().split(" ")
    assert not is_gone(f"{machine} {pid} {began}")


@given(st.text(max_size=40))
def test_any_text_is_borne(text):
    machine = this_worker().split(" ")[0]
    for name in (text, f"{machine} {text}", f"{machine} {os.getpid()} {text}", f"{machine} {text} {text}"):
        assert is_gone(name) in (True, False)
    assert not is_gone(text)
