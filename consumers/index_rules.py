"""What no index takes: checked before anything is sent, so that a bad batch writes nothing."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from consumers.errors import PublishError
from consumers.index import MAX_CANDIDATES, MAX_ID_LENGTH, MAX_SEQUENCE, RESERVED, PointBatch

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_NAME = re.compile(NAME)


def check_name(name: str) -> str:
    """Return the name of a collection or alias if it is a plain one: it may become a folder.

    Raises
    ------
    PublishError
        If it is empty, too long, or has other characters than letters, digits, ``-``, ``_``.
    """
    if not _NAME.fullmatch(name):
        raise PublishError(f"{name!r} cannot name a collection: use letters, digits, - and _")
    return name


def check_ids(ids: Sequence[str]) -> None:
    """Refuse ids that are empty, too long or twice in one batch.

    Raises
    ------
    PublishError
    """
    if len(set(ids)) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise PublishError(f"id {twice[:80]!r} is in the batch twice: send its last vector only")
    for external_id in ids:
        if not 0 < len(external_id) <= MAX_ID_LENGTH:
            got = f"{external_id[:40]!r}, {len(external_id):,} characters"
            raise PublishError(f"an id has 1 to {MAX_ID_LENGTH} characters: got {got}")


def check_batch(batch: PointBatch, dim: int, where: str) -> None:
    """Refuse a batch of which any point would be wrong, before any is written.

    Raises
    ------
    PublishError
        Naming the collection, the first offending id, and got against expected.
    """
    n = len(batch.ids)
    if batch.vectors.shape != (n, dim):
        raise PublishError(
            f"{where}: vectors of shape {batch.vectors.shape} for {n} ids in a collection of "
            f"{dim} dimensions, expected ({n}, {dim})"
        )
    if len(batch.payloads) != n:
        raise PublishError(f"{where}: {len(batch.payloads)} payloads for {n} ids")
    check_ids(batch.ids)
    finite = np.isfinite(batch.vectors).all(axis=1)
    if not finite.all():
        bad = batch.ids[int(np.argmin(finite))]
        raise PublishError(
            f"{where}: {n - int(finite.sum())} vectors hold NaN or infinity: {bad!r}"
        )
    for external_id, payload in zip(batch.ids, batch.payloads, strict=True):
        price = payload.get("price")
        if price is not None and not (isinstance(price, int | float) and math.isfinite(price)):
            raise PublishError(f"{where}: the price of {external_id!r} is {price!r}, no number")
        if not RESERVED.isdisjoint(payload):
            named = sorted(RESERVED.intersection(payload))
            raise PublishError(f"{where}: the payload of {external_id!r} names {named}: our own")


def check_fields(campaigns: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse to write fields that are the index's own, or that say which campaign an item is of.

    Raises
    ------
    PublishError
    """
    for campaign, fields in campaigns.items():
        if named := sorted((RESERVED | {"campaign"}).intersection(fields)):
            raise PublishError(f"the fields of campaign {campaign[:80]!r} name {named}: our own")


def check_sequence(sequence: int) -> None:
    """Refuse a sequence that the engines could not compare exactly.

    Raises
    ------
    PublishError
    """
    if not 0 < sequence <= MAX_SEQUENCE:
        raise PublishError(f"sequence {sequence} is not in 1..{MAX_SEQUENCE}")


def check_query(vector: NDArray[np.float32], dim: int, k: int, where: str) -> None:
    """Refuse a search that has no answer.

    Raises
    ------
    ValueError
        If the vector is of another dimension or not finite, or ``k`` is out of bounds.
    """
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise ValueError(f"{where}: a query is {dim} finite numbers, got shape {vector.shape}")
    check_k(k)


def check_k(k: int) -> None:
    """Refuse to ask for no candidates, or for more than an ad system could use.

    Raises
    ------
    ValueError
    """
    if not 0 < k <= MAX_CANDIDATES:
        raise ValueError(f"k = {k}: ask for 1 to {MAX_CANDIDATES:,} candidates")
