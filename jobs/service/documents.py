"""The service's OpenAPI document, made from the classes that check its bodies. Knows no request."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from jobs.service import bodies
from jobs.service.problems import PROBLEM_JSON
from lore_mm import __version__

__all__ = ["describe", "takes"]

_KINDS = (
    *(bodies.JudgeRequest, bodies.JudgedPair, bodies.JudgedBatch, bodies.SearchRequest, bodies.SearchReply),
    *(bodies.OneItem, bodies.FeaturesRequest, bodies.FeaturesReply, bodies.UnderstandRequest),
    *(bodies.UnderstandReply, bodies.Standing, bodies.Problem),
)
_AT = "#/components/schemas/{name}"
_WHAT = """Judgments of how relevant items are to queries, and why; search; features of items.

L4 satisfies the query, L3 is near, L2 breaks a demand, L1 is something else. A pair that could not be judged has no
grade, and an error that says why. Whatever is not a 2xx is application/problem+json (RFC 9457)."""


def takes(request: type | None, *replies: type | None) -> dict[str, Any]:
    """What a route's entry says of its request's body and its answers."""
    schemas = [_schema(kind) for kind in replies if kind is not None]
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if schemas:
        content = {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
    said: dict[str, Any] = {
        "responses": {
            "200": {"description": "done", "content": content},
            "default": {"description": "a problem", "content": {PROBLEM_JSON: {"schema": _schema(bodies.Problem)}}},
        }
    }
    if request is not None:
        body = {"required": True, "content": {"application/json": {"schema": _schema(request)}}}
        said["requestBody"] = body
    return said


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document, with the schemas that `takes` points to."""
    said = get_openapi(title="lore-mm", version=__version__, description=_WHAT, routes=app.routes)
    _, schemas = msgspec.json.schema_components(_KINDS, ref_template=_AT)
    for name in ("HTTPValidationError", "ValidationError"):
        said.get("components", {}).get("schemas", {}).pop(name, None)
    for operations in said["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    kept = said.setdefault("components", {})
    kept["schemas"] = {**kept.get("schemas", {}), **schemas}
    bearer = {"type": "http", "scheme": "bearer"}
    kept["securitySchemes"] = {"bearer": bearer, "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    said["security"] = [{"bearer": []}, {"key": []}, {}]
    return said


def _schema(kind: type) -> dict[str, Any]:
    (one,), _ = msgspec.json.schema_components([kind], ref_template=_AT)
    return one
