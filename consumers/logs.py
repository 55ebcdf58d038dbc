"""What programs say of themselves, beside what they print for people: events with fields.

As text, a line for whoever sits at the terminal, and only what went wrong. As JSON
(``GOAT_LOG=json``), an object a line on standard error for whoever collects them, with what goes
well too: requests, commits, versions, alerts. What libraries log goes the same way. Fields are
chosen one by one: none is a secret, a title or the body of an event.
"""

import logging
import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Literal

import msgspec
import structlog

from consumers.index import MAX_ID_LENGTH
from stream.sink import DeadLetter, DeadLetterSink

Form = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[Form, Level] = {"text": "warning", "json": "info"}
"""Where no level is asked for."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_Event = MutableMapping[str, Any]
_Processor = Callable[[Any, str, _Event], Any]


def configure(form: Form, level: Level | None = None) -> None:
    """Have everything said in one form, from one level on, by libraries too."""
    number = _configure(form, level)
    # gRPC's core writes lines of its own to standard error, of what its calls raise anyway.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    handler = _ToStandardError()
    rest = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.add_logger_name],
            processors=[rest, *_rendered(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell much that is of no use before something goes wrong, and below that level
    # kafka-python tells the bytes that it sends, a password among them.
    root.setLevel(logging.INFO if number < logging.INFO else max(number, logging.WARNING))


def announce(line: str, event: str, **fields: object) -> None:
    """Say something that people are told at the terminal, whatever the level."""
    if structlog.get_config()["processors"][-1] is _for_people:
        sys.stderr.write(f"goat: {line}\n")
    else:
        log.info(event, **fields)


class LoggedLetters:
    """Dead letters, of which each batch's first one is told.

    Parameters
    ----------
    sink : DeadLetterSink
        Where they go.
    """

    def __init__(self, sink: DeadLetterSink) -> None:
        self._sink = sink

    def put(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            first = letters[0]
            log.info(
                "dead letters",
                count=len(letters),
                partition=str(first.partition),
                first_offset=first.offset,
                first_reason=first.reason,
                first_event_id=_event_id(first.value),
            )
        self._sink.put(letters)

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()


class _Named(msgspec.Struct):
    event_id: str | None = None


def _event_id(value: bytes | None) -> str | None:
    try:
        named = msgspec.json.decode(value or b"{}", type=_Named)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # what it is refused for may be just that
    return None if named.event_id is None else named.event_id[:MAX_ID_LENGTH]


# -- forms


class _ToStandardError(logging.Handler):
    """Writes to what standard error is just now: a display may have put itself before it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")  # at once: other threads write as well


def _shared() -> list[_Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _rendered(form: Form) -> list[_Processor]:
    if form == "text":
        return [_for_people]
    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(_json)]


def _configure(form: Form, level: Level | None) -> int:
    number = int(getattr(logging, (level or LEVELS[form]).upper()))
    structlog.configure(
        processors=[*_shared(), *_rendered(form)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    return number


def _json(value: object, **_: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _for_people(_: object, __: str, event: _Event) -> str:
    trace = structlog.processors.format_exc_info(_, __, event).pop("exception", None)
    said = event.pop("event")
    left_out = ("level", "timestamp", "logger", "request_id")
    fields = " ".join(f"{k}={v}" for k, v in event.items() if k not in left_out)
    line = f"goat: {said}{': ' if fields else ''}{fields}"
    return line if trace is None else f"{line}\n{trace}"


_configure("text", None)
