"""How far a transition reaches: once found, its frames are followed outwards until both shots stand alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelwright.curation.shots.blank import PICTURE, is_dip, long_runs, longest_dip, states, without_long_runs
from reelwright.curation.shots.flashes import without_flashes
from reelwright.curation.shots.follow import followed
from reelwright.curation.shots.footage import Footage
from reelwright.curation.shots.types import Transition

RISE = 0.01  # of its contrast a picture gains each frame while it fades in
LOOK = 8  # frames over which a fade's pace is told, and
PACE = 0.3  # share of its pace so far at which it goes on
SLOW_LOOKS = (16, 24)  # ... and over which a slow one's is
HARDLY = 0.5  # of the contrast LOOK frames on: a picture that is there at once has more
SAME = 0.75  # correlation of textured blocks of frames of a fade
FARTHEST = 64  # frames a fade is followed
SETTLED = 0.8  # similarity of frames half a transition apart where the shot beside it has begun
FADE = 0.6  # confidence of a fade that only a file's first or last frames show
SHORTEST_SHOT = 8  # frames; less between two gradual transitions is a piece of one


def widen(footage: Footage, exact: Sequence[Transition], loose: Sequence[Transition]) -> list[Transition]:
    """Let `loose` transitions reach as far as they do, and join those with no shot between them.

    None overlap; nor do those returned, which are in order.
    """
    state = states(footage)
    found = without_flashes(footage, state, sorted([*exact, *loose], key=lambda t: t.first))
    found = _with_fades_at_ends(footage, state, found)
    wide: list[Transition] = []
    for index, t in enumerate(found):
        before = wide[-1].last + 1 if wide else 0
        after = found[index + 1].first - 1 if index + 1 < len(found) else len(footage) - 1
        reached = t
        if t in loose:
            first, last = t.first, t.last
            if (state[max(0, first - LOOK) : last + LOOK + 1] == PICTURE).all():  # black is no picture to mix with
                mixed, length = followed(footage, t, (before, after)), t.last - t.first + 1
                first = min(mixed.first, _settled(footage, t.first, -1, before, length))
                last = max(mixed.last, _settled(footage, t.last, 1, after, length))
            begin, end = _faded(footage, state, first, -1, before, last), _faded(footage, state, last, 1, after, first)
            reached = Transition(begin, end, t.confidence)
        elif t.is_cut:
            reached = _with_its_fade(footage, state, t, before, after)
        if wide and _one_way(footage, state, wide[-1], reached):
            wide[-1] = _joined(wide[-1], reached)
        else:
            wide.append(reached)
    return without_long_runs(wide, long_runs(footage, state))


def _with_fades_at_ends(footage: Footage, state: np.ndarray, found: list[Transition]) -> list[Transition]:
    """Add the fade that a file begins or ends with, where so little black or white is seen that no search finds it."""
    pictures = np.flatnonzero(state == PICTURE)
    if len(pictures) == 0:
        return found
    first, last = int(pictures[0]), int(pictures[-1])
    before, after = (found[-1].last + 1, found[0].first - 1) if found else (0, len(footage) - 1)
    if footage.begins and 0 < first <= after and _is_fade(footage, first, 1):
        found = [Transition(0, _faded(footage, state, first, 1, after, 0), FADE), *found]
    if footage.ends and before <= last < len(footage) - 1 and _is_fade(footage, last, -1):
        end = len(footage) - 1
        found = [*found, Transition(_faded(footage, state, last, -1, before, end), end, FADE)]
    return found


def _settled(footage: Footage, at: int, way: int, limit: int, length: int) -> int:
    """From a transition's first (way -1) or last frame (way 1) on, where frames half its length apart are alike."""
    half = max(4, length // 2)
    for _ in range(2):
        ahead = at + way * (half + 1)
        if (limit - ahead) * way < 0 or footage.similarity(*sorted((at + way, ahead))) >= SETTLED:
            break
        at += way * half
    return at


def _faded(footage: Footage, state: np.ndarray, at: int, way: int, limit: int, origin: int) -> int:
    """From a transition's first (way -1) or last frame (way 1) on, where black and a fade beyond it end.

    origin: its other end.
    """
    contrast = footage.contrast
    for _ in range(FARTHEST + longest_dip(footage)):
        if at == limit or not 0 <= at + way < len(footage):
            break
        blank = _nearest_blank(state, at, way, origin)
        if at == blank:
            goes_on = _begins_to_show(footage, at + way, way)
        elif blank >= 0:
            goes_on = _rises(footage, blank, at, way, limit)
        else:
            goes_on = bool(contrast[at + way] > contrast[at] * (1 + RISE))
        if state[at + way] == PICTURE and not goes_on:
            break
        at += way
    return at


def _nearest_blank(state: np.ndarray, at: int, way: int, origin: int) -> int:
    """Return the last frame of black or white that a fade in this direction comes from; -1 if it comes from none."""
    begin = max(0, min(len(state) - 1, origin - way * LOOK))
    back = state[begin : at + 1] if way > 0 else state[at : begin + 1][::-1]
    there = np.flatnonzero(back != PICTURE)
    return begin + way * int(there[-1]) if len(there) else -1


def _begins_to_show(footage: Footage, at: int, way: int) -> bool:
    """Whether the picture after (way 1) or before black or white fades in or out, and was not cut to.

    A slow fade, whose contrast takes longer to double, shows the same picture all the while.
    """
    for look in (LOOK, *SLOW_LOOKS):
        ahead = at + way * look
        if not 0 <= ahead < len(footage):
            return False
        is_slow = look > LOOK
        if footage.contrast[at] < HARDLY * footage.contrast[ahead]:
            return not is_slow or _is_same_picture(footage, at, ahead)
    return False


def _is_fade(footage: Footage, at: int, way: int) -> bool:
    """Whether it is the light that begins to show the picture, and not the camera or a thing that moves."""
    return _begins_to_show(footage, at, way) and _is_same_picture(footage, at, at + way * LOOK)


def _is_same_picture(footage: Footage, dim: int, clear: int) -> bool:
    """Whether frames differ in light and a little motion alone."""
    texture = footage.texture[dim]
    return float((texture * footage.matches(clear, dim)).sum()) > SAME * float(texture.sum())


def _rises(footage: Footage, blank: int, at: int, way: int, limit: int) -> bool:
    """Whether a fade continues at a pace like that from frame `blank` on: motion hides it from frame to frame."""
    look = max(LOOK, abs(at - blank) // 3)
    ahead = at + way * min(look, (limit - at) * way, len(footage) - 1 - at if way > 0 else at)
    if ahead == at:
        return False
    level = footage.level
    pace, onward = (level[at] - level[blank]) / abs(at - blank), (level[ahead] - level[at]) / abs(ahead - at)
    return bool(onward * np.sign(pace) > PACE * abs(pace))


def _with_its_fade(footage: Footage, state: np.ndarray, cut: Transition, before: int, after: int) -> Transition:
    """Extend a cut from or to black, at which a picture begins to show or ends, to the fade that it ends."""
    for at, way, limit in ((cut.first, 1, after), (cut.first - 1, -1, before)):
        back = at - way
        if 0 <= back < len(footage) and state[back] != PICTURE and _begins_to_show(footage, at, way):
            end = _faded(footage, state, at, way, limit, at)
            return Transition(min(at, end), max(at, end), cut.confidence)
    return cut


def _one_way(footage: Footage, state: np.ndarray, a: Transition, b: Transition) -> bool:
    """No shot lies between: black or white alone for a moment, or a few frames of what must be the same transition."""
    if is_dip(footage, state, a.first if a.is_cut else a.last + 1, b.first - 1):
        return True
    return not (a.is_cut or b.is_cut or b.first - a.last > SHORTEST_SHOT)


def _joined(a: Transition, b: Transition) -> Transition:
    first, last = a.first, b.first - 1 if b.is_cut else b.last
    if last <= first:  # a single black frame: the cut is where the new shot begins
        first = last = b.first
    return Transition(first, last, float(np.maximum(a.confidence, b.confidence)))
