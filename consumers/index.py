"""What a vector index is to us: two collections, a fence, and aliases that flip together.

Users and items are points of two collections per model version, ``<name>-<version>``. A point's id
is a function of its external id (`point_id`), so that an ad system needs nothing but the user's id
to ask for candidates. Every write carries a sequence and is fenced: a point is only replaced by a
write with a higher one, whatever the order in which writes arrive; a change of payload alone is a
write like any other and leaves its sequence behind. A removed point stays as a
tombstone, without a vector (no search can return it) but with its sequence, until it is swept;
deleting it at once would let a late write raise it from the dead.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

VECTOR = "goat"  # name of the vector in both collections
# Part of the wire contract with ad systems: must never change.
NAMESPACE = uuid.UUID("341a4c21-7a6d-4012-b1d2-d86f43d8e67b")
MAX_ID_LENGTH = 256
MAX_EXCLUDED = 65_536
MAX_CANDIDATES = 10_000
# Both engines compare sequences as doubles, which are exact up to here.
MAX_SEQUENCE = 2**53 - 1
# Written by the index itself; a caller's payload must not name them.
RESERVED = frozenset({"id", "epoch", "seq", "deleted"})
CHUNK = 1_000  # points a request: large enough to amortise it, far below any message limit
# Below this size (100k vectors of d = 128) a scan of all takes a few milliseconds and is exact; a
# graph index would have to be built anew all the time under live updates.
EXACT_BELOW_KB = 50_000
# Above it: links of a point, and how wide the graph is searched while it is built and asked. With
# these, 0.997 of the best 20 of 50k items (64 dimensions of rank 16) are found in under 1 ms.
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 16, 128, 512


class Space(StrEnum):
    """What a point stands for; part of its point id."""

    ITEMS = "items"
    USERS = "users"


# What filters and orders go by, and the type of index each field needs. Only items are searched.
_ALWAYS = {"id": "keyword", "epoch": "integer", "seq": "integer", "deleted": "bool"}
_GOODS = {
    "campaign": "keyword",
    "categories": "keyword",
    "price": "float",
    "expires_at": "datetime",
    "campaign_state": "keyword",
    "campaign_pacing": "float",
    "campaign_starts_at": "datetime",
    "campaign_ends_at": "datetime",
    "campaign_targeting": "keyword",
}
# What `campaign_state` says of a campaign whose items must not be shown; else it says RUNNING.
RUNNING = "running"
NOT_RUNNING = ("paused", "exhausted", "scheduled", "ended", "off_hours")
INDEXED: Mapping[Space, Mapping[str, str]] = {
    Space.ITEMS: {**_ALWAYS, **_GOODS},
    Space.USERS: _ALWAYS,
}


@dataclass(frozen=True, slots=True)
class Names:
    """A pair of collections, or of aliases: what is searched, and who searches."""

    items: str = "goat-items"
    users: str = "goat-users"

    @classmethod
    def of(cls, prefix: str) -> "Names":
        """Make the pair of aliases under a prefix."""
        return cls(f"{prefix}-items", f"{prefix}-users")

    def at(self, version: int, fills: int = 0) -> "Names":
        """Make the pair of collections that a model version fills, having filled some before."""
        suffix = f"{version}-{fills + 1}" if fills else str(version)
        return Names(f"{self.items}-{suffix}", f"{self.users}-{suffix}")


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Points to write, all of one space.

    Attributes
    ----------
    ids : n external ids, distinct
    vectors : float32[n, d]
    payloads : n mappings of JSON values
        Any of campaign, categories, price, expires_at, title and further fields of one's own.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    payloads: Sequence[Mapping[str, object]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a candidate must fulfil; all of those that are given.

    Attributes
    ----------
    campaigns, categories : any of these
    not_campaigns, not_items : none of these
    price_from, price_to : float
        Inclusive bounds; a bound excludes items without a price.
    now_us : int
        Microseconds since the epoch, UTC: excludes items that have expired by then, and those of
        campaigns that have not begun or have ended.
    any_state : bool
        Let items of campaigns pass that do not run now; by default they do not.
    draw : float
        A number drawn uniformly from [0, 1) for each request: excludes items of campaigns whose
        pacing is not above it, so that a campaign takes part in that share of requests.
    context : keywords
        What is known of the request: excludes items of campaigns that target none of it.
    """

    campaigns: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    not_campaigns: tuple[str, ...] = ()
    not_items: tuple[str, ...] = ()
    price_from: float | None = None
    price_to: float | None = None
    now_us: int | None = None
    any_state: bool = False
    draw: float | None = None
    context: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("campaigns", "categories"):
            if getattr(self, name) == ():
                raise ValueError(f"{name}=() matches nothing: leave it None to match anything")
        for name in ("price_from", "price_to"):
            if (bound := getattr(self, name)) is not None and not np.isfinite(bound):
                raise ValueError(f"{name} is {bound}: leave it None for no bound")
        if self.draw is not None and not 0 <= self.draw < 1:
            raise ValueError(f"draw is {self.draw}: a number from 0, below 1")
        if len(self.not_items) > MAX_EXCLUDED:
            got = len(self.not_items)
            raise ValueError(
                f"{got:,} excluded items, at most {MAX_EXCLUDED:,}: exclude a campaign"
            )


