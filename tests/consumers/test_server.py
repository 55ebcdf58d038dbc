"""The HTTP API: answers, limits, roles, and a problem document for everything that is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from consumers import api_answers as answers
from consumers.errors import ServerUnavailable
from consumers.gate import BODY_BYTES
from consumers.index import VectorIndex
from consumers.problems import MEDIA_TYPE
from consumers.qdrant_finder import QdrantFinder
from consumers.reconnecting import Reconnecting
from consumers.serving import LOCAL
from tests.consumers.serving_http import KEYS, SECRETS, Site, make_site
from tests.consumers.serving_parts import Parts, make_parts
from tests.consumers.test_qdrant_finder import Server

CLICK = {
    "type": "click", "event_id": "new-1", "occurred_at": "2026-01-01T10:00:00Z",
    "user_id": "u1", "item_id": "i20",
}  # fmt: skip


@pytest.fixture
def parts(index: VectorIndex) -> Parts:
    parts = make_parts(index)
    parts.tell("click", user_id="a/b ü", item_id="x/y")
    return parts


@pytest.fixture
def site(parts: Parts, tmp_path: Path) -> Site:
    return make_site(parts, tmp_path)


def problem(response: Any, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    found: dict[str, Any] = response.json()
    assert found["type"] == f"urn:goatstream:problem:{slug}"
    assert found["status"] == status and found["title"] and found["detail"]
    return found


# -- candidates


def test_candidates_are_answered_in_full_and_as_documented(site: Site) -> None:
    asked = {"user_id": "u1", "k": 4, "explain": True, "request_id": "mine"}
    response = site.client.post("/v1/candidates", json=asked)
    assert response.status_code == 200
    found = answers.CandidatesAnswer.model_validate_json(response.content)
    assert (found.request_id, found.user_id, found.rung, found.version) == ("mine", "u1", "user", 1)
    assert [item.position for item in found.items] == [0, 1, 2, 3]
    assert {item.propensity for item in found.items} == {1.0}
    assert all(item.title and item.why for item in found.items)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "server" not in response.headers


def test_everything_that_can_be_asked_for_is_passed_on(site: Site) -> None:
    asked = {
        "user_id": "u1",
        "recent": ["i7"],
        "context": {"categories": ["c1"]},
        "k": 3,
        "filter": {"categories": ["c0", "c1"], "price_from": 1, "price_to": 20.5},
        "exclude": {"items": ["i6"], "campaigns": ["k1"]},
        "boosts": [{"campaign": "k0", "add": 50.0}],
        "diversity": {"relevance": 0.9, "per_category": 2},
        "exploration": {"epsilon": 0.25},
        "include_seen": False,
    }
    response = site.client.post("/v1/candidates", json=asked)
    found = answers.CandidatesAnswer.model_validate_json(response.content)
    shown = {item.item_id: item for item in found.items}
    assert "i6" not in shown and not {"k1"} & {item.campaign_id for item in shown.values()}
    assert all(set(item.categories) <= {"c0", "c1"} for item in shown.values())
    asked = {"filter": {"campaigns": ["k1"]}, "k": 50}
    response = site.client.post("/v1/candidates", json=asked)
    assert {item["campaign_id"] for item in response.json()["items"]} == {"k1"}


def test_a_batch_is_answered_in_order(site: Site) -> None:
    asked = {"requests": [{"user_id": "u1", "k": 2}, {"k": 1}, {"user_id": "u2", "k": 3}]}
    response = site.client.post("/v1/candidates/batch", json=asked)
    found = answers.BatchAnswer.model_validate_json(response.content).answers
    assert [(a.user_id, a.rung, len(a.items)) for a in found] == [
        ("u1", "user", 2), (None, "popular", 1), ("u2", "user", 3),
    ]  # fmt: skip
    too_many = {"requests": [{"k": 101}]}
    problem(site.client.post("/v1/candidates/batch", json=too_many), 422, "invalid-request")


def test_similar_items_and_ids_with_slashes(site: Site) -> None:
    response = site.client.get("/v1/items/i3/similar", params={"k": 3, "category": "c1"})
    found = answers.CandidatesAnswer.model_validate_json(response.content)
    assert found.rung == "similar" and len(found.items) == 3
    assert all(item.categories == ["c1"] for item in found.items)
    known = site.client.get("/v1/items/x%2Fy/similar")
    assert known.status_code == 200 and known.json()["fell"] == ["item_unknown"]
    problem(site.client.get("/v1/items/never/similar"), 404, "item-unknown")
    user = answers.UserAnswer.model_validate_json(
        site.client.get("/v1/users/a%2Fb%20%C3%BC").content
    )
    assert (user.events, user.has_vector, user.history[0].item_id) == (1, False, "x/y")
    problem(site.client.get("/v1/users/never"), 404, "user-unknown")
    problem(site.client.get("/v1/users/a%00b"), 422, "invalid-request")
    problem(site.client.get(f"/v1/users/{'a' * 257}"), 422, "invalid-request")


def test_what_is_served_is_handed_to_the_log(site: Site) -> None:
    asked = {"user_id": "u1", "k": 2, "request_id": "r", "exploration": {"epsilon": 0.5}}
    shown = site.client.post("/v1/candidates", json=asked).json()["items"]
    assert site.served.write() == 1
    [(value, key)] = site.lists.sent
    record = json.loads(value)
    assert key == b"u1"
    assert {k: record[k] for k in ("request_id", "user_id", "version", "rung")} == {
        "request_id": "r", "user_id": "u1", "version": 1, "rung": "user",
    }  # fmt: skip
    wanted = [(i["item_id"], i["position"], i["score"], i["propensity"]) for i in shown]
    assert wanted == [
        (i["item_id"], i["position"], i["score"], i["propensity"]) for i in record["items"]
    ]


def test_a_list_that_is_only_looked_at_is_not_on_record(site: Site) -> None:
    looked = {"user_id": "u1", "record": False}
    site.client.post("/v1/candidates/batch", json={"requests": [looked, {"user_id": "u2"}]})
    assert site.served.write() == 1
    assert [key for _, key in site.lists.sent] == [b"u2"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("127.0.0.1", 200),
        ("rebound.example:8080", 421),
        ("localhost.rebound.example", 421),
        ("127.0.0.1:8080:80", 421),
    ],
)
def test_without_keys_a_name_that_is_not_this_machines_is_refused(
    index: VectorIndex, tmp_path: Path, host: str, status: int
) -> None:
    site = make_site(make_parts(index), tmp_path, hosts=LOCAL)
    answer = site.client.get("/v1/version", headers={"host": host})
    assert answer.status_code == status
    if status == 421:
        problem(answer, 421, "unknown-host")


def test_an_index_that_is_down_is_no_error(site: Site) -> None:
    site.client.post("/v1/candidates", json={"user_id": "u1"})
    site.parts.finder.fault = ServerUnavailable("down")
    stale = site.client.post("/v1/candidates", json={"user_id": "u1"})
    assert (stale.status_code, stale.json()["rung"]) == (200, "stale")
    assert stale.json()["fell"] == ["index_unavailable"]
    ready = problem(site.client.get("/readyz"), 503, "not-ready")
    assert "does not answer" in ready["detail"]
    text = site.client.get("/metrics").text
    assert 'goat_lists_served_total{rung="stale"} 1.0' in text


# -- what the server says of itself


def test_a_qdrant_of_another_version_is_not_asked_and_lists_come_from_popularity(
    site: Site,
) -> None:
    told = b'{"title":"qdrant","version":"1.9.0"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told)
    server = Server([answer, answer])
    with pytest.raises(ServerUnavailable, match=r"is Qdrant 1\.9\.0; qdrant-client"):
        QdrantFinder(server.url)
    site.parts.ladder.finder = finder = Reconnecting(lambda: QdrantFinder(server.url))
    assert not finder.try_open()
    server.close()
    found = site.client.post("/v1/candidates", json={"user_id": "u1"})
    assert found.status_code == 200
    assert (found.json()["rung"], found.json()["fell"]) == ("popular", ["index_unavailable"])


def test_the_server_says_what_it_serves_and_whether_it_is_ready(site: Site) -> None:
    version = answers.VersionAnswer.model_validate_json(site.client.get("/v1/version").content)
    assert (version.version, version.collection, version.published) == (1, "s-items-1", 1)
    assert site.client.get("/healthz").json() == {"alive": True}
    assert site.client.get("/readyz").json() == {"ready": True}
    held = site.client.put("/v1/operate/index", json={"asked": False})
    assert held.json() == {"asked": False}
    unasked = site.client.post("/v1/candidates", json={"user_id": "u1"}).json()
    assert (unasked["rung"], unasked["fell"]) == ("popular", ["index_resting"])
    assert site.client.get("/readyz").status_code == 200  # as somebody wished
    site.client.put("/v1/operate/index", json={"asked": True})
    pair = site.parts.world.pair
    assert pair is not None
    site.parts.world.pair = pair.model_copy(update={"items": "elsewhere"})
    detail = problem(site.client.get("/readyz"), 503, "not-ready")["detail"]
    assert "no collection elsewhere" in detail


# -- events


def test_events_are_checked_and_sent_under_their_user(site: Site) -> None:
    one = site.client.post("/v1/events", json=CLICK)
    assert (one.status_code, one.json()) == (202, {"accepted": 1})
    removed = {"type": "item_removed", "event_id": "x", "occurred_at": CLICK["occurred_at"]}
    two = [CLICK | {"event_id": "new-2"}, removed | {"item_id": "i1"}]
    assert site.client.post("/v1/events", json=two).json() == {"accepted": 2}
    assert [key for _, key in site.events.sent] == [b"u1", b"u1", None]
    assert json.loads(site.events.sent[0][0])["item_id"] == "i20"


@pytest.mark.parametrize(
    "body",
    [[], 5, "click", None, {}, [CLICK, {"type": "nothing"}], CLICK | {"user_id": ""},
     CLICK | {"occurred_at": "2027-01-01T00:00:00Z"}, [CLICK] * 1_001],
)  # fmt: skip
def test_what_is_no_event_is_refused_and_nothing_is_sent(site: Site, body: object) -> None:
    response = site.client.post("/v1/events", json=body)
    assert response.status_code in (413, 415, 422)
    assert response.headers["content-type"] == MEDIA_TYPE
    assert site.events.sent == []


def test_the_same_request_under_the_same_key_is_sent_once(site: Site) -> None:
    key = {"Idempotency-Key": "k1"}
    for _ in range(3):
        assert site.client.post("/v1/events", json=CLICK, headers=key).json() == {"accepted": 1}
    assert len(site.events.sent) == 1
    other = site.client.post("/v1/events", json=CLICK | {"event_id": "n"}, headers=key)
    problem(other, 409, "idempotency-key-reused")
    for n in range(3):  # as many as are remembered
        site.client.post("/v1/events", json=CLICK, headers={"Idempotency-Key": f"n{n}"})
    assert site.client.post("/v1/events", json=CLICK, headers=key).status_code == 202
    assert len(site.events.sent) == 5


def test_events_that_cannot_be_sent_may_be_sent_again(
    site: Site, parts: Parts, tmp_path: Path
) -> None:
    key = {"Idempotency-Key": "k1"}
    site.events.fails = True
    failed = site.client.post("/v1/events", json=CLICK, headers=key)
    problem(failed, 503, "events-unavailable")
    assert failed.headers["retry-after"] == "1"
    site.events.fails = False
    assert site.client.post("/v1/events", json=CLICK, headers=key).status_code == 202
    none = make_site(parts, tmp_path, kafka=False)
    problem(none.client.post("/v1/events", json=CLICK), 503, "no-kafka")


# -- problems and limits


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"k": 0}, "body.k"),
        ({"k": 501}, "body.k"),
        ({"k": "5"}, "body.k"),
        ({"user_id": ""}, "body.user_id"),
        ({"user_id": "a\u0000b"}, "body.user_id"),
        ({"user_id": "u" * 257}, "body.user_id"),
        ({"recent": ["i"] * 101}, "body.recent"),
        ({"exclude": {"items": ["i"] * 2_001}}, "body.exclude.items"),
        ({"filter": {"categories": []}}, "body.filter.categories"),
        ({"filter": {"price_from": -1}}, "body.filter.price_from"),
        ({"boosts": [{"add": 1.0}]}, "body.boosts.0"),
        ({"exploration": {"epsilon": 0.6}}, "body.exploration.epsilon"),
        ({"surprise": 1}, "body.surprise"),
        ([], "body"),
    ],
)
def test_every_bound_is_a_problem_that_says_where(site: Site, body: object, at: str) -> None:
    found = problem(site.client.post("/v1/candidates", json=body), 422, "invalid-request")
    assert found["errors"][0]["at"] == at


def test_other_errors_are_problems_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client, json_type = site.client, {"content-type": "application/json"}
    problem(client.get("/nowhere"), 404, "not-found")
    problem(client.get("/v1/version/"), 404, "not-found")
    problem(client.get("/v1/candidates"), 405, "method-not-allowed")
    malformed = client.post("/v1/candidates", content=b'{"k": ', headers=json_type)
    problem(malformed, 400, "malformed-json")
    surrogate = client.post("/v1/candidates", content=b'{"\\ud800": 1}', headers=json_type)
    problem(surrogate, 422, "invalid-request")
    large = client.post("/v1/candidates", content=b" " * (BODY_BYTES + 1), headers=json_type)
    problem(large, 413, "too-large")
    problem(client.post("/v1/events", content=b"{}"), 415, "not-json")
    chunked = client.post("/v1/candidates", content=iter([b"{}"]), headers=json_type)
    problem(chunked, 411, "length-required")

    def fault(_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(site.parts.world, "user", fault)
    broken = client.post("/v1/candidates", json={"user_id": "u1"})
    problem(broken, 500, "internal-error")
    assert broken.headers["x-content-type-options"] == "nosniff"


# -- keys

TABLE = {
    ("POST", "/v1/candidates"): {"reader"},
    ("POST", "/v1/candidates/batch"): {"reader"},
    ("GET", "/v1/items/i3/similar"): {"reader"},
    ("GET", "/v1/users/u1"): {"reader"},
    ("GET", "/v1/version"): {"reader"},
    ("POST", "/v1/events"): {"producer"},
    ("PUT", "/v1/operate/index"): {"operator"},
    ("POST", "/v1/operate/rollback"): {"operator"},
    ("POST", "/v1/operate/acknowledge"): {"operator"},
    ("POST", "/v1/operate/mute"): {"operator"},
    ("GET", "/v1/board"): {"reader"},
    ("GET", "/v1/board/alignment"): {"reader"},
    ("GET", "/board"): {"", "wrong", "reader", "producer", "operator"},
    ("GET", "/board/board.js"): {"", "wrong", "reader", "producer", "operator"},
    ("GET", "/metrics"): {"operator"},
    ("GET", "/healthz"): {"", "wrong", "reader", "producer", "operator"},
    ("GET", "/readyz"): {"", "wrong", "reader", "producer", "operator"},
    ("GET", "/openapi.json"): {"", "wrong", "reader", "producer", "operator"},
    ("GET", "/nowhere"): {"reader"},
}
BODIES: dict[str, object] = {
    "/v1/candidates": {"k": 1},
    "/v1/candidates/batch": {"requests": [{"k": 1}]},
    "/v1/events": CLICK,
    "/v1/operate/index": {"asked": True},
    "/v1/operate/rollback": {"version": 9},
    "/v1/operate/acknowledge": {"alert": "shown-1"},
    "/v1/operate/mute": {"watch": "items clicked", "hours": 24},
}


@pytest.mark.parametrize("who", ["", "wrong", "reader", "producer", "operator"])
def test_every_role_against_every_route(parts: Parts, tmp_path: Path, who: str) -> None:
    site = make_site(parts, tmp_path, keys=KEYS)
    secret = SECRETS.get(who, "0123456789abcdef")
    headers = {"Authorization": f"Bearer {secret}"} if who else {}
    for (method, path), allowed in TABLE.items():
        response = site.client.request(method, path, json=BODIES.get(path), headers=headers)
        if who in allowed:
            assert response.status_code in (200, 202, 404, 409), (who, path)
        elif who in SECRETS:
            problem(response, 403, "forbidden")
        else:
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")
    documented = site.client.get("/openapi.json").json()["paths"]
    named = {path.replace("{item_id}", "i3").replace("{user_id}", "u1") for path in documented}
    assert named <= {path for _, path in TABLE}


def test_operator_actions_are_noted_also_those_refused(parts: Parts, tmp_path: Path) -> None:
    site = make_site(parts, tmp_path, keys=KEYS)
    for who in ("operator", "reader"):
        headers = {"Authorization": f"Bearer {SECRETS[who]}"}
        site.client.put("/v1/operate/index", json={"asked": False}, headers=headers)
        site.client.get("/metrics", headers=headers)
    noted = [json.loads(line) for line in site.audit.read_text().splitlines()]
    assert [(n["key"], n["method"], n["path"], n["status"]) for n in noted] == [
        ("operator", "PUT", "/v1/operate/index", 200),
        ("reader", "PUT", "/v1/operate/index", 403),
    ]


def test_a_key_has_so_many_requests_a_second(parts: Parts, tmp_path: Path) -> None:
    site = make_site(parts, tmp_path, rate=2.0)
    ask = lambda: site.client.post("/v1/candidates", json={"k": 1})  # noqa: E731
    assert [ask().status_code for _ in range(3)] == [200, 200, 429]
    refused = ask()
    problem(refused, 429, "rate-limited")
    assert refused.headers["retry-after"] == "1"
    assert site.client.get("/healthz").status_code == 200
    site.parts.clock.advance(500_000)
    assert [ask().status_code for _ in range(2)] == [200, 429]
