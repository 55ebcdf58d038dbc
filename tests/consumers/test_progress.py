import io

from rich.console import Console

from consumers.progress import Figures, Progress

FIGURES = Figures(
    events_in=12_345,
    events_per_s=678.9,
    lag=10,
    edges=9_000,
    users=500,
    items=60,
    dead_letters=3,
    version=2,
    recall=0.25,
    popularity_recall=0.125,
    freshness_s=0.0421,
    doing="reading events",
    gaps={"text": (0.61, 2.68)},
)
EMPTY = Figures(0, 0.0, None, 0, 0, 0, 0, 0, None, None, None, "starting")


class _Time:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shown(figures: Figures, *, terminal: bool, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with Progress(lambda: figures, _Time(), console=console, quiet=quiet) as progress:
        progress.show()
    return out.getvalue()


def test_a_person_reads_labels_and_round_numbers() -> None:
    for terminal in (True, False):
        said = shown(FIGURES, terminal=terminal)
        for part in (
            "12,345",
            "679/s",
            "9,000 edges",
            "0.250",
            "0.125",
            "42 ms",
            "text 0.61 <= 2.68",
            "reading events",
        ):
            assert part in said


def test_what_is_not_known_yet_is_not_made_up() -> None:
    said = shown(EMPTY, terminal=False)
    assert "none yet" in said
    assert "unknown" in said


def test_quiet_is_quiet() -> None:
    assert shown(FIGURES, terminal=True, quiet=True) == ""


def test_lines_come_now_and_then() -> None:
    out, time = io.StringIO(), _Time()
    console = Console(file=out, force_terminal=False, width=200)
    progress = Progress(lambda: FIGURES, time, console=console, every_s=5.0)
    for second in range(11):
        time.now_s = float(second)
        progress.show()
    assert out.getvalue().count("\n") == 3
