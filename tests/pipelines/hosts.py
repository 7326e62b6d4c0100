"""Hosts of a test: namespaces with an address of their own, which share no file that one of them may write.

They read the machine's own files, the code among them, and write below a folder of their own alone, so nothing gets
from one to another but over the network.
"""

import contextlib
import importlib.util
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conftest import ROOT

BIN = Path(sys.executable).parent
PREFIX = "10.231.77."
BRIDGE = "reel-test"
ROUTER = f"{PREFIX}1"
STARTED = "Ray runtime started."
OWN = {"/var/tmp": "var-tmp", "/dev/shm": "shm"}  # besides /tmp, where files come and go: a folder in the host's own
STOPPED_S, GOING_S = 0.6, 0.2  # of a slow host, in turn


class NoNamespacesError(Exception):
    """This kernel, or this user, may not make hosts."""


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NoNamespacesError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """A bridge that hosts hang on. The machine itself is at `ROUTER`."""

    def __enter__(self) -> "Network":
        self.hosts: list[Host] = []
        self.remove()
        try:
            run("ip", "link", "add", BRIDGE, "type", "bridge")
            run("ip", "addr", "add", f"{ROUTER}/24", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
        except (NoNamespacesError, FileNotFoundError) as error:
            self.remove()
            raise NoNamespacesError(str(error)) from None
        return self

    def __exit__(self, *exc: object) -> None:
        for host in self.hosts:
            host.kill()
        self.remove()

    def host(self, number: int, folder: Path) -> "Host":
        made = Host(number, folder)
        self.hosts.append(made)
        return made

    def remove(self) -> None:
        for number in range(2, 16):
            subprocess.run(["ip", "netns", "del", f"{BRIDGE}{number}"], capture_output=True)
            subprocess.run(["ip", "link", "del", f"{BRIDGE}-{number}"], capture_output=True)  # a process may outlive it
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


class Host:
    """One host; its folder is what it sees as /tmp."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name, self.address, self.folder = f"{BRIDGE}{number}", f"{PREFIX}{number}", folder
        self.link = f"{BRIDGE}-{number}"
        self.clock: dict[str, str] = {}
        for own in ("", *OWN.values()):
            (folder / own).mkdir()
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", self.link, "master", BRIDGE, "up")
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{self.address}/24", "dev", "eth0"),
                      ("link", "set", "eth0", "up")):  # fmt: skip
            run("ip", "-n", self.name, *words)

    def start(self, command: Sequence[str | Path], environment: dict[str, str], log: str) -> subprocess.Popen[str]:
        """Start a command; it writes to a file `log` of the host's folder."""
        binds = "".join(f'mount --bind "$0/{own}" {seen} && ' for seen, own in OWN.items())
        rest = 'mount --rbind "$0" /tmp && mount -o remount,bind,ro / && cd /tmp && exec "$@"'
        steps = f"{binds}{self._code_below_tmp()}{rest}"
        inside = ["nsenter", f"--net=/run/netns/{self.name}", "unshare", "--mount", "sh", "-c", steps, str(self.folder)]
        inside += map(str, command)
        out = (self.folder / log).open("a")
        return subprocess.Popen(inside, env=environment | self.clock, stdout=out, stderr=subprocess.STDOUT, text=True)

    def _code_below_tmp(self) -> str:
        """Return the commands that keep a checkout or an environment in /tmp where it is."""
        steps = ""
        for code in {ROOT, Path(sys.prefix)}:
            if code.is_relative_to("/tmp"):
                at = self.folder / code.relative_to("/tmp")
                at.mkdir(parents=True, exist_ok=True)
                steps += f"mount --rbind {shlex.quote(str(code))} {shlex.quote(str(at))} && "
        return steps

    def said(self, log: str) -> str:
        path = self.folder / log
        return path.read_text() if path.exists() else ""

    def cut_off(self) -> None:
        """Take the link down; packets of open connections are lost."""
        run("ip", "link", "set", self.link, "down")

    def join_again(self) -> None:
        run("ip", "link", "set", self.link, "up")

    def put_clock(self, seconds: int) -> None:
        """Have processes started from now on see a clock that is ahead by so much; what counts seconds stays right."""
        self.clock = shifted_clock(seconds)

    @contextlib.contextmanager
    def slowed(self) -> Iterator[None]:
        """Stop all of its processes most of the time, as on a machine that has too much to do."""
        ended = threading.Event()

        def stop_and_go() -> None:
            while not ended.is_set():
                self._send(signal.SIGSTOP)
                ended.wait(STOPPED_S)
                self._send(signal.SIGCONT)
                ended.wait(GOING_S)

        thread = threading.Thread(target=stop_and_go, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)


class NoClockError(Exception):
    """Nothing here shifts the clock of a process."""


def shifted_clock(seconds: int) -> dict[str, str]:
    """Environment of a process whose clock is ahead by so many seconds.

    By libfaketime as its Python package has it. With Debian's (0.9.10) Python cannot sleep while its monotonic clock is
    left alone. REEL_FAKETIME names another; hosts see no library below /tmp.
    """
    package, named = importlib.util.find_spec("libfaketime"), os.environ.get("REEL_FAKETIME")
    places = [Path(named)] if named else []
    if package is not None and package.origin is not None:
        places += Path(package.origin).parent.rglob("libfaketime.so.1")
    if not places:
        raise NoClockError("no clock can be shifted: pip install libfaketime")
    return {"LD_PRELOAD": str(places[0]), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class Cluster:
    """Ray over hosts: the first is the head, which runs no task."""

    def __init__(self, hosts: Sequence[Host], environment: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        self.environment = clean | environment | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "HOME": "/tmp", "TMPDIR": "/tmp",
            "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0",
        }  # fmt: skip
        self.head, *self.workers = hosts
        self.address = f"{self.head.address}:6379"
        common = ["--disable-usage-stats", "--block"]
        self._ray(self.head, ["--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false", *common])
        for worker in self.workers:
            self._ray(worker, [f"--address={self.address}", "--num-cpus=1", *common])

    def _ray(self, host: Host, arguments: list[str]) -> None:
        """Start a node, again where a busy machine was too slow for Ray's own limits."""
        for _ in range(3):
            process = host.start([BIN / "ray", "start", f"--node-ip-address={host.address}", *arguments],
                                 self.environment, "ray.log")  # fmt: skip
            until = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < until:
                if STARTED in host.said("ray.log"):
                    return
                time.sleep(0.3)
            host.kill()
        raise AssertionError(host.said("ray.log")[-3000:])
