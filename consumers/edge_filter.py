"""Conditions in the words of the embedded engine."""

from typing import Final

import qdrant_edge as qe

from consumers.index import Conditions, Space, point_id, to_rfc3339

# The binding reads MatchValue(True) as the number 1 (qdrant-edge-py 0.9), so a tombstone is known
# by having the field at all: points that live do not.
_LIVING: Final = qe.IsEmptyCondition("deleted")
LIVING: Final = qe.Filter(must=[_LIVING])


def fence(sequence: int) -> qe.Filter:
    """Points that a write of this sequence may replace."""
    return qe.Filter(must=[_older(sequence)])


def tombstones(before: int) -> qe.Filter:
    """Tombstones of sequences below ``before``."""
    return qe.Filter(must=[_older(before)], must_not=[_LIVING])


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
    if conditions.now_us is not None:
        expired = qe.RangeDateTime(lte=to_rfc3339(conditions.now_us))
        must_not.append(qe.FieldCondition("expires_at", range=expired))
    return qe.Filter(must=must, must_not=must_not) if must or must_not else None


def _older(sequence: int) -> qe.FieldCondition:
    return qe.FieldCondition("seq", range=qe.RangeFloat(lt=sequence))
