"""`vllm:NAME`: answers from vLLM's offline engine, its own processes beside this one.

Continuous batching: requests of one call, and of calls in other threads, share the engine; pictures of later requests
are prepared here while earlier ones are answered there. How many requests are under way at once is bounded, so that
memory does not grow with the length of a call. The engine is restarted once if it dies.

Constrained JSON is decoded by llguidance, which can be told the spelling; see `lore_mm.models.constrain`.
Log-probabilities are taken from logits that the constraint has masked and temperature has not touched, which is vLLM's
`raw_logprobs`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from lore_mm.errors import ModelError
from lore_mm.models import vllm_env
from lore_mm.models.chat import Chat, ChatReply, ChatRequest, Token, Usage, among
from lore_mm.models.checkpoint import checkpoint_folder, checkpoint_sha
from lore_mm.models.constrain import one_spelling
from lore_mm.models.pieces import pieces_of
from lore_mm.models.vllm_engine import Engine

__all__ = ["VllmChat", "engine_arguments", "open_chat"]

_SEQUENCES = 32  # answered at once on a CPU; on a GPU vLLM knows better
_AHEAD = 16  # requests prepared beyond those that are answered at once
_ENDING = 16  # tokens at the end of a request by which the tokens of its choices are known again
_MOST_TAILS = 1000  # ends of requests kept


def open_chat(name: str, **options: Any) -> Chat:
    """Open a checkpoint in vLLM: a folder, a name of the model table or a hub repository.

    Options, all optional: `max_model_len` (default: what fits the memory), `dtype` (float32 on a CPU), `max_num_seqs`,
    `limit_pictures` (per request; 8), `gpu_memory_utilization`, `tensor_parallel_size`, `enforce_eager` (True on a
    CPU), `seed` (0), and any other argument of vLLM's AsyncEngineArgs. VLLM_* in the environment are heeded.

    Raises:
        MissingExtraError: vLLM is not installed.
        ModelError: the checkpoint cannot be had, or the engine does not start.
        ConfigError: an option that vLLM does not know.
    """
    vllm_env.installed()
    folder = checkpoint_folder(name)
    return VllmChat(f"vllm:{name}", folder, engine_arguments(folder, **options))


def engine_arguments(folder: str, *, limit_pictures: int = 8, **options: Any) -> dict[str, Any]:
    """The arguments of vLLM's engine for this checkpoint: ours, then the caller's options over them."""
    ours: dict[str, Any] = {
        "model": folder,
        "max_model_len": -1,  # as long as fits
        "limit_mm_per_prompt": {"image": limit_pictures, "video": 0},
        # A picture prepared once and then refused would be thought to be in the engine's cache, and be missed there.
        "mm_processor_cache_gb": 0,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if vllm_env.on_cpu():
        ours |= {"dtype": "float32", "enforce_eager": True, "max_num_seqs": _SEQUENCES}
    return ours | options


class VllmChat:
    """A chat model in vLLM. See `lore_mm.models.chat.Chat` for what it promises."""

    def __init__(self, address: str, folder: str, arguments: Mapping[str, Any]) -> None:
        from pathlib import Path

        self.name, self.sha = address, checkpoint_sha(folder)
        self.engine = Engine(address, arguments, local_model=Path(folder).is_dir())
        self._numbers = itertools.count()
        self._known_tails: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[list[list[int]], int]] = {}
        self._slots = asyncio.Semaphore(self.engine.core.vllm_config.scheduler_config.max_num_seqs + _AHEAD)

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """One reply a request, in the same order; several threads may call it at once.

        Raises:
            ModelError: the engine died, was restarted, and died again; or it is closed.
        """
        return self.engine.run(self._answer_all(requests)) if requests else []

    def close(self) -> None:
        """End the engine and its processes; calling it twice is harmless."""
        self.engine.close()

    async def _answer_all(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        tasks = [asyncio.create_task(self._answer(request)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _answer(self, request: ChatRequest) -> ChatReply:
        """The reply; a request that the engine refuses is a reply with an error, a dead engine is revived."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if request.choices and request.json_schema is not None:
            return ChatReply(finish="error", error="a request has choices or a json_schema, not both")
        ask = self._compare if request.choices else self._generate
        async with self._slots:
            while True:
                core = self.engine.core
                try:
                    return await ask(core, request)
                except ModelError:
                    raise
                except EngineDeadError:
                    await self.engine.revive(core)
                except Exception as error:
                    if core.errored:  # what failed may be one of the many ways in which a death shows
                        await self.engine.revive(core)
                        continue
                    return ChatReply(finish="error", error=_reason(error))

    async def _generate(self, core: Any, request: ChatRequest) -> ChatReply:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        schema = request.json_schema
        constraint = None if schema is None else StructuredOutputsParams(json=json.dumps(one_spelling(schema)))
        params = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
            logprobs=0 if request.logprobs else None,  # 0: of the token taken
            structured_outputs=constraint,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._finished(core, await _render(core, request), params)
        answer = output.outputs[0]
        usage = Usage(1, len(output.prompt_token_ids), len(answer.token_ids))
        if answer.finish_reason not in ("stop", "length"):
            error = f"vLLM gave up on it ({answer.finish_reason})"
            return ChatReply(answer.text, "error", usage=usage, error=error)
        cut = answer.finish_reason == "length" and schema is not None
        return ChatReply(
            answer.text,
            answer.finish_reason,
            _tokens(core.get_tokenizer(), answer) if request.logprobs else (),
            usage=usage,
            error=f"the JSON is not finished after {len(answer.token_ids)} tokens" if cut else None,
        )

    async def _compare(self, core: Any, request: ChatRequest) -> ChatReply:
        """Each choice's ln P(choice, end of turn | request), as a conversation whose last message is the choice."""
        rendered = await _render(core, request)
        rendered.pop("prompt", None)
        ids = list(rendered["prompt_token_ids"])
        tails, back = await self._tails(core, request, ids)
        start = len(ids) - back
        if request.among_choices:
            special = set(core.get_tokenizer().all_special_ids)
            tails = [tail[:-1] if len(tail) > 1 and tail[-1] in special else tail for tail in tails]
            shared = tails[0][:-1]
            if all(tail[:-1] == shared for tail in tails):
                prompt = {**rendered, "prompt_token_ids": [*ids[:start], *shared]}
                found = await self._next_token(core, prompt, [tail[-1] for tail in tails])
                return ChatReply(likelihoods=among(found), usage=Usage(1, start + len(shared), 0))
        found, read = [], 0
        for tail in tails:
            prompt = {**rendered, "prompt_token_ids": [*ids[:start], *tail]}
            found.append(await self._log_likelihood(core, prompt, start))
            read += start + len(tail)
        return ChatReply(likelihoods=among(found) if request.among_choices else tuple(found), usage=Usage(1, read, 0))

    async def _tails(self, core: Any, request: ChatRequest, ids: Sequence[int]) -> tuple[list[list[int]], int]:
        """The tokens of each choice through the end of its turn, and how many of the request's last ones they replace.

        They follow from the end of the request, which the template writes: requests that end alike are not written and
        cut into tokens again for each choice.
        """
        key = (request.choices, tuple(ids[-_ENDING:]))
        if key not in self._known_tails:
            asked = await _conversation_ids(core, request)
            wholes = [await _conversation_ids(core, request, choice) for choice in request.choices]
            same = min(_shared(asked, whole) for whole in wholes)
            tails = [_through_end_of_turn(whole[same:], core.get_tokenizer()) for whole in wholes]
            if len(asked) - same >= _ENDING or len(self._known_tails) >= _MOST_TAILS:
                return tails, len(asked) - same  # the end alone does not tell, or memory would grow
            self._known_tails[key] = tails, len(asked) - same
        return self._known_tails[key]

    async def _next_token(self, core: Any, prompt: Mapping[str, Any], tokens: Sequence[int]) -> list[float]:
        """The ln P of each of these tokens after the prompt, from one reading of it."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(tokens),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._finished(core, prompt, params)
        scores = output.outputs[0].logprobs[0]
        return [float(scores[token].logprob) for token in tokens]

    async def _log_likelihood(self, core: Any, prompt: Mapping[str, Any], start: int) -> float:
        """Sum ln P of the prompt's tokens from `start` on.

        What is in the prefix cache is not computed again and has no probabilities: the second attempt, where the cache
        reaches into the choice itself, does without.
        """
        from vllm.sampling_params import SamplingParams

        for without_cache in (False, True):
            params = SamplingParams(
                max_tokens=1, prompt_logprobs=0, detokenize=False, skip_reading_prefix_cache=without_cache
            )
            output = await self._finished(core, prompt, params)
            if without_cache or (output.num_cached_tokens or 0) < start:
                break
        ids, scores = output.prompt_token_ids, output.prompt_logprobs
        return float(sum(scores[i][ids[i]].logprob for i in range(start, len(ids))))

    async def _finished(self, core: Any, prompt: Mapping[str, Any], params: Any) -> Any:
        last = None
        async for output in core.generate(prompt, params, f"lore-{next(self._numbers)}"):
            last = output
        return last


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    parts = [
        {"type": "image_pil", "image_pil": part} if isinstance(part, Image) else {"type": "text", "text": part}
        for part in request.parts
    ]
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": parts}]


async def _render(core: Any, request: ChatRequest) -> dict[str, Any]:
    """Token ids and prepared pictures; vLLM does it in threads of its own."""
    renderer = core.renderer
    # The template writes the special tokens; a processor's default would add another set.
    tokens = renderer.default_chat_tok_params.with_kwargs(add_special_tokens=False)
    _, (prompt,) = await renderer.render_chat_async([_messages(request)], _chat_params(answered=False), tokens)
    return dict(prompt)


async def _conversation_ids(core: Any, request: ChatRequest, answer: str | None = None) -> list[int]:
    """Token ids of the conversation with each picture as its one placeholder, up to or with the answer."""
    said = [] if answer is None else [{"role": "assistant", "content": answer}]
    params = _chat_params(answered=answer is not None)
    _, prompt = await core.renderer.render_messages_async([*_messages(request), *said], params)
    if "prompt_token_ids" in prompt:
        return list(prompt["prompt_token_ids"])
    ids: list[int] = core.get_tokenizer().encode(prompt["prompt"], add_special_tokens=False)
    return ids


def _chat_params(*, answered: bool) -> Any:
    from vllm.renderers.params import ChatParams

    return ChatParams(chat_template_kwargs={"add_generation_prompt": not answered, "tokenize": False})


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _through_end_of_turn(ids: list[int], tokenizer: Any) -> list[int]:
    """The first special token ends the turn; templates write a line break, or the end of the text, after it."""
    special = set(tokenizer.all_special_ids)
    end = next((i for i, one in enumerate(ids) if one in special), len(ids) - 1)
    return ids[: end + 1]


def _tokens(tokenizer: Any, answer: Any) -> tuple[Token, ...]:
    special = set(tokenizer.all_special_ids)
    taken = [
        (one, scores[one].logprob)
        for one, scores in zip(answer.token_ids, answer.logprobs, strict=True)
        if one not in special
    ]
    texts = pieces_of(tokenizer, [one for one, _ in taken])
    return tuple(Token(text, logprob) for text, (_, logprob) in zip(texts, taken, strict=True))


def _reason(error: Exception) -> str:
    """What a person wants to know of an exception that stopped one request."""
    while type(error).__name__ == "EngineGenerateError" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"refused by vLLM: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
