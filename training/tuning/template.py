"""Conversations as token ids and labels, by a model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reelwright.annotate.backends.videos.form import VideoForm
from reelwright.training.errors import TrainError
from reelwright.training.tuning.samples import Turn

IGNORED = -100  # the label of a token that is not learnt
_MARK = "‹answer›"  # stands for an answer while the template around it is found


@dataclass(frozen=True)
class Labelled:
    """Token ids, and as many labels: the id itself where it is learnt, IGNORED elsewhere."""

    ids: list[int]
    labels: list[int]


class Template:
    """Renders conversations about one video as the model is asked, and finds the tokens to learn by their places.

    A conversation is cut at the ends of each question and each answer, and every piece becomes tokens by itself, so a
    question has the tokens that it has when an answer is generated. Learnt are an answer and the token that ends it.
    """

    def __init__(self, processor: Any, form: VideoForm, ends: Sequence[int]) -> None:
        """Take a processor with the template, the form of videos, and the tokens that end an answer."""
        self.processor, self.form, self.ends = processor, form, set(ends)
        self.tokenizer = processor.tokenizer
        self.control = sorted(
            {*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}, key=len, reverse=True
        )

    def question(self, turns: Sequence[Turn], video_tokens: int) -> str:
        """Return the text up to where the next answer begins, with the video's tokens."""
        return self.form.expanded(self._rendered(turns, begins_answer=True), video_tokens)

    def question_ids(self, turns: Sequence[Turn], video_tokens: int) -> list[int]:
        """Return `question` as token ids."""
        return self._ids(self.question(turns, video_tokens))

    def encode(self, turns: Sequence[Turn], video_tokens: int) -> Labelled:
        """Return a conversation with its answers to be learnt.

        Args:
            turns: user and assistant by turns, after a system turn perhaps; the last is the assistant's.
            video_tokens: that the video becomes.

        Raises:
            TrainError: the template does not end answers, or writes earlier turns in another way than later ones.
        """
        ids: list[int] = []
        labels: list[int] = []
        before = ""  # as the template renders the turns that are encoded already
        for number, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            question = self._rendered(turns[:number], begins_answer=True)
            if not question.startswith(before):
                raise TrainError("the chat template rewrites earlier turns once more follow; name another")
            piece = question[len(before) :]
            asked = self._ids(self.form.expanded(piece, video_tokens) if not before else piece)
            answer, rest = self._ids(self.tamed(turn.text)), self._ids(self._after(turns[:number]))
            if not rest or rest[0] not in self.ends:
                raise TrainError("the chat template does not end an answer with the model's end token; name another")
            ids += [*asked, *answer, *rest]
            labels += [*[IGNORED] * len(asked), *answer, rest[0], *[IGNORED] * (len(rest) - 1)]
            before = self._rendered(turns[: number + 1])
        return Labelled(ids, labels)

    def tamed(self, text: str) -> str:
        """Return a text whose control tokens are blanks."""
        for token in self.control:
            text = text.replace(token, " ")
        return text

    def _after(self, turns: Sequence[Turn]) -> str:
        """Return what the template writes after an answer to these turns."""
        return self._rendered([*turns, Turn("assistant", _MARK)]).rpartition(_MARK)[2]

    def _rendered(self, turns: Sequence[Turn], *, begins_answer: bool = False) -> str:
        messages: list[dict[str, Any]] = []
        shown = False
        for turn in turns:
            content: list[dict[str, Any]] = [{"type": "text", "text": self.tamed(turn.text)}]
            if turn.role == "user" and not shown:
                content, shown = [{"type": "video"}, *content], True
            messages.append({"role": turn.role, "content": content})
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=begins_answer)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
