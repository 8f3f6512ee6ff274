"""What the service is asked and what it answers, as the bytes of JSON bodies.

One set of classes checks requests, writes answers and is the schema in /openapi.json. They are msgspec's and not
pydantic's: bytes are checked while they are decoded, in C, so that a body that is nested too deeply, or holds what is
not foreseen, is refused at the first such byte. Knows no HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from lore_mm.item_rows import key_fault, read_item, read_text
from lore_mm.types import Item, ItemFeatures, Understanding

__all__ = [
    "MOST_PAIRS",
    "Asked",
    "BadBodyError",
    "FeaturesReply",
    "FeaturesRequest",
    "InlineItem",
    "JudgeRequest",
    "Judged",
    "JudgedBatch",
    "JudgedPair",
    "OneItem",
    "Pair",
    "Problem",
    "SearchHit",
    "SearchReply",
    "SearchRequest",
    "Standing",
    "UnderstandReply",
    "UnderstandRequest",
    "asked_of",
    "check_id",
    "check_query",
    "decode",
]

MOST_PAIRS = 1000
_Body = TypeVar("_Body")

Text = Annotated[str, Meta(min_length=1, max_length=512)]
Words = Annotated[str, Meta(max_length=10_000)]
_Value = Annotated[str, Meta(max_length=10_000)] | float | bool
Grade = Literal["L1", "L2", "L3", "L4"]
ServedBy = Literal["cache", "student", "llm", "rules"]


class BadBodyError(Exception):
    """A body that cannot be served; its text says why, `status` is that of HTTP."""

    def __init__(self, detail: str, status: int = 422) -> None:
        super().__init__(detail)
        self.status = status


class InlineItem(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An item that is in no store, as its seller describes it. Pictures are only looked at where a store has them."""

    title: Annotated[str, Meta(min_length=1, max_length=10_000)]
    item_id: Annotated[str, Meta(min_length=1, max_length=512)] = "inline"
    description: Annotated[str, Meta(max_length=100_000)] = ""
    category: Words | None = None
    brand: Words | None = None
    attributes: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=512)], _Value | Annotated[list[_Value], Meta(max_length=100)]
        ],
        Meta(max_length=200),
    ] = {}
    price: Annotated[float, Meta(ge=0)] | None = None
    currency: Annotated[str, Meta(max_length=16)] | None = None
    store: Words | None = None


class Pair(Struct, forbid_unknown_fields=True):
    """A query, and an item of the store by its id, or the item itself."""

    query: Text
    item_id: Text | None = None
    item: InlineItem | None = None


class JudgeRequest(Struct, forbid_unknown_fields=True):
    """One pair (`query` with `item_id` or `item`), one query with several items (`item_ids`), or any `pairs`.

    With `explain` each judgment comes with its path, a line a leg.
    """

    query: Text | None = None
    item_id: Text | None = None
    item: InlineItem | None = None
    item_ids: Annotated[list[Text], Meta(min_length=1, max_length=MOST_PAIRS)] | None = None
    pairs: Annotated[list[Pair], Meta(min_length=1, max_length=MOST_PAIRS)] | None = None
    explain: bool = False


class SearchRequest(Struct, forbid_unknown_fields=True):
    """The `k` items nearest to a query, among those that meet the condition `where`, judged and put in order."""

    query: Text
    k: Annotated[int, Meta(ge=1, le=200)] = 20
    where: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    judge: bool = True
    explain: bool = False


class FeaturesRequest(Struct, forbid_unknown_fields=True):
    """Items by their ids."""

    item_ids: Annotated[list[Text], Meta(min_length=1, max_length=MOST_PAIRS)]


class UnderstandRequest(Struct, forbid_unknown_fields=True):
    """Queries to be read into demands."""

    queries: Annotated[list[Text], Meta(min_length=1, max_length=100)]


class Judged(Struct):
    """A judgment but for its query: what a cache keeps of it. `grade` is null, with `error`, where there is none.

    `maker` says who judged, and why no other; `path` comes where it was asked for.
    """

    item_id: str
    grade: Grade | None
    score: float | None
    probabilities: tuple[float, float, float, float] | None
    failed_dimensions: list[str]
    status: Literal["ok", "failed"]
    error: str | None
    served_by: ServedBy | None
    maker: str


