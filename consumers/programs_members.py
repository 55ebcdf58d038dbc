"""The program behind `goat member`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers import report
from consumers.joining import joined
from consumers.lifecycle import Stop
from consumers.logs import log
from consumers.member import Member
from consumers.metrics import exposed
from consumers.settings import Settings


def member(settings: Settings, *, json_file: Path | None = None) -> int:
    """Keep the partitions that the group gives this process; see `consumers.member`."""
    with exposed(settings) as registry, Stop().listening() as stop:
        with joined(settings, stop) as running:
            figures = MemberFigures(running)
            registry.register(figures)
            running.on_step = figures.note
            log.info("joined", group=f"{settings.group}.members")
            running.run()
        if json_file is not None:
            report.write_json(json_file, figures.values())
    return 0


class MemberFigures(Collector):
    """What a member tells Prometheus, and in the end; replaced as a whole at every step.

    Parameters
    ----------
    member : Member
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self._held: dict[str, tuple[int, int, bool]] = {}

    def note(self) -> None:
        """Look at how things stand."""
        member = self._member
        self._held = {
            str(partition): (
                cell.position or 0,
                len(cell.pipeline.state.graph.users),
                cell.behind,
            )
            for partition, cell in list(member.cells.items())
        }

    def values(self) -> dict[str, object]:
        """All of it as plain JSON."""
        member = self._member
        return {
            "events_in": member.taken,
            "users_written": member.written,
            "moves": dict(self._moves()),
            "partitions": sorted(self._held),
        }

    def collect(self) -> Iterable[Metric]:
        """For Prometheus."""
        held = self._held
        position = GaugeMetricFamily(
            "goat_member_position", "Next offset of a partition held", labels=["partition"]
        )
        users = GaugeMetricFamily("goat_member_users", "Users of it", labels=["partition"])
        behind = GaugeMetricFamily(
            "goat_member_behind", "Whether readers have seen more of it", labels=["partition"]
        )
        for name, (at, count, late) in held.items():
            position.add_metric([name], at)
            users.add_metric([name], count)
            behind.add_metric([name], float(late))
        moves = CounterMetricFamily(
            "goat_member_moves", "Partitions that came and went", labels=["how"]
        )
        for how, count in self._moves().items():
            moves.add_metric([how], count)
        events = CounterMetricFamily(
            "goat_member_events", "Messages taken", value=self._member.taken
        )
        written = CounterMetricFamily(
            "goat_member_users_written", "Vectors written", value=self._member.written
        )
        return [position, users, behind, moves, events, written]

    def _moves(self) -> Counter[str]:
        member = self._member
        return Counter(
            taken_over=member.taken_over, handed_over=member.handed_over, lost=member.lost
        )
