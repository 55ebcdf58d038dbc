"""Under which name a consumer group knows whoever works on a state folder."""

import uuid
from pathlib import Path

FILE = "member"


def member_of(state: Path) -> str:
    """Give the name kept in a state folder; made when there is none.

    It goes where the state goes. So a program that was killed and started again is the same member
    to Kafka and reads on at once: under a new name it would wait until the one that was killed
    times out. And of two programs on copies of one state, Kafka stops the first.
    """
    path = state / FILE
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".new")
        written.write_text(f"goat-{uuid.uuid4()}\n")
        written.replace(path)
    return path.read_text().strip()
