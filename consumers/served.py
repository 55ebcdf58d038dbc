"""Every list that was served, to a topic or a file: what was shown, and how probable that was.

Impressions and clicks that come later name the ``request_id`` and join to it. Handing a list over
never waits: it goes into a queue of bounded length, and what does not fit is dropped and counted.
"""

import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from consumers.asking import Answer
from consumers.index import to_rfc3339
from stream.errors import SinkError
from stream.sink import EventSink

CAPACITY = 20_000
BATCH = 500
EVERY_S = 0.2  # each writing waits for the disk or the broker: lists go together
SCHEMA_VERSION = 1


class ServedLog:
    """A queue, and the loop of the thread that empties it into a sink.

    Parameters
    ----------
    sink : EventSink
        Closed when the loop ends.
    capacity : int
        Lists that may wait.

    Attributes
    ----------
    sent, dropped, lost : int
        Lists that arrived, that found no room, and that the sink did not take.
    """

    def __init__(self, sink: EventSink, capacity: int = CAPACITY) -> None:
        self.sent = self.dropped = self.lost = 0
        self._sink = sink
        self._queue: queue.Queue[Answer] = queue.Queue(capacity)

    def put(self, answers: Sequence[Answer]) -> None:
        """Hand lists over."""
        for answer in answers:
            try:
                self._queue.put_nowait(answer)
            except queue.Full:
                self.dropped += 1

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop, then what still waits."""
        while not stop.wait(EVERY_S):
            self._empty()
        self._empty()
        with suppress(SinkError):  # counted as lost already
            self._sink.close()

    def _empty(self) -> None:
        while self.write():
            pass

    def write(self) -> int:
        """Write what waits, at most `BATCH`; how many lists."""
        answers = self._waiting()
        if not answers:
            return 0
        values = [msgspec.json.encode(record(answer)) for answer in answers]
        keys = [a.wish.user.encode() if a.wish.user else None for a in answers]
        try:
            self._sink.send(values, keys)
            self._sink.flush()
        except SinkError:
            self.lost += len(answers)
        else:
            self.sent += len(answers)
        return len(answers)

    def _waiting(self) -> list[Answer]:
        answers: list[Answer] = []
        with suppress(queue.Empty):
            while len(answers) < BATCH:
                answers.append(self._queue.get_nowait())
        return answers


def record(answer: Answer) -> dict[str, Any]:
    """What is written of one list."""
    return {
        "schema_version": SCHEMA_VERSION,
        "request_id": answer.wish.request_id,
        "user_id": answer.wish.user,
        "similar_to": answer.wish.similar_to,
        "version": answer.version,
        "rung": answer.rung.value,
        "served_at": to_rfc3339(answer.at_us),
        "items": [
            {
                "item_id": slot.shown.id,
                "position": place,
                "score": slot.shown.score,
                "propensity": slot.propensity,
                "explored": slot.explored,
            }
            for place, slot in enumerate(answer.slots)
        ],
    }
