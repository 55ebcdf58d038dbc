"""Searches for a server: several at once, under a deadline, giving ids and scores and no more.

What is known of an item comes from the follower, so that an answer of the index is a few bytes a
candidate; `VectorIndex.search` is for those who want its payload.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as g

from consumers.errors import ServerUnavailable
from consumers.index import SEARCH_WIDTH, VECTOR, Conditions, Space, VectorIndex, point_id
from consumers.qdrant_connection import connect, translated
from stream.deadline import Deadline

Found = list[tuple[str, float]]
"""Ids and scores, best first."""

_PAYLOAD = g.WithPayloadSelector(include=g.PayloadIncludeSelector(fields=["id"]))
_PARAMS = g.SearchParams(hnsw_ef=SEARCH_WIDTH)
_IDS = 1 << 17  # point ids kept: hashing one costs as much as filtering by it


@dataclass(frozen=True, slots=True)
class Query:
    """One search.

    Attributes
    ----------
    vector : float32[d + 1]
    k : int
    """

    vector: NDArray[np.float32]
    k: int
    conditions: Conditions


class Finder(Protocol):
    """Where candidates are searched for."""

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        """Search by the dot product, all in one call.

        Raises
        ------
        ServerUnavailable
            If no answer came by the deadline.
        PublishError
            If the index refuses, for example because it has no such collection.
        """
        ...

    def holds(self, collection: str, deadline: Deadline) -> bool:
        """Whether the index has this collection.

        Raises
        ------
        ServerUnavailable
            If it does not answer.
        """
        ...

    def close(self) -> None:
        """Give back connections and locks; idempotent."""
        ...


class IndexFinder:
    """A `Finder` over any index; meant for the embedded one, which answers in a millisecond.

    Parameters
    ----------
    index : VectorIndex
        Closed with it.
    """

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        return [self._one(collection, query, deadline) for query in queries]

    def _one(self, collection: str, query: Query, deadline: Deadline) -> Found:
        if deadline.passed:
            raise ServerUnavailable(f"{collection}: the time is over before it was searched")
        found = self._index.search(collection, query.vector, query.k, query.conditions)
        return [(candidate.id, candidate.score) for candidate in found]

    def holds(self, collection: str, deadline: Deadline) -> bool:
        return collection in self._index.collections()

    def close(self) -> None:
        self._index.close()


class QdrantFinder:
    """A `Finder` on a Qdrant server, straight over its gRPC interface.

    The messages are built here and not by qdrant-client, whose models cost more time than the
    search. A test holds both to the same filters.

    Parameters
    ----------
    As `QdrantIndex`.

    Raises
    ------
    ServerUnavailable
        If it cannot be reached, refuses us, or is of a version the client does not know.
    """

    def __init__(
        self, url: str, *, grpc_port: int, api_key: str | None = None, ca: Path | None = None
    ) -> None:
        self._where = f"Qdrant at {url}, gRPC port {grpc_port}"
        self._client = connect(
            url,
            grpc_port=grpc_port,
            api_key=api_key,
            ca=ca,
            certificate=None,
            key=None,
            timeout_s=10.0,
        )

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        points = [_points(collection, query) for query in queries]
        stub: Any = self._client.grpc_points
        timeout_s = max(deadline.remaining_s, 0.001)
        with translated(f"{self._where}, {collection}"):
            if len(points) == 1:
                return [_found(stub.Query(points[0], timeout=timeout_s).result)]
            batch = g.QueryBatchPoints(collection_name=collection, query_points=points)
            return [_found(one.result) for one in stub.QueryBatch(batch, timeout=timeout_s).result]

    def holds(self, collection: str, deadline: Deadline) -> bool:
        stub: Any = self._client.grpc_collections
        asked = g.CollectionExistsRequest(collection_name=collection)
        with translated(self._where):
            return bool(
                stub.CollectionExists(asked, timeout=max(deadline.remaining_s, 0.001)).result.exists
            )

    def close(self) -> None:
        self._client.close()


def _points(collection: str, query: Query) -> g.QueryPoints:
    nearest = g.VectorInput(dense=g.DenseVector(data=query.vector.tolist()))
    return g.QueryPoints(
        collection_name=collection,
        query=g.Query(nearest=nearest),
        using=VECTOR,
        filter=to_message(query.conditions),
        params=_PARAMS,
        limit=query.k,
        with_payload=_PAYLOAD,
    )


def _found(points: Sequence[Any]) -> Found:
    return [(point.payload["id"].string_value, point.score) for point in points]


@lru_cache(_IDS)
def _item_point(item: str) -> g.PointId:
    return g.PointId(uuid=point_id(Space.ITEMS, item))


def to_message(conditions: Conditions) -> g.Filter:
    """Translate, as `qdrant_filter.to_filter` does for the client's own models."""
    must: list[g.Condition] = []
    must_not: list[g.Condition] = []
    if conditions.campaigns is not None:
        must.append(_any_of("campaign", conditions.campaigns))
    if conditions.categories is not None:
        must.append(_any_of("categories", conditions.categories))
    bounds = {"gte": conditions.price_from, "lte": conditions.price_to}
    given: Mapping[str, float] = {k: v for k, v in bounds.items() if v is not None}
    if given:
        must.append(g.Condition(field=g.FieldCondition(key="price", range=g.Range(**given))))
    if conditions.not_campaigns:
        must_not.append(_any_of("campaign", conditions.not_campaigns))
    if conditions.not_items:
        ids = [_item_point(item) for item in conditions.not_items]
        must_not.append(g.Condition(has_id=g.HasIdCondition(has_id=ids)))
    if conditions.now_us is not None:
        expired = g.DatetimeRange(lte=cast(Any, _timestamp(conditions.now_us)))
        field = g.FieldCondition(key="expires_at", datetime_range=expired)
        must_not.append(g.Condition(field=field))
    return g.Filter(must=must, must_not=must_not)


def _any_of(key: str, values: Sequence[str]) -> g.Condition:
    match = g.Match(keywords=g.RepeatedStrings(strings=values))
    return g.Condition(field=g.FieldCondition(key=key, match=match))


def _timestamp(time_us: int) -> Mapping[str, int]:
    """Return the fields of protobuf's Timestamp; a message takes them as they are."""
    seconds, us = divmod(time_us, 1_000_000)
    return {"seconds": seconds, "nanos": us * 1_000}
