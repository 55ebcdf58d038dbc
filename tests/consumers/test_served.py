"""Handing lists over never waits; what is lost on the way is counted."""

import threading

from consumers.asking import Answer, Rung, Wish
from consumers.served import ServedLog
from tests.consumers.serving_http import Kept


def answer(n: int) -> Answer:
    return Answer(Wish(request_id=f"r{n}", user=f"u{n}"), Rung.USER, 1, (), None, 0, ())


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    log = ServedLog(Kept(), capacity=3)
    log.put([answer(n) for n in range(5)])
    assert (log.write(), log.sent, log.dropped, log.lost) == (3, 3, 2, 0)
    assert log.write() == 0


def test_what_the_sink_does_not_take_is_lost_and_counted() -> None:
    sink = Kept(fails=True)
    log = ServedLog(sink)
    log.put([answer(0), answer(1)])
    assert log.write() == 2
    sink.fails = False
    log.put([answer(2)])
    log.write()
    assert (log.sent, log.lost) == (1, 2)


def test_at_the_end_what_still_waits_is_written() -> None:
    sink, stop = Kept(), threading.Event()
    log = ServedLog(sink)
    log.put([answer(n) for n in range(1_200)])
    stop.set()
    log.run(stop)
    assert (log.sent, len(sink.sent), sink.closed) == (1_200, 1_200, True)
    assert sink.sent[0][1] == b"u0"
