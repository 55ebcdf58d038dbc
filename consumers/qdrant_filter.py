"""Conditions in the words of Qdrant's server."""

from qdrant_client import models as q

from consumers.index import Conditions, Space, point_id, to_rfc3339

_LIVING = q.IsEmptyCondition(is_empty=q.PayloadField(key="deleted"))
LIVING = q.Filter(must=[_LIVING])


def fence(sequence: int) -> q.Filter:
    """Points that a write of this sequence may replace."""
    return q.Filter(must=[_older(sequence)])


def tombstones(before: int) -> q.Filter:
    """Tombstones of sequences below ``before``."""
    return q.Filter(must=[_older(before)], must_not=[_LIVING])


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
    if conditions.now_us is not None:
        expired = q.DatetimeRange.model_validate({"lte": to_rfc3339(conditions.now_us)})
        must_not.append(q.FieldCondition(key="expires_at", range=expired))
    return q.Filter(must=must, must_not=must_not) if must or must_not else None


def _older(sequence: int) -> q.FieldCondition:
    return q.FieldCondition(key="seq", range=q.Range(lt=sequence))
