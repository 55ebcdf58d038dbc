"""Where events come from: one protocol, so that a topic and a file are read alike."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from stream.batch import Partition, RecordBatch


class Source(Protocol):
    """A resumable reader of raw messages.

    A source never commits its own progress: whoever applies a batch saves `RecordBatch.next_offset`
    beside its effect and hands it back by `seek`.
    """

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        """Read on from where the last poll ended; empty when nothing came in time.

        A batch without messages says only where its partition is.

        Raises
        ------
        SourceError
            If the source cannot be read on; `RetentionPassed` if what it needs is gone.
        """
        ...

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Read on from these offsets; partitions not named keep their place."""
        ...

    def pause(self) -> None:
        """Stop delivering, stay connected: `poll` returns nothing."""
        ...

    def resume(self) -> None:
        """Deliver again after `pause`."""
        ...

    def advise(self, positions: Mapping[Partition, int]) -> None:
        """Tell lag tools how far the saved state is (Kafka's committed offsets); advisory."""
        ...

    def lag(self) -> Mapping[Partition, int]:
        """Messages not yet read, by partition; empty when that cannot be known."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether there will never be more (the end of the files); always False for a topic."""
        ...

    def close(self) -> None:
        """Give back connections and files; idempotent."""
        ...
