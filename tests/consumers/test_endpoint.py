from collections.abc import Iterator
from email.utils import formatdate

import pytest

from consumers.endpoint import Patience
from consumers.errors import EndpointFailed
from tests.consumers.recorded import CUT, HANG, Answer, Recorded, Time, recorded

GOOD = Answer({"ok": 1, "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


@pytest.fixture
def tape() -> Iterator[Recorded]:
    with recorded() as made:
        yield made


def ask(tape: Recorded, time: Time, **patience: float) -> tuple[dict[str, object], object]:
    endpoint = tape.endpoint(time, **patience)
    try:
        return endpoint.post("x", {"a": 1}), endpoint.usage
    finally:
        endpoint.close()


def failure(tape: Recorded, time: Time, **patience: float) -> tuple[EndpointFailed, object]:
    endpoint = tape.endpoint(time, **patience)
    try:
        with pytest.raises(EndpointFailed) as caught:
            endpoint.post("x", {})
        return caught.value, endpoint.usage
    finally:
        endpoint.close()


def test_an_answer_is_given_and_its_cost_counted(tape: Recorded) -> None:
    tape.answers = [GOOD, Answer({"usage": None}), Answer({"usage": {"prompt_tokens": "9"}})]
    endpoint = tape.endpoint(Time())
    endpoint.usage.prompt_price, endpoint.usage.answer_price = 2.0, 10.0
    for _ in range(3):
        endpoint.post("chat/completions", {"a": 1})
    endpoint.close()
    assert tape.asked[0] == {"a": 1}
    assert tape.paths[0] == "/v1/chat/completions"
    assert tape.headers[0]["authorization"] == "Bearer sesame"
    assert (endpoint.usage.prompt_tokens, endpoint.usage.answer_tokens) == (7, 3)
    assert endpoint.usage.cost == pytest.approx((7 * 2 + 3 * 10) / 1e6)
    assert (endpoint.usage.requests, endpoint.usage.retries) == (3, 0)


def test_without_a_key_none_is_sent_and_with_one_none_is_shown(tape: Recorded) -> None:
    tape.answers = [GOOD, Answer({}, 401)]
    endpoint = tape.endpoint(Time(), key=None)
    endpoint.post("x", {})
    endpoint.close()
    assert "authorization" not in tape.headers[0]
    error, _ = failure(tape, Time())
    assert tape.headers[1]["authorization"] == "Bearer sesame"
    assert "sesame" not in str(error)


def test_retry_after_in_seconds_is_honoured(tape: Recorded) -> None:
    tape.answers = [Answer("slow down", 429, {"Retry-After": "17"}), GOOD]
    time = Time()
    answer, usage = ask(tape, time)
    assert answer["ok"] == 1
    assert time.waits == [17.0]
    assert usage.refused == {"http-429": 1}


def test_retry_after_as_a_date_is_honoured(tape: Recorded) -> None:
    time = Time()
    later, past = formatdate(time.now + 9, usegmt=True), formatdate(time.now - 99, usegmt=True)
    tape.answers = [
        Answer("", 503, {"Retry-After": later}),
        Answer("", 503, {"Retry-After": past}),
        GOOD,
    ]
    ask(tape, time)
    assert time.waits == [9.0, 0.0]


def test_a_server_that_asks_for_too_long_is_given_up_at_once(tape: Recorded) -> None:
    tape.answers = [Answer("", 429, {"Retry-After": "86400"})]
    time = Time()
    error, _ = failure(tape, time)
    assert "86400 s > 60 s" in str(error)
    assert time.waits == []


def test_backoff_doubles_and_is_capped(tape: Recorded) -> None:
    tape.answers = [Answer("", 500, {"Retry-After": "soon"}), *[Answer("", 500)] * 4]
    time = Time()
    error, usage = failure(tape, time, backoff_s=2.0, longest_wait_s=7.0)
    assert time.waits == [2.0, 4.0, 7.0, 7.0]
    assert error.reason == "http-500"
    assert "in 5 attempts" in str(error)
    assert (usage.requests, usage.retries) == (5, 4)


def test_a_hang_ends_in_a_timeout_and_is_tried_again(tape: Recorded) -> None:
    tape.answers = [Answer(fault=HANG), GOOD]
    answer, usage = ask(tape, Time(), timeout_s=0.2)
    assert answer["ok"] == 1
    assert usage.refused == {"timeout": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b'{"ok": '), "not-json"),
        (Answer(b'{"ok": 1', fault=CUT), "transport"),
        (Answer([1]), "not-object"),
    ],
)
def test_a_broken_answer_is_tried_again(tape: Recorded, answer: Answer, reason: str) -> None:
    tape.answers = [answer, GOOD]
    got, usage = ask(tape, Time(), timeout_s=0.5)
    assert got["ok"] == 1
    assert usage.refused[reason] + usage.refused["timeout"] == 1


def test_nobody_there_is_said(tape: Recorded) -> None:
    tape.base = "http://127.0.0.1:9"
    error, _ = failure(tape, Time(), attempts=2)
    assert error.reason == "transport"


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_what_cannot_get_better_is_not_tried_again(tape: Recorded, status: int) -> None:
    tape.answers = [Answer("no such model", status, {"Location": "http://127.0.0.1:9/"})]
    error, _ = failure(tape, Time())
    assert (error.reason, len(tape.asked)) == (f"http-{status}", 1)
    assert "no such model" in str(error)


def test_the_rate_is_kept_retries_included(tape: Recorded) -> None:
    tape.answers = [Answer("", 429, {"Retry-After": "0"}), GOOD, GOOD]
    time = Time()
    endpoint = tape.endpoint(time, per_minute=20)
    endpoint.post("x", {})
    endpoint.post("x", {})
    endpoint.close()
    assert time.waits == [0.0, 3.0, 3.0]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"per_minute": 0}])
def test_impossible_patience_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        Patience(**wrong)
