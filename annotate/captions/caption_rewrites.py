"""Translations and summaries of a clip's captions by a chat model, apart from composed captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.captions.writing import rewriting
from reelwright.annotate.captions.writing.items import Item, given, text_hash
from reelwright.annotate.captions.writing.rewriting import Rewriting
from reelwright.annotate.chat.asking import ask_text
from reelwright.annotate.chat.base import ChatError
from reelwright.annotate.chat.mixin import QWEN, AsksAModel
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.contract import Annotator, Column, Stored, runtime

TYPE = pa.list_(
    pa.struct([
        ("text", pa.string()), ("language", pa.string()), ("kind", pa.string()), ("model", pa.string()),
        ("parent", pa.string()), ("parent_hash", pa.string()),
    ])
)  # fmt: skip
MEANING = (
    "translations and summaries; parent: source or caption, whose text it was made from; parent_hash: of that text, as "
    "it was then"
)


@dataclass(frozen=True)
class CaptionRewrites(AsksAModel, Annotator):
    """A translation (zh <-> en) of the source's caption and of the chat model's, and a summary of long ones.

    It reads those two texts alone, because each value costs a question: camera, style and measurements join them in
    `captions`.

    Args:
        chat: the model.
        translate: whether to make translations.
        summarize: whether to make summaries.
        translation_prompt: name of a built-in prompt, or path of a file.
        summary_prompt: the same.
        attempts: rounds in which an answer in the wrong language, too long, or equal to the text is asked for again;
            then the clip fails, because a list without it would hide the loss.
        clips_a_call: clips that are asked about together.
    """

    chat: ChatModel = QWEN
    translate: bool = True
    summarize: bool = True
    translation_prompt: str = runtime("translation")  # their content is in `models`
    summary_prompt: str = runtime("summary")
    attempts: int = 3
    clips_a_call: int = runtime(16)

    name, version = "caption_rewrites", 1
    profiles = ("full",)
    typical_tokens = (700, 250)
    needs = (Stored("source_caption", optional=True), Stored("caption", optional=True))
    columns = {"caption_rewrites": Column(TYPE, MEANING)}

    prompt_parameters = ("translation_prompt", "summary_prompt")

    def __post_init__(self) -> None:
        self.check_parameters()

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """Rewrite one clip's captions.

        Args:
            inputs: the source's caption and the chat model's, None where there is none.
        """
        (columns,) = self.batch([inputs])
        if isinstance(columns, Exception):
            raise columns
        return columns

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any] | Exception]:
        """Rewrite all captions of the clips, with as many questions per call as the chat model takes."""
        items = [[*given("source", source), *given("caption", caption)] for source, caption in clips]
        wanted = [[(item, r) for item in some for r in self._wanted(item)] for some in items]
        texts = self._asked([r for pairs in wanted for _, r in pairs])
        return [self._columns(pairs, texts) for pairs in wanted]

    def _wanted(self, item: Item) -> list[Rewriting]:
        """List the rewritings of a caption that the model is asked for."""
        made: list[Rewriting] = []
        if item.language not in rewriting.NAMES:
            return made
        if self.translate:
            prompt = load_prompt(self.translation_prompt)
            made.append(rewriting.translation(item.text, item.language, prompt))
        if self.summarize and rewriting.size(item.text, item.language) > rewriting.SHORT[item.language]:
            prompt = load_prompt(self.summary_prompt)
            made.append(rewriting.summary(item.text, item.language, prompt))
        return made

    def _asked(self, wanted: Sequence[Rewriting]) -> dict[str, str | Exception]:
        """Question -> text or failure; clips of one source share its caption, which is asked about once."""
        once = {r.question.text: r for r in wanted}
        if not once:
            return {}
        checks = [r.check for r in once.values()]
        texts = ask_text(self._chat, [r.question for r in once.values()], checks, self.attempts)
        return dict(zip(once, texts, strict=True))

    def _columns(
        self, wanted: Sequence[tuple[Item, Rewriting]], texts: Mapping[str, str | Exception]
    ) -> dict[str, Any] | Exception:
        made = []
        for item, r in wanted:
            text = texts[r.question.text]
            if isinstance(text, Exception):  # a postponement stays one
                return ChatError(f"{r.kind} in {r.language}: {text}") if isinstance(text, ChatError) else text
            of = {"parent": item.kind, "parent_hash": text_hash(item.text)}
            made.append({"text": text, "language": r.language, "kind": r.kind, "model": self.chat.model} | of)
        return {"caption_rewrites": made}
