"""VideoAlign's VideoReward (Liu et al., 2025): visual quality, motion quality and text alignment by a Qwen2-VL-2B."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from reelwright.annotate.backends.hub import device_of
from reelwright.annotate.backends.videos.patches import (
    PATCH,
    SIDE,
    TIME,
    PictureError,
    fitted,
    prepared,
    video_patches,
)
from reelwright.annotate.contract import runtime
from reelwright.training.rewards.contract import Score, Unscored, Video, Work
from reelwright.training.rewards.qwen2_vl.cost import QWEN2_VL_2B
from reelwright.training.rewards.qwen2_vl.files import base_id, files_id, hub_id, is_here
from reelwright.training.rewards.qwen2_vl.frames import chosen
from reelwright.training.rewards.qwen2_vl.instruction import FIELD, Published, read_instruction
from reelwright.training.rewards.qwen2_vl.reward import Qwen2VLReward
from reelwright.training.rewards.qwen2_vl.source import Source, shared
from reelwright.training.rewards.qwen2_vl.videoalign_checkpoint import Checkpoint

DIMENSIONS = ("VQ", "MQ", "TA")
MARKS = tuple(f"<|{dimension}_reward|>" for dimension in DIMENSIONS)
MIN_PIXELS = 128 * SIDE**2  # of a frame
MAX_PIXELS, PER_SECOND = 256 * SIDE**2, 2.0  # of the published checkpoint, whose own file counts; for plans
TEXT_TOKENS = 1100  # about: of the instruction's 3,997 characters and a prompt; for plans
REMEMBERED = 4096  # videos whose scores are kept for the rewards that ask later
INSTRUCTION = Published(
    sha256="fdb6309bac618dd0c8b1b589d3a0970a974f7856eecbb355a190b2dce54af700",
    constants=("DETAILED_PROMPT_WITH_SPECIAL_TOKEN",),
    module="prompt_template.py",
    found="prompt_template.py in the repository KlingAIResearch/VideoAlign on GitHub",
)

Scores = dict[str, float]


@dataclass(frozen=True)
class _Shown:
    """A video as the model sees it.

    frames: those that are looked at, and the size that they get. key: of all that decides its scores.
    """

    frames: np.ndarray
    size: tuple[int, int]
    prompt: str
    key: bytes


class VideoAlign:
    """The model: Qwen2-VL with merged adapters, and a linear head that reads one token per dimension.

    One pass gives all three scores, so those of recent videos are kept: a reward for each dimension costs one forward.
    """

    def __init__(self, source: Source) -> None:
        """Load it. Raises ReelError where a part is missing or does not fit."""
        import torch
        from torch import nn

        from reelwright.training.rewards.qwen2_vl.network import load_config, load_head, load_network
        from reelwright.training.rewards.qwen2_vl.reader import Reader
        from reelwright.training.rewards.qwen2_vl.tokens import load_tokenizer

        self.batch = source.batch
        self.instruction = read_instruction(source.instruction, source.instruction_sha256, INSTRUCTION)
        checkpoint = Checkpoint.find(source.checkpoint, source.revision, source.step)
        self.settings = checkpoint.settings
        config = load_config(source.base, source.base_revision)
        tokenizer = load_tokenizer(source.base, source.base_revision, MARKS)
        dtype, device, where = getattr(torch, source.dtype), device_of(source.device), str(checkpoint.folder)
        weights = checkpoint.weights(source.base, source.base_revision, dtype)
        head = nn.Linear(config.text_config.hidden_size, len(DIMENSIONS), bias=False)
        self.head = load_head(head, weights, where).to(device)
        self.reader = Reader(load_network(config, weights, dtype, where).to(device), tokenizer, MARKS, where)
        self._known: OrderedDict[bytes, Scores] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, videos: Sequence[Video], *, grey: bool = False) -> list[Scores | Unscored]:
        """Score videos in all dimensions.

        Args:
            videos: to be scored.
            grey: show the model their luma in all three channels.

        Returns:
            By dimension, normalised as the checkpoint says; or why the video has no score.
        """
        shown = [self._shown(video, grey) for video in videos]
        with self._lock:  # the rewards of a process ask from threads: the first computes, the others find it done
            new = {one.key: one for one in shown if isinstance(one, _Shown) and one.key not in self._known}
            todo = list(new.values())
            for start in range(0, len(todo), self.batch):
                part = todo[start : start + self.batch]
                self._known.update(zip([one.key for one in part], self._read(part, grey), strict=True))
            found = [one if isinstance(one, Unscored) else self._known[one.key] for one in shown]
            while len(self._known) > max(REMEMBERED, len(videos)):
                self._known.popitem(last=False)
        return found

    def _shown(self, video: Video, grey: bool) -> _Shown | Unscored:
        try:
            frames = video.frames[chosen(len(video.frames), video.rate, self.settings.per_second)]
            _, height, width, _ = frames.shape
            size = fitted(height, width, MIN_PIXELS, self.settings.max_pixels)
        except PictureError as error:
            return Unscored(f"VideoAlign: {error}")
        key = hashlib.sha256(repr((frames.shape, video.prompt, grey)).encode())
        key.update(np.ascontiguousarray(frames).data)
        return _Shown(frames, size, video.prompt, key.digest())

    def _read(self, shown: Sequence[_Shown], grey: bool) -> list[Scores]:
        device = self.reader.device
        seen = [video_patches(prepared(one.frames, one.size, device, grey=grey)) for one in shown]
        texts = [self.reader.text(self.instruction, FIELD, one.prompt) for one in shown]
        raw = self.head(self.reader(texts, seen, "video"))  # [B, token, dimension]
        return [
            {name: self.settings.normalised(name, value) for name, value in zip(DIMENSIONS, row, strict=True)}
            for row in raw.diagonal(dim1=1, dim2=2).tolist()
        ]


@dataclass(frozen=True)
class VideoAlignReward(Qwen2VLReward):
    """A reward that is one dimension of VideoAlign. Most numbers are below 0.

    Args:
        step: of the checkpoint, `checkpoint-<step>`; 0: the last.
    """

    checkpoint: str = runtime("KwaiVGI/VideoReward")
    base: str = runtime("Qwen/Qwen2-VL-2B-Instruct")
    instruction_sha256: str = INSTRUCTION.sha256
    step: int = 0

    dimension: ClassVar[str]

    @property
    def grey_input(self) -> bool:
        """Whether the model is shown luma."""
        return False

    @property
    def source(self) -> Source:
        """Where its model lies."""
        return replace(super().source, step=self.step)

    @property
    def models(self) -> tuple[str, ...]:
        """The checkpoint; of its base config and tokenizer, and its weights where the checkpoint lacks them."""
        if not is_here(self.checkpoint):
            own, weights = hub_id(self.checkpoint, self.revision), True
        else:
            found = Checkpoint.find(self.checkpoint, self.revision, self.step)
            own, weights = files_id(found.folder.name, found.files), not found.is_full
        return (own, base_id(self.base, self.base_revision, weights=weights))

    @property
    def shared_model(self) -> str:
        """The model and its input, of which one forward scores all three dimensions."""
        return f"VideoAlign {self.source} grey={self.grey_input}"

    @property
    def model_bytes(self) -> int:
        """Of the 2B."""
        return QWEN2_VL_2B.model_bytes

    def work(self, frames: int, height: int, width: int, rate: float) -> Work:
        """Return one forward, of all dimensions together, with the frames of the published settings."""
        rows, columns = (side // PATCH for side in fitted(height, width, MIN_PIXELS, MAX_PIXELS))
        pairs = len(chosen(frames, rate, PER_SECOND)) // TIME
        return Work(1, QWEN2_VL_2B.forward_flops(pictures=pairs, patches=rows * columns, text=TEXT_TOKENS))

    def prepare(self) -> None:
        """Load the model, unless another reward of this process has."""
        shared(VideoAlign, self.source)

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score videos: one forward per batch for all dimensions of one process."""
        found = shared(VideoAlign, self.source)(videos, grey=self.grey_input)
        return [scores if isinstance(scores, Unscored) else scores[self.dimension] for scores in found]
