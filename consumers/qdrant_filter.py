"""Conditions in the words of Qdrant's server."""

from collections.abc import Sequence

from qdrant_client import models as q

from consumers.index import NOT_RUNNING, Conditions, Space, point_id, to_rfc3339

_LIVING = q.IsEmptyCondition(is_empty=q.PayloadField(key="deleted"))
LIVING = q.Filter(must=[_LIVING])


def fence(sequence: int) -> q.Filter:
    """Points that a write of this sequence may replace."""
    return q.Filter(must=[_older(sequence)])


def of_campaign(campaign: str, sequence: int) -> q.Filter:
    """Items of a campaign that a write of this sequence may change."""
    match = q.MatchValue(value=campaign)
    return q.Filter(must=[q.FieldCondition(key="campaign", match=match), _older(sequence)])


def tombstones(before: int, points: Sequence[str] | None = None) -> q.Filter:
    """Tombstones of sequences below ``before``, of these points or of all."""
    must: list[q.Condition] = [_older(before)]
    if points is not None:
        must.append(q.HasIdCondition(has_id=list(points)))
    return q.Filter(must=must, must_not=[_LIVING])


def to_filter(conditions: Conditions) -> q.Filter | None:
    """Translate; None when there is nothing to fulfil."""
    must: list[q.Condition] = []
    must_not: list[q.Condition] = []
    for field, values in (
        ("campaign", conditions.campaigns),
        ("categories", conditions.categories),
    ):
        if values is not None:
            must.append(q.FieldCondition(key=field, match=q.MatchAny(any=list(values))))
    if conditions.price_from is not None or conditions.price_to is not None:
        bounds = q.Range(gte=conditions.price_from, lte=conditions.price_to)
        must.append(q.FieldCondition(key="price", range=bounds))
    if conditions.not_campaigns:
        paused = q.MatchAny(any=list(conditions.not_campaigns))
        must_not.append(q.FieldCondition(key="campaign", match=paused))
    if conditions.not_items:
        ids = [point_id(Space.ITEMS, i) for i in conditions.not_items]
        must_not.append(q.HasIdCondition(has_id=list(ids)))
    if not conditions.any_state:
        resting = q.MatchAny(any=list(NOT_RUNNING))
        must_not.append(q.FieldCondition(key="campaign_state", match=resting))
    if conditions.draw is not None:
        held_back = q.Range(lte=conditions.draw)
        must_not.append(q.FieldCondition(key="campaign_pacing", range=held_back))
    if conditions.context is not None:
        must_not.append(_targeted_elsewhere(conditions.context))
    if conditions.now_us is not None:
        must_not += _out_of_time(to_rfc3339(conditions.now_us))
    return q.Filter(must=must, must_not=must_not) if must or must_not else None


def _out_of_time(now: str) -> list[q.Condition]:
    """Items that have expired, and items of campaigns that have ended or not begun."""
    past = q.DatetimeRange.model_validate({"lte": now})
    ahead = q.DatetimeRange.model_validate({"gt": now})
    return [
        q.FieldCondition(key="expires_at", range=past),
        q.FieldCondition(key="campaign_ends_at", range=past),
        q.FieldCondition(key="campaign_starts_at", range=ahead),
    ]


def _targeted_elsewhere(context: tuple[str, ...]) -> q.Filter:
    """Items of campaigns that target something, but nothing of this."""
    anybody = q.IsEmptyCondition(is_empty=q.PayloadField(key="campaign_targeting"))
    meant = q.FieldCondition(key="campaign_targeting", match=q.MatchAny(any=list(context)))
    return q.Filter(must_not=[anybody, meant] if context else [anybody])


def _older(sequence: int) -> q.FieldCondition:
    return q.FieldCondition(key="seq", range=q.Range(lt=sequence))
