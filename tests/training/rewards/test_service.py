"""A reward behind HTTP on loopback: the same numbers, and every fault of the service is a stated failure."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from reelwright.training.errors import TrainError
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Unscored, Video
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.registry import load
from reelwright.training.rewards.remote.protocol import BodyError, packed, unpacked
from reelwright.training.rewards.remote.server import Limits, RewardServer, _Handler
from tests.training.rewards.made_up import Level, Unready, video

pytestmark = pytest.mark.waits


class Running:
    """A service in a thread of this process."""

    def __init__(self, reward: Reward, port: int = 0, kind: type[RewardServer] = RewardServer, **more: Any) -> None:
        self.server = kind(reward, ("127.0.0.1", port), **more)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class FaultyServer(RewardServer):
    """A service that does to each request for scores what `faults` says of its number, counted from 0."""

    faults: dict[int, str]
    count = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        FaultyHandler(request, client_address, self)


class FaultyHandler(_Handler):
    def do_POST(self) -> None:
        with self.server.scoring:
            fault = self.server.faults.get(self.server.count, "")
            self.server.count += 1
        if not fault:
            super().do_POST()
            return
        if fault == "hang":
            time.sleep(6)
            return
        self._body(self._length())
        bodies = {
            "notjson": b"<html>busy</html>", "few": b'{"fingerprint": "x", "scores": []}', "nan": b'{"scores": [NaN]}',
            "words": json.dumps({"fingerprint": self.server.described["fingerprint"], "scores": ["high"]}).encode(),
            "other": b'{"fingerprint": "another", "scores": [1.0]}', "deep": b"[" * 100_000,
        }  # fmt: skip
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"fingerprint"')
            return
        body = bodies.get(fault, json.dumps({"error": "no memory left"}).encode())
        self.send_response(int(fault) if fault.isdigit() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[Running] = []

    def start(reward: Reward | None = None, **more: Any) -> Running:
        running.append(Running(reward or Level(batch=8), **more))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def service(url: str, **more: Any) -> Reward:
    return load("service", {"url": url, "timeout_s": 20.0, "patience_s": 0.0, "attempts": 1} | more)


def test_scores_and_failures_come_back_as_the_reward_gave_them(serve: Any) -> None:
    client = service(serve().url, videos_a_call=3)
    client.prepare()
    videos = [video(level) for level in (1, 2, 93, 90, 5, 250, 99)]
    found = score(client, videos)
    assert found == [1.0, 2.0, Unscored("too dull"), Unscored("level is nan"), 5.0, 250.0, Unscored(found[6].why)]
    assert "the disk is" in found[6].why
    assert found[:6] == score(Level(batch=1), videos)[:6]


def test_a_video_travels_whole() -> None:
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (7, 10, 12, 3), np.uint8)
    sent = [
        Video(frames[::2, :, ::-1], 23.976, "ein Hund läuft\n\udc80 狗", 2),  # not contiguous, and not quite Unicode
        Video(frames, 15.0, ""),
    ]
    size, parts = packed(sent)
    body = b"".join(parts)
    assert size == len(body)
    for one, other in zip(sent, unpacked(body), strict=True):
        assert np.array_equal(one.frames, other.frames)
        assert not other.frames.flags.writeable
        assert (one.rate, one.given) == (other.rate, other.given)
    assert unpacked(body)[0].prompt == "ein Hund läuft\n\ufffd 狗"


def test_prepare_tells_the_served_reward_and_refuses_another(serve: Any) -> None:
    running = serve()
    served = Level(batch=8)
    client = service(running.url, expects=served.fingerprint)
    assert client.models == (f"served:{served.fingerprint}",)
    client.prepare()
    assert client.describe()["served"] == served.describe()
    assert client.describe()["parameters"] == {"expects": served.fingerprint}
    wrong = Level(batch=7).fingerprint
    with pytest.raises(TrainError, match=f"serves reward 'level' of .* {served.fingerprint}, .* expects {wrong}"):
        service(running.url, expects=wrong).prepare()
    with pytest.raises(TrainError, match=r"reward 'far' \(service\) cannot start: .* is away"):
        InProcess({"far": service("http://127.0.0.1:9")})
    with pytest.raises(FileNotFoundError):  # a service that has no model does not begin to listen
        Running(Unready())


def test_the_fingerprint_is_the_served_rewards_and_not_the_address(serve: Any) -> None:
    one, other = service("http://a:1"), service("https://b:2/rewards", timeout_s=3.0)
    assert one.fingerprint == other.fingerprint
    assert one.models == ("served:unstated",)
    assert service("http://a:1", expects="0123").fingerprint != one.fingerprint


@pytest.mark.parametrize("faults", [{7: "reset", 17: "500", 27: "notjson"}])
def test_of_a_service_that_fails_a_tenth_every_failure_is_stated_and_nothing_else_changes(
    serve: Any, faults: dict[int, str]
) -> None:
    running = serve(kind=FaultyServer)
    running.server.faults = faults
    videos = [video(level) for level in range(30)]
    scorer = InProcess({"x": service(running.url, videos_a_call=1)})
    found = scorer.submit(videos).result()["x"]
    assert [isinstance(one, Unscored) for one in found] == [place in faults for place in range(30)]
    assert [one for one in found if not isinstance(one, Unscored)] == [float(k) for k in range(30) if k not in faults]
    assert scorer.figures()["x/failed"] == 3
    scorer.close()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("reset", "cut the connection"), ("cut", "cut the connection: .* ends 986 bytes early"),
        ("500", "answers status 500: no memory left"), ("400", "answers status 400: no memory left"),
        ("notjson", "is no JSON"), ("deep", "is no JSON"), ("nan", "is no JSON: NaN is no finite number"),
        ("few", "the reply has 0 scores for 1 videos"), ("words", "a score of the reply is 'high'"),
        ("other", "now serves fingerprint another"), ("hang", "gave no answer in 2 s"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_the_address(serve: Any, fault: str, sentence: str) -> None:
    running = serve(kind=FaultyServer)
    running.server.faults = {0: fault}
    client = service(running.url, timeout_s=2.0 if fault == "hang" else 60.0)
    client.prepare()
    (found,) = score(client, [video(3)])
    assert isinstance(found, Unscored)
    assert running.url in found.why
    assert re.search(sentence, found.why), found.why
    assert score(client, [video(3)]) == [3.0]


def test_faults_are_tried_again_and_refusals_are_not(serve: Any) -> None:
    running = serve(kind=FaultyServer)
    running.server.faults = {0: "reset", 1: "500", 2: "notjson", 4: "400", 5: "other"}
    client = service(running.url, attempts=4)
    assert score(client, [video(4)]) == [4.0]
    assert running.server.count == 4
    assert isinstance(score(client, [video(4)])[0], Unscored)
    assert running.server.count == 5
    assert isinstance(score(client, [video(4)])[0], Unscored)
    assert running.server.count == 6


def test_a_service_that_dies_is_waited_for_and_answers_once_it_is_back(serve: Any) -> None:
    first = Running(Level(batch=8))
    client = service(first.url, patience_s=60.0, attempts=2)
    client.prepare()
    assert score(client, [video(1)]) == [1.0]
    first.stop()
    back: list[Running] = []
    timer = threading.Timer(1.0, lambda: back.append(serve(port=first.port)))
    timer.start()
    assert score(client, [video(2)]) == [2.0]
    timer.join()
    assert back


def test_a_service_that_stays_away_costs_its_patience_once(serve: Any) -> None:
    running = Running(Level(batch=8))
    client = service(running.url, patience_s=1.0, attempts=5)
    running.stop()
    for _ in range(2):
        (found,) = score(client, [video(2)])
        assert isinstance(found, Unscored)
        assert f"{running.url} is away" in found.why
    assert client._state.away_since
    serve(port=running.port)
    assert score(client, [video(2)]) == [2.0]


def test_another_reward_at_the_same_address_is_not_taken(serve: Any) -> None:
    first = Running(Level(batch=8))
    client = service(first.url)
    assert score(client, [video(1)]) == [1.0]
    first.stop()
    serve(Level(batch=7), port=first.port)
    (found,) = score(client, [video(1)])
    assert found == Unscored(
        f"{first.url} now serves fingerprint {Level(batch=7).fingerprint}, not {Level(batch=8).fingerprint}"
    )


def ask(port: int, body: bytes, headers: dict[str, str] | None = None, path: str = "/score") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, body, headers or {})
    response = connection.getresponse()
    said = json.loads(response.read())
    connection.close()
    return response.status, said.get("error", "")


def stated(**more: Any) -> bytes:
    one = {"shape": [1, 2, 2, 3], "rate": 8.0, "prompt": "", "given": 0} | more
    return json.dumps({"videos": [one]}).encode() + b"\n"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "begins with no line of JSON"),
        (b"\n", "is no JSON"),
        (b"[" * 100_000 + b"\n", "is no JSON"),
        (b"[]\n", "is no JSON object"),
        (b'{"videos": []}\n', "a list of 1 to 1024"),
        (b'{"videos": [3]}\n', r"videos\[0\].shape is None"),
        (stated(shape=[1, 2, 2, 4]), "at most|up to"),
        (stated(shape=[1, 2, 2, 1]) + bytes(4), "has 1 channels"),
        (stated(shape=[0, 2, 2, 3]), r"must be \[F, H, W, 3\]"),
        (stated(shape=[-1, -2, 2, 3]) + bytes(12), r"must be \[F, H, W, 3\]"),
        (stated(shape=[True, 2, 2, 3]) + bytes(12), r"must be \[F, H, W, 3\]"),
        (stated(shape=[10**5, 16384, 16384, 3]), "bytes of frames, and 0 bytes follow"),
        (stated(shape=[10**30, 1, 1, 3]), r"must be \[F, H, W, 3\]"),
        (stated() + bytes(11), "are 12 bytes of frames, and 11 bytes follow"),
        (stated() + bytes(13), "are 12 bytes of frames, and 13 bytes follow"),
        (stated(rate=0) + bytes(12), "rate is 0; it must be"),
        (stated(rate=float("nan")) + bytes(12), "NaN is no finite number"),
        (stated().replace(b"8.0", b"1e999") + bytes(12), "1e999 is no finite number"),
        (stated(prompt=7) + bytes(12), "prompt must be a text"),
        (stated(prompt="x" * 100_001) + bytes(12), "at most 100000 characters"),
        (stated(given=2) + bytes(12), "given is 2; it must be from 0 to its 1 frames"),
        (stated(given=-1) + bytes(12), "given is -1"),
    ],
)
def test_a_hostile_body_is_refused_with_a_sentence(serve: Any, body: bytes, sentence: str) -> None:
    running = serve()
    status, said = ask(running.port, body)
    assert status == 400
    assert re.search(sentence, said), said
    assert len(said) < 1000
    assert ask(running.port, stated() + bytes(12)) == (200, "")


def why_refused(body: bytes) -> str:
    try:
        unpacked(body)
    except BodyError as error:
        return str(error)
    return ""


def test_limits_are_met_to_the_last_byte_frame_and_pixel() -> None:
    one = {"shape": [1, 1, 1, 3], "rate": 8.0, "prompt": ""}

    def of(count: int = 1, length: int = 0, **more: Any) -> bytes:
        line = json.dumps({"videos": [one | more] * count}).encode()
        return line.ljust(length - 1) + b"\n" + bytes(3 * count)

    for limit, refused in (
        (lambda beyond: of(1024 + beyond), "a list of 1 to 1024"),
        (lambda beyond: of(length=(4 << 20) + beyond), "no line of JSON of at most 4194304 bytes"),
        (lambda beyond: of(prompt="x" * (100_000 + beyond)), "at most 100000 characters"),
        (lambda beyond: of(rate=1000 + beyond), "at most 1000"),
    ):
        assert why_refused(limit(0)) == ""
        assert refused in why_refused(limit(1))
    for place, most in enumerate((100_000, 16_384, 16_384)):
        shape = [1, 1, 1, 3]
        for beyond, refused in ((0, "bytes of frames, and 3 bytes follow"), (1, "it must be [F, H, W, 3] up to")):
            shape[place] = most + beyond
            assert refused in why_refused(of(shape=shape))


def test_sizes_lengths_keys_and_addresses_are_checked_before_the_body(serve: Any) -> None:
    running = serve(key="s3cret", limits=Limits(max_bytes=1000))
    key = {"Authorization": "Bearer s3cret"}
    assert ask(running.port, stated() + bytes(12)) == (
        401, "the key is missing or wrong; send Authorization: Bearer KEY",
    )  # fmt: skip
    assert ask(running.port, bytes(5_000_000), {"Authorization": "Bearer no"})[0] == 401
    assert ask(running.port, bytes(5_000_000), key) == (413, "the body has 5000000 bytes; at most 1000 are taken")
    assert ask(running.port, b"", key | {"Content-Length": "many"})[0] == 411
    assert ask(running.port, b"", key | {"Content-Length": "-1"})[0] == 411
    assert ask(running.port, b"", key, path="/etc")[0] == 404
    assert ask(running.port, stated() + bytes(12), key) == (200, "")
    with socket.create_connection(("127.0.0.1", running.port)) as half:  # promises more than comes
        half.sendall(b"POST /score HTTP/1.0\r\nAuthorization: Bearer s3cret\r\nContent-Length: 500\r\n\r\n{")
        half.shutdown(socket.SHUT_WR)
        assert b"the body ends after 1 of 500 bytes" in half.makefile("rb").read()


def test_a_key_is_sent_and_a_missing_one_is_a_sentence(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = serve(key="s3cret")
    client = service(running.url, api_key_env="REWARD_KEY")
    assert client.keys == ("REWARD_KEY",)
    monkeypatch.setenv("REWARD_KEY", "s3cret")
    client.prepare()
    assert score(client, [video(6)]) == [6.0]
    monkeypatch.setenv("REWARD_KEY", "wrong")
    with pytest.raises(TrainError, match="answers status 401: the key is missing or wrong"):
        client.prepare()
    monkeypatch.delenv("REWARD_KEY")
    with pytest.raises(TrainError, match="'REWARD_KEY' holds no key; export it"):
        client.prepare()


def test_more_requests_than_bodies_wait_and_all_are_answered(serve: Any) -> None:
    running = serve(limits=Limits(bodies=1))
    found: dict[int, list] = {}

    def ask_for(level: int) -> None:
        found[level] = score(service(running.url), [video(level)])

    threads = [threading.Thread(target=ask_for, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [float(k)] for k in range(8)}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.7:8070",
        "ftp://host",
        "http://",
        "http://user@host:1",
        "http://host:1?key=3",
        "http://host:x",
        "http://hö:1",
    ],
)
def test_what_is_no_address_is_refused_when_a_recipe_is_read(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address; it looks like http://host:8070"):
        load("service", {"url": url})


def test_the_command_serves_a_reward_until_it_is_stopped() -> None:
    command = [sys.executable, "-m", "reelwright.pipelines.cli", "reward", "serve", "sharpness_standin", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--set", "height=64"], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url, line
        own = load("sharpness_standin", {"height": 64})
        assert own.fingerprint in line
        client = service(url.group(), expects=own.fingerprint)
        client.prepare()
        sample = Video(np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8), 8.0, "noise")
        assert score(client, [sample]) == score(own, [sample])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "1 videos, 0 of them unscored" in process.stdout.read()
    finally:
        process.kill()
        process.wait()


def test_the_command_names_what_it_cannot_serve() -> None:
    from typer.testing import CliRunner

    from reelwright.errors import ReelError
    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.commands import reward  # noqa: F401 - registers the command

    for arguments, sentence in [
        (["sharpness"], "'sharpness' is not a reward; look-alikes: sharpness_standin"),
        (["sharpness_standin", "--key-env", "NO_SUCH_KEY"], "--key-env names 'NO_SUCH_KEY', which holds no key"),
    ]:
        result = CliRunner().invoke(app, ["reward", "serve", *arguments])
        assert isinstance(result.exception, ReelError)
        assert sentence in str(result.exception)
