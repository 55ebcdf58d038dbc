"""Every error that ``consumers`` raises.

ConsumerError
├── ServerUnavailable  a server that was asked for cannot be had
│   └── IndexLocked    another process has the embedded index open
├── PublishError       vectors could not be published safely
│   ├── Superseded     a newer publisher has taken over: this one must stop
│   └── ManifestCorrupt  the record of what was published has been altered
├── UnknownPoint       the index holds no vector for that user
├── SettingsError      settings contradict each other or miss something
├── FineTuneFailed     a fine-tune that was waited for ended with an error
└── VersionMissing     a model version that was named is not there
"""


class ConsumerError(Exception):
    """Root of the tree."""


class ServerUnavailable(ConsumerError):
    """A server that was asked for cannot be had."""


class IndexLocked(ServerUnavailable):
    """Another process has the embedded index open."""


class PublishError(ConsumerError):
    """Vectors could not be published safely."""


class Superseded(PublishError):
    """A newer publisher has taken over: this one must stop."""


class ManifestCorrupt(PublishError):
    """The record of what was published has been altered."""


class UnknownPoint(ConsumerError):
    """The index holds no vector for that user."""


class SettingsError(ConsumerError):
    """Settings contradict each other or miss something."""


class FineTuneFailed(ConsumerError):
    """A fine-tune that was waited for ended with an error."""


class VersionMissing(ConsumerError):
    """A model version that was named is not there."""
