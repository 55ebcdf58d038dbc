"""Edges that a rule names in a graph as it stands: found, or taken out without reading them again.

Taking out is for when the beginning of the stream is gone. Each edge is marked as gone, as one that
a click has retired is, so histories, views and degrees are as if it had not come. What else it left
behind stays: names in the vocabularies, spend and caps of campaigns, ids remembered as seen.
"""

import numpy as np
from numpy.typing import NDArray

from stream.edges import ERASED, GONE, live
from stream.excision import Rule
from stream.graph import Graph


def matching(graph: Graph, rule: Rule) -> NDArray[np.int64]:
    """Numbers of the edges held that the rule names, those gone already included; int64[n]."""
    users = graph.users.names
    named = rule.names(users)
    flags = np.fromiter((name in named for name in users), np.bool_, len(users))
    found = [np.empty(0, np.int64)]
    for piece in graph.edges.slices():
        inside = (piece.time_us >= rule.from_us) & (piece.time_us < rule.to_us)
        at = np.flatnonzero(inside & (piece.kind != ERASED) & flags[piece.user])
        found.append(at + piece.first)
    return np.concatenate(found)


def take_out(graph: Graph, rule: Rule) -> NDArray[np.int64]:
    """Mark the edges that the rule names as gone, and count degrees without them.

    Returns
    -------
    int64[n]
        Numbers of the edges that were in the graph.
    """
    at = matching(graph, rule)
    at = at[live(graph.edges.kind(at))]
    if len(at):
        graph.edges.amend(at, graph.edges.kind(at) | np.uint8(GONE), graph.edges.link(at))
        graph.joins.amended.update(at.tolist())
        _uncount(graph, at)
    return at


def _uncount(graph: Graph, at: NDArray[np.int64]) -> None:
    """Take edges of their users' current periods off the degrees."""
    user, n = graph.edges.user(at), len(graph.users)
    window_us = graph.config.window_us
    period = graph.edges.time_us(at) // window_us if window_us else np.zeros(len(at), np.int64)
    current = period >= graph.degrees.period.reserve(n)[user]
    fewer = np.bincount(user[current], minlength=n)
    count = graph.degrees.count.reserve(n)
    count[:n] = np.maximum(count[:n] - fewer, 0)
    graph.touched.reserve(n)[user] = True
