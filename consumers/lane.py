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
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from consumers.problems import Problem, response_to
from stream.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Short:
    """A route that is answered here.

    Attributes
    ----------
    asked : what its body is
    answer : called with that and the request's deadline, in a thread
    """

    asked: type[BaseModel]
    answer: Callable[[Any, Deadline], Response]

    def respond(self, body: bytes, deadline: Deadline) -> Response:
        """Answer a request's body."""
        return self.answer(self._parsed(body), deadline)

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
        loop, deadline = asyncio.get_running_loop(), scope["state"]["deadline"]
        try:
            found = await loop.run_in_executor(self.threads, route.respond, body, deadline)
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
