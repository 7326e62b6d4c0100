"""All captions of a clip in one list, for training to draw among: given, made, translated, shortened, composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import pyarrow as pa

from annotate.backends.chat import Chat, ChatError, ChatModel, keys_of, model_print, open_chat, resources_of, shared_by
from annotate.chatting import rewriting
from annotate.chatting.answers import LONGEST, ask_text, language_of, plain
from annotate.chatting.compositions import ELEMENTS, compose, compositions_print, templates_print
from annotate.chatting.prompts import load_prompt
from annotate.chatting.rewriting import Rewriting
from annotate.composed_caption import SURE
from annotate.contract import Annotator, Column, Resources, Stored, runtime

TYPE = pa.list_(
    pa.struct([
        ("text", pa.string()), ("language", pa.string()), ("kind", pa.string()), ("model", pa.string()),
        ("parents", pa.list_(pa.int32())),
    ])
)  # fmt: skip
MEANING = (
    "captions to draw among; kind: source, caption, composed, translation, summary or composition; language: en, zh or "
    "und; parents: indices in the list of those it was made from"
)
INPUTS = (
    "source_caption", "caption", "caption_model", "composed_caption", "camera_motion_confidence", *ELEMENTS
)  # fmt: skip
NO_MODEL = ChatModel()


@dataclass(frozen=True)
class Item:
    """One caption; the fields of the column's struct."""

    text: str
    language: str
    kind: str
    model: str | None
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class Captions(Annotator):
    """The source's caption, the chat model's and the composed one; of the first two, where a chat model is named, a
    translation (zh <-> en) and a summary; and of all but the composed one, compositions with what is known of camera,
    shot size and style.

    chat: for translations and summaries; without a model there are none. compositions: of each caption, drawn with
    `seed` and the caption's own words. attempts: rounds in which an answer is asked for that is in the wrong language,
    too long, or the text itself; then the clip fails, as a list without it would hide the loss.
    """

    chat: ChatModel = NO_MODEL
    translate: bool = True
    summarize: bool = True
    compositions: int = 1
    seed: int = 0
    translation_prompt: str = runtime("translation")  # what they say is in `models`
    summary_prompt: str = runtime("summary")
    attempts: int = 3
    clips_a_call: int = runtime(16)

    name, version = "captions", 1
    needs = tuple(Stored(column, optional=True) for column in INPUTS)
    columns = {"captions": Column(TYPE, MEANING)}

    def __post_init__(self) -> None:
        if not self.chat.model and self.chat != NO_MODEL:
            raise ValueError("annotator 'captions' names no model: set parameters.captions.chat.model")
        for name, least in (("compositions", 0), ("attempts", 1), ("clips_a_call", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"annotator 'captions': {name} = {getattr(self, name)}; it must be at least {least}")

    @property
    def resources(self) -> Resources:
        return resources_of(self.chat, batch=self.clips_a_call) if self.chat.model else Resources(batch=64)

    @property
    def models(self) -> tuple[str, ...]:
        prompts = [load_prompt(p).print for p in (self.translation_prompt, self.summary_prompt)]
        return (compositions_print(), *((*model_print(self.chat), *prompts) if self.chat.model else ()))

    def prepare(self) -> None:
        if self.chat.model:
            self._chat  # noqa: B018 - opened on first use

    def shared_by(self, processes: int) -> Self:
        return replace(self, chat=shared_by(self.chat, processes))

    @property
    def keys(self) -> tuple[str, ...]:
        return keys_of(self.chat)

    @cached_property
    def _chat(self) -> Chat:
        return open_chat(self.chat)

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """inputs: the values of INPUTS, None where not known."""
        (columns,) = self.batch([inputs])
        if isinstance(columns, Exception):
            raise columns
        return columns

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any] | Exception]:
        known = [dict(zip(INPUTS, clip, strict=True)) for clip in clips]
        lists = [_given(values) for values in known]
        wanted = [[(parent, r) for parent, item in enumerate(items) for r in self._wanted(item)] for items in lists]
        texts = self._asked([r for pairs in wanted for _, r in pairs])
        return [self._columns(*clip, texts) for clip in zip(lists, wanted, known, strict=True)]

    def _wanted(self, item: Item) -> list[Rewriting]:
        """What the model is asked to make of a caption that is given."""
        if not self.chat.model or item.kind == "composed" or item.language not in rewriting.NAMES:
            return []
        made = []
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
        self,
        items: list[Item],
        wanted: Sequence[tuple[int, Rewriting]],
        known: Mapping[str, Any],
        texts: Mapping[str, str | Exception],
    ) -> dict[str, Any] | Exception:
        rewritten = []
        for parent, r in wanted:
            text = texts[r.question.text]
            if isinstance(text, Exception):  # a postponement stays what it is
                return ChatError(f"{r.kind} in {r.language}: {text}") if isinstance(text, ChatError) else text
            rewritten.append(Item(text, r.language, r.kind, self.chat.model, (parent,)))
        whole = [*items, *rewritten]
        return {"captions": [asdict(i) | {"parents": list(i.parents)} for i in [*whole, *self._composed(whole, known)]]}

    def _composed(self, items: Sequence[Item], known: Mapping[str, Any]) -> list[Item]:
        confidence = known["camera_motion_confidence"]
        if confidence is not None and confidence < SURE:
            known = {**known, "camera_motion": None}
        model = f"{templates_print()} seed={self.seed}"
        made: dict[str, Item] = {}
        for i, item in enumerate(items):
            for number in range(self.compositions if item.kind != "composed" else 0):
                text = compose(item.text, item.language, known, self.seed, number)
                if text:
                    made.setdefault(text, Item(text, item.language, "composition", model, (i,)))
        return list(made.values())


def _given(known: Mapping[str, Any]) -> list[Item]:
    texts = {"source": known["source_caption"], "caption": known["caption"], "composed": known["composed_caption"]}
    models = {"source": None, "caption": known["caption_model"], "composed": "composed_caption"}
    cleaned = {kind: plain(text)[:LONGEST] for kind, text in texts.items() if text}
    return [Item(text, language_of(text), kind, models[kind]) for kind, text in cleaned.items() if text]
