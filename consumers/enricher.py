"""LLM-inferred preferences: from users' past events to versioned, stamped, embedded profiles."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from consumers.errors import AnswerInvalid, LanguageError
from consumers.language import Chat
from consumers.profiles import HOUR_US, Profile, Profiles
from consumers.prompts import (
    PROMPT_VERSION,
    Attributes,
    Message,
    Preferences,
    first_step,
    read,
    repair,
    second_step,
)
from stream.catalog import ItemRecord
from stream.clock import Clock
from stream.view import Csr

A = TypeVar("A", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class EnricherConfig:
    """Who is described, and how often.

    Attributes
    ----------
    history : int
        Last items that are shown to the model.
    least : int
        Events before a first profile.
    again_least : int
    again_share : float
        A profile is made anew after this many further events, and this part of what it was made
        from: a history of 4 changes with 3 more, one of 400 with 80.
    per_hour : int
        Users a wall hour, failures included.
    """

    history: int = 12
    least: int = 2
    again_least: int = 3
    again_share: float = 0.2
    per_hour: int = 1_000


@dataclass(frozen=True, slots=True)
class Past:
    """What one user did up to a moment.

    Attributes
    ----------
    texts : of the last items, oldest first; those without text are not in it
    events : all positive events so far
    until_us : event time of the last one
    next_sequence : number of the first event of the stream that is not in it
    """

    user: str
    texts: tuple[str, ...]
    events: int
    until_us: int
    next_sequence: int


def pasts(
    csr: Csr,
    users: Sequence[str],
    catalog: Mapping[int, ItemRecord],
    *,
    history: int,
    next_sequence: int,
    before_us: int | None = None,
) -> Iterator[Past]:
    """Every user's past, as of a place in the stream and, if given, before an event time.

    Parameters
    ----------
    csr : Csr
        Positive edges by user, oldest first.
    users : U strings
        Names; empty where a user was erased.
    next_sequence : int
        Edges of this number or a higher one have not happened yet.
    before_us : int, optional
        Nor have edges at or after this time.
    """
    for number, name in enumerate(users):
        rows = slice(int(csr.indptr[number]), int(csr.indptr[number + 1]))
        happened = csr.sequence[rows] < next_sequence
        if before_us is not None:
            happened &= csr.time_us[rows] < before_us
        times = csr.time_us[rows][happened]
        if not name or not len(times):
            continue
        items = csr.item[rows][happened].tolist()
        # By distinct item, the last time it came: a title said twice tells nothing more.
        last = list(dict.fromkeys(reversed(items)))[::-1]
        told = [catalog[n].text for n in last if n in catalog and catalog[n].text]
        yield Past(name, tuple(told[-history:]), len(times), int(times[-1]), next_sequence)


@dataclass(slots=True)
class Enricher:
    """Asks a model about the users whose history has changed enough, within a budget.

    Attributes
    ----------
    made, skipped : how many profiles, and reason -> how many users had none
    repaired : answers that were valid at the second attempt
    """

    chat: Chat
    profiles: Profiles
    config: EnricherConfig
    clock: Clock
    made: int = 0
    repaired: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])

    def due(self, past: Past) -> bool:
        """Whether the user has no profile yet, or one that no longer says enough.

        One that could not be made is tried again only as the history changes, so a user whom the
        model cannot answer does not eat the budget.
        """
        if not past.texts or past.events < self.config.least:
            return False
        last = self.profiles.last(past.user)
        if last is None or (last.model, last.prompt) != (self.chat.name, PROMPT_VERSION):
            return True
        further = past.events - last.events
        return further >= max(self.config.again_least, self.config.again_share * last.events)

    def enrich(self, some: Iterable[Past]) -> Iterator[Profile]:
        """Make what is due, in this order, until this hour's budget is spent."""
        for past in some:
            if not self.due(past):
                continue
            if self.left() < 1:
                self.skipped["budget"] += 1
                continue
            profile = self._infer(past)
            self.profiles.add(profile)
            yield profile

    def left(self) -> int:
        """Users that may still be asked about in the hour that ends now."""
        return self.config.per_hour - self.profiles.tried_since(self.clock.now_us() - HOUR_US)

    def _infer(self, past: Past) -> Profile:
        stamp = Profile(
            user=past.user,
            events=past.events,
            until_us=past.until_us,
            next_sequence=past.next_sequence,
            made_us=self.clock.now_us(),
            model=self.chat.name,
            prompt=PROMPT_VERSION,
        )
        try:
            asked = first_step(past.texts)
            attributes = self._answer(asked, Attributes)
            preferences = self._answer(second_step(asked, attributes), Preferences)
        except LanguageError as error:
            self.skipped[error.reason] += 1
            return stamp.model_copy(update={"skipped": error.reason})
        self.made += 1
        return stamp.model_copy(update={"attributes": attributes, "preferences": preferences})

    def _answer(self, asked: Sequence[Message], of: type[A]) -> A:
        """A valid answer, at the first or the second attempt."""
        try:
            return read(self.chat.ask(asked, of), of)
        except AnswerInvalid as error:
            again = read(self.chat.ask(repair(asked, error, of), of), of)
        self.repaired += 1
        return again
