"""Every error that ``model`` raises.

ModelError
├── InvalidInput     arrays that do not fit each other, or hold what cannot be learned from
├── TrainingFailed   the loss or a vector stopped being finite
├── TransportFailed  a transport problem that has no answer as it was posed
├── VersionCorrupt   a model version on disk fails its checksum, format or shapes
└── VersionUnwritable  the disk is full, or may not be written to
"""


class ModelError(Exception):
    """Root of the tree."""


class InvalidInput(ModelError):
    """Arrays that do not fit each other, or hold what cannot be learned from."""


class TrainingFailed(ModelError):
    """The loss or a vector stopped being finite."""


class TransportFailed(ModelError):
    """A transport problem that has no answer as it was posed."""


class VersionCorrupt(ModelError):
    """A model version on disk fails its checksum, its format or its shapes."""


class VersionUnwritable(ModelError):
    """A model version cannot be written; those there are stay as they are."""