class JudgedPair(Judged):
    """A judgment of a pair."""

    query: str
    path: str | msgspec.UnsetType = msgspec.UNSET


class JudgedBatch(Struct):
    """A judgment for each pair, in the order of the request."""

    judgments: list[JudgedPair]


class SearchHit(Struct):
    """An item found. `similarity` is the cosine to the query; `judgment` is null where none was asked for."""

    item_id: str
    similarity: float
    title: str | None
    judgment: JudgedPair | None


class SearchReply(Struct):
    """Items from the best down: by grade, then score, then similarity; those without a grade come last."""

    query: str
    hits: list[SearchHit]


class OneItem(Struct):
    """An item with what was extracted from it; `features` is null, with `error`, where there is none."""

    item_id: str
    features: ItemFeatures | None
    error: str | None = None


class FeaturesReply(Struct):
    """An entry for each id, in the order of the request."""

    items: list[OneItem]


class UnderstandReply(Struct):
    """An understanding for each query, in the order of the request."""

    understandings: list[Understanding]


class Standing(Struct):
    """How the service stands, and at which versions. Who shows no key is told the status alone."""

    status: Literal["ready", "draining"]
    versions: dict[str, Any] = {}


class Problem(Struct):
    """What went wrong (RFC 9457). `code` names it for programs."""

    title: str
    status: int
    detail: str
    code: str
    type: str = "about:blank"


class Asked(Struct, frozen=True):
    """A pair to judge: an item by id, or the item itself."""

    query: str
    item_id: str
    item: Item | None = None


def decode(body: bytes, kind: type[_Body]) -> _Body:
    """A body as one of the classes above.

    Raises:
        BadBodyError: it is not; the text names the place and the fault.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadBodyError(_safe(str(error))) from None
    except UnicodeDecodeError as error:
        raise BadBodyError(f"the body is not UTF-8: byte {error.start} of a text", 400) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadBodyError(f"the body is not JSON: {_safe(str(error))}", 400) from None


def asked_of(request: JudgeRequest) -> list[Asked]:
    """The pairs of a request.

    Raises:
        BadBodyError: it does not say which, or a text in it cannot be one.
    """
    one = (request.item_id is not None) + (request.item is not None) + (request.item_ids is not None)
    if request.pairs is not None:
        if one or request.query is not None:
            raise BadBodyError("pairs name their own queries and items: leave out query, item_id, item and item_ids")
        return [_asked(p.query, p.item_id, p.item, f"pairs[{i}]: ") for i, p in enumerate(request.pairs)]
    if request.query is None or one != 1:
        raise BadBodyError("legal: a query with one of item_id, item and item_ids; or pairs")
    if request.item_ids is not None:
        return [_asked(request.query, i, None, "") for i in request.item_ids]
    return [_asked(request.query, request.item_id, request.item, "")]


def check_query(text: str, where: str = "") -> str:
    """A query's text.

    Raises:
        BadBodyError: it is empty or holds control characters.
    """
    faults: list[str] = [] if text.strip() else ["query: empty"]
    read_text(text, "query", faults, kept=False)
    if faults:
        raise BadBodyError(where + faults[0])
    return text


def check_id(item_id: str, where: str = "") -> str:
    """An item's id.

    Raises:
        BadBodyError: it cannot be one.
    """
    if fault := key_fault(item_id, "item_id"):
        raise BadBodyError(f"{where}item_id: {fault}")
    return item_id


def _asked(query: str, item_id: str | None, inline: InlineItem | None, where: str) -> Asked:
    check_query(query, where)
    if inline is None:
        if item_id is None:
            raise BadBodyError(f"{where}name the item: item_id, or item")
        return Asked(query, check_id(item_id, where))
    if item_id is not None:
        raise BadBodyError(f"{where}name one of item_id and item; an item has its own item_id")
    check_id(inline.item_id, where)
    item, fault = read_item(msgspec.structs.asdict(inline))
    if fault:
        raise BadBodyError(f"{where}item: {fault}")
    return Asked(query, item.item_id, item)


def _safe(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:500]
