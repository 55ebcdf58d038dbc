"""Qdrant behind a door that asks for certificates: its own server asks for none over gRPC."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from consumers import wiring
from consumers.errors import ConsumerError, ServerUnavailable, SettingsError
from consumers.finder import Query
from consumers.index import ANY, Space
from consumers.local_process import free_ports
from consumers.serving import open_finder
from consumers.settings import Settings
from stream.deadline import Deadline
from tests.consumers.publishing import DIM, ITEMS, points
from tests.system.authority import HOST, Authority, Pair
from tests.system.certified import certified
from tests.system.guarded_qdrant import GuardedQdrant

pytestmark = pytest.mark.servers

SOON_S = 10.0


@dataclass(frozen=True)
class Door:
    """What is behind it is `vault`; who shows ``own`` is let in."""

    usual: dict[str, object]
    own: Pair
    locked: Pair

    def settings(self, **other: object) -> Settings:
        """Of a client; ``other`` replaces some, None takes one away."""
        own = {"qdrant_certificate": self.own.certificate, "qdrant_key": self.own.key}
        given = {**self.usual, **own, **other}
        return Settings.model_validate({k: v for k, v in given.items() if v is not None})


@pytest.fixture(scope="module")
def door(vault: GuardedQdrant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    authority = Authority(tmp_path_factory.mktemp("door"))
    shown = authority.issue("door")
    http, grpc = free_ports(2)
    behind = int(vault.url.rpartition(":")[2])
    with ExitStack() as stack:
        for port, to, speaks in ((http, behind, "http/1.1"), (grpc, vault.grpc_port, "h2")):
            lets_in = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
            lets_in.load_cert_chain(shown.certificate, shown.key)
            lets_in.verify_mode = ssl.CERT_REQUIRED
            goes_on = ssl.create_default_context(cafile=vault.ca)
            for context in (lets_in, goes_on):
                context.set_alpn_protocols([speaks])
            stack.enter_context(certified(port, to, lets_in, goes_on))
        usual = vault.settings(
            qdrant=f"https://{HOST}:{http}", qdrant_grpc_port=grpc, qdrant_ca=authority.file
        )
        locked = authority.issue("locked", "client.example", "of-the-key-4720")
        yield Door(usual, authority.issue("client", "client.example"), locked)


def test_who_shows_a_certificate_writes_and_searches(door: Door) -> None:
    index, finder = wiring.open_index(door.settings()), open_finder(door.settings())
    index.create("certified-items", Space.ITEMS, DIM)
    batch = points(ITEMS, 3)
    index.upsert("certified-items", Space.ITEMS, batch, epoch=1, sequence=1)
    asked = [Query(batch.vectors[0], 5, ANY)]
    [found] = finder.find("certified-items", asked, Deadline.after(5))
    expected = [one.id for one in index.search("certified-items", batch.vectors[0], 5)]
    assert len(expected) > 1
    assert [name for name, _ in found] == expected
    index.close()
    finder.close()


@pytest.mark.parametrize("speak", [wiring.open_index, open_finder])
@pytest.mark.parametrize("case", ["none", "a stranger's", "another's key", "locked", "no file"])
def test_who_shows_none_that_is_trusted_is_told(
    door: Door, stranger: Authority, speak: Callable[[Settings], object], case: str
) -> None:
    own = stranger.issue("client", "client.example")
    certificate, key = {
        "none": (None, None),
        "a stranger's": (own.certificate, own.key),
        "another's key": (door.own.certificate, own.key),
        "locked": (door.locked.certificate, door.locked.key),
        "no file": (Path("no.pem"), own.key),
    }[case]
    refused = case in {"none", "a stranger's"}
    kind: type[ConsumerError] = ServerUnavailable if refused else SettingsError
    said = "certificate of ours.*GOAT_QDRANT_CERTIFICATE" if refused else "cannot be used.*pem"
    soon = Deadline.after(SOON_S)
    with pytest.raises(kind, match=said):
        speak(door.settings(qdrant_certificate=certificate, qdrant_key=key))
    assert not soon.passed
