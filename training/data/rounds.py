"""How a block of draws becomes steps whose micro-batches cost about the same, each step with every task in its share.

What steps are made of is decided before (`mixture`). A block's clips are put into micro-batches, in each band the tasks
at equal distances, and steps are cut from the bands in turn. Each step takes the pictures that the clips so far are
owed: of all ways to fill some of its places with micro-batches of pictures, the one that comes closest. What is left of
the bands makes up a few mixed steps. Where a block ends inside a step, the next block completes it with its least
costly clips and their pictures.

Micro-batches are full, but for the last of each kind of clip in a block, and for pictures where blocks or kinds end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reelwright.training.data.beside import Batches, Pictures, Ways, pieces, samples_in
from reelwright.training.data.draws import SPREAD, key_of, uniform
from reelwright.training.data.mix_steps import dealt
from reelwright.training.data.mixture import Mixture


@dataclass(frozen=True)
class Arrangement:
    """A block's draws as micro-batches, in the order in which steps take them.

    draws: places in the block, micro-batch after micro-batch; batch j is draws[starts[j] : stops[j]], of groups[j].
    """

    draws: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.groups)


def arrange(
    groups: np.ndarray,
    mixed: Mixture,
    *,
    step: int,
    offset: int,
    key: np.uint64,
    snapshots: np.ndarray | None = None,
) -> Arrangement:
    """Put a block's draws into micro-batches, and these into steps.

    Args:
        groups: int [D], of each draw, in the order of the draws, which each group keeps, or each snapshot in it.
        mixed: what steps are made of.
        step: micro-batches per step.
        offset: micro-batches of all blocks before this one.
        key: of the places at which groups begin.
        snapshots: int [D], of each draw, where there are several: all get their share of each step.
    """
    draws = np.argsort(groups, kind="stable")
    kinds, counts = np.unique(groups, return_counts=True)
    ends, beside = np.cumsum(counts), mixed.split(kinds)[0] == mixed.bands
    begin = ends - counts
    pictures = Pictures(kinds[beside], begin[beside], ends[beside], uniform(kinds[beside], key))
    clips = _clips(kinds[~beside], begin[~beside], ends[~beside], mixed, key)
    of, starts, stops = _Steps(clips, pictures, mixed, step, key).laid(-offset % step).T
    if snapshots is not None:
        draws = dealt(draws, groups[draws], mixed.split(groups[draws])[0], snapshots[draws], starts, stops)
    return Arrangement(draws, starts, stops, of)


def _clips(kinds: np.ndarray, begin: np.ndarray, ends: np.ndarray, mixed: Mixture, key: np.uint64) -> list[Batches]:
    """Micro-batches of clips, of each band, with its tasks and their buckets at equal distances."""
    bands, buckets, _ = mixed.split(kinds)
    sizes = mixed.size[buckets]
    batches = -(-(ends - begin) // sizes)
    of = np.repeat(np.arange(len(kinds)), batches)
    number = np.arange(len(of)) - np.repeat(np.cumsum(batches) - batches, batches)
    starts = begin[of] + number * sizes[of]
    rows = np.stack([kinds[of], starts, np.minimum(starts + sizes[of], ends[of])], 1)
    place = (number + uniform(kinds, key)[of]) / batches[of]
    out = []
    for k in range(mixed.bands):
        mine = np.flatnonzero(bands[of] == k)
        out.append(_spread(rows[mine[np.argsort(place[mine], kind="stable")]], mixed, key))
    return out


def _spread(batches: Batches, mixed: Mixture, key: np.uint64) -> Batches:
    """Return them with each task's share of the samples the same all along, those of a task in the order they have."""
    tasks, samples = mixed.split(batches[:, 0])[2], batches[:, 2] - batches[:, 1]
    place = np.empty(len(batches))
    for task in np.unique(tasks).tolist():
        mine = tasks == task
        phase = uniform(np.array([task]), key_of(int(key), SPREAD))
        place[mine] = (np.cumsum(samples[mine]) - phase * samples[mine]) / samples[mine].sum()
    return batches[np.argsort(place, kind="stable")]


