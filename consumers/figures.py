"""What the display and the status file show of the fast path."""

from consumers.ingestor import Ingestor
from consumers.progress import Figures


def figures_of(ingestor: Ingestor) -> Figures:
    """Its state as of now."""
    pipeline, lag = ingestor.pipeline, ingestor.source.lag()
    return Figures(
        events_in=pipeline.tally.events_in,
        events_per_s=ingestor.events_per_s,
        lag=sum(lag.values()) if lag else None,
        edges=len(pipeline.state.graph.edges),
        users=len(pipeline.state.graph.users),
        items=len(pipeline.state.graph.items),
        dead_letters=pipeline.tally.dead_letters + pipeline.tally.late,
        version=pipeline.live.version,
        recall=pipeline.evaluator.recall_lately,
        popularity_recall=pipeline.evaluator.popularity_recall_lately,
        freshness_s=ingestor.freshness.median_s,
        doing=ingestor.doing,
        gaps={
            name: (one["gap"]["observed"], one["gap"]["bound"])
            for name, one in pipeline.live.alignment.items()
        },
    )
