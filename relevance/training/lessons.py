"""Rows as lessons: the tokens of prompt and answer, and which rows cannot be taught and why.

A prompt ends where the model is to speak, as it does when a judge asks; the answer is the chain and the token that ends
a turn. Nothing is ever cut off: a row with too many tokens is left out, and told.

Imported only where a model is trained: datasets comes with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from PIL.Image import Image

from lore_mm.console import progress
from lore_mm.errors import InputError, PictureError
from lore_mm.images import PicturePolicy, load_picture
from relevance.chain import Depth
from relevance.training.config import TrainingConfig
from relevance.training.model import TrainingModel
from relevance.training.rows import ChainRow, completion, has_chain, messages

__all__ = ["IGNORED", "LeftOut", "Lessons", "Teller", "make_lessons", "turn_end"]

IGNORED = -100  # label of a token that nothing is learned from
_AT_ONCE, _THREADS = 64, 8  # rows whose pictures are held at once, and read at once


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not taught: `kind` is chain, length or picture; `why` says it in words."""

    row: ChainRow
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is taught: `dataset` for TRL (a row of it is a row of `rows`), their `lengths` in tokens, who was left out.

    The dataset holds tokens and labels; where rows have pictures, texts and pictures, read when they are wanted.
    """

    dataset: Any
    rows: tuple[ChainRow, ...]
    lengths: tuple[int, ...]
    left_out: tuple[LeftOut, ...]

    def told(self) -> dict[str, int]:
        """How many rows were left out, by kind."""
        return dict(Counter(one.kind for one in self.left_out))


class Teller:
    """How a model is told rows: by its own chat template, with pictures behind the words where it `sees` them."""

    def __init__(self, trained: TrainingModel, config: TrainingConfig) -> None:
        self.tokenizer, self.processor = trained.tokenizer, trained.processing_class if trained.is_vlm else None
        template = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        self._template = template if isinstance(template, str) else None
        self._policy = PicturePolicy(max_side=config.picture_side)
        self.sees = trained.is_vlm and config.pictures
        self.end = turn_end(self.tokenizer, self._template, self.processor is not None)

    def pictures(self, row: ChainRow) -> list[Image]:
        """A row's pictures, decoded; none where the model is shown none.

        Raises:
            PictureError: one cannot be read.
        """
        return [load_picture(ref, row.picture_root, self._policy).image for ref in row.pictures] if self.sees else []

    def prompt(self, row: ChainRow) -> str:
        """The conversation up to where the model speaks."""
        turns: list[dict[str, Any]] = [dict(one) for one in messages(row)]
        if self.processor is not None:
            for turn in turns:
                turn["content"] = [{"type": "text", "text": turn["content"]}]
            turns[-1]["content"] += [{"type": "image"}] * (len(row.pictures) if self.sees else 0)
        return _rendered(self.tokenizer, self._template, turns)

    def answer(self, row: ChainRow, depth: Depth, config: TrainingConfig) -> str:
        """What the model is to say, and the end of its turn."""
        return completion(row, depth, config.order, config.cite) + self.end

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that stands as it is."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def length(self, prompt: str, pictures: Sequence[Image]) -> int:
        """The tokens of a prompt, those of its pictures included."""
        if not pictures or self.processor is None:
            return len(self.tokens(prompt))
        made = self.processor(text=[prompt], images=[list(pictures)], add_special_tokens=False)
        return len(made["input_ids"][0])


def turn_end(tokenizer: Any, template: str | None = None, in_parts: bool = False) -> str:
    """What a chat template writes behind an answer to end it: `<|im_end|>`, say; the tokenizer's own end if nothing."""
    said = "1"
    content: Any = [{"type": "text", "text": said}] if in_parts else said
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": content}]
    text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    behind = text[text.rindex(said) + 1 :]
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"]
    special = [one for one in ids if one in set(tokenizer.all_special_ids)]
    end: str = tokenizer.convert_ids_to_tokens(special[0]) if special else tokenizer.eos_token
    return end


