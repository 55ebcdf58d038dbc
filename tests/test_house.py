"""The rules of the house that no linter knows: sizes, names, and whose packages these are."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("stream", "model", "consumers")
FILE_LINES = 400
FILE_MEDIAN = 250
PIPELINE_LINES = 90
FUNCTION_P90 = 35
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> list[Function]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, Function)]


@pytest.mark.parametrize("package", [*PACKAGES, "tests", "benchmarks"])
def test_no_file_is_long(package: str) -> None:
    long = {str(p.relative_to(ROOT)): lines(p) for p in sources(package) if lines(p) > FILE_LINES}
    assert not long, f"split these: none is over {FILE_LINES} lines"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_median_file_is_short(package: str) -> None:
    assert median(map(lines, sources(package))) <= FILE_MEDIAN


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    sized = [
        (f.end_lineno - f.lineno + 1, f"{path.relative_to(ROOT)}:{f.lineno} {f.name}")
        for path in sources(package)
        for f in functions(path)
        if f.end_lineno is not None
    ]
    if len(sized) < 2:
        return
    p90 = quantiles([size for size, _ in sized], n=10)[-1]
    assert p90 < FUNCTION_P90, f"the longest: {sorted(sized)[-5:]}"


def test_benchmarks_run_when_they_are_called() -> None:
    scripts = [p for p in sources("benchmarks") if f"python benchmarks/{p.name}" in p.read_text()]
    assert scripts
    silent = [p.name for p in scripts if '\n\nif __name__ == "__main__":\n' not in p.read_text()]
    assert not silent, "these only define what they measure with"


def test_the_story_fits_a_screen() -> None:
    story = ROOT / "consumers" / "pipeline.py"
    assert not story.exists() or lines(story) <= PIPELINE_LINES


@pytest.mark.parametrize("package", PACKAGES)
def test_names_say_something_and_shadow_nothing(package: str) -> None:
    names = {path.stem for path in sources(package)}
    assert not names & VAGUE
    assert not names & set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_the_one_of_this_repository(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / package
    # PyPI has unrelated packages of these names.
    assert set(packages_distributions().get(package, [])) <= {"goatstream"}


@pytest.mark.parametrize("program", ["consumers.programs", "consumers.serving"])
def test_what_takes_seconds_to_import_is_imported_by_who_needs_it(program: str) -> None:
    """The fast path and the server start without what only learning and watching want."""
    slow = ("torch", "sklearn", "scipy.stats", "pandas", "ot", "sentence_transformers")
    code = f"import sys, {program}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_tests_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py")), (
        "tests/model/__init__.py hijacks `model`"
    )


def test_nothing_is_written_twice_for_asynchronous_callers() -> None:
    """What comes in over HTTP is handed to threads in one place, and has no twin."""
    between = ROOT / "consumers" / "lane.py"
    twins = [
        f"{path.relative_to(ROOT)}:{f.lineno}"
        for package in PACKAGES
        for path in sources(package)
        for f in functions(path)
        if isinstance(f, ast.AsyncFunctionDef) and path != between
    ]
    assert not twins


def test_constraints_name_versions_and_no_addresses() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert pins
    assert not [line for line in pins if "==" not in line or "://" in line or " @ " in line]
