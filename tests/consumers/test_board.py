"""The board's documents and actions, asked in this process."""

import json
from pathlib import Path

import pytest

from consumers.board_answers import BoardAnswer, MapAnswer
from consumers.follower import Follower
from consumers.index import VectorIndex
from consumers.manifest_steps import Collections
from consumers.retraining import ROLLBACKS, Requests
from consumers.status import StatusFile
from consumers.watching import ACKNOWLEDGED, ALERTS, CURVES, FOLDER, mutes
from tests.consumers.serving_http import Site, make_site
from tests.consumers.serving_parts import make_parts
from tests.consumers.test_status import ingestor


@pytest.fixture
def site(index: VectorIndex, tmp_path: Path) -> Site:
    return make_site(make_parts(index), tmp_path)


def test_a_state_that_nobody_writes_is_said_to_be_one(site: Site) -> None:
    document = site.client.get("/v1/board").json()
    BoardAnswer.model_validate(document)
    assert document["status"] is None and document["status_stale"]
    assert document["drift"] == {"series": [], "age_s": None, "alerts": [], "muted": {}}
    assert document["served_version"] == 1 and document["users"][0] == "u5"


def test_status_campaigns_and_drift_are_as_they_are(site: Site, tmp_path: Path) -> None:
    parts = site.parts
    StatusFile(tmp_path, parts.clock).note(ingestor(5))
    parts.tell("campaign", campaign_id="k0", daily_budget=8.0, bid=2.0, bid_for="click")
    parts.tell("ad_click", user_id="u1", item_id="i8", occurred_at="2026-01-02T00:00:00Z")
    site.board.sample()
    (tmp_path / FOLDER).mkdir()
    curve = {
        "watch": "items shown", "answer": "quiet", "deviations": {"mean": [0.5]}, "ends": [9],
        "null": 1, "since": -1,
    }  # fmt: skip
    (tmp_path / FOLDER / CURVES).write_text(json.dumps([curve]))
    (tmp_path / ALERTS).write_text('{"name": "shown-4", "moved": []}\n{"name": "torn')
    document = site.client.get("/v1/board").json()
    BoardAnswer.model_validate(document)
    assert document["status"]["events_in"] == 5 and not document["status_stale"]
    assert document["drift"]["series"] == [curve]
    assert [one["name"] for one in document["drift"]["alerts"]] == ["shown-4"]
    k0 = next(one for one in document["campaigns"] if one["campaign_id"] == "k0")
    assert (k0["state"], k0["budget"], k0["spent"], len(k0["curve"])) == ("running", 8.0, 2.0, 1)
    assert k0["planned"][-1] == 1.0
    parts.clock.advance(60_000_000)
    assert site.client.get("/v1/board").json()["status_stale"]


def test_both_spaces_need_texts(site: Site) -> None:
    found = site.client.get("/v1/board/alignment").json()
    MapAnswer.model_validate(found)
    assert found == {"version": 1, "explained": 0.0, "points": []}


def test_a_return_needs_a_kept_version_and_a_fast_path(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = lambda n: site.client.post("/v1/operate/rollback", json={"version": n})  # noqa: E731
    assert ask(1).status_code == 409
    kept = Collections(version=1, items="s-items-1", users="s-users-1")
    monkeypatch.setattr(Follower, "previous", property(lambda _: kept))
    assert (ask(2).status_code, ask(1).status_code) == (409, 503)
    StatusFile(tmp_path, site.parts.clock).note(ingestor())
    assert ask(1).status_code == 202
    assert [one.name for one in Requests(tmp_path / ROLLBACKS).waiting()] == ["version-1"]


def test_alerts_are_acknowledged_and_watches_muted(site: Site, tmp_path: Path) -> None:
    post = site.client.post
    assert post("/v1/operate/acknowledge", json={"alert": "shown-4"}).status_code == 404
    (tmp_path / ALERTS).write_text('{"name": "shown-4", "moved": []}\n')
    assert post("/v1/operate/acknowledge", json={"alert": "shown-4"}).status_code == 202
    assert Requests(tmp_path / FOLDER / ACKNOWLEDGED).waiting()[0].name == "shown-4"
    assert site.client.get("/v1/board").json()["drift"]["alerts"][0]["acknowledged"]
    asked = {"watch": "items shown", "hours": 1.5}
    assert post("/v1/operate/mute", json=asked).status_code == 202
    assert mutes(tmp_path).waiting()[0].reason == "2026-01-02T01:30:00.000000Z"
    assert post("/v1/operate/mute", json={**asked, "watch": "x"}).status_code == 422
    lines = [json.loads(line) for line in site.audit.read_text().splitlines()]
    assert {line["path"] for line in lines} == {"/v1/operate/acknowledge", "/v1/operate/mute"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_gets_nothing_done(site: Site, headers: dict[str, str]) -> None:
    body = {"watch": "items shown", "hours": 1}
    refused = site.client.post("/v1/operate/mute", json=body, headers=headers)
    assert refused.status_code == 403 and "cross-site" in refused.json()["type"]
    assert site.client.get("/v1/board", headers=headers).status_code == 403
    own = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert site.client.post("/v1/operate/mute", json=body, headers=own).status_code == 202


def test_the_page_is_whole_strict_and_cached(site: Site) -> None:
    page = site.client.get("/board")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "http" not in page.text  # nothing comes from elsewhere
    for name in ("board.css", "board.js", "plotly.js", "icon.svg"):
        part = site.client.get(f"/board/{name}", headers={"accept-encoding": "gzip"})
        plain = site.client.get(f"/board/{name}", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.content == part.content != b""
        assert part.status_code == 200 and part.headers["content-encoding"] == "gzip"
        again = {"if-none-match": part.headers["etag"]}
        assert site.client.get(f"/board/{name}", headers=again).status_code == 304
    for name in ("nothing.js", "../settings.py", "..%2fsettings.py", "board.py"):
        assert site.client.get(f"/board/{name}").status_code in (404, 422)
