"""What programs say of themselves: in both forms, with the ids that events are found by."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from consumers import logs
from consumers.cli import app
from consumers.index import VectorIndex
from consumers.lifecycle import FAULT, guarded
from stream.batch import Partition
from stream.sink import DeadLetter
from tests.consumers.serving_http import make_site
from tests.consumers.serving_parts import make_parts

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**config)


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("form", ["text", "json"])
def test_libraries_never_tell_the_bytes_that_they_send(form: logs.Form) -> None:
    logs.configure(form, "debug")
    library = logging.getLogger("kafka.protocol.parser")
    assert library.isEnabledFor(logging.INFO)
    assert not library.isEnabledFor(logging.DEBUG)


def test_a_person_is_told_what_went_wrong_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    logs.log.info("all is well", snapshot=3)
    logs.log.warning("not delivered", error="no route")
    logging.getLogger("kafka").warning("broker gone")
    logging.getLogger("kafka").info("polling")
    logs.announce("serving on x", "serving", url="x")
    lines = ["goat: not delivered: error=no route", "goat: broker gone", "goat: serving on x"]
    assert capsys.readouterr().err.splitlines() == lines


def test_as_json_every_line_is_an_object_libraries_and_faults_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")
    logs.announce("serving on x", "serving", url="x")
    logging.getLogger("kafka").warning("broker %s gone\nor not", 3)

    def program() -> int:
        raise ZeroDivisionError("oh")

    assert guarded(program) == FAULT
    served, broker, fault = said(capsys)
    assert (served["event"], served["url"], served["level"]) == ("serving", "x", "info")
    assert (broker["event"], broker["logger"]) == ("broker 3 gone\nor not", "kafka")
    assert (fault["event"], fault["level"]) == ("a fault of ours", "error")
    assert "ZeroDivisionError" in json.dumps(fault["exception"])
    assert all(str(one["timestamp"]).endswith("Z") for one in (served, broker, fault))


@pytest.mark.parametrize(("level", "count"), [(None, 1), ("warning", 0), ("debug", 2)])
def test_levels_are_held_to(
    level: logs.Level | None, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json", level)
    logs.log.debug("one")
    logs.log.info("another")
    assert len(said(capsys)) == count


def test_a_verb_says_in_the_form_that_is_asked_for(tmp_path: Path) -> None:
    words = ["publish", "--state", str(tmp_path)]
    text = RUNNER.invoke(app, words)
    assert text.exit_code == 1
    assert text.stderr.startswith("goat: SettingsError: ")
    as_json = RUNNER.invoke(app, words, env={"GOAT_LOG": "json"})
    assert as_json.exit_code == 1
    assert "no model version" in json.loads(as_json.stderr)["event"]
    assert RUNNER.invoke(app, ["--log", "xml", *words]).exit_code == 2


@dataclass
class Taken:
    """A sink of dead letters."""

    letters: list[DeadLetter] = field(default_factory=list)
    flushed: int = 0
    closed: bool = False

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True


def letter(offset: int, value: bytes) -> DeadLetter:
    return DeadLetter(Partition("goat.events", 2), offset, value, "bad-time", "of 2099")


@pytest.mark.parametrize(
    ("value", "event_id"),
    [
        (b'{"event_id": "e-17", "user_id": "u"}', "e-17"),
        (b'{"event_id": "%s"}' % (b"x" * 5_000), "x" * 256),
        (b'{"event_id": 7}', None),
        (b"\xff\xfe no event", None),
        (b"[" * 10_000, None),
    ],
)
def test_dead_letters_are_told_with_their_place_and_the_event_and_not_its_body(
    value: bytes, event_id: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    sink = Taken()
    logged = logs.LoggedLetters(sink)
    logged.put([])
    logged.put([letter(41, value), letter(42, b"{}")])
    logged.flush()
    logged.close()
    assert (len(sink.letters), sink.flushed, sink.closed) == (2, 1, True)
    [told] = said(capsys)
    assert told["first_event_id"] == event_id
    found = {k: told[k] for k in ("count", "first_offset", "first_reason", "partition")}
    assert found == {
        "count": 2,
        "first_offset": 41,
        "first_reason": "bad-time",
        "partition": str(Partition("goat.events", 2)),
    }
    assert "user_id" not in json.dumps(told)


def test_a_request_has_one_id_in_its_answer_its_list_and_its_lines(
    index: VectorIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    site = make_site(make_parts(index), tmp_path)
    answer = site.client.post("/v1/candidates", json={"user_id": "u1"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    batch = site.client.post("/v1/candidates/batch", json={"requests": [{}, {"request_id": "own"}]})
    one, two = batch.json()["answers"]
    assert one["request_id"] == f"{batch.headers['x-request-id']}-1"
    assert two["request_id"] == "own"
    lines = [line for line in said(capsys) if line["event"] == "request"]
    assert [line["request_id"] for line in lines] == [
        answer.headers["x-request-id"],
        batch.headers["x-request-id"],
    ]
    assert lines[0]["route"] == "/v1/candidates"
    assert lines[0]["status"] == 200
