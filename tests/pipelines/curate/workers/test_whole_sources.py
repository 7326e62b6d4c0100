"""Tasks that scan and cut short sources."""

from pathlib import Path
from typing import Any

import pytest

from reelwright.curation.media import kept, worker_sandbox
from reelwright.pipelines.curate.work import settings_of
from reelwright.pipelines.curate.workers.results import Scanned
from reelwright.pipelines.curate.workers.whole_sources import ScanJob, scan_sources
from tests.footage import shots, write
from tests.pipelines.helpers import recipe_of

LIMITS = {"max_frames": 10_000, "memory_mib": 2048, "stall_s": 60.0, "max_s": 600.0}


def frames_waiting() -> int:
    """Return how many frames of the last source wait in this process: called inside the sandbox."""
    return len(kept._kept._frames) if kept._kept else 0


def scanned(path: Path, **overrides: Any) -> Scanned:
    settings = settings_of(recipe_of(**overrides), (), LIMITS)
    job = ScanJob(str(path), "0" * 32, None, None, decoded_bytes=60 * 160 * 96 * 3 // 2)
    (found, *_), _ = scan_sources([job], settings.model_dump_json())
    assert isinstance(found, Scanned)
    return found


@pytest.mark.parametrize(("longest", "clips"), [({}, 2), ({"clips__min_s": 50.0, "clips__max_s": 100.0}, 0)])
def test_no_frames_stay_in_an_idle_sandbox(tmp_path, longest, clips):
    path = write(tmp_path / "a.mp4", shots((30, 30)))
    found = scanned(path, **longest)
    assert len(found.clip_ids) == clips
    assert worker_sandbox.call(LIMITS, f"{__name__}:frames_waiting").value == 0
