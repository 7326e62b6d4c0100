"""The contract of a form: how a class of models is shown a video, as tokens in its text and as tensors beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reelwright.annotate.errors import AnnotatorError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ShownVideo:
    """A video as a model takes it.

    tokens: that it becomes. values: its pixels, in the class's own order. grid: (t, h, w) in patches, where the class
    has one. seconds_per_grid: from one t to the next.
    """

    tokens: int
    values: Tensor
    grid: tuple[int, int, int] | None = None
    seconds_per_grid: float = 0.0


class VideoForm(ABC):
    """How a class of models is shown a video."""

    token: ClassVar[str]
    """The token that stands for a video in a rendered chat template, once, and is repeated for its tokens."""

    most: ClassVar[int | None] = None
    """Videos of one forward pass, at most; None: any number."""

    @abstractmethod
    def tokens(self, count: int, height: int, width: int) -> int:
        """Return the tokens of a video of `count` frames of this size, without looking at it."""

    @abstractmethod
    def shown(self, frames: np.ndarray, seconds_per_frame: float) -> ShownVideo:
        """Return a video as the model takes it.

        Args:
            frames: uint8 [T, H, W, 3] RGB, evenly spaced.
            seconds_per_frame: from one of these frames to the next; 0: not known, taken as one second.

        Raises:
            PictureError: it cannot be shown.
        """

    @abstractmethod
    def inputs(self, ids: Tensor, videos: Sequence[ShownVideo]) -> dict[str, Any]:
        """Return the model's inputs beside `input_ids` and `attention_mask`.

        Args:
            ids: token ids [B, L], padding included.
            videos: one per row.
        """

    def expanded(self, text: str, tokens: int) -> str:
        """Return a rendered text with its video's token repeated.

        Raises:
            AnnotatorError: the text does not hold it once.
        """
        if text.count(self.token) != 1:
            raise AnnotatorError(
                f"the chat template renders a video as {text.count(self.token)} tokens {self.token}, and 1 was "
                "expected; name a model whose template takes videos"
            )
        return text.replace(self.token, self.token * tokens)
