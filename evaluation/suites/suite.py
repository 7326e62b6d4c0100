"""A suite: prompts with category, kind, task and reference picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from reelwright.annotate.backends.identity import file_hash
from reelwright.evaluation.errors import EvaluationError

TASKS = ("t2v", "i2v", "vc")
"""Video from text, from a picture, and the continuation of a video."""
TEXT_KINDS = ("short", "long")
PICTURE_KINDS = ("detailed", "concise", "contradictory", "empty")
"""What the prompt says of its picture: all of it, little, something else, nothing."""
LONG_WORDS = 20  # of a prompt whose suite does not say its kind


@dataclass(frozen=True)
class Prompt:
    """What a model is asked for.

    Args:
        id: of the prompt, unique in its suite.
        text: the prompt.
        category: of its content, for tables by category.
        kind: one of TEXT_KINDS, or of PICTURE_KINDS where it has a picture.
        task: one of TASKS.
        reference: the picture or video that it begins with; not for t2v.
        short: the prompt that `text` was written from, if it was.
        dimensions: of the suite's benchmark, that its videos are judged in.
        samples: videos per model.
    """

    id: str
    text: str
    category: str = ""
    kind: str = ""
    task: str = "t2v"
    reference: Path | None = None
    short: str | None = None
    dimensions: tuple[str, ...] = ()
    samples: int = 1

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise EvaluationError(f"prompt {self.id}: task {self.task!r} is none of {', '.join(TASKS)}")
        if (self.task == "t2v") != (self.reference is None):
            wants = "begins with nothing; leave its reference out" if self.reference else "needs a reference"
            raise EvaluationError(f"prompt {self.id}: task {self.task} {wants}")
        if not self.text and self.task == "t2v":
            raise EvaluationError(f"prompt {self.id} is empty, and it has no picture to begin with")
        if self.samples < 1:
            raise EvaluationError(f"prompt {self.id}: samples is {self.samples}, and at least 1 is needed")

    @property
    def plain_kind(self) -> str:
        """Its kind; where the suite does not say it, by its length."""
        if self.kind or self.task != "t2v":
            return self.kind
        return "long" if len(self.text.split()) > LONG_WORDS else "short"


@dataclass(frozen=True)
class Suite:
    """Prompts in their order. benchmark: vbench or vbench2, whose own programs judge the videos; empty: none."""

    name: str
    prompts: Sequence[Prompt]
    benchmark: str = ""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise EvaluationError(f"suite {self.name} has no prompts")
        seen: set[str] = set()
        for prompt in self.prompts:
            if prompt.id in seen:
                raise EvaluationError(f"suite {self.name}: two prompts are called {prompt.id}; rename one")
            seen.add(prompt.id)

    @property
    def videos(self) -> int:
        """Videos per model."""
        return sum(prompt.samples for prompt in self.prompts)

    @cached_property
    def hash(self) -> str:
        """16 hex digits over all that decides its videos: prompts, references by content, samples."""
        rows = [asdict(p) | {"reference": reference_hash(p.reference)} for p in self.prompts]
        return hashlib.sha256(json.dumps([self.benchmark, rows], sort_keys=True).encode()).hexdigest()[:16]


def reference_hash(path: Path | None) -> str | None:
    """Return the SHA-256 of a reference, wherever it lies. Raises EvaluationError if it is not there."""
    if path is None:
        return None
    if not path.is_file():
        raise EvaluationError(f"there is no reference {path}; paths in a suite go from the suite's own folder")
    return file_hash(path)
