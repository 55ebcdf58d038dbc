"""Every error that ``model`` raises.

ModelError
├── InvalidInput     arrays that do not fit each other, or hold what cannot be learned from
├── TrainingFailed   the loss or a vector stopped being finite
├── TransportFailed  a transport problem that has no answer as it was posed
└── VersionCorrupt   a model version on disk fails its checksum, format or shapes
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
