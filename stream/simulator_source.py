"""The simulator as a source: seekable, because the same seed gives the same messages."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np

from stream.batch import Partition, RecordBatch
from stream.errors import SourceError
from stream.simulator import Simulator, SimulatorConfig

PARTITION: Final = Partition("simulator", 0)


class SimulatorSource:
    """A `stream.source.Source` over a `Simulator`; offset = number of the message.

    Parameters
    ----------
    config : SimulatorConfig
    seed : int
    resume : partition -> offset to go on from
    """

    def __init__(
        self, config: SimulatorConfig, seed: int, *, resume: Mapping[Partition, int] | None = None
    ) -> None:
        self._config = config
        self._seed = seed
        self._paused = False
        self._position = 0
        self._restart()
        self.seek(resume or {})

    @property
    def simulator(self) -> Simulator:
        """The platform as it stands now, for its truth."""
        return self._simulator

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        """Make the next messages; a simulator never makes one wait."""
        if self._paused or self.exhausted:
            return []
        values = list(islice(self._messages, max_records))
        first = self._position
        self._position += len(values)
        offsets = np.arange(first, self._position, dtype=np.int64)
        return [RecordBatch(PARTITION, offsets, values, self._position)] if values else []

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Go on from message number ``positions[PARTITION]``: made again up to there.

        Raises
        ------
        SourceError
            If the number is not within the simulation.
        """
        wanted = positions.get(PARTITION, self._position)
        if not 0 <= wanted <= self._config.messages:
            raise SourceError(
                f"{PARTITION}@{wanted}: the simulation has {self._config.messages} messages. "
                "Use the settings it was started with, or start with a new state"
            )
        if wanted < self._position:
            self._restart()
        skipped = islice(self._messages, wanted - self._position)
        self._position += sum(1 for _ in skipped)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def advise(self, positions: Mapping[Partition, int]) -> None:
        """Nobody watches the lag of a simulation."""

    def lag(self) -> Mapping[Partition, int]:
        return {PARTITION: self._config.messages - self._position}

    @property
    def exhausted(self) -> bool:
        return self._position >= self._config.messages

    def close(self) -> None:
        self._position = self._config.messages

    def _restart(self) -> None:
        self._simulator = Simulator(self._config, np.random.default_rng(self._seed))
        self._messages: Iterator[bytes] = iter(self._simulator)
        self._position = 0
