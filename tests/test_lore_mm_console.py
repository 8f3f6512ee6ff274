"""pytest tests/test_lore_mm_console.py: the manners of every front door, and the lore command's listing."""

import json
import os
import subprocess
import sys

import pytest
from polars.exceptions import ComputeError
from rich.table import Table
from rich.text import Text

from lore_mm import __version__
from lore_mm.cli import COMMANDS, main
from lore_mm.config import cache_folder, default_store
from lore_mm.console import command_app, print_json, print_table, progress, run, say
from lore_mm.errors import InputError, LoreError, nearest


def front_door(problem):
    def door() -> None:
        """Fail on purpose."""
        raise problem

    return command_app(door, "door")


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (LoreError("the engine died"), 1, "error: the engine died\n"),
        (InputError("items.csv: row 3: [price] is 'x'"), 2, "error: items.csv: row 3: [price] is 'x'\n"),
        (PermissionError(13, "Permission denied", "/srv/cache"), 1, "error: /srv/cache: Permission denied\n"),
        (ComputeError("parquet: no\n magic"), 1, "error: a table of the store cannot be read: parquet: no magic\n"),
        (OSError(28, "No space left on device"), 1, "error: a file: No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it stopped\n"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(problem, code, line, capfd):
    with pytest.raises(SystemExit) as stop:
        run(front_door(problem), [])
    assert stop.value.code == code
    assert capfd.readouterr().err == line


def test_an_interrupt_while_a_command_is_imported_is_one_line(monkeypatch, capfd):
    def interrupted(module):
        raise KeyboardInterrupt

    monkeypatch.setattr("lore_mm.cli.import_module", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["status"])
    assert (stop.value.code, capfd.readouterr().err) == (
        130,
        "interrupted; the same command goes on where it stopped\n",
    )


def test_a_closed_pipe_ends_quietly():
    door = "def door() -> None:\n for i in range(10**6): print_json({'i': i})"
    code = f"from lore_mm.console import *\n{door}\nrun(command_app(door, 'd'), [])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline()) == {"i": 0}
        process.stdout.close()
        assert process.stderr.read() == b""


def test_json_lines_keep_every_script_as_it_is(capsys):
    print_json({"title": "чай 🍵 茶", "grade": None})
    assert capsys.readouterr().out == '{"title": "чай 🍵 茶", "grade": null}\n'


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_what_stdout_cannot_hold_is_escaped(encoding):
    said = {"query": "a\ud800b", "title": "чай 🍵 é"}  # the first holds half of a surrogate pair, as JSON may
    code = f"from lore_mm.console import *\ndef door() -> None:\n print_json({said!r})\n print_table({said['title']!r})"
    done = subprocess.run(
        [sys.executable, "-c", code + "\nrun(command_app(door, 'd'), [])"],
        capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    line, table = done.stdout.decode(encoding).splitlines()
    assert json.loads(line) == said
    assert table == said["title"].encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("colour", ", did you mean 'color'?"), ("Item_ID", ", did you mean 'item_id'?"), ("xyz", "")],
)
def test_the_nearest_legal_name_whatever_its_case(name, hint):
    assert nearest(name, ["item_id", "color", "Brand"]) == hint
    assert nearest("brand", ["Brand"]) == ", did you mean 'Brand'?"


def test_nothing_that_is_shown_steers_the_terminal(capsys):
    evil = "\x1b]0;pwn\x07\x1b[31mred\x9b \u202egnp.[b]exe שלום"
    table = Table("title", box=None, pad_edge=False)
    table.add_row(Text(evil))
    for shown in (table, Text(evil)):
        print_table(shown)
    say(evil)
    out, err = capsys.readouterr()
    clean = "]0;pwn[31mred gnp.[b]exe שלום"
    assert [line.rstrip() for line in out.splitlines()] == ["title", clean, clean]
    assert err == clean + "\n"


def test_progress_off_a_terminal_is_silent_when_short(capsys):
    with progress("work", 3) as advance:
        advance(3)
    assert capsys.readouterr().err == ""


def test_the_listing_names_every_command_in_order(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert [word for word in COMMANDS if f" {word} " in out] == list(COMMANDS)


def test_version_and_unknown_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")
    with pytest.raises(SystemExit) as stop:
        main(["juge"])
    assert stop.value.code == 2
    assert "No such command 'juge'" in capsys.readouterr().err


def test_the_default_store_is_the_nearest_one(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert default_store(inner) == str(inner / ".lore" / "store")
    (tmp_path / ".lore" / "store").mkdir(parents=True)
    assert default_store(inner) == str(tmp_path / ".lore" / "store")
    monkeypatch.setenv("LORE_STORE", "s3://bucket/store")
    assert default_store(inner) == "s3://bucket/store"


def test_the_cache_can_be_put_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LORE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "lore-mm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().parts[-2:] == (".cache", "lore-mm")
    assert os.environ["HOME"] in str(cache_folder())
