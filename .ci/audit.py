"""Are holes known in what is pinned? By pip-audit, where one of its databases can be reached.

Ends with 1 if there is one that nobody has accepted, with its reason, under
``[tool.goatstream.audit]`` of pyproject.toml; with 0 if not, or if no database can be reached: one
line then says so.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PIP_AUDIT = Path(sys.executable).with_name("pip-audit")
SERVICES = ("pypi", "osv")
PROBED = "pip"  # every database knows it
PROBE_TIMEOUT_S, TIMEOUT_S = 60.0, 600.0

Answer = Sequence[Mapping[str, Any]]


class NotReached(Exception):
    """A database gave no answer."""


def ask(pins: Path, service: str, timeout_s: float) -> Answer:
    """What a database says of each pin.

    Raises
    ------
    NotReached
    """
    command = [str(PIP_AUDIT), "-r", str(pins), "--no-deps", "--disable-pip", "-s", service]
    command += ["-f", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        answer: Answer = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired as slow:
        raise NotReached(f"no answer within {timeout_s:.0f} s") from slow
    except ValueError as error:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise NotReached(last[0].partition("(")[0][:200]) from error
    if all("skip_reason" in told for told in answer):
        raise NotReached(f"it knows none of {len(answer)} packages")
    return answer


def audit(pins: Path) -> Answer:
    """What the first database that answers says; it is asked about one package first.

    Raises
    ------
    NotReached
        Why none did.
    """
    reasons: list[str] = []
    for service in SERVICES:
        with TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.txt"
            lines = pins.read_text().splitlines()
            probe.write_text("\n".join(line for line in lines if line.startswith(f"{PROBED}==")))
            try:
                ask(probe, service, PROBE_TIMEOUT_S)
                return ask(pins, service, TIMEOUT_S)
            except NotReached as error:
                reasons.append(f"{service}: {error}")
    raise NotReached("; ".join(reasons))


def verdict(answer: Answer, accepted: Mapping[str, str]) -> tuple[list[str], int]:
    """Lines to print, and the exit code."""
    lines: list[str] = []
    failed = 0
    for told in answer:
        for hole in told.get("vulns", ()):
            names = {hole["id"], *hole.get("aliases", ())}
            reason = next((accepted[name] for name in sorted(names) if name in accepted), None)
            mended = ", ".join(hole.get("fix_versions", ())) or "no version yet"
            what = f"{told['name']} {told['version']}: {hole['id']}, mended in {mended}"
            lines.append(what if reason is None else f"{what}; accepted: {reason}")
            failed |= reason is None
    unknown = [told["name"] for told in answer if "skip_reason" in told]
    if unknown:
        lines.append(f"not in the database: {', '.join(unknown)}")
    lines.append(f"audited {len(answer) - len(unknown)} of {len(answer)} pinned packages")
    return lines, failed


def main() -> int:
    """Audit what constraints.txt pins."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        own = tomllib.load(file)["tool"].get("goatstream", {})
    try:
        answer = audit(ROOT / "constraints.txt")
    except NotReached as error:
        sys.stdout.write(f"dependencies were NOT audited: {error}\n")
        return 0
    lines, code = verdict(answer, own.get("audit", {}).get("accepted", {}))
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
