"""An object store for the tests here, which need no Ray."""

from collections.abc import Iterator

import pytest

from tests.pipelines.object_store import ObjectStore, environment


@pytest.fixture(scope="package")
def s3() -> Iterator[ObjectStore]:
    """A server of the S3 protocol on loopback, which this process finds by its environment."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value)
        with ObjectStore() as one:
            yield one
