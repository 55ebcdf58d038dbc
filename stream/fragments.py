"""Columns to JSON text, a whole column at a time: how tables become messages.

A *fragment* is the JSON text of one value; a null fragment leaves its field out of the message.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from stream.arrow import Column, Records, pa, pc
from stream.event_time import written

# What JSON writes differently inside a string.
_ESCAPED: Final = r'["\\\x00-\x1f]'
_ID_BYTES: Final = 12  # 96 bits: a collision in 10^12 rows has a chance of 10^-5


def quoted(texts: Column) -> Column:
    """Fragments of strings: quotes around them, escapes inside them."""
    texts = texts.cast(pa.string())
    if not pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
        return pc.binary_join_element_wise('"', texts, '"', "")
    coded = texts.dictionary_encode()
    words = pa.array(
        [json.dumps(word, ensure_ascii=False) for word in coded.dictionary.to_pylist()],
        pa.string(),
    )
    return words.take(coded.indices)


def text(values: Column) -> Column:
    """Ids as text: numbers without a needless ``.0``, empty strings as null."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        finite = pc.if_else(pc.is_finite(values), values, None)
        whole = pc.and_(pc.equal(finite, pc.floor(finite)), pc.less(pc.abs(finite), 2.0**53))
        integers = pc.if_else(whole, finite, None).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(integers, finite.cast(pa.string()))
    if not pa.types.is_string(values.type):
        values = _as_text(values)
    return pc.if_else(pc.equal(values, ""), None, values)


def literals(values: Column) -> Column:
    """Fragments of values of any type: numbers, truth values, times, lists, structures."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return literals(values.cast(kind.value_type))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values.cast(pa.string())
    if pa.types.is_floating(kind):
        # Infinities stay visible: the codec names the field that holds one.
        finite = pc.if_else(pc.is_finite(values), values, None)
        endless = pc.if_else(pc.is_inf(values), '"infinite"', None)
        return pc.coalesce(finite.cast(pa.float64()).cast(pa.string()), endless)
    if pa.types.is_timestamp(kind):
        return quoted(written(values.cast(pa.timestamp("us")).cast(pa.int64())))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return quoted(values)
    return pa.array([_nested(value) for value in values.to_pylist()], pa.string())


def assemble(fields: Mapping[str, Column | str], rows: int) -> Column:
    """Messages out of fragments.

    Parameters
    ----------
    fields : name -> fragments string[n], or one fragment for all rows
        In the order in which they are written.
    rows : int
        n.

    Returns
    -------
    string[n]
    """
    if not rows:
        return pa.array([], pa.string())
    parts: list[Any] = []
    for name, fragments in fields.items():
        key = f",{json.dumps(name)}:"
        if isinstance(fragments, str):
            parts.append(key + fragments)
        elif fragments.null_count:
            parts.append(pc.binary_join_element_wise(key, fragments, ""))
        else:
            parts.extend((key, fragments))
    # An array among the parts makes the result one, even when all fragments are constant.
    blank = pa.repeat(pa.scalar(""), rows)
    inner = pc.binary_join_element_wise(
        blank, *parts, "", null_handling="replace", null_replacement=""
    )
    inner = pc.utf8_slice_codeunits(inner, 1)  # the first comma
    return pc.binary_join_element_wise("{", inner, "}", "")


def to_bytes(messages: Column) -> list[bytes]:
    """Messages as Python bytes."""
    values: list[bytes] = messages.cast(pa.binary()).to_pylist()
    return values


def digests(contents: Iterable[bytes], salt: bytes = b"") -> Column:
    """Fragments of event ids: a hash of each row's content, the same wherever the row lies.

    Parameters
    ----------
    contents : n rows
    salt : bytes, at most 16
        Sets the events of one kind apart from another kind's over equal content.
    """
    return pa.array(
        [f'"{blake2b(c, digest_size=_ID_BYTES, person=salt).hexdigest()}"' for c in contents],
        pa.string(),
    )


def row_objects(table: Records) -> list[bytes]:
    """Every row as a JSON object: what it is hashed by, and what a dead letter shows of it."""
    names = table.schema.names
    fields = {name: literals(table.column(at)) for at, name in enumerate(names)}
    return to_bytes(assemble(fields, table.num_rows))


def numbers(values: np.ndarray[Any, Any]) -> Column:
    """Fragments of whole numbers."""
    return pa.array(values).cast(pa.string())


def _nested(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _as_text(values: Column) -> Column:
    try:
        return values.cast(pa.string())
    except pa.ArrowNotImplementedError:
        return pa.array([_nested(value) for value in values.to_pylist()], pa.string())
