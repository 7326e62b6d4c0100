"""Which clips go to one task: neighbours, bounded; and few tasks where each must decode from the start."""

from dataclasses import replace
from itertools import pairwise

import pytest

from reelwright.curation.clips import ClipConfig, PlannedClip, plan_clips
from reelwright.curation.scan import Scan
from reelwright.pipelines.curate.workers.cut_batches import COUNTED_PIXELS, cut_batches
from reelwright.pipelines.recipes.curation import Batches
from tests.curation.test_clips import scan_of


def planned(seconds: int, *, trusted: bool) -> tuple[list[PlannedClip], Scan]:
    """Clips of 2 s, 640x360 at 25 a second."""
    scan = scan_of(25 * seconds, list(range(50, 25 * seconds, 50)), trusted=trusted)
    return plan_clips("m", scan, ClipConfig()), scan


@pytest.mark.parametrize("trusted", [True, False])
def test_every_clip_is_in_one_batch_in_order(trusted):
    clips, scan = planned(200, trusted=trusted)
    batches = list(cut_batches(clips, scan, Batches(cut_clips=7, cut_s=12)))
    assert [c for batch in batches for c in batch] == clips
    if trusted:
        assert all(len(b) <= 7 and b[-1].end_s - b[0].start_s <= 12 for b in batches)
        assert all(b[-1].end_s - a[0].start_s > 12 or len(a) == 7 for a, b in pairwise(batches))


@pytest.mark.parametrize("trusted", [True, False])
def test_an_hour_in_which_no_seek_leads_anywhere_is_decoded_a_few_times(trusted):
    """Its frames are counted, or its keyframes are none."""
    clips, scan = planned(3600, trusted=trusted)
    scan = replace(scan, can_seek=False)
    batches = list(cut_batches(clips, scan, Batches()))
    ends = [b[-1].spec.end_frame for b in batches]  # what a task decodes, as it starts from the first frame
    assert sum(ends) < 3 * 3600 * 25
    assert all(sum(c.spec.num_frames for c in b) * 640 * 360 <= COUNTED_PIXELS for b in batches)
