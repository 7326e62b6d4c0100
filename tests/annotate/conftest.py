"""A chat server for the annotators that ask one."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def _chat_server() -> Iterator:
    from tests.annotate.chat_server import ChatServer

    server = ChatServer()
    yield server
    server.stop()


@pytest.fixture
def chat_server(_chat_server) -> Iterator:
    """One server for all tests, which has been asked nothing yet."""
    from reelwright.annotate.chat.registry import close_chats

    _chat_server.script({})
    yield _chat_server
    close_chats()
