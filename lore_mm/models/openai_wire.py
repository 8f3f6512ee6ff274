"""What goes over the wire to an OpenAI-compatible server, and what its answers mean. Pure: it opens no connection.

Pictures travel as PNG: without loss, so that a server sees the very pixels an engine in this process would, and the
same bytes for the same picture. Replies are read as from a stranger: each field may be missing, mistyped or absurd.
"""

from __future__ import annotations

import base64
import codecs
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from lore_mm.models.chat import ChatReply, ChatRequest, Token, Usage
from lore_mm.models.json_reply import fault, in_order, read_json, spelled
from lore_mm.text import normalize

__all__ = ["Trouble", "body_of", "failed", "messages_of", "read_object", "read_reply", "said", "usage_of"]

_KEPT = 16_000  # characters of a raw answer kept with an error
_SAID = 300  # characters of a server's message
_ONE_CALL = Usage(calls=1)
_MOST_TOKENS = 10**9
_HALF = "\ufffd"
_SPECIAL = re.compile(r"<[^<>\s]*>|\[[A-Z_]+\]")  # such as <|im_end|>, </s> and [EOS]
_LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"\[\]{},:]+|[\[\]{},:]', re.DOTALL)


class Trouble(Exception):
    """An attempt that brought no answer: the reason, the raw text, and what may be done about it."""

    def __init__(
        self, reason: str, text: str = "", *, again: bool = False, wait: float | None = None, reached: bool = True
    ) -> None:
        super().__init__(reason)
        self.text = text
        self.again = again  # another attempt may help
        self.wait = wait  # seconds the server asks to wait before it
        self.reached = reached  # the server was there


