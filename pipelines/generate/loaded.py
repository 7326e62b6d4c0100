"""A generator ready to use, and its description for the files it makes."""

from dataclasses import dataclass
from typing import Any

from reelwright.model.sampling.generator import Generator


@dataclass(frozen=True)
class Loaded:
    """A generator. about: its weights, codec and text encoder, for the metadata of the files it makes."""

    generator: Generator
    about: dict[str, Any]
