"""Embedded preferences of users as they may be used now: what `goat enrich` has left in the state.

Read when a model version is adopted: the fast path looks nothing up on disk for an event.
"""

from pathlib import Path

import numpy as np

from consumers.profiles import Profile, Profiles
from model.user_graph import Profiled
from stream.features import read, text_key
from stream.graph import Graph


class Preferences:
    """Profiles and their vectors under a state folder.

    Parameters
    ----------
    state : Path
    """

    def __init__(self, state: Path) -> None:
        self._profiles = state / "language" / "profiles.jsonl"
        self._features = state / "features"

    def now(self, graph: Graph) -> Profiled | None:
        """Of the graph's users whose profile is of what came before its place and time.

        Raises
        ------
        FeaturesCorrupt, ProfilesCorrupt
            A file is not what was written.
        """
        # Those added to last: what another embedder made is left behind.
        folders = sorted(self._features.glob("profiles-*/keys.bin"), key=_written)
        if not folders or not self._profiles.exists():
            return None
        found = _usable(Profiles(self._profiles, mend=False), graph)
        keys = [text_key(profile.text) for profile in found.values()]
        vectors, there = read(folders[-1].parent, keys)
        user = np.fromiter(found, np.int64, len(found))
        until_us = np.fromiter((p.until_us for p in found.values()), np.int64, len(found))
        place = np.fromiter((p.next_sequence for p in found.values()), np.int64, len(found))
        return Profiled(user[there], until_us[there], place[there], vectors[there])


def _written(keys: Path) -> tuple[int, str]:
    return keys.stat().st_mtime_ns, keys.parent.name


def _usable(profiles: Profiles, graph: Graph) -> dict[int, Profile]:
    """By number of the user, ascending."""
    found: dict[int, Profile] = {}
    for number, name in enumerate(graph.users.names):
        # What the next event to come may use.
        profile = profiles.at(name, graph.now_us + 1, graph.edges.next) if name else None
        if profile is not None:
            found[number] = profile
    return found
