"""The ledger of campaigns as changes of a snapshot's logs, and back."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stream.arrow import texts
from stream.caps import Caps
from stream.catalog import CampaignRecord
from stream.ledger import Ledger
from stream.segments import Change, Logs, Table
from stream.spend import Account, Spend
from stream.traffic import BINS, DAYS, Traffic

CHUNK: Final = 65_536  # rows of a sealed segment of impressions
CAPS, SPEND, TRAFFIC = "caps", "spend", "traffic"
Tables = Callable[[str], list[Table]]


def ledger_changes(ledger: Ledger, logs: Logs) -> Iterator[Change]:
    """What must be written so that ``logs``, which hold an earlier ledger, hold this one."""
    names = ledger.spend.changed if SPEND in logs else ledger.spend.accounts
    if names:
        yield Change(SPEND, 0, 0, _spend_table(ledger.spend, sorted(names)), key="campaign")
    if ledger.traffic.first >= 0:
        yield Change(TRAFFIC, 0, 0, _traffic_table(ledger.traffic), whole=True)
    yield from _caps_changes(ledger.caps, logs)


def ledger_state(ledger: Ledger) -> dict[str, Any]:
    """What of it stands in the manifest itself."""
    return {"first": ledger.caps.first, "forgotten": ledger.caps.forgotten}


def restore_ledger(
    ledger: Ledger,
    tables: Tables,
    starts: list[int],
    campaigns: Mapping[str, CampaignRecord],
    state: Any,
) -> None:
    """Put back what the logs hold; nothing where they are of a time before there was a ledger.

    Parameters
    ----------
    tables : gives the tables of a log
    starts : number of the first row of each table of the log of impressions
    campaigns : what is known of campaigns
    state : what `ledger_state` gave, or None
    """
    for name, record in campaigns.items():
        ledger.caps.watch(name, record.window_us)
    for table in tables(SPEND):
        _restore_spend(ledger.spend, table)
    for table in tables(TRAFFIC):
        _restore_traffic(ledger.traffic, table)
    if state is not None:
        _restore_caps(ledger.caps, tables(CAPS), starts, int(state["first"]))
        ledger.caps.forgotten = int(state["forgotten"])
    ledger.mark_saved()


def _spend_table(spend: Spend, names: list[str]) -> Table:
    # Python's integers, as JSON: a total has no bound.
    rows = [_record(spend.accounts[name]) for name in names]
    return pa.table({"campaign": pa.array(names, pa.large_string()), "record": rows})


def _record(account: Account) -> str:
    days = sorted(account.days.items())
    return json.dumps({"total": account.total, "since_told": account.since_told, "days": days})


def _restore_spend(spend: Spend, table: Table) -> None:
    rows = zip(table["campaign"].to_pylist(), table["record"].to_pylist(), strict=True)
    for name, record in rows:
        plain: Mapping[str, Any] = json.loads(record)
        days = {int(day): int(micros) for day, micros in plain["days"]}
        spend.accounts[name] = Account(plain["total"], plain["since_told"], days)


def _traffic_table(traffic: Traffic) -> Table:
    rows = {"day": np.repeat(traffic.days, BINS), "count": traffic.counts.reshape(-1)}
    return pa.table(rows).replace_schema_metadata({"first": str(traffic.first)})


def _restore_traffic(traffic: Traffic, table: Table) -> None:
    traffic.first = int(table.schema.metadata[b"first"])
    traffic.days = table["day"].to_numpy().reshape(DAYS, BINS)[:, 0].copy()
    traffic.counts = table["count"].to_numpy().reshape(DAYS, BINS).copy()


def _caps_changes(caps: Caps, logs: Logs) -> Iterator[Change]:
    pieces = logs.get(CAPS, ())
    end = pieces[-1].start + pieces[-1].rows if pieces else 0
    written = max(end, caps.first)
    dirty = {row // CHUNK for row in caps.erased if caps.first <= row < written}
    if caps.first > end:
        dirty.add(caps.first // CHUNK)  # rows came and went unsaved: no piece may bridge them
    fresh = range(written // CHUNK, -(-caps.next // CHUNK)) if caps.next > written else range(0)
    for chunk in sorted(dirty | set(fresh)):
        whole = chunk in dirty
        start = max(chunk * CHUNK, caps.first if whole else written)
        stop = min((chunk + 1) * CHUNK, caps.next)
        if start < stop:
            seal = stop == (chunk + 1) * CHUNK
            yield Change(CAPS, chunk, start, _caps_table(caps, start, stop), whole=whole, seal=seal)


def _caps_table(caps: Caps, start: int, stop: int) -> Table:
    user, campaign, time_us = caps.rows(start, stop)
    return pa.table(
        {
            "user": user,
            "campaign": pa.array(campaign, pa.large_string()),
            "time_us": time_us,
        }
    )


def _restore_caps(caps: Caps, tables: list[Table], starts: list[int], first: int) -> None:
    kept = [t.slice(max(0, first - at)) for t, at in zip(tables, starts, strict=True)]
    if not kept:
        return
    columns = pa.concat_tables(kept)
    caps.restore(
        first,
        columns["user"].to_numpy(),
        texts(columns["campaign"]),
        columns["time_us"].to_numpy(),
    )
