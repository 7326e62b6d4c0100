"""Tests of a module that is changed in memory, each trial in a process forked after libraries are loaded."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

NEVER_SHARED = ("reelwright", "tests", "benchmarks", "conftest", "lance", "lancedb", "duckdb", "ray", "__main__")
"""Packages that are changed, or whose threads no fork has."""
PATIENCE = 4.0
"""A change that makes the tests so many times slower has been noticed."""
MOST_BYTES = 8 << 30
"""A change that makes the tests hold more has been noticed."""


class Trial:
    """A module and its tests. passes: unchanged; ran: the lines of the module that ran meanwhile."""

    def __init__(self, root: Path, module: str, tests: Sequence[str], marks: str = "") -> None:
        """marks: of the tests to run, as pytest's -m; all of them if empty."""
        self.path, self.quick = root / module, False
        self.name = "reelwright." + module.removesuffix(".py").replace("/", ".")
        self.tests = ["-m", marks, *(str(root / test) for test in tests)]
        began = time.monotonic()
        with tempfile.NamedTemporaryFile() as file:
            self.passes = self._run(lambda: _watch(self.path, file.name), 600) == 0
            told = json.loads(Path(file.name).read_text("utf-8") or "{}")
        self.ran: set[int] = set(told.get("lines", ()))
        self.limit_s = 10 + PATIENCE * (time.monotonic() - began)
        for name in told.get("modules", ()):  # forked processes have them
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        self.own = [name for name in told.get("own", ()) if name != "tests.conftest"]
        self.quick = self.passes and self._can_swap()

    def fate(self, tree: ast.Module) -> str:
        """Return `killed` where a test fails with the changed module, else `survived`."""
        return "survived" if self._survives(tree) else "killed"

    def _can_swap(self) -> bool:
        """Whether the tests pass where the project's modules are loaded first, and the module then runs once more."""
        code = compile(self.path.read_text("utf-8"), str(self.path), "exec")
        return self._run(lambda: self._swap(code), self.limit_s) == 0

    def _swap(self, code: CodeType) -> Callable[[], None]:
        """Load the project's modules in this fork: the next trial's, of this module or another, must have none."""
        for name in self.own:
            importlib.import_module(name)
        return _swap(self.name, self.path, code)

    def _survives(self, source: ast.Module | str) -> bool:
        code = compile(source, str(self.path), "exec")
        if self.quick:
            return self._run(lambda: self._swap(code), self.limit_s) == 0
        return self._run(lambda: _replace(self.name, self.path, code), self.limit_s) == 0

    def _run(self, before: Callable[[], Callable[[], None]], limit_s: float) -> int:
        """Run the tests in a fork; the exit code, or -1 where it takes too long."""
        child = os.fork()
        if not child:
            os.setsid()
            _bound(limit_s)
            _test(before, self.tests)
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1


def _bound(limit_s: float) -> None:
    """End this process in time and within its memory, also where its parent is gone: a change may loop for ever."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    signal.alarm(int(limit_s) + 5)


def _test(before: Callable[[], Callable[[], None]], tests: Sequence[str]) -> None:
    """Run pytest and end this process."""
    import pytest
    from hypothesis.configuration import set_hypothesis_home_dir

    code = 1
    with tempfile.TemporaryDirectory(prefix="reel-mutation-") as scratch, contextlib.suppress(BaseException):
        set_hypothesis_home_dir(scratch)  # a failing example of one change is none of the next
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        after = before()
        own = ["-x", "-q", "-p", "no:cacheprovider", "--basetemp", f"{scratch}/tests"]
        code = int(pytest.main([*own, *tests]))
        after()
    os._exit(code)


def _replace(name: str, path: Path, code: CodeType) -> Callable[[], None]:
    """Let `import name` run `code`."""

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:
            return code

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, search: Any, target: Any = None) -> Any:
            if fullname != name:
                return None
            return importlib.util.spec_from_file_location(name, path, loader=Loader(name, str(path)))

    sys.meta_path.insert(0, Finder())
    return lambda: None


def _swap(name: str, path: Path, code: CodeType) -> Callable[[], None]:
    """Run `code` in a module that is loaded, and give all other modules its functions, classes and constants."""
    module = sys.modules[name]
    before = {key: value for key, value in vars(module).items() if not key.startswith("__")}
    exec(code, vars(module))
    after = {key: (value, vars(module)[key]) for key, value in before.items() if vars(module)[key] is not value}
    own = {id(old): new for old, new in after.values() if callable(old)}
    for other in list(sys.modules.values()):
        held = getattr(other, "__dict__", {})
        if other is module or not str(getattr(other, "__name__", "")).startswith(("reelwright", "tests")):
            continue
        for key, value in list(held.items()):
            if id(value) in own:
                held[key] = own[id(value)]
            elif key in after and after[key][0] is value:
                held[key] = after[key][1]
    for old, new in after.values():
        _renew(old, new)
    return lambda: None


def _renew(old: Any, new: Any) -> None:
    """Give functions and methods their new code, for whoever holds them by no name: a default factory, a partial."""
    if old is new or type(old) is not type(new):
        return
    if isinstance(old, type):
        for name, value in vars(new).items():
            _renew(vars(old).get(name), value)
    elif isinstance(old, property):
        _renew(old.fget, new.fget)
    elif isinstance(old, cached_property):
        _renew(old.func, new.func)
    elif hasattr(old, "__wrapped__"):
        _renew(old.__wrapped__, new.__wrapped__)
    elif isinstance(old, FunctionType) and old.__code__.co_freevars == new.__code__.co_freevars:
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def _watch(path: Path, told: str) -> Callable[[], None]:
    """Note which lines of a file run; the function that is returned writes them down."""
    ran: set[int] = set()
    wanted = os.path.realpath(path)
    known: dict[str, bool] = {}

    def line(frame: FrameType, event: str, _: Any) -> Any:
        ran.add(frame.f_lineno)
        return line

    def call(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in known:
            known[name] = os.path.realpath(name) == wanted
        return line(frame, event, None) if known[name] else None

    threading.settrace(call)
    sys.settrace(call)

    def write() -> None:
        sys.settrace(None)
        modules = [name for name in sys.modules if name.partition(".")[0] not in NEVER_SHARED]
        mine = [name for name in sys.modules if name.startswith(("reelwright.", "tests."))]
        Path(told).write_text(json.dumps({"lines": sorted(ran), "modules": modules, "own": mine}), "utf-8")

    return write
