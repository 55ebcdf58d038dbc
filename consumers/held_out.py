"""What a burst costs: two models that know the stream up to its last tenth, asked about that tenth.

One has learned from the events that a rule names, one has not. Both are asked about the same
events, each before it is learned from: those in the last tenth that the rule does not name.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from consumers import replaying, wiring
from consumers.finetuner import train
from consumers.inputs import Inputs
from consumers.memory import opened_view
from consumers.scores import K
from consumers.settings import Settings
from consumers.versions import Version
from model import version as files
from stream.clock import Clock
from stream.excision import Rule
from stream.graph import Graph
from stream.ordering import Orderer
from stream.sink import NoLetters
from stream.snapshot import SnapshotStore
from stream.state import JSON, State
from stream.view import GraphConfig

TAIL = 0.1


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@20 on the same events, with what was named and without it."""

    events: int
    before: float | None
    after: float | None

    def to_json(self) -> dict[str, JSON]:
        """As plain JSON."""
        return {"events": self.events, "before": self.before, "after": self.after}


def held_out_recall(
    settings: Settings, inputs: Inputs, known: State, rule: Rule, clock: Clock
) -> Recall:
    """Recall with the events that the rule names, and without them.

    Parameters
    ----------
    known : State
        As it is: where it began, how far it is, and what it leaves out already.

    Raises
    ------
    NotRepeatable
        The source does not hold the stream from its beginning.
    """
    old = known.orderer.rules
    _, before = _measured(settings, inputs, known, (old, (*old, rule)), clock)
    events, after = _measured(settings, inputs, known, ((*old, rule), (*old, rule)), clock)
    return Recall(events, before, after)


def _measured(
    settings: Settings,
    inputs: Inputs,
    known: State,
    rules: tuple[Sequence[Rule], Sequence[Rule]],
    clock: Clock,
) -> tuple[int, float | None]:
    """Events scored and Recall@20, under the first rules while learning, the second after it."""
    model = settings.hyper_parameters()
    orderer = Orderer(wiring.ordering_of(settings), rules[0])
    state = State(Graph(GraphConfig(window_us=settings.window_us)), orderer)
    upto = known.positions
    cut = {p: int(at - (at - known.begun.get(p, 0)) * TAIL) for p, at in upto.items()}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = wiring.pipeline_of(
            settings,
            model,
            state,
            clock,
            publisher=None,
            dead_letters=NoLetters(),
            snapshots=SnapshotStore(Path(folder), clock),
        )
        source = replaying.open_again(settings, inputs, known, upto, clock)
        try:
            replaying.replay(source, pipeline.take, state.positions, cut, settings.batch)
            learned, _ = train(
                opened_view(state),
                None,
                model,
                seed=settings.seed,
                threads=settings.threads or None,
                anew=False,
            )
            path = Path(folder) / "learned"
            ids = tuple(state.graph.items.names)
            files.save(learned.state, path, item_ids=ids, meta={})
            for _ in pipeline.adopt(Version(1, 0, path, {})):
                pass
            orderer.rules = tuple(rules[1])
            pipeline.evaluator = replace(pipeline.evaluator, share=1.0)
            replaying.replay(source, pipeline.take, state.positions, upto, settings.batch)
        finally:
            source.close()
            pipeline.texts.close()
    score = pipeline.evaluator.model
    return score.events, score.means()[f"recall@{K}"]
