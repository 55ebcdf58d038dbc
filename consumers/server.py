"""The application: routes, their documents, and the gate before them."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from consumers import api_answers as answers
from consumers import board_answers as shown
from consumers.board_routes import BoardRoutes
from consumers.gate import route_of
from consumers.keys import Role
from consumers.lane import Lane
from consumers.problems import MEDIA_TYPE, ProblemDocument, install
from consumers.routes import MOST_EVENTS, Routes
from stream.events import TIME_PATTERN, json_schema

API_VERSION = "1.0.0"
_COMPONENTS = "#/components/schemas/"
_MEANINGS = {
    400: "The body is not JSON",
    401: "No API key, or one that is not known",
    403: "The key has not the role",
    404: "Nothing is known of it",
    409: "Not as things stand; `detail` says why",
    411: "A body without its length",
    413: "The body is too large",
    415: "A body that is not application/json",
    421: "The request is for another host",
    422: "The request is not valid; `errors` says where",
    429: "Too many requests under this key; `Retry-After` says when to come again",
    500: "A fault of the server",
    503: "Cannot be had now; `errors` or `detail` says why",
}


@dataclass(frozen=True, slots=True)
class _Documented:
    """One operation, as it is documented."""

    method: str
    path: str
    serve: Callable[..., object]
    answer: type[BaseModel] | None
    errors: tuple[int, ...] = ()
    status: int = 200


def _operations(r: Routes, b: BoardRoutes) -> Sequence[_Documented]:
    asks = (400, 411, 413, 415, 422)
    return (
        _Documented("POST", "/v1/candidates", r.candidates, answers.CandidatesAnswer, asks),
        _Documented("POST", "/v1/candidates/batch", r.batch, answers.BatchAnswer, asks),
        _Documented(
            "GET",
            "/v1/items/{item_id:path}/similar",
            r.similar,
            answers.CandidatesAnswer,
            (404, 422),
        ),
        _Documented("GET", "/v1/users/{user_id:path}", r.user, answers.UserAnswer, (404, 422)),
        _Documented(
            "POST", "/v1/events", r.events, answers.AcceptedAnswer, (*asks, 409, 503), status=202
        ),
        _Documented("GET", "/v1/version", r.version, answers.VersionAnswer),
        _Documented("GET", "/healthz", r.health, answers.AliveAnswer),
        _Documented("GET", "/readyz", r.ready, answers.ReadyAnswer, (503,)),
        _Documented("GET", "/metrics", r.figures, None),
        _Documented("PUT", "/v1/operate/index", r.hold, answers.IndexAnswer, asks),
        _Documented("GET", "/v1/board", b.document, shown.BoardAnswer),
        _Documented("GET", "/v1/board/alignment", b.alignment, shown.MapAnswer),
        _Documented(
            "POST", "/v1/operate/rollback", b.rollback, shown.AskedAnswer, (*asks, 409, 503), 202
        ),
        _Documented(
            "POST", "/v1/operate/acknowledge", b.acknowledge, shown.AskedAnswer, (*asks, 404), 202
        ),
        _Documented("POST", "/v1/operate/mute", b.mute, shown.AskedAnswer, asks, 202),
    )


def application(routes: Routes, board: BoardRoutes, threads: Executor) -> Lane:
    """The routes as an ASGI application; whoever serves it puts a `Gate` before it."""
    return Lane(_framework(routes, board), routes.short(), threads)


def _framework(routes: Routes, board: BoardRoutes) -> FastAPI:
    # Its own pages load scripts from elsewhere: the document is enough.
    app = FastAPI(
        title="goatstream",
        version=API_VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the gate knows the paths as they are
    )
    install(app)
    for path, page in (("/board", board.page), ("/board/{name}", board.asset)):
        app.add_api_route(path, page, include_in_schema=False, response_model=None)
    for one in _operations(routes, board):
        app.add_api_route(
            one.path,
            one.serve,
            methods=[one.method],
            status_code=one.status,
            response_model=None,
            responses=_responses(one),
            name=one.serve.__name__,
            operation_id=one.serve.__name__,
        )
    document = _document(app)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


def _responses(one: _Documented) -> dict[int | str, dict[str, Any]]:
    guarded = route_of(one.path.split("{", maxsplit=1)[0] + "x" if "{" in one.path else one.path)
    statuses = {*one.errors, 421, 500} | ({401, 403, 429} if guarded.role else set())
    found: dict[int | str, dict[str, Any]] = {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_COMPONENTS}ProblemDocument"}}},
        }
        for status in sorted(statuses)
    }
    if one.answer is None:
        text = {"text/plain": {"schema": {"type": "string"}}}
        found[one.status] = {"description": "Figures", "content": text}
    else:
        found[one.status] = {"model": one.answer, "description": (one.answer.__doc__ or "").strip()}
    return found


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: the framework's, with problems, events and keys in full."""
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document = _without_converters(made)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["ProblemDocument"] = _moved(ProblemDocument.model_json_schema(), schemas)
    schemas["Event"] = _moved(_as_taken(json_schema()), schemas)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    event = {"$ref": f"{_COMPONENTS}Event"}
    many = {"type": "array", "items": event, "minItems": 1, "maxItems": MOST_EVENTS}
    document["paths"]["/v1/events"]["post"]["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [event, many]}, "example": _EXAMPLE_EVENT}
        },
    }
    for path, operations in document["paths"].items():
        role = route_of(path.replace("{item_id}", "x").replace("{user_id}", "x")).role
        for operation in operations.values():
            _secured(operation, role)
    return document


_SINCE_1971 = TIME_PATTERN.replace("[0-9]{4}", "(197[1-9]|19[89][0-9]|[2-9][0-9]{3})", 1)
_EXAMPLE_EVENT = {
    "type": "click",
    "event_id": "e-1",
    "occurred_at": "2026-11-23T18:34:00Z",
    "user_id": "u-17",
    "item_id": "sku-9",
}


def _secured(operation: dict[str, Any], role: Role | None) -> None:
    if role is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"{operation.get('description', '')}\n\nRole: {role}".strip()
    # The framework adds its own document of what is not valid: ours are all problems.
    content = operation["responses"].get("422", {}).get("content", {})
    content.pop("application/json", None)


def _without_converters(made: Mapping[str, Any]) -> dict[str, Any]:
    paths = {path.replace(":path}", "}"): value for path, value in made["paths"].items()}
    return {**made, "paths": paths}


def _as_taken(value: Any) -> Any:
    """Say of events what their schema leaves to the contract: that a type and a late time are due.

    A year later than the contract's, because whether a time is of 1970 depends on its zone.
    """
    if isinstance(value, list):
        return list(map(_as_taken, value))
    if not isinstance(value, dict):
        return _SINCE_1971 if value == TIME_PATTERN else value
    found = {k: _as_taken(v) for k, v in cast(dict[str, Any], value).items()}
    if "const" in found.get("properties", {}).get("type", {}):
        found["required"] = ["type", *found.get("required", ())]
    return found


def _moved(schema: Mapping[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema whose definitions have become components."""

    for name, definition in schema.get("$defs", {}).items():
        schemas[name] = _pointed(definition)
    rest = {k: v for k, v in schema.items() if k not in ("$defs", "$schema")}
    return cast(dict[str, Any], _pointed(rest))


def _pointed(value: Any) -> Any:
    """The same with references to components in place of those to definitions."""
    if isinstance(value, dict):
        return {k: _pointed(v) for k, v in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return list(map(_pointed, value))
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return value.replace("#/$defs/", _COMPONENTS)
    return value
