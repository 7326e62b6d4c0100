"""All sizes of one refinement, from the first stage's frames and pixels: what a sampler carries out, and prints."""

from dataclasses import dataclass

from torch import Tensor

from reelwright.model.refinement.noise import FULL, THRESHOLD, refinement_sigmas
from reelwright.model.refinement.padding import (
    PUBLISHED_MULTIPLE,
    Padding,
    output_condition,
    output_frames,
    padding,
)
from reelwright.model.refinement.sizes import REFINED_MULTIPLE, Size, refined_size
from reelwright.model.refinement.upsample import Timing, source_positions, upsample
from reelwright.model.sampling.schedules import Schedule


@dataclass(frozen=True)
class Refinement:
    """How to refine; the defaults are the published ones.

    to: size class or WIDTHxHEIGHT. spatial_only: keep the frame rate. threshold: noise level that it begins at.
    schedule: of which the levels below the threshold are taken. timing: of the up-sampler. latent_multiple: of latent
    frames, 1 for no copies beyond the codec's own need. side_multiple: of the sides, 16 where blocks may be ragged.
    """

    to: str = "720p"
    spatial_only: bool = False
    threshold: float = THRESHOLD
    schedule: Schedule = FULL
    timing: Timing = "published"
    latent_multiple: int = PUBLISHED_MULTIPLE
    side_multiple: int = REFINED_MULTIPLE

    @property
    def times(self) -> int:
        """How many times the frame rate grows."""
        return 1 if self.spatial_only else 2

    def plan(self, frames: int, height: int, width: int, condition: int = 0) -> "RefinementPlan":
        """Return the plan for a video of the first stage.

        Args:
            frames: of the video, its condition's included.
            height: of it, pixels.
            width: of it, pixels.
            condition: its first frames that were given: 1 for a picture, 13 for a continuation.

        Raises:
            ModelError: the size is none, or the condition leaves no frame to refine.
        """
        return RefinementPlan(
            self,
            frames,
            refined_size(height, width, self.to, multiple=self.side_multiple),
            padding(
                output_frames(frames, spatial_only=self.spatial_only),
                self.output_condition(condition),
                multiple=self.latent_multiple,
            ),
        )

    def output_condition(self, frames: int) -> int:
        """Return how many frames of the result are given where so many frames of the first stage are."""
        return output_condition(frames, spatial_only=self.spatial_only, timing=self.timing)

    @property
    def frames_past(self) -> int:
        """Frames of the result that are shown after the first stage's last frame: 1 with exact times, repeating it."""
        return int(self.times > 1 and self.timing == "exact")


@dataclass(frozen=True)
class RefinementPlan:
    """One refinement. frames: of the first stage. size: of the result. padding: of the enlarged video."""

    how: Refinement
    frames: int
    size: Size
    padding: Padding

    @property
    def sigmas(self) -> Tensor:
        """Noise levels, float64 [steps + 1]."""
        return refinement_sigmas(self.how.threshold, self.how.schedule)

    @property
    def positions(self) -> Tensor:
        """Place of each output frame among the first stage's frames, float64 [padding.frames]."""
        return source_positions(self.frames, self.padding.frames, times=self.how.times, timing=self.how.timing)

    def enlarge(self, video: Tensor) -> Tensor:
        """Up-sample the first stage's video [B, 3, F, h, w] in -1..1, without the copies."""
        return upsample(
            video,
            frames=self.padding.frames,
            height=self.size.height,
            width=self.size.width,
            times=self.how.times,
            timing=self.how.timing,
        )
