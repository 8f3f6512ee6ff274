"""vLLM's engine as something that lives: it starts, runs beside us, dies once without loss, and leaves nothing behind.

The engine's core and its workers are processes of their own; this process keeps the front end (templates, tokenizer,
preprocessing of pictures, in threads of vLLM's) on an event loop in a thread. Knows nothing of requests and replies.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import multiprocessing
import threading
import warnings
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar
from weakref import WeakSet

from lore_mm.errors import ModelError
from lore_mm.models import vllm_env

__all__ = ["Engine"]

T = TypeVar("T")

_RESTARTS = 1
_PATIENCE = 20.0  # seconds that closing waits for the loop
_open: WeakSet[Engine] = WeakSet()


class Engine:
    """One vLLM engine with these arguments (those of vLLM's AsyncEngineArgs), started when it is made.

    Raises:
        ModelError: it does not start; names the reason and the log.
    """

    def __init__(self, address: str, arguments: Mapping[str, Any], *, local_model: bool) -> None:
        self._address, self._arguments, self._local_model = address, dict(arguments), local_model
        self.log = vllm_env.new_log()
        self._handler = logging.FileHandler(self.log)
        self._handler.setFormatter(logging.Formatter("%(asctime)s front end %(levelname)s %(message)s"))
        self._others = set(multiprocessing.active_children())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lore-vllm", daemon=True)
        self._thread.start()
        self._reviving = asyncio.Lock()
        self._restarts = 0
        self._contexts: list[Any] = []  # ZeroMQ's, of every core there has been
        self._closed = False
        self.failure: str | None = None  # why nothing more can be asked
        _open.add(self)
        try:
            self.core: Any = self.run(self._start())
        except BaseException:
            self.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this on the engine's loop and wait for it; an interrupt cancels it.

        Raises:
            ModelError: the engine is closed.
        """
        if self._closed:
            work.close()
            raise ModelError(f"{self._address}: closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:  # by close(), in another thread
            raise ModelError(f"{self._address}: closed while it was answering") from None
        except BaseException:
            future.cancel()
            raise

    async def _start(self) -> Any:
        """Start the processes; blocks the loop, on which nothing else can happen meanwhile."""
        values = vllm_env.engine_environment(local_model=self._local_model, log=self.log)
        with vllm_env.environment(values), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                _write_log_with(self._handler)  # before the import, which has something to say, too
                engine_args, async_llm = _load()
                with vllm_env.main_module_hidden():
                    core = async_llm.from_engine_args(engine_args(**self._arguments))
            except Exception as error:
                raise ModelError(f"{self._address} does not start: {_one_line(error)}{self._last_words()}") from error
        if context := getattr(getattr(core.engine_core, "resources", None), "ctx", None):
            self._contexts.append(context)
        return core

    async def revive(self, dead: Any) -> None:
        """Start anew in place of `dead`, the core that a request found dead; the first of many such requests does it.

        Raises:
            ModelError: it has died before.
        """
        async with self._reviving:
            if self.core is not dead:
                return
            if self.failure is None and self._restarts >= _RESTARTS:
                self.failure = f"{self._address} died again after it had been restarted once{self._last_words()}"
            if self.failure:
                raise ModelError(self.failure)
            self._restarts += 1
            logging.getLogger("vllm").warning("the engine died and is restarted")
            _shut_down(dead)
            try:
                self.core = await self._start()
            except ModelError as error:
                self.failure = f"after its engine had died, {error}"
                raise ModelError(self.failure) from error

    def _last_words(self) -> str:
        said = vllm_env.tail(self.log)
        return (f"; it said: {said}" if said else "") + f"; log: {self.log}"

    def close(self) -> None:
        """End the engine's processes and its thread; calling it twice is harmless."""
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        core = getattr(self, "core", None)
        if core is None:  # interrupted while it was starting
            _end(set(multiprocessing.active_children()) - self._others)
        future = asyncio.run_coroutine_threadsafe(self._stop(core), self._loop)
        try:
            future.result(_PATIENCE)
        except (TimeoutError, CancelledError):
            _end(set(multiprocessing.active_children()) - self._others)
        self.core = core = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()
            self._close_contexts()
        logging.getLogger("vllm").removeHandler(self._handler)
        self._handler.close()

    def _close_contexts(self) -> None:
        """Close what vLLM leaves to the garbage collector, which finds fault with that.

        A context waits for its sockets. They are closed on the loop, so this is for afterwards; and not for ever.
        """
        while self._contexts:
            closing = threading.Thread(target=self._contexts.pop().destroy, kwargs={"linger": 0}, daemon=True)
            closing.start()
            closing.join(_PATIENCE)

    async def _stop(self, core: Any) -> None:
        if core is not None:
            _shut_down(core)
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _shut_down(core: Any) -> None:
    """Once: its destructor would do it again, maybe at the end of the process, where nothing is left that it needs."""
    core.shutdown()
    core.shutdown = lambda *_, **__: None


def _load() -> tuple[Any, Any]:
    """Import vLLM, which may need the shim."""
    from lore_mm.models.torchvision_cpu import install

    install()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncEngineArgs, AsyncLLM


def _write_log_with(handler: logging.Handler) -> None:
    logger = logging.getLogger("vllm")
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:  # nobody else has set it up
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _end(processes: set[Any]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


@atexit.register
def _close_all() -> None:
    for engine in list(_open):
        engine.close()
