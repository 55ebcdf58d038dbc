"""Settings to language models: which embedder, which chat model, behind which endpoint."""

import re
import time
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from consumers.embedder import MiniLM, SentenceModel
from consumers.embeddings import EndpointEmbedder, Kept
from consumers.endpoint import Endpoint, Pace, Patience
from consumers.errors import SettingsError
from consumers.language import Chat, EndpointChat, LlamaChat, smollm2
from consumers.settings import Settings
from consumers.texts import Embedder
from stream.features import FeatureStore


def open_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name, other than ``given``; what is paid for is kept."""
    embedder = open_plain(settings)
    if settings.embedder == "endpoint":
        return Kept(embedder, open_store(settings, embedder, "items"))
    return embedder


def open_plain(settings: Settings) -> Embedder:
    """The same with nothing kept on disk.

    Raises
    ------
    SettingsError
        It needs a setting or an extra that is not there.
    """
    if settings.embedder == "minilm":
        return MiniLM()
    if settings.embedding_model is None:
        raise SettingsError(f"the embedder {settings.embedder} needs GOAT_EMBEDDING_MODEL")
    if settings.embedder == "sentence":
        return SentenceModel(settings.embedding_model)
    if settings.embedding_url is None or settings.text_dim is None:
        raise SettingsError("the embedder endpoint needs GOAT_EMBEDDING_URL and GOAT_TEXT_DIM")
    endpoint = open_endpoint(settings, settings.embedding_url, settings.embedding_key)
    endpoint.usage.prompt_price = settings.embedding_price
    return EndpointEmbedder(endpoint, settings.embedding_model, settings.text_dim)


def open_store(settings: Settings, embedder: Embedder, what: str) -> FeatureStore:
    """The vectors that this embedder has made of these texts: a folder for each model."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", embedder.name).strip("-")[-80:]
    folder = settings.state / "features" / f"{what}-{slug}-{embedder.dim}"
    return FeatureStore(folder, embedder.name, embedder.dim)


def open_chat(settings: Settings) -> Chat:
    """The model that describes users: at an endpoint where one is named, else in this process.

    Raises
    ------
    SettingsError
        The model is not there.
    """
    if settings.chat_url is None:
        path = smollm2() if settings.chat_model == "smollm2" else settings.chat_model
        return LlamaChat(Path(path), threads=settings.threads or 1)
    endpoint = open_endpoint(settings, settings.chat_url, settings.chat_key)
    endpoint.usage.prompt_price = settings.chat_price
    endpoint.usage.answer_price = settings.chat_answer_price
    return EndpointChat(endpoint, settings.chat_model, constrained=settings.chat_constrained)


def open_endpoint(settings: Settings, base: str, key: SecretStr | None) -> Endpoint:
    """A client with the settings' patience."""
    patience = Patience(
        timeout_s=settings.endpoint_timeout_s,
        attempts=settings.endpoint_attempts,
        per_minute=settings.endpoint_per_minute,
    )
    # Not by the settings' seed: clients that share it would all come back at the same moment.
    jitter = np.random.default_rng().random
    return Endpoint(base, key, patience=patience, pace=Pace(time.time, time.sleep), jitter=jitter)
