"""What the lines of a manifest say: steps on the way of a version to readers, and others."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from consumers.decisions import Decided, How
from consumers.index import Names, Space
from consumers.index_rules import NAME

WHOLE = ""
"""The lane of whoever writes all but the users that members write."""

# They may become folders and paths of requests.
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Collections(_Value):
    """The pair that one fill of a version makes."""

    version: int = Field(ge=1)
    items: Name
    users: Name

    @property
    def names(self) -> Names:
        """The pair, as it is asked for."""
        return Names(self.items, self.users)

    def of(self, space: Space) -> str:
        """The one of a space."""
        return self.items if space is Space.ITEMS else self.users


class Gates(_Value):
    """What was checked before a flip.

    Attributes
    ----------
    items, users : int
        Points filled, each counted again in the index.
    probes, k : int
        Users for whom ``k`` candidates each were asked for.
    overlap : float
        Share of those candidates that are the best by brute force too, 0 to 1.
    """

    items: int
    users: int
    probes: int
    k: int
    overlap: float


class Origin(_Value):
    """What the vectors were made from: all that it takes to make them again.

    A line of format 1 has the first three alone.

    Attributes
    ----------
    model : str
        Version of the model; what identifies it where it is stored.
    snapshot : str
        Graph snapshot.
    offsets : partition -> next offset
        Of the events in that snapshot.
    snapshot_hash : str
        Its checksum, which covers all its files.
    numbering : int
        Of users, items and edges; it changes when a state is rebuilt without some events.
    files : name -> SHA-256
        Of the version's files.
    parent : str
        Version that it went on from; empty for none.
    anew : bool
        Whether it forgot what its parent had learned.
    edges : int
        Number of the first edge that it does not know.
    window_us : int
        Age beyond which edges are not in the graph, in microseconds; 0 where it is not known.
    config : hyper-parameters that are not the default ones
    config_hash : str
        SHA-256 of all of them.
    seed : int or None
        That its random numbers began with.
    made_with : name -> value
        As `model.circumstances` tells.
    """

    model: str = ""
    snapshot: str = ""
    offsets: Mapping[str, int] = Field(default_factory=dict[str, int])
    snapshot_hash: str = ""
    numbering: int = 0
    files: Mapping[str, str] = Field(default_factory=dict[str, str])
    parent: str = ""
    anew: bool = False
    edges: int = 0
    window_us: int = 0
    config: Mapping[str, object] = Field(default_factory=dict[str, object])
    config_hash: str = ""
    seed: int | None = None
    made_with: Mapping[str, str] = Field(default_factory=dict[str, str])

    @property
    def hash(self) -> str:
        """Of the version's head, and so of all of it; empty where it is not known."""
        return self.files.get("version.json", "")


class Opened(_Value):
    """A publisher took over; those of its lane and a lower generation must not write any more.

    Attributes
    ----------
    lane : str
        The partition whose users it writes; empty for whoever writes all else.
    """

    step: Literal["opened"] = "opened"
    generation: int = Field(ge=1)
    lane: str = WHOLE


class Begun(_Value):
    """Two collections are about to be made and filled."""

    step: Literal["begun"] = "begun"
    collections: Collections


class Filled(_Value):
    """So many users, all of a lane, are in a pair of collections, and are kept up to date there.

    The word of a generation that has been taken over from is worth nothing.
    """

    step: Literal["filled"] = "filled"
    collections: Collections
    lane: str
    generation: int = Field(ge=1)
    users: int = Field(ge=0)


class Published(_Value):
    """The collections passed the gates and both aliases point at them.

    By ``delta`` they are those that were live, and points of the version before are replaced by and
    by.
    """

    step: Literal["published"] = "published"
    collections: Collections
    origin: Origin
    aliases: Mapping[Name, Name]
    sequence: int
    gates: Gates
    how: How = "flip"


class RolledBack(_Value):
    """Both aliases point at collections published earlier."""

    step: Literal["rolled_back"] = "rolled_back"
    collections: Collections
    aliases: Mapping[Name, Name]
    sequence: int


class Dropped(_Value):
    """These collections are no more (or about to be)."""

    step: Literal["dropped"] = "dropped"
    names: tuple[Name, ...]


class Trained(_Value):
    """A model version was written; whether it is ever published is another line's matter."""

    step: Literal["trained"] = "trained"
    origin: Origin


class Excised(_Value):
    """The state was rebuilt without some users' events, and leaves them out from here on.

    Attributes
    ----------
    users : str
        Glob of the users' ids.
    from_us, to_us : int
        Event times from the first up to, not including, the second, microseconds since the epoch.
    events, matched : int
        Messages left out, and the users they were of.
    how : "replayed" or "in place"
    numbering : int
        That the state has since.
    """

    step: Literal["excised"] = "excised"
    users: str
    from_us: int
    to_us: int
    events: int
    matched: int
    how: Literal["replayed", "in place"]
    numbering: int


class Rewritten(_Value):
    """A version lost what it said of a user who was erased; what it has learned stays.

    Neither the user nor anything made of the user's id is in it.

    Attributes
    ----------
    model : str
        The version.
    head : str
        SHA-256 of its head, which it has from here on.
    """

    step: Literal["rewritten"] = "rewritten"
    model: str
    head: str


Step = Annotated[
    Opened
    | Begun
    | Filled
    | Published
    | RolledBack
    | Dropped
    | Trained
    | Excised
    | Rewritten
    | Decided,
    Field(discriminator="step"),
]
