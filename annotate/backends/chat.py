"""Asking a chat model: what is asked, what comes back, and which backend answers."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from reelwright.annotate.backends.errors import AnnotatorError
from reelwright.annotate.backends.identity import hub_source, model_id
from reelwright.annotate.contract import Computes, Resources, runtime
from reelwright.errors import ReelError

if TYPE_CHECKING:
    from reelwright.annotate.backends.retry import Budget

FED_BY_ONE = 64  # questions in flight that one process decodes for
UNSTATED = "unstated"  # the revision of a server's model that no recipe states


@dataclass(frozen=True)
class ChatModel:
    """A chat model and how it is asked: a parameter of annotators.

    What decides an answer is in the fingerprint; what only decides where and how fast it is made is not (`runtime`).

    model: id at the server or on the hub, or a folder. revision: of the hub's; of a server's, what it was started with.
    send: frames as an ordered list of pictures with their times, or as one video, for models that were trained on
    videos; a backend that cannot send it refuses. jpeg_quality: of frames sent to a server. temperature 0: the
    likeliest token each time. dtype: of the weights in this process ("auto": as saved) and in vLLM.

    backend: "server" (OpenAI-compatible, at `url`), "transformers" (in the annotator's process) or "vllm" (engines that
    this run keeps on Ray's GPUs). api_key_env: environment variable that holds the server's key. concurrency: questions
    in flight of an annotator, in all its processes. timeout_s: of one attempt, attempts: tries of one question;
    patience_s: how long a server that is away or overloaded is waited for, which uses up no attempts. max_cost_usd: of
    the annotator in a run, by the tokens that the server reports; max_time_s: how long a process of it may ask; then
    the rest is left for a later run. 0: no limit.
    gpus: per copy of the model (vllm: tensor parallel, and 0 for its CPU build). device: of transformers, "" for a GPU
    where there is one. Of vllm: copies of the engine; engine: more of its arguments; runtime_env: of its Ray actors;
    vllm: its command, by name or path.
    """

    model: str = ""
    revision: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    send: Literal["images", "video"] = "images"
    jpeg_quality: int = 90
    dtype: str = "auto"
    backend: Literal["server", "transformers", "vllm"] = runtime("server")
    url: str = runtime("http://127.0.0.1:8000/v1")
    api_key_env: str = runtime("")
    concurrency: int = runtime(64)
    timeout_s: float = runtime(300.0)
    attempts: int = runtime(6)
    patience_s: float = runtime(900.0)
    max_cost_usd: float = runtime(0.0)
    usd_per_million_input: float = runtime(0.0)
    usd_per_million_output: float = runtime(0.0)
    max_time_s: float = runtime(0.0)
    gpus: float = runtime(0.0)
    copies: int = runtime(1)
    device: str = runtime("")
    engine: Mapping[str, Any] | None = runtime(None)
    runtime_env: Mapping[str, Any] | None = runtime(None)
    vllm: str = runtime("vllm")

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a recipe is an error

    def __post_init__(self) -> None:
        for name in ("max_tokens", "concurrency", "attempts", "copies", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"chat.{name} = {getattr(self, name)}; it must be above 0")
        for name in (
            "temperature", "patience_s", "max_cost_usd", "usd_per_million_input", "usd_per_million_output",
            "max_time_s", "gpus",
        ):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise ValueError(f"chat.{name} = {getattr(self, name)}; it cannot be negative")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"chat.jpeg_quality = {self.jpeg_quality}; it must be from 1 to 100")
        if self.max_cost_usd and not (self.usd_per_million_input or self.usd_per_million_output):
            raise ValueError("chat.max_cost_usd needs prices: set usd_per_million_input and usd_per_million_output")

    def cost_usd(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.usd_per_million_input + output_tokens * self.usd_per_million_output) / 1e6


    @property
    def from_hub(self) -> tuple[str, str] | None:
        """The model and revision to load from a hub; None where a server has it, or a folder."""
        return None if self.backend == "server" else hub_source(self.model, self.revision)


@dataclass(frozen=True, eq=False)
class Question:
    """frames: uint8 [T, H, W, 3] RGB in order of time, or each as a JPEG; `fps` of them a second (0: not known).
    schema: JSON schema that the answer should follow; it steers a server, and the answer must be checked all the same
    (see `ask_json`)."""

    text: str
    system: str = ""
    frames: np.ndarray | Sequence[bytes] | None = None
    fps: float = 0.0
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """cut: it was still going on at `max_tokens`."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False


class ChatError(ReelError):
    """A question failed for good, after its retries."""


class Chat(ABC):
    """An open connection to a model, or a loaded one. Safe to be used by several threads, which share its window."""

    budget: Budget

    @property
    def trouble(self) -> str:
        """What it waits for, such as a server that is away; empty while all is well."""
        return ""

    @abstractmethod
    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """An answer to each question, in their order; in place of one that failed, its exception: ChatError for good,
        `annotate.contract.Postponed` where a later run should ask again (server away, limit of cost or time spent)."""

    def close(self) -> None:
        """Give back what it holds; asking afterwards is an error."""
        return None


_open: dict[str, Chat] = {}
_lock = threading.Lock()


def open_chat(chat: ChatModel) -> Chat:
    """The chat of this process with this model: opened once, then shared, as are its window and its limits.

    Raises AnnotatorError where the model cannot be asked as configured: no model named, package or folder missing.
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
    """The model that an annotator asks, which is its parameter `chat`; None where there is none."""
    chat = annotator.parameters.get("chat")
    return chat if isinstance(chat, ChatModel) and chat.model else None


def take_usage(annotator: Computes) -> dict[str, dict[str, float]]:
    """{name: {"input_tokens", "output_tokens", "usd"}} of this process since it was last called; empty where the
    annotator asks no model."""
    chat = chat_of(annotator)
    opened = _open.get(_key(chat)) if chat else None
    return {annotator.name: opened.budget.take()} if opened else {}


def trouble_of(annotator: Computes) -> str:
    """`Chat.trouble` of the annotator's model in this process; empty where it asks none, or has not yet."""
    chat = chat_of(annotator)
    opened = _open.get(_key(chat)) if chat else None
    return opened.trouble if opened else ""


def model_print(chat: ChatModel) -> tuple[str, ...]:
    """What `Annotator.models` says of the model: name and content hash of a folder here, else id and revision.

    A server does not tell which revision it serves: that is what the recipe states.
    """
    if not chat.model:
        return ()
    unknown = UNSTATED if chat.backend == "server" else ""
    return (model_id(chat.model, chat.revision or unknown),)


def shared_by(chat: ChatModel, processes: int) -> ChatModel:
    """For one of so many processes that ask side by side."""
    if processes == 1 or chat.backend == "vllm":  # whose engines have one owner
        return chat
    concurrency = -(-chat.concurrency // processes) if chat.backend == "server" else chat.concurrency
    return replace(chat, concurrency=concurrency, max_cost_usd=chat.max_cost_usd / processes)


def keys_of(chat: ChatModel) -> tuple[str, ...]:
    """What `Annotator.keys` says of the model."""
    return (chat.api_key_env,) if chat.model and chat.api_key_env else ()


def resources_of(chat: ChatModel, *, batch: int) -> Resources:
    """What an annotator that asks this model occupies.

    A server is fed by so many calls at once that its window stays full while some of them wait for their last answer,
    and by several processes where one could not decode for all.
    """
    if chat.backend == "transformers":
        return Resources(cpus=1, gpus=chat.gpus, batch=batch, own_process=True)
    calls = 1 + -(-3 * chat.concurrency // (2 * batch))
    processes = 1 if chat.backend == "vllm" else -(-chat.concurrency // FED_BY_ONE)  # engines have one owner
    return Resources(cpus=1, gpus=0, batch=batch, own_process=True, calls=calls, processes=processes)


def _key(chat: ChatModel) -> str:
    return json.dumps(asdict(chat), sort_keys=True, default=str)


def _opened(chat: ChatModel) -> Chat:
    if chat.backend == "server":
        from reelwright.annotate.backends.server import ServerChat

        return ServerChat(chat)
    if chat.backend == "transformers":
        from reelwright.annotate.backends.transformers_chat import TransformersChat

        return TransformersChat(chat)
    from reelwright.annotate.backends.vllm_ray import VllmChat

    return VllmChat(chat)
