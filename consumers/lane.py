"""A short way for the routes that are asked hundreds of times a second.

The framework takes more of the processor for a request than the search's own work in this process:
a dozen layers, a dependency graph of one body, two context switches more. Routes named here are
answered right behind the gate, by the same functions, and fail with the same problems. Everything
else, and every other method, goes on to the framework, which documents them all.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from consumers.problems import Problem, response_to
from consumers.tracing import span
from stream.deadline import Deadline


@dataclass(frozen=True, slots=True)
class About:
    """What the gate has noted of a request."""

    request_id: str
    deadline: Deadline

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Take it from where the gate has put it."""
        return cls(scope["state"]["request_id"], scope["state"]["deadline"])


@dataclass(frozen=True, slots=True)
class Short:
    """A route that is answered here.

    Attributes
    ----------
    asked : what its body is
    answer : called with that and what the gate has noted, in a thread
    """

    asked: type[BaseModel]
    answer: Callable[[Any, About], Response]

    def respond(self, body: bytes, about: About) -> Response:
        """Answer a request's body."""
        return self.answer(self._parsed(body), about)

    def _parsed(self, body: bytes) -> BaseModel:
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError) as error:
            at = getattr(error, "pos", 0)
            said = {"type": "json_invalid", "loc": ("body", at), "msg": "JSON decode error"}
            raise RequestValidationError([said]) from error
        try:
            return self.asked.model_validate(value)
        except ValidationError as error:
            found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
            raise RequestValidationError(found) from error


@dataclass(frozen=True, slots=True)
class Lane:
    """An ASGI application between the gate and another.

    Parameters
    ----------
    app : ASGIApp
    short : path -> route, each asked by POST
    threads : Executor
        Where they are answered: they wait for the index.
    """

    app: ASGIApp
    short: Mapping[str, Short]
    threads: Executor

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = self.short.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            return self.app(scope, receive, send)
        return self._answered(route, scope, receive, send)

    async def _answered(self, route: Short, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        loop, about = asyncio.get_running_loop(), About.of(scope)
        headers = Headers(scope=scope)
        try:
            with span(f"POST {scope['path']}", headers, request_id=about.request_id):
                # Spans and log lines there are of this request.
                respond = partial(route.respond, body, about)
                found = await loop.run_in_executor(self.threads, copy_context().run, respond)
        except (Problem, RequestValidationError) as error:
            found = response_to(error)
        except Exception as error:
            await response_to(error)(scope, receive, send)
            raise  # the server logs it with its traceback
        await found(scope, receive, send)


async def _body(receive: Receive) -> bytes | None:
    """The whole body, which the gate has bounded; None if the caller has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
