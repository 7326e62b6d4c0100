"""`reel refine`: a video file, generated or not, made finer."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.refinement.plan import Refinement
from reelwright.model.refinement.refiner import FirstStage, windows
from reelwright.model.refinement.sizes import Size, refined_size
from reelwright.model.sampling.generator import OnStep
from reelwright.model.sampling.video_file import read_about
from reelwright.pipelines.generate.conditions import read_shown, read_span
from reelwright.pipelines.generate.initial import Beginning
from reelwright.pipelines.generate.loaded import Loaded
from reelwright.pipelines.generate.loras import sha256
from reelwright.pipelines.generate.refine import (
    SecondStage,
    about_beginning,
    about_refined,
    check_video,
    recorded_versions,
    refined_parts,
)
from reelwright.pipelines.generate.run import memory_may_end, write_videos


@dataclass(frozen=True)
class Film:
    """A video file that is refined: frame k is what a player shows at k / fps.

    size: width, height that it is read at. given: of its first frames, those that were given; condition: these at the
    refined size; begins_with: the file that gave them. note: what to know of the video, if anything.
    """

    file: Path
    size: tuple[int, int]
    frames: int
    fps: float
    plan_size: Size
    given: int = 0
    condition: Tensor | None = None  # [3, n, H, W]
    begins_with: Path | None = None
    note: str = ""

    @classmethod
    def read(
        cls,
        file: Path,
        how: Refinement,
        *,
        fps: float | None,
        trained_fps: float,
        begins: tuple[Path | None, Path | None] = (None, None),
        given: int = 13,
    ) -> "Film":
        """Read a video's facts, and the frames that it begins with at the refined size.

        Args:
            file: the video.
            how: sizes and rates.
            fps: rate to read it at; None: its own, at most that of what the network refines.
            trained_fps: of the network's first stage; refined in space alone, videos of twice that are refined too.
            begins: an image, or a video whose end it is, that it begins with.
            given: frames of the file that such a video gave.

        Raises:
            UserError: a file cannot be read, or has too few frames.
            ModelError: the size cannot be refined to.
        """
        shown = read_shown(file)
        rate = fps or min(shown.rate or trained_fps, trained_fps * (2 if how.spatial_only else 1))
        frames = int(shown.duration_s * rate + 0.01)
        check_video(frames)
        to = refined_size(shown.height, shown.width, how.to, multiple=how.side_multiple)
        large = shown.width * shown.height > to.width * to.height
        size = (to.width, to.height) if large else (shown.width, shown.height)
        silent = f"the sound of {file} does not come along" if shown.has_sound else ""
        note = "; ".join(filter(None, [shown.faults(file), silent]))
        begin = Beginning(*begins)
        if begin.file is None:
            return cls(file, size, frames, rate, to, note=note)
        count = 1 if begin.image is not None else given
        if count >= frames:
            raise UserError(f"{file} has {frames} frames at {rate:g} fps, and {count} of them are said to be given")
        large_ones = begin.read_large((to.width, to.height), size, count, rate, how)
        return cls(file, size, frames, rate, to, count, large_ones, begin.file, note)

    def first_stage(self) -> FirstStage:
        """Return it as the refiner takes it; it is decoded window by window."""

        def read(start: int, stop: int) -> Tensor:
            return read_span(self.file, self.size, start, stop, fps=self.fps).unsqueeze(0)

        condition = None if self.condition is None else self.condition.unsqueeze(0)
        return FirstStage(read, self.frames, self.given, condition)

    def summary(self, stage: SecondStage) -> str:
        """Say in a line what becomes of it."""
        to, many = self.plan_size, len(windows(self.frames, stage.window, stage.overlap))
        return (
            f"{self.file}: {self.frames} frames of {self.size[0]} wide × {self.size[1]} high at {self.fps:g} fps to "
            f"{to.width} wide × {to.height} high at {self.fps * stage.how.times:g} fps, "
            f"in {many} window{'s' * (many > 1)}"
        )


def refine_film(
    loaded: Loaded,
    film: Film,
    stage: SecondStage,
    prompt: str | None,
    seed: int,
    out: Path,
    on_step: OnStep | None = None,
) -> Path:
    """Refine a video file.

    Args:
        loaded: network, codec and text encoder, with the LoRA attached.
        film: the video.
        stage: how.
        prompt: None: of the tag of a generated video that is one window long; else empty, as published.
        seed: of the noise.
        out: file to write.
        on_step: called after each step of the solver.

    Raises:
        UserError: the file cannot be written.
        ModelError: sizes do not go together.
    """
    tag = _tag(film.file)
    text = prompt if prompt is not None else _prompt_of(tag, is_long=film.frames > stage.window)
    parts = refined_parts(loaded.generator, stage, film.first_stage(), [text], [seed], on_step)

    def tell() -> dict[str, Any]:
        return {
            "made_by": "reelwright",
            "prompts": [text],
            "seed": seed,
            "fps": film.fps * stage.how.times,
            "refined_from": {"file": str(film.file.absolute()), "sha256": sha256(film.file), "about": tag},
            "begins_with": about_beginning(film.begins_with, film.given) if film.begins_with else None,
            **loaded.about,
            **about_refined(loaded.about, stage, text),
            "versions": recorded_versions(),
        }

    with (
        closing(parts),
        memory_may_end("--tile 128, --offload-cache, --dtype bf16, a smaller --to or a smaller --window"),
    ):
        return write_videos(parts, [out], film.fps * stage.how.times, [tell])[0]


def _tag(file: Path) -> dict[str, Any] | None:
    """Return what a generated file says of itself; None for other files."""
    try:
        said = read_about(file)
    except UserError:
        return None
    return said if isinstance(said, dict) and said.get("made_by") == "reelwright" else None


def _prompt_of(tag: dict[str, Any] | None, *, is_long: bool) -> str:
    prompts = (tag or {}).get("prompts")
    if is_long or not isinstance(prompts, list) or len(prompts) != 1:
        return ""
    return prompts[0] if isinstance(prompts[0], str) else ""
