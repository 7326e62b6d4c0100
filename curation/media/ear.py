"""libav's log while it reads and decodes: its errors report damage that no frame is marked with."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

MAX_SAID = 80  # characters of a message that are kept: it may quote the file


@dataclass(frozen=True)
class Heard:
    """libav's log over one decode of a file.

    decoder_errors: packets that decoded with errors. decoder_said, container_said: the first message of each, empty
    where there was none. ends_s: when the last packet of picture or sound ends; claimed_s: when the container says that
    all ends. Both are 0 where that is not known.
    """

    decoder_errors: int = 0
    decoder_said: str = ""
    container_said: str = ""
    ends_s: float = 0.0
    claimed_s: float = 0.0

NOTHING_HEARD = Heard()


class Ear:
    """Listen to libav's log inside of `with ear.to("decoder"):`, in this thread and no longer.

    A log that is open while libav's own threads end could make them wait for one another.
    """

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()  # calls in which libav reported an error and continued, by library part
        self.said: dict[str, str] = {}  # the first message of each
        self._who = ""
        self._capture: Any = None
        self._logs: list[tuple[int, str, str]] = []

    def to(self, who: str) -> Self:
        """Attribute the messages of the coming `with` block to `who`."""
        self._who = who
        return self

    def __enter__(self) -> None:
        from av import logging

        self._capture = logging.Capture()
        self._logs = self._capture.__enter__()
        logging.set_skip_repeated(False)  # each packet's errors are its own
        logging.set_level(logging.ERROR)

    def __exit__(self, kind: Any, *error: object) -> None:
        from av import logging

        logging.set_level(None)
        self._capture.__exit__(kind, *error)
        if self._logs and kind is None:  # raised errors are counted where they are caught
            self.errors[self._who] += 1
            self.said.setdefault(self._who, _words(self._logs[0][2]))


def _words(message: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return text[:MAX_SAID].rstrip(" .!;,")
