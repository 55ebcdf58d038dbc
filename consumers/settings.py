"""Deployment settings: where things are and how often things happen.

Read once, in the CLI, from flags, then the environment (``GOAT_*``), then defaults. Secrets are no
flags, and can lie in files that ``GOAT_*_FILE`` names. What a model learns with is not here but in
`model.config`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from consumers.errors import SettingsError
from consumers.manifest import FILE
from consumers.secret_files import SecretFiles
from model.config import ModelConfig

_SECURE = ("SSL", "SASL_SSL")


class Settings(BaseSettings):
    """Everything that depends on where the system runs.

    Each field is a flag of the programs that use it and an environment variable: ``state`` is
    ``--state`` and ``GOAT_STATE``.
    """

    model_config = SettingsConfigDict(
        env_prefix="GOAT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    # Where state lies.
    state: Path = Field(
        default=Path("state"), description="Folder of snapshots, versions and manifest"
    )

    # Kafka; None: files or the simulator.
    kafka: str | None = Field(default=None, description="Bootstrap servers, host:port[,host:port]")
    topic: str = Field(default="goat.events", description="Topic of events")
    dead_letter_topic: str = Field(default="goat.dead-letters", description="Topic of dead letters")
    group: str = Field(default="goat", description="Consumer group")
    start_at: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where to start on a partition that the state does not know"
    )
    members: bool = Field(
        default=False, description="Users' vectors are written by `goat member`, not here"
    )
    session_timeout_s: float = Field(
        default=45.0, ge=6, le=1_800, description="Silence after which a member's partitions go on"
    )
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca: Path | None = None
    kafka_certificate: Path | None = None
    kafka_key: Path | None = None
    kafka_key_password: SecretStr | None = None

    # Qdrant; None: the embedded engine in the state folder.
    qdrant: str | None = Field(
        default=None, description="Qdrant URL; its gRPC port is --qdrant-grpc-port"
    )
    qdrant_grpc_port: int = Field(default=6334, ge=1, le=65_535)
    qdrant_api_key: SecretStr | None = None
    qdrant_ca: Path | None = None
    qdrant_certificate: Path | None = None
    qdrant_key: Path | None = None
    collection: str = Field(
        default="goat", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Prefix of names"
    )

    # What is written to the index, and when.
    shaping_loss: float = Field(
        default=0.005, ge=0, le=0.5, description="Of overlap@20, by items not written; 0: all are"
    )
    shaping_patience_s: float = Field(
        default=30.0, ge=0, description="Longest time that an item waits to be written"
    )
    hot_every_s: float = Field(
        default=2.0, ge=0, description="Between writes of an id that is touched all the time"
    )
    index_backlog: int = Field(
        default=20_000, ge=0, description="Unindexed points from which items are held back"
    )

    canary_every_s: float | None = Field(
        default=None,
        gt=0,
        description="`goat serve` sends canaries each N seconds; by default none",
    )

    canary_patience_s: float = Field(
        default=60.0, gt=0, description="A canary that is not seen for so long is lost"
    )

    # How often. Counts are of messages, times in seconds.
    finetune_every: int | None = Field(
        default=None, ge=1, description="Fine-tune each N messages (default 10,000 from files)"
    )
    finetune_interval_s: float | None = Field(
        default=None, gt=0, description="Fine-tune each N seconds"
    )
    retrain_every: int | None = Field(
        default=None, ge=1, description="Learn everything anew each N fine-tunes (default: never)"
    )
    snapshot_every_s: float = Field(
        default=10.0, gt=0, description="Seconds between snapshots, live"
    )
    batch: int = Field(default=2_000, ge=1, le=100_000, description="Messages applied at a time")
    score_share: float | None = Field(
        default=None, gt=0, le=1, description="Part of clicks scored (default 1; 0.1 from Kafka)"
    )
    threads: int = Field(default=0, ge=0, description="Threads of a fine-tune; 0: all cores")
    seed: int = Field(default=7, ge=0, description="Seed of everything random")

    model: str = Field(
        default="{}", description="Hyper-parameters that differ from the defaults, as JSON"
    )

    # Drift.
    alert_topic: str = Field(default="goat.alerts", description="Topic of drift alerts")
    drift_webhook: SecretStr | None = Field(default=None, description="Alerts are posted here too")
    drift_policy: Literal["note", "finetune", "retrain", "freeze"] = Field(
        default="note", description="What follows from an alert beside its being sent"
    )
    drift_detector: Literal["adwin", "page-hinkley", "kswin"] = "adwin"
    drift_chance: float = Field(
        default=0.01, gt=0, lt=1, description="Of a false alarm, all series together"
    )
    drift_window: int = Field(default=500, ge=2, description="Events of a window")
    drift_reference: int = Field(default=20, ge=1, description="Windows held against")
    drift_null: int = Field(default=20, ge=8, description="Windows that the null is learned from")
    drift_segments: int = Field(default=12, ge=0, le=1_000, description="Of each watch, at most")
    drift_cooldown_s: float = Field(
        default=3_600.0, ge=0, description="Event time between two alerts of a watch"
    )

    # What a new version may cost; see docs/publishing.md. Recall is Recall@20, 0 to 1.
    harm_chance: float = Field(
        default=0.05, gt=0, lt=1, description="Of a harmless version's being turned away"
    )
    harm_margin: float = Field(default=0.02, ge=0, le=1, description="Recall that may be lost")
    harm_cold_margin: float = Field(
        default=0.1, ge=0, le=1, description="The same on items that a version knows little of"
    )
    harm_window: int = Field(
        default=2_000, ge=0, description="Clicks that a version is held for, live; 0: none is"
    )
    harm_wait_s: float = Field(default=60.0, ge=0, description="Seconds, when too few come")
    harm_undecided: Literal["publish", "refuse"] = Field(
        default="publish", description="What becomes of a version of which nothing was shown"
    )
    harm_watch: int = Field(
        default=2_000, ge=0, description="Clicks after the flip for which the way back is open"
    )
    harm_overlap: float = Field(
        default=0.05, ge=0, le=1, description="Of lists; below it harmlessness must be shown"
    )
    skew_budget: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="Recall lost across two versions, written in place; 0: none is",
    )
    skew_residual: float = Field(
        default=0.02, ge=0, description="Move of items that no rotation explains, likewise"
    )

    # The stream's rules.
    lateness_s: float = Field(
        default=86_400.0, ge=0, description="Accepted behind the watermark, seconds"
    )
    window_days: float = Field(
        default=365.0, gt=0, description="Interactions older than this are evicted"
    )
    remembered: int = Field(
        default=2_000_000, ge=1, description="Event ids a partition, for finding repetitions"
    )
    joinable: int = Field(
        default=1_000_000, ge=1, description="Events a partition that later ones may refer to"
    )
    text_dim: int | None = Field(
        default=None, ge=1, le=4_096, description="Length of text vectors; else the first decides"
    )
    embedder: Literal["given", "minilm", "sentence", "endpoint"] = Field(
        default="given",
        description="Text vectors: in the events, the bundled MiniLM, another model, an endpoint",
    )

    # Language models. An endpoint is any OpenAI-compatible one, named up to and with /v1.
    embedding_model: str | None = Field(
        default=None, description="Folder or name (sentence), or the model's name (endpoint)"
    )
    embedding_url: str | None = None
    embedding_key: SecretStr | None = None
    embedding_price: float = Field(default=0.0, ge=0, description="Of a million tokens")
    chat_url: str | None = Field(default=None, description="Else a model in this process")
    chat_model: str = Field(
        default="smollm2", description="Name at the endpoint; else smollm2 or a GGUF file"
    )
    chat_key: SecretStr | None = None
    chat_constrained: bool = Field(
        default=True, description="Whether the endpoint is sent the JSON Schema of the answer"
    )
    chat_price: float = Field(default=0.0, ge=0, description="Of a million prompt tokens")
    chat_answer_price: float = Field(default=0.0, ge=0, description="Of a million answer tokens")
    endpoint_timeout_s: float = Field(default=30.0, gt=0)
    endpoint_attempts: int = Field(default=5, ge=1)
    endpoint_per_minute: float = Field(default=600.0, gt=0, description="Requests at most")
    enrich_per_hour: int = Field(default=1_000, ge=0, description="Users described at most")
    enrich_history: int = Field(default=12, ge=1, le=100, description="Last items shown")

    # Serving over HTTP.
    metrics_port: int | None = Field(
        default=None, ge=1, le=65_535, description="Figures for Prometheus; none by default"
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address to show them on")
    board: bool = Field(default=False, description="`goat run` serves its board on loopback")
    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8080, ge=1, le=65_535)
    deadline_s: float = Field(
        default=0.25, gt=0, le=30, description="From a request for candidates to its answer"
    )
    events_deadline_s: float = Field(
        default=5.0, gt=0, le=60, description="From events to their arrival in the topic"
    )
    served_topic: str = Field(default="goat.served", description="Topic of lists served")
    ready_lag: int = Field(default=10_000, ge=0, description="Messages behind and still ready")
    api_keys: SecretStr | None = Field(
        default=None, description="`name role[,role] secret`, several separated by semicolons"
    )
    api_keys_file: Path | None = Field(default=None, description="The same, a line each")
    key_rate: float = Field(default=2_000.0, gt=0, description="Requests a second and key")
    key_burst: float = Field(default=4_000.0, ge=1, description="Requests at once and key")
    unguarded: bool = Field(default=False, description="Listen beyond this machine without keys")
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over the environment over the files that it names."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @field_validator("qdrant", "chat_url", "embedding_url")
    @classmethod
    def _no_secrets_in_addresses(cls, url: str | None) -> str | None:
        # An address is shown in messages and logs.
        if url is not None and "@" in urlsplit(url).netloc:
            raise ValueError("an address with a name or password in it: keys are settings too")
        return url

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kafka_password is not None and self.kafka_username is None:
            raise ValueError("GOAT_KAFKA_PASSWORD is set without GOAT_KAFKA_USERNAME")
        if self.kafka_security.startswith("SASL") and self.kafka_sasl_mechanism is None:
            raise ValueError(f"{self.kafka_security} needs GOAT_KAFKA_SASL_MECHANISM")
        if self.kafka_security.startswith("SASL") and self.kafka_password is None:
            raise ValueError(f"{self.kafka_security} needs GOAT_KAFKA_PASSWORD, or ..._FILE")
        if self.kafka_key is not None and self.kafka_certificate is None:
            raise ValueError("GOAT_KAFKA_KEY is set without GOAT_KAFKA_CERTIFICATE")
        if self.kafka_certificate is not None and self.kafka_security not in _SECURE:
            raise ValueError("GOAT_KAFKA_CERTIFICATE needs GOAT_KAFKA_SECURITY to be (SASL_)SSL")
        if (self.qdrant_certificate is None) != (self.qdrant_key is None):
            raise ValueError("GOAT_QDRANT_CERTIFICATE and GOAT_QDRANT_KEY go together: set both")
        if self.qdrant_certificate is not None and not str(self.qdrant).startswith("https:"):
            raise ValueError("GOAT_QDRANT_CERTIFICATE needs GOAT_QDRANT to be https://...")
        if self.canary_every_s is not None and (self.kafka is None or self.qdrant is None):
            raise ValueError("GOAT_CANARY_EVERY_S needs GOAT_KAFKA and GOAT_QDRANT: canaries fly")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("GOAT_TLS_CERTIFICATE and GOAT_TLS_KEY go together: set both")
        return self

    def hyper_parameters(self) -> ModelConfig:
        """What the model learns with.

        Raises
        ------
        SettingsError
            If ``model`` is not JSON, names an unknown parameter, or one is out of its range.
        """
        try:
            return ModelConfig.model_validate_json(self.model)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise SettingsError(f"--model {self.model}: {said}") from error

    @property
    def graph_dir(self) -> Path:
        """Where graph snapshots lie."""
        return self.state / "graph"

    @property
    def manifest(self) -> Path:
        """File of what was learned and published."""
        return self.state / FILE

    @property
    def window_us(self) -> int:
        """`window_days` in microseconds."""
        return int(self.window_days * 86_400_000_000)

    @property
    def models_dir(self) -> Path:
        """Where model versions lie."""
        return self.state / "models"

    def kafka_options(self) -> Mapping[str, object]:
        """Security options under kafka-python's names; plain text gives none."""
        options: dict[str, object] = {}
        if self.kafka_security != "PLAINTEXT":
            options["security_protocol"] = self.kafka_security
        if self.kafka_sasl_mechanism is not None:
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
        if self.kafka_username is not None:
            options["sasl_plain_username"] = self.kafka_username
        if self.kafka_password is not None:
            options["sasl_plain_password"] = self.kafka_password.get_secret_value()
        files = {
            "ssl_cafile": self.kafka_ca,
            "ssl_certfile": self.kafka_certificate,
            "ssl_keyfile": self.kafka_key,
        }
        if self.kafka_security in _SECURE:
            options.update({k: str(v) for k, v in files.items() if v is not None})
            if self.kafka_key_password is not None:
                options["ssl_password"] = self.kafka_key_password.get_secret_value()
        return options
