"""Certificates of a test's own, made when it runs, in files as they are mounted."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """A certificate, its key, and both in one file."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """One that signs certificates, and the folder where all lie."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._signer = trustme.CA()
        self.file = folder / "ca.pem"
        self._signer.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, identity: str = HOST, password: str | None = None) -> Pair:
        """Sign a certificate for a host or a client; its key as PKCS 8, which Java reads too."""
        made = self._signer.issue_cert(identity)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        locked: KeySerializationEncryption = NoEncryption()
        if password is not None:
            locked = BestAvailableEncryption(password.encode())
        words = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        pair = Pair(*(self._folder / f"{name}{end}.pem" for end in ("", ".key", ".both")))
        for path, content in zip(
            (pair.certificate, pair.key, pair.both), (chain, words, words + chain), strict=True
        ):
            path.write_bytes(content)
            path.chmod(0o600)
        return pair
