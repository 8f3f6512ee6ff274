"""`lore report`: one self-contained HTML page of a store: what was extracted, what was judged, and why.

The page asks for nothing from anywhere: pictures are data URIs, style and script stand inside and are named by hash in
a strict Content-Security-Policy, so that nothing a seller wrote can run. Large stores are sampled, and the page says
so. What is shown is gathered in `jobs.report_data`; this module only renders it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.options import StoreAddress
from jobs.report_data import ReportData, gather
from lore_mm import __version__
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, run, say
from lore_mm.errors import InputError
from stores.features import FeatureStore, open_store

__all__ = ["main", "render", "write_report"]

_TEMPLATES = Path(__file__).parent / "templates"
Evaluation = Sequence[Mapping[str, Any]]


def write_report(
    store: FeatureStore,
    output: str | Path,
    *,
    items: int = 200,
    queries: int = 200,
    evaluation: Evaluation = (),
) -> ReportData:
    """Write the report of a store to a file, whole or not at all; returns what it shows.

    `evaluation`: rows of a table to show as it is, such as `jobs.evaluate_judge.evaluation_rows` makes.

    Raises:
        StoreError: a table cannot be read.
        InputError: the file cannot be written.
    """
    data = gather(store, items=items, queries=queries)
    page = render(data, evaluation=evaluation)
    output = Path(output)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        unfinished.write_text(page, encoding="utf-8", errors="replace")
        unfinished.replace(output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"cannot write the report to {output}: {error.strerror}") from None
    return data


def render(data: ReportData, evaluation: Evaluation = (), made_at: datetime | None = None) -> str:
    """The page as HTML. Pure: the same data and time give the same text."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        data=data,
        columns=_columns(evaluation),
        evaluation=[{name: _cell(row.get(name)) for name in _columns(evaluation)} for row in evaluation],
        style=style,
        script=script,
        policy=_policy(style, script),
        made_at=made_at or datetime.now(UTC),
        version=__version__,
    )


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which only this style, this script and pictures inside the page have effect."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_source_hash(style)}'",
            f"script-src '{_source_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _columns(rows: Evaluation) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: object) -> str:
    """A cell of the evaluation table; a pair of numbers is an interval."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return " – ".join(_cell(v) for v in value)
    return str(value)


def _read_evaluation(path: Path) -> list[dict[str, Any]]:
    """What `lore evaluate` printed in a pipe, as rows to show; other JSON lines are shown as they are."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read the evaluation {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start:,}") from None
    except RecursionError:
        raise InputError(f"{path}: JSON nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON lines: {error}") from None
    if not all(isinstance(line, dict) for line in lines):
        raise InputError(f"{path}: every line must be a JSON object")
    try:
        return [row for line in lines for row in _evaluation_rows(line)]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not what `lore evaluate` prints") from None


def _evaluation_rows(line: dict[str, Any]) -> list[dict[str, Any]]:
    from jobs.attribute_tables import attribute_rows
    from jobs.evaluate_judge import evaluation_rows

    if "baselines" in line:
        return evaluation_rows(line)
    return attribute_rows(line) if "systems" in line else [line]


def main(
    store: StoreAddress = None,
    output: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    items: Annotated[int, typer.Option(min=0, help="Show at most this many items, spread over the catalogue.")] = 200,
    queries: Annotated[int, typer.Option(min=0, help="Show at most this many judged queries.")] = 200,
    evaluation: Annotated[
        Path | None, typer.Option(help="What `lore evaluate` printed in a pipe, to show as a table.")
    ] = None,
) -> None:
    """Write a self-contained HTML page of a store: items, attributes with evidence, queries, grades and paths.

    The page needs no server and no network, and can be mailed as it is. Of a large store it shows a sample.

    Example: lore report --output report.html --items 100
    """
    table = _read_evaluation(evaluation) if evaluation else []
    opened = open_store(store or default_store())
    data = write_report(opened, output, items=items, queries=queries, evaluation=table)
    shown = {"report": str(output.absolute()), "items": len(data.cards), "queries": len(data.queries)}
    if for_people():
        say(f"{shown['items']} of {data.n_items} items, {shown['queries']} of {data.n_queries} queries → {output}")
    else:
        print_json(shown | {"n_items": data.n_items, "n_queries": data.n_queries})


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.report"))
