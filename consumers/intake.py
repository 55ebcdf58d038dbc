"""Events that come over HTTP: checked by the contract, sent into the topic, each request once."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from consumers.problems import FieldError, Problem
from stream.clock import Clock
from stream.codec import Limits, decode_one, encode
from stream.deadline import Deadline
from stream.errors import EventRejected, SinkError
from stream.events import Event
from stream.sink import EventSink

REMEMBERED = 20_000
RETRY_S = 1
EXACT = 2.0**53


@dataclass(frozen=True, slots=True)
class _Done:
    """A request that was answered, or is being; ``accepted`` is None while it is."""

    digest: bytes
    accepted: int | None = None


class Intake:
    """Checks events and sends them on; what it says has arrived, has.

    A request with an idempotency key is sent once: the same again gets the same answer, as long as
    it is among the last `REMEMBERED`. Beyond that, an event's id makes it count once downstream.

    Parameters
    ----------
    sink : EventSink, optional
        Without one nothing is taken.
    clock : Clock
    remembered : int
        Keys kept.
    """

    def __init__(
        self, sink: EventSink | None, clock: Clock, *, remembered: int = REMEMBERED
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._most = remembered
        self._done: OrderedDict[tuple[str, str], _Done] = OrderedDict()
        self._sending = threading.Lock()  # a sink is for one thread at a time
        self._noting = threading.Lock()

    def take(self, events: Sequence[Any], who: str, key: str | None, deadline: Deadline) -> int:
        """Send events; how many.

        Parameters
        ----------
        events : decoded JSON
        who : str
            Name of the caller's API key: idempotency keys are each caller's own.
        key : str, optional
            Idempotency key.

        Raises
        ------
        Problem
            422 if any is not an event (none is sent then); 409 if the key was used for others or
            the same is under way; 503 if they cannot be sent in time.
        """
        checked = self._checked(events)
        values = [encode(event) for event in checked]
        if key is None:
            self._send(checked, values, deadline)
            return len(values)
        digest = sha256(b"\n".join(values)).digest()
        done = self._claim((who, key), digest)
        if done is not None:
            return done
        try:
            self._send(checked, values, deadline)
        except Problem:
            with self._noting:
                self._done.pop((who, key), None)
            raise
        with self._noting:
            self._done[who, key] = _Done(digest, len(values))
        return len(values)

    def _checked(self, events: Sequence[Any]) -> list[Event]:
        now_us, limits = self._clock.now_us(), Limits()
        checked: list[Event] = []
        errors: list[FieldError] = []
        for number, event in enumerate(events):
            try:
                checked.append(decode_one(_line(event), limits, now_us))
            except EventRejected as error:
                at = f"body[{number}]"
                errors.append(FieldError(at=at, message=error.detail, reason=error.reason))
        if errors:
            said = f"{len(errors)} of {len(events)} are not events, and none was sent: "
            first = f"{errors[0].at}: {errors[0].message}"
            raise Problem(422, "invalid-events", said + first, errors=errors[:10])
        return checked

    def _claim(self, key: tuple[str, str], digest: bytes) -> int | None:
        """Begin under a key, or give the answer there was."""
        with self._noting:
            done = self._done.get(key)
            if done is None:
                self._done[key] = _Done(digest)
                while len(self._done) > self._most:
                    self._done.popitem(last=False)
                return None
        if done.digest != digest:
            raise Problem(
                409, "idempotency-key-reused", "this Idempotency-Key came with other events before"
            )
        if done.accepted is None:
            raise Problem(
                409,
                "in-progress",
                "the same request is under way",
                headers={"Retry-After": str(RETRY_S)},
            )
        return done.accepted

    def _send(self, events: Sequence[Event], values: list[bytes], deadline: Deadline) -> None:
        if self._sink is None:
            raise Problem(503, "no-kafka", "this server has no Kafka to send events to: --kafka")
        keys = [_key(event) for event in events]
        # The other half is the sink's own patience.
        if not self._sending.acquire(timeout=deadline.remaining_s / 2):
            raise _unavailable("others are waiting for Kafka already")
        try:
            self._sink.send(values, keys)
            self._sink.flush()
        except SinkError as error:
            raise _unavailable("Kafka does not take them; some may have arrived") from error
        finally:
            self._sending.release()


def _line(event: Any) -> bytes:
    try:
        return json.dumps(_whole(event), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise EventRejected("invalid_json", f"JSON has no such value: {error}") from error


def _whole(value: Any) -> Any:
    """The same with 5.0 as 5: JSON, and so the document, has one kind of number."""
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return list(map(_whole, value))
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value


def _key(event: Event) -> bytes | None:
    user = getattr(event, "user_id", None)
    return user.encode() if isinstance(user, str) else None


def _unavailable(why: str) -> Problem:
    detail = f"{why}: send the same again, under the same ids"
    return Problem(503, "events-unavailable", detail, headers={"Retry-After": str(RETRY_S)})
