"""A Kafka broker that asks who its clients are: by SCRAM over TLS, or by certificates."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consumers.local_cache import cache_dir
from consumers.local_kafka import JVM, LOGGING, PROPERTIES, jars, java_runtime
from consumers.local_process import free_ports, launch
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, await_listener, topics
from tests.system.authority import HOST, Authority, Pair

USER = "shop"
PASSWORD, KEY_PASSWORD = "let-the-shop-in-4711", "open-the-key-4712"
START_S = 90.0
MECHANISM = "SCRAM-SHA-512"

LISTENERS = """\
listeners=PLAINTEXT://{host}:{plain},SASL_SSL://{host}:{sasl},SSL://{host}:{ssl},\
CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{plain},SASL_SSL://{host}:{sasl},SSL://{host}:{ssl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms={mechanism}
listener.name.sasl_ssl.{lower}.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
"""


@dataclass(frozen=True)
class GuardedKafka:
    """Where it listens, and how one gets in."""

    plain: str
    sasl: str
    ssl: str
    ca: Path
    client: Pair
    locked_client: Pair

    def over_sasl(self, **other: object) -> dict[str, object]:
        """Settings of a client with a password; ``other`` replaces some, None takes one away."""
        return _without_none(
            {
                "kafka": self.sasl,
                "kafka_security": "SASL_SSL",
                "kafka_sasl_mechanism": MECHANISM,
                "kafka_username": USER,
                "kafka_password": PASSWORD,
                "kafka_ca": self.ca,
                **other,
            }
        )

    def over_ssl(self, **other: object) -> dict[str, object]:
        """Settings of a client with a certificate."""
        return _without_none(
            {
                "kafka": self.ssl,
                "kafka_security": "SSL",
                "kafka_ca": self.ca,
                "kafka_certificate": self.client.certificate,
                "kafka_key": self.client.key,
                **other,
            }
        )


@contextmanager
def guarded_kafka(folder: Path) -> Iterator[GuardedKafka]:
    """One that ends with the block."""
    authority = Authority(folder / "certificates")
    server = authority.issue("broker")
    plain, sasl, ssl, controller = free_ports(4)
    settings = folder / "kafka.properties"
    usual = PROPERTIES.format(port=plain, controller=controller, data=folder / "data")
    ours = LISTENERS.format(
        host=HOST, plain=plain, sasl=sasl, ssl=ssl, controller=controller, mechanism=MECHANISM,
        lower=MECHANISM.lower(), keystore=server.both, truststore=authority.file,
    )  # fmt: skip
    settings.write_text(usual + ours)  # of two lines of one name the later holds
    (folder / "log4j2.xml").write_text(LOGGING)
    java = [str(java_runtime()), *JVM, f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}"]
    java += ["-cp", ":".join(map(str, jars(cache_dir())))]
    _format(java, settings)
    process = launch("Kafka", [*java, "kafka.Kafka", str(settings)], folder, detached=False)
    made = GuardedKafka(
        f"{HOST}:{plain}",
        f"{HOST}:{sasl}",
        f"{HOST}:{ssl}",
        authority.file,
        authority.issue("client", "client.example"),
        authority.issue("locked", "client.example", KEY_PASSWORD),
    )
    try:
        cluster = KafkaCluster(made.plain)
        await_listener(cluster, Deadline.after(START_S))
        topics(cluster, Deadline.after(START_S))
        yield made
    finally:
        process.stop()


def _format(java: list[str], settings: Path) -> None:
    identity = "a" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    words = ["kafka.tools.StorageTool", "format", "-t", identity, "-c", str(settings)]
    words += ["--add-scram", f"{MECHANISM}=[name={USER},password={PASSWORD}]"]
    subprocess.run([*java, *words], check=True, capture_output=True, timeout=START_S)


def _without_none(settings: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if value is not None}
