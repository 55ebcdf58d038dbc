"""A recorded endpoint: real HTTP on loopback, its answers and faults given in advance."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

from consumers.endpoint import Endpoint, Pace, Patience

HANG = "hang"
CUT = "cut"  # says that more bytes follow than do


@dataclass
class Answer:
    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass
class Time:
    """Time that passes only by waiting for it."""

    now: float = 1_000_000.0
    waits: list[float] = field(default_factory=list)

    def wait(self, s: float) -> None:
        self.waits.append(s)
        self.now += s

    @property
    def pace(self) -> Pace:
        return Pace(lambda: self.now, self.wait)


@dataclass
class Recorded:
    """What the server was asked, and what it will answer next."""

    base: str
    answers: list[Answer] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    respond: Callable[[Any], object] | None = None
    free: threading.Event = field(default_factory=threading.Event)

    def endpoint(self, time: Time, key: str | None = "sesame", **patience: Any) -> Endpoint:
        """A client of it; half a second is its longest real wait."""
        return Endpoint(
            self.base,
            SecretStr(key) if key else None,
            patience=Patience(**{"timeout_s": 5.0, "per_minute": float("inf"), **patience}),
            pace=time.pace,
            jitter=lambda: 1.0,
        )


@contextmanager
def recorded() -> Iterator[Recorded]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            tape.asked.append(json.loads(content))
            tape.headers.append({k.lower(): v for k, v in self.headers.items()})
            tape.paths.append(self.path)
            if tape.answers:
                answer = tape.answers.pop(0)
            else:
                assert tape.respond is not None
                answer = Answer(tape.respond(tape.asked[-1]))
            if answer.fault == HANG:
                tape.free.wait(30)
                return
            raw = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body)
            said = raw if isinstance(raw, bytes) else raw.encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said) + 10 * (answer.fault == CUT)))
            self.end_headers()
            self.wfile.write(said)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tape = Recorded(f"http://127.0.0.1:{server.server_port}/v1/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield tape
    finally:
        tape.free.set()
        server.shutdown()
        thread.join()
        server.server_close()
