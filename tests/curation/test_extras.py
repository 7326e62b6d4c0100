"""Every message that asks for an extra names one that there is, by a command that pip takes."""

import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from reelwright.curation.extras import OF_PROTOCOL, install_command, install_for_protocol
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = [p for name in ("curation", "annotate", "model", "kernels", "training", "evaluation", "pipelines") for p in
           (ROOT / name).rglob("*.py")]  # fmt: skip


def test_every_extra_that_is_asked_for_is_there():
    text = "\n".join(path.read_text() for path in SOURCES)
    asked = {*re.findall(r"install_command\(['\"](\w+)['\"]\)", text), *OF_PROTOCOL.values()}
    assert {"models", "s3", "gcs", "azure", "wandb"} <= asked <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=lambda p: p.name)
def test_nobody_is_sent_to_an_index_that_lacks_the_package(path):
    assert not re.search(r"pip install\s+['\"]?reelwright", path.read_text())


def test_the_command_is_one_that_pip_takes(tmp_path):
    program, *arguments = shlex.split(install_command("s3"))
    assert program == "pip"
    made = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--dry-run", "--no-deps", "--no-build-isolation", "--no-index"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_each_protocol_names_its_package():
    assert install_for_protocol("gs") == install_command("gcs")
    assert install_for_protocol("abfs") == install_command("azure")
    assert "hdfs://" in install_for_protocol("hdfs")
