"""`lore serve-model NAME`: vLLM's OpenAI-compatible server for a checkpoint, with the settings this project relies on.

The name is resolved as in `vllm:NAME`; the processes get the environment of `lore_mm.models.vllm_env`; JSON is decoded
under constraint in one spelling, whoever asks. The command becomes vLLM's server: its flags, its log (on stderr), its
signals. `serve` runs the same command beside this process for as long as a `with` block lasts. Knows no request.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.request import ProxyHandler, build_opener

import typer

from lore_mm.console import run, say
from lore_mm.errors import ConfigError, ModelError
from lore_mm.models import vllm_env
from lore_mm.models.checkpoint import checkpoint_folder

__all__ = ["app", "main", "serve", "served_name", "server_arguments"]

_MIDDLEWARE = "lore_mm.models.one_spelling_middleware.OneSpelling"
_NOT_OF_THE_SERVER = ("disable_log_stats",)  # a server is watched by its /metrics
_PATIENCE = 20.0  # seconds for a server to end when asked to
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A checkpoint's folder, a name of the model table (lore-vlm-tiny) or of a model hub.")
    ],
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.", min=1, max=65535)] = 8000,
    limit_pictures: Annotated[int, typer.Option(help="How many pictures a request may have.", min=0)] = 8,
) -> None:
    """Serve a model to this and other machines by the OpenAI-compatible API, with vLLM.

    NAME comes first; whatever is not listed here goes to vLLM's server as it is, over this project's own settings.
    There is no password unless you give vLLM's --api-key, or set VLLM_API_KEY; clients then need it as OPENAI_API_KEY.

    Example: lore serve-model lore-vlm-tiny --port 8000

    Example: lore serve-model Qwen/Qwen2.5-VL-7B-Instruct --max-model-len 8192 --tensor-parallel-size 2

    Use it: lore extract --vlm "openai:http://127.0.0.1:8000/v1#lore-vlm-tiny"

    Ctrl-C or SIGTERM ends it with all its processes.
    """
    if name.startswith("-"):
        raise ConfigError(f"NAME comes first, then vLLM's flags: lore serve-model NAME {name} …")
    vllm_env.installed()
    folder = checkpoint_folder(name)
    served = served_name(name)
    say(f"serving {name}; when it is ready: openai:http://{host}:{port}/v1#{served}")
    ours = ["--host", host, "--port", str(port), "--served-model-name", served]
    values = vllm_env.engine_environment(local_model=Path(folder).is_dir())
    _become([*server_arguments(folder, limit_pictures=limit_pictures), *ours, *context.args], os.environ | values)


def served_name(name: str) -> str:
    """What clients call the model: its name, or that of its folder."""
    path = Path(name).expanduser()
    return path.resolve().name if path.is_dir() else name


def server_arguments(folder: str, **options: Any) -> list[str]:
    """The command-line flags of vLLM's server for this checkpoint: those of `vllm:`, and one spelling of JSON."""
    from lore_mm.models.vllm import engine_arguments

    wanted = {k: v for k, v in engine_arguments(folder, **options).items() if k not in _NOT_OF_THE_SERVER}
    return [*_flags(wanted), "--middleware", _MIDDLEWARE]


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Options of vLLM's engine as flags of its server."""
    made = []
    for option, value in options.items():
        flag = option.replace("_", "-")
        if isinstance(value, bool):
            made.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            made.append(f"--{flag}={json.dumps(value) if isinstance(value, Mapping) else value}")
    return made


def _become(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Turn this process into the server: what signals it gets, vLLM gets."""
    sys.stdout.flush()
    os.dup2(2, 1)  # stdout is data, and a server's is talk
    command = [sys.executable, "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server", *arguments]
    os.execve(sys.executable, command, dict(environment))


@contextmanager
def serve(name: str, *, timeout_s: float = 900.0, **options: Any) -> Iterator[str]:
    """Serve a model on a free port of this machine; yields its address, `openai:http://127.0.0.1:PORT/v1#MODEL`.

    `options` are those of `vllm:`. The server and all its processes end with the block, and with this process.

    Raises:
        MissingExtraError: vLLM is not installed.
        ModelError: the checkpoint cannot be had, or the server is not there after `timeout_s`; names the log.
    """
    vllm_env.installed()
    checkpoint_folder(name)
    log, port = vllm_env.new_log(), _free_port()
    command = [sys.executable, "-m", __name__, name, "--port", str(port), *_flags(options)]
    environment = os.environ | vllm_env.engine_environment()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        _wait(process, port, timeout_s, f"the server of {name}", log)
        yield f"openai:http://127.0.0.1:{port}/v1#{served_name(name)}"
    finally:
        _end(process)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, timeout_s: float, what: str, log: Path) -> None:
    """Until the server says that it is healthy."""
    direct, until = build_opener(ProxyHandler({})), time.monotonic() + timeout_s
    while process.poll() is None:
        with suppress(OSError), direct.open(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        if time.monotonic() > until:
            raise ModelError(f"{what} is not there after {timeout_s:g} s; log: {log}")
        time.sleep(0.25)
    raise ModelError(f"{what} ended with exit code {process.returncode}; it said: {vllm_env.tail(log)}; log: {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, then whatever it has left behind in its group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    run(app, name="python -m lore_mm.models.vllm_serve")
