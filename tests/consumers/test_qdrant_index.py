"""What only a server can do wrong: refuse, be old, be slow, say yes and not do it."""

import json
import re
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from consumers import local
from consumers.errors import PublishError, ServerUnavailable, SettingsError
from consumers.gone import Gone
from consumers.index import Names, PointBatch, Space, item_payload
from consumers.local_process import free_ports
from consumers.local_qdrant import QdrantAddress
from consumers.publisher import Publisher
from consumers.qdrant_connection import check_version, translated
from consumers.qdrant_finder import QdrantFinder
from consumers.qdrant_index import QdrantIndex
from stream.clock import ManualClock
from tests.system.authority import Authority

ROOT = Path(__file__).resolve().parents[2]
DIM = 4
SECRET = "do-not-print-me"


@pytest.fixture
def index(qdrant: QdrantAddress) -> Iterator[QdrantIndex]:
    index = QdrantIndex(
        qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key, pause=lambda _: None
    )
    before = set(index.collections())
    yield index
    made = set(index.collections()) - before
    index.point(dict.fromkeys(a for a, c in index.aliases().items() if c in made))
    for name in made:
        index.drop(name)
    index.close()


def points(ids: list[str], first: float) -> PointBatch:
    vectors = np.outer(np.arange(len(ids)) + first, np.ones(DIM)).astype(np.float32)
    return PointBatch(ids, vectors, [{"title": i} for i in ids])


# -- reaching it


def test_nothing_listens() -> None:
    [port] = free_ports(1)
    with pytest.raises(ServerUnavailable, match="is it running"):
        QdrantIndex(f"http://127.0.0.1:{port}", grpc_port=port, timeout_s=2)


@pytest.mark.parametrize("url", ["localhost:6333", "ftp://host", "http://", ""])
def test_a_url_is_a_url(url: str) -> None:
    with pytest.raises(ServerUnavailable, match="not the URL"):
        QdrantIndex(url)


@pytest.mark.servers
def test_the_api_key_is_needed_and_never_shown() -> None:
    with local.qdrant(api_key=SECRET) as address:
        for wrong in (None, "wrong"):
            with pytest.raises(ServerUnavailable, match="GOAT_QDRANT_API_KEY"):
                QdrantIndex(address.url, grpc_port=address.grpc_port, api_key=wrong)
        index = QdrantIndex(address.url, grpc_port=address.grpc_port, api_key=SECRET)
        assert index.collections() == ()
        assert SECRET not in repr(vars(index)) + repr(index)
        with pytest.raises(PublishError) as refused:
            index.count("nowhere")
        assert SECRET not in str(refused.value)
        index.close()


def test_tls_does_not_fall_back(qdrant: QdrantAddress, tmp_path: Path) -> None:
    url, ca = qdrant.url.replace("http:", "https:"), Authority(tmp_path).file
    with pytest.raises(ServerUnavailable, match="does the server speak TLS"):
        QdrantIndex(url, grpc_port=qdrant.grpc_port, ca=ca, timeout_s=2)


def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path) -> None:
    for content in ("no certificate", None):
        file = tmp_path / "ca.pem"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        with pytest.raises(SettingsError, match=re.escape(str(file))):
            QdrantIndex("https://127.0.0.1:1", grpc_port=1, ca=file)
        with pytest.raises(SettingsError, match=re.escape(str(file))):
            QdrantFinder("https://127.0.0.1:1", ca=file)


@pytest.mark.parametrize("server", ["1.15.5", "1.19.0", "2.17.0", "0.9", "dev"])
def test_versions_too_far_apart_are_refused(server: str) -> None:
    with pytest.raises(ServerUnavailable, match=f"is Qdrant {server}"):
        check_version(server, "1.17.1", "http://here")


@pytest.mark.parametrize("server", ["1.16.3", "1.17.0", "1.18.2"])
def test_versions_within_one_minor_are_accepted(server: str) -> None:
    check_version(server, "1.17.1", "http://here")


def test_no_room_is_unavailable() -> None:
    with pytest.raises(ServerUnavailable, match="write queue"), translated("here"):
        raise ResourceExhaustedResponse("write queue is full", retry_after_s=1)


def test_an_error_without_a_code_is_passed_on() -> None:
    with pytest.raises(PublishError, match="torn"), translated("here"):
        raise grpc.RpcError("torn")


# -- what it says and what it does


def test_a_collection_of_somebody_else_is_named(index: QdrantIndex) -> None:
    client: QdrantClient = index._client
    client.create_collection(
        "foreign", vectors_config=q.VectorParams(size=3, distance=q.Distance.DOT)
    )
    with pytest.raises(PublishError, match="no vector named 'goat'"):
        index.upsert("foreign", Space.ITEMS, points(["x"], 1), epoch=1, sequence=1)


def test_a_collection_is_not_named_like_an_alias(index: QdrantIndex) -> None:
    index.create("q-one", Space.ITEMS, DIM)
    index.point({"q-alias": "q-one"})
    with pytest.raises(PublishError, match="alias already"):
        index.create("q-alias", Space.ITEMS, DIM)


def test_a_search_follows_an_alias_to_another_dimension(index: QdrantIndex) -> None:
    for dim in (DIM, DIM + 1):
        index.create(f"q-{dim}", Space.ITEMS, dim)
        index.point({"q-any": f"q-{dim}"})
        assert index.search("q-any", np.ones(dim, np.float32), 1) == []
    with pytest.raises(ValueError, match="finite"):
        index.search("q-any", np.ones(DIM, np.float32), 1)