@dataclass
class _Line:
    """Micro-batches of clips, of which those before `at` are taken. ways: to put pictures beside them."""

    batches: Batches
    ways: Ways
    at: int = 0
    before: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.before = np.concatenate([[0], np.cumsum(self.batches[:, 2] - self.batches[:, 1])])

    @property
    def left(self) -> int:
        return len(self.batches) - self.at

    def samples(self, counts: np.ndarray) -> np.ndarray:
        """Of the next micro-batches, as many as there are of each of `counts`."""
        return self.before[self.at + np.minimum(counts, self.left)] - self.before[self.at]

    def take(self, count: int) -> Batches:
        self.at += count
        return self.batches[self.at - count : self.at]

    def take_last(self, count: int) -> Batches:
        keep = max(0, len(self.batches) - count)
        out, self.batches, self.before = self.batches[keep:], self.batches[:keep], self.before[: keep + 1]
        return out


class _Steps:
    """Cuts steps from the bands' micro-batches, with the pictures that they are owed."""

    def __init__(self, clips: list[Batches], pictures: Pictures, mixed: Mixture, step: int, key: np.uint64) -> None:
        self.pictures, self.mixed, self.step, self.key = pictures, mixed, step, key
        self.phase = uniform(np.arange(len(clips)), key).tolist()
        sizes = [tuple(s for s in mixed.sides if s <= most) or mixed.sides[:1] for most in mixed.most.tolist()]
        ways = {of: Ways(of, step) for of in set(sizes)}
        self.lines = [_Line(batches, ways[of]) for batches, of in zip(clips, sizes, strict=True)]
        samples = sum(map(samples_in, clips))
        self.beside = pictures.left / samples if samples else 0.0
        self.owed, self.largest = 0.0, max(mixed.sides, default=1)
        self.out: list[Batches] = []

    def laid(self, head: int) -> Batches:
        """Return all micro-batches in order; the first `head` complete a step that the block before has begun."""
        self._complete(head)
        pace = [1 / max(1, line.left) for line in self.lines]
        times = [self.step * phase * of for phase, of in zip(self.phase, pace, strict=True)]
        while min(times) < np.inf:
            k = int(np.argmin(times))
            taken = self._cut(self.lines[k], self._near(self.lines[k]))
            times[k] += np.inf if taken is None else taken * pace[k]
        ends = np.concatenate([line.batches[line.at :] for line in self.lines])  # the costliest first
        rest = _Line(_spread(ends, self.mixed, self.key), self.lines[0].ways)
        while self._cut(rest, self._exact(rest, self.step)) is not None:
            pass
        self._put(rest.take(rest.left), self.pictures.take(pieces(self.pictures.left, self.largest)))
        return np.concatenate(self.out)

    def _complete(self, head: int) -> None:
        """Append `head` micro-batches: of the least costly clips, and of the pictures that are owed to these."""
        cheapest = _Line(np.concatenate([line.batches for line in self.lines])[::-1], self.lines[0].ways)
        beside = self.pictures.take(self._exact(cheapest, head))
        clips, need = [], max(0, head - len(beside))
        for line in reversed(self.lines):
            clips.append(line.take_last(need))
            need -= len(clips[-1])
        self._put(np.concatenate(clips[::-1]), beside)

    def _near(self, line: _Line) -> list[int]:
        """Sizes of a step's micro-batches of pictures, of the usual ones, that come closest to what is owed."""
        owed = self.owed + self.beside * line.samples(self.step - line.ways.places)
        off = np.where(line.ways.pictures <= self.pictures.left, abs(owed - line.ways.pictures), np.inf)
        return line.ways.sizes(int(np.argmin(off)))

    def _exact(self, line: _Line, step: int) -> list[int]:
        """Sizes, as few as can be, that hold what is owed beside the clips for which they leave room in a step."""
        for places in range(step):
            owed = round(self.owed + self.beside * int(line.samples(np.array(step - places))))
            owed = min(self.pictures.left, max(0, owed))
            if owed <= places * self.largest:
                return pieces(owed, self.largest, least=places)
        return pieces(min(self.pictures.left, max(0, step - 1) * self.largest), self.largest)

    def _cut(self, line: _Line, sizes: list[int]) -> int | None:
        """Append a step and return how many micro-batches of clips it has, None where the line is too short."""
        if self.step - len(sizes) > line.left:
            return None
        beside = self.pictures.take(sizes)
        count = max(0, self.step - len(beside))  # where a kind of pictures ends, there are more of them than sizes
        self._put(line.take(count), beside)
        return count

    def _put(self, clips: Batches, beside: Batches) -> None:
        self.owed += self.beside * samples_in(clips) - samples_in(beside)
        self.out += [clips, beside]
