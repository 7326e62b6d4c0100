"""The default detector: physical tests find and mostly decide; the network is asked about the rest."""

from __future__ import annotations

from reelwright.curation.shots.cuts import CutEvidence, candidate_frames, is_jump, weigh
from reelwright.curation.shots.extent import widen
from reelwright.curation.shots.footage import Footage
from reelwright.curation.shots.gradual import GAPS, different, find_gradual, partly_different, separates
from reelwright.curation.shots.inset import find_inset_dissolves, is_inset_cut
from reelwright.curation.shots.mattes import find_mattes
from reelwright.curation.shots.moving import find_moving
from reelwright.curation.shots.scores import Network, Scores
from reelwright.curation.shots.types import Transition

ALIKE = 0.95  # similarity over a frame above which it begins nothing
UNLIKE = 0.70  # ... below which it begins a shot, if
CLEAR = 2.0  # the sides are that much more alike within than across
DOUBTFUL = 1.1  # ratio below which the change over a frame is the motion around it,
DOUBTFUL_ALIKE = 1.4  # or below which it is, where the frames are not UNLIKE
CUT_SUPPORT = 0.2  # network score that settles a doubtful cut
CUT_MARGIN = 24  # frames on each side the network needs to tell a new framing of one room from motion
JUMP = 0.5  # confidence of a jump cut within one framing
INSET = 0.6  # confidence of a cut in a window of the picture
HIGH_RATE = 45.0  # frames per second above which transitions last more frames


def detect(footage: Footage, network: Network, *, fps: float, threshold: float) -> tuple[list[Transition], int]:
    """Transitions in a footage, and how many frames the network looked at."""
    scores = Scores(footage, network)
    gaps = gaps_for(fps)
    windows = {gap: different(footage, gap) for gap in gaps}
    cuts = _cuts(footage, scores)
    wide_first = [(w.start, w.end) for gap in gaps[::-1] for w in windows[gap]]
    moving = [t for t in find_moving(footage, wide_first, cuts) if separates(footage, t)]
    exact = moving + [cut for cut in cuts if not any(t.first <= cut.first <= t.last + 1 for t in moving)]
    insets = [span for gap in gaps[::-1] for span in partly_different(footage, gap)]
    exact += find_inset_dissolves(footage, insets, exact)
    exact += [t for t in find_mattes(footage, wide_first, exact) if separates(footage, t)]
    wipes, blends = find_gradual(footage, scores, exact, windows, threshold=threshold)
    return widen(footage, exact + wipes, blends), scores.frames_seen


def gaps_for(fps: float) -> tuple[int, ...]:
    """Frames between those compared, up to about two and a half seconds."""
    return GAPS if fps < HIGH_RATE else (*GAPS, 2 * GAPS[-1])


def _cuts(footage: Footage, scores: Scores) -> list[Transition]:
    found: list[Transition] = []
    for t in candidate_frames(footage):
        evidence = weigh(footage, int(t), alike=ALIKE)
        confidence = _confidence(evidence, scores) if evidence else 0.0
        if not confidence and int(t) not in footage.after_flash and is_inset_cut(footage, int(t)):
            confidence = INSET
        if confidence:
            found.append(Transition(int(t), int(t), confidence))
    return found


def _confidence(evidence: CutEvidence, scores: Scores) -> float:
    """0 for no cut."""
    unlike = evidence.across < UNLIKE
    if unlike and evidence.contrast > CLEAR:
        return 1 - evidence.across / 2
    if evidence.contrast < (DOUBTFUL if unlike else DOUBTFUL_ALIKE):
        return 0.0
    if evidence.at not in scores.footage.after_flash and is_jump(scores.footage, evidence):
        return JUMP
    _, score = scores.over(evidence.at - 1, evidence.at + 1, 1, margin=CUT_MARGIN)
    support = float(score[:, 0].max())
    return support if support >= CUT_SUPPORT else 0.0
