"""Problem details (RFC 9457): every answer that is an error is one of these documents."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:goatstream:problem:"
_SHOWN = 10
_CHARACTERS = 300


class FieldError(BaseModel):
    """What is wrong with one field."""

    at: str = Field(description="Where, e.g. body.k")
    message: str
    reason: str


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description=f"{TYPE}SLUG", examples=[f"{TYPE}invalid-request"])
    title: str
    status: int
    detail: str = Field(description="What was got against what was expected, and what to do")
    errors: list[FieldError] = Field(default_factory=list[FieldError])


class Problem(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status : HTTP status
    slug : str
        Ends the problem's type.
    detail : str
    headers : further ones of the answer
    errors : of single fields
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)

    def response(self) -> Response:
        """The document."""
        document: dict[str, Any] = {
            "type": TYPE + self.slug,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": _clean(self.detail),
        }
        if self.errors:
            document["errors"] = [
                {"at": _clean(e.at), "message": _clean(e.message), "reason": e.reason}
                for e in self.errors
            ]
        return Response(
            msgspec.json.encode(document), self.status, self.headers, media_type=MEDIA_TYPE
        )


def _clean(text: str) -> str:
    """Cut, and without the lone surrogates that a request may hold and no answer can."""
    return text[:_CHARACTERS].encode("utf-8", "replace").decode()


def install(app: FastAPI) -> None:
    """Have every error of the application end as a problem."""
    for kind in (Problem, RequestValidationError, Exception):
        app.add_exception_handler(kind, _on_error)
    app.add_exception_handler(HTTPException, _on_http)


def response_to(error: Exception) -> Response:
    """The document of an error outside the framework."""
    if isinstance(error, Problem):
        return error.response()
    return _invalid(error) if isinstance(error, RequestValidationError) else _fault()


def _on_error(_: Request, error: Exception) -> Response:
    return response_to(error)


def _invalid(error: RequestValidationError) -> Response:
    errors = [
        FieldError(
            at=_clean(".".join(str(part) for part in one["loc"])),
            message=_clean(str(one["msg"])),
            reason=str(one["type"]),
        )
        for one in error.errors()[:_SHOWN]
    ]
    said = "; ".join(f"{e.at}: {e.message}" for e in errors[:3])
    malformed = any(e.reason == "json_invalid" for e in errors)
    status, slug = (400, "malformed-json") if malformed else (422, "invalid-request")
    return Problem(status, slug, said or "the request is not valid", errors=errors).response()


def _on_http(request: Request, error: Exception) -> Response:
    """Errors that the framework finds: no such path, method not allowed."""
    if not isinstance(error, HTTPException):
        return _fault()
    status = error.status_code
    slug = HTTPStatus(status).phrase.lower().replace(" ", "-")
    where = f"{request.method} {request.url.path}"
    detail = f"{where}: {error.detail}; /openapi.json has what there is"
    return Problem(status, slug, detail, headers=error.headers).response()


def _fault() -> Response:
    detail = "a fault of ours, logged with its traceback; the request may be sent again"
    return Problem(500, "internal-error", detail).response()
