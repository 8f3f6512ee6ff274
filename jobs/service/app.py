"""The routes of the service. What a body may be is said by `bodies`, what is done with it by `service`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from jobs.service import bodies
from jobs.service.bodies import BadBodyError, decode
from jobs.service.desk import Desk, no_item
from jobs.service.documents import describe, takes
from jobs.service.gate import FAULT, Gate
from jobs.service.problems import PROBLEM_JSON, ProblemError, problem_body
from jobs.service.service import Service, as_pair, by_of, reply_bytes
from lore_mm.console import say
from lore_mm.errors import InputError, LoreError, ModelError

__all__ = ["build_app"]

_JSON = "application/json"
_Body = TypeVar("_Body")


def build_app(service: Service, hosts: set[str] | None = None) -> Gate:
    """The service as an ASGI application. `hosts`: see `gate.Gate`."""
    # no pages that would load scripts from elsewhere; and no redirect, which would trust the header Host
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for kind in (HTTPException, ProblemError, BadBodyError, LoreError, Exception):
        app.add_exception_handler(kind, _explain(service))
    _judging(app, service)
    _looking_up(app, service)
    _watching(app, service)
    described = msgspec.json.encode(describe(app))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(described, media_type=_JSON)

    return Gate(app, service, hosts)


# ------------------------------------------------------------------------------------------------------------ routes


def _judging(app: FastAPI, service: Service) -> None:
    @app.post("/judge", openapi_extra=takes(bodies.JudgeRequest, bodies.JudgedPair, bodies.JudgedBatch))
    async def judge(request: Request) -> Response:
        """Judge one pair, several items for a query, or many pairs.

        One pair gets its judgment, several get a list in the order of the request. The header x-served-by tells who
        made them: cache, student, llm, rules, none.
        """
        asked_for = await _read(request, bodies.JudgeRequest)
        asked = bodies.asked_of(asked_for)
        with service.desk() as desk:
            judged = await service.judge(desk, asked, asked_for.explain)
        parts = [reply_bytes(j, one.query, asked_for.explain) for j, one in zip(judged, asked, strict=True)]
        headers = _of(desk) | {"x-served-by": ", ".join(sorted({by_of(j) for j in judged}))}
        if asked_for.query is not None and asked_for.item_ids is None:
            first = judged[0]
            if isinstance(first, bodies.JudgedPair) and first.error == no_item(first.item_id):
                raise ProblemError(404, "no-item", first.error)
            return Response(parts[0], headers=headers, media_type=_JSON)
        return Response(b'{"judgments":[' + b",".join(parts) + b"]}", headers=headers, media_type=_JSON)

    @app.post("/search", openapi_extra=takes(bodies.SearchRequest, bodies.SearchReply))
    async def search(request: Request) -> Response:
        """Find the items nearest to a query, and judge them; the best come first."""
        asked_for = await _read(request, bodies.SearchRequest)
        query = bodies.check_query(asked_for.query)
        with service.desk() as desk:
            if desk.no_search is not None:
                raise ProblemError(503, "no-search", desk.no_search)
            limit = service.limits.timeout_s
            found = await service.do(lambda: desk.search(query, asked_for.k, asked_for.where, limit), asked_for.k)
            judged = None
            if asked_for.judge:
                asked = [bodies.Asked(query, item_id) for item_id, _ in found]
                made = await service.judge(desk, asked, asked_for.explain)
                judged = [as_pair(one, query, asked_for.explain) for one in made]
            hits = await service.do(lambda: desk.hits(query, found, judged))
        return _reply(desk, bodies.SearchReply(query, hits))


def _looking_up(app: FastAPI, service: Service) -> None:
    @app.get("/features/{item_id:path}", openapi_extra=takes(None, bodies.OneItem))
    async def features_of(item_id: str) -> Response:
        """One item, with what was extracted from it."""
        with service.desk() as desk:
            found = await _features(service, desk, [bodies.check_id(item_id)])
        if found[0].features is None:
            raise ProblemError(404, "no-item", no_item(item_id))
        return _reply(desk, found[0])

    @app.post("/features", openapi_extra=takes(bodies.FeaturesRequest, bodies.FeaturesReply))
    async def features(request: Request) -> Response:
        """Many items, with what was extracted from each, in the order of the request."""
        asked_for = await _read(request, bodies.FeaturesRequest)
        ids = [bodies.check_id(item_id) for item_id in asked_for.item_ids]
        with service.desk() as desk:
            return _reply(desk, bodies.FeaturesReply(await _features(service, desk, ids)))

    @app.post("/understand", openapi_extra=takes(bodies.UnderstandRequest, bodies.UnderstandReply))
    async def understand(request: Request) -> Response:
        """Read queries into demands."""
        asked_for = await _read(request, bodies.UnderstandRequest)
        texts = [bodies.check_query(text) for text in asked_for.queries]
        with service.desk() as desk:
            read = await service.do(lambda: desk.understand(texts), len(texts))
        return _reply(desk, bodies.UnderstandReply(read))


def _watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", openapi_extra=takes(None, bodies.Standing))
    async def healthz(request: Request) -> Response:
        """Whether requests are served, and by which versions; these only for who shows a key, where keys are asked."""
        if service.draining:
            raise ProblemError(
                503, "draining", "the service ends; what it has accepted is answered", {"retry-after": "5"}
            )
        told = service.standing() if _known(service, request) else {}
        return Response(msgspec.json.encode(bodies.Standing("ready", told)), media_type=_JSON)

    @app.get("/metrics", openapi_extra=takes(None, None))
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/reload", openapi_extra=takes(None, bodies.Standing))
    async def reload() -> Response:
        """Load the store, the rulebook and the models anew; what cannot be loaded leaves all as it is."""
        if not await asyncio.to_thread(service.reload, True):
            raise ProblemError(409, "not-reloaded", service.reload_error or "nothing has changed")
        return Response(msgspec.json.encode(bodies.Standing("ready", service.standing())), media_type=_JSON)


# ------------------------------------------------------------------------------------------------------- their parts


async def _read(request: Request, kind: type[_Body]) -> _Body:
    sent = request.headers.get("content-type", "")
    mime, _, parameters = sent.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    # a page of another site can make a browser send any type but this one without being asked for leave
    if mime.strip().lower() != _JSON or charset not in ("", "utf-8", "utf8"):
        raise ProblemError(415, "not-json", f"legal: content-type: application/json, not {sent!r:.100}")
    return decode(await request.body(), kind)


async def _features(service: Service, desk: Desk, ids: Sequence[str]) -> list[bodies.OneItem]:
    found = await service.do(lambda: desk.snapshot.get(ids), len(ids))
    return [
        bodies.OneItem(item_id, one, None if one is not None else no_item(item_id))
        for item_id, one in zip(ids, found, strict=True)
    ]


def _known(service: Service, request: Request) -> bool:
    if not service.keys:
        return True
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    return service.keys.name_of(given.encode("latin-1", "replace")) is not None


def _reply(desk: Desk, answer: Any) -> Response:
    try:
        body = msgspec.json.encode(answer)
    except UnicodeEncodeError:  # half of a surrogate pair, as only a damaged table holds
        raise ProblemError(404, "not-unicode", "what is stored there is no Unicode") from None
    return Response(body, headers=_of(desk), media_type=_JSON)


def _of(desk: Desk) -> dict[str, str]:
    return {"x-lore-served": desk.sha}


def _explain(service: Service) -> Any:
    async def problem(request: Request, error: Exception) -> Response:
        found = _problem_of(error)
        service.metrics.refused(found.code)
        if found.status >= 500 and found.code == "failed":
            say(f"{request.method} {request.url.path!r}: {error}")
        body = problem_body(found.status, found.code, found.detail)
        return Response(body, found.status, found.headers, PROBLEM_JSON)

    return problem


def _problem_of(error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case BadBodyError(status=status):
            return ProblemError(status, "bad-body", str(error))
        case InputError():
            return ProblemError(422, "bad-input", str(error))
        case ModelError():
            return ProblemError(503, "failed", f"a model is not there: {error}", {"retry-after": "5"})
        case HTTPException(status_code=status, headers=headers):
            code = {404: "no-route", 405: "wrong-method"}.get(status, "refused")
            return ProblemError(status, code, str(error.detail), headers)
        case LoreError():
            return ProblemError(503, "failed", str(error), {"retry-after": "5"})
    return FAULT
