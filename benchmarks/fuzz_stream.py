"""Mutated messages through codec, orderer and graph, with what must hold after each batch."""

import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fuzz_messages import Mutator
from fuzz_oracle import Row, read, rows_of

from stream.batch import Decoded, Headers, Partition, RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.graph import Graph
from stream.ordering import Orderer, OrderingConfig
from stream.state import State
from stream.view import GraphConfig

NOW_US = 1_795_392_000_000_000  # 2026-11-23
BATCH, SHOWN, GRAPH_EVERY = 500, 10, 4
PARTITIONS = (Partition("events", 0), Partition("events", 1))
_LONG = re.compile(rb"[0-9]{4301}")
Fate = Row | tuple[str, str]  # what was read, or reason and detail of the dead letter


@dataclass
class Tally:
    """What became of the messages."""

    messages: int = 0
    decoded: int = 0
    dead_lettered: int = 0
    crashes: int = 0
    silent: int = 0
    stricter: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    shown: int = 0

    def say(self, what: str, value: object) -> None:
        """Show one finding in full, the first ones."""
        self.shown += 1
        if self.shown <= SHOWN:
            print(f"{what}: {value!r:.1500}", file=sys.stderr, flush=True)


class MessageFuzz:
    """Sends batches through, and compares.

    Parameters
    ----------
    rng : random.Random
    """

    def __init__(self, rng: random.Random) -> None:
        self.tally = Tally()
        self._rng = rng
        self._mutator = Mutator(rng)
        self._limits = Limits(vector_dims={"text": 2})
        self._codec = Codec(self._limits, ManualClock(NOW_US))
        graph = GraphConfig(window_us=40 * 86_400_000_000, degree_cap=500, join_rows=2_000,
                            join_block=256, slab_rows=1 << 14)  # fmt: skip
        ordering = OrderingConfig(remembered=4_000, block=512, lateness_us=4 * 86_400_000_000)
        self.state = State(Graph(graph), Orderer(ordering))
        self._applied = 0

    def run(self, n: int) -> Tally:
        """Send ``n`` messages through."""
        start, turn = time.perf_counter(), 0
        while self.tally.messages < n:
            self.one_batch(min(BATCH, n - self.tally.messages), turn)
            turn += 1
            if turn % 200 == 0:
                took = time.perf_counter() - start
                print(f"{self.tally.messages:,} messages in {took:.0f} s: {self.tally.decoded:,}"
                      " decoded", file=sys.stderr, flush=True)  # fmt: skip
        return self.tally

    def one_batch(self, n: int, turn: int) -> None:
        """Make, decode and check one batch; every so often apply it as well."""
        values = self._mutator.messages(n)
        headers = self._mutator.headers(n) if self._rng.random() < 0.1 else None
        self.tally.messages += n
        try:
            decoded = self._decode(values, headers, turn)
            self._check(values, headers, decoded)
            if turn % GRAPH_EVERY == 0:
                self._apply(decoded)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            self.tally.crashes += 1
            self.tally.say("crash", traceback.format_exc()[-1_400:])

    def _decode(
        self, values: Sequence[bytes], headers: Sequence[Headers] | None, turn: int
    ) -> Decoded:
        offsets = np.arange(len(values)) + self.tally.messages
        partition = PARTITIONS[turn // GRAPH_EVERY % 2]
        batch = RecordBatch(partition, offsets, values, int(offsets[-1]) + 1, headers)
        return self._codec.decode(batch)

    def _fates(self, decoded: Decoded, n: int) -> dict[int, Fate]:
        fates: dict[int, Fate] = dict(rows_of(decoded.events))
        for reject in decoded.rejects:
            if reject.row in fates or not reject.reason:
                self._fault("twice, or without a reason", reject)
            fates[reject.row] = (reject.reason, reject.detail)
        if sorted(fates) != list(range(n)):
            self._fault("lost", sorted(set(range(n)) - set(fates)))
        return fates

    def _check(
        self, values: Sequence[bytes], headers: Sequence[Headers] | None, decoded: Decoded
    ) -> None:
        fates = self._fates(decoded, len(values))
        self.tally.decoded += len(decoded.events)
        self.tally.dead_lettered += len(decoded.rejects)
        self.tally.reasons.update(reject.reason for reject in decoded.rejects)
        for row, value in enumerate(values):
            fate, mine = fates.get(row), () if headers is None else headers[row]
            expected = read(value, self._limits, NOW_US, mine)
            rejected = fate is not None and len(fate) == 2
            if expected is None and not rejected:
                self._fault("taken, though it is none", (value, mine, fate))
            elif expected is not None and rejected:
                self.tally.stricter += 1
                if not may_be_stricter(value):
                    self._fault("refused, though it is one", (value, mine, fate))
            elif expected is not None and expected != fate:
                self._fault("read otherwise", (value, mine, fate, expected))
        self._check_apart(values, headers, fates)

    def _check_apart(
        self,
        values: Sequence[bytes],
        headers: Sequence[Headers] | None,
        fates: dict[int, Fate],
    ) -> None:
        """The fate of a message is the same among others, in another order, and alone."""
        order = list(range(len(values)))
        self._rng.shuffle(order)
        cut = self._rng.randrange(len(values))
        alone = [[row] for row in order[:3]]
        for rows in (order[:cut], order[cut:], *alone):
            if rows:
                mine = None if headers is None else [headers[row] for row in rows]
                decoded = self._decode([values[row] for row in rows], mine, 0)
                for at, fate in self._fates(decoded, len(rows)).items():
                    if fate != fates.get(rows[at]):
                        self._fault("other neighbours, another fate", values[rows[at]])

    def _apply(self, decoded: Decoded) -> None:
        graph, events = self.state.graph, decoded.events
        admission = self.state.orderer.admit(events)
        parts = (admission.keep, admission.duplicates, admission.late)
        if sorted(np.concatenate(parts).tolist()) != list(range(len(events))):
            self._fault("events lost by the orderer", parts)
        before = graph.edges.next
        applied = graph.apply(events, admission.keep)
        self._applied += 1
        if graph.edges.next - before != len(applied.row):
            self._fault("edges that nobody was told of", (before, graph.edges.next))
        if self._applied % 20 == 0:
            self.check_graph()

    def check_graph(self) -> None:
        """What holds of any graph."""
        graph = self.state.graph
        csr = graph.view().csr(impressions=True)
        names = [name for name in graph.users.names if name]
        numbers = graph.users.find(names)
        recent = graph.recent(numbers, 10)
        for fine, what in (
            (len(set(names)) == len(names), "a name twice"),
            (bool((csr.item < len(graph.items)).all()), "an item that is none"),
            (bool((recent.item < len(graph.items)).all()), "an item that is none"),
            (bool(np.isfinite(csr.weight).all()), "a weight that is none"),
            (len(csr.indptr) == len(graph.users) + 1, "users"),
            (bool((csr.time_us <= graph.now_us).all()), "an edge after the end"),
            (len(graph.edges_by_name()) >= len(csr), "edges without names"),
            (graph.now_us <= NOW_US + self._limits.max_skew_us, "a clock ahead"),
        ):
            if not fine:
                self._fault("graph", what)

    def _fault(self, what: str, value: object) -> None:
        self.tally.silent += 1
        self.tally.say(what, value)


def batch_of(values: Sequence[bytes]) -> RecordBatch:
    """Messages as a batch of their own."""
    return RecordBatch(PARTITIONS[0], np.arange(len(values)), values, len(values))


def may_be_stricter(value: bytes) -> bool:
    """Whether the standard library's JSON is known to be laxer about this message.

    It drops the first of two members of one name unseen, half a character in it included, nests
    five times as deep, and reads a number of any length as infinity, if only it has a fraction.
    """
    deep = value.count(b"[") + value.count(b"{") > 100
    return deep or b"\\ud" in value.lower() or _LONG.search(value) is not None