ANY = Conditions()
ALL = Conditions(any_state=True)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item for a user, with its score (a dot product) and what is stored about it."""

    id: str
    score: float
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Stored:
    """A point as the index holds it; the vector of a tombstone is None."""

    vector: NDArray[np.float32] | None
    payload: Mapping[str, object]

    @property
    def deleted(self) -> bool:
        """Whether it is a tombstone."""
        return self.payload.get("deleted") is True


@dataclass(frozen=True, slots=True)
class Backlog:
    """Points that the graph searches walk has not yet (they are scanned), and if it is at work."""

    points: int
    at_work: bool


class VectorIndex(Protocol):
    """A store of vectors: Qdrant's server, or its engine in this process.

    Collections are written under their own names, never through an alias. Where a method takes
    `Names`, either will do.
    """

    def create(self, collection: str, space: Space, dim: int) -> None:
        """Make an empty collection of vectors of ``dim`` dimensions under the dot product.

        Users are looked up, not searched for: their collection never gets a graph index.

        Raises
        ------
        PublishError
            If there is a collection or alias of that name, or the name is not a plain one.
        """
        ...

    def collections(self) -> tuple[str, ...]:
        """Name all collections, sorted."""
        ...

    def drop(self, collection: str) -> None:
        """Delete a collection; nothing happens when there is none.

        Raises
        ------
        PublishError
            If an alias points at it.
        """
        ...

    def upsert(
        self, collection: str, space: Space, batch: PointBatch, *, epoch: int, sequence: int
    ) -> None:
        """Write points; those stored with a sequence not below ``sequence`` stay as they are.

        Returns when a search would find them.

        Raises
        ------
        PublishError
            If the batch is malformed (nothing is written then) or the collection is not there.
        """
        ...

    def bury(
        self,
        collection: str,
        space: Space,
        ids: Sequence[str],
        *,
        epoch: int,
        sequence: int,
        points: Sequence[str] = (),
    ) -> None:
        """Replace points by tombstones, fenced like `upsert`; they need not exist.

        Parameters
        ----------
        points : ids of points (`point_id`), optional
            Of users whose own ids are not known any more.
        """
        ...

    def set_payload(
        self, collection: str, campaigns: Mapping[str, Mapping[str, object]], *, sequence: int
    ) -> None:
        """Merge fields into the payloads of all items of each campaign; vectors stay as they are.

        Fenced like `upsert`, and its sequence is stored with each point that it changes: neither
        an older change of payload nor an older upsert can undo it. A value of None is stored as
        null, which no filter but "is empty" matches.

        Raises
        ------
        PublishError
            If a field is the index's own (nothing is written then) or the collection is not there.
        """
        ...

    def sweep(self, collection: str, before: int, points: Sequence[str] | None = None) -> None:
        """Delete tombstones of sequences below ``before``: no write from then may still arrive.

        Parameters
        ----------
        points : ids of points (`point_id`), optional
            Only these.
        """
        ...

    def rewrite(self, collection: str, space: Space) -> None:
        """Leave nothing on the disk of what was deleted or replaced, as far as it is ours.

        A server does so by itself, in its own time.
        """
        ...

    def ids(self, collection: str) -> Iterator[str]:
        """All external ids that are stored, of points and of tombstones that hold one."""
        ...

    def count(self, collection: str) -> int:
        """Count points exactly, without tombstones."""
        ...

    def last_sequence(self, collection: str) -> int:
        """Highest sequence stored; 0 when the collection is empty."""
        ...

    def fetch(self, collection: str, space: Space, ids: Sequence[str]) -> list[Stored | None]:
        """Read points, in the order asked for; None where there is none."""
        ...

    def aliases(self) -> Mapping[str, str]:
        """Which collection each alias points at."""
        ...

    def point(self, targets: Mapping[str, str | None]) -> None:
        """Point aliases at collections, or remove them (None), in one request; then read back.

        Raises
        ------
        PublishError
            If a collection is not there (nothing changes), or what is read back is not what was
            asked for.
        """
        ...

    def candidates(
        self, user_id: str, k: int, conditions: Conditions = ANY, *, names: Names
    ) -> list[Candidate]:
        """Find the ``k`` items with the highest dot product with the user's stored vector.

        Raises
        ------
        UnknownPoint
            If no such user is stored, or it was removed.
        """
        ...

    def search(
        self, collection: str, vector: NDArray[np.float32], k: int, conditions: Conditions = ANY
    ) -> list[Candidate]:
        """Find the ``k`` items with the highest dot product with a vector, float32[d]."""
        ...

    def settle(self, collection: str) -> None:
        """Build what makes searches fast, and make all writes durable; may take long."""
        ...

    def backlog(self, collection: str) -> Backlog:
        """Ask how far the collection's optimiser is; an alias will do.

        Raises
        ------
        PublishError
            If the collection is not there, or its optimiser has failed.
        """
        ...

    def flush(self) -> None:
        """Make all writes durable against a power cut (a killed process loses none anyway)."""
        ...

    def close(self) -> None:
        """Give back connections and locks; idempotent."""
        ...


def point_id(space: Space, external_id: str) -> str:
    """Return the id of a point: UUID version 5 of ``<space>/<external id>`` in `NAMESPACE`.

    References
    ----------
    RFC 9562, section 5.5.
    """
    return str(uuid.uuid5(NAMESPACE, f"{space}/{external_id}"))


def item_payload(
    *,
    title: str | None = None,
    campaign: str | None = None,
    categories: Sequence[str] = (),
    price: float | None = None,
    expires_us: int | None = None,
) -> dict[str, object]:
    """Build an item's payload; what is None or empty is left out, as filters expect."""
    fields: dict[str, object] = {
        "title": title,
        "campaign": campaign,
        "categories": list(categories) or None,
        "price": price,
        "expires_at": None if expires_us is None else to_rfc3339(expires_us),
    }
    return {name: value for name, value in fields.items() if value is not None}


def to_rfc3339(time_us: int) -> str:
    """Write microseconds since the epoch as RFC 3339 in UTC, e.g. 2026-01-01T00:00:00.000000Z."""
    seconds, us = divmod(time_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{us:06d}Z"
