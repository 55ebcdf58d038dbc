"""Events from files or the simulator to a topic, a file or the terminal, at a chosen speed."""

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from consumers import wiring
from consumers.errors import SettingsError
from consumers.inputs import Inputs
from consumers.lifecycle import Stop
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.formats import FORMATS
from stream.kafka_sink import KafkaSink
from stream.sink import EventSink, FileSink
from stream.source import Source

STDOUT = Path("-")
BATCH = 1_000
POLL_TIMEOUT_S = 0.2


def formats_help() -> str:
    """The formats, a line each, for ``--help``."""
    return "Formats: " + "; ".join(f"{name}: {what}" for name, what in FORMATS.items())


def key_of(message: bytes) -> bytes | None:
    """The user id of a message, by which a topic is partitioned; None where there is none.

    A message that cannot be read goes out without a key: whether it is an event is for the
    consumer's codec to say.
    """
    try:
        event = json.loads(message)
    except ValueError:
        return None
    user = event.get("user_id") if isinstance(event, dict) else None
    return user.encode() if isinstance(user, str) else None


def send(settings: Settings, inputs: Inputs, *, to: Path | None, rate: float | None) -> int:
    """Send the messages on; a stop request ends it after the batch under way."""
    if rate is not None and rate <= 0:
        raise SettingsError(f"--rate {rate}: messages a second, above 0")
    simulated = inputs.events is None
    source = wiring.open_source(
        settings.model_copy(update={"kafka": None}), inputs, {}, SystemClock()
    )
    sink = _open_sink(settings, to, simulated=simulated)
    with Stop().listening() as stop:
        sent = _pump(source, sink, inputs.limit, rate, stop)
    sink.close()
    source.close()
    Console(stderr=True).print(f"sent {sent:,} messages")
    return 0


def _pump(
    source: Source, sink: EventSink, limit: int | None, rate: float | None, stop: Stop
) -> int:
    sent, began_s, pause = 0, time.monotonic(), threading.Event()
    step = BATCH if rate is None else max(1, min(BATCH, int(rate / 20)))
    while not stop.requested and not source.exhausted and (limit is None or sent < limit):
        room = step if limit is None else min(step, limit - sent)
        for batch in source.poll(room, POLL_TIMEOUT_S):
            sink.send(batch.values, [key_of(value) for value in batch.values])
            sent += len(batch)
        if rate is not None:
            pause.wait(max(0.0, sent / rate - (time.monotonic() - began_s)))
    sink.flush()
    return sent


def _open_sink(settings: Settings, to: Path | None, *, simulated: bool) -> EventSink:
    if to is not None:
        return _Terminal() if to == STDOUT else FileSink(to)
    if settings.kafka is None and simulated:
        return _Terminal()
    return wiring.open_topic(settings, settings.topic, KafkaSink)


class _Terminal:
    """An `EventSink` that writes lines to the standard output."""

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        sys.stdout.buffer.write(b"".join(value + b"\n" for value in values))

    def flush(self) -> None:
        sys.stdout.buffer.flush()

    def close(self) -> None:
        self.flush()
