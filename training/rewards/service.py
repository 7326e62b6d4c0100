"""A reward on another machine, by the protocol of remote/protocol.py, which `reel reward serve` speaks."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from reelwright.annotate.chat.base import excerpt
from reelwright.annotate.chat.retry import retry_after_s, wait_s
from reelwright.annotate.contract import Resources, runtime
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video
from reelwright.training.rewards.remote.protocol import LARGEST_REPLY, BodyError, described_of, packed, scores_of

T = TypeVar("T")
UNSTATED = "unstated"  # the fingerprint of a served reward that no recipe states
TOLD = ("name", "version", "fingerprint", "parameters", "models")
MOST_TOLD = 1 << 16  # characters of what a service tells of its reward, in a checkpoint
CHUNK = 1 << 16


@dataclass(frozen=True)
class Service(Reward):
    """A registered reward that another process serves.

    A request that fails is sent up to `attempts` times. A service that is away is waited for, `patience_s` in all;
    after that each call tries once, until the service is back. Scores of a service whose reward is not the one that the
    run began with are not taken.

    Args:
        url: of the service, as in http://10.0.0.7:8070.
        expects: fingerprint of the served reward; empty: any, which is then in no fingerprint of the run, and compared
            with the one that the run's checkpoint names.
        api_key_env: environment variable that holds the service's key.
        videos_a_call: videos per request.
        timeout_s: seconds for one attempt, sending and scoring included.
        attempts: tries of one request.
        patience_s: seconds to wait for a service that is away or overloaded.
    """

    url: str = runtime("")
    expects: str = ""
    api_key_env: str = runtime("")
    videos_a_call: int = runtime(4)
    timeout_s: float = runtime(300.0)
    attempts: int = runtime(4)
    patience_s: float = runtime(120.0)

    name, version = "service", 1

    def __post_init__(self) -> None:
        if not _is_address(self.url):
            raise ValueError(f"url {self.url!r} is not an address; it looks like http://host:8070")
        if min(self.videos_a_call, self.attempts) < 1 or not self.timeout_s > 0 or self.patience_s < 0:
            raise ValueError("videos_a_call and attempts must be at least 1, timeout_s above 0, patience_s at least 0")

    @property
    def resources(self) -> Resources:
        """A process that waits."""
        return Resources(cpus=0.1, batch=self.videos_a_call)

    @property
    def models(self) -> tuple[str, ...]:
        """The served reward, as the recipe states it."""
        return (f"served:{self.expects or UNSTATED}",)

    @property
    def keys(self) -> tuple[str, ...]:
        """The service's."""
        return (self.api_key_env,) if self.api_key_env else ()

    @property
    def longest_call_s(self) -> float:
        """Of all attempts, with the waits between them."""
        return self.attempts * (self.timeout_s + self.patience_s) + self.patience_s

    def describe(self) -> dict[str, Any]:
        """Return the same of the served reward too, as `served`, where this process has asked the service."""
        served = self._state.served
        return super().describe() | ({"served": served} if served else {})

    def prepare(self) -> None:
        """Ask the service for its reward, and refuse one that the recipe does not expect."""
        try:
            told = self._until_answered("GET", "/reward", (0, ()), described_of)
        except _FailedError as error:
            raise TrainError(f"{error}; `reel reward serve` starts a reward service") from None
        fingerprint = told["fingerprint"]
        if self.expects and fingerprint != self.expects:
            raise TrainError(
                f"{self.url} serves reward {excerpt(str(told.get('name')))!r} of fingerprint {excerpt(fingerprint)}, "
                f"and the recipe expects {self.expects}"
            )
        self._state.served, self._state.fingerprint = _kept(told), fingerprint

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Send the videos in one request."""
        try:
            fingerprint, scores = self._until_answered(
                "POST", "/score", packed(videos), lambda reply: scores_of(reply, len(videos))
            )
        except _FailedError as error:
            return [Unscored(str(error))] * len(videos)
        self._state.fingerprint = wanted = self.expects or self._state.fingerprint or fingerprint
        if fingerprint != wanted:
            return [Unscored(f"{self.url} now serves fingerprint {excerpt(fingerprint)}, not {wanted}")] * len(videos)
        return scores

    @cached_property
    def _state(self) -> _State:
        return _State()

    def _until_answered(self, method: str, path: str, body: tuple[int, Any], read: Callable[[bytes], T]) -> T:
        """Return what `read` makes of the answer; an answer that it refuses with BodyError is a failed attempt."""
        state, failures, waits = self._state, 0, 0
        while True:
            try:
                found = read(self._once(method, path, body))
            except BodyError as error:
                failed = _FailedError(f"{self.url}: {error}")
            except _FailedError as error:
                failed = error
            else:
                state.away_since = 0.0
                return found
            state.away_since = (state.away_since or time.monotonic()) if failed.is_away else 0.0
            failures, waits = failures + (not failed.is_away), waits + 1
            is_over = failed.is_away and time.monotonic() - state.away_since >= self.patience_s
            if failed.is_final or failures >= self.attempts or is_over:
                raise failed
            time.sleep(min(wait_s(waits, failed.after_s), max(0.05, self.patience_s)))

    def _once(self, method: str, path: str, body: tuple[int, Any]) -> bytes:
        """Send one request and return the body of its answer; connections are not kept."""
        address, headers = urlsplit(self.url), self._authorization()
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        ends = time.monotonic() + self.timeout_s
        connection = kind(address.hostname or "", address.port, timeout=self.timeout_s)
        is_connected = False
        try:
            connection.connect()
            is_connected = True
            sock, (length, parts) = connection.sock, body
            stated = {"Content-Length": str(length)} if length else {}
            connection.request(method, f"{address.path.rstrip('/')}{path}", parts or None, stated | headers)
            sock.settimeout(max(0.01, ends - time.monotonic()))
            response = connection.getresponse()
            said = _bounded(response, sock, ends)
        except TimeoutError:
            what = "gave no answer" if is_connected else "took no connection"
            raise _FailedError(f"{self.url} {what} in {self.timeout_s:g} s", is_away=not is_connected) from None
        except (OSError, http.client.HTTPException) as error:
            what = "cut the connection" if is_connected else "is away"
            why = excerpt(f"{type(error).__name__}: {error}")
            raise _FailedError(f"{self.url} {what}: {why}", is_away=not is_connected) from None
        finally:
            connection.close()
        if response.status == 200:
            return said
        why = f"{self.url} answers status {response.status}: {_sentence(said)}"
        is_busy = response.status in (429, 503)
        is_final = response.status < 500 and not is_busy
        after_s = retry_after_s({"Retry-After": response.headers.get("Retry-After", "")})
        raise _FailedError(why, is_away=is_busy, is_final=is_final, after_s=after_s)

    def _authorization(self) -> dict[str, str]:
        if not self.api_key_env:
            return {}
        key = os.environ.get(self.api_key_env, "")
        if not key or not key.isprintable():
            raise _FailedError(f"the environment variable {self.api_key_env!r} holds no key; export it", is_final=True)
        return {"Authorization": f"Bearer {key}"}


class _State:
    """What one process has seen.

    served: the served reward's description. fingerprint: of the first reward that answered. away_since: on
    time.monotonic(); 0: the service is there.
    """

    def __init__(self) -> None:
        self.served: dict[str, Any] | None = None
        self.fingerprint = ""
        self.away_since = 0.0


class _FailedError(Exception):
    """An attempt failed. is_away: through no fault of the request. is_final: another attempt would not help."""

    def __init__(
        self, why: str, *, is_away: bool = False, is_final: bool = False, after_s: float | None = None
    ) -> None:
        super().__init__(why)
        self.is_away, self.is_final, self.after_s = is_away, is_final, after_s


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        _ = address.port  # raises where it is no number
    except ValueError:
        return False
    plain = not (address.query or address.fragment or address.username)
    return plain and url.isascii() and address.scheme in ("http", "https") and bool(address.hostname)


def _bounded(response: http.client.HTTPResponse, sock: socket.socket, ends: float) -> bytes:
    said = bytearray()
    while chunk := response.read1(CHUNK):
        said += chunk
        if len(said) > LARGEST_REPLY:
            raise http.client.HTTPException(f"the answer is larger than {LARGEST_REPLY >> 20} MiB")
        if time.monotonic() > ends:
            raise TimeoutError
        sock.settimeout(max(0.01, ends - time.monotonic()))  # a reply in drops has no more time than another
    if response.length:
        raise http.client.HTTPException(f"the answer ends {response.length} bytes early")
    return bytes(said)


def _kept(told: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint keeps of a service's words about its reward."""
    kept = {name: told[name] for name in TOLD if name in told}
    if len(json.dumps(kept)) <= MOST_TOLD:
        return kept
    return {name: excerpt(str(kept[name])) for name in ("name", "fingerprint") if name in kept}


def _sentence(said: bytes) -> str:
    try:
        return excerpt(str(json.loads(said)["error"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return excerpt(said.decode("utf-8", "replace"))
