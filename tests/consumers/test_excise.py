"""`goat excise`: a burst of bots leaves no trace in state, model and index."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers import excising, programs, rebuild_verbs, wiring
from consumers.chronicle import read
from consumers.cli import app
from consumers.errors import NotRepeatable, PublishError, SettingsError
from consumers.index import Space
from consumers.inputs import Inputs
from consumers.manifest import Line
from consumers.manifest_steps import Excised
from consumers.picture import Picture, changes
from consumers.publications import Publications
from consumers.settings import Settings
from consumers.tally import Tally
from consumers.times import span_of
from consumers.versions import Versions
from stream.clock import SystemClock
from stream.errors import StoreInUse
from stream.excision import Rule
from stream.sink import NoLetters
from stream.snapshot import SnapshotStore
from stream.state import State
from tests.consumers.ledgers import MODEL, run, settings, told
from tests.copies import copy_of

STDOUT = Path("-")
MESSAGES, BOTS = 1_500, 240
BURST = span_of("bot-*", "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A platform's events with a burst of clicks of 12 bots on three items, and without it."""
    root = tmp_path_factory.mktemp("root")
    clean = root / "clean" / "events.jsonl"
    clean.parent.mkdir()
    words = ["simulate", "--limit", str(MESSAGES), "--to", str(clean)]
    assert CliRunner().invoke(app, words).exit_code == 0
    lines = clean.read_text().splitlines()
    items = [i for i in dict.fromkeys(json.loads(line).get("item_id") for line in lines) if i][:3]
    mixed: list[str] = []
    for place, line in enumerate(lines):
        mixed.append(line)
        if 400 <= place < 400 + BOTS:
            click = {"type": "click", "event_id": f"b{place}", "user_id": f"bot-{place % 12}"}
            at = {"occurred_at": json.loads(line)["occurred_at"], "item_id": items[place % 3]}
            mixed.append(json.dumps({**click, **at}))
    (root / "mixed").mkdir()
    (root / "mixed" / "events.jsonl").write_text("\n".join(mixed) + "\n")
    run(root / "mixed" / "state", events_of(root / "mixed"))
    return root


def events_of(folder: Path) -> Inputs:
    return Inputs(folder / "events.jsonl")


@pytest.fixture
def mixed(root: Path, tmp_path: Path) -> Settings:
    """The state with the bots in it, to be altered."""
    copy_of(root / "mixed", tmp_path / "mixed")
    return settings(tmp_path / "mixed" / "state", batch=333)


def state_of(given: Settings) -> State:
    ordering = wiring.ordering_of(given)
    state = SnapshotStore(given.graph_dir, SystemClock()).load(ordering=ordering)
    assert state is not None
    return state


def excised(given: Settings, capsys: Any, rule: Rule = BURST, **more: Any) -> Any:
    inputs = more.pop("inputs", events_of(given.state.parent))
    assert excising.excise(given, rule, inputs, json_file=STDOUT, **more) == 0
    return told(capsys)


def manifest(given: Settings) -> list[Line]:
    return read(given.manifest, SystemClock())


def stored(given: Settings, space: Space, names: list[str]) -> list[bool]:
    state = Publications()
    state.advance(manifest(given))
    assert state.live is not None
    index = wiring.open_index(given)
    pair = state.live
    name = pair.items if space is Space.ITEMS else pair.users
    found = index.fetch(name, space, names)
    index.close()
    return [point is not None and not point.deleted for point in found]


def test_a_dry_run_says_what_is_named_and_changes_nothing(root: Path, capsys: Any) -> None:
    given = settings(root / "mixed" / "state")
    before = {path: path.read_bytes() for path in given.state.glob("*.json*")}
    found = excised(given, capsys, dry_run=True)
    assert (found["changed"], found["edges"], found["users"], found["items"]) == (
        False,
        BOTS,
        12,
        3,
    )
    assert sum(found["items_most_named"].values()) == BOTS
    nobody = excised(given, capsys, Rule("nobody", 0, 2**60))
    assert (nobody["changed"], nobody["edges"]) == (False, 0)
    assert {path: path.read_bytes() for path in given.state.glob("*.json*")} == before
    assert excising.excise(given, BURST, Inputs(), dry_run=True) == 0
    assert "nothing was changed" in capsys.readouterr().out


