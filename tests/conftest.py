"""A runner for the `reel` command, in a process of its own or in this one."""

import functools
import os
import signal
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# As many test processes as cores: one thread each, and none that spins. Read when torch loads OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# By default Ray's workers give way to every other process, and so to the tests beside: whole runs would come last.
os.environ.setdefault("RAY_worker_niceness", "0")

# A machine that pauses is not a test that fails; and a run draws the same examples as the one before it, so that a
# change is judged by its own effect. `--hypothesis-profile=exploring` draws others.
settings.register_profile("unhurried", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None)
settings.load_profile("unhurried")

# Started in the background by a script, this process ignores SIGINT, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
REEL = (sys.executable, "-m", "reelwright.pipelines.cli")
HOSTS = "tests/pipelines/curate/test_many_hosts.py"
LONG_FILES = ("tests/test_documents.py", "tests/quality/test_cases.py", HOSTS)
"""Minutes each."""
Reel = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def reel(tmp_path: Path) -> Reel:
    """Run `reel ARGUMENTS` as its own process."""

    def run(*arguments: str | Path, timeout: float = 180, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*REEL, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=timeout,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | environment,
        )

    return run


@pytest.fixture
def call(capfd, monkeypatch, tmp_path) -> Reel:
    """Run `reel ARGUMENTS` in this process: what it prints and its exit code; an exception fails the test."""
    from reelwright.pipelines.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["reel", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="of exhaustive tests run the K-th of N parts, and all marked always")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not of the part asked for, and put the longest groups first: no process ends long before."""
    _thin(items)
    if part := config.getoption("--part"):
        number, of = map(int, part.split("/"))
        rest = [i for i in items if i.get_closest_marker("exhaustive") and not i.get_closest_marker("always")]
        chains = sorted({_unit(i) for i in rest if i.get_closest_marker("together")})
        left_out = {i for i in rest if _part(_unit(i), chains, of) != number}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [i for i in items if i not in left_out]
    longest = {group: i for i, group in enumerate(("waits", "page", *LONG_FILES))}
    items.sort(key=lambda item: longest.get(_group(item.nodeid), len(longest)))


def _thin(items: list[pytest.Item]) -> None:
    """Make all cases of a test exhaustive but each n-th where `every(n)` marks it."""
    seen: Counter[str] = Counter()
    for item in items:
        if every := item.get_closest_marker("every"):
            test = item.nodeid.partition("[")[0]
            if seen[test] % every.args[0]:
                item.add_marker("exhaustive")
            seen[test] += 1


def _part(unit: bytes, chains: list[bytes], of: int) -> int:
    """Of many parts the first ones are a chain each, which take minutes; all else is shared out to the others."""
    own = chains if of > 2 * len(chains) else []
    return own.index(unit) if unit in own else len(own) + zlib.crc32(unit) % (of - len(own))


def _unit(item: pytest.Item) -> bytes:
    """What stays together in a part: a test, or several of a file that go on from one another."""
    together = item.get_closest_marker("together")
    return (together.args[0] if together else item.nodeid).encode()


class Groups(LoadScopeScheduling):
    """All tests on the one Ray, which mostly wait for other processes, in one test process; those of `reel app`, which
    wait for a browser, in one; of the rest a file's tests stay together: they share what is made for them."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)  # the interpreted kernels' run has no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


@functools.cache
def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    if file in LONG_FILES:  # they start a Ray of their own, and beside the others that wait
        return file
    if file.startswith("tests/pipelines/app/"):
        return "page"
    text = (ROOT / file).read_text("utf-8")
    if "from tests.pipelines.hosts import" in text:  # there is one network of hosts at a time
        return HOSTS
    return "waits" if "ray_local" in text or "pytest.mark.waits" in text else file
