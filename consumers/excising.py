"""A burst of bots taken out: the state without their events, a version that never knew them.

In this order; a crash in between leaves the old vectors live:

1. the stream is read again from where the state began, without the events; or, where the beginning
   is gone and a person says so, their edges are taken out of the graph as it stands
2. the manifest gets its line, and whoever learns next is asked to learn anew
3. the state is committed with the rule in it, under another numbering of users, items and edges
   if it was read again: from here on the rule has its effect
4. a version is learned that goes on from none that knew the events; all is learned anew
5. it is published as any other: filled, checked, flipped
6. the state is committed under it

The same command goes on from wherever it was cut off. Before 3 it begins again, and the line that
is there already is its own; after 3 it goes on with 4. A `goat run` does 4 to 6 as well.
"""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from copy import deepcopy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers import finetuner, replaying, wiring
from consumers.errors import NotRepeatable, SettingsError
from consumers.excised import cut_off, on_record
from consumers.held_out import Recall, held_out_recall
from consumers.homes import refuse_members
from consumers.inputs import Inputs
from consumers.ledger_verbs import say, tell
from consumers.manifest import Manifest
from consumers.manifest_steps import Excised
from consumers.picture import Changes, Picture, changes
from consumers.pipeline import Pipeline
from consumers.retraining import Requests
from consumers.settings import Settings
from consumers.versions import Version, Versions
from model.config import ModelConfig
from model.coordinate import Coordinate
from stream.clock import SystemClock
from stream.edges import positive
from stream.excision import Rule
from stream.graph import Graph
from stream.ordering import Orderer
from stream.removal import matching, take_out
from stream.sink import NoLetters
from stream.state import JSON, State
from stream.view import GraphConfig


def excise(
    settings: Settings,
    rule: Rule,
    inputs: Inputs,
    *,
    dry_run: bool = False,
    in_place: bool = False,
    recall: bool = False,
    json_file: Path | None = None,
) -> int:
    """Leave out the events that a rule names, from the state, the model and the index.

    Parameters
    ----------
    inputs : Inputs
        The files that were read, where files were.
    dry_run : bool
        Say what is named, and change nothing.
    in_place : bool
        Take edges out of the graph instead of reading the stream again.
    recall : bool
        Learn twice more up to the last tenth of the stream, with the events and without, and rank
        what others did in that tenth.

    Raises
    ------
    NotRepeatable
        The stream's beginning is gone, and not to be done without.
    StoreInUse, IndexLocked
        Another process works on the state.
    """
    refuse_members(settings.state, "goat excise")
    clock, model = SystemClock(), settings.hyper_parameters()
    with ExitStack() as stack:
        old = wiring.open_pipeline(settings, model, None, NoLetters(), clock)
        stack.callback(old.snapshots.close)
        stack.callback(old.texts.close)
        if not old.state.saved_as:
            raise SettingsError(f"{settings.graph_dir}: no snapshot: there is nothing to excise")
        edges = matching(old.state.graph, rule)
        named = _named(old.state.graph, edges)
        line = cut_off(settings.manifest, clock, rule, old.state)
        # Edges that are taken out in place are found all the same: their names stay.
        done = in_place and line is None and rule in old.state.orderer.rules
        if dry_run or done or not (len(edges) or line):
            return _tell({**named, "changed": False}, json_file)
        old.snapshots.acquire()
        before = Picture.of(old.live)
        again = line is not None
        measured: Recall | None = None
        new = old
        if line is None:
            if recall:
                measured = held_out_recall(settings, inputs, old.state, rule, clock)
            if in_place:
                new, events = _taken_out(old, rule), len(edges)
            else:
                new = _read_again(settings, inputs, old, rule, stack)
                events = new.tally.excised - old.tally.excised
            line = _line(rule, new, named, events, in_place=in_place)
            _take_effect(settings, new, line)
        version = _publish(settings, model, new)
        after = changes(before, Picture.of(new.live))
    return _tell(_figures(named, line, version, after, measured, again=again), json_file)


def _named(graph: Graph, edges: NDArray[np.int64]) -> dict[str, JSON]:
    """What a rule names, as far as it is in the graph."""
    users = np.unique(graph.edges.user(edges))
    items, counts = np.unique(graph.edges.item(edges), return_counts=True)
    most = np.argsort(-counts, kind="stable")[:10]
    return {
        "edges": len(edges),
        "users": len(users),
        "items": len(items),
        "items_most_named": {graph.items.name(int(items[i])): int(counts[i]) for i in most},
    }


def _line(
    rule: Rule, new: Pipeline, named: Mapping[str, JSON], events: int, *, in_place: bool
) -> Excised:
    return Excised(
        users=rule.users,
        from_us=rule.from_us,
        to_us=rule.to_us,
        events=events,
        matched=int(str(named["users"])),
        how="in place" if in_place else "replayed",
        numbering=new.state.numbering,
    )


# -- 1: a state without the events


