"""A reward service that fails, hangs and dies, and writes down what it did to each request: a process of its own.

    python -m benchmarks.grpo.faulty_service JOURNAL PORT

The fault of a request follows from its number since the journal's beginning, which goes on where the process starts
again: of ten requests one is answered with status 500, of fifty one is not answered, and at every sixtieth the process
ends. JOURNAL gets a line of JSON per request, with its videos and its fault, before the fault happens.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from reelwright.training.rewards.registry import load
from reelwright.training.rewards.remote.protocol import unpacked
from reelwright.training.rewards.remote.server import RewardServer, _Handler, _RefusedError

HANG_S = 45.0
"""Longer than the client waits."""


def fault_of(number: int) -> str:
    """Return what happens to a request, counted from 1."""
    if number % 60 == 0:
        return "dies"
    if number % 50 == 7:
        return "hangs"
    return "fails" if number % 10 == 3 else ""


class FaultyServer(RewardServer):
    """A service with faults. journal: of the requests for scores."""

    journal: Path

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        FaultyHandler(request, client_address, self)

    def noted(self, videos: int) -> str:
        """Write a request down and return its fault."""
        with self.scoring:
            number = len(self.journal.read_text().splitlines()) + 1
            fault = fault_of(number)
            with self.journal.open("a") as out:
                out.write(json.dumps({"number": number, "videos": videos, "fault": fault}) + "\n")
                out.flush()
                os.fsync(out.fileno())
        return fault


class FaultyHandler(_Handler):
    """Does to a request what the journal says, once its videos are there."""

    server: FaultyServer

    def _body(self, length: int) -> bytearray:
        body = super()._body(length)
        fault = self.server.noted(len(unpacked(body)))
        if fault == "dies":
            os._exit(1)
        if fault == "hangs":
            time.sleep(HANG_S)
        if fault:
            raise _RefusedError(500, "no memory left")
        return body


def main() -> None:
    """Serve the sharpness of a video."""
    journal, port = Path(sys.argv[1]), int(sys.argv[2])
    server = FaultyServer(load("sharpness_standin"), ("127.0.0.1", port))
    server.journal = journal
    journal.touch()
    server.serve_forever()


if __name__ == "__main__":
    main()
