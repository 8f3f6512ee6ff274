"""A process that does things to stores in children of its own and, where it is told to, kills them on the way.

    python -m tests.killed_upkeep

A line of JSON in, [action, store, n]: a child does it, and dies by SIGKILL before the nth line of `stores` that it
comes to; 0: never. A line out: how many lines it came to, or -1 where it was killed. Children are forked before
anything has run that has threads, which do not survive that.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pyarrow as pa

import stores
from lore_mm.tables import LABELS
from stores.compact import compact
from stores.features import open_store
from stores.retention import drop_replaced
from stores.rewrite import Target
from stores.vacuum import vacuum

OURS = str(Path(stores.__file__).parent)


def labels(query, grade, rows):
    made = [{"query_id": query, "item_id": f"i{i}", "grade": grade, "reason": None} for i in range(rows)]
    return pa.Table.from_pylist(made, schema=LABELS)


ACTIONS = {
    "append": lambda store: store.append("labels", labels("new", "L2", 5), ("app", 1)),
    "compact": lambda store: compact(store, "labels", Target(rows=12)),
    "drop": lambda store: drop_replaced(store, "labels", 0, Target(rows=6)),
    "vacuum": lambda store: vacuum(store, "labels", 0),
}


def do(action, uri, n):
    """In a child: the number of lines it came to."""
    count = 0

    def line(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame, event, argument):
        return line if frame.f_code.co_filename.startswith(OURS) else None

    threading.settrace(call)
    sys.settrace(call)
    ACTIONS[action](open_store(uri))
    sys.settrace(None)
    return count


def main():
    for said in sys.stdin:
        ours, theirs = os.pipe()
        if not (child := os.fork()):
            os.write(theirs, str(do(*json.loads(said))).encode())
            os._exit(0)
        os.close(theirs)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(-1 if killed else int(os.read(ours, 100)), flush=True)
        os.close(ours)


if __name__ == "__main__":
    main()
