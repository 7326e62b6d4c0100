"""Videos of the first stage on disk while they wait for refinement: memory does not grow with their length."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.sampling.video_file import to_frames


class Spool:
    """Raw frames, uint8 [F, h, w, 3], a file per video, in a folder that the caller removes."""

    def __init__(self, folder: Path, count: int) -> None:
        self.files = [folder / f"{i}.rgb" for i in range(count)]
        self.frames, self.size = 0, (0, 0)  # size: height, width

    def write(self, part: Tensor) -> None:
        """Append frames of all videos, [B, 3, n, h, w] in -1..1, rounded to 256 levels.

        Raises:
            UserError: the disk is full.
        """
        for file, video in zip(self.files, part, strict=True):
            try:
                with file.open("ab") as out:
                    out.write(to_frames(video).tobytes())
            except OSError as error:
                raise UserError(
                    f"cannot keep the first stage in {file.parent} ({error.strerror or error}); make room there"
                ) from error
        self.frames, self.size = self.frames + part.shape[2], (part.shape[3], part.shape[4])

    def read(self, start: int, stop: int) -> Tensor:
        """Return frames start to stop of all videos, [B, 3, n, h, w] in -1..1."""
        frame = self.size[0] * self.size[1] * 3
        parts = [np.fromfile(f, np.uint8, count=(stop - start) * frame, offset=start * frame) for f in self.files]
        stacked = torch.from_numpy(np.stack(parts)).view(len(parts), stop - start, *self.size, 3)
        return stacked.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
