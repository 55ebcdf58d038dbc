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
from tests.oracle.graph import E, Oracle

GAPS = 12  # buckets of the time between an event and a user's newest one
REFERS = ("impression_id", "refers_to")


@dataclass
class StreamOracle:
    """Every message of every partition, one at a time.

    Attributes
    ----------
    parts : partition number -> the plain graph of its users
    counts : fates and kinds of the messages so far
    """

    graph: GraphConfig
    ordering: OrderingConfig
    parts: dict[int, Oracle] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    removed: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)

    def feed(self, partition: int, message: bytes) -> None:
        """Take the next message of a partition."""
        self.counts["events_in"] += 1
        event = parsed(message)
        if event is None:
            self.counts["dead_letters"] += 1
            return
        part = self.parts.setdefault(partition, self._part())
        before = dict(part.fate)
        part.feed(event)
        for name, fate in (("duplicates", "dup"), ("late", "late"), ("capped", "cap")):
            self.counts[name] += part.fate[fate] - before[fate]
        if part.fate["dup"] + part.fate["late"] > before["dup"] + before["late"]:
            return
        self.counts["applied"] += 1
        self.counts[event.kind.name.lower()] += 1
        if event.kind < Kind.ITEM:
            self.users.add(event.user)
        elif event.kind is Kind.ERASE_USER:
            self.users.discard(event.user)

    def _part(self) -> Oracle:
        return Oracle(self.graph, self.ordering, removed=self.removed)

    def edges(self) -> list[tuple[str, str, int, str]]:
        """User, item, time and kind of every edge, sorted."""
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
        return {
            user: self._vector(user, part, items, position, gap)
            for part in self.parts.values()
            for user in {edge.user for edge in part.edges} & self.users
        }

    def _vector(
        self,
        user: str,
        part: Oracle,
        items: Mapping[str, Sequence[float]],
        position: Sequence[Sequence[float]],
        gap: Sequence[Sequence[float]],
    ) -> list[float]:
        groups, dim = len(position), len(next(iter(items.values())))
        total = [0.0] * dim
        recent = part.recent(user, len(position[0]))
        for place, (item, time) in enumerate(recent):
            bucket = (frexp(1.0 + (recent[0][1] - time) / 1e6)[1] - 1) >> 1
            for d, value in enumerate(items.get(item, ())):
                group = d * groups // dim
                weight = position[group][place] * gap[group][min(bucket, GAPS - 1)]
                total[d] += weight * value
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
