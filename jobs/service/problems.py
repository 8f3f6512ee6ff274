"""What went wrong, as problem+json (RFC 9457), for every answer that is not a 2xx. Knows no route."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from jobs.service.bodies import Problem

__all__ = ["PROBLEM_JSON", "ProblemError", "problem_body"]

PROBLEM_JSON = "application/problem+json"
_LONGEST = 600  # characters of a detail
_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}


class ProblemError(Exception):
    """An answer that is a problem. `headers` go with it; `code` names it for programs."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})


def problem_body(status: int, code: str, detail: str) -> bytes:
    """The JSON of a problem; of a long detail the beginning."""
    title = _PHRASES.get(status) or HTTPStatus(status).phrase
    detail = re.sub(r"[\x00-\x1f\x7f]+", " ", detail).encode("utf-8", "replace").decode()
    return msgspec.json.encode(Problem(title, status, detail[:_LONGEST], code))
