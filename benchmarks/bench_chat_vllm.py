"""What vllm: costs beside the bare engine, and what a constraint costs beside none.

    python benchmarks/bench_chat_vllm.py                             # a random Qwen2.5-VL, made for it
    python benchmarks/bench_chat_vllm.py --model lore-vlm-tiny --n 64

One engine, four arms, in turn within each round, over the same requests of one picture each. `bare` gives vLLM's
`AsyncLLM.generate` the rendered text and the picture, all requests at once; `ours` is `Chat.generate`. `bound` and
`bare_bound` are the same with a JSON Schema that is never satisfied before the length is up. Bare arms ignore the end
of the turn, so that they say as many tokens; preprocessing of pictures is in all four, and what the engine keeps of
earlier prompts is thrown away before each. Ratios are of tokens a second, the median over rounds: of wall time, and
of the seconds of this process and the engine's together, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from bench_chat_hf import ENDLESS, _random_model, make_requests

from lore_mm.console import command_app, print_json, run, say
from lore_mm.models import ChatRequest
from lore_mm.models.constrain import one_spelling
from lore_mm.models.vllm import VllmChat, open_chat


def bare(chat: VllmChat, requests: list[ChatRequest]) -> int:
    """Tokens said: the text of the template and the picture go to the engine, and nothing else happens."""
    from json import dumps

    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    core = chat.engine.core
    template = _processor(core.vllm_config.model_config.model).apply_chat_template

    async def one(i: int, request: ChatRequest) -> int:
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.parts[-1]}]}]
        text = template(messages, tokenize=False, add_generation_prompt=True)
        schema = request.json_schema
        settings = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=0.0,
            ignore_eos=schema is None,
            structured_outputs=StructuredOutputsParams(json=dumps(one_spelling(schema))) if schema else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt": text, "multi_modal_data": {"image": request.parts[0]}}
        said = 0
        async for output in core.generate(prompt, settings, f"bare-{time.monotonic_ns()}-{i}"):
            said = len(output.outputs[0].token_ids)
        return said

    async def together() -> int:
        return sum(await asyncio.gather(*(one(i, request) for i, request in enumerate(requests))))

    return chat.engine.run(together())


@cache
def _processor(folder: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


def ours(chat: VllmChat, requests: list[ChatRequest]) -> int:
    """Tokens said by Chat.generate."""
    return sum(reply.usage.completion_tokens for reply in chat.generate(requests))


def cpu_seconds() -> float:
    """Of this process and all that it has started and that still run."""
    import psutil  # vLLM brings it

    times = [one.cpu_times() for one in (psutil.Process(), *psutil.Process().children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": cpu_seconds}
RATIOS = (  # name, above, below
    ("ours_to_bare", "ours", "bare"),
    ("bound_to_bare_bound", "bound", "bare_bound"),
    ("bare_constrained_to_free", "bare_bound", "bare"),
    ("constrained_to_free", "bound", "ours"),
)


async def forget(chat: VllmChat) -> None:
    """Throw away what the engine keeps of earlier prompts and pictures."""
    await chat.engine.core.reset_prefix_cache()
    await chat.engine.core.reset_encoder_cache()


def main(
    model: Annotated[str, typer.Option(help="Folder, name of the model table, or hub repository.")] = "",
    n: Annotated[int, typer.Option(help="Requests a round.")] = 128,
    tokens: Annotated[int, typer.Option(help="Tokens of each reply.")] = 48,
    rounds: Annotated[int, typer.Option(help="Rounds; the first is not counted.")] = 8,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tokens a second of vllm: beside the bare engine.

    Example: python benchmarks/bench_chat_vllm.py --n 128
    """
    with tempfile.TemporaryDirectory() as folder:
        chat = open_chat(model or str(_random_model(Path(folder))), max_model_len=1024)
        assert isinstance(chat, VllmChat)
        free, bound = make_requests(n, tokens), make_requests(n, tokens, ENDLESS)
        arms: dict[str, Callable[[], int]] = {
            "bare": lambda: bare(chat, free),
            "ours": lambda: ours(chat, free),
            "bare_bound": lambda: bare(chat, bound),
            "bound": lambda: ours(chat, bound),
        }
        speeds: dict[tuple[str, str], list[float]] = {(clock, arm): [] for clock in CLOCKS for arm in arms}
        for number in range(rounds):
            for name, arm in sorted(arms.items(), reverse=number % 2 == 1):  # no arm always follows the same one
                chat.engine.run(forget(chat))
                started = {clock: read() for clock, read in CLOCKS.items()}
                said = arm()
                for clock, read in CLOCKS.items() if number else ():
                    speeds[clock, name].append(said / (read() - started[clock]))
        chat.close()
    ratios = {
        f"{name}_{clock}": statistics.median(
            a / b for a, b in zip(speeds[clock, above], speeds[clock, below], strict=True)
        )
        for name, above, below in RATIOS
        for clock in CLOCKS
    }
    tokens_per_s = {f"{arm}_{clock}": round(statistics.median(found)) for (clock, arm), found in speeds.items()}
    if json:
        print_json({"n": n, "tokens": tokens, "rounds": rounds - 1, "tokens_per_s": tokens_per_s, **ratios})
        return
    say(f"{n} requests of one picture, {tokens} tokens each, {rounds - 1} rounds")
    for name, speed in tokens_per_s.items():
        print(f"{name:16} {speed:8,} tokens/s")
    for name, ratio in ratios.items():
        print(f"{name:30} {ratio:.3f}")


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_chat_vllm.py"))
