"""What `vllm serve` is from outside, in a process that our code starts: its command line, its key, its endpoints.

Answers as `tests/annotate/chat_server.py` does. Notes each start in `--notes FOLDER`. `--crash-once` ends it at a
question that it is asked, the first time; `--unable` ends it before it is ready.
"""

import argparse
import asyncio
import os
import stat
import sys
from pathlib import Path

from aiohttp import web

from tests.annotate.chat_server import ROOT, _Answers


def command(folder: Path) -> str:
    """Path of an executable, to be the parameter `vllm`."""
    path = folder / "vllm"
    lines = [f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(ROOT)!r})",
             "from tests.annotate.chat.vllm_stand_in import main", "main()"]  # fmt: skip
    path.write_text("\n".join(lines))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("model")
    for name in ("host", "notes", "served-model-name", "dtype", "seed", "uvicorn-log-level", "limit-mm-per-prompt"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "tensor-parallel-size"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("crash-once", "unable"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    (Path(options.notes) / str(os.getpid())).touch()
    if options.unable:
        sys.exit("there is no GPU here")
    asyncio.run(_serve(options, os.environ["VLLM_API_KEY"]))


async def _serve(options: argparse.Namespace, key: str) -> None:
    answers, crashed = _Answers(), Path(options.notes) / "crashed"

    async def chat(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": {"message": "Unauthorized"}}, status=401)
        assert (await request.json())["model"] == options.served_model_name
        if options.crash_once and not crashed.exists():
            crashed.touch()
            os._exit(1)
        return await answers.chat(request)

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=1 << 28)
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/health", health)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port).start()
    await asyncio.Event().wait()
