"""The board's page, its documents, and what an operator does on it."""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated

import msgspec
from fastapi import Path, Request
from starlette.responses import Response

from consumers.board import Board
from consumers.board_answers import AcknowledgeRequest, MuteRequest, RollbackRequest
from consumers.errors import SettingsError
from consumers.index import to_rfc3339
from consumers.problems import Problem
from consumers.retraining import ROLLBACKS, Requests
from consumers.settings import Settings
from consumers.status import read_status
from consumers.watching import ACKNOWLEDGED, FOLDER, mute
from stream.zones import HOUR_US

PLOTLY = "plotly.js"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
Name = Annotated[str, Path(pattern=r"^[a-z]+\.(html|css|js|svg)$", examples=["board.js"])]


@dataclass(frozen=True, slots=True)
class BoardRoutes:
    """All routes of the board.

    Parameters
    ----------
    board : Board
    settings : Settings
    """

    board: Board
    settings: Settings

    def page(self, request: Request) -> Response:
        """The page."""
        return _asset(request, "board.html")

    def asset(self, request: Request, name: Name) -> Response:
        """A part of the page."""
        return _asset(request, name)

    def document(self) -> Response:
        """Everything on the board that changes from moment to moment."""
        return _json(self.board.document())

    def alignment(self) -> Response:
        """The space of ids and that of texts, in a plane."""
        return _json(self.board.alignment())

    def rollback(self, body: RollbackRequest) -> Response:
        """Have the fast path return to the version before, and go on from there."""
        state, now_us = self.settings.state, self.board.clock.now_us()
        kept = self.board.follower.previous
        if kept is None or kept.version != body.version:
            has = "none" if kept is None else f"version {kept.version}"
            raise Problem(409, "not-kept", f"version {body.version} is not kept: {has} is")
        status = read_status(state)
        if status is None or status.stale(now_us):
            detail = "no fast path writes this state now: run `goat rollback`"
            raise Problem(503, "no-fast-path", detail)
        name = f"version-{body.version}"
        Requests(state / ROLLBACKS).ask(name, "asked for on the board")
        return _json({"asked": name}, 202)

    def acknowledge(self, body: AcknowledgeRequest) -> Response:
        """Note that somebody has seen an alert."""
        if body.alert not in {one["name"] for one in self.board.alerts()}:
            raise Problem(404, "alert-unknown", f"there is no alert {body.alert!r:.80}")
        Requests(self.settings.state / FOLDER / ACKNOWLEDGED).ask(body.alert, "seen on the board")
        return _json({"asked": body.alert}, 202)

    def mute(self, body: MuteRequest) -> Response:
        """Have alerts of a watch go nowhere for a while."""
        until = to_rfc3339(self.board.clock.now_us() + int(body.hours * HOUR_US))
        try:
            mute(self.settings, body.watch, until)
        except SettingsError as error:
            raise Problem(422, "invalid-mute", str(error)) from None
        return _json({"asked": f"{body.watch} until {until}"}, 202)


def _asset(request: Request, name: str) -> Response:
    """A file of the page, or the library that draws its charts, which its own package brings."""
    found = _library() if name == PLOTLY else _own(name)
    if found is None:
        raise Problem(404, "not-found", f"the board has no {name}")
    plain, packed, tag = found
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        plain = packed
    return Response(plain, media_type=_TYPES[PurePosixPath(name).suffix], headers=headers)


@lru_cache
def _own(name: str) -> tuple[bytes, bytes, str] | None:
    file = files("consumers").joinpath("page", name)
    return _packed(file.read_bytes()) if file.is_file() else None


@lru_cache
def _library() -> tuple[bytes, bytes, str]:
    # Of a large package only this file is wanted: nothing of it is run here.
    return _packed(files("plotly").joinpath("package_data", "plotly.min.js").read_bytes())


def _packed(content: bytes) -> tuple[bytes, bytes, str]:
    return content, gzip.compress(content, 6), f'"{sha256(content).hexdigest()[:24]}"'


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
