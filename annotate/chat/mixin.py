"""The common part of annotators that ask a chat model, whether about a clip, about texts or about all clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

from reelwright.annotate.chat.base import Chat
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.annotate.chat.registry import open_chat
from reelwright.annotate.contract import Resources

QWEN = ChatModel(model="Qwen/Qwen2.5-VL-7B-Instruct")


class AsksAModel:
    """Mixin before Annotator or SetAnnotator; the class has the parameters `chat`, `attempts` and its prompts.

    Its models, keys, resources and share per process follow from `chat`; the model is opened on first use.
    """

    chat: ChatModel
    attempts: int
    clips_a_call: int = 1

    prompt_parameters: ClassVar[tuple[str, ...]] = ("prompt",)
    """Parameters that name prompts: the prompts' content is in `models`."""
    profile_parameters: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {"chat": {"model": QWEN.model}}}

    def check_parameters(self, *, needs_model: bool = True) -> None:
        """Raise ValueError for parameters that cannot work: when the recipe is read, not after hours."""
        name = getattr(self, "name")  # noqa: B009 - of the annotator that this is mixed into
        if needs_model and not self.chat.model:
            raise ValueError(f"annotator {name!r} names no model: set parameters.{name}.chat.model")
        for parameter in ("attempts", "clips_a_call"):
            if getattr(self, parameter) < 1:
                value = getattr(self, parameter)
                raise ValueError(f"annotator {name!r}: {parameter} = {value}; it must be at least 1")

    @property
    def resources(self) -> Resources:
        """The needs of the chat backend; none while no model is set."""
        return self.chat.resources(batch=self.clips_a_call) if self.chat.model else Resources()

    @property
    def models(self) -> tuple[str, ...]:
        """The chat model and its prompts; none while no model is set."""
        if not self.chat.model:
            return ()
        prompts = [load_prompt(getattr(self, parameter)) for parameter in self.prompt_parameters]
        return (*self.chat.models, *(prompt.fingerprint for prompt in prompts))

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the environment variables that hold the chat model's keys."""
        return self.chat.keys

    def prepare(self) -> None:
        """Open the chat model."""
        self._chat  # noqa: B018 - opened on first use

    def per_process(self, processes: int) -> Self:
        """Return a copy with the share of the limits for one of `processes` concurrent processes."""
        share: Any = {"chat": self.chat.per_process(processes)}
        return replace(self, **share)  # type: ignore[type-var]

    @cached_property
    def _chat(self) -> Chat:
        return open_chat(self.chat)
