"""Profiles on disk: one line of JSON each, appended, never changed; and who may see which.

A profile made from events up to a time and a place in the stream may be used only for what comes
after both. So a replay, or an evaluation of the past, never sees the future through it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.errors import ProfilesCorrupt
from consumers.prompts import Attributes, Preferences
from stream.segments import replace_file

HOUR_US: Final = 3_600_000_000


class Profile(BaseModel):
    """What a model made of a user's past, or the reason why it made nothing.

    Attributes
    ----------
    user : external id
    events : int
        Positive events that the user had in all, those beyond the prompt included.
    until_us : int
        Event time of the last of them, microseconds since the epoch.
    next_sequence : int
        Number of the first event of the stream that was not seen.
    made_us : int
        Wall time of the attempt.
    model, prompt : what was asked, and how
    skipped : str
        Reason; empty for a profile.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(min_length=1)
    events: int = Field(ge=1)
    until_us: int
    next_sequence: int = Field(ge=0)
    made_us: int
    model: str
    prompt: int
    attributes: Attributes | None = None
    preferences: Preferences | None = None
    skipped: str = ""

    @property
    def text(self) -> str:
        """What is embedded: the preferences, then the attributes; empty where there is none."""
        said = [part for part in (self.preferences, self.attributes) if part is not None]
        phrases = [word for part in said for words in dict(part).values() for word in words]
        return ", ".join(dict.fromkeys(phrases))

    def usable(self, time_us: int, sequence: int) -> bool:
        """Whether a prediction for an event at this time and place may use it."""
        return self.until_us < time_us and self.next_sequence <= sequence


class Profiles:
    """A growing file of attempts, and the newest ones by user.

    Parameters
    ----------
    path : Path
        JSON lines; made when the first one is added. A last line cut off by a crash is dropped.
    mend : bool
        Whether it is dropped on disk as well. Not by a reader: it may be about to be finished.

    Raises
    ------
    ProfilesCorrupt
        A line that was written whole is not a profile.
    """

    def __init__(self, path: Path, *, mend: bool = True) -> None:
        self._path = path
        self._mend = mend
        self._by_user: dict[str, list[Profile]] = {}
        for profile in self._read():
            self._by_user.setdefault(profile.user, []).append(profile)

    def __len__(self) -> int:
        """Attempts known, skipped ones included."""
        return sum(map(len, self._by_user.values()))

    def add(self, profile: Profile) -> None:
        """Append an attempt and hand it to the operating system."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(profile.model_dump_json().encode() + b"\n")
        self._by_user.setdefault(profile.user, []).append(profile)

    def last(self, user: str) -> Profile | None:
        """The newest attempt at a user, skipped or not."""
        return self._by_user.get(user, [None])[-1]

    def at(self, user: str, time_us: int, sequence: int) -> Profile | None:
        """The newest profile that a prediction for an event at this time and place may use."""
        for profile in reversed(self._by_user.get(user, [])):
            if not profile.skipped and profile.usable(time_us, sequence):
                return profile
        return None

    def newest_of(self, user: str) -> Profile | None:
        """The newest profile of a user, if there is one."""
        return next((p for p in reversed(self._by_user.get(user, [])) if not p.skipped), None)

    def newest(self) -> Mapping[str, Profile]:
        """The newest profile of each user that has one."""
        found = ((user, self.newest_of(user)) for user in self._by_user)
        return {user: profile for user, profile in found if profile is not None}

    def tried_since(self, wall_us: int) -> int:
        """Attempts made after a wall time: what a budget is held against, over restarts too."""
        return sum(p.made_us > wall_us for some in self._by_user.values() for p in some)

    def keep(self, users: Iterable[str]) -> int:
        """Forget all others for good, on disk as well; how many users were forgotten."""
        gone = self._by_user.keys() - set(users)
        if not gone:
            return 0
        for user in gone:
            del self._by_user[user]
        kept = [p.model_dump_json() + "\n" for some in self._by_user.values() for p in some]
        replace_file(self._path, "".join(kept).encode())
        return len(gone)

    def forget(self, user: str) -> set[str]:
        """Forget a user for good, on disk as well; all texts of the others."""
        self.keep(self._by_user.keys() - {user})
        return {p.text for some in self._by_user.values() for p in some}

    def _read(self) -> Iterable[Profile]:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole, _, torn = content.rpartition(b"\n")
        if torn and self._mend:
            replace_file(self._path, whole + b"\n" if whole else b"")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                yield Profile.model_validate_json(line)
            except ValidationError as error:
                said = error.errors(include_input=False)[0]
                raise ProfilesCorrupt(
                    f"{self._path}:{number}: {said['msg']} at {said['loc']}; move the file away to"
                    " have all profiles made anew"
                ) from error


class LatestProfiles:
    """What is said of users now, as another process goes on writing it.

    Parameters
    ----------
    path : Path
        Of `Profiles`; need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None
        self._profiles: Profiles | None = None

    def of(self, user: str) -> str | None:
        """The newest profile's text; None where there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        if self._read != (found.st_mtime_ns, found.st_size):
            self._profiles = Profiles(self._path, mend=False)
            self._read = found.st_mtime_ns, found.st_size
        newest = None if self._profiles is None else self._profiles.newest_of(user)
        return None if newest is None else newest.text
