"""`reel cleanup` frees what nobody needs: not what a snapshot pins or somebody reads, and not while somebody writes."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.store import Store
from reelwright.curation.store.maintenance import outdated
from tests.conftest import ROOT
from tests.curation.store.conftest import add_source, fake_mp4

HOLD = (
    "import sys; from reelwright.curation.store import Store; lock = Store.open(sys.argv[1]).committing(sys.argv[2]); "
    "lock.__enter__(); print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def store(tmp_path) -> Store:
    """Many small commits, a snapshot in the middle of them."""
    made = Store.open(tmp_path / "store", create=True)
    for number in range(6):
        add_source(made, f"s{number}", 3)
        if number == 2:
            made.snapshots.create("early", "select clip_id from clips")
    made.write_media(["lost"], [fake_mp4("lost", 300_000)])  # of a run that was killed
    return made


def size(store: Store) -> int:
    return sum(p.stat().st_size for p in Path(store.uri).rglob("*") if p.is_file())


def test_it_says_what_it_freed_and_keeps_what_is_needed(store, call):
    before, clips = size(store), store.read("clips").sort_by("clip_id")
    done = call("cleanup", "--store", store.path, "--keep-hours", "0")
    assert done.returncode == 0, done
    freed = float(done.stdout.split("freed ")[1].split(" MB")[0])
    assert freed >= 0.3
    assert size(store) <= before - 300_000
    assert "clips            files: 6 -> 1" in done.stdout
    assert "0 kept, 1 pinned" in done.stdout
    assert store.read("clips").sort_by("clip_id").equals(clips)
    ids = clips.column("clip_id").to_pylist()
    assert list(store.read_media(ids)) == [(i, fake_mp4(i)) for i in ids]
    assert store.snapshots.verify("early", media_samples=None).problems == []
    assert call("cleanup", "--store", store.path, "--keep-hours", "0").stdout == "freed 0.0 MB\n"


def test_a_reader_reads_on(store, call):
    reader = store.dataset("clips", store.dataset("clips").version)
    done = call("cleanup", "--store", store.path)
    assert "drops them too" in done.stdout
    assert store.dataset("clips").version > reader.version
    assert reader.to_table().num_rows == 18
    assert store.sql("select count(*) as n from clips").to_pylist() == [{"n": 18}]


@pytest.mark.parametrize("lock", ["curation", "latents"])
def test_it_refuses_while_another_process_writes(store, call, lock):
    before = size(store)
    writer = subprocess.Popen([sys.executable, "-c", HOLD, store.uri, lock], cwd=ROOT, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert writer.stdout
    writer.stdout.readline()
    done = call("cleanup", "--store", store.path, "--keep-hours", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"process {writer.pid} on " in done.stderr
    writer.communicate("")
    assert size(store) == before
    assert call("cleanup", "--store", store.path, "--keep-hours", "0").returncode == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(-5, 60))
def test_only_versions_that_nobody_can_have_begun_to_read_since_are_outdated(gaps, since):
    """A version is the newest from its own beginning until the next one's."""
    start = datetime(2026, 1, 1)
    at = [start + timedelta(seconds=sum(gaps[:i])) for i in range(len(gaps))]
    moment = start + timedelta(seconds=since)
    gone = outdated(at, moment)
    assert all(later <= moment for later in at[1 : gone + 1])
    assert gone == len(at) - 1 or at[gone + 1] > moment
