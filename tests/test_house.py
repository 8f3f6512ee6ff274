"""The rules of the house, kept by machine: layers, light imports, public names, sizes, commands, no stray paths."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lore_mm.cli import COMMANDS
from lore_mm.console import command_app

ROOT = Path(__file__).parent.parent
PACKAGES = ("lore_mm", "extractors", "stores", "relevance", "jobs")
# who may import whom; everyone may import itself
ALLOWED = {
    "lore_mm": {"lore_mm"},
    "extractors": {"lore_mm", "extractors"},
    "stores": {"lore_mm", "stores"},
    "relevance": {"lore_mm", "relevance"},
    "jobs": set(PACKAGES),
}
# their main, and what only it calls, may open the others
FRONT_DOORS = (
    "relevance/judge.py",
    "relevance/synthesize.py",
    "relevance/distil.py",
    "stores/query.py",
    "extractors/queries.py",
)
HEAVY = "torch transformers vllm faiss open_clip ray openai fastapi torchvision timm polars duckdb deltalake".split()
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every module a tree imports, also by import_module("…") with the name written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node, node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node, str(node.args[0].value)


def behind_the_door(tree: ast.Module) -> set[ast.AST]:
    """The nodes of `main`, of the private functions and classes that only it and they use, and imports for types."""
    for_types = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    functions = {node.name: node for node in tree.body if isinstance(node, Function | ast.ClassDef)}
    if "main" not in functions:
        return set()

    def mentions(node: ast.AST) -> set[str]:
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in functions}

    inside = {"main"} | {name for name in functions if name.startswith("_")}
    while True:  # a private one that something outside mentions is not behind the door
        outside = [node for node in tree.body if getattr(node, "name", "") not in inside and not guard(node)]
        leaked = inside & set().union(*(mentions(node) for node in outside)) - {"main"} if outside else set()
        if not leaked:
            break
        inside -= leaked
    return {node for top in (*for_types, *(functions[name] for name in inside)) for node in ast.walk(top)}


def guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def breaches(path: Path) -> list[str]:
    package, tree = named(path).split("/")[0], parse(path)
    free = behind_the_door(tree) if named(path) in FRONT_DOORS else set()
    return [
        f"{named(path)}:{getattr(node, 'lineno', '?')} imports {name}"
        for node, name in imported(tree)
        if name.split(".")[0] in PACKAGES and name.split(".")[0] not in ALLOWED[package] and node not in free
    ]


def test_layers() -> None:
    """lore_mm ← extractors, stores, relevance ← jobs; the three in the middle do not know one another."""
    faults = [fault for path in modules() for fault in breaches(path)]
    assert not faults, "\n" + "\n".join(faults)


def test_layers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above finds what it is there to find, and lets a front door through."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for name in ("stores/query.py", "stores/other.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            "from lore_mm.types import Item\nimport jobs.plan\n"
            "def main():\n    import extractors.given\n    _open()\n"
            "def _open():\n    from relevance import judge\n"
            "def _shared():\n    from relevance import paths\n"
            "def library():\n    _shared()\n    import_module('extractors.merge')\n"
        )
    library = [(2, "jobs.plan"), (9, "relevance"), (12, "extractors.merge")]
    assert sorted(breaches(tmp_path / "stores/query.py")) == sorted(
        f"stores/query.py:{line} imports {name}" for line, name in library
    )
    assert sorted(breaches(tmp_path / "stores/other.py")) == sorted(
        f"stores/other.py:{line} imports {name}" for line, name in [*library, (4, "extractors.given"), (7, "relevance")]
    )


def test_importing_the_packages_loads_nothing_heavy() -> None:
    code = f"import sys, {', '.join(PACKAGES)}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom lore_mm.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "HEAVY"


def top_level_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.Module([n for n in tree.body if not isinstance(n, Function | ast.ClassDef)], [])):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names | {node.name for node in tree.body if isinstance(node, Function | ast.ClassDef)}


def test_every_module_says_what_it_is_and_what_is_public() -> None:
    faults = []
    for path in modules():
        tree = parse(path)
        if not (ast.get_docstring(tree) or "").strip():
            faults.append(f"{named(path)}: no docstring")
        lists = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and any(ast.unparse(t) == "__all__" for t in node.targets)
        ]
        if not lists:
            if path.name != "__init__.py" or top_level_names(tree):
                faults.append(f"{named(path)}: no __all__")
            continue
        public = ast.literal_eval(lists[0])
        faults += [f"{named(path)}: {n!r} of __all__ does not exist" for n in public if n not in top_level_names(tree)]
        faults += [f"{named(path)}: {n!r} twice in __all__" for n in set(public) if public.count(n) > 1]
    assert not faults, "\n" + "\n".join(faults)


def test_files_and_functions_stay_small() -> None:
    faults = []
    for path in modules():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > LONGEST_FILE:
            faults.append(f"{named(path)}: {lines} lines, the limit is {LONGEST_FILE}")
        for node in ast.walk(parse(path)):
            if isinstance(node, Function) and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION:
                length = (node.end_lineno or 0) - node.lineno + 1
                faults.append(
                    f"{named(path)}:{node.lineno} {node.name}: {length} lines, the limit is {LONGEST_FUNCTION}"
                )
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    module, function = COMMANDS[name][0].split(":")
    app = command_app(getattr(import_module(module), function), f"lore {name}")
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert re.search(rf"(lore {name}|python -m {re.escape(module)})( |$)", shown.stdout, re.MULTILINE), shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert re.search(rf"\blore {name}\b", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_no_tracked_file_names_an_index_host_or_a_place_on_our_machines() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    hosts = "|".join(
        re.escape(".".join(parts)) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"))
    )
    strange = re.compile(rf"{hosts}|pypi\.python|(?<![\w.-])/work/")
    faults = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" in data:  # a picture or weights
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if path != Path(__file__).resolve() and strange.search(line):
                faults.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not faults, "\n" + "\n".join(faults)
