"""Errors for the person at the keyboard: one base class over all packages, one way to quote another's error."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import reelwright
from reelwright.errors import MAX_CHARS, ReelError, first_line

NAMES = [
    "curation.store.errors.StoreError", "curation.media.errors.MediaError", "curation.ingest.inputs.IngestError",
    "curation.shots.network.MissingNetwork", "model.errors.ModelError", "training.errors.TrainError",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_package_s_errors_are_for_the_person_at_the_keyboard(name):
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(f"reelwright.{module}"), kind), ReelError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such file.\nTraceback: …"), "no such file"),
        (OSError("  \n first \n second"), "first"),
        (KeyError("name"), "'name'"),
        (ValueError(), "ValueError"),
        (RuntimeError(" \n "), "RuntimeError"),
        (RuntimeError("."), "RuntimeError"),
        (RuntimeError("x" * 1_000), "x" * (MAX_CHARS - 1) + "…"),
    ],
)
def test_the_first_line_of_an_error_is_there_and_short(error, line):
    assert first_line(error) == line


def test_the_errors_lie_below_all_packages():
    packages = [m.name for m in pkgutil.iter_modules(reelwright.__path__) if m.ispkg]
    assert "curation" in packages
    code = (
        "import sys, reelwright.errors; "
        "print(*(n for n in sys.modules if n.startswith('reelwright.') and n != 'reelwright.errors'))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["reelwright.lazy"]  # of the package `reelwright` itself; it imports nothing of the house
