"""What a state knows of a topic beside its offsets: which topic it is, and who led it."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Topic:
    """A topic that was read.

    Attributes
    ----------
    id : str
        Kafka's own, which a topic that is made anew under the same name does not have; empty from a
        broker that gives none (before 2.8).
    partitions : int
        That it had when reading began; those of higher numbers were added since.
    epochs : partition number -> leader epoch of the last message read
    """

    id: str
    partitions: int
    epochs: dict[int, int] = field(default_factory=dict[int, int])
