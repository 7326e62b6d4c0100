"""A chat model behind an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, a hosted one."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reelwright.annotate.chat import event_loop
from reelwright.annotate.chat.base import Answer, Chat, ChatError, Question, excerpt
from reelwright.annotate.chat.budget import Budget
from reelwright.annotate.chat.health import Health
from reelwright.annotate.chat.logprobs import tokens_of
from reelwright.annotate.chat.model import ChatModel, ServerOptions
from reelwright.annotate.chat.payload import body_of
from reelwright.annotate.chat.retry import OVERLOADED, RETRYABLE, RetryableError, retry_after_s, wait_s
from reelwright.annotate.chat.window import Window
from reelwright.annotate.contract import Postponed
from reelwright.annotate.errors import AnnotatorError

if TYPE_CHECKING:
    import aiohttp

LARGEST = 4 << 20  # bytes of an answer that are read
CONNECT_S = 15.0
TICK_S = 0.25  # between looks at whether a server that was away is back
ENCODERS = 4  # threads that make bodies; as many bodies wait, ready to be sent
MISCONFIGURED = frozenset({401, 403, 404})  # the key, the address or the model's name: no question's fault


@dataclass
class _Attempts:
    """The tries of one question so far; first_at, refused_at: first tried, first refused, on time.monotonic()."""

    first_at: float = field(default_factory=time.monotonic)
    failures: int = 0
    refusals: int = 0
    refused_at: float = 0.0


class ServerChat(Chat):
    """Questions of all threads share one window of `concurrency` requests in flight, on connections that are kept.

    It waits up to `patience_s` for a server that is away or overloaded. A question that fails otherwise is asked up to
    `attempts` times. In the end it is a ChatError where the question may be to blame, and Postponed where it is not (no
    server, a server that answers no question, a wrong key).
    """

    def __init__(
        self, chat: ChatModel, options: ServerOptions, *, key: str = "", budget: Budget | None = None
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            chat: the model, and how it answers.
            options: the server.
            key: in place of that in `api_key_env`.
            budget: one that is shared with other servers.

        Raises:
            AnnotatorError: the url is no address, or the key is not there.
        """
        self.chat = chat
        self.options = options
        self.health = Health(options.patience_s)
        self.budget = budget or Budget(chat)
        self.requests = 0  # sent so far, retries included
        self.url = f"{options.url.rstrip('/')}/chat/completions"
        if not self.url.startswith(("http://", "https://")):
            raise AnnotatorError(f"chat.url = {options.url!r} is not an address; it looks like http://host:8000/v1")
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **_key(options, key)}
        self._encoders = ThreadPoolExecutor(ENCODERS, "chat-body")
        self._session: aiohttp.ClientSession | None = None
        self._window = Window(options.concurrency)
        self._ahead = asyncio.Semaphore(options.concurrency + ENCODERS)

    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """Ask the server all questions, several at a time."""
        return event_loop.run(self._ask_all(questions))

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer | Exception]]:
        """Ask the same way, and yield each answer when it is there."""
        yield from event_loop.each(self.ask_one(question) for question in questions)

    @property
    def waiting_reason(self) -> str:
        """Reason why requests wait; empty while the server answers."""
        return self.health.why

    def close(self) -> None:
        """Close the connections and end the threads that encode pictures."""
        if self._session is not None:
            event_loop.run(self._session.close())
        self._encoders.shutdown(wait=False, cancel_futures=True)

    async def _ask_all(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        return await asyncio.gather(*(self.ask_one(question) for question in questions))

    async def ask_one(self, question: Question) -> Answer | Exception:
        """Return one question's answer or exception, on the shared loop.

        Its body is made while others are under way, not long before.
        """
        async with self._ahead:
            try:
                self._refuse_when_spent()
                body = await asyncio.get_running_loop().run_in_executor(
                    self._encoders, body_of, self.chat, question
                )  # fmt: skip
                return await self._until_answered(body)
            except (ChatError, Postponed) as error:
                return error.with_traceback(None)
            except Exception as error:  # frames that cannot be encoded: this question's own failure
                return ChatError(excerpt(f"{type(error).__name__}: {error}"))

    async def _until_answered(self, body: bytes) -> Answer:
        tries = _Attempts()
        while True:
            async with self._window:
                await self._acquire_slot()
                sent_at = time.monotonic()
                try:
                    answer = await self._once(body)
                except RetryableError as error:
                    failed = error
                else:
                    self.health.answered()
                    self._window.answered()
                    return answer
            if failed.unreached:
                self.health.away(f"no server at {self.options.url}: {failed}; start it and run again")
            elif failed.overloaded:
                self._window.overloaded(sent_at)
                await self._refused(tries, failed)
            else:
                await self._failed(tries, failed)

    async def _acquire_slot(self) -> None:
        """Wait while the server is away and another question is the one that tries."""
        self._refuse_when_spent()
        while not self.health.admits():
            await asyncio.sleep(TICK_S)
            self._refuse_when_spent()

    async def _refused(self, tries: _Attempts, failed: RetryableError) -> None:
        """Wait before the same again: no attempt is used up, but not for ever while others are answered."""
        self.health.overloaded(f"the server at {self.options.url} is overloaded: {failed}")
        tries.refused_at = tries.refused_at or time.monotonic()
        tries.refusals += 1
        waited_s = time.monotonic() - tries.refused_at
        if waited_s >= self.options.patience_s and self.health.answered_at > tries.refused_at:
            raise ChatError(f"{self.options.url} answers others, but refused this for {waited_s:.0f} s: {failed}")
        await asyncio.sleep(min(wait_s(tries.refusals, failed.after_s), self.options.patience_s))

    async def _failed(self, tries: _Attempts, failed: RetryableError) -> None:
        """Wait before the next attempt, if there is one."""
        self.health.failed(id(tries))
        tries.failures += 1
        if tries.failures < self.options.attempts:
            await asyncio.sleep(wait_s(tries.failures, failed.after_s))
            return
        after = f"after {tries.failures} {'attempt' if tries.failures == 1 else 'attempts'}"
        if self.health.fails_everybody_since(tries.first_at):
            raise Postponed(f"the server at {self.options.url} answers nobody, {after}: {failed}")
        raise ChatError(f"no answer from {self.options.url} {after}: {failed}")

    def _refuse_when_spent(self) -> None:
        if spent := self.budget.spent():
            raise Postponed(spent)

    async def _once(self, body: bytes) -> Answer:
        """Send one request.

        Raises:
            RetryableError: another attempt may succeed.
            ChatError, Postponed: it will not.
        """
        import aiohttp

        self.requests += 1
        try:
            async with self._http().post(
                self.url, data=body, headers=self._headers, allow_redirects=False
            ) as response:  # fmt: skip
                text = await _bounded(response)
                status = response.status
                headers = response.headers
        except TimeoutError as error:
            unreached = isinstance(error, aiohttp.ConnectionTimeoutError)
            what = "no connection" if unreached else "no answer"
            raise RetryableError(f"{what} in time ({self.options.timeout_s:g} s)", unreached=unreached) from None
        except aiohttp.ClientConnectorError as error:
            raise RetryableError(excerpt(f"{type(error).__name__}: {error}"), unreached=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise RetryableError(excerpt(f"connection cut: {type(error).__name__}: {error}")) from None
        if status in RETRYABLE or status >= 500:
            why = _message(status, text)
            is_overloaded = status in OVERLOADED
            raise RetryableError(why, after_s=retry_after_s(headers), overloaded=is_overloaded)
        if status in MISCONFIGURED:
            raise Postponed(f"{self.url} refuses model {self.chat.model!r}: {_message(status, text)}")
        if status != 200:
            raise ChatError(_message(status, text))
        return self._parsed(text)

    def _parsed(self, text: bytes) -> Answer:
        try:
            value = json.loads(text)
            choice = value["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise RetryableError(f"not a chat completion: {excerpt(text.decode('utf-8', 'replace'))}") from None
        usage = value.get("usage") if isinstance(value.get("usage"), dict) else {}
        answer = Answer(
            _valid(content) if isinstance(content, str) else "",
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            choice.get("finish_reason") == "length",
            tokens_of(choice.get("logprobs")),
        )
        self.budget.add(answer.input_tokens, answer.output_tokens)
        if not answer.text.strip():
            raise RetryableError("the answer is empty")
        return answer

    def _http(self) -> aiohttp.ClientSession:
        """Made on the loop that uses it."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.options.concurrency, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(
                    total=self.options.timeout_s, sock_connect=min(CONNECT_S, self.options.timeout_s)
                ),
                auto_decompress=False,  # asked for no compression; a small body must not unpack to a large one
                cookie_jar=aiohttp.DummyCookieJar(),
            )  # fmt: skip
        return self._session


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    chunks = []
    size = 0
    async for chunk in response.content.iter_chunked(1 << 16):
        size += len(chunk)
        if size > LARGEST:
            response.close()
            raise RetryableError(f"the answer is larger than {LARGEST >> 20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def _key(options: ServerOptions, key: str) -> dict[str, str]:
    if not options.api_key_env and not key:
        return {}
    key = key or os.environ.get(options.api_key_env, "")
    if not key or not key.isprintable():
        raise AnnotatorError(
            f"chat.api_key_env names the environment variable {options.api_key_env!r}, which holds no key; export it"
        )
    return {"Authorization": f"Bearer {key}"}


def _message(status: int, text: bytes) -> str:
    """Return the server's message, in OpenAI's, FastAPI's or no known form."""
    said: Any = text.decode("utf-8", "replace")
    try:
        value = json.loads(text)
        error = value.get("error", value.get("detail", value.get("message", said)))
        said = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        pass
    return f"status {status}: {excerpt(str(said))}"


def _valid(text: str) -> str:
    """Return the text without the unpaired surrogates that JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0
