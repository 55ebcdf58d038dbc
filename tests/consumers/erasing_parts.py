"""A state in which a user has left something in every place that there is, and small ones."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from consumers import programs, wiring
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.lifecycle import Stop
from consumers.profiles import Profile, Profiles
from consumers.prompts import Preferences
from consumers.settings import Settings
from consumers.versions import Versions
from model.config import ModelConfig
from model.data import unit_rows
from model.recency import plain
from model.state import ModelState
from stream.clock import SystemClock
from stream.features import FeatureStore, text_key
from stream.snapshot import SnapshotStore

ITEMS = 8
HERS, HIS = "knitting, wool", "fishing"


def event(number: int, type_: str, user: str = "", **more: object) -> bytes:
    """An event a second after the one of the number before; its id names the user."""
    at = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    told = {"type": type_, "event_id": f"{type_}:{user}:{number}", "occurred_at": at, **more}
    return json.dumps(told | ({"user_id": user} if user else {})).encode()


def broken(user: str) -> bytes:
    """A message that is no event, but names the user."""
    return b'{"type":"click","user_id":' + json.dumps(user).encode() + b',"broken":'


def history(users: Iterable[str], number: int = 0) -> list[bytes]:
    """Items and a capped campaign, then all that each user does."""
    found = [event(number, "campaign", campaign_id="k", cap=3)]
    for item in range(ITEMS):
        found.append(event(number + item, "item", item_id=f"item-{item}", campaign_id="k"))
    number += ITEMS
    for user in users:
        for item in range(4):
            number += 1
            found.append(event(number, "impression", user, item_id=f"item-{item}"))
        answered = f"impression:{user}:{number}"
        found += [
            event(number + 1, "ad_click", user, item_id="item-3", impression_id=answered),
            event(number + 2, "click", user, item_id="item-5"),
            event(number + 3, "ad_click", user, item_id="item-6", impression_id=f"ahead of {user}"),
            event(number + 4, "conversion", user, item_id="item-7", refers_to=f"awaits {user}"),
            broken(user),
        ]
        number += 4
    return found


def ingest(settings: Settings, messages: Iterable[bytes], name: str = "events.jsonl") -> None:
    """Take these messages from a file, publishing nothing."""
    path = settings.state.parent / name
    path.write_bytes(b"".join(message + b"\n" for message in messages))
    with wiring.opened(settings, Inputs(events=path), publish=False) as parts:
        versions = Versions(settings.models_dir)
        Ingestor(parts.pipeline, parts.source, versions, SystemClock(), Stop()).run()


def write_version(settings: Settings, why: str = "") -> None:
    """A model version of no quality, as a fine-tune would leave it."""
    opened = SnapshotStore(settings.graph_dir, SystemClock()).open_view()
    assert opened is not None
    config, names = ModelConfig(), tuple(opened.items.names)
    rng = np.random.default_rng(5)
    items = unit_rows(rng.normal(size=(len(names), config.dim)).astype(np.float32))
    recency = plain(np.full(config.context, 1 / config.context, np.float32))
    parameters = {"embedding": items, "log_weights": recency.position, "log_gaps": recency.gap}
    learned = np.ones(len(names), np.bool_)
    model = ModelState(items, recency, learned, parameters, opened.view.next_sequence)
    meta = {"edges": opened.view.next_sequence, "anew": why, "requests": {"drift-1": why}}
    Versions(settings.models_dir).write(model, names, opened.info.number, meta)


def publish_twice(settings: Settings) -> None:
    """A live version, and one to roll back to."""
    for _ in range(2):
        write_version(settings)
        assert programs.publish(settings) == 0


def describe(settings: Settings, user: str, other: str) -> None:
    """Profiles of two users, with vectors, in a store of a model."""
    profiles = Profiles(settings.state / "language" / "profiles.jsonl")
    stamp = {"events": 3, "until_us": 1, "next_sequence": 1, "made_us": 1, "model": "m"}
    with_words = {"function": [], "context": [], "other": []}
    for name, text in ((user, HERS), (other, HIS)):
        said = Preferences.model_validate({"style": text.split(", "), **with_words})
        profiles.add(
            Profile.model_validate({"user": name, "prompt": 1, "preferences": said, **stamp})
        )
    store = FeatureStore(settings.state / "features" / "profiles-m-4", "m", 4)
    store.add([text_key(HERS), text_key(HIS)], np.eye(2, 4, dtype=np.float32))
    store.close()


def leave_traces(settings: Settings, user: str) -> None:
    """What servers and the drift monitor have written of a user."""
    state = settings.state
    alert = {"name": "drift-1", "watch": "users active", "movers": [{"name": user, "after": 0.5}]}
    why = f"drift-1: users active moved; most of it: {user}"
    served = {"schema_version": 1, "request_id": "r1", "user_id": user, "items": ["item-1"] * 9}
    raw = base64.b64encode(b"\xff" + broken(user)).decode()
    letter = {
        "topic": "t", "partition": 3, "offset": 17, "reason": "invalid_utf8", "detail": "byte 0",
        "bytes": 40, "value_base64": raw,
    }  # fmt: skip
    for name, lines in {
        "alerts.jsonl": [alert],
        "served.jsonl": [served, served | {"user_id": "somebody else"}],
        "audit.jsonl": [{"method": "POST", "path": "/v1/rollback", "key": user}],
        "dead_letters.jsonl": [letter],
    }.items():
        with (state / name).open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
    for path, value in {
        "drift/state.json": {"format": 1, "posted": [{"alert": alert, "waiting": []}]},
        "retrain/drift-1.json": {"reason": why},
        "frozen.json": {"reason": why},
    }.items():
        (state / path).parent.mkdir(exist_ok=True)
        (state / path).write_text(json.dumps(value))


def everywhere(settings: Settings, user: str, other: str) -> None:
    """All of the above."""
    ingest(settings, history([user, other]))
    write_version(settings, f"drift-1: most of it: {user}")
    publish_twice(settings)
    describe(settings, user, other)
    leave_traces(settings, user)


def files_with(state: Path, text: str) -> list[str]:
    """Files that hold these very bytes."""
    raw = text.encode()
    found = (p for p in state.rglob("*") if p.is_file())
    return sorted(p.relative_to(state).as_posix() for p in found if raw in p.read_bytes())