def test_the_state_is_as_if_they_had_never_come(
    root: Path, mixed: Settings, capsys: Any, tmp_path: Path
) -> None:
    old = state_of(mixed)
    figures = excised(mixed, capsys, recall=True)
    assert (figures["events"], figures["how"], figures["version"]) == (BOTS, "replayed", 3)
    assert figures["held_out_recall"]["events"] > 5
    assert 0 <= figures["held_out_recall"]["before"] <= 1
    pushed = list(figures["popularity"])[:3]
    assert {*pushed} == {*figures["items_most_named"]}
    for was, now in list(figures["popularity"].values())[:3]:
        assert was - now > 20
    assert 0 <= figures["neighbours_stayed"] <= 1

    shutil.copy(root / "clean" / "events.jsonl", tmp_path / "events.jsonl")
    clean = state_of(run(tmp_path / "clean", Inputs(tmp_path / "events.jsonl")))
    state = state_of(mixed)
    assert state.graph.digest() == clean.graph.digest()
    assert state.graph.users.names == clean.graph.users.names
    assert state.graph.items.names == clean.graph.items.names
    assert state.positions == old.positions
    assert (state.numbering, state.orderer.rules) == (1, (BURST,))
    tally = Tally.from_json(state.extra["tally"])  # type: ignore[arg-type]
    assert tally.balanced
    assert (tally.events_in, tally.excised) == (MESSAGES + BOTS, BOTS)
    assert state.extra["version"] == 3

    version = Versions(mixed.models_dir).open(3)
    assert (version.meta["base"], version.numbering) == (None, 1)
    [line] = [line.body for line in manifest(mixed) if isinstance(line.body, Excised)]
    assert (line.users, line.events, line.matched, line.how) == ("bot-*", BOTS, 12, "replayed")
    assert stored(mixed, Space.USERS, ["bot-1", *state.graph.users.names[:2]]) == [
        False, True, True,
    ]  # fmt: skip


def test_what_comes_later_of_them_is_left_out_as_well(mixed: Settings, capsys: Any) -> None:
    """A stream goes on over an excised state, and the version after it builds on the new one."""
    excised(mixed, capsys)
    events = mixed.state.parent / "events.jsonl"
    lines = events.read_text().splitlines()
    last = json.loads(lines[-1])["occurred_at"]
    clicks = [
        {"type": "click", "event_id": f"l{n}", "occurred_at": last, "item_id": "item-1",
         "user_id": f"{('bot', 'late')[n % 2]}-{n}"}
        for n in range(900)
    ]  # fmt: skip
    events.write_text("\n".join([*lines, *map(json.dumps, clicks)]) + "\n")
    run(mixed.state, Inputs(events))
    state = state_of(mixed)
    tally = Tally.from_json(state.extra["tally"])  # type: ignore[arg-type]
    assert (tally.excised, tally.balanced) == (BOTS + 450, True)
    assert not [name for name in state.graph.users.names if name.startswith("bot")]
    newest = Versions(mixed.models_dir).newest()
    assert newest is not None
    assert (newest.number, newest.meta["base"], newest.numbering) == (4, 3, 1)
    for more in ({}, {"from_events": True}):
        given = settings(mixed.state, batch=100)
        assert rebuild_verbs.rebuild(given, 4, Inputs(events), json_file=STDOUT, **more) == 0
        assert told(capsys)["equal"]


def test_a_version_that_knew_them_is_made_again_from_its_snapshot_only(
    mixed: Settings, capsys: Any
) -> None:
    excised(mixed, capsys)
    given, inputs = mixed, events_of(mixed.state.parent)
    assert rebuild_verbs.rebuild(given, 2, inputs, json_file=STDOUT) == 0
    assert told(capsys)["made_from"].startswith("version 1 as stored; snapshot")
    with pytest.raises(NotRepeatable, match="excised since"):
        rebuild_verbs.rebuild(given, 2, inputs, from_events=True)


