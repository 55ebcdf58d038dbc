"""A whole stream by the rules: bytes in; edges, counts and user vectors out, in plain Python.

It shares no code with what it judges but the names of kinds. Only what the simulator says is
understood: where users are, how events refer to each other, and what is none.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import frexp, sqrt

from stream.batch import Kind
from stream.ordering import OrderingConfig
from stream.view import GraphConfig
from tests.oracle.graph import E, Edge, Oracle

GAPS = 12  # buckets of the time between an event and a user's newest one
REFERS = ("impression_id", "refers_to")


@dataclass
class StreamOracle:
    """Every message of every partition, one at a time.

    Attributes
    ----------
    parts : partition number -> the plain graph of its users
    counts : fates and kinds of the messages so far, and what they have turned around
    """

    graph: GraphConfig
    ordering: OrderingConfig
    parts: dict[int, Oracle] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    removed: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)

    def feed(self, partition: int, message: bytes) -> None:
        """Take the next message of a partition."""
        self.counts["events_in"] += 1
        event = parsed(message)
        if event is None:
            self.counts["dead_letters"] += 1
            return
        part = self.parts.setdefault(partition, self._part())
        before, turned = dict(part.fate), Counter(part.transitions)
        part.feed(event)
        self.counts.update(part.transitions - turned)
        for name, fate in (("duplicates", "dup"), ("late", "late"), ("capped", "cap")):
            self.counts[name] += part.fate[fate] - before[fate]
        if part.fate["dup"] + part.fate["late"] > before["dup"] + before["late"]:
            return
        self.counts["applied"] += 1
        self.counts[event.kind.name.lower()] += 1
        if event.item:
            self.items.add(event.item)
        if event.kind < Kind.ITEM:
            self.users.add(event.user)
        elif event.kind is Kind.ERASE_USER:
            self.users.discard(event.user)

    def _part(self) -> Oracle:
        return Oracle(self.graph, self.ordering, removed=self.removed)

    def edges(self) -> list[tuple[str, str, int, str]]:
        """User, item, time and kind of every edge, sorted."""
        self._share_the_time()
        return sorted(edge for part in self.parts.values() for edge in part.by_name())

    def vectors(
        self,
        items: Mapping[str, Sequence[float]],
        position: Sequence[Sequence[float]],
        gap: Sequence[Sequence[float]],
    ) -> dict[str, list[float]]:
        """Served vectors of all users (ALGORITHM: the weighted sum of their last items, at 1).

        Parameters
        ----------
        items : item -> its learned vector
        position, gap : weights by group of dimensions; of a place, and of a bucket of time
        """
        histories = self.histories(len(position[0]))
        return {user: folded(last, items, position, gap) for user, last in histories.items()}

    def histories(self, length: int, *, windowed: bool = True) -> dict[str, list[Edge]]:
        """The last so many positive events of every known user, the newest first.

        Parameters
        ----------
        windowed : leave out what has left the graph's window by the end of the stream
        """
        self._share_the_time()
        found = {user: list[Edge]() for user in self.users}
        for part in self.parts.values():
            for edge in part.counted() if windowed else (e for e in part.edges if e.alive):
                known = edge.user in found and edge.item not in self.removed
                if known and edge.kind is not Kind.IMPRESSION:
                    found[edge.user].append(edge)
        return {
            user: sorted(edges[::-1][:length], key=lambda edge: -edge.time)
            for user, edges in found.items()
        }

    def _share_the_time(self) -> None:
        """Time is that of the partition furthest on."""
        now = max((part.now for part in self.parts.values()), default=0)
        for part in self.parts.values():
            part.now = now


def folded(
    recent: Sequence[Edge],
    items: Mapping[str, Sequence[float]],
    position: Sequence[Sequence[float]],
    gap: Sequence[Sequence[float]],
) -> list[float]:
    """The served vector of a user with these last events, the newest first."""
    groups, dim = len(position), len(next(iter(items.values())))
    total = [0.0] * dim
    for place, edge in enumerate(recent):
        bucket = (frexp(1.0 + (recent[0].time - edge.time) / 1e6)[1] - 1) >> 1
        for d, value in enumerate(items.get(edge.item, ())):
            group = d * groups // dim
            total[d] += position[group][place] * gap[group][min(bucket, GAPS - 1)] * value
    length = sqrt(sum(x * x for x in total))
    return [*(x / length if length > 0 else 0.0 for x in total), 1.0]


def parsed(message: bytes) -> E | None:
    """What a message says; None where it is none."""
    try:
        said = json.loads(message)
    except ValueError:
        return None
    kind = Kind[str(said.get("kind", said["type"])).upper()]
    if "event_id" not in said or "broken" in said:
        return None
    at = datetime.fromisoformat(said["occurred_at"].replace("Z", "+00:00"))
    return E(
        id=said["event_id"],
        kind=kind,
        user=said.get("user_id", ""),
        item=said.get("item_id", ""),
        time=round(at.timestamp() * 1e6),
        refers=next((said[name] for name in REFERS if name in said), ""),
    )
