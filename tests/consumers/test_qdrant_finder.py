"""The plain way to Qdrant: filters and answers as the client has them, every failure named."""

import json
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given

from consumers.errors import PublishError, ServerUnavailable
from consumers.finder import Query
from consumers.index import Conditions, Space
from consumers.kept_alive import KeptAlive
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_filter import to_filter
from consumers.qdrant_finder import QdrantFinder, to_json
from consumers.qdrant_index import QdrantIndex
from stream.deadline import Deadline
from tests.consumers.publishing import DIM, ITEMS, points
from tests.consumers.test_serving_rules import conditions

COLLECTION = "finder-items"


@given(conditions)
def test_conditions_are_said_as_the_client_says_them(wanted: Conditions) -> None:
    theirs = to_filter(wanted)
    expected = {} if theirs is None else theirs.model_dump(mode="json", exclude_none=True)
    ours = {k: v for k, v in json.loads(json.dumps(to_json(wanted))).items() if v}
    assert _same_times(ours) == _same_times({k: v for k, v in expected.items() if v})


def _same_times(value: object) -> object:
    return json.loads(json.dumps(value).replace(".000000Z", "Z").replace("Z", ""))


@pytest.fixture(scope="module")
def index(qdrant: QdrantAddress) -> Iterator[QdrantIndex]:
    made = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port)
    made.create(COLLECTION, Space.ITEMS, DIM)
    batch = points(ITEMS, 3, {"categories": ["a"], "price": 2.0})
    made.upsert(COLLECTION, Space.ITEMS, batch, epoch=1, sequence=1)
    yield made
    made.drop(COLLECTION)
    made.close()


@pytest.fixture
def finder(qdrant: QdrantAddress, index: QdrantIndex) -> Iterator[QdrantFinder]:
    made = QdrantFinder(qdrant.url)
    yield made
    made.close()


def test_it_finds_what_the_index_finds(finder: QdrantFinder, index: QdrantIndex) -> None:
    rng = np.random.default_rng(1)
    vectors = [rng.normal(size=DIM).astype(np.float32) for _ in range(4)]
    wanted = Conditions(
        categories=("a", "b"), price_to=2.0, not_items=("i3", "i7"), not_campaigns=("x",), now_us=1
    )
    queries = [Query(vector, 7, wanted) for vector in vectors]
    together = finder.find(COLLECTION, queries, Deadline.after(10.0))
    for query, found in zip(queries, together, strict=True):
        expected = index.search(COLLECTION, query.vector, 7, wanted)
        assert [i for i, _ in found] == [c.id for c in expected]
        assert [s for _, s in found] == pytest.approx([c.score for c in expected], rel=1e-5)
        assert finder.find(COLLECTION, [query], Deadline.after(10.0)) == [found]
    assert finder.holds(COLLECTION, Deadline.after(10.0))
    assert not finder.holds("no-such", Deadline.after(10.0))


def test_what_it_refuses_and_what_does_not_come_are_told_apart(finder: QdrantFinder) -> None:
    query = Query(np.ones(DIM, np.float32), 3, Conditions())
    with pytest.raises(PublishError, match="no-such"):
        finder.find("no-such", [query], Deadline.after(10.0))
    with pytest.raises(PublishError, match="400"):
        finder.find(COLLECTION, [Query(np.ones(3, np.float32), 3, Conditions())], Deadline.after(9))
    with pytest.raises(ServerUnavailable, match="deadline"):
        finder.find(COLLECTION, [query], Deadline.after(0.0))
    assert finder.find(COLLECTION, [query], Deadline.after(10.0))


def test_a_server_that_is_not_there_or_no_url_is_refused() -> None:
    with pytest.raises(ServerUnavailable, match="is it running"):
        QdrantFinder("http://127.0.0.1:9")
    with pytest.raises(ServerUnavailable, match="not the URL"):
        QdrantFinder("127.0.0.1:9")


class Server:
    """Answers each connection with what it is told, as it is told."""

    def __init__(self, answers: list[bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._answers = answers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._answers:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection:
                while self._answers and connection.recv(65_536):
                    answer = self._answers.pop(0)
                    if answer == b"hang up":
                        break
                    connection.sendall(answer)

    def close(self) -> None:
        self._answers.clear()
        self._listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


def test_connections_are_kept_and_a_dead_one_is_replaced() -> None:
    server = Server([OK, CHUNKED, b"hang up", OK, LAST, OK])
    kept = KeptAlive(server.url, {})
    answers = [kept.ask("GET", "/", Deadline.after(10.0)) for _ in range(5)]
    assert answers == [(200, b"ok")] * 5
    assert server.connections == 3  # the second after it hung up, the third after the last
    kept.close()
    server.close()


@pytest.mark.parametrize("answer", [b"not HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"hang up"])
def test_an_answer_that_is_none_is_an_error_by_the_deadline(answer: bytes) -> None:
    server = Server([answer, b"hang up"])
    kept = KeptAlive(server.url, {})
    with pytest.raises(OSError):
        kept.ask("GET", "/", Deadline.after(0.2))
    kept.close()
    server.close()
