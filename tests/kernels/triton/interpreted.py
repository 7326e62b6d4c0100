"""Run in a process of its own by test_triton.py: Triton reads TRITON_INTERPRET when its kernels are made."""

import os

os.environ["TRITON_INTERPRET"] = "1"

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-x", *sys.argv[1:]]))
