import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers import languages
from consumers.cli import app
from consumers.embedder import MiniLM
from consumers.errors import SettingsError
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.language import EndpointChat
from consumers.lifecycle import Stop
from consumers.profiles import Profiles
from consumers.prompts import Attributes, Preferences
from consumers.settings import Settings
from consumers.versions import Versions
from consumers.wiring import open_embedder, opened
from stream.clock import SystemClock
from stream.snapshot import SnapshotStore
from tests.consumers.recorded import Recorded, recorded


@pytest.fixture
def tape() -> Iterator[Recorded]:
    with recorded() as made:
        yield made


def answer(body: Any) -> object:
    """Of both kinds of endpoint."""
    if "input" in body:
        data = [{"index": i, "embedding": [len(t), 1, 2]} for i, t in enumerate(body["input"])]
        return {"data": data, "usage": {"prompt_tokens": 10}}
    of = Attributes if len(body["messages"]) == 2 else Preferences
    content = json.dumps({name: ["modern"] for name in of.model_fields})
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {"choices": [{"message": {"content": content}}], "usage": usage}


def ingested(settings: Settings, inputs: Inputs) -> None:
    """The fast path alone: no fine-tune, no index."""
    with opened(settings, inputs, publish=False) as parts:
        versions = Versions(settings.models_dir)
        ingestor = Ingestor(
            parts.pipeline, parts.source, versions, SystemClock(), Stop(), replay=True,
            limit=inputs.limit,
        )  # fmt: skip
        ingestor.run()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("enriched") / "state"
    ingested(Settings(state=folder), Inputs(limit=1_500))
    return folder


def enrich(state: Path, tape: Recorded, tmp_path: Path, *more: str) -> Any:
    out = tmp_path / "figures.json"
    flags = ["--state", str(state), "--chat-url", tape.base, "--chat-model", "m", *more]
    run = CliRunner().invoke(app, ["enrich", *flags, "--json", str(out)])
    assert run.exit_code == 0, run.output
    return json.loads(out.read_text())


def test_a_state_is_enriched_and_only_once(
    state: Path, tape: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape.respond = answer
    for name, value in {
        "CHAT_PRICE": "2", "CHAT_ANSWER_PRICE": "5", "CHAT_KEY": "s3", "EMBEDDING_URL": tape.base,
        "EMBEDDING_MODEL": "org/e1", "TEXT_DIM": "3", "EMBEDDING_KEY": "s4",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"GOAT_{name}", value)
    first = enrich(state, tape, tmp_path, "--users", "7", "--embedder", "endpoint")
    assert (first["made"], first["embedded"], first["skipped"]) == (7, 7, {})
    assert first["usage"]["cost"] == pytest.approx(14 * (100 * 2 + 10 * 5) / 1e6)
    assert tape.headers[0]["authorization"] == "Bearer s3"
    assert tape.headers[-1]["authorization"] == "Bearer s4"
    assert (state / "features" / "profiles-org-e1-3" / "keys.bin").stat().st_size == 37
    again = enrich(state, tape, tmp_path, "--users", "5", "--quiet")
    assert again["due"] == first["due"] - 7
    profiles = Profiles(state / "language" / "profiles.jsonl")
    view = SnapshotStore(state / "graph", SystemClock()).open_view()
    assert view is not None
    assert len(profiles) == 12
    assert {p.next_sequence for p in profiles.newest().values()} == {view.view.next_sequence}
    assert all(p.until_us <= view.view.now_us for p in profiles.newest().values())


def test_the_hours_budget_is_kept_and_who_is_unknown_is_forgotten(
    state: Path, tape: Recorded, tmp_path: Path
) -> None:
    tape.respond = answer
    path = state / "language" / "profiles.jsonl"
    profiles = Profiles(path)
    enrich(state, tape, tmp_path, "--users", "1", "--enrich-per-hour", "1000000")
    made = next(iter(Profiles(path).newest().values()))
    profiles.add(made.model_copy(update={"user": "erased"}))
    known = len(Profiles(path))
    figures = enrich(state, tape, tmp_path, "--users", "9", "--enrich-per-hour", str(known + 1))
    assert figures["forgotten"] == 1
    assert figures["made"] == 2
    assert figures["skipped"] == {"budget": 7}
    assert "erased" not in path.read_text()


def test_without_a_snapshot_there_is_nobody_to_describe(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["enrich", "--state", str(tmp_path)])
    assert run.exit_code == 1


def test_settings_choose_the_models(tmp_path: Path, tape: Recorded) -> None:
    settings = Settings(state=tmp_path, embedding_model="owner/x", text_dim=3)
    assert isinstance(languages.open_embedder(Settings(embedder="minilm")), MiniLM)
    chat = languages.open_chat(settings.model_copy(update={"chat_url": tape.base}))
    assert isinstance(chat, EndpointChat)
    chat.close()
    with pytest.raises(SettingsError, match=r"no such model file|needs the extra llm"):
        languages.open_chat(settings.model_copy(update={"chat_model": str(tmp_path / "x.gguf")}))
    for missing in ({"embedding_model": None}, {"text_dim": None}, {}):
        wanting = settings.model_copy(update={"embedder": "endpoint", **missing})
        with pytest.raises(SettingsError, match="needs GOAT_EMBEDDING"):
            open_embedder(wanting)


def test_an_endpoint_embeds_the_stream_and_its_secrets_are_not_shown(
    tmp_path: Path, tape: Recorded
) -> None:
    tape.respond = answer
    settings = Settings.model_validate(
        {
            "state": tmp_path, "embedder": "endpoint", "embedding_model": "e", "text_dim": 3,
            "embedding_url": tape.base, "embedding_key": "s3cret",
        }
    )  # fmt: skip
    assert "s3cret" not in repr(settings)
    events = tmp_path / "events.jsonl"
    told = {"type": "item", "occurred_at": "2026-01-01T00:00:00Z"}
    events.write_text(
        "".join(
            json.dumps({**told, "event_id": f"e{n}", "item_id": f"i{n}", "title": "x" * n}) + "\n"
            for n in range(1, 4)
        )
    )
    ingested(settings, Inputs(events))
    assert tape.headers[0]["authorization"] == "Bearer s3cret"
    assert tape.asked[0]["input"] == ["x", "xx", "xxx"]
    view = SnapshotStore(tmp_path / "graph", SystemClock()).open_view()
    assert view is not None
    vectors = [record.vectors["text"].tolist() for record in view.catalog.items.values()]
    assert vectors == [[1, 1, 2], [2, 1, 2], [3, 1, 2]]
