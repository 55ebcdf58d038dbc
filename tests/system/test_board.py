"""The board in a real browser, over a real run: true figures, no errors, no way in for a title."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from consumers.local_process import free_ports
from stream.simulator import Simulator, SimulatorConfig
from tests.browser import FLAGS, chromium

MESSAGES = 60_000
PATIENCE_S = 90.0
HOSTILE = '<img src=x onerror="document.title=1"><b>sale</b>'
SECRET = "0123456789abcdef"
SHOTS = os.environ.get("GOAT_SHOTS")  # a folder to leave pictures in, for a person to look at


@dataclass
class Seen:
    """What a browser complained of."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def text(self, id_: str) -> str:
        return self.page.locator(f"#{id_}").inner_text()

    def until(self, what: Callable[[], object], *, why: str = "it") -> None:
        end = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < end, f"{why} did not happen"
            self.page.wait_for_timeout(200)


def watched(page: Page) -> Seen:
    seen = Seen(page)
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    return seen


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program, environment = chromium(playwright)
        made = playwright.chromium.launch(
            executable_path=program, args=FLAGS, env=environment or None
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("board") / "state"


def events(file: Path) -> None:
    """A simulated stream, a liked item of a hostile title, and a campaign with a budget."""
    messages = list(Simulator(SimulatorConfig(MESSAGES), np.random.default_rng(3)))
    at = json.loads(messages[len(messages) // 2])["occurred_at"]
    say = lambda n, type_, **more: json.dumps(  # noqa: E731
        {"type": type_, "event_id": f"h{n}", "occurred_at": at, **more}
    ).encode()
    more = [say(0, "item", item_id="hostile", title=HOSTILE, campaign_id="spring")]
    more.append(
        say(1, "campaign", campaign_id="spring", bid=0.5, bid_for="click", daily_budget=100.0)
    )
    more += [say(n, "click", user_id=f"user-{n}", item_id="hostile") for n in range(2, 90)]
    more += [say(n, "ad_click", user_id=f"user-{n}", item_id="hostile") for n in range(90, 150)]
    more += [b'{"type":"click","event_id":"torn"', b'{"type":"nonsense"}']
    half = len(messages) // 2
    file.write_bytes(b"\n".join([*messages[:half], *more, *messages[half:]]) + b"\n")


def goat(*words: object, **settings: str) -> "subprocess.Popen[bytes]":
    own = {"GOAT_MODEL": '{"dim": 16, "first_epochs": 1, "epochs": 1}', "GOAT_THREADS": "1"}
    given = {f"GOAT_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "consumers", *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, **own, **given})


def answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, f"goat ended with {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def lived(browser: Browser, state: Path) -> Iterator[Seen]:
    """A page that was open while a run went on, and saw its end."""
    file, [port] = state.parent / "events.jsonl", free_ports(1)
    events(file)
    # Batches small enough that a version lasts longer than a person, or a browser, needs to answer.
    words = ["run", "--events", file, "--finetune-every", 12_000, "--batch", 20, "--quiet"]
    running = goat(*words, "--board", "--port", port, "--state", state)
    url = f"http://127.0.0.1:{port}"
    answers(url, running)
    seen = watched(browser.new_page())
    seen.page.goto(f"{url}/board")
    seen.until(lambda: returned(seen, state), why="the return")
    # What was offered may be dropped when the click arrives: a browser notes that it was refused.
    seen.errors = [error for error in seen.errors if "409 (Conflict)" not in error]
    before = seen.text("events")
    seen.until(lambda: seen.text("events") != before, why="a later figure")
    assert seen.errors == []
    assert running.wait(PATIENCE_S) == 0
    seen.until(lambda: "connection lost" in seen.text("state-text"), why="the loss")
    yield seen
    seen.page.close()


def returned(seen: Seen, state: Path) -> bool:
    """Ask for the version before, unless that is under way; whether it is done."""
    button = seen.page.get_by_role("button", name=re.compile(r"^Return to \d+$"))
    if button.count() and "rolled_back" not in manifest(state):
        button.first.click()
        seen.page.get_by_role("button", name="Do it").click()
        seen.page.wait_for_timeout(500)
    return "rolled_back" in manifest(state)


def manifest(state: Path) -> str:
    return (state / "manifest.jsonl").read_text()


@pytest.fixture(scope="module")
def site(lived: Seen, state: Path) -> Iterator[str]:
    """`goat serve` on what the run has left, after a look at its drift."""
    small = {"drift_window": "60", "drift_reference": "8", "drift_null": "10"}
    assert goat("watch", "--once", "--state", state, **small).wait(PATIENCE_S) == 0
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    serving = goat("serve", "--state", state, "--port", port)
    answers(url, serving)
    end = time.monotonic() + PATIENCE_S
    while httpx.get(f"{url}/v1/board").json()["trouble"]:
        assert time.monotonic() < end
    yield url
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(30) == 0


@pytest.fixture
def opened(browser: Browser, site: str) -> Iterator[Callable[..., Seen]]:
    made: list[Seen] = []

    def open_(width: int = 1_280, scheme: str = "light") -> Seen:
        size: Any = {"width": width, "height": 900}
        page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        seen = watched(page)
        made.append(seen)
        page.goto(f"{site}/board")
        seen.until(lambda: seen.text("items") != "–")
        seen.until(lambda: page.locator("#map .point").count() > 0)
        return seen

    yield open_
    for seen in made:
        assert seen.errors == []
        seen.page.close()


def number(text: str) -> float:
    return float(text.replace(",", "").split()[0])


@pytest.mark.slow
def test_a_run_is_watched_rolled_back_and_missed_when_it_ends(lived: Seen, state: Path) -> None:
    bodies = [json.loads(line)["body"] for line in manifest(state).splitlines()]
    steps = [
        (body["step"], body["collections"]["version"])
        for body in bodies
        if body["step"] in ("published", "rolled_back")
    ]
    at = next(n for n, (step, _) in enumerate(steps) if step == "rolled_back")
    assert steps[at - 1] == ("published", steps[at][1] + 1)
    # What readers were taken back from is not taken up again; what is learned later is.
    assert steps[at - 1] not in steps[at:] and steps[-1][0] == "published"
    assert set((state / "rollback").glob("*")) == set()
    assert lived.text("events") != "–"


@pytest.mark.slow
def test_every_panel_shows_what_is_so(opened: Callable[..., Seen], site: str) -> None:
    seen, board = opened(), httpx.get(f"{site}/v1/board").json()
    status = board["status"]
    for id_ in ("events", "edges", "users", "items"):
        name = "events_in" if id_ == "events" else id_
        assert number(seen.text(id_)) == status[name]
    seen.until(lambda: "has said nothing for" in seen.text("state-text"))
    kinds = seen.page.locator("#kinds tr").all_inner_texts()
    shown = {row.split("\t")[0]: number(row.split("\t")[1]) for row in kinds}
    assert shown == status["kinds"] and shown["campaign"] > 0
    reasons = "".join(seen.page.locator("#reasons tr").all_inner_texts())
    assert all(name in reasons for name in status["reasons"]) and status["reasons"]
    assert seen.text("recall") == f"{status['recall']:.3f}"
    assert seen.text("popular-recall") == f"{status['popularity_recall']:.3f}"
    rows = seen.page.locator("#version-rows tr")
    assert rows.count() == len(board["versions"]) and "live" in rows.first.inner_text()
    map_ = httpx.get(f"{site}/v1/board/alignment").json()
    assert len(map_["points"]) > 100
    assert seen.page.locator("#map .point").count() == 2 * len(map_["points"])
    titles = seen.page.locator("#series h3").all_inner_texts()
    said = [f"{one['watch']}: {one['answer']}" for one in board["drift"]["series"]]
    assert titles == said and any("quiet" in one or "drift" in one for one in said)
    [spring] = [one for one in board["campaigns"] if one["campaign_id"] == "spring"]
    row = seen.page.locator("#campaign-rows tr").filter(has_text="spring").inner_text()
    assert f"{spring['spent']:.2f}" in row and "100.00" in row
    seen.page.select_option("#campaign", "spring")
    assert len(spring["planned"]) == 24 and spring["planned"][-1] == 1.0


@pytest.mark.slow
def test_somebody_is_picked_and_a_hostile_title_is_only_text(
    opened: Callable[..., Seen], site: str
) -> None:
    seen = opened()
    seen.page.fill("#user", "user-3")
    seen.page.press("#user", "Enter")
    seen.until(lambda: "rung user" in seen.text("asked"))
    asked = {"user_id": "user-3", "k": 10}
    expected = httpx.post(f"{site}/v1/candidates", json=asked).json()
    first = seen.page.locator("#candidates li").first.inner_text()
    assert first.startswith(expected["items"][0]["title"]) and "personal" in first
    assert seen.page.locator("#popular li").count() == 10
    held = httpx.get(f"{site}/v1/users/user-3").json()
    history = seen.page.locator("#history li").all_inner_texts()
    assert [one.split("\n")[0] for one in history] == [h["title"] for h in held["history"]][:10]
    seen.page.fill("#user", "nobody")
    seen.page.click("#ask button")
    seen.until(lambda: "never seen" in seen.text("asked"))
    seen.page.fill("#user", "user-80")
    seen.page.click("#ask button")
    seen.until(lambda: "user-80" in seen.text("asked"))
    everything = seen.page.locator("#history").inner_text() + seen.page.locator("main").inner_text()
    assert HOSTILE in everything or HOSTILE[:20] in everything
    assert seen.page.locator("main img").count() == 0
    assert seen.page.title() == "goatstream board"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1_280, 390])
def test_it_is_fit_for_everybody(opened: Callable[..., Seen], width: int, scheme: str) -> None:
    seen = opened(width, scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(seen.page)
    serious = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["target"] for n in v["nodes"]][:4]) for v in serious] == []
    if SHOTS:
        path = Path(SHOTS) / f"board-{width}-{scheme}.png"
        seen.page.screenshot(path=path, full_page=True)


