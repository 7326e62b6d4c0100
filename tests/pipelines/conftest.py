"""One local Ray for all tests here."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pipelines.object_store import ObjectStore, environment


@pytest.fixture(scope="package")
def ray_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray of two CPUs in this process; whatever runs under it joins it. It ends with the last test of this folder:
    its daemons take a tenth of a core. Somebody else's package is installed there, which brings the annotators of
    `tests/pipelines/sample_annotators.py`. Its workers find the address of `object_store` in their environment."""
    from reelwright.pipelines.runtime.cluster import cluster

    site = _somebody_s_package(tmp_path_factory.mktemp("site"))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(site), before or ""])
    os.environ.pop("RAY_ADDRESS", None)
    sys.path.append(str(site))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value)
        with cluster():
            yield
    sys.path.remove(str(site))
    os.environ["PYTHONPATH"] = before or ""


def _somebody_s_package(site: Path) -> Path:
    """What pip leaves of a package with entry points."""
    about = site / "somebody-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    from tests.pipelines.sample_annotators import SAMPLES

    lines = [f"{name.lower()} = tests.pipelines.sample_annotators:{name}" for name in SAMPLES]
    rewards = ["[reelwright.rewards]", "deadly = tests.pipelines.sample_rewards:Deadly"]
    (about / "entry_points.txt").write_text("\n".join(["[reelwright.annotators]", *lines, *rewards]) + "\n")
    return site


@pytest.fixture(scope="package")
def object_store(ray_local: None) -> Iterator[ObjectStore]:
    """A server of the S3 protocol on loopback, which this process, its Ray and `reel` find by their environment."""
    with ObjectStore() as server:
        yield server
