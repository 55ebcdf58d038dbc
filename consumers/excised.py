"""What the manifest says of an excision, held against the state: whether one was cut off."""

from collections.abc import Sequence
from pathlib import Path

from consumers.chronicle import read
from consumers.manifest import Line
from consumers.manifest_steps import Excised, Published, Trained
from stream.clock import Clock
from stream.excision import Rule
from stream.state import State


def on_record(lines: Sequence[Line], line: Excised) -> bool:
    """Whether the last excision on record is this one, of a try that was cut off.

    Events may have come since: what was counted then may be less than what is counted now.
    """
    last = next((one.body for one in reversed(lines) if isinstance(one.body, Excised)), None)
    return last is not None and _about(last) == _about(line)


def cut_off(path: Path, clock: Clock, rule: Rule, state: State) -> Excised | None:
    """The line of an excision that has its effect on the state, and on no vector yet.

    Raises
    ------
    SettingsError
        The state leaves out what the rule names, and there is no manifest.
    ManifestCorrupt
        A line has been altered.
    """
    if rule not in state.orderer.rules:
        return None
    found: Excised | None = None
    since = set[str]()
    for line in read(path, clock):
        body = line.body
        if isinstance(body, Excised):
            found = body if _rule(body) == rule else found
            since = set()
        elif isinstance(body, Trained):
            since.add(body.origin.model)
        elif isinstance(body, Published) and body.origin.model in since:
            found = None
    return found


def _rule(line: Excised) -> Rule:
    return Rule(line.users, line.from_us, line.to_us)


def _about(line: Excised) -> tuple[Rule, str, int]:
    return _rule(line), line.how, line.numbering
