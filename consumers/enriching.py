"""`goat enrich`: the newest graph snapshot in, profiles of its users out."""

import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consumers import languages, report
from consumers.embeddings import Kept
from consumers.enricher import Enricher, EnricherConfig, Past, pasts
from consumers.finetuner import newest_graph
from consumers.profiles import Profiles
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.snapshot import OpenedView


def enrich(
    settings: Settings, *, users: int | None, json_file: Path | None, quiet: bool = False
) -> int:
    """Describe the users whose history has changed enough, those with the most news first.

    Parameters
    ----------
    users : int, optional
        Describe at most so many.

    Raises
    ------
    StateError
        There is no snapshot.
    """
    clock, began_s = SystemClock(), time.monotonic()
    snapshot = newest_graph(settings.graph_dir, settings.window_us)
    config = EnricherConfig(history=settings.enrich_history, per_hour=settings.enrich_per_hour)
    profiles = Profiles(settings.state / "language" / "profiles.jsonl")
    forgotten = profiles.keep(name for name in snapshot.users.names if name)
    with closing(languages.open_chat(settings)) as chat:
        enricher = Enricher(chat, profiles, config, clock)
        due = waiting(enricher, snapshot)
        for done, _ in enumerate(enricher.enrich(due[:users]), 1):
            if not quiet:
                sys.stderr.write(f"\r{done} of {len(due[:users])}")
    figures = {
        "made": enricher.made,
        "repaired": enricher.repaired,
        "skipped": dict(enricher.skipped),
        "due": len(due),
        "forgotten": forgotten,
        "embedded": embed(settings, profiles),
        "usage": asdict(enricher.chat.usage) | {"cost": enricher.chat.usage.cost},
        "model": enricher.chat.name,
        "seconds": round(time.monotonic() - began_s, 2),
    }
    return _told(figures, json_file, quiet=quiet)


def waiting(enricher: Enricher, snapshot: OpenedView) -> list[Past]:
    """Whom to describe, the most new events first: the budget goes where it tells the most."""

    def news(past: Past) -> int:
        last = enricher.profiles.last(past.user)
        return past.events - (0 if last is None else last.events)

    every = pasts(
        snapshot.view.csr(),
        snapshot.users.names,
        snapshot.catalog.items,
        history=enricher.config.history,
        next_sequence=snapshot.view.next_sequence,
    )
    return sorted(filter(enricher.due, every), key=lambda past: (-news(past), past.user))


def embed(settings: Settings, profiles: Profiles) -> int:
    """Keep a vector of each newest profile, where there is an embedder; how many there are."""
    if settings.embedder == "given":
        return 0
    embedder = languages.open_plain(settings)
    with closing(Kept(embedder, languages.open_store(settings, embedder, "profiles"))) as kept:
        return len(kept.embed([profile.text for profile in profiles.newest().values()]))


def _told(figures: dict[str, Any], json_file: Path | None, *, quiet: bool) -> int:
    if json_file is not None:
        report.write_json(json_file, figures)
    if not quiet:
        sys.stdout.write(
            f"\n{figures['made']} described, {figures['due']} were due,"
            f" skipped {figures['skipped'] or 'none'}, cost {figures['usage']['cost']:g}\n"
        )
    return 0
