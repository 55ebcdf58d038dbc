"""A version made again from its origin is the same to the bit; what makes it another is found."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from consumers import rebuild_verbs, replaying, wiring
from consumers.chronicle import read
from consumers.cli import app
from consumers.errors import NotRepeatable, SettingsError
from consumers.index import PointBatch, Space
from consumers.inputs import Inputs
from consumers.manifest import Line
from consumers.manifest_steps import Origin, Published, Trained
from consumers.publications import Publications
from consumers.rebuilding import Rebuilder
from consumers.settings import Settings
from consumers.versions import Versions
from model.sameness import first_difference
from model.version import load
from stream.batch import Partition, RecordBatch
from stream.clock import SystemClock
from stream.snapshot import SnapshotStore
from tests.consumers.ledgers import LIMIT, run, settings, told
from tests.copies import copy_of

STDOUT = Path("-")
TOPIC = Partition("t", 0)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Over a file of events, in batches of a length that the replay does not use."""
    root = tmp_path_factory.mktemp("ran")
    words = ["simulate", "--limit", str(LIMIT), "--to", str(root / "events.jsonl")]
    assert CliRunner().invoke(app, words).exit_code == 0
    run(root / "state", events_of(root))
    return settings(root / "state", batch=333)


def events_of(root: Path) -> Inputs:
    return Inputs(root / "events.jsonl")


@pytest.fixture
def copied(ran: Settings, tmp_path: Path) -> Settings:
    copy_of(ran.state.parent, tmp_path / "root")
    return settings(tmp_path / "root" / "state", batch=333)


def rebuilt(of: Settings, number: int, capsys: Any, **more: Any) -> tuple[int, Any]:
    inputs = more.pop("inputs", events_of(of.state.parent))
    code = rebuild_verbs.rebuild(of, number, inputs, json_file=STDOUT, **more)
    return code, told(capsys)


def test_from_what_is_kept(ran: Settings, capsys: Any) -> None:
    """Every tensor of the version, and every point of the index, vectors bit for bit."""
    code, found = rebuilt(ran, 3, capsys)
    assert (code, found["equal"], found["difference"]) == (0, True, None)
    assert found["made_from"] == "version 2 as stored; snapshot 5"
    assert found["circumstances_that_differ"] == {}
    for space in ("users", "items"):
        points = found["points"][space]
        assert points["points"] > 100
        assert points["equal"] + points["moved_since_written"] == points["points"]
        assert points["equal"] > 0.9 * points["points"]
    assert found["points"]["items"]["moved_since_written"] == 0


def test_from_the_events_alone(ran: Settings, capsys: Any) -> None:
    """Along the whole chain of versions, none of which is looked at."""
    code, found = rebuilt(ran, 3, capsys, from_events=True)
    assert (code, found["equal"]) == (0, True)
    assert found["made_from"] == "; ".join(
        f"events up to {{'events.jsonl[0]': {at}}}" for at in (800, 1_600, 2_400)
    )


def test_what_is_pruned_is_made_from_the_events(copied: Settings, capsys: Any) -> None:
    shutil.rmtree(copied.models_dir / "000001")
    (copied.graph_dir / "snapshots" / "0000000003.json").unlink()
    code, found = rebuilt(copied, 2, capsys)
    assert (code, found["equal"]) == (0, True)
    assert found["made_from"].startswith("snapshot 1; events up to {'events.jsonl[0]': 1600}")
    assert found["points"] == "points are compared for the live version only: version 3 is"


def test_a_pruned_version_is_compared_by_its_hash(
    copied: Settings, capsys: Any, tmp_path: Path
) -> None:
    was = load(copied.models_dir / "000002")
    shutil.rmtree(copied.models_dir / "000002")
    code, found = rebuilt(copied, 2, capsys, to=tmp_path / "again")
    assert (code, found["equal"]) == (0, True)
    assert "pruned" in found["compared"]
    again = load(tmp_path / "again")
    assert first_difference(again.state, was.state) is None
    assert again.item_ids == was.item_ids


def altered(lines: list[Line], **change: object) -> list[Line]:
    """The same lines with another origin of version 3, as if the manifest had said so."""

    def other(line: Line) -> Line:
        body = line.body
        if isinstance(body, Trained | Published) and body.origin.model == "3":
            origin = body.origin.model_copy(update=change)
            return line.model_copy(update={"body": body.model_copy(update={"origin": origin})})
        return line

    return [other(line) for line in lines]


def made_again(of: Settings, lines: list[Line], **more: Any) -> str | None:
    inputs = events_of(of.state.parent)
    made = Rebuilder(of, lines, inputs, SystemClock(), **more).rebuild(3)
    return first_difference(made.state, Versions(of.models_dir).open(3).load())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 10}, "differs in"),
        ({"parent": ""}, "steps is"),
        ({"parent": "1"}, "steps is"),
        ({"anew": True}, "steps is"),
    ],
)
def test_another_origin_gives_another_version(
    ran: Settings, change: Mapping[str, object], said: str
) -> None:
    """The comparison is worth something: it finds whatever was not as recorded."""
    lines = read(ran.manifest, SystemClock())
    assert made_again(ran, altered(lines)) is None
    difference = made_again(ran, altered(lines, **change))
    assert difference is not None
    assert said in difference


