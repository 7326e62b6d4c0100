"""A run that dies, anywhere, is made good by the same command: the store is that of a run that was never disturbed."""

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from reelwright.curation.clips import clip_fingerprint
from reelwright.curation.store import Store, StoreError
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")

OFTEN = ["--set", "batches.commit_s=0.3", "--set", "batches.commit_mib=1", "--set", "batches.cut_clips=1"]


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "in"
    films = footage(folder, 8, lengths=(40, 30, 40))
    shutil.copy(films[2], folder / "zz copy.mp4")
    (folder / "broken.mp4").write_bytes(b"x" * 1000)
    return folder


@pytest.fixture(scope="module")
def expected(material, tmp_path_factory, ray_local) -> dict:
    path = tmp_path_factory.mktemp("undisturbed") / "store"
    curate(path, [material])
    return contents(path)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("few") / "in"
    films = footage(folder, 3, lengths=(40, 30), seed=20)
    shutil.copy(films[2], folder / "zz copy.mp4")
    (folder / "broken.mp4").write_bytes(b"x" * 1000)
    return folder


@pytest.fixture(scope="module")
def cut_once(few, tmp_path_factory, ray_local) -> Path:
    path = tmp_path_factory.mktemp("cut") / "store"
    curate(path, [few])
    return path


def begin(store: Path, inputs: Path) -> subprocess.Popen[str]:
    """`reel curate` in its own process, a driver of its own on the session's Ray."""
    import ray

    at = ray.get_runtime_context().gcs_address
    arguments = ["curate", str(inputs), "--store", str(store), *CHEAP_ARGUMENTS, *OFTEN, "--address", at]
    return subprocess.Popen(
        [*REEL, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def is_made(store: Path) -> bool:
    """A table's folder is there a moment before the table is."""
    try:
        Store.open(store)
    except StoreError:
        return False
    return True


def wait_for(run: subprocess.Popen, store: Path, condition: Callable[[Store], bool], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and run.poll() is None:
        if is_made(store) and condition(Store.open(store)):
            return
        time.sleep(0.02)
    assert run.poll() is None, f"the run ended before it could be disturbed: {run.communicate()}"
    pytest.fail("nothing happened")


def some_clips_no_source(store: Store) -> bool:
    return store.count("media") > 0


def test_killed_and_interrupted_the_next_run_makes_it_good(material, expected, tmp_path):
    store = tmp_path / "store"
    killed = begin(store, material)
    wait_for(killed, store, some_clips_no_source)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert (store / "_locks" / "curation.json").exists()  # a dead run's lock is no hindrance

    done = Store.open(store).count("sources")
    stopped = begin(store, material)
    wait_for(stopped, store, lambda s: s.count("sources") > done)  # it has begun, and goes on
    stopped.send_signal(signal.SIGINT)
    _, errors = stopped.communicate(timeout=300)
    assert stopped.returncode == 130, errors
    assert "stopped; what was committed " in errors
    assert "Traceback" not in errors
    assert Store.open(store).read("runs", ["state"]).column(0).to_pylist() == ["interrupted"]
    assert not list((store / "_locks").iterdir())

    kept = contents(store)
    counts = json.loads(Store.open(store).read("runs", ["counts"]).column(0)[0].as_py())
    assert Counter(row["state"] for row in kept["sources"]) == Counter(
        {state: counts[state] for state in ("ok", "duplicate", "failed") if counts[state]}
    )  # what it had under way and not committed is not in its counts
    assert counts["clips"] <= len(kept["clips"])
    summary = curate(store, [material])
    assert (summary.ok, summary.duplicate, summary.failed) == (8, 1, 1)
    assert summary.done_before == len(kept["sources"])
    assert contents(store) == expected
    check_whole(store)


class Died(BaseException):
    """Stands for a power cut: nobody catches it, and no clean-up of a run's own follows it."""


@pytest.fixture
def dying(monkeypatch):
    """Run in this process until the store has been written to `number` times; whether that happened."""
    writes = ("append", "delete", "merge", "commit_media")
    real = {name: getattr(Store, name) for name in writes}

    def run(number: int, *arguments, **options) -> bool:
        left = number

        def counted(name: str) -> Callable:
            def write(self, table, *rest, **named):
                nonlocal left
                if left <= 0:
                    raise Died  # nothing more reaches the disk
                done = real[name](self, table, *rest, **named)
                left -= table != "runs"
                if left <= 0:
                    raise Died
                return done

            return write

        with monkeypatch.context() as patch:
            for name in writes:
                patch.setattr(Store, name, counted(name))
            try:
                curate(*arguments, **options)
            except Died:
                return True
        return False

    return run


def test_dying_after_any_of_its_writes(dying, few, tmp_path):
    """One store, one run after the other, each dead after one write more than the last: all orders of leftovers."""
    store, number = Store.open(tmp_path / "store", create=True), 1
    often = recipe_of(batches__commit_s=0.05, batches__commit_mib=1, batches__cut_clips=1)
    while dying(number, store, [few], often):
        number += 1
        ids = store.read("clips", ["clip_id"]).column(0).to_pylist()
        assert len(set(ids)) == len(ids)
    assert number > 3
    curate(tmp_path / "undisturbed", [few])
    assert contents(store) == contents(tmp_path / "undisturbed")
    check_whole(store)


@pytest.mark.parametrize("number", [4, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (2, 7))])
def test_leftovers_of_other_settings_do_not_stay(dying, few, tmp_path, number):
    """Dead under one recipe, dead under a second, finished under that: what the first left of a source is gone."""
    store = Store.open(tmp_path / "store", create=True)
    often = {"batches__commit_s": 0.05, "batches__cut_clips": 1}
    other = recipe_of(clips__max_s=1, clips__min_s=0.5, **often)
    assert dying(number, store, [few], recipe_of(**often))
    first = {r["md5"] for r in contents(store)["sources"] if r["state"] == "ok"}
    for more in (3, 6):
        dying(more, store, [few], other)
    curate(store, [few], other)
    check_whole(store)
    for clip in contents(store)["clips"]:
        assert clip["duration_s"] <= 1.04 or clip["source_md5"] in first


@pytest.mark.parametrize("number", [4, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (1, 2, 3, 5, 6, 7, 8))])
def test_a_recut_that_dies_is_finished_by_the_next_run(dying, few, cut_once, tmp_path, number):
    store = Store.open(shutil.copytree(cut_once, tmp_path / "store"))
    often = {"batches__commit_s": 0.05, "batches__cut_clips": 1}
    other = recipe_of(clips__max_s=1, clips__min_s=0.5, encode__crf=33, **often)
    dying(number, store, [few], other, recut=True)
    summary = curate(store, [few], other, recut=True)
    assert summary.ok == 3
    check_whole(store)
    assert {c["clips_fingerprint"] for c in contents(store)["clips"]} == {clip_fingerprint(other.encode)}
    assert max(c["duration_s"] for c in contents(store)["clips"]) <= 1.04
