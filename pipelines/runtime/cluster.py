"""Start or join a Ray cluster."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from reelwright import interrupts
from reelwright.errors import UserError, first_line

log = logging.getLogger(__name__)

LOCAL = {"address": "local", "include_dashboard": False, "_system_config": {"enable_metrics_collection": False}}
"""A Ray of this process alone, without dashboard and metrics, which take a tenth of a core and would not be seen."""

STARTS = 3
TOO_SLOW = "timed out during startup"  # in Ray's error, where its time limit is fixed

SOCKET_BYTES = 107  # of a Unix socket's path (Linux)
BELOW_BYTES = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")  # added by Ray to its folder


AUTH_MODE = "RAY_AUTH_MODE"
"""Of token or disabled. Ray sets it to token in the process that starts a cluster, and not in those that join it."""


@contextlib.contextmanager
def cluster(address: str | None = None, *, auth_mode: str = "") -> Iterator[None]:
    """Join the cluster at `address` (or RAY_ADDRESS, as under `ray job submit`); without one, run on this machine.

    Args:
        address: of the cluster.
        auth_mode: RAY_AUTH_MODE of the process that started it, where this one has none of its own.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray says on every start that tokens are on, which is its default and what we want.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # Ray forks only to start other programs
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():  # the caller's cluster, in tests and notebooks
        yield
        return
    if auth_mode and AUTH_MODE not in os.environ:
        from ray import _raylet

        os.environ[AUTH_MODE] = auth_mode
        _raylet.Config.initialize("")  # type: ignore[attr-defined]  # read when Ray was imported
    where = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": where} if where else LOCAL | _folder()
    try:
        with interrupts.kept():
            _init(options)
    except Exception as error:  # Ray raises any error, also a bare Exception where a node starts too slowly
        what = f"cannot join the Ray cluster at {where}" if where else "Ray did not start on this machine"
        raise UserError(
            f"{what} ({first_line(error)}); is it up, and is the machine overloaded? Then try again"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _init(options: dict[str, Any]) -> None:
    """Start or join Ray; start it again where a busy machine did not bring it up in the 30 s that it gives itself."""
    import ray

    for tries_left in reversed(range(STARTS)):
        try:
            ray.init(**options, log_to_driver=False, logging_level="warning")
            if options["address"] == "local":
                _stop_helpers()
            return
        except Exception as error:  # Ray's is a bare one
            if not tries_left or TOO_SLOW not in str(error):
                raise
            ray.shutdown()
            log.warning("Ray was not up in time on this machine: starting it again")


def _stop_helpers() -> None:
    """Stop processes of a local Ray that serve nobody and take 0.4 % of a core each, more while tasks run.

    They would send this process what workers print, start machines for work that waits, and send figures of use to
    Ray's makers. Ray has no option for that; a version without such a method keeps its process.
    """
    import ray

    for name in ("log_monitor", "monitor", "dashboard"):
        with contextlib.suppress(Exception):
            getattr(ray._private.worker._global_node, f"kill_{name}")()


def _folder() -> dict[str, str]:
    """Return Ray's options for the folder of its sockets; none where Ray's own folder will do.

    Below a long TMPDIR the paths of sockets would exceed their limit. Objects that Ray spills to a disk stay below
    TMPDIR. Raise UserError if there is no folder with a short path.
    """
    from ray._common.utils import get_default_ray_temp_dir

    usual = get_default_ray_temp_dir()
    if len(os.fsencode(usual)) + BELOW_BYTES <= SOCKET_BYTES:
        return {}
    for short in ("/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - Ray makes a folder of its own there
        if os.access(short, os.W_OK | os.X_OK):
            return {"_temp_dir": f"{short}/ray", "object_spilling_directory": os.path.dirname(usual)}
    raise UserError(
        f"{os.path.dirname(usual)} (RAY_TMPDIR or TMPDIR) is too long for Ray's sockets; set RAY_TMPDIR to a folder "
        f"whose path has at most {SOCKET_BYTES - BELOW_BYTES - len('/ray')} bytes"
    )
