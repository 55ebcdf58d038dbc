"""Profiles on disk become where users start, in the live model, and never too early."""

from pathlib import Path

import numpy as np
import pytest

from consumers.live import LiveModel
from consumers.preferences import Preferences
from consumers.profiles import Profile, Profiles
from consumers.prompts import Attributes
from model.config import ModelConfig
from stream.errors import FeaturesCorrupt
from stream.features import FeatureStore, text_key
from tests.consumers.test_live import CONFIG, Stream, version

ON = ModelConfig(**(CONFIG.model_dump() | {"user_neighbours": 3}))
START_US = 1_767_225_600_000_000


def described(state: Path, user: str, until_s: int, place: int, likes: str) -> None:
    words = dict.fromkeys(Attributes.model_fields, (likes,))
    Profiles(state / "language" / "profiles.jsonl").add(
        Profile(
            user=user,
            events=1,
            until_us=START_US + until_s * 1_000_000,
            next_sequence=place,
            made_us=1,
            model="m",
            prompt=1,
            attributes=Attributes.model_validate(words),
        )
    )


def embedded(state: Path, folder: str = "profiles-m-2") -> None:
    with_vectors = {"north": [1, 0], "east": [0, 1]}
    store = FeatureStore(state / "features" / folder, "m", 2)
    keys = [text_key(word) for word in with_vectors]
    store.add(keys, np.array(list(with_vectors.values()), np.float32))
    store.close()


@pytest.fixture
def stream() -> Stream:
    """Ann and Bob go north and east; Cid and Dan have been shown something, and no more."""
    stream = Stream()
    stream.item("north")
    stream.item("east")
    stream.click("ann", "north")
    stream.click("bob", "east")
    return stream


def served(live: LiveModel, name: str) -> list[float]:
    found = live.user_vectors(live.graph.users.find([name]))[0]
    return [round(float(x), 4) for x in found]


def adopted(stream: Stream, state: Path, config: ModelConfig = ON) -> LiveModel:
    live = LiveModel(stream.graph, config, Preferences(state))
    return live.successor(version(np.eye(2, dtype=np.float32)))


def everybody(state: Path) -> None:
    for user, at, place, likes in (("ann", 3, 1, "north"), ("bob", 4, 2, "east")):
        described(state, user, at, place, likes)


def test_a_described_user_is_pulled_to_those_alike(stream: Stream, tmp_path: Path) -> None:
    stream.click("cid", "east")
    everybody(tmp_path)
    described(tmp_path, "cid", 5, 3, "north")
    embedded(tmp_path)
    live = adopted(stream, tmp_path)
    north, east, prior = served(live, "cid")
    assert 0.35 < north < east
    assert prior == 1
    off = adopted(stream, tmp_path, CONFIG)
    assert served(off, "cid") == [0, 1, 1]
    assert (
        served(LiveModel(stream.graph, ON).successor(version(np.eye(2, dtype=np.float32))), "cid")[
            0
        ]
        == 0
    )


def test_of_later_events_only_and_of_a_users_own_past_alone(stream: Stream, tmp_path: Path) -> None:
    """Cid's first event comes before the profile, the second after."""
    stream.click("cid", "east")
    everybody(tmp_path)
    described(tmp_path, "cid", 5, 3, "north")
    embedded(tmp_path)
    live = adopted(stream, tmp_path)
    later = stream.click("cid", "north")
    vectors = live.context_vectors(np.array([2, int(later.sequence[0])]))
    np.testing.assert_array_equal(vectors[0], [0, 0, 1])
    assert 0.35 < vectors[1, 0] < vectors[1, 1]


def test_a_profile_of_what_has_not_happened_yet_is_not_read(stream: Stream, tmp_path: Path) -> None:
    stream.click("cid", "east")
    everybody(tmp_path)
    described(tmp_path, "cid", 5, 9, "north")
    embedded(tmp_path)
    assert served(adopted(stream, tmp_path), "cid") == [0, 1, 1]
    found = Preferences(tmp_path).now(stream.graph)
    assert found is not None
    assert found.user.tolist() == stream.graph.users.find(["ann", "bob"]).tolist()


def test_an_erased_user_starts_nobody(stream: Stream, tmp_path: Path) -> None:
    everybody(tmp_path)
    embedded(tmp_path)
    stream.erase("ann")
    found = Preferences(tmp_path).now(stream.graph)
    assert found is not None
    assert found.user.tolist() == stream.graph.users.find(["bob"]).tolist()


def test_an_erased_user_who_comes_back_is_not_described(stream: Stream, tmp_path: Path) -> None:
    stream.click("cid", "east")
    everybody(tmp_path)
    described(tmp_path, "cid", 5, 3, "north")
    embedded(tmp_path)
    assert served(adopted(stream, tmp_path), "cid")[0] > 0.35
    stream.erase("cid")
    stream.click("cid", "east")
    assert served(adopted(stream, tmp_path), "cid") == [0, 1, 1]


def test_the_vectors_added_to_last_count_and_without_any_nothing_does(
    stream: Stream, tmp_path: Path
) -> None:
    assert Preferences(tmp_path).now(stream.graph) is None
    everybody(tmp_path)
    assert Preferences(tmp_path).now(stream.graph) is None
    old = FeatureStore(tmp_path / "features" / "profiles-a-3", "a", 3)
    old.close()
    embedded(tmp_path, "profiles-z-2")
    found = Preferences(tmp_path).now(stream.graph)
    assert found is not None
    assert found.vectors.tolist() == [[1, 0], [0, 1]]


def test_they_are_read_while_others_are_added(stream: Stream, tmp_path: Path) -> None:
    """The writer holds the store, has a line half written, and neither is touched."""
    everybody(tmp_path)
    embedded(tmp_path)
    path = tmp_path / "language" / "profiles.jsonl"
    path.write_bytes(path.read_bytes() + b'{"user": "ci')
    content = path.read_bytes()
    writer = FeatureStore(tmp_path / "features" / "profiles-m-2", "m", 2)
    found = Preferences(tmp_path).now(stream.graph)
    writer.close()
    assert found is not None
    assert len(found.user) == 2
    assert path.read_bytes() == content


def test_a_damaged_vector_is_found_out(stream: Stream, tmp_path: Path) -> None:
    everybody(tmp_path)
    embedded(tmp_path)
    path = tmp_path / "features" / "profiles-m-2" / "vectors.f32"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with pytest.raises(FeaturesCorrupt, match="checksum"):
        Preferences(tmp_path).now(stream.graph)
    path.write_bytes(b"")
    with pytest.raises(FeaturesCorrupt, match="no whole store"):
        Preferences(tmp_path).now(stream.graph)
