"""The monitor on graphs whose drift is planted: what it names, and what it remembers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.drift import DriftConfig, Monitor
from consumers.drift_state import DriftState
from consumers.errors import DriftStateCorrupt
from consumers.finetuner import interactions, newest_graph
from consumers.scene import ALL, Bins, Scene, Watch
from consumers.series import Cut
from consumers.versions import Versions
from model.data import TEXT
from stream.catalog import Catalog
from stream.events import Item
from tests.consumers.drifting import CUT, DIM, GROUPS, ITEMS, TOLD, World, begun

CONFIG = DriftConfig(cut=CUT, segments=6, cooldown_us=0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return begun(tmp_path)


def told(monitor: Monitor, scene: Scene) -> set[str]:
    return {alert.watch for alert in monitor.look(scene)}


def test_quiet_events_raise_nothing(world: World) -> None:
    world.events(6_000)
    monitor = Monitor(CONFIG)
    assert told(monitor, world.scene(world.version())) == set()
    answers = monitor.answers()
    assert answers[Watch.CLICKED, ALL] == "quiet"
    assert answers[Watch.CLICKED, "items:new"] == "not enough data"
    assert Watch.SHOWN not in {watch for watch, _ in answers}


def test_another_population_of_items_is_named_with_its_items_and_its_place(world: World) -> None:
    monitor = Monitor(CONFIG)
    world.events(3_000)
    version = world.version()
    assert told(monitor, world.scene(version)) == set()
    turned = world.done
    world.events(1_500, group=0.7)
    found = {alert.watch: alert for alert in monitor.look(world.scene(version))}
    alert = found[Watch.CLICKED]
    assert alert.moved[0].segment == ALL
    assert alert.moved[0].deviations > 3
    assert abs(alert.since.edge - turned) <= 4 * CUT.window
    assert alert.since.offsets in ({"events[0]": turned}, {})
    assert alert.since.time_us == alert.since.edge * 60_000_000
    assert {int(mover.name[1:]) for mover in alert.movers} <= set(range(ITEMS // GROUPS))
    assert all(mover.after > mover.before for mover in alert.movers)
    assert monitor.answers()[Watch.CLICKED, ALL] == "drift"
    assert "items clicked, all" in str(alert)
    # Looked at again it says nothing more, nor do more events of the new kind.
    assert told(monitor, world.scene(version)) == set()
    world.events(1_000, group=0.7)
    assert told(monitor, world.scene(version)) == set()


def test_a_restart_forgets_no_alarm_and_raises_none(world: World, tmp_path: Path) -> None:
    world.events(3_000)
    version = world.version()
    monitor, state = Monitor(CONFIG), DriftState(tmp_path / "drift")
    monitor.look(world.scene(version))
    world.events(1_500, group=0.7)
    alerts = monitor.look(world.scene(version))
    assert alerts
    state.post(alerts, ["topic"], set(), 1)
    state.save(monitor)
    again = DriftState(tmp_path / "drift")
    restored = again.load(CONFIG)
    assert [one.alert["name"] for one in again.posted] == [alert.name for alert in alerts]
    assert restored.look(world.scene(version)) == []
    assert restored.answers() == monitor.answers()
    for key, one in monitor.watched.items():
        np.testing.assert_allclose(
            restored.watched[key].series.standardised(), one.series.standardised()
        )


def test_another_space_of_the_same_events_is_no_drift(world: World) -> None:
    monitor = Monitor(CONFIG)
    world.events(3_000)
    assert told(monitor, world.scene(world.version(0))) == set()
    world.events(1_000)
    assert told(monitor, world.scene(world.version(5))) == set()
    assert monitor.version == 2


def test_what_a_version_has_learned_from_is_over(world: World) -> None:
    monitor = Monitor(CONFIG)
    world.events(3_000)
    monitor.look(world.scene(world.version()))
    world.events(2_000, group=0.7)
    assert told(monitor, world.scene(Versions(world.root / "models").open(1)))
    assert monitor.watched[Watch.CLICKED, ALL].told > 0
    monitor.look(world.scene(world.version(0, trained_upto=world.done)))
    one = monitor.watched[Watch.CLICKED, ALL]
    assert (one.told, monitor.answers()[Watch.CLICKED, ALL]) == (-1, "quiet")
    assert one.begins > 2_500


def test_a_watch_is_quiet_for_a_while_after_an_alert(world: World) -> None:
    monitor = Monitor(replace(CONFIG, cooldown_us=10**15))
    world.events(3_000)
    version = world.version()
    monitor.look(world.scene(version))
    world.events(1_500, group=0.7)
    assert Watch.CLICKED in told(monitor, world.scene(version))
    world.events(2_000, group=0.05)
    assert told(monitor, world.scene(version)) == set()


def test_another_language_model_is_the_alignment_and_not_the_population(world: World) -> None:
    rng = np.random.default_rng(3)
    basis = rng.standard_normal((DIM, TOLD))

    def tell(catalog: Catalog, items: NDArray[np.float32], seed: int, at: int) -> None:
        turned = np.linalg.qr(np.random.default_rng(seed).standard_normal((TOLD, TOLD)))[0]
        for number in range(len(items)):
            text = items[number] @ basis @ turned
            said = {"event_id": f"t{at}-{number}", "occurred_at": "2026-01-01T00:00:00Z"}
            said |= {"item_id": world.graph.items.name(number), "vectors": {TEXT: text.tolist()}}
            if at:
                catalog.attach(number, TEXT, text.astype(np.float32))
            else:
                catalog.announce(number, Item.model_validate_json(json.dumps(said)))

    world.events(3_000)
    version = world.version()
    items = version.load().items
    tell(world.graph.catalog, items, 0, 0)
    monitor = Monitor(CONFIG)
    assert told(monitor, world.scene(version)) == set()
    assert monitor.answers()[Watch.ALIGNMENT, ALL] == "quiet"
    tell(world.graph.catalog, items, 1, 1)
    world.events(1_500)
    found = monitor.look(world.scene(version))
    assert {alert.watch for alert in found} == {Watch.ALIGNMENT}
    assert all(mover.after < 0.9 for mover in found[0].movers)


def test_answers_that_the_score_did_not_promise_are_calibration(world: World) -> None:
    monitor = Monitor(CONFIG)
    world.events(9_000, shown=0.5)
    version = world.version()
    assert told(monitor, world.scene(version)) == set()
    world.events(5_000, shown=0.8)
    assert Watch.CALIBRATION in told(monitor, world.scene(version))


def test_bins_give_the_share_of_answers() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    answered = rng.random(20_000) < scores
    bins = Bins.of(scores, answered)
    asked = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(bins.predicted(asked), asked, atol=0.06)


def test_edges_that_have_left_the_graph_begin_a_series_anew(world: World) -> None:
    monitor = Monitor(CONFIG)
    world.events(3_000)
    version = world.version()
    monitor.look(world.scene(version))
    view = newest_graph(world.root / "graph", 60_000_000 * 2_000)
    assert len(interactions(view)) < 2_100
    monitor.look(Scene(view, version))
    assert monitor.watched[Watch.CLICKED, ALL].begins > 900


def test_files_that_were_altered_or_cut_otherwise_are_refused(world: World, tmp_path: Path) -> None:
    world.events(2_000)
    monitor, state = Monitor(CONFIG), DriftState(tmp_path / "drift")
    monitor.look(world.scene(world.version()))
    monitor.texts[3] = np.ones(4, np.float32)
    state.save(monitor)
    assert DriftState(tmp_path / "drift").load(CONFIG).texts[3].tolist() == [1.0] * 4
    other = replace(CONFIG, cut=Cut(window=50, reference=10, null=10))
    with pytest.raises(DriftStateCorrupt, match="windows of"):
        DriftState(tmp_path / "drift").load(other)
    (texts,) = (tmp_path / "drift").glob("texts-*")
    texts.write_bytes(texts.read_bytes()[:-1] + b"x")
    with pytest.raises(DriftStateCorrupt, match="not what was written"):
        DriftState(tmp_path / "drift").load(CONFIG)
    (tmp_path / "drift" / "state.json").write_text("{}")
    with pytest.raises(DriftStateCorrupt, match="Remove the folder"):
        DriftState(tmp_path / "drift").load(CONFIG)
