"""Conditions in the words of the embedded engine."""

from collections.abc import Sequence
from typing import Final

import qdrant_edge as qe

from consumers.index import NOT_RUNNING, Conditions, Space, point_id, to_rfc3339

# The binding reads MatchValue(True) as the number 1 (qdrant-edge-py 0.9), so a tombstone is known
# by having the field at all: points that live do not.
_LIVING: Final = qe.IsEmptyCondition("deleted")
LIVING: Final = qe.Filter(must=[_LIVING])


def fence(sequence: int) -> qe.Filter:
    """Points that a write of this sequence may replace."""
    return qe.Filter(must=[_older(sequence)])


def of_campaign(campaign: str, sequence: int) -> qe.Filter:
    """Items of a campaign that a write of this sequence may change."""
    match = qe.MatchValue(campaign)
    return qe.Filter(must=[qe.FieldCondition("campaign", match=match), _older(sequence)])


def tombstones(before: int, points: Sequence[str] | None = None) -> qe.Filter:
    """Tombstones of sequences below ``before``, of these points or of all."""
    must: list[qe.ConditionType] = [_older(before)]
    if points is not None:
        some: set[qe.PointId] = set(points)
        must.append(qe.HasIdCondition(some))
    return qe.Filter(must=must, must_not=[_LIVING])


def to_filter(conditions: Conditions) -> qe.Filter | None:
    """Translate; None when there is nothing to fulfil."""
    must: list[qe.ConditionType] = []
    must_not: list[qe.ConditionType] = []
    for field, values in (
        ("campaign", conditions.campaigns),
        ("categories", conditions.categories),
    ):
        if values is not None:
            must.append(qe.FieldCondition(field, match=qe.MatchAny(list(values))))
    if conditions.price_from is not None or conditions.price_to is not None:
        bounds = qe.RangeFloat(gte=conditions.price_from, lte=conditions.price_to)
        must.append(qe.FieldCondition("price", range=bounds))
    if conditions.not_campaigns:
        paused = qe.MatchAny(list(conditions.not_campaigns))
        must_not.append(qe.FieldCondition("campaign", match=paused))
    if conditions.not_items:
        ids: set[qe.PointId] = {point_id(Space.ITEMS, i) for i in conditions.not_items}
        must_not.append(qe.HasIdCondition(ids))
    if not conditions.any_state:
        resting = qe.MatchAny(list(NOT_RUNNING))
        must_not.append(qe.FieldCondition("campaign_state", match=resting))
    if conditions.draw is not None:
        held_back = qe.RangeFloat(lte=conditions.draw)
        must_not.append(qe.FieldCondition("campaign_pacing", range=held_back))
    if conditions.context is not None:
        must_not.append(_targeted_elsewhere(conditions.context))
    if conditions.now_us is not None:
        must_not += _out_of_time(to_rfc3339(conditions.now_us))
    return qe.Filter(must=must, must_not=must_not) if must or must_not else None


def _out_of_time(now: str) -> "list[qe.ConditionType]":
    """Items that have expired, and items of campaigns that have ended or not begun."""
    past, ahead = qe.RangeDateTime(lte=now), qe.RangeDateTime(gt=now)
    return [
        qe.FieldCondition("expires_at", range=past),
        qe.FieldCondition("campaign_ends_at", range=past),
        qe.FieldCondition("campaign_starts_at", range=ahead),
    ]


def _targeted_elsewhere(context: tuple[str, ...]) -> qe.Filter:
    """Items of campaigns that target something, but nothing of this."""
    anybody = qe.IsEmptyCondition("campaign_targeting")
    meant = qe.FieldCondition("campaign_targeting", match=qe.MatchAny(list(context)))
    return qe.Filter(must_not=[anybody, meant] if context else [anybody])


def _older(sequence: int) -> qe.FieldCondition:
    return qe.FieldCondition("seq", range=qe.RangeFloat(lt=sequence))
