"""Captions by a video-capable chat model: LLaVA-Video, Qwen2.5-VL, or any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.chat.about_clip import AsksAboutClip
from reelwright.annotate.chat.answers import clean
from reelwright.annotate.chat.asking import ask_text
from reelwright.annotate.contract import Column, runtime


@dataclass(frozen=True)
class Caption(AsksAboutClip):
    """A dense caption: subjects, actions in order, setting, camera and look, as the prompt says.

    An empty answer, or one longer than any caption, is asked again; then the clip fails.
    """

    prompt: str = runtime("caption")

    name, version = "caption", 1
    profiles = ("full",)
    typical_tokens = (4700, 200)
    columns = {
        "caption": Column(pa.string(), "dense caption by a chat model"),
        "caption_model": Column(pa.string(), "the model that wrote the caption"),
    }

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any] | Exception]:
        """Ask for one caption per clip; a clip that got none has the exception instead."""
        texts = ask_text(self._chat, self._questions(clips), [clean] * len(clips), self.attempts)
        model = self.chat.model
        return [t if isinstance(t, Exception) else {"caption": t, "caption_model": model} for t in texts]
