"""The common part of annotators that ask a chat model about a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reelwright.annotate.chat.base import Question
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.annotate.chat.mixin import QWEN, AsksAModel
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.payload import jpegs
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.contract import Annotator, Need, runtime

TWO_PER_SECOND = FrameSampling()


@dataclass(frozen=True)
class AsksAboutClip(AsksAModel, Annotator):
    """Asks a video-capable chat model about all clips of a call together.

    A subclass sets prompt and sampling and has a `batch`.

    Args:
        chat: the model.
        sampling: the frames that it is shown.
        prompt: name of a built-in prompt, or path of a file like annotate/chat/prompts/caption.txt.
        attempts: rounds in which an invalid answer is asked for again; then the clip fails.
        clips_a_call: clips that are asked about together.
    """

    chat: ChatModel = QWEN
    sampling: FrameSampling = TWO_PER_SECOND
    prompt: str = runtime("")  # its name, version and hash are in `models`: where the file lies decides nothing
    attempts: int = 3
    clips_a_call: int = runtime(8)

    kept_share = 1 / 6  # JPEGs of 2 bits per pixel, and the body of the request

    def __post_init__(self) -> None:
        self.check_parameters()

    @property
    def needs(self) -> tuple[Need, ...]:
        """The frames that the questions show, and the columns that they quote."""
        return self.sampling.needs

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """Ask about one clip.

        Args:
            inputs: the values of `needs`.
        """
        (columns,) = self.batch([self.kept(*inputs)])
        if isinstance(columns, Exception):
            raise columns
        return columns

    def kept(self, *inputs: Any) -> tuple:
        """Return the frames as JPEGs, which is how they are asked about, and the facts."""
        frames, clip = self.sampling.seen(*inputs)
        return jpegs(frames, self.chat.jpeg_quality), clip

    def _questions(self, clips: Sequence[tuple], schema: dict[str, Any] | None = None, **values: str) -> list[Question]:
        """Return the prompt about each clip, with these values for its $names."""
        prompt = load_prompt(self.prompt)
        questions = []
        for frames, clip in clips:
            duration = clip.num_frames / clip.fps
            text = prompt.filled(count=len(frames), duration=f"{duration:.1f}", **values)
            questions.append(Question(text, prompt.system, frames, len(frames) / duration, schema))
        return questions
