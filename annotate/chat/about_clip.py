"""What annotators that ask a chat model about a clip have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from reelwright.annotate.chat.frame_times import Sampling
from reelwright.annotate.chat.model import (
    Chat,
    ChatModel,
    Question,
    keys_of,
    model_print,
    open_chat,
    resources_of,
    shared_by,
)
from reelwright.annotate.chat.payload import jpegs
from reelwright.annotate.chat.prompts import Prompt, load_prompt
from reelwright.annotate.contract import Annotator, Need, Resources, runtime

QWEN = ChatModel(model="Qwen/Qwen2.5-VL-7B-Instruct")
TWO_A_SECOND = Sampling()


@dataclass(frozen=True)
class AsksAboutClip(Annotator):
    """Asks a video-capable chat model, all clips of a call together; a subclass sets prompt and sampling and has a
    `batch`.

    prompt: name of a built-in prompt, or path of a file like annotate/chat/prompts/caption.txt. attempts: rounds in
    which an answer is asked for that is not valid; then the clip fails. clips_a_call: asked for together.
    """

    chat: ChatModel = QWEN
    sampling: Sampling = TWO_A_SECOND
    prompt: str = runtime("")  # its name, version and hash are in `models`: where the file lies decides nothing
    attempts: int = 3
    clips_a_call: int = runtime(8)

    kept_share = 1 / 6  # JPEGs of 2 bits a pixel, and the body of the request

    def __post_init__(self) -> None:
        if not self.chat.model:  # found when the recipe is read, not after hours
            raise ValueError(f"annotator {self.name!r} names no model: set parameters.{self.name}.chat.model")
        for name in ("attempts", "clips_a_call"):
            if getattr(self, name) < 1:
                raise ValueError(f"annotator {self.name!r}: {name} = {getattr(self, name)}; it must be at least 1")

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.sampling.needs

    @property
    def resources(self) -> Resources:
        return resources_of(self.chat, batch=self.clips_a_call)

    @property
    def models(self) -> tuple[str, ...]:
        return (*model_print(self.chat), self._prompt.print)

    @property
    def keys(self) -> tuple[str, ...]:
        return keys_of(self.chat)

    @property
    def _prompt(self) -> Prompt:
        return load_prompt(self.prompt)

    @cached_property
    def _chat(self) -> Chat:
        return open_chat(self.chat)

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """inputs: the values of `needs`."""
        (columns,) = self.batch([self.kept(*inputs)])
        if isinstance(columns, Exception):
            raise columns
        return columns

    def kept(self, *inputs: Any) -> tuple:
        """The frames as JPEGs, which is how they are asked about, and the facts."""
        frames, clip = self.sampling.seen(*inputs)
        return jpegs(frames, self.chat.jpeg_quality), clip

    def prepare(self) -> None:
        self._chat  # noqa: B018 - opened on first use

    def shared_by(self, processes: int) -> Self:
        return replace(self, chat=shared_by(self.chat, processes))

    def _questions(self, clips: Sequence[tuple], schema: dict[str, Any] | None = None, **values: str) -> list[Question]:
        """The prompt about each clip, with these values for its $names."""
        prompt, questions = self._prompt, []
        for frames, clip in clips:
            duration = clip.num_frames / clip.fps
            text = prompt.filled(count=len(frames), duration=f"{duration:.1f}", **values)
            questions.append(Question(text, prompt.system, frames, len(frames) / duration, schema))
        return questions
