"""What every request passes before and behind the application: keys, rates, sizes, headers, counts.

Plain functions that hand awaitables on: nothing here waits, so nothing needs to be a coroutine.
"""

import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from consumers.index import to_rfc3339
from consumers.keys import Buckets, Key, Keyring, Role
from consumers.logs import log
from consumers.problems import Problem
from consumers.serving_metrics import ServingMetrics
from stream.clock import Clock
from stream.deadline import Deadline

BODY_BYTES = 1 << 20
ANYBODY = "anybody"
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
SAFE_HEADERS = [
    *_ALWAYS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
# Scripts and styles are files of the page's own. The hashes are of the two styles that the library
# of charts makes by itself: an empty one that it fills rule by rule, and one of a single rule.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; "
    b"style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    b"'sha256-gG0b4ixT/IQUp7JJLbyKcpYcYDjq2Wp8NGv3f+aasqo='; "
    b"img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
PAGE_HEADERS = [*_ALWAYS, (b"content-security-policy", _PAGE_POLICY)]


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the API.

    Attributes
    ----------
    role : that it asks for; None for everybody
    takes : the method that comes with a body, where there is one
    page : whether it is of the board's page, which a browser shows
    """

    template: str
    role: Role | None
    takes: str | None = None
    page: bool = False

    def matches(self, path: str) -> bool:
        """Whether a path is of this form."""
        pattern = re.escape(self.template).replace(r"\{id\}", ".+")
        return re.fullmatch(pattern, path, re.DOTALL) is not None


ROUTES = (
    Route("/v1/candidates", Role.READ, "POST"),
    Route("/v1/candidates/batch", Role.READ, "POST"),
    Route("/v1/items/{id}/similar", Role.READ),
    Route("/v1/users/{id}", Role.READ),
    Route("/v1/version", Role.READ),
    Route("/v1/events", Role.EVENTS, "POST"),
    Route("/v1/operate/index", Role.OPERATE, "PUT"),
    Route("/v1/operate/rollback", Role.OPERATE, "POST"),
    Route("/v1/operate/acknowledge", Role.OPERATE, "POST"),
    Route("/v1/operate/mute", Role.OPERATE, "POST"),
    Route("/v1/board", Role.READ),
    Route("/v1/board/alignment", Role.READ),
    Route("/board", None, page=True),
    Route("/board/{id}", None, page=True),
    Route("/metrics", Role.OPERATE),
    Route("/healthz", None),
    Route("/readyz", None),
    Route("/openapi.json", None),
)
_PLAIN = {route.template: route for route in ROUTES if "{" not in route.template}
# Asked of a path that is not there too: who has no key does not learn what there is.
_ELSEWHERE = Route("other", Role.READ)


def route_of(path: str) -> Route:
    """Which route a path belongs to."""
    found = _PLAIN.get(path)
    if found is not None:
        return found
    return next((route for route in ROUTES if route.matches(path)), _ELSEWHERE)


class Audit:
    """A line of JSON for each operator action, also for those refused, on the disk at once.

    Parameters
    ----------
    path : Path
        Opened for each line: there are few.
    clock : Clock
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()

    def write(self, who: str, method: str, path: str, status: int) -> None:
        """Note who did what, and how it ended."""
        line = msgspec.json.encode(
            {
                "at": to_rfc3339(self._clock.now_us()),
                "key": who,
                "method": method,
                "path": path[:256].encode("utf-8", "replace").decode(),
                "status": status,
            }
        )
        with self._lock, self._path.open("ab") as file:
            file.write(line + b"\n")


@dataclass(frozen=True, slots=True)
class Gate:
    """An ASGI application in front of another.

    Parameters
    ----------
    app : ASGIApp
    keys : Keyring
        Without any, everybody may do everything: `keys.check_exposure` sees to who that can be.
    buckets : Buckets
    metrics : ServingMetrics
    audit : Audit
    deadline_s : float
        From the arrival of a request to its answer, seconds.
    new_id : callable
        Makes request ids: in the answer's headers, in lists that are given none, in every log line.
    hosts : set of str, optional
        Names that a request may be for; any by default. A server that asks for no key must not be
        asked by a page of a site whose name has been pointed at this machine (DNS rebinding).
    body_bytes : int
        Largest body.
    """

    app: ASGIApp
    keys: Keyring
    buckets: Buckets
    metrics: ServingMetrics
    audit: Audit
    deadline_s: float
    new_id: Callable[[], str]
    hosts: frozenset[str] | None = None
    body_bytes: int = BODY_BYTES

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        route = route_of(scope["path"])
        headers: dict[bytes, bytes] = dict(scope["headers"])
        key, problem = self._admitted(route, headers)
        if problem is None:
            takes = scope["method"] == route.takes
            problem = (
                self._misled(headers) or _elsewhere(headers) or self._fit(headers, takes=takes)
            )
        who, request_id = ANYBODY if key is None else key.name, self.new_id()
        bind_contextvars(request_id=request_id)
        scope["state"] = {
            **scope.get("state", {}),
            "deadline": Deadline.after(self.deadline_s),
            "key": who,
            "request_id": request_id,
        }
        watched = self._watched(scope, route, send)
        inner = self.app if problem is None else problem.response()
        return inner(scope, receive, watched)

    def _admitted(
        self, route: Route, headers: dict[bytes, bytes]
    ) -> tuple[Key | None, Problem | None]:
        """Whose request it is, and why it may not go on."""
        if route.role is None:
            return None, None
        key = None
        if len(self.keys):
            scheme, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            key = self.keys.find(secret.strip()) if scheme.lower() == "bearer" else None
            if key is None:
                return None, _UNKNOWN
            if route.role not in key.roles:
                has = ", ".join(sorted(key.roles))
                detail = f"{route.template} asks for the role {route.role}; {key.name} has {has}"
                return key, Problem(403, "forbidden", detail)
        wait_s = self.buckets.take(ANYBODY if key is None else key.name)
        if wait_s:
            after = {"Retry-After": str(ceil(wait_s))}
            detail = f"too many requests under this key: come again in {wait_s:.3f} s"
            return key, Problem(429, "rate-limited", detail, headers=after)
        return key, None

    def _misled(self, headers: dict[bytes, bytes]) -> Problem | None:
        """Why a request for another host is refused."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.hosts is None or not host or name in self.hosts:
            return None
        return Problem(421, "unknown-host", f"this is not {host!r:.80}: use its own address")

    def _fit(self, headers: dict[bytes, bytes], *, takes: bool) -> Problem | None:
        """Why a body is not read. The server holds a body to the length that it declares."""
        if b"transfer-encoding" in headers:
            return Problem(411, "length-required", "send the body with a Content-Length, unchunked")
        length = headers.get(b"content-length", b"0")
        if takes:
            if b"content-length" not in headers:
                return Problem(411, "length-required", "send a Content-Length with the body")
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                got = kind.decode("latin-1") or "no Content-Type"
                return Problem(415, "not-json", f"{got}: send application/json")
        if not length.isdigit() or int(length[:20]) > self.body_bytes:
            return Problem(
                413,
                "too-large",
                f"a body of {length.decode('latin-1')[:20]} bytes, at most {self.body_bytes}",
                headers={"Connection": "close"},
            )
        return None

    def _watched(self, scope: Scope, route: Route, send: Send) -> Send:
        """Add headers to the answer and count it when its last byte is handed over."""
        began_s, status = perf_counter(), 0
        own = (b"x-request-id", scope["state"]["request_id"].encode())

        def sending(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                safe = PAGE_HEADERS if route.page else SAFE_HEADERS
                message["headers"] = [*message.get("headers", ()), *safe, own]
            elif not message.get("more_body", False):
                self._count(scope, route, status, perf_counter() - began_s)
            return send(message)

        return sending

    def _count(self, scope: Scope, route: Route, status: int, took_s: float) -> None:
        who: str = scope["state"]["key"]
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(route.template, method, str(status)).inc()
        self.metrics.seconds.labels(route.template).observe(took_s)
        say = log.warning if status == 500 else log.info
        say("request", route=route.template, method=method, status=status, seconds=took_s, key=who)
        if route.role is Role.OPERATE and method not in ("GET", "HEAD"):
            self.audit.write(who, method, scope["path"], status)


def _elsewhere(headers: dict[bytes, bytes]) -> Problem | None:
    """Why a browser's request is refused: a page of another site has sent it.

    A page that is looked at can have a browser ask a server on loopback that wants no key.
    """
    site = headers.get(b"sec-fetch-site", b"none")
    origin = headers.get(b"origin")
    host = headers.get(b"host", b"").lower()
    own = origin is None or origin.lower().partition(b"://")[2] == host
    if own and site in (b"none", b"same-origin"):
        return None
    return Problem(403, "cross-site", "a page of another site sent this: nothing is done for it")


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_UNKNOWN = Problem(
    401,
    "unauthorized",
    "send one of this server's API keys: Authorization: Bearer …",
    headers={"WWW-Authenticate": 'Bearer realm="goat"'},
)
