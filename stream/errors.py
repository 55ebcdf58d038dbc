"""Every error that ``stream`` raises.

StreamError
├── EventRejected        one message is not an event: goes to the dead letters
├── SourceError          a source cannot be read on
│   ├── RetentionPassed  the broker has deleted what the state still needs
│   ├── TopicReplaced    a topic was deleted and made anew under the same name
│   └── LogShortened     a partition has lost messages that the state has read
├── SinkError            a sink cannot take what it is given
├── FormatError          a file cannot be understood as the format that was named
└── StateError           what lies on disk cannot be used
    ├── SnapshotCorrupt  a snapshot fails its checksum
    ├── SnapshotForeign  a snapshot is of another format version or configuration
    ├── FeaturesCorrupt  stored vectors fail their checksum, or some are gone
    ├── FeaturesForeign  stored vectors are another model's, or of another length
    ├── StoreInUse       another process writes there
    └── StoreUnwritable  the disk is full, or may not be written to
"""


class StreamError(Exception):
    """Root of the tree."""


class EventRejected(StreamError):
    """One message is not an event.

    Parameters
    ----------
    reason : str
        Short machine-readable slug, counted and put in the dead letter's headers.
    detail : str
        What was got against what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SourceError(StreamError):
    """A source cannot be read on."""


class RetentionPassed(SourceError):
    """The broker has deleted offsets that the state still needs."""


class TopicReplaced(SourceError):
    """A topic was deleted and made anew: offsets of the one before mean nothing in it."""


class LogShortened(SourceError):
    """A partition has lost messages that the state has read."""


class SinkError(StreamError):
    """A sink cannot take what it is given."""


class FormatError(StreamError):
    """A file cannot be understood as the format that was named."""


class StateError(StreamError):
    """What lies on disk cannot be used."""


class SnapshotCorrupt(StateError):
    """A snapshot fails its checksum."""


class SnapshotForeign(StateError):
    """A snapshot is of another format version or configuration."""


class StoreInUse(StateError):
    """Another process writes snapshots there."""


class StoreUnwritable(StateError):
    """A snapshot cannot be written; the one before is as it was."""


class FeaturesCorrupt(StateError):
    """Stored vectors fail their checksum, or some are gone."""


class FeaturesForeign(StateError):
    """Stored vectors are another model's, or of another length."""
