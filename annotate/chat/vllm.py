"""vLLM inside a running Ray: long-lived engines on the cluster's GPUs, asked as any server is.

Not `ray.data.llm`: each of its runs loads the engines again, and all rows must exist before it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from reelwright.annotate.chat import event_loop
from reelwright.annotate.chat.base import Answer, Chat, Question
from reelwright.annotate.chat.budget import Budget
from reelwright.annotate.chat.model import ChatModel, VllmOptions
from reelwright.annotate.chat.server import ServerChat
from reelwright.annotate.chat.vllm_engine import Engine, options_of
from reelwright.annotate.errors import AnnotatorError

MOST_PICTURES = 64  # of one question


class VllmChat(Chat):
    """`copies` engines, loaded once; each question goes to the copy with the fewest under way.

    Questions are asked as soon as one copy is loaded, so the run also works where the cluster has no room for all. The
    engines end with this process, or by `close`.
    """

    def __init__(self, chat: ChatModel, options: VllmOptions) -> None:
        import ray

        if not ray.is_initialized():
            raise AnnotatorError(
                "chat.backend = 'vllm' asks inside Ray, and none is running; run it by `reel annotate`, or set "
                "backend: server"
            )
        self.chat = chat
        self.options = options
        self.budget = Budget(chat)
        self._key = secrets.token_urlsafe(32)
        arguments = arguments_of(chat, options)
        actor: Any = ray.remote(Engine).options(
            num_cpus=0, num_gpus=int(options.gpus), runtime_env=dict(options.runtime_env or {}) or None
        )
        self._engines = [actor.remote(options.vllm, arguments, self._key) for _ in range(options.copies)]
        self._servers: list[ServerChat] = []
        self._under_way: list[int] = []
        self._await_first()

    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """Ask the engines, each several questions at a time."""
        return event_loop.run(self._ask_all(questions))

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer | Exception]]:
        """Ask the same way, and yield each answer when it is there."""
        yield from event_loop.each(self._ask(question) for question in questions)

    @property
    def waiting_reason(self) -> str:
        """Reason why requests wait; empty while the engines answer."""
        return next((server.waiting_reason for server in self._servers if server.waiting_reason), "")

    def close(self) -> None:
        """Close the connections and end the engines."""
        import ray

        for server in self._servers:
            server.close()
        for engine in self._engines:
            ray.kill(engine)

    def _await_first(self) -> None:
        """Wait until one copy is ready; the others join when they are."""
        import ray

        try:
            loading = self._join([engine.ready.remote() for engine in self._engines])
        except ray.exceptions.RayError as error:
            self.close()
            cause = getattr(error, "cause", None)
            if isinstance(cause, AnnotatorError):
                raise cause from None
            raise AnnotatorError(f"vLLM did not start: {' '.join(str(error).split())[-500:]}") from error
        threading.Thread(target=self._join_others, args=(loading,), daemon=True).start()

    def _join(self, loading: list[Any]) -> list[Any]:
        """Wait for the next copy of these; return the rest."""
        import ray

        (ready,), rest = ray.wait(loading, num_returns=1)
        server = self.options.server_at(ray.get(ready))
        self._under_way.append(0)
        self._servers.append(ServerChat(self.chat, server, key=self._key, budget=self.budget))
        return rest

    def _join_others(self, loading: list[Any]) -> None:
        with contextlib.suppress(Exception):  # a copy that does not start is left out; a closed Ray ends the waiting
            while loading:
                loading = self._join(loading)

    async def _ask_all(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        return await asyncio.gather(*(self._ask(question) for question in questions))

    async def _ask(self, question: Question) -> Answer | Exception:
        at = min(range(len(self._servers)), key=self._under_way.__getitem__)
        self._under_way[at] += 1
        try:
            return await self._servers[at].ask_one(question)
        finally:
            self._under_way[at] -= 1


def arguments_of(chat: ChatModel, options: VllmOptions) -> list[str]:
    """Return the arguments of `vllm serve`: the model, `gpus` per copy by tensor parallelism, and `engine` over it."""
    if options.gpus != int(options.gpus):
        raise AnnotatorError(f"chat.gpus = {options.gpus}; vLLM takes whole GPUs: 1 or more per copy")
    engine: dict[str, Any] = {
        "served_model_name": chat.model,
        "revision": chat.revision or None,
        "dtype": chat.dtype,
        "seed": chat.seed,
        "tensor_parallel_size": max(1, int(options.gpus)),
        "limit_mm_per_prompt": {"image": MOST_PICTURES, "video": 1},
        "uvicorn_log_level": "warning",  # else one line in the log per question
    }
    return [chat.model, *options_of(engine | dict(options.engine or {}))]
