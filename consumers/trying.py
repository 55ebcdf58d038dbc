"""What is told of versions on trial: verdicts so far, and the comparison in progress."""

from collections.abc import Mapping
from typing import get_args

from pydantic import BaseModel, ConfigDict

from consumers.decisions import Interval, Verdict
from consumers.no_harm import told
from consumers.trial import Trial


class Compared(BaseModel):
    """Two versions on the same clicks, as of now.

    Attributes
    ----------
    version, against : int
        The new one, and the one that it is held against.
    held : bool
        Whether readers do not see it yet; else they do, and it is watched.
    every, cold : Interval
        Of Recall@20, the new version's minus the other's; on all clicks, and on those on cold
        items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    against: int
    held: bool
    every: Interval
    cold: Interval


class Tried(BaseModel):
    """Versions on trial; see `consumers.trial`.

    Attributes
    ----------
    verdicts : verdict -> how often it was given since the start
        Of every verdict there is.
    compared : Compared or None
        None while nothing is compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdicts: Mapping[Verdict, int]
    compared: Compared | None


def tried_of(trial: Trial) -> Tried:
    """What a trial has to tell."""
    verdicts: dict[Verdict, int] = {one: trial.verdicts[one] for one in get_args(Verdict)}
    return Tried(verdicts=verdicts, compared=_compared(trial))


def _compared(trial: Trial) -> Compared | None:
    if trial.seen is None:
        return None
    version, against = trial.numbers
    return Compared(
        version=version,
        against=against,
        held=trial.before is None,
        every=told(trial.seen.every),
        cold=told(trial.seen.cold),
    )
