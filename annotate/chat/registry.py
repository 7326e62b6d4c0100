"""The chats that this process has opened: one per model, shared by all that ask it."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict

from reelwright.annotate.chat.base import Chat
from reelwright.annotate.chat.model import ChatModel, ServerOptions, TransformersOptions
from reelwright.annotate.contract import Computes
from reelwright.annotate.errors import AnnotatorError

_open: dict[str, Chat] = {}
_lock = threading.Lock()


def open_chat(chat: ChatModel) -> Chat:
    """Return this process's chat with the model: opened once, then shared, with its window and its limits.

    Raises:
        AnnotatorError: the model cannot be asked as configured: none is named, a package or folder is missing.
    """
    if not chat.model:
        raise AnnotatorError("no chat model is named; set the annotator's parameter chat: {model: …, url: …}")
    key = _key(chat)
    with _lock:
        if key not in _open:
            _open[key] = _opened(chat)
        return _open[key]


def close_chats() -> None:
    """Close all chats of this process, such as before it ends or between tests."""
    with _lock:
        for chat in _open.values():
            chat.close()
        _open.clear()


def chat_of(annotator: Computes) -> ChatModel | None:
    """Return the model that an annotator asks, its parameter `chat`; None where it asks none."""
    chat = annotator.parameters.get("chat")
    return chat if isinstance(chat, ChatModel) and chat.model else None


def take_usage(annotator: Computes) -> dict[str, dict[str, float]]:
    """Return the annotator's usage in this process since the last call; empty where it asks no model.

    Returns:
        {name: {"input_tokens", "output_tokens", "usd"}}.
    """
    opened = _opened_by(annotator)
    return {annotator.name: opened.budget.take()} if opened else {}


def waiting_reason(annotator: Computes) -> str:
    """Return the reason why the annotator's model waits in this process; empty where it asks none, or has not yet."""
    opened = _opened_by(annotator)
    return opened.waiting_reason if opened else ""


def _opened_by(annotator: Computes) -> Chat | None:
    chat = chat_of(annotator)
    return _open.get(_key(chat)) if chat else None


def _key(chat: ChatModel) -> str:
    return json.dumps(asdict(chat), sort_keys=True, default=str)


def _opened(chat: ChatModel) -> Chat:
    options = chat.options
    if isinstance(options, ServerOptions):
        from reelwright.annotate.chat.server import ServerChat

        return ServerChat(chat, options)
    if isinstance(options, TransformersOptions):
        from reelwright.annotate.chat.transformers import TransformersChat

        return TransformersChat(chat, options)
    from reelwright.annotate.chat.vllm import VllmChat

    return VllmChat(chat, options)
