"""The frames that a generation begins with, at the size of each stage."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.refinement.plan import Refinement
from reelwright.model.refinement.sizes import MULTIPLE, SIDES, Size, nearest_size, refined_size
from reelwright.model.sampling.settings import Settings
from reelwright.pipelines.generate.conditions import Fit, read_end, read_image, read_shown

WIDE = (9, 16)  # height : width of a video that begins with nothing


@dataclass(frozen=True)
class InitialFrames:
    """Frames that a video begins with, [3, F, H, W] in -1..1, and the file they are from.

    large: the same span of time at the size and rate of the refined video, [3, n, H', W'].
    """

    frames: Tensor
    file: Path
    note: str = ""  # what a person should know of how it was understood
    large: Tensor | None = None


@dataclass(frozen=True)
class Beginning:
    """A file that a video begins with, an image or a video of which it is the end, and how it gets its size."""

    image: Path | None = None
    video: Path | None = None
    fit: Fit = "cover"

    @property
    def file(self) -> Path | None:
        """The file, if there is one."""
        return self.image or self.video

    def size_of_class(self, name: str) -> Size:
        """Return the size of a class (480p, 720p) with the aspect ratio of the file, or a wide one.

        Raises:
            UserError: there is no such class, or the file cannot be read.
        """
        if name not in SIDES:
            raise UserError(f"--size {name}: write WIDTHxHEIGHT in pixels, such as 832x480, or {' or '.join(SIDES)}")
        height, width = WIDE
        if self.file is not None:
            shown = read_shown(self.file, is_image=self.image is not None)
            height, width = shown.height, shown.width
        return nearest_size(height, width, SIDES[name], MULTIPLE)

    def read(self, settings: Settings, fps: float, refinement: Refinement | None = None) -> InitialFrames | None:
        """Read the first frames: the image, or the last `settings.shape.overlap` frames of the video.

        Raises:
            UserError: the file cannot be read.
        """
        size = (settings.shape.width, settings.shape.height)
        if self.image is not None:
            frames, note = read_image(self.image, size, self.fit).unsqueeze(1), ""
        elif self.video is not None:
            frames, note = self._end(self.video, size, settings.shape.overlap, fps)
        else:
            return None
        large = self._large(settings, frames.shape[1], fps, refinement) if refinement else None
        return InitialFrames(frames, self.image or self.video or Path(), note, large)

    def _end(self, video: Path, size: tuple[int, int], overlap: int, fps: float) -> tuple[Tensor, str]:
        frames = read_end(video, size, overlap, fps, self.fit)
        usable = frames.shape[1] - (frames.shape[1] - 1) % 4
        note = f"the last {usable} frames of {video} begin the new video; what comes before them there is not in it"
        if usable < overlap:
            note = f"{video} has only {frames.shape[1]} frames at {fps:g} fps; its last {usable} begin the new video"
        note = "; ".join(filter(None, [read_shown(video).faults(video), note]))
        return frames[:, frames.shape[1] - usable :], note

    def _large(self, settings: Settings, given: int, fps: float, refinement: Refinement) -> Tensor:
        """Read what the refined video begins with, from the file itself and not from the small frames."""
        shape = settings.shape
        to = refined_size(shape.height, shape.width, refinement.to, multiple=refinement.side_multiple)
        return self.read_large((to.width, to.height), (shape.width, shape.height), given, fps, refinement)

    def read_large(
        self, size: tuple[int, int], small: tuple[int, int], given: int, fps: float, refinement: Refinement
    ) -> Tensor:
        """Read the first frames of a refined video, [3, n, H, W], each as it is shown at its time.

        Args:
            size: width, height of the refined video.
            small: those of the first stage; the same part of each frame is shown, so that nothing jumps after them.
            given: frames of the first stage, at `fps`.
            fps: of the first stage.
            refinement: how it is refined. With its published timing the frames end where the first stage's end, so they
                begin one frame of the result earlier.
        """
        if self.image is not None:
            return read_image(self.image, size, self.fit, small).unsqueeze(1)
        assert self.video is not None
        count = refinement.output_condition(given)
        frames = read_end(self.video, size, count, fps * refinement.times, self.fit, small)
        missing = count - frames.shape[1]  # 13 frames at 15 per second span 25 at 30, where 26 are wanted
        return _repeat_first(frames, missing)


def _repeat_first(frames: Tensor, times: int) -> Tensor:
    import torch

    return torch.cat([frames[:, :1].expand(-1, times, -1, -1), frames], 1)