def test_a_flip_that_is_answered_but_not_done_is_noticed(
    index: QdrantIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.create("q-one", Space.ITEMS, DIM)
    monkeypatch.setattr(index._client, "update_collection_aliases", lambda _: True)
    with pytest.raises(PublishError, match="read back"):
        index.point({"q-alias": "q-one"})


def status(*statuses: q.CollectionStatus) -> Iterator[SimpleNamespace]:
    return iter([SimpleNamespace(status=s, optimizer_status="disk full") for s in statuses])


def test_settling_waits_for_the_optimizer(
    index: QdrantIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    yellow, green = q.CollectionStatus.YELLOW, q.CollectionStatus.GREEN
    told = status(yellow, yellow, green)
    monkeypatch.setattr(index._client, "get_collection", lambda _: next(told))
    index.settle("any")
    assert list(told) == []
    told = status(yellow)
    monkeypatch.setattr("consumers.qdrant_index.SETTLE_TIMEOUT_S", 0.0)
    with pytest.raises(PublishError, match="still being indexed"):
        index.settle("any")
    told = status(q.CollectionStatus.RED)
    with pytest.raises(PublishError, match="disk full"):
        index.settle("any")


# -- publishing to it


class Crash(BaseException):
    pass


def test_versions_crashes_and_rollback_on_the_server(
    index: QdrantIndex, qdrant: QdrantAddress, tmp_path: Path
) -> None:
    names = Names.of("q-shop")

    def opened(crash_at: int = 0) -> Publisher:
        def die(step: int) -> None:
            if step == crash_at:
                raise Crash

        own = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
        return Publisher(own, tmp_path / "manifest.jsonl", names, ManualClock(), on_step=die)

    def publish(publisher: Publisher, version: int) -> None:
        filling = publisher.begin(version, DIM)
        filling.add(Space.ITEMS, points(["a", "b", "c"], version))
        filling.add(Space.USERS, points(["u"], 1))
        filling.commit()

    publisher = opened()
    publish(publisher, 1)
    publisher.close()
    for crash_at in (2, 5):
        publisher = opened(crash_at)
        with pytest.raises(Crash):
            publish(publisher, 2)
        publisher.close()
    publisher = opened()
    assert publisher.live == 1
    assert {c for c in index.collections() if c.startswith("q-shop")} == {
        "q-shop-items-1",
        "q-shop-users-1",
    }
    publish(publisher, 2)
    publisher.push(points(["u"], 2), points(["d"], 9))
    assert [c.id for c in publisher.candidates("u", 2)] == ["d", "c"]
    publisher.rollback(1)
    publisher.remove(Gone(items=("c",)))
    assert [c.id for c in publisher.candidates("u", 2)] == ["b", "a"]
    publisher.sweep()
    publisher.flush()
    publisher.close()


# -- what the documentation says


def stocked(index: QdrantIndex, names: Names) -> None:
    """Publish three items, of which the documented filter lets one through, and ``alice``."""
    made = names.at(1)
    index.create(made.items, Space.ITEMS, DIM)
    index.create(made.users, Space.USERS, DIM)
    payloads = [
        item_payload(title="good", categories=["shoes"], price=70.0, campaign="c"),
        item_payload(title="dear", categories=["shoes"], price=90.0, campaign="c"),
        item_payload(title="paused", categories=["bags"], price=1.0, campaign="paused-1"),
        item_payload(title="over", categories=["bags"], price=1.0, expires_us=0),
    ]
    goods = PointBatch(list("abcd"), np.ones((4, DIM), np.float32), payloads)
    index.upsert(made.items, Space.ITEMS, goods, epoch=1, sequence=1)
    index.upsert(made.users, Space.USERS, points(["alice"], 2), epoch=1, sequence=1)
    index.point({names.items: made.items, names.users: made.users})


def documented(language: str, names: Names) -> str:
    text = (ROOT / "docs" / "serving.md").read_text()
    block = text.split(f"```{language}\n")[1].split("```")[0]
    return block.replace("goat-items", names.items).replace("goat-users", names.users)


def test_the_documented_query_gives_candidates(
    index: QdrantIndex,
    qdrant: QdrantAddress,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = Names.of("q-doc")
    stocked(index, names)
    monkeypatch.setenv("QDRANT_URL", qdrant.url)
    monkeypatch.setenv("QDRANT_GRPC_PORT", str(qdrant.grpc_port))
    if qdrant.api_key is not None:
        monkeypatch.setenv("QDRANT_API_KEY", qdrant.api_key)
    space: dict[str, object] = {}
    exec(documented("python", names), space)
    [line] = capsys.readouterr().out.splitlines()
    score, payload = line.split(" ", 1)
    assert float(score) == 2 * DIM
    assert literal_eval(payload) == {"id": "a", "title": "good", "campaign": "c", "price": 70.0}


def test_the_documented_request_gives_the_same(index: QdrantIndex, qdrant: QdrantAddress) -> None:
    names = Names.of("q-doc")
    stocked(index, names)
    command = documented("sh", names)
    body = command.split("-d '")[1].rsplit("'", 1)[0]
    path = command.split("$QDRANT_URL")[1].split('"')[0]
    request = Request(
        qdrant.url + path,
        body.encode(),
        {"content-type": "application/json", "api-key": qdrant.api_key or ""},
    )
    with urlopen(request, timeout=10) as answer:
        found = json.load(answer)["result"]["points"]
    assert [point["payload"]["id"] for point in found] == ["a"]
