"""Submit a `reel` command to a Ray cluster's job server and follow it."""

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import UserError

EXCLUDED = [".git", ".venv", "**/*.mp4", "**/*.lance", "/demo", "/build"]  # never sent to the cluster


def run_job(arguments: Sequence[str], *, address: str, working_dir: str | None, wait: bool = True) -> int:
    """Run `reel ARGUMENTS` as a job at `address`; its log goes to standard output. Returns an exit code.

    working_dir: sent along and put on the workers' path; None where the package is installed on the cluster.
    A cluster with token authentication is reached with RAY_AUTH_MODE=token and the token that
    `ray get-auth-token --generate` keeps. Raises UserError where the server cannot be reached or refuses.
    """
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    environment = {"working_dir": str(Path(working_dir).absolute()), "excludes": EXCLUDED} if working_dir else {}
    entrypoint = shlex.join([*(("python", "-m", "pipelines.cli") if working_dir else ("reel",)), *arguments])
    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise UserError(_why(error, address)) from error
    print(f"job {job} at {address}: {entrypoint}", flush=True)
    if not wait:
        return 0
    asyncio.run(_follow(client, job))
    status = client.get_job_status(job)
    print(f"job {job}: {status}", file=sys.stderr)
    return 0 if str(status) == "SUCCEEDED" else 1


async def _follow(client: object, job: str) -> None:
    async for text in client.tail_job_logs(job):  # type: ignore[attr-defined]
        print(text, end="", flush=True)


def _why(error: Exception, address: str) -> str:
    text = str(error)
    if "401" in text or "nauthorized" in text or "uthentication" in text:
        return (
            f"the cluster at {address} wants a token; set RAY_AUTH_MODE=token here and there, and keep the same token "
            "(`ray get-auth-token --generate`) in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    return f"cannot submit to {address}: {text.splitlines()[0] if text else type(error).__name__}"
