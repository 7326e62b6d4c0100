"""Which samples a run trains on, found before its first step: what cannot be used is counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from reelwright.annotate.backends.videos.patches import PictureError
from reelwright.training.errors import TrainError
from reelwright.training.tuning.objective import TuneObjective
from reelwright.training.tuning.recipe import DataConfig
from reelwright.training.tuning.samples import REASONS, Item, LeftOut, VideoRef, data_fingerprint, is_held_out
from reelwright.training.tuning.videos import VideoError, VideoFacts, Videos


@dataclass(frozen=True)
class Plan:
    """Samples of a run. fingerprint: of all that are used. left_out: those that are not."""

    train: list[Item]
    held_out: list[Item]
    left_out: list[LeftOut]
    fingerprint: str
    longest: int = 0  # tokens

    @property
    def counts(self) -> dict[str, Any]:
        """Counts, for lineage and people; they add up to what was read."""
        return {
            "train": len(self.train), "held_out": len(self.held_out), "longest_tokens": self.longest,
            "left_out": dict(sorted(Counter(one.reason for one in self.left_out).items())),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the counts as lines for a person."""
        found = [f"samples       {len(self.train):,} to train on, {len(self.held_out):,} held out, "
                 f"at most {self.longest:,} tokens"]  # fmt: skip
        for reason, count in self.counts["left_out"].items():
            first = next(one for one in self.left_out if one.reason == reason)
            why = f": {first.why[:120]}" if first.why else ""
            found.append(f"left out      {count:,}: {REASONS[reason]} (such as {first.key}{why})")
        return found


def make_plan(
    found: Iterable[Item | LeftOut],
    objective: TuneObjective[Any],
    videos: Videos,
    known: Mapping[VideoRef, VideoFacts],
    data: DataConfig,
    seed: int,
) -> Plan:
    """Look at every sample's videos, without decoding them, and its tokens.

    Args:
        found: samples as they were read, and lines that are none.
        objective: counts tokens.
        videos: read facts of those that are not known.
        known: facts from the store's rows.
        data: limits, and the share that is held out.
        seed: of the held-out share.

    Raises:
        TrainError: nothing is left to train on.
    """
    items = list(found)
    with ThreadPoolExecutor(data.workers) as threads:
        judged = list(threads.map(lambda one: _judged(one, objective, videos, known, data), items))
    left_out = [one for one in judged if isinstance(one, LeftOut)]
    kept = [one for one in judged if not isinstance(one, LeftOut)]
    if not kept:
        lines = Plan([], [], left_out, "").lines()[1:]
        raise TrainError(f"no sample can be trained on ({len(items):,} were read); {'; '.join(lines) or 'name others'}")
    held = [one.item for one in kept if is_held_out(one.item, data.holdout, seed)]
    train = [one.item for one in kept if not is_held_out(one.item, data.holdout, seed)]
    if not train:
        raise TrainError(f"all {len(held):,} samples are held out; lower data.holdout, or name more")
    contents = {video: content for one in kept for video, content in one.contents.items()}
    fingerprint = data_fingerprint([one.item for one in kept], contents)
    return Plan(train, held, left_out, fingerprint, max(one.tokens for one in kept))


@dataclass(frozen=True)
class _Kept:
    item: Item
    tokens: int
    contents: dict[VideoRef, str]


def _judged(
    item: Item | LeftOut,
    objective: TuneObjective[Any],
    videos: Videos,
    known: Mapping[VideoRef, VideoFacts],
    data: DataConfig,
) -> _Kept | LeftOut:
    if isinstance(item, LeftOut):
        return item
    try:
        facts = [known.get(video) or videos.facts(video) for video in item.videos]
        lengths = objective.lengths(item, [_sampled(one, videos) for one in facts])
    except VideoError as error:
        return LeftOut(item.key, error.reason, str(error))
    except PictureError as error:
        return LeftOut(item.key, "size", str(error))
    if max(lengths) > data.max_tokens:
        return LeftOut(item.key, "too_long", f"{max(lengths):,} tokens")
    return _Kept(item, max(lengths), {v: f.content for v, f in zip(item.videos, facts, strict=True)})


def _sampled(facts: VideoFacts, videos: Videos) -> VideoFacts:
    """Return the facts of a video's sampled frames: as many, as large, at their own rate."""
    count, height, width = facts.shape(videos.sampling)
    return replace(facts, num_frames=count, height=height, width=width, fps=count / facts.duration_s)


def left_out_rows(left_out: Sequence[LeftOut]) -> list[dict[str, str]]:
    """Return samples that are left out as rows of left_out.jsonl."""
    return [{"key": one.key, "reason": one.reason, "why": one.why} for one in left_out]
