"""A vLLM engine that lives as long as its Ray actor: `vllm serve` as a child process, in an environment of its own.

vLLM pins its own torch and transformers. As a process it needs nothing of ours: it is found in the actor's
`runtime_env`, or by its path in any environment of the node.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelwright.annotate.errors import AnnotatorError

STARTS = 3  # in a row, of an engine that has answered before; one that never did is not started again
POLL_S = 0.5
TAIL = 1500  # characters of the log that are repeated
# Becomes the command, which then ends (SIGTERM, so that it ends its own workers) when whoever started it does: Linux.
DIE_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Engine:
    """A Ray actor that serves one vLLM engine.

    Its GPUs are the engine's (Ray sets CUDA_VISIBLE_DEVICES). It binds the node's address, and answers under /v1 only
    to requests with the key.
    """

    def __init__(self, command: str, arguments: Sequence[str], key: str) -> None:
        import ray

        self.host = ray.util.get_node_ip_address()
        self.port = _free_port()
        self.command = command
        self.arguments = [*arguments, "--host", self.host, "--port", str(self.port)]
        self.environment = os.environ | {"VLLM_API_KEY": key}  # as an argument, every user of the node would see it
        self.log = Path(tempfile.mkstemp(prefix="reel-vllm-", suffix=".log")[1])
        self.has_answered = False
        self.ended = ""
        threading.Thread(target=self._keep_running, daemon=True).start()

    def ready(self) -> str:
        """Return the address, `http://host:port/v1`, once the model is loaded.

        Raises:
            AnnotatorError: it did not start.
        """
        while not self._answers():
            if self.ended:
                raise AnnotatorError(f"vLLM did not start (log: {self.host}:{self.log}): {self.ended}")
            time.sleep(POLL_S)
        self.has_answered = True
        return f"http://{self.host}:{self.port}/v1"

    def _keep_running(self) -> None:
        """In one thread, which outlives the engine: a death signal goes by the thread that started a process."""
        try:
            self.ended = self._run()
        except (AnnotatorError, OSError) as error:
            self.ended = str(error)

    def _run(self) -> str:
        """Keep the engine running until it has ended for good; return the reason."""
        line = [_found(self.command), "serve", *self.arguments]
        if sys.platform == "linux":
            line = [sys.executable, "-c", DIE_WITH_PARENT, str(os.getpid()), *line]
        starts = 0
        while starts < (STARTS if self.has_answered else 1):
            with self.log.open("ab") as log:
                process = subprocess.Popen(line, env=self.environment, stdout=log, stderr=log)
            starts += 1
            while process.poll() is None:
                time.sleep(POLL_S)
                if starts > 1 and self._answers():
                    starts = 1
        return f"exit code {process.returncode}: {self._tail()}"

    def _answers(self) -> bool:
        try:
            with _DIRECT.open(f"http://{self.host}:{self.port}/health", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def _tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL))
            return " ".join(log.read().decode("utf-8", "replace").split())


def options_of(arguments: Mapping[str, Any]) -> list[str]:
    """Return the command line for vLLM's engine arguments by their names in Python.

    {"max_model_len": 8, "enforce_eager": True} -> ["--max-model-len", "8", "--enforce-eager"]. None is left out;
    mappings are JSON.
    """
    options: list[str] = []
    for name, value in arguments.items():
        if not name.replace("_", "").isalnum():
            raise AnnotatorError(f"chat.engine: {name!r} is no argument of vLLM; they look like max_model_len")
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, Mapping):
            options += [f"--{flag}", json.dumps(dict(value))]
        elif isinstance(value, list | tuple):
            options += [f"--{flag}", *map(str, value)]
        elif value is not None:
            options += [f"--{flag}", str(value)]
    return options


def _found(command: str) -> str:
    """Return the command's path: beside the actor's Python, where pip installs it, or on the PATH."""
    beside = Path(sys.executable).parent / command
    path = str(beside) if beside.is_file() else shutil.which(command)
    if not path:
        raise AnnotatorError(
            f"there is no command {command!r} on {socket.gethostname()}: set chat.runtime_env: {{pip: [vllm]}}, or "
            "chat.vllm to the path of an environment's bin/vllm"
        )
    return path


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]
