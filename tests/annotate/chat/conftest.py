"""Real servers on loopback, each in a process of its own."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.registry import close_chats


class Server:
    """A faulty server's process."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("faulty_server.py")), str(port)], stdout=subprocess.PIPE
        )
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as response:
            return json.load(response)

    def forget(self) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/forget", data=b"").close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def chat(self, **parameters: Any) -> ChatModel:
        return ChatModel(**{"model": "m", "url": self.url, "timeout_s": 5.0} | parameters)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts a server, at a port where one is given."""
    running: list[Server] = []

    def one(port: int = 0) -> Server:
        running.append(Server(port))
        return running[-1]

    yield one
    close_chats()
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def _lasting() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(_lasting) -> Iterator[Server]:
    """One server for all tests, which has seen nothing yet."""
    _lasting.forget()
    yield _lasting
    close_chats()
