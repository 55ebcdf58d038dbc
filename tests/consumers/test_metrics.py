"""Figures for Prometheus: what is told, where, and that rules ask for what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from consumers.errors import SettingsError
from consumers.index import VectorIndex
from consumers.local_process import free_ports
from consumers.metrics import DriftFigures, FineTuneFigures, StreamFigures, exposed
from consumers.settings import Settings
from consumers.status import StatusFile, read_status
from stream.clock import ManualClock
from tests.consumers.serving_http import make_site
from tests.consumers.serving_parts import NOW, make_parts
from tests.consumers.test_status import ingestor

ROOT = Path(__file__).resolve().parents[2]
CURVES = [
    {"watch": "items shown", "answer": "drift", "deviations": {"mean": [0.5, 3.5], "sliced": []}},
    {"watch": "users active", "answer": "not enough data", "deviations": {"mean": []}},
]


def registry(tmp_path: Path) -> CollectorRegistry:
    """All figures that are not a server's."""
    made, clock = CollectorRegistry(), ManualClock(NOW)
    status = StatusFile(tmp_path, clock)
    one = ingestor(5)
    one.pipeline.tally.reasons["late"] = 2
    one.pipeline.tally.transitions["click_converted"] = 3
    status.note(one)
    clock.advance(2_000_000)
    made.register(StreamFigures(lambda: status.last, clock))
    made.register(DriftFigures(lambda: CURVES))
    FineTuneFigures(made).note(None)
    return made


def test_the_fast_path_the_monitor_and_fine_tunes_tell(tmp_path: Path) -> None:
    value = registry(tmp_path).get_sample_value
    assert value("goat_status_age_seconds") == 2.0
    assert value("goat_messages_applied_total", {"kind": "click"}) == 5
    assert value("goat_transitions_total", {"transition": "click_converted"}) == 3
    assert value("goat_messages_refused_total", {"reason": "late"}) == 2
    assert value("goat_source_lag_messages") == 3
    searchable = "goat_event_to_searchable_seconds"
    assert value(f"{searchable}_bucket", {"le": "0.1"}) == 18
    assert value(f"{searchable}_bucket", {"le": "0.5"}) == 18
    assert value(f"{searchable}_bucket", {"le": "+Inf"}) == value(f"{searchable}_count") == 20
    assert value(f"{searchable}_sum") == pytest.approx(3.6)
    assert value("goat_points_total", {"outcome": "written"}) == 20
    assert value("goat_points_total", {"outcome": "saved"}) == 30
    assert value("goat_points_waiting") == 0
    assert value("goat_overlap_lost_ratio") == 0.004
    assert (value("goat_index_backlog_points"), value("goat_index_behind")) == (7, 0)
    assert value("goat_versions_decided_total", {"verdict": "refuse"}) == 1
    assert value("goat_versions_decided_total", {"verdict": "roll_back"}) == 0
    bound = "goat_version_recall_difference_bound"
    status = read_status(tmp_path)
    assert status is not None
    compared = status.trial.compared
    assert compared is not None
    for name, seen in (("all", compared.every), ("cold", compared.cold)):
        assert value(bound, {"clicks": name, "bound": "low"}) == seen.low
        assert value(bound, {"clicks": name, "bound": "high"}) == seen.high
        assert value("goat_version_compared_clicks", {"clicks": name}) == seen.events
    assert value("goat_version_held") == 1
    assert value("goat_prequential_recall_ratio", {"method": "goat"}) == 0.25
    assert value("goat_prequential_recall_ratio", {"method": "popularity"}) is None
    assert value("goat_drift", {"watch": "items shown"}) == 1
    assert value("goat_drift", {"watch": "users active"}) == -1
    moved = {"watch": "items shown", "statistic": "mean"}
    assert value("goat_drift_deviations", moved) == 3.5
    assert value("goat_finetunes_total", {"outcome": "done"}) == 1
    assert value("goat_finetunes_total", {"outcome": "failed"}) == 0


def test_nothing_is_told_before_there_is_anything() -> None:
    made = CollectorRegistry()
    made.register(StreamFigures(lambda: None, ManualClock(NOW)))
    made.register(DriftFigures(lambda: None))
    assert generate_latest(made) == b""


def test_they_are_served_where_a_port_is_named(tmp_path: Path) -> None:
    [port] = free_ports(1)
    settings = Settings(state=tmp_path, metrics_port=port)
    with exposed(settings) as made:
        FineTuneFigures(made).note("it failed")
        text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert 'goat_finetunes_total{outcome="failed"} 1.0' in text
        with pytest.raises(SettingsError, match="--metrics-port"), exposed(settings):
            pass
    with exposed(settings), exposed(Settings(state=tmp_path)):
        pass


def scraped(index: VectorIndex, tmp_path: Path) -> str:
    site = make_site(make_parts(index), tmp_path)
    site.client.post("/v1/candidates", json={"user_id": "u1"})
    own = site.client.get("/metrics").text
    return own + generate_latest(registry(tmp_path)).decode()


def test_rules_ask_for_what_is_told_and_the_document_names_it(
    index: VectorIndex, tmp_path: Path
) -> None:
    told = set(re.findall(r"^# TYPE (goat_\w+) ", scraped(index, tmp_path), re.MULTILINE))
    rules = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    panels = json.loads((ROOT / "deploy" / "grafana.json").read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    for expressions in ([rule["expr"] for rule in alerts], shown):
        names = {name for text in expressions for name in re.findall(r"\bgoat_\w+", text)}
        assert names and {name.removesuffix("_bucket") for name in names} <= told
    document = (ROOT / "docs" / "operations.md").read_text()
    gone = {name for name in told if name.endswith("_created")}
    assert {name for name in told - gone if f"`{name}`" not in document} == set()
    assert [r["alert"] for r in alerts if f"**{r['alert']}**" not in document] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_agrees(index: VectorIndex, tmp_path: Path) -> None:
    deploy = ROOT / "deploy"
    for words in (
        ["check", "config", deploy / "prometheus.yml"],
        ["test", "rules", deploy / "alerts_test.yml"],
    ):
        subprocess.run(["promtool", *words], check=True, capture_output=True)
    text = scraped(index, tmp_path)
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr
