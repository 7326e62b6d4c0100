"""HPSv3 (Ma et al., 2025): how much people would like a picture, by a tuned Qwen2-VL-7B."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from reelwright.annotate.backends.hub import device_of, hub_file
from reelwright.annotate.backends.videos.patches import (
    PATCH,
    SIDE,
    PictureError,
    fitted,
    picture_patches,
    prepared,
    resized_picture,
)
from reelwright.annotate.contract import Resources, runtime
from reelwright.training.rewards.contract import Score, Unscored, Video, Work
from reelwright.training.rewards.qwen2_vl.cost import QWEN2_VL_7B
from reelwright.training.rewards.qwen2_vl.files import base_id, files_id, hub_id, is_here, read_tensors
from reelwright.training.rewards.qwen2_vl.instruction import FIELD, Published, read_instruction
from reelwright.training.rewards.qwen2_vl.reward import Qwen2VLReward
from reelwright.training.rewards.qwen2_vl.source import Source, shared
from reelwright.training.rewards.qwen2_vl.weight_names import common_names

FILE = "HPSv3.safetensors"
MARK = "<|Reward|>"
PIXELS = 256 * SIDE**2  # of a picture, at least and at most
RESIZERS = 4  # threads
TEXT_TOKENS = 700  # about: of the instruction's 2,590 characters and a prompt; for plans
INSTRUCTION = Published(
    sha256="f6ee57479d4e9eee76b49c00dc962e1e696a5a2b3cc32cebd9b1fa76fe27502c",
    constants=("INSTRUCTION", "prompt_with_special_token"),
    module="dataset/data_collator_qwen.py",
    found="hpsv3/dataset/data_collator_qwen.py in the package hpsv3 1.0.0, which `pip install --no-deps hpsv3==1.0.0` "
    "installs without the old libraries that it pins",
)


class HPSv3:
    """The model: Qwen2-VL, tuned in full, and a head of three layers ("ranknet") that reads one token.

    The head's two numbers are the mean of a preference and the logarithm of its deviation, from which training drew.
    The score is the mean: about 0 to 12.
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
        path = checkpoint_file(source.checkpoint, source.revision)
        config = load_config(source.base, source.base_revision)
        tokenizer = load_tokenizer(source.base, source.base_revision, [MARK])
        weights = common_names(read_tensors(path), str(path))
        device = device_of(source.device)
        width = config.text_config.hidden_size
        head = nn.Sequential(
            nn.Linear(width, 1024), nn.ReLU(), nn.Dropout(0.05), nn.Linear(1024, 16), nn.ReLU(), nn.Linear(16, 2)
        )
        self.head = load_head(head, weights, str(path)).to(device)
        network = load_network(config, weights, getattr(torch, source.dtype), str(path)).to(device)
        self.reader = Reader(network, tokenizer, [MARK], str(path))

    def __call__(self, frames: np.ndarray, prompt: str) -> np.ndarray:
        """Return a score per frame, float64 [F], of uint8 [F, H, W, 3], each judged by itself.

        Raises:
            PictureError: the frames are too narrow for the model.
        """
        _, height, width, _ = frames.shape
        size = fitted(height, width, PIXELS, PIXELS)
        text = self.reader.text(self.instruction, FIELD, prompt)
        scores: list[float] = []
        with ThreadPoolExecutor(RESIZERS) as pool:  # Pillow resizes the next frames while the network reads these
            pictures = pool.map(lambda frame: resized_picture(frame, size), frames)
            while part := list(islice(pictures, self.batch)):
                pixels = prepared(np.stack(part), size, self.reader.device)
                states = self.reader([text] * len(part), [picture_patches(frame) for frame in pixels], "image")
                scores += self.head(states[:, 0])[:, 0].tolist()
        return np.array(scores)


def checkpoint_file(checkpoint: str, revision: str) -> Path:
    """Return the file of weights: the one that is named, or HPSv3.safetensors of a folder or a hub's model."""
    path = Path(checkpoint).expanduser()
    return path if path.is_file() else hub_file(checkpoint, FILE, revision, "checkpoint")


@dataclass(frozen=True)
class HPSv3Reward(Qwen2VLReward):
    """A reward from the scores of a video's frames.

    Frames that were given, and not made, are not judged.

    Args:
        stride: of the frames that are judged, from the first one made; 1: all. Each is a forward of 7B.
    """

    checkpoint: str = runtime("MizzenAI/HPSv3")
    base: str = runtime("Qwen/Qwen2-VL-7B-Instruct")
    instruction_sha256: str = INSTRUCTION.sha256
    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride < 1:
            raise ValueError(f"stride = {self.stride}; it must be at least 1")

    @property
    def resources(self) -> Resources:
        """One video per call: its frames fill batches of their own."""
        return Resources(gpus=self.gpus, batch=1, own_process=True)

    @property
    def models(self) -> tuple[str, ...]:
        """The checkpoint, and its base's config and tokenizer."""
        if is_here(self.checkpoint):
            path = checkpoint_file(self.checkpoint, self.revision)
            own = files_id(path.stem, [path])
        else:
            own = hub_id(self.checkpoint, self.revision)
        return (own, base_id(self.base, self.base_revision, weights=False))

    @property
    def model_bytes(self) -> int:
        """Of the 7B."""
        return QWEN2_VL_7B.model_bytes

    def work(self, frames: int, height: int, width: int, rate: float) -> Work:
        """Return a forward per judged frame."""
        rows, columns = (side // PATCH for side in fitted(height, width, PIXELS, PIXELS))
        judged = len(range(0, frames, self.stride))
        one = QWEN2_VL_7B.forward_flops(pictures=1, patches=rows * columns, text=TEXT_TOKENS)
        return Work(judged, judged * one)

    def prepare(self) -> None:
        """Load the model, unless another reward of this process has."""
        shared(HPSv3, self.source)

    @abstractmethod
    def prompt_of(self, video: Video) -> str:
        """Return the prompt that its frames are judged with."""

    @abstractmethod
    def pooled(self, scores: np.ndarray) -> float:
        """Return the score of a video from those of its frames, float64 [F]."""

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score each video by itself."""
        return [self._score(video) for video in videos]

    def _score(self, video: Video) -> Score:
        frames = video.frames[video.given :: self.stride]
        if not len(frames):
            return Unscored(f"{self.name}: all {len(video.frames)} frames of the video were given")
        try:
            return self.pooled(shared(HPSv3, self.source)(frames, self.prompt_of(video)))
        except PictureError as error:
            return Unscored(f"{self.name}: {error}")