def test_readers_may_be_taken_back_to_a_version_that_knew_them(
    mixed: Settings, capsys: Any
) -> None:
    """It is not gone on from: its numbers are not those of the state."""
    excised(mixed, capsys)
    programs.rollback(mixed, 2)
    run(mixed.state, events_of(mixed.state.parent))
    assert state_of(mixed).extra["version"] == 3
    assert stored(mixed, Space.USERS, ["bot-1"]) == [True]
    capsys.readouterr()


def test_in_place_without_the_beginning(
    root: Path, mixed: Settings, capsys: Any, tmp_path: Path
) -> None:
    events = mixed.state.parent / "events.jsonl"
    whole = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(whole[: len(whole) // 2]))
    before = manifest(mixed)
    with pytest.raises(NotRepeatable, match="--in-place"):
        excised(mixed, capsys)
    assert manifest(mixed) == before, "nothing was changed"
    figures = excised(mixed, capsys, in_place=True)
    assert (figures["events"], figures["how"], figures["version"]) == (BOTS, "in place", 3)
    shutil.copy(root / "clean" / "events.jsonl", tmp_path / "events.jsonl")
    clean = state_of(run(tmp_path / "clean", Inputs(tmp_path / "events.jsonl")))
    state = state_of(mixed)
    assert state.graph.digest() == clean.graph.digest()
    assert (state.numbering, state.orderer.rules) == (0, (BURST,))
    version = Versions(mixed.models_dir).open(3)
    assert version.meta["base"] == 2
    assert "bot-*" in str(version.meta["anew"])
    for was, now in list(figures["popularity"].values())[:3]:
        assert was - now > 20
    assert rebuild_verbs.rebuild(mixed, 3, Inputs(), json_file=STDOUT) == 0
    assert told(capsys)["equal"]
    with pytest.raises(NotRepeatable, match="in place"):
        rebuild_verbs.rebuild(mixed, 3, Inputs(events), from_events=True)


def test_a_crash_before_the_new_version_leaves_the_old_vectors_and_a_state_to_go_on_from(
    mixed: Settings, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(**_: str) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("consumers.finetuner.finetune_job", crash)
        with pytest.raises(KeyboardInterrupt):
            excised(mixed, capsys)
    assert stored(mixed, Space.USERS, ["bot-1"]) == [True], "version 2 is live"
    assert state_of(mixed).numbering == 1
    with pytest.raises(SettingsError, match="no model version"):
        programs.publish(mixed)  # 2 would be taken for what it is not
    run(mixed.state, events_of(mixed.state.parent))
    assert stored(mixed, Space.USERS, ["bot-1"]) == [False]
    newest = Versions(mixed.models_dir).newest()
    assert newest is not None
    assert (newest.number, newest.meta["base"], newest.numbering) == (3, None, 1)


def test_a_state_at_work_is_left_alone(mixed: Settings, capsys: Any) -> None:
    pipeline = wiring.open_pipeline(
        mixed, mixed.hyper_parameters(), None, NoLetters(), SystemClock()
    )
    pipeline.snapshots.acquire()
    with pytest.raises(StoreInUse):
        excised(mixed, capsys)
    pipeline.snapshots.close()


def test_a_rollback_while_nobody_runs_holds_when_the_stream_goes_on(
    mixed: Settings, capsys: Any
) -> None:
    """Readers stay with the version they were taken back to, and its vectors go on changing."""
    programs.rollback(mixed, 1)
    capsys.readouterr()
    run(mixed.state, events_of(mixed.state.parent))
    state = state_of(mixed)
    assert state.extra["version"] == 1
    published = Publications()
    published.advance(manifest(mixed))
    assert published.live is not None
    assert (published.live.version, published.withdrawn) == (1, 2)
    inputs = events_of(mixed.state.parent)
    assert rebuild_verbs.rebuild(mixed, 1, inputs, json_file=STDOUT) == 0
    assert told(capsys)["points"]["users"]["points"] == len(state.graph.users)


def test_the_command_says_what_it_cannot_read(root: Path, tmp_path: Path) -> None:
    state = ["--state", str(root / "mixed" / "state")]
    day = "2026-01-01T00:00:00Z"
    for since, until, said in (
        ("yesterday", day, "--from 'yesterday': RFC 3339"),
        ("2026-01-01T00:00:00", day, "say the zone"),
        (day, day, "no time at all"),
    ):
        words = ["excise", "--user-pattern", "b*", "--from", since, "--to", until, *state]
        done = CliRunner().invoke(app, words)
        assert (done.exit_code, said in done.output) == (1, True), done.output
    words = ["excise", "--user-pattern", "b*", "--from", day, "--to", "2026-02-01T00:00:00Z"]
    done = CliRunner().invoke(app, [*words, "--state", str(tmp_path), "--model", json.dumps(MODEL)])
    assert done.exit_code == 1
    assert "no snapshot" in done.output
    done = CliRunner().invoke(app, [*words, *state, "--model", json.dumps(MODEL), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert f"{BOTS} edges of 12 users to 3 items" in done.output


def test_pictures_of_the_same_items_differ_in_nothing(root: Path) -> None:
    given = settings(root / "mixed" / "state")
    pipeline = wiring.open_pipeline(
        given, given.hyper_parameters(), None, NoLetters(), SystemClock()
    )
    picture = Picture.of(pipeline.live)
    found = changes(picture, picture)
    assert found.stayed == 1
    assert all(was == now for was, now in found.popularity.values())


def test_a_publish_that_fails_its_gates_leaves_the_old_vectors(
    mixed: Settings, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PublishError("refused")

    monkeypatch.setattr("consumers.filling.Filling.check", refuse)
    with pytest.raises(PublishError, match="refused"):
        excised(mixed, capsys)
    assert stored(mixed, Space.USERS, ["bot-1"]) == [True]


def crash(*_: object, **__: object) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("step", "in_place"),
    [
        ("excising._commit", False),  # between 2 and 3
        ("excising._commit", True),
        ("finetuner.finetune_job", True),  # between 3 and 4
        ("wiring.open_publisher", False),  # between 4 and 5
    ],
)
def test_the_command_goes_on_from_where_it_was_cut_off(
    mixed: Settings, capsys: Any, monkeypatch: pytest.MonkeyPatch,
    step: str, in_place: bool,
) -> None:  # fmt: skip
    """Two lines of one excision, a rule without a line or a version that knows: none is left."""
    effect = step != "excising._commit"
    before = [edge for edge in state_of(mixed).graph.edges_by_name() if edge[0][:4] != "bot-"]
    with monkeypatch.context() as patch:
        patch.setattr(f"consumers.{step}", crash)
        with pytest.raises(KeyboardInterrupt):
            excised(mixed, capsys, in_place=in_place)
    assert state_of(mixed).orderer.rules == ((BURST,) if effect else ())
    assert isinstance(manifest(mixed)[-1 - (step[:6] == "wiring")].body, Excised)
    capsys.readouterr()
    figures = excised(mixed, capsys, in_place=in_place)
    how = "in place" if in_place else "replayed"
    assert (figures["events"], figures["how"], figures["version"]) == (BOTS, how, 3)
    assert figures["gone_on_with"] is effect
    assert len([line for line in manifest(mixed) if isinstance(line.body, Excised)]) == 1
    state = state_of(mixed)
    assert (state.orderer.rules, state.extra["version"]) == ((BURST,), 3)
    assert state.graph.edges_by_name() == before
    version = Versions(mixed.models_dir).open(3)
    assert (version.meta["base"], version.numbering) == ((2, 0) if in_place else (None, 1))
    assert version.origin.anew is in_place
    assert stored(mixed, Space.USERS, ["bot-1"]) == [in_place], "in place names stay"
    assert not excised(mixed, capsys, in_place=in_place)["changed"]
