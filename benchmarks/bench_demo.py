"""The demo, once installed, as a newcomer waits for it: seconds of `lore demo` in a new store, seconds to import the
five packages in a new process, and the table of the judge beside its baselines.

    python benchmarks/bench_demo.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.evaluate_judge import evaluate_store, evaluation_rows
from stores.features import open_store

PACKAGES = "lore_mm, extractors, stores, relevance, jobs"
IMPORTS = 9


def seconds(*command: str) -> tuple[float, str]:
    """Wall-clock time of a command, and what it printed on stdout."""
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure and print."""
    bare = statistics.median(seconds(sys.executable, "-c", "pass")[0] for _ in range(IMPORTS))
    ours = statistics.median(seconds(sys.executable, "-c", f"import {PACKAGES}")[0] for _ in range(IMPORTS))
    print(f"import of {PACKAGES}: {ours - bare:.3f} s over the bare interpreter's {bare:.3f} s (target: 0.5 s)")

    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--store", f"{folder}/store", "--output", f"{folder}/report.html")
        first, _ = seconds(sys.executable, "-m", "jobs.demo", *arguments)
        again, _ = seconds(sys.executable, "-m", "jobs.demo", *arguments)
        print(f"lore demo: {first:.1f} s in a new store, {again:.1f} s again; {os.cpu_count()} cores (target: 60 s)")
        for split in ("test", "dev"):
            print(f"\nsplit {split}:")
            rows = evaluation_rows(evaluate_store(open_store(f"{folder}/store"), split=split))
            _markdown(rows)


def _markdown(rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")


if __name__ == "__main__":
    main()
