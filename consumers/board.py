"""What the board shows, put together from the state folder and the server's own world.

Everything is read: the fast path's status, the manifest, what the drift monitor left, campaigns as
the server counts them. Nothing here needs the index.
"""

import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.follower import Follower
from consumers.index import to_rfc3339
from consumers.manifest_steps import Published, RolledBack
from consumers.report import latest_users
from consumers.retraining import ROLLBACKS, Requests
from consumers.status import read_status
from consumers.watching import ACKNOWLEDGED, ALERTS, CURVES, FOLDER, mutes
from consumers.world import World
from model.text_map import fit_map
from stream.clock import Clock
from stream.traffic import BINS

CAMPAIGNS = 50
"""Campaigns shown, those that spent most today first."""
USERS = 12
ALERTS_SHOWN = 50
VERSIONS_SHOWN = 30
POINTS = 600
"""Items on the map, those with most events first."""
SAMPLE_EVERY_S = 5.0
SAMPLES = 720
_TAIL = 1 << 18  # bytes of the file of alerts that are looked at

Json = dict[str, Any]


@dataclass(slots=True)
class Board:
    """Puts documents together; any number of threads at once.

    Parameters
    ----------
    follower : Follower
    state : Path
        The state folder.
    clock : Clock
    """

    follower: Follower
    state: Path
    clock: Clock
    _spent: dict[str, deque[tuple[int, float, float]]] = field(
        default_factory=dict[str, deque[tuple[int, float, float]]]
    )
    _map: tuple[int, Json] | None = None

    def run(self, stop: threading.Event) -> None:
        """Note what campaigns have spent, every few seconds, until told to stop."""
        while not stop.wait(SAMPLE_EVERY_S):
            self.sample()

    def sample(self) -> None:
        """Note what the campaigns that are shown have spent."""
        with self.follower.reading() as world:
            shown = [] if world is None else self._campaigns(world)
        for one in shown:
            past = self._spent.setdefault(one["campaign_id"], deque(maxlen=SAMPLES))
            past.append((self.clock.now_us(), one["spent"], one["pacing"]))

    def document(self) -> Json:
        """All that changes from moment to moment: see `consumers.board_answers.BoardAnswer`."""
        now_us = self.clock.now_us()
        status = read_status(self.state)
        with self.follower.reading() as world:
            campaigns = [] if world is None else self._campaigns(world)
            users = [] if world is None else _users(world)
            version = 0 if world is None else world.live.version
        for one in campaigns:
            past = self._spent.get(one["campaign_id"], ())
            one["curve"] = [{"at_us": at, "spent": s, "pacing": p} for at, s, p in list(past)]
        return {
            "at": to_rfc3339(now_us),
            "status": None if status is None else status.model_dump(mode="json"),
            "status_age_s": None if status is None else (now_us - status.at_us) / 1e6,
            "status_stale": status is None or status.stale(now_us),
            "served_version": version,
            "trouble": self.follower.trouble,
            "versions": self._versions(),
            "drift": self._drift(now_us),
            "campaigns": campaigns,
            "users": users,
        }

    def alerts(self) -> list[Json]:
        """The newest alerts, the oldest of them first."""
        return _alerts(self.state / ALERTS)

    def curves(self) -> list[Json] | None:
        """What the drift monitor measured at its last look; None where nobody has looked."""
        try:
            found: list[Json] = json.loads((self.state / FOLDER / CURVES).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def alignment(self) -> Json:
        """Both spaces in two dimensions: see `consumers.board_answers.MapAnswer`.

        The principal components of ids and images of texts together; made once a version, and
        while others go on reading the world.
        """
        with self.follower.reading() as world:
            version = 0 if world is None else world.live.version
            if self._map is not None and self._map[0] == version:
                return self._map[1]
            warm = None if world is None else world.live.warm_texts()
            labels = [] if world is None or warm is None else _labels(world, warm[0][:POINTS])
        found: Json = {"version": version, "explained": 0.0, "points": []}
        if warm is not None:
            _, vectors, texts = warm
            if (by := fit_map(texts, vectors)) is not None:
                found |= _projected(vectors[:POINTS], by.vectors(texts[:POINTS]), labels)
        self._map = version, found
        return found

    # -- parts

    def _versions(self) -> list[Json]:
        """Publications and returns of the manifest, the newest first."""
        lines, live = self.follower.lines, self.follower.published
        previous = self.follower.previous
        asked = {r.name for r in Requests(self.state / ROLLBACKS).waiting()}
        out: list[Json] = []
        for line in reversed(lines):
            if not isinstance(line.body, Published | RolledBack) or len(out) >= VERSIONS_SHOWN:
                continue
            body = line.body
            version = body.collections.version
            gates = body.gates.model_dump() if isinstance(body, Published) else None
            out.append(
                {
                    "version": version,
                    "at": line.at,
                    "step": body.step,
                    "collection": body.collections.items,
                    "gates": gates,
                    "live": live is not None and live == body.collections,
                    "kept": previous is not None and previous == body.collections,
                    "asked": f"version-{version}" in asked,
                }
            )
        return out

    def _drift(self, now_us: int) -> Json:
        folder = self.state / FOLDER
        seen = {one.name for one in Requests(folder / ACKNOWLEDGED).waiting()}
        alerts = [
            {**alert, "acknowledged": alert["name"] in seen} for alert in reversed(self.alerts())
        ]
        series, age_s = self.curves(), None
        if series is not None:
            age_s = now_us / 1e6 - (folder / CURVES).stat().st_mtime
        muted = {one.name.replace("-", " "): one.reason for one in mutes(self.state).waiting()}
        return {"series": series or [], "age_s": age_s, "alerts": alerts, "muted": muted}

    def _campaigns(self, world: World) -> list[Json]:
        told = world.campaigns
        standing = {name: told.standing(name) for name in world.graph.catalog.campaigns}
        names = sorted(standing, key=lambda name: (-standing[name].spent, name))[:CAMPAIGNS]
        planned = _planned(world, told.now_us)
        out: list[Json] = []
        for name in names:
            one, fields = standing[name], told.fields(name)
            budget = None if one.budget is None else one.budget / 1e6
            out.append(
                {
                    "campaign_id": name,
                    "state": one.state,
                    "budget": budget,
                    "spent": one.spent / 1e6,
                    "pacing": float(str(fields.get("campaign_pacing", 1.0))),
                    "currency": world.graph.catalog.campaigns[name].currency,
                    "cap": world.graph.catalog.campaigns[name].cap,
                    "planned": [] if budget is None else planned,
                }
            )
        return out


def _planned(world: World, now_us: int) -> list[float]:
    """Share of a day's traffic that is expected by the end of each hour of UTC."""
    shares = world.graph.ledger.traffic.shares(now_us)
    hours: list[float] = np.cumsum(shares).reshape(24, BINS // 24)[:, -1].round(4).tolist()
    return hours


def _users(world: World) -> list[str]:
    return [world.graph.users.name(n) for n in latest_users(world.graph, USERS)]


def _alerts(path: Path) -> list[Json]:
    """The newest alerts of the file, the oldest of them first; a torn line is no alert."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _TAIL, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    found: list[Json] = []
    for line in lines[1 if size > _TAIL else 0 :]:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found[-ALERTS_SHOWN:]


def _labels(world: World, items: NDArray[np.int64]) -> list[dict[str, str]]:
    """What is said of items on the map."""
    labels: list[dict[str, str]] = []
    for number in items.tolist():
        name = world.graph.items.name(number)
        facts = world.facts(name)
        category = facts.categories[0] if facts and facts.categories else "none"
        title = facts.title if facts and facts.title else name
        labels.append({"item_id": name, "title": title, "segment": category})
    return labels


def _projected(
    ids: NDArray[np.float32], images: NDArray[np.float32], labels: Sequence[Mapping[str, str]]
) -> Json:
    both = np.concatenate([ids, images]).astype(np.float64)
    centred = both - both.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    flat = (centred @ axes[:2].T).round(4)
    share = float((lengths[:2] ** 2).sum() / max(float((lengths**2).sum()), 1e-12))
    points = [
        {**label, "id": flat[n].tolist(), "text": flat[len(ids) + n].tolist()}
        for n, label in enumerate(labels)
    ]
    return {"explained": round(share, 4), "points": points}
