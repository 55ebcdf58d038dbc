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
├── VersionMissing     a model version that was named is not there
├── ErasureUnfinished  a user could not be erased in the time there was
├── NotRepeatable      what a version or a state was made from is gone
├── ProfilesCorrupt    the file of profiles has been altered
├── DriftStateCorrupt  what the drift monitor remembers has been altered
└── LanguageError      a language model did not give what it was asked for
    ├── EndpointFailed  its endpoint refused, or gave no usable answer in all attempts
    └── AnswerInvalid   its answer is not of the schema
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


class ErasureUnfinished(ConsumerError):
    """A user could not be erased in the time there was."""


class NotRepeatable(ConsumerError):
    """What a version or a state was made from is gone, so it cannot be made again."""


class DriftStateCorrupt(ConsumerError):
    """What the drift monitor remembers has been altered, or is of other windows."""


class ProfilesCorrupt(ConsumerError):
    """The file of profiles has been altered."""


class LanguageError(ConsumerError):
    """A language model did not give what it was asked for.

    Parameters
    ----------
    reason : str
        Short machine-readable slug, counted.
    detail : str
        What was got against what was expected, and where.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class EndpointFailed(LanguageError):
    """An endpoint refused, or gave no usable answer in all attempts."""


class AnswerInvalid(LanguageError):
    """A model's answer is not of the schema."""