def _read_again(
    settings: Settings, inputs: Inputs, old: Pipeline, rule: Rule, stack: ExitStack
) -> Pipeline:
    """A new state up to where the old one is."""
    clock = SystemClock()
    state = State(
        Graph(GraphConfig(window_us=settings.window_us)),
        Orderer(wiring.ordering_of(settings), (*old.state.orderer.rules, rule)),
        topics=deepcopy(old.state.topics),
        numbering=old.state.numbering + 1,
    )
    new = wiring.pipeline_of(
        settings,
        old.live.config,
        state,
        clock,
        publisher=None,
        dead_letters=NoLetters(),
        snapshots=old.snapshots,
        live=inputs.events is None and settings.kafka is not None,
    )
    stack.callback(new.texts.close)
    upto = old.state.positions
    source = replaying.open_again(settings, inputs, old.state, upto, clock)
    stack.callback(source.close)
    try:
        replaying.replay(source, new.take, new.state.positions, upto, settings.batch)
    except NotRepeatable as gone:
        raise NotRepeatable(
            f"{gone}. With --in-place the edges are taken out of the graph as it stands, and "
            "counts corrected; spend, caps and figures of the past keep what they had of them"
        ) from gone
    kept = ("evaluator.sums", "evaluator.repeats", "evaluator.lately")
    arrays = {name: _floats(old.state, name) for name in kept}
    new.evaluator.restore(new.evaluator.to_arrays() | arrays)
    new.campaigns.restore({name: _floats(old.state, name) for name in old.state.arrays})
    return new


def _floats(state: State, name: str) -> NDArray[np.float64]:
    return np.asarray(state.arrays[name], np.float64)


def _taken_out(old: Pipeline, rule: Rule) -> Pipeline:
    """The same state without the edges, popularity counted anew from those that are left."""
    graph, orderer = old.state.graph, old.state.orderer
    take_out(graph, rule)
    orderer.rules = (*orderer.rules, rule)
    counted = Coordinate(old.live.config)
    for piece in graph.edges.slices():
        counts = positive(piece.kind) & (piece.time_us >= graph.horizon_us)
        counted.update(piece.item[counts], len(graph.items))
    old.live.last = counted
    return old


# -- 2 to 6


def _take_effect(settings: Settings, new: Pipeline, line: Excised) -> None:
    """On record first: a rule that holds and that nobody finds would be the worse half."""
    with closing(Manifest(settings.manifest, SystemClock())) as manifest:
        if not on_record(manifest.lines, line):
            manifest.append(line)
    if line.how == "in place":
        why = f"{line.users} from {line.from_us} to {line.to_us} us is excised"
        newest = max(Versions(settings.models_dir).numbers(), default=0)
        name = f"excise-{len(new.state.orderer.rules)}-{newest}"
        Requests(settings.state / finetuner.REQUESTS).ask(name, why)
    _commit(new)


def _publish(settings: Settings, model: ModelConfig, new: Pipeline) -> Version:
    clock = SystemClock()
    number = int(finetuner.finetune_job(**finetuner.arguments(settings, model)))
    version = Versions(settings.models_dir).open(number)
    with closing(wiring.open_publisher(settings, clock)) as publisher:
        new.publisher = publisher
        new.trial.excused = "a person has had events taken out"
        new.campaigns.tell(publisher)
        for _ in new.adopt(version):
            pass
        publisher.flush()
        new.publisher = None
    _commit(new)
    return version


def _commit(pipeline: Pipeline) -> None:
    progress: dict[str, JSON] = {"warming": False, "since_finetune": 0}
    pipeline.commit({**progress, "embedder": pipeline.texts.name}, lambda _: None)


def _figures(
    named: Mapping[str, JSON],
    line: Excised,
    version: Version,
    after: Changes,
    measured: Recall | None,
    *,
    again: bool,
) -> dict[str, JSON]:
    return {
        **named,
        "changed": True,
        "gone_on_with": again,
        "events": line.events,
        "how": line.how,
        "version": version.number,
        **after.to_json(),
        "held_out_recall": None if measured is None else measured.to_json(),
    }


def _tell(figures: Mapping[str, JSON], json_file: Path | None) -> int:
    if json_file is not None:
        tell(figures, json_file)
        return 0
    lines = [
        f"{figures['edges']} edges of {figures['users']} users to {figures['items']} items",
        f"items most named: {figures['items_most_named']}",
    ]
    if not figures["changed"]:
        say([*lines, "nothing was changed"])
        return 0
    if figures["gone_on_with"]:
        lines = ["an excision that was cut off is gone on with"]
    lines += [
        f"{figures['events']} events left out, {figures['how']}; "
        f"version {figures['version']} is published",
        f"popularity moved most: {figures['popularity']}",
        f"neighbours changed most: {figures['neighbours']}",
    ]
    if figures["held_out_recall"] is not None:
        lines.append(f"held-out recall: {figures['held_out_recall']}")
    say(lines)
    return 0