def messages_of(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages of a request: the system's, then the user's parts in order, pictures as PNG in data URIs."""
    content: str | list[dict[str, Any]]
    if len(request.parts) == 1 and isinstance(request.parts[0], str):
        content = _clean(request.parts[0])  # the plain form, which every server reads
    else:
        content = [
            {"type": "text", "text": _clean(part)}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": _data_uri(part)}}
            for part in request.parts
        ]
    system = [{"role": "system", "content": _clean(request.system)}] if request.system else []
    return [*system, {"role": "user", "content": content}]


def _data_uri(picture: Image) -> str:
    file = io.BytesIO()
    # compression 1 takes a quarter of the time of the default 6 and 6 % more bytes
    picture.convert("RGB").save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def body_of(request: ChatRequest, model: str, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of POST /chat/completions for a request that is answered by a text."""
    body: dict[str, Any] = {
        "model": model,
        "messages": list(messages),
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.logprobs:
        body["logprobs"] = True
    if request.json_schema is not None:
        form = {"name": "answer", "schema": _typed(request.json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def _typed(schema: Any) -> Any:
    """The schema with a type beside every list of texts: some servers want one in each sub-schema."""
    if isinstance(schema, Mapping):
        typed = {key: value if key == "enum" else _typed(value) for key, value in schema.items()}
        if (
            "type" not in typed
            and isinstance(typed.get("enum"), list)
            and all(isinstance(v, str) for v in typed["enum"])
        ):
            typed = {"type": "string", **typed}
        return typed
    return [_typed(one) for one in schema] if isinstance(schema, list) else schema


def failed(reason: str, text: str = "", usage: Usage = _ONE_CALL) -> ChatReply:
    """A reply that is an error, with the raw text that came."""
    kept = text if len(text) <= _KEPT else text[:_KEPT] + "…"
    return ChatReply(_clean(kept), "error", usage=usage, error=reason)


def said(text: str) -> str:
    """What a server says went wrong, in one line: the message of its JSON, or the beginning of what it sent."""
    message: object = text
    try:
        body = read_json(text)
        inner = body.get("error", body) if isinstance(body, dict) else body
        if isinstance(inner, dict):
            message = inner.get("message") or inner.get("detail") or text
        elif isinstance(inner, str):
            message = inner
    except ValueError:
        message = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text[:100_000], flags=re.DOTALL | re.IGNORECASE)
    line = normalize(message if isinstance(message, str) else json.dumps(message))
    return line if len(line) <= _SAID else line[:_SAID] + "…"


def read_object(text: str) -> dict[str, Any]:
    """The JSON object a server sent.

    Raises:
        ValueError: it is something else; the text says what.
    """
    try:
        body = read_json(text)
    except ValueError as error:
        begins = normalize(text[:60])
        raise ValueError(f"the server's answer is no JSON ({error})" + (f": {begins}" if begins else "")) from None
    if not isinstance(body, dict):
        raise ValueError("the server's answer is JSON, but no object")
    if body.get("error"):
        raise ValueError(f"the server says: {said(text)}")
    return body


def usage_of(body: Mapping[str, Any]) -> Usage:
    """One call, and its tokens as far as the server tells them in earnest."""
    told = body.get("usage")
    counts = told if isinstance(told, dict) else {}

    def count(name: str) -> int:
        number = counts.get(name)
        whole = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST_TOKENS
        return number if whole else 0  # type: ignore[return-value]

    return Usage(1, count("prompt_tokens"), count("completion_tokens"))


def read_reply(text: str, request: ChatRequest) -> ChatReply:
    """The reply in the body of a successful answer; whatever is wrong with it is the reply's error."""
    try:
        body = read_object(text)
    except ValueError as error:
        return failed(str(error), text)
    usage = usage_of(body)
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        return failed("the server's answer holds no choice with a message", text, usage)
    content, finish = message.get("content"), first.get("finish_reason")
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        return failed(f"the model refused: {said(refusal)}", refusal, usage)
    if finish == "content_filter":
        return failed("the server's filter held the reply back", content if isinstance(content, str) else text, usage)
    if not isinstance(content, str):
        broke = f" (it broke off at max_tokens = {request.max_tokens})" if finish == "length" else ""
        return failed(f"the model's message has no text{broke}", text, usage)
    tokens = _joined(content, first.get("logprobs")) if request.logprobs else ()
    if request.json_schema is not None:
        return _constrained(content, finish, tokens, request, usage)
    return ChatReply(_clean(content), "length" if finish == "length" else "stop", tokens, (), usage)


def _constrained(
    content: str, finish: object, tokens: tuple[Token, ...], request: ChatRequest, usage: Usage
) -> ChatReply:
    assert request.json_schema is not None
    if finish == "length":
        return failed(f"the reply broke off at max_tokens = {request.max_tokens}", content, usage)
    try:
        value = read_json(content)
    except ValueError as error:
        return failed(f"the reply is {error}; does the server obey response_format?", content, usage)
    if wrong := fault(value, request.json_schema):
        return failed(f"the reply breaks the schema: {wrong}", content, usage)
    answer = _clean(spelled(in_order(value, request.json_schema)))
    return ChatReply(answer, "stop", _respelled(content, answer, tokens), (), usage)


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which no file could hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _joined(content: str, told: object) -> tuple[Token, ...]:
    """The tokens of a reply such that their texts join to it; none where the server's do not.

    Where a character is spread over tokens it belongs to the last of them.
    """
    entries = told.get("content") if isinstance(told, dict) else None
    if not isinstance(entries, list):
        return ()
    tokens = [_token(entry) for entry in entries]
    if any(token is None for token in tokens):
        return ()
    known = [token for token in tokens if token is not None]
    return _prefix(content, known) or _prefix(content, _decoded(known, entries))


def _token(entry: object) -> Token | None:
    if not isinstance(entry, dict):
        return None
    text, logprob = entry.get("token"), entry.get("logprob")
    if not isinstance(text, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    return Token(text, min(0.0, float(logprob))) if math.isfinite(logprob) else None


def _prefix(content: str, tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The tokens with their texts such that they join to the content, or none where they do not fit it.

    Special tokens, which stand in no reply, are left out. A server may write the half letters of a reply as U+FFFD and
    give their tokens without text: such marks belong to the token that follows.
    """
    made: list[Token] = []
    at = 0
    for token in tokens:
        marks = len(content) - at - len(content[at:].lstrip(_HALF)) if content.startswith(_HALF, at) else 0
        ends = (at + n + len(token.text) for n in range(marks + 1) if _stands(token.text, content, at + n))
        end = next(ends, None)
        if end is not None:
            made.append(Token(content[at:end], token.logprob))
            at = end
        elif at < len(content) and not _SPECIAL.fullmatch(token.text):
            return ()
    if made and not content[at:].strip(_HALF):
        made[-1] = Token(made[-1].text + content[at:], made[-1].logprob)
        at = len(content)
    return tuple(made) if at == len(content) else ()


def _stands(text: str, content: str, at: int) -> bool:
    """Whether the text of a token stands there; a mark of its own is the end of a letter begun by tokens before."""
    there = content[at : at + len(text)]
    return len(there) == len(text) and all(a in (b, _HALF) for a, b in zip(text, there, strict=True))


def _decoded(tokens: Sequence[Token], entries: Sequence[Mapping[str, Any]]) -> list[Token]:
    """The tokens with their texts decoded from the bytes the server gives beside them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    made = []
    for token, entry in zip(tokens, entries, strict=True):
        try:
            made.append(Token(decoder.decode(bytes(entry.get("bytes") or ())), token.logprob))
        except (TypeError, ValueError):
            return []
    return made


def _respelled(raw: str, spelling: str, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """The tokens of `raw` carried over to another spelling of the same JSON.

    Blanks of the raw text vanish, with the tokens that are nothing else; blanks of the spelling belong to the token
    before. Where more than blanks differs (the order of keys, escapes, the form of a number) there are no tokens.
    """
    if raw == spelling or not tokens:
        return tokens
    before, after = list(_LEXEME.finditer(raw)), list(_LEXEME.finditer(spelling))
    if [m.group() for m in before] != [m.group() for m in after]:
        return ()
    owner = [i for i, token in enumerate(tokens) for _ in token.text]
    texts = [""] * len(tokens)
    last, at = owner[before[0].start()], 0
    for old, new in zip(before, after, strict=True):
        texts[last] += spelling[at : new.start()]
        for offset, character in enumerate(new.group()):
            last = owner[old.start() + offset]
            texts[last] += character
        at = new.end()
    return tuple(Token(text, token.logprob) for text, token in zip(texts, tokens, strict=True) if text)
