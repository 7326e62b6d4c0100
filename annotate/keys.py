"""Keys of servers: read where a run is started, and handed to the workers that need them.

They go as an argument of the call that makes the worker: not in Ray's `runtime_env`, which its dashboard and logs show,
and never into a recipe, a table, a fingerprint or a message.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reelwright.annotate.contract import Configured
from reelwright.errors import UserError


class Keys(dict[str, str]):
    """Environment variable -> key. Does not show itself."""

    def __repr__(self) -> str:
        return f"Keys({', '.join(self)})"

    __str__ = __repr__


def keys_of(annotators: Mapping[str, Configured]) -> Keys:
    """All that these annotators need. Raises UserError where one is not set here."""
    found = Keys()
    for name, annotator in annotators.items():
        for variable in annotator.keys:
            key = os.environ.get(variable, "")
            if not key or not key.isprintable():
                raise UserError(
                    f"annotator '{name}': chat.api_key_env names the environment variable '{variable}', which holds no "
                    "key here; export it where this command runs: workers are handed it"
                )
            found[variable] = key
    return found


@contextmanager
def keys_in_environment(keys: Mapping[str, str]) -> Iterator[None]:
    """Set the keys in this process's environment within the `with` block."""
    before = {name: os.environ.get(name) for name in keys}
    os.environ.update(keys)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
