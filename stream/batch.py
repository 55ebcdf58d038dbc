"""What flows through the stream: raw records, decoded events, the reasons for rejection.

Every batch belongs to one partition and is in ascending offset order, so that a position, a
watermark and an owner can be named for it as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from stream.events import Canary

Headers = tuple[tuple[str, bytes], ...]


class Partition(NamedTuple):
    """A Kafka partition, or a file (``topic`` is its name, ``number`` 0)."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Kind(IntEnum):
    """What happened. Values are stored on disk: append, never renumber.

    15 stays free: an edge of a kind whose last three bits are set is an impression.
    """

    VIEW = 0
    CLICK = 1
    LIKE = 2
    ADD_TO_CART = 3
    PURCHASE = 4
    AD_CLICK = 5
    CONVERSION = 6
    IMPRESSION = 7
    ITEM = 16
    ITEM_REMOVED = 17
    CAMPAIGN = 18
    ERASE_USER = 19


INTERACTIONS = frozenset(k for k in Kind if k < Kind.ITEM)
POSITIVES = frozenset(k for k in INTERACTIONS if k is not Kind.IMPRESSION)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Raw messages of one partition, in ascending offset order.

    Attributes
    ----------
    offsets : int64[n]
        Offset (Kafka) or row number (file) of each message.
    values : n messages, undecoded; a Kafka tombstone is ``b""``.
    next_offset : int
        Where to go on after this batch; may exceed ``offsets[-1] + 1``.
    headers : n header tuples, or None when no message has any.
    history : bool
        Learned from before scoring begins (a users' history file); never scored.
    passed : int
        Offsets before ``next_offset`` and after what came last that hold no message: compacted
        away, aborted, or the mark of a transaction.
    """

    partition: Partition
    offsets: NDArray[np.int64]
    values: Sequence[bytes]
    next_offset: int
    headers: Sequence[Headers] | None = None
    history: bool = False
    passed: int = 0

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Details:
    """Fields of interactions that only some readers want, row for row with an `EventBatch`.

    Attributes
    ----------
    position : int32[n]
        Place on the page, 0 is the top; -1 for none.
    propensity : float64[n]
        Probability with which the item was shown; NaN for none.
    value : float64[n]
        Amount or rating; NaN for none.
    campaign, request, currency : n strings, ``""`` for none
    """

    position: NDArray[np.int32]
    propensity: NDArray[np.float64]
    value: NDArray[np.float64]
    campaign: Sequence[str]
    request: Sequence[str]
    currency: Sequence[str]


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Decoded events of one partition as columns, in ascending offset order.

    Attributes
    ----------
    row : int64[n]
        Index of each event in the ``RecordBatch`` it came from.
    offsets : int64[n]
    kind : uint8[n]
        A `Kind`.
    time_us : int64[n]
        Event time, microseconds since the Unix epoch, UTC.
    event_id : n strings
    user, item : n strings, ``""`` where the kind has none (no valid id is empty).
    refers_to : n strings, ``""`` for none
        The impression (click, ad click) or the impression or click (conversion) it answers.
    models : index in this batch -> event
        The validated pydantic event of every row whose kind is ITEM or above.
    details : the further fields of interactions; None where nobody decoded them.
    """

    partition: Partition
    row: NDArray[np.int64]
    offsets: NDArray[np.int64]
    kind: NDArray[np.uint8]
    time_us: NDArray[np.int64]
    event_id: Sequence[str]
    user: Sequence[str]
    item: Sequence[str]
    refers_to: Sequence[str]
    models: Mapping[int, BaseModel] = field(default_factory=dict[int, BaseModel])
    history: bool = False
    details: Details | None = None

    def __len__(self) -> int:
        return len(self.event_id)


@dataclass(frozen=True, slots=True)
class Reject:
    """One message that is not an event: its row in the ``RecordBatch``, and why."""

    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a codec made of a ``RecordBatch``: every row is in one of the three."""

    events: EventBatch
    rejects: tuple[Reject, ...]
    canaries: tuple[Canary, ...] = ()


def pick(values: Sequence[str], at: NDArray[np.int64]) -> Sequence[str]:
    """The values at these ascending, distinct places."""
    if len(at) == len(values):
        return values
    places: list[int] = at.tolist()
    return [values[i] for i in places]
