"""Where every message went: nothing that came in may be missing from the sum."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.batch import Decoded, Kind, RecordBatch
from stream.graph import Applied
from stream.ordering import Admission
from stream.sink import DeadLetter
from stream.state import JSON

LATE = "late"


@dataclass(slots=True)
class Tally:
    """Counts of messages: those in are the sum of all the others.

    Attributes
    ----------
    passed : offsets, none of ``events_in``, that held no message: compacted away, aborted, marks
    applied : messages that had their effect; ``capped`` of them only as a count (degree cap)
    excised : left out by a rule of `stream.excision`
    canaries : that measure, and have no effect
    late : further behind their partition's watermark than is accepted; dead-lettered as well
    reasons : dead letters by reason
    kinds : applied messages by kind
    transitions : impressions clicked, clicks converted and so on; see `stream.joins.Transition`
    """

    events_in: int = 0
    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    late: int = 0
    capped: int = 0
    excised: int = 0
    passed: int = 0
    canaries: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    kinds: Counter[str] = field(default_factory=Counter[str])
    transitions: Counter[str] = field(default_factory=Counter[str])

    @property
    def balanced(self) -> bool:
        """Whether every message is accounted for."""
        refused = self.duplicates + self.dead_letters + self.late + self.excised
        return self.events_in == self.applied + refused + self.canaries

    def account(
        self, batch: RecordBatch, decoded: Decoded, admission: Admission, applied: Applied
    ) -> None:
        """Count a batch that was taken."""
        self.events_in += len(batch)
        self.passed += batch.passed
        self.applied += len(admission.keep)
        self.duplicates += len(admission.duplicates)
        self.dead_letters += len(decoded.rejects)
        self.canaries += len(decoded.canaries)
        self.late += len(admission.late)
        self.excised += len(admission.excised)
        self.capped += applied.capped
        self.transitions.update({str(k): n for k, n in applied.transitions.items()})
        self.reasons.update(reject.reason for reject in decoded.rejects)
        self.reasons.update({LATE: len(admission.late)} if len(admission.late) else {})
        counts = np.bincount(decoded.events.kind[admission.keep])
        for kind in np.flatnonzero(counts).tolist():
            self.kinds[Kind(kind).name.lower()] += int(counts[kind])

    def to_json(self) -> dict[str, JSON]:
        """As plain JSON, for the snapshot and the report."""
        return {
            "events_in": self.events_in,
            "applied": self.applied,
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters,
            "late": self.late,
            "capped": self.capped,
            "excised": self.excised,
            "passed": self.passed,
            "canaries": self.canaries,
            "reasons": {**self.reasons},
            "kinds": {**self.kinds},
            "transitions": {**self.transitions},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> "Tally":
        """Back from `to_json`."""
        tally = cls()
        for name, value in stored.items():
            setattr(tally, name, Counter(value) if isinstance(value, dict) else value)
        return tally


def letters(batch: RecordBatch, decoded: Decoded, late: NDArray[np.int64]) -> list[DeadLetter]:
    """What a batch sends to the dead letters: rejects, and events that came too late."""
    refused = [(r.row, r.reason, r.detail) for r in decoded.rejects]
    events = decoded.events
    for i in late.tolist():
        detail = (
            f"event time {int(events.time_us[i])} us is behind the watermark by more than allowed"
        )
        refused.append((int(events.row[i]), LATE, detail))
    return [
        DeadLetter(
            partition=batch.partition,
            offset=int(batch.offsets[row]),
            value=batch.values[row],
            reason=reason,
            detail=detail,
            headers=batch.headers[row] if batch.headers is not None else (),
        )
        for row, reason, detail in sorted(refused)
    ]
