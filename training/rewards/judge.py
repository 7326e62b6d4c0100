"""A chat model as a judge, behind any OpenAI-compatible server."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reelwright.annotate.chat.asking import again_as_json, ask_until_valid
from reelwright.annotate.chat.base import Answer, Chat, Question, Token
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.annotate.chat.material import as_material, boundary_of
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.payload import jpegs
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.chat.registry import open_chat
from reelwright.annotate.chat.structured import parse_object
from reelwright.annotate.contract import Frames, Resources, runtime
from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.media.unencoded import Unencoded, read_unencoded
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video
from reelwright.training.tuning.judge_file import Calibration, calibration_of, tuned_judge

UNNAMED = ChatModel()
UP_TO_16 = FrameSampling(min_frames=4, max_frames=16)
TOP = 20  # the most tokens that OpenAI's form returns per place
LEAST_MASS = 0.5  # probability that the scale's digits must have together, or they are not what the model weighed


@dataclass(frozen=True)
class Judged:
    """A judge's score of a video.

    value: the score. is_expectation: whether it is the mean of the digits by their probabilities; else it is the digit.
    uncalibrated: the score before a tuned judge's calibration; None: there is none.
    """

    value: float
    is_expectation: bool
    uncalibrated: float | None = None


@dataclass(frozen=True)
class Judge(Reward):
    """A score that a chat model gives a video, from frames of it and its prompt.

    The answer is JSON with a digit of the scale, and the score is the mean of the scale's digits by their probabilities
    in the digit's place (G-Eval: Liu et al., 2023), which tells samples apart that would get the same digit. Without
    log-probabilities, as some servers answer, it is the digit. An answer outside the scale is asked again. The score of
    a judge that `reel tune judge` made is brought to people's scale by its calibration.

    Args:
        chat: the model, as annotators name it.
        aspect: the judgement asked for, in words that follow "Judge".
        prompt: name of a built-in prompt, or path of a file like annotate/chat/prompts/judge.txt.
        sampling: the frames that the model is shown.
        lowest: digit of the worst score.
        highest: digit of the best score.
        expectation: ask for log-probabilities; set it to false for a server that refuses them.
        attempts: rounds in which an invalid answer is asked for again; then the video is unscored.
        videos_a_call: videos that are asked about together.
        calibration: judge.json of a tuned judge, or "none"; empty: that of the model's folder, where it has one. Its
            content stands in the fingerprint, not its place.
    """

    chat: ChatModel = UNNAMED
    aspect: str = "how well the video shows what the prompt says, and how good it looks"
    prompt: str = runtime("judge")  # its name, version and hash are in `models`
    sampling: FrameSampling = UP_TO_16
    lowest: int = 1
    highest: int = 5
    expectation: bool = True
    attempts: int = 3
    videos_a_call: int = runtime(16)
    calibration: str = runtime("")

    name, version = "judge", 1

    def __post_init__(self) -> None:
        if not self.chat.model:
            raise ValueError("judge names no model; set chat: {model: …, url: …}")
        if not 0 <= self.lowest < self.highest <= 9:
            raise ValueError(f"lowest {self.lowest} and highest {self.highest} must be digits, the second the larger")
        if min(self.attempts, self.videos_a_call) < 1:
            raise ValueError(f"attempts {self.attempts} and videos_a_call {self.videos_a_call} must be at least 1")
        try:
            load_prompt(self.prompt)
            self._map  # noqa: B018 - read now, so that a mistake is told before anything is asked
        except (AnnotatorError, TrainError) as error:
            raise ValueError(str(error)) from None

    @property
    def resources(self) -> Resources:
        """The needs of the chat backend."""
        return self.chat.resources(batch=self.videos_a_call)

    @property
    def models(self) -> tuple[str, ...]:
        """The chat model, the prompt, and the calibration where there is one."""
        fitted = (self._map.name,) if self._map else ()
        return (*self.chat.models, load_prompt(self.prompt).fingerprint, *fitted)

    @property
    def keys(self) -> tuple[str, ...]:
        """The server's."""
        return self.chat.keys

    def prepare(self) -> None:
        """Open the chat model."""
        self._chat  # noqa: B018 - opened on first use

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Ask about all videos together."""
        return [one.value if isinstance(one, Judged) else one for one in self.judged(videos)]

    def judged(self, videos: Sequence[Video]) -> list[Judged | Unscored]:
        """Return scores with how each was read from its answer."""
        questions = [self._question(video) for video in videos]
        found = ask_until_valid(self._chat, questions, [self._judged] * len(videos), again_as_json, self.attempts)
        return [Unscored(str(one)) if isinstance(one, Exception) else one for one in found]

    @cached_property
    def _chat(self) -> Chat:
        return open_chat(self.chat)

    @cached_property
    def _map(self) -> Calibration | None:
        tuned = tuned_judge(self.calibration, self.chat.model)
        if tuned is None:
            return None
        found = calibration_of(
            tuned, aspect=self.aspect, prompt=load_prompt(self.prompt).fingerprint, scale=(self.lowest, self.highest),
            sampling=self.sampling,
        )  # fmt: skip
        if found is None and self.calibration:
            raise ValueError(
                f"{self.calibration} has no calibration of {self.aspect!r}; it has those of "
                f"{', '.join(repr(tuned.aspects[name]) for name in tuned.maps) or 'nothing'}"
            )
        return found

    def _question(self, video: Video) -> Question:
        needs = [need for need in self.sampling.needs if isinstance(need, Frames)]
        facts, (frames,) = read_unencoded(Unencoded(video.frames, video.rate), needs)
        frames, _ = self.sampling.seen(frames, facts)
        asked = load_prompt(self.prompt)
        shown = as_material(video.prompt)
        text = asked.filled(
            count=len(frames), duration=f"{facts.duration_s:.1f}", aspect=self.aspect, prompt=shown,
            boundary=boundary_of(shown), lowest=self.lowest, highest=self.highest,
        )  # fmt: skip
        seen = jpegs(frames, self.chat.jpeg_quality)
        top = TOP if self.expectation else 0
        return Question(text, asked.system, seen, len(seen) / facts.duration_s, self._schema, top)

    @property
    def _schema(self) -> Mapping[str, Any]:
        return {
            "type": "object",
            "properties": {"score": {"type": "integer", "enum": [*self._scale]}},
            "required": ["score"],
            "additionalProperties": False,
        }

    @property
    def _scale(self) -> range:
        return range(self.lowest, self.highest + 1)

    def _judged(self, answer: Answer) -> Judged:
        found = parse_object(answer.text)
        score = found.get("score")
        if found.keys() != {"score"} or not isinstance(score, int) or isinstance(score, bool):
            raise ValueError('the object must be {"score": a whole number}')
        if score not in self._scale:
            raise ValueError(f"the score is {score}; it must be from {self.lowest} to {self.highest}")
        expected = expected_digit(answer.tokens, score, self._scale) if self.expectation else None
        value = float(score) if expected is None else expected
        if self._map:
            return Judged(self._map(value), expected is not None, value)
        return Judged(value, expected is not None)


def expected_digit(tokens: Sequence[Token], digit: int, scale: Sequence[int]) -> float | None:
    """Return the mean of a scale's digits by their probabilities in the place of the answer's digit.

    Args:
        tokens: of the answer.
        digit: that the answer gives; it stands in the last token that holds it.
        scale: the digits.

    Returns:
        The mean; None where no token holds the digit, or the scale's digits are unlikely there.
    """
    place = next((token for token in reversed(tokens) if str(digit) in token.text), None)
    if place is None:
        return None
    before, _, after = place.text.rpartition(str(digit))
    mass = dict.fromkeys(scale, 0.0)
    for text, logprob in place.likeliest.items():
        for one in scale:
            # the same token with another digit, or a digit with other white space or another end
            if text == f"{before}{one}{after}" or re.fullmatch(rf"\s*{one}\s*[}}]?\s*", text):
                mass[one] += math.exp(min(0.0, logprob))
                break
    total = sum(mass.values())
    return sum(one * share for one, share in mass.items()) / total if total >= LEAST_MASS else None
