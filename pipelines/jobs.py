"""Submit a `reel` command to a Ray cluster's job server and follow it."""

import asyncio
import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

EXCLUDED = [".git", ".venv", "**/*.mp4", "**/*.lance", "/demo", "/build"]  # never sent to the cluster
STOP_WAIT_S = 900  # a stopped job is killed after 3 s by default: no time for a micro-batch and a checkpoint
AGAIN = ("FAILED", "STOPPED")  # states after which a job of the same id is submitted anew


def run_job(
    arguments: Sequence[str], *, address: str, working_dir: str | None, wait: bool = True, job_id: str | None = None
) -> int:
    """Run `reel ARGUMENTS` as a job at `address`; its log goes to standard output. Returns an exit code.

    working_dir: sent along and put on the workers' path; None where the package is installed on the cluster.
    job_id: a job to be had once. The server refuses a second of this id: one that runs or has succeeded is named and
    left alone (0), one that failed or was stopped is submitted again.
    A cluster with token authentication is reached with RAY_AUTH_MODE=token and the token that
    `ray get-auth-token --generate` keeps. Raises UserError where the server cannot be reached or refuses.
    """
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
    if working_dir:
        environment |= {"working_dir": str(Path(working_dir).absolute()), "excludes": EXCLUDED}
    entrypoint = shlex.join([*(("python", "-m", "pipelines.cli") if working_dir else ("reel",)), *arguments])
    try:
        client = JobSubmissionClient(address)
        if job_id and (state := _state(client, job_id)):
            if state not in AGAIN:
                print(f"job {job_id} at {address} exists already ({state}); it was not submitted again")
                return 0
            client.delete_job(job_id)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment, submission_id=job_id)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise UserError(_why(error, address)) from error
    print(f"job {job} at {address}: {entrypoint}", flush=True)
    if not wait:
        return 0
    asyncio.run(_follow(client, job))
    status = client.get_job_status(job)
    print(f"job {job}: {status}", file=sys.stderr)
    return 0 if str(status) == "SUCCEEDED" else 1


def train_job_id(name: str, wanted: str, snapshot: str, store: str) -> str:
    """The same for the same recipe, to the same step, on the same snapshot, whose content never changes."""
    digest = hashlib.sha256(json.dumps([wanted, snapshot, store]).encode()).hexdigest()[:8]
    return f"train-{name}-{snapshot}-{digest}"


def _state(client: Any, job: str) -> str | None:
    """What a job of this id is doing, or how it ended; None if there is none."""
    found = {one.submission_id: one.status for one in client.list_jobs()}
    return str(found[job]) if job in found else None


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
