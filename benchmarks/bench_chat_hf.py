"""What hf: costs beside bare transformers, and what a constraint costs beside none.

    python benchmarks/bench_chat_hf.py                              # a random Qwen2.5-VL, made for it
    python benchmarks/bench_chat_hf.py --model lore-vlm-tiny --n 32

Three arms, in turn within each round, over the same requests of one picture each: `bare` is the processor and
`model.generate` over the same batches; `ours` is `Chat.generate`; `constrained` is `Chat.generate` with a JSON Schema
that is never satisfied before the length is up, so that every arm says as many tokens. Preprocessing is in all three.
Ratios are of tokens a second, the median over rounds; on a CPU seconds are those of the process, which other
processes do not lengthen.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from lore_mm.console import command_app, print_json, run, say
from lore_mm.models import ChatRequest
from lore_mm.models.hf import HfChat, open_chat

ENDLESS = {"type": "array", "items": {"enum": ["cotton", "wool", "linen", "not_stated"]}, "minItems": 1000}


def make_requests(n: int, tokens: int, schema: Any = None) -> list[ChatRequest]:
    """Pictures and titles of different sizes, the same at every call."""
    draw = np.random.default_rng(0)
    requests = []
    for i in range(n):
        width, height = draw.integers(56, 300, 2)
        picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        text = f"Title: item {i} {'of a kind ' * int(draw.integers(1, 20))}\nGive as JSON: material"
        requests.append(ChatRequest((picture, text), json_schema=schema, max_tokens=tokens))
    return requests


def bare(chat: HfChat, requests: list[ChatRequest], batch_size: int) -> int:
    """Tokens said: nothing but the processor and generate, over batches of similar length."""
    import torch
    from transformers import GenerationConfig

    checkpoint = chat._checkpoint
    assert checkpoint is not None
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=requests[0].max_tokens,
        eos_token_id=list(checkpoint.ends),
        pad_token_id=checkpoint.pad,
    )
    ordered = sorted(requests, key=lambda request: len(str(request.parts[-1])))
    said = 0
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        messages = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.parts[-1]}]}]
            for request in batch
        ]
        texts = checkpoint.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = checkpoint.processor(
            text=texts, images=[[request.parts[0]] for request in batch], padding=True, return_tensors="pt"
        ).to(checkpoint.device, checkpoint.model.dtype)
        with torch.inference_mode():
            ids = checkpoint.model.generate(**inputs, generation_config=settings)
        new = ids[:, inputs["input_ids"].shape[1] :]
        checkpoint.tokenizer.batch_decode(new, skip_special_tokens=True)
        said += sum(_length(row, checkpoint.ends) for row in new.tolist())
    return said


def _length(row: list[int], ends: tuple[int, ...]) -> int:
    return next((i + 1 for i, token in enumerate(row) if token in ends), len(row))


def ours(chat: HfChat, requests: list[ChatRequest]) -> int:
    """Tokens said by Chat.generate."""
    return sum(reply.usage.completion_tokens for reply in chat.generate(requests))


def main(
    model: Annotated[str, typer.Option(help="Folder, name of the model table, or hub repository.")] = "",
    n: Annotated[int, typer.Option(help="Requests a round.")] = 64,
    tokens: Annotated[int, typer.Option(help="Tokens of each reply.")] = 48,
    batch_size: Annotated[int, typer.Option(help="Requests answered at once.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds; the first is not counted.")] = 6,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tokens a second of hf: beside bare transformers.

    Example: python benchmarks/bench_chat_hf.py --n 64
    """
    with tempfile.TemporaryDirectory() as folder:
        chat = open_chat(model or str(_random_model(Path(folder))), batch_size=batch_size)
        assert isinstance(chat, HfChat)
        free, bound = make_requests(n, tokens), make_requests(n, tokens, ENDLESS)
        arms: dict[str, Callable[[], int]] = {
            "bare": lambda: bare(chat, free, batch_size),
            "ours": lambda: ours(chat, free),
            "constrained": lambda: ours(chat, bound),
        }
        clock = time.process_time if chat._checkpoint and chat._checkpoint.device == "cpu" else time.perf_counter
        speeds: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds):
            for name, arm in arms.items():
                start = clock()
                said = arm()
                if number:
                    speeds[name].append(said / (clock() - start))
        chat.close()
    ratios = {
        "ours_to_bare": statistics.median(a / b for a, b in zip(speeds["ours"], speeds["bare"], strict=True)),
        "constrained_to_free": statistics.median(
            a / b for a, b in zip(speeds["constrained"], speeds["ours"], strict=True)
        ),
    }
    tokens_per_s = {name: round(statistics.median(found)) for name, found in speeds.items()}
    if json:
        print_json({"n": n, "rounds": rounds - 1, "tokens_per_s": tokens_per_s, **ratios})
        return
    say(f"{n} requests of one picture, {tokens} tokens each, batches of {batch_size}, {rounds - 1} rounds")
    for name, speed in tokens_per_s.items():
        print(f"{name:12} {speed:8,} tokens/s")
    for name, ratio in ratios.items():
        print(f"{name:20} {ratio:.3f}")


def _random_model(folder: Path) -> Path:
    """The tiny Qwen2.5-VL of the tests."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("tiny_models", Path(__file__).parent.parent / "tests" / "tiny_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.tiny_vlm(folder)
    return made


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_chat_hf.py"))
