"""Raw records to event columns: the one gate through which everything enters."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream.batch import Decoded, RecordBatch, Reject
from stream.clock import Clock
from stream.columnar import decode_columns
from stream.columns import Columns, from_events, to_batch
from stream.contract import Limits
from stream.contract import parse as decode_one
from stream.envelope import encode_cloud, is_binary
from stream.errors import EventRejected
from stream.events import Canary, Event, encode

__all__ = ["Codec", "Limits", "decode_one", "encode", "encode_cloud"]


class Codec:
    """Decoder of whole batches.

    Parameters
    ----------
    limits : Limits
    clock : Clock
        Asked once a batch, for how far ahead an event may lie.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock

    def decode(self, batch: RecordBatch) -> Decoded:
        """Decode a batch; every row comes out as an event or as a reject, in row order."""
        now_us = self._clock.now_us()
        certain = self._columnar(batch, now_us)
        if len(certain) == len(batch):
            return Decoded(to_batch(batch, certain), ())
        left = np.ones(len(batch), dtype=np.bool_)
        left[certain.row] = False
        events, rejects = self._one_by_one(batch, np.flatnonzero(left), now_us)
        # They go no further: what nobody sees cannot be counted, learned from or shown.
        canaries = tuple(event for event in events.values() if isinstance(event, Canary))
        told = {row: e for row, e in events.items() if not isinstance(e, Canary)}
        return Decoded(to_batch(batch, certain, from_events(told)), tuple(rejects), canaries)

    def _columnar(self, batch: RecordBatch, now_us: int) -> Columns:
        latest_us, max_bytes = now_us + self._limits.max_skew_us, self._limits.max_bytes
        if batch.headers is None or not any(map(is_binary, batch.headers)):
            return decode_columns(batch.values, latest_us, max_bytes)
        plain = [row for row, headers in enumerate(batch.headers) if not is_binary(headers)]
        columns = decode_columns([batch.values[row] for row in plain], latest_us, max_bytes)
        return replace(columns, row=np.array(plain, dtype=np.int64)[columns.row])

    def _one_by_one(
        self, batch: RecordBatch, rows: NDArray[np.int64], now_us: int
    ) -> tuple[dict[int, Event], list[Reject]]:
        events: dict[int, Event] = {}
        rejects: list[Reject] = []
        for row in rows.tolist():
            headers = batch.headers[row] if batch.headers is not None else ()
            try:
                events[row] = decode_one(batch.values[row], self._limits, now_us, headers)
            except EventRejected as error:
                rejects.append(Reject(row, error.reason, error.detail))
        return events, rejects