def test_a_tensor_that_differs_in_one_bit_is_named(ran: Settings) -> None:
    state = Versions(ran.models_dir).open(3).load()
    items = state.items.copy()
    items.view(np.uint32)[5, 3] ^= 1
    difference = first_difference(replace(state, items=items), state)
    assert difference is not None
    assert difference.startswith(
        f"items differs in 1 of {items.size:,} numbers, first in number 43"
    )
    smaller = replace(state, expected=None)
    assert first_difference(smaller, state) == "tensors ['expected'] are in one of the two only"
    late = replace(state, late=np.zeros(1, np.int64))
    assert "late is int64[1], stored is" in str(first_difference(late, state))
    assert "trained_upto is 1, stored" in str(
        first_difference(replace(state, trained_upto=1), state)
    )


def test_a_stored_point_that_is_another_is_named(copied: Settings, capsys: Any) -> None:
    published = Publications()
    published.advance(read(copied.manifest, SystemClock()))
    assert published.live is not None
    users = published.live.users
    index = wiring.open_index(copied)
    view = SnapshotStore(copied.graph_dir, SystemClock()).open_view()
    assert view is not None
    user = view.users.name(0)
    [point] = index.fetch(users, Space.USERS, [user])
    assert point is not None
    assert point.vector is not None
    wrong = np.nextafter(point.vector, np.float32(9))[None]
    index.upsert(users, Space.USERS, PointBatch([user], wrong, [{}]), epoch=3, sequence=2**40)
    index.close()
    code, found = rebuilt(copied, 3, capsys)
    assert (code, found["equal"], found["difference"]) == (1, False, None)
    assert found["points"]["users"]["differ"] == 1
    assert found["points"]["users"]["first"].startswith(f"{user}: number 0 is")
    assert rebuild_verbs.rebuild(copied, 3, events_of(copied.state.parent)) == 1
    said = capsys.readouterr().out
    assert "tensors and the items' ids" in said
    assert f"first that differs: {user}: number 0" in said


def test_an_index_that_is_in_use_is_left_alone(ran: Settings, capsys: Any) -> None:
    index = wiring.open_index(ran)
    code, found = rebuilt(ran, 3, capsys)
    index.close()
    assert code == 0
    assert "is open in another goat process" in found["points"]


def test_a_source_that_does_not_hold_it_all_is_refused(copied: Settings, capsys: Any) -> None:
    path = copied.state.parent / "events.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1_000]))
    with pytest.raises(NotRepeatable, match=r"events.jsonl\[0\]': \(1000, 1600\)"):
        rebuilt(copied, 2, capsys, from_events=True)
    with pytest.raises(SettingsError, match="--events"):
        rebuilt(copied, 2, capsys, from_events=True, inputs=Inputs())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": None}, "did not record how"),
        ({"config_hash": "0" * 64}, "other default hyper-parameters"),
    ],
)
def test_what_is_not_on_record_is_refused(
    ran: Settings, change: Mapping[str, object], said: str
) -> None:
    lines = read(ran.manifest, SystemClock())
    with pytest.raises(NotRepeatable, match=said):
        made_again(ran, altered(lines, **change))


@pytest.mark.parametrize("words", [["rebuild", "--at", "1"], ["replay", "--at", "1"]])
def test_a_person_asks_by_the_command(ran: Settings, words: list[str]) -> None:
    events = str(ran.state.parent / "events.jsonl")
    done = CliRunner().invoke(app, [*words, "--state", str(ran.state), "--events", events])
    assert done.exit_code == 0, done.output
    assert "made again from snapshot 1" in done.output
    assert ": equal" in done.output


# -- reading again


class Canned:
    """A source of batches given in advance."""

    def __init__(self, *batches: RecordBatch) -> None:
        self.left = list(batches)
        self.sought: Mapping[Partition, int] = {}

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        return [self.left.pop(0)] if self.left else []

    def seek(self, positions: Mapping[Partition, int]) -> None:
        self.sought = positions

    @property
    def exhausted(self) -> bool:
        return not self.left


def batch(first: int, last: int, partition: Partition = TOPIC, step: int = 1) -> RecordBatch:
    offsets = np.arange(first, last, step, dtype=np.int64)
    values = [str(at).encode() for at in offsets.tolist()]
    return RecordBatch(partition, offsets, values, last, headers=[()] * len(values))


def taken(source: Canned, upto: Mapping[Partition, int]) -> list[bytes]:
    found: list[bytes] = []
    positions: dict[Partition, int] = {}

    def take(one: RecordBatch) -> None:
        found.extend(one.values)
        positions[one.partition] = one.next_offset

    replaying.replay(source, take, positions, upto, 10)  # type: ignore[arg-type]
    return found


def test_messages_from_an_offset_on_are_left_for_later() -> None:
    other = Partition("t", 1)
    source = Canned(batch(0, 4), batch(7, 9, other), batch(4, 8), batch(8, 9))
    assert taken(source, {TOPIC: 6}) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert source.sought == {other: 7, TOPIC: 6}
    assert len(source.left) == 1


def test_an_offset_that_no_message_has_is_reached_by_one_after_it() -> None:
    source = Canned(batch(0, 4, step=2), batch(9, 12))
    assert taken(source, {TOPIC: 7}) == [b"0", b"2"]
    assert source.sought == {TOPIC: 9}


def test_where_there_is_nothing_more_says_how_far_it_came() -> None:
    with pytest.raises(NotRepeatable, match=r"'t\[0\]': \(4, 7\)"):
        taken(Canned(batch(0, 4)), {TOPIC: 7})


def test_offsets_are_read_as_they_are_written() -> None:
    origin = Origin(offsets={"a[b][3]": 7, "x.jsonl[0]": 1})
    found = replaying.partitions(origin.offsets)
    assert found == {Partition("a[b]", 3): 7, Partition("x.jsonl", 0): 1}
    assert {str(p): at for p, at in found.items()} == origin.offsets
