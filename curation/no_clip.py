"""Why a source that decodes well gave no clip."""

from collections.abc import Sequence

from reelwright.curation.clips import ClipConfig
from reelwright.curation.ingest.inputs import Span
from reelwright.curation.scan import Scan
from reelwright.curation.spans import pieces_of


def why_no_clip(scan: Scan, config: ClipConfig, spans: Sequence[Span] = ()) -> str:
    """Return the reason in a few words, the same for all sources of a kind. Call it where no clip was planned."""
    if scan.timing.num_frames <= 1:
        return "one frame"
    if not scan.shots:
        return "all in transitions"
    large = [s for s in scan.shots if min(s.crop.w, s.crop.h) >= config.min_side]
    if not large:
        return f"picture under {config.min_side} px"
    times = scan.timing.times_s()
    pieces = [p for s in large for p in pieces_of(s.shot.start, s.shot.end, times, spans)]
    if not pieces:
        return "outside the manifest's spans"
    if any(times[p.end] - times[p.start] >= config.min_s for p in pieces):
        return "pictures that stand, or holes"
    return f"shots under {config.min_s:g} s"
