"""A chat model as recipes name it: its name, how it answers, where it runs, and its limits on cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, TypeVar

from reelwright.annotate.backends.identity import hub_source, model_id
from reelwright.annotate.contract import Resources, runtime

FED_BY_ONE = 64  # questions in flight that one process decodes for
UNSTATED = "unstated"  # the revision of a server's model that no recipe states
SHOWN_VIDEOS = "videos@1"  # version of the videos that transformers' models are given: annotate/backends/videos

T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are drawn: `max_tokens` at most; temperature 0 takes the likeliest each time."""

    max_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class ServerOptions:
    """An OpenAI-compatible server at `url`; see `ChatModel` for the fields."""

    url: str
    api_key_env: str
    concurrency: int
    timeout_s: float
    attempts: int
    patience_s: float

    has_one_owner: ClassVar[bool] = False  # several processes may ask it

    def resources(self, *, batch: int) -> Resources:
        """Return the resources of an annotator that asks this server.

        So many calls run at once that the window stays full while some of them wait for their last answer, in several
        processes where one could not decode for all.

        Args:
            batch: clips per call.
        """
        processes = -(-self.concurrency // FED_BY_ONE)
        return _asking(self.concurrency, batch, processes)

    def per_process(self, processes: int) -> Self:
        """Return the options of one of `processes` that ask side by side: with its share of the window."""
        return replace(self, concurrency=-(-self.concurrency // processes))


@dataclass(frozen=True)
class TransformersOptions:
    """The model in the annotator's own process; see `ChatModel` for the fields."""

    gpus: float
    device: str
    concurrency: int

    has_one_owner: ClassVar[bool] = False  # each process loads a copy

    def resources(self, *, batch: int) -> Resources:
        """Return the resources of an annotator that holds this model; batch: clips per call."""
        return Resources(cpus=1, gpus=self.gpus, batch=batch, own_process=True)

    def per_process(self, processes: int) -> Self:
        """Return itself: each process has a copy of the model, with a window of its own."""
        return self


@dataclass(frozen=True)
class VllmOptions:
    """Engines that a run keeps on Ray's GPUs; see `ChatModel` for the fields."""

    gpus: float
    copies: int
    engine: Mapping[str, Any] | None
    runtime_env: Mapping[str, Any] | None
    vllm: str
    concurrency: int
    timeout_s: float
    attempts: int
    patience_s: float

    has_one_owner: ClassVar[bool] = True  # the process that started the engines

    def resources(self, *, batch: int) -> Resources:
        """Return the resources of the annotator that owns the engines; batch: clips per call."""
        return _asking(self.concurrency, batch, 1)

    def per_process(self, processes: int) -> Self:
        """Return itself: the engines have one owner."""
        return self

    def server_at(self, url: str) -> ServerOptions:
        """Return the options of one copy's server: with its share of the window."""
        share = -(-self.concurrency // self.copies)
        return ServerOptions(url, "", share, self.timeout_s, self.attempts, self.patience_s)


Options = ServerOptions | TransformersOptions | VllmOptions
_OPTIONS: Mapping[str, type[Options]] = {
    "server": ServerOptions, "transformers": TransformersOptions, "vllm": VllmOptions,
}  # fmt: skip


@dataclass(frozen=True)
class ChatModel:
    """A chat model and how it is asked: the parameter `chat` of annotators, flat as recipes write it.

    `sampling` and `options` are its parts. Only settings that decide an answer are in fingerprints; settings of its
    place, speed and price are `runtime`.

    Args:
        model: id at the server or on the hub, or a folder.
        revision: of the hub's model; of a server's, the one that it was started with.
        max_tokens: of an answer, at most.
        temperature: 0 takes the likeliest token each time.
        seed: of sampling, where temperature is above 0.
        send: frames as an ordered list of pictures with their times, or as one video, for models trained on videos; a
            backend that cannot send it refuses.
        jpeg_quality: of frames sent to a server, 1 to 100.
        dtype: of the weights in this process ("auto": as saved) and in vLLM.
        backend: "server" (OpenAI-compatible, at `url`), "transformers" (in the annotator's process) or "vllm" (engines
            that the run keeps on Ray's GPUs).
        url: of the server, up to /v1.
        api_key_env: environment variable that holds the server's key.
        concurrency: questions of an annotator in flight, over all its processes; of transformers, questions that are
            generated together.
        timeout_s: of one attempt, in seconds.
        attempts: tries of one question.
        patience_s: seconds to wait for a server that is away or overloaded, which uses up no attempts.
        max_cost_usd: of the annotator in a run, by the tokens that the server reports; the rest is left for a later
            run. 0: no limit.
        usd_per_million_input: price of a million tokens of questions.
        usd_per_million_output: price of a million tokens of answers.
        max_time_s: seconds that a process of the annotator may ask; the rest is left for a later run. 0: no limit.
        gpus: per copy of the model; of vLLM, tensor parallel, and 0 for its CPU build.
        copies: of vLLM's engine.
        device: of transformers; "" for a GPU where there is one.
        engine: more arguments of vLLM's engine.
        runtime_env: of vLLM's Ray actors.
        vllm: vLLM's command, by name or path.
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

    @property
    def sampling(self) -> Sampling:
        """How its answers are drawn."""
        return self._part(Sampling)

    @property
    def options(self) -> Options:
        """Keys that the chosen backend needs; the keys of other backends are ignored."""
        return self._part(_OPTIONS[self.backend])

    @property
    def models(self) -> tuple[str, ...]:
        """The name and content hash of a folder on this machine, else id and revision, as `Computes.models` has them.

        A server does not say which revision it serves: the recipe's word counts.
        """
        if not self.model:
            return ()
        unknown = UNSTATED if self.backend == "server" else ""
        shown = (SHOWN_VIDEOS,) if self.backend == "transformers" and self.send == "video" else ()
        return (model_id(self.model, self.revision or unknown), *shown)

    @property
    def keys(self) -> tuple[str, ...]:
        """Environment variables that hold keys, as `Computes.keys` has them."""
        return (self.api_key_env,) if self.model and self.api_key_env else ()

    @property
    def from_hub(self) -> tuple[str, str] | None:
        """The model and revision to load from a hub; None where a server has it, or a folder."""
        return None if self.backend == "server" else hub_source(self.model, self.revision)

    def cost_usd(self, input_tokens: float, output_tokens: float) -> float:
        """Return the price of a number of tokens, in USD."""
        return (input_tokens * self.usd_per_million_input + output_tokens * self.usd_per_million_output) / 1e6

    def resources(self, *, batch: int) -> Resources:
        """Return the resources of an annotator that asks this model; batch: clips per call."""
        return self.options.resources(batch=batch)

    def per_process(self, processes: int) -> Self:
        """Return the share of the window and of the cost limit for one of `processes` that ask side by side."""
        options = self.options
        if processes == 1 or options.has_one_owner:
            return self
        share = options.per_process(processes)
        changed = {f.name: getattr(share, f.name) for f in fields(share)}
        return replace(self, max_cost_usd=self.max_cost_usd / processes, **changed)

    def _part(self, kind: type[T]) -> T:
        return kind(**{f.name: getattr(self, f.name) for f in fields(kind)})  # type: ignore[arg-type]


def _asking(concurrency: int, batch: int, processes: int) -> Resources:
    calls = 1 + -(-3 * concurrency // (2 * batch))
    return Resources(cpus=1, gpus=0, batch=batch, own_process=True, calls=calls, processes=processes)