def make_lessons(rows: Sequence[ChainRow], depth: Depth, teller: Teller, config: TrainingConfig) -> Lessons:
    """The rows' chains at a depth, as a data set; rows that cannot be taught are left out.

    Raises:
        InputError: nothing is left to teach; or, under `strict`, any row cannot be taught.
    """
    kept: list[ChainRow] = []
    lessons: list[_Lesson] = []
    left_out: list[LeftOut] = []
    with progress(f"reading rows for {depth}", len(rows)) as advance:
        for row, found in zip(rows, _lessons(rows, depth, teller, config), strict=True):
            advance(1)
            if isinstance(found, _Lesson):
                kept.append(row)
                lessons.append(found)
                continue
            if config.strict:
                raise InputError(f"{row.query_id} – {row.item_id}: {found.why}")
            left_out.append(found)
    if not kept:
        why = f", the first because: {left_out[0].why}" if left_out else ""
        raise InputError(f"step {depth}: of {len(rows):,} rows none can be taught{why}")
    if any(one.pictures for one in lessons):
        dataset = _shown(kept, lessons, teller)
    else:
        dataset = Dataset.from_list([one.labelled() for one in lessons])
    return Lessons(dataset, tuple(kept), tuple(one.length for one in lessons), tuple(left_out))


@dataclass(frozen=True, slots=True)
class _Lesson:
    """Prompt and answer as text, their tokens where there are no pictures, and how many they are with them."""

    prompt: str
    answer: str
    asked: tuple[int, ...]
    answered: tuple[int, ...]
    pictures: int
    length: int

    def labelled(self) -> dict[str, Any]:
        labels = [IGNORED] * len(self.asked) + list(self.answered)
        return {"input_ids": [*self.asked, *self.answered], "labels": labels}


def _lessons(
    rows: Sequence[ChainRow], depth: Depth, teller: Teller, config: TrainingConfig
) -> Iterator[_Lesson | LeftOut]:
    """The lesson of each row, or why there is none; pictures are read in threads."""

    def read(row: ChainRow) -> list[Image] | PictureError:
        try:
            return teller.pictures(row)
        except PictureError as error:
            return error

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures") as pool:
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            for row, pictures in zip(some, pool.map(read, some), strict=True):
                yield _lesson(row, depth, teller, config, pictures)


def _lesson(
    row: ChainRow, depth: Depth, teller: Teller, config: TrainingConfig, pictures: list[Image] | PictureError
) -> _Lesson | LeftOut:
    if not has_chain(row):
        return LeftOut(row, "chain", row.error or "the row has no chain")
    if isinstance(pictures, PictureError):
        return LeftOut(row, "picture", str(pictures))
    prompt, answer = teller.prompt(row), teller.answer(row, depth, config)
    answered = tuple(teller.tokens(answer))
    asked = () if pictures else tuple(teller.tokens(prompt))
    length = len(answered) + (teller.length(prompt, pictures) if pictures else len(asked))
    if length > config.max_length:
        return LeftOut(row, "length", f"{length:,} tokens, max_length is {config.max_length:,}")
    return _Lesson(prompt, answer, asked, answered, len(pictures), length)


def _shown(rows: Sequence[ChainRow], lessons: Sequence[_Lesson], teller: Teller) -> Any:
    """Texts and pictures, the pictures read when a batch is made of them."""

    def show(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        places = batch["row"]
        return {
            "row": places,
            "prompt": [lessons[i].prompt for i in places],
            "completion": [lessons[i].answer for i in places],
            "images": [teller.pictures(rows[i]) for i in places],
        }

    return Dataset.from_dict({"row": list(range(len(rows)))}).with_transform(show)


def _rendered(tokenizer: Any, template: str | None, turns: Sequence[dict[str, Any]]) -> str:
    text: str = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True)
    return text
