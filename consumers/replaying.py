"""Reading a stream again, from where a state began up to where it was."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from consumers import wiring
from consumers.errors import NotRepeatable, SettingsError
from consumers.inputs import Inputs
from consumers.settings import Settings
from stream.batch import Partition, RecordBatch
from stream.clock import Clock
from stream.errors import RetentionPassed
from stream.kafka_reader import KafkaReader, ReaderConfig
from stream.simulator_source import PARTITION as SIMULATOR
from stream.source import Source
from stream.state import State

POLL_TIMEOUT_S = 0.2
PATIENCE = 100
"""Polls in a row that may bring nothing."""


def open_again(
    settings: Settings,
    inputs: Inputs,
    known: State | None,
    upto: Mapping[Partition, int],
    clock: Clock,
) -> Source:
    """What a state read, from its beginning: files where they are named, Kafka, the simulator.

    Parameters
    ----------
    known : State or None
        That read it; partitions of which it does not say where they began, began at 0.
    upto : partition -> next offset

    Raises
    ------
    SettingsError
        The offsets are of files, and none are named.
    ServerUnavailable
        Kafka was asked for and cannot be had.
    """
    if inputs.events is not None:
        return wiring.open_source(settings, inputs, {}, clock)
    if set(upto) <= {SIMULATOR}:
        simulated = settings.model_copy(update={"kafka": None})
        return wiring.open_source(simulated, Inputs(limit=upto.get(SIMULATOR, 0)), {}, clock)
    if settings.kafka is None:
        raise SettingsError(
            f"offsets of {', '.join(map(str, upto))}: name the files that these are with --events, "
            "or the cluster with --kafka"
        )
    begun = {} if known is None else known.begun
    start = {partition: begun.get(partition, 0) for partition in upto}
    config = ReaderConfig(
        wiring.cluster(settings), settings.topic, connect_timeout_s=wiring.CONNECT_TIMEOUT_S
    )
    with wiring.reaching():
        return KafkaReader(config, start, {} if known is None else known.topics)


def replay(
    source: Source,
    take: Callable[[RecordBatch], None],
    positions: Mapping[Partition, int],
    upto: Mapping[Partition, int],
    batch: int,
) -> None:
    """Take all messages before these offsets, and leave the source at them.

    Parameters
    ----------
    take : callable
        Moves ``positions`` as it takes a batch.
    positions : partition -> next offset to take
    batch : int
        Messages at a time.

    Raises
    ------
    NotRepeatable
        The source does not hold them all.
    """
    idle, surplus = 0, dict[Partition, int]()
    while left := {
        p: at for p, at in upto.items() if positions.get(p, 0) < at and p not in surplus
    }:
        try:
            polled = source.poll(batch, POLL_TIMEOUT_S)
        except RetentionPassed as gone:
            raise NotRepeatable(f"the beginning is gone: {gone}") from gone
        idle = 0 if polled else idle + 1
        for one in polled:
            end = upto.get(one.partition, 0)
            if (part := before(one, end)) is not None:
                take(part)
            if one.next_offset > end:
                beyond = one.offsets[one.offsets >= end]
                surplus.setdefault(one.partition, int(beyond[0]) if len(beyond) else end)
        if not polled and (source.exhausted or idle > PATIENCE):
            missing = {str(p): (positions.get(p, 0), at) for p, at in left.items()}
            raise NotRepeatable(
                f"the source ends before what is wanted (partition: reached, wanted): {missing}; "
                "name the files or the topic that were read, and all of them"
            )
    source.seek(surplus)


def before(batch: RecordBatch, offset: int) -> RecordBatch | None:
    """The part of a batch before an offset; None if there is none."""
    if batch.next_offset <= offset:
        return batch
    n = int(np.searchsorted(batch.offsets, offset))
    if not n:
        return None
    return replace(
        batch,
        offsets=batch.offsets[:n],
        values=batch.values[:n],
        next_offset=offset,
        headers=None if batch.headers is None else batch.headers[:n],
    )


def partitions(offsets: Mapping[str, int]) -> dict[Partition, int]:
    """Offsets by partition, from how a manifest writes them: ``topic[number]``."""
    found: dict[Partition, int] = {}
    for name, at in offsets.items():
        topic, _, number = name.removesuffix("]").rpartition("[")
        found[Partition(topic, int(number))] = at
    return found