@pytest.mark.slow
def test_it_is_used_by_keyboard_and_keeps_its_theme(opened: Callable[..., Seen]) -> None:
    seen = opened()
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.activeElement.id") == "main"
    seen.page.focus("#theme")
    before = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert seen.page.get_attribute("#theme", "aria-pressed") == "true"
    seen.page.reload()
    seen.until(lambda: seen.page.locator("#map .point").count() > 0)
    assert seen.page.get_attribute("#theme", "aria-pressed") == "true"


@pytest.mark.slow
def test_a_watch_is_muted_and_an_alert_acknowledged(
    opened: Callable[..., Seen], site: str, state: Path
) -> None:
    alert = {
        "name": "clicked-7", "watch": "items clicked", "version": 1, "recall_before": None,
        "recall_after": 0.25, "movers": [{"name": HOSTILE, "before": 0.1, "after": 0.2}],
        "since": {"time": "2026-01-01T00:00:00.000000Z"},
        "moved": [
            {"segment": "all", "statistic": "mean", "deviations": 4.0, "before": 0.1, "distance": 1}
        ],
    }  # fmt: skip
    with (state / "alerts.jsonl").open("a") as file:
        file.write(json.dumps(alert) + "\n")
    seen = opened()
    button = seen.page.get_by_role("button", name="Acknowledge clicked-7")
    seen.until(lambda: button.count() == 1)
    assert HOSTILE in seen.text("alerts")
    button.click()
    seen.until(lambda: button.count() == 0)
    [told] = [
        a
        for a in httpx.get(f"{site}/v1/board").json()["drift"]["alerts"]
        if a["name"] == "clicked-7"
    ]
    assert told["acknowledged"]
    seen.page.get_by_role("button", name="Mute items shown for a day").click()
    seen.page.get_by_role("button", name="Do it").click()
    seen.until(lambda: "items shown: " in seen.text("series") and "muted" in seen.text("series"))


@pytest.mark.slow
def test_a_server_with_keys_asks_for_one(browser: Browser, site: str, state: Path) -> None:
    # Beside the other: the embedded index is that one's, which the board does not need.
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    serving = goat("serve", "--state", state, "--port", port, api_keys=f"eye read {SECRET}")
    answers(url, serving)
    seen = watched(browser.new_page())
    seen.page.goto(f"{url}/board")
    seen.until(lambda: seen.page.locator("#key").is_visible())
    assert seen.text("items") == "–"
    seen.page.fill("#key-field", SECRET)
    seen.page.get_by_role("button", name="Use it until").click()
    seen.until(lambda: seen.text("items") != "–")
    assert not seen.page.locator("#key").is_visible()
    assert all("401" in error for error in seen.errors)
    seen.page.close()
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(30) == 0
