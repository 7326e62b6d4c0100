"""A long film is scanned by several workers, and the store is the same as by one."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from reelwright.curation.borders import BorderConfig
from reelwright.curation.limits import Limits
from reelwright.curation.scan import Scan, ScanLimits, scan, scan_to_json
from reelwright.curation.shots import ShotConfig
from reelwright.pipelines.curate.workers import film
from tests.footage import shots, write
from tests.pipelines.helpers import contents, curate, recipe_of

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.waits]

HOW = {"shots": ShotConfig().model_dump(), "borders": BorderConfig().model_dump()}
LONGEST_S = 300
"""That a scan may take here on a machine where everything else runs too."""


@pytest.fixture(scope="module")
def long_one(tmp_path_factory) -> Path:
    """24 s of nine shots, with a keyframe per second."""
    return write(tmp_path_factory.mktemp("film") / "long.mp4", shots((70, 60, 80, 50, 90, 60, 70, 50, 70), 320, 192))


@pytest.fixture(scope="module")
def alone(long_one) -> tuple:
    return scan_to_json(scan(str(long_one), ShotConfig(), BorderConfig(), ScanLimits()))


def in_parts(path: Path | str, part_s: float, limits: dict) -> Scan | None:
    """As a task of a run does it: what it hands back, if the film was scanned in parts."""
    found = film._in_parts(str(path), HOW, limits, part_s)
    return found[0] if found else None


def parts_at_work() -> list[psutil.Process]:
    """The workers that decode a part now, by the name that Ray gives a process while it runs a task."""
    found = []
    for process in psutil.Process().children(recursive=True):  # of this Ray: others may run on the machine
        with contextlib.suppress(psutil.Error):
            if "ray::reel:part" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_parts_of_several_workers_are_the_single_scan(long_one, alone):
    import ray

    limits = Limits().model_dump()
    found = ray.get(ray.remote(in_parts).remote(long_one, 4.0, limits), timeout=LONGEST_S)
    assert found is not None
    assert scan_to_json(found) == alone
    assert ray.get(ray.remote(in_parts).remote(long_one, 600.0, limits), timeout=LONGEST_S) is None, "one part"


@pytest.mark.exhaustive
def test_a_worker_that_is_killed_costs_its_part_alone(long_one, alone):
    """Ray decodes it again elsewhere."""
    import ray

    asked = ray.remote(max_retries=0)(in_parts).remote(long_one, 4.0, Limits().model_dump())
    ends, killed = time.monotonic() + LONGEST_S, False
    while time.monotonic() < ends and not killed and not ray.wait([asked], timeout=0.02)[0]:
        for process in parts_at_work():
            with contextlib.suppress(psutil.Error):
                process.kill()
                killed = True
                break
    assert killed, "no part was seen at work"
    found = ray.get(asked, timeout=LONGEST_S)
    assert found is not None
    assert scan_to_json(found) == alone


@pytest.mark.exhaustive
def test_a_store_does_not_tell_how_its_films_were_scanned(long_one, tmp_path):
    """And a film that falls into no parts is scanned as one, here for its container."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "other.ts", shots((60, 60)))
    (tmp_path / "in" / "long.mp4").write_bytes(long_one.read_bytes())
    settings = {"shots__detector": "cascade", "annotators": ["blur"]}
    for name, split_s in (("parts", 2.0), ("whole", 0.0)):
        recipe = recipe_of(resources__scan_split_s=split_s, **settings)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(curate, tmp_path / name, [tmp_path / "in"], recipe)
            seen = False
            while not run.done():
                seen = seen or bool(parts_at_work())
                time.sleep(0.05)
            done = run.result()
        assert (done.ok, done.failed) == (2, 0)
        assert seen == bool(split_s), "the driver lets films be split, or does not"
        assert done.stages["scan"]["cpu_s"] > 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_film_that_is_replaced_under_its_scan_fails_as_ever(long_one, tmp_path):
    import ray

    changed = ray.remote(film.scan).remote(
        str(long_one), HOW["shots"], HOW["borders"], Limits().model_dump() | {"inputs": None}, (1, 1), 4.0
    )
    assert "the file changed while it was read" in ray.get(changed, timeout=LONGEST_S)[0].message


@pytest.mark.parametrize(
    ("duration_s", "split_s", "part_s"), [(59, 30, 0), (60, 30, 30), (7200, 900, 900), (7200, 0, 0), (0, 900, 0)]
)
def test_only_long_films_are_split(duration_s, split_s, part_s):
    assert film.part_length(duration_s, split_s) == part_s
